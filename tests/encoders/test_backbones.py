"""Backbones where torchvision is missing or broken; tests/extras has the rest."""

import sys

import pytest

from mtlcourse import encoders, methods

WANTED = r"need torchvision, which cannot be imported .*pip install -c constraints/vision.txt 'mtlcourse\[vision\]'"


@pytest.mark.parametrize("name", sorted(set(encoders.BUILDERS) - {"mlp", "conv", "bert", "window"}))
def test_without_torchvision_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModuleNotFoundError, match=WANTED) as error:
        encoders.build({"name": name}, (3, 64, 64))
    assert error.value.name == "torchvision"


def test_a_torchvision_for_another_torch_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match=r"cannot be imported \(operator torchvision::nms does not exist\)"):
        methods.count_parameters("hps", "nyuv2")
