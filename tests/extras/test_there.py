"""What tests elsewhere skip without is here, in the versions that are pinned: nothing is left out unnoticed."""

from importlib import import_module, metadata
from pathlib import Path

import pytest

from mtlcourse.data import robot
from mtlcourse.data.tagged import SECTIONS, treebank

PINS = dict(line.split("==") for line in (Path(__file__).parents[2] / "constraints" / "vision.txt").read_text()
            .splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("name", ["torchvision", "metaworld", "transformers", "timm", "turkish-treebanks"])
def test_every_extra_is_here(name: str):
    assert metadata.version(name) == PINS[name]
    if name != "turkish-treebanks":  # which is read as files, and cannot be imported without what it was made with
        import_module(name)


def test_the_simulator_and_the_treebanks_are_found():
    assert robot.there() and [len(treebank(section)) for section in SECTIONS] == [2_541, 2_310]
