"""What a run is exported as: a network that this package reads, and a program that torch alone runs."""

import json
import math
import pickle
import re
import zipfile

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from mtlcourse import cli, export, methods, models
from tests import problems
from tests.test_rebuilding import VARIANTS, problem_for, spelled, store

SAME_NETWORK = (  # as others, from another training: of each kind of network one method is enough
    "hps-wide", "stl-wide", "dsmtl-jl", "auxilearn", "conal-pro", "ltb", "bmtas", "p-darts", "pc-darts", "e2rnas",
    "random-cells", "l21", "rmtl", "theta", "source-only", "a-distance", "kl", "mmd", "coral", "cmd", "dan", "dann",
    "jan", "cdan", "mcd", "aaspc")
NAMES = [name for name in (*methods.names(), *methods.names(domains=True)) if name not in SAME_NETWORK]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run of hard sharing, and its folder."""
    return store("hps", "tests.test_rebuilding:vectors", tmp_path_factory.mktemp("runs"))


def inputs_of(folder, samples: int) -> torch.Tensor:
    shape = json.loads((folder / "model.json").read_text())["input"]["shape"]
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(("name", "problem"), [
    *((spelled(name), problem_for(name)) for name in NAMES), *(row for row in VARIANTS if "(" in row[0])])
def test_every_kind_of_network_is_exported_for_batches_of_any_size(name, problem, tmp_path, monkeypatch):
    run, folder = store(name, problem, tmp_path / "runs")
    monkeypatch.setattr(pickle, "load", None)
    made = export.export(folder, tmp_path / "out")
    assert (made.batch, made.reason) == (None, "") and made.difference <= 1e-5
    assert sorted(made.files) == ["model.json", "model.pt2", "model.safetensors"]
    program, network = torch.export.load(tmp_path / "out" / "model.pt2").module(), export.load(tmp_path / "out")
    run.model.eval()
    for samples in (1, 2, 9):
        x = inputs_of(tmp_path / "out", samples)
        with torch.no_grad():
            expected, served, again = run.model(x), program(x), network(x)
        assert set(served) == set(expected)
        for task in expected:
            assert torch.equal(again[task], expected[task])
            torch.testing.assert_close(served[task], expected[task], rtol=1e-5, atol=1e-5)


def test_the_description_says_what_a_prediction_is(tmp_path):
    _, folder = store("hps", "tests.test_rebuilding:pixels", tmp_path)
    export.export(folder, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "model.json").read_text())
    assert content["input"] == {"shape": [3, 8, 12], "dtype": "float32"}
    assert [(t["name"], t["kind"], t["dense"], t["classes"]) for t in content["tasks"]] == [
        ("bright", "classification", True, 4), ("depth", "regression", True, None), ("mean", "regression", False, None)]
    assert "dimension 1 is the class" in content["tasks"][0]["prediction"]
    assert content["tasks"][1]["prediction"] == "values (batch, 1, height, width)"
    assert content["config"]["method"] == "hps" and content["metrics"]["bright"]


def test_a_single_logit_is_told(stored, tmp_path):
    export.export(stored[1], tmp_path)
    said = {t["name"]: t["prediction"] for t in json.loads((tmp_path / "model.json").read_text())["tasks"]}
    assert said["big"] == "logits (batch, 1); above 0 is class 1"


def test_a_weight_that_is_a_slice_of_a_larger_tensor_is_exported_whole(tmp_path):
    model = models.HPS(problems.small())
    weight = model.heads["kind"].weight
    weight.data = torch.randn(9, 7)[:3, :5]
    served = export.Served(model)
    assert weight.is_contiguous() and weight.untyped_storage().nbytes() == weight.nbytes
    assert set(served(torch.zeros(2, 4))) == {"kind", "size"}


def test_nothing_in_the_archive_is_pickled(stored, tmp_path):
    export.export(stored[1], tmp_path)
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    assert any(name.endswith("weights_config.json") for name in parts)
    assert not [name for name, content in parts.items() if content[:2] in (b"PK", b"\x80\x02")]
    for name, content in parts.items():
        if name.endswith("config.json"):
            assert not any(entry["use_pickle"] for entry in json.loads(content)["config"].values())


# --- what cannot be exported --------------------------------------------------------------------------------------

class OneByOne(nn.Module):
    """A stage whose code depends on the number of samples."""

    def forward(self, x):
        return torch.cat([row * 1.0 for row in x.split(1)])


class Undecided(nn.Module):
    """A stage whose code depends on the values."""

    def forward(self, x):
        return -x if x.device.type != "meta" and x.sum().item() > 0 else x


def one_by_one(input_shape):
    return [nn.Linear(*input_shape, 5), OneByOne()]


def undecided(input_shape):
    return [nn.Linear(*input_shape, 5), Undecided()]


def test_a_program_for_one_sample_is_better_than_none(tmp_path):
    name = "hps(encoder={'name': 'tests.test_export:one_by_one'})"
    _, folder = store(name, "tests.test_rebuilding:vectors", tmp_path)
    made = export.export(folder, tmp_path / "out")
    assert made.batch == 1 and "model.pt2" in made.files
    assert made.reason.startswith("The program takes one sample at a time, for torch could not follow")
    x = inputs_of(tmp_path / "out", 1)
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    with torch.no_grad():
        assert torch.allclose(program(x)["kind"], export.load(tmp_path / "out")(x)["kind"], atol=1e-5)


def test_without_a_program_the_network_is_still_there(stored, tmp_path):
    out = tmp_path / "out"
    export.export(stored[1], out)
    _, folder = store("hps(encoder={'name': 'tests.test_export:undecided'})", "tests.test_rebuilding:vectors", tmp_path)
    made = export.export(folder, out)
    assert made.batch == 0 and made.files == ["model.safetensors", "model.json"]
    assert not (out / "model.pt2").exists(), "that of an earlier export is not this network's"
    assert made.reason.startswith("The network cannot be made a program: ") and "\n" not in made.reason
    assert set(export.load(out)(inputs_of(out, 2))) == {"kind", "size", "big"}
    said = CliRunner().invoke(cli.main, ["export", str(folder), "--out", str(out)])
    assert said.exit_code == 0 and "cannot be made a program" in said.stderr and "model.json" in said.stdout


def test_a_program_that_says_something_else_is_not_kept(stored, tmp_path, monkeypatch):
    class Wrong(export.Served):
        def forward(self, inputs):
            return {task: 1.001 * y for task, y in super().forward(inputs).items()}

    monkeypatch.setattr(export, "Served", Wrong)
    made = export.export(stored[1], tmp_path)
    assert made.batch == 0 and not (tmp_path / "model.pt2").exists()
    assert "differ from the network's by" in made.reason and "model.pt2" not in made.files


def test_a_network_that_reads_back_as_another_is_an_error(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load", lambda folder: models.HPS(problems.small(("kind", "size", "big"))))
    with pytest.raises(ValueError, match="predicts something else than the run"):
        export.export(stored[1], tmp_path)


@pytest.mark.parametrize("other", [{"a": torch.zeros(2)}, {"b": torch.zeros(1)}, {"a": torch.tensor([math.nan])}, {}])
def test_other_tasks_shapes_and_holes_are_infinitely_far(other):
    assert export.difference([{"a": torch.zeros(1)}], [other]) == float("inf")


def test_differences_are_relative_where_values_are_large():
    a, b = torch.tensor([1e6, float("nan"), float("inf")]), torch.tensor([1e6 + 1, float("nan"), float("inf")])
    assert export.difference([{"a": a}], [{"a": b}]) == pytest.approx(1e-6, rel=0.1)
    assert export.difference([{"a": a}], [{"a": a}]) == 0


# --- the command --------------------------------------------------------------------------------------------------

def test_the_command_exports_a_run(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(cli.main, ["export", str(stored[1])])
    assert said.exit_code == 0, said.output
    out = tmp_path / "exported" / stored[1].name
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.pt2", "model.safetensors"]
    assert "takes any number of samples at once; its predictions differ from the run's by" in said.stdout


@pytest.mark.parametrize(("make", "message"), [
    (lambda folder: None, "There is no run in .*nowhere: run.json is missing"),
    (lambda folder: (folder.mkdir(), (folder / "run.json").write_text("{")), "run.json is cut off")])
def test_what_is_no_run_is_told(make, message, tmp_path):
    make(tmp_path / "nowhere")
    said = CliRunner().invoke(cli.main, ["export", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    assert said.exit_code == 1
    assert re.search(message, said.output)
    assert not (tmp_path / "out").exists()
