"""A stored run gives its model again, whatever the method, from names and weights alone."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mtlcourse import data, methods, models, runs
from mtlcourse.files import seed_everything
from mtlcourse.tasks import Problem
from mtlcourse.training import Run, fit
from tests import problems
from tests.problems import CELLS, NEEDS_MAPS, ONE_ANSWER, SHALLOW
from tests.search.cells.images import images


def vectors(train: int = 40) -> Problem:
    problem = problems.small(("kind", "size", "big"), train=train)
    return replace(problem, encoder={"name": "mlp", "widths": [6, 6, 6]})  # some of which AdaShare can skip


def pixels() -> Problem:
    return problems.pixels()


def rows() -> Problem:
    return images()


def answers() -> Problem:
    """Two tasks with one answer a sample."""
    problem = problems.small(("kind", "big"), train=40)
    problem.tasks = [data.binary("kind"), data.binary("big")]
    for split in (problem.train, problem.val, problem.test):
        split.targets["kind"] = split.targets["kind"].clamp(max=1)
    return problem


def wide(input_shape, width: int = 5) -> list[nn.Module]:
    """An encoder of one's own, by address."""
    return [nn.Sequential(nn.Linear(*input_shape, width), nn.Tanh()), nn.Linear(width, 4)]


def problem_for(name: str) -> str:
    if name in CELLS:
        return "tests.test_rebuilding:rows"
    if name in methods.names(domains=True):
        return "tests.domains:problem"
    kind = "pixels" if name in NEEDS_MAPS else "answers" if name in ONE_ANSWER else "vectors"
    return f"tests.test_rebuilding:{kind}"


def spelled(name: str) -> str:
    options = {"strength": 0.1} if name in SHALLOW else CELLS.get(name, {})
    return str(methods.Part(name, options))


def store(name: str, problem: str, root) -> tuple[Run, Path]:
    config = runs.configuration(problem, name, 3, "smoke")
    loaded = methods.load_problem(config["problem"])
    run = methods.run(name, loaded, seed=3, budget="smoke", progress=False)
    return run, runs.save(run, loaded, config, root)


def test_inputs(problem) -> list:
    """The test inputs: those of all tasks, or of each target domain."""
    split = problem.sealed().test if isinstance(problem, data.DomainProblem) else problem.test
    return list(split.inputs.values()) if isinstance(split.inputs, dict) else [split.inputs]


test_inputs.__test__ = False

VARIANTS = [  # options that say what the model is, of parts and of stages
    ("hps(encoder={'name': 'tests.test_rebuilding:wide', 'width': 3})+pcgrad", "tests.test_rebuilding:vectors"),
    ("stl(guard_split=val, guard=average, epochs=2)", "tests.test_rebuilding:vectors"),
    ("cross-stitch(guard=individual)", "tests.test_rebuilding:vectors"),
    ("conal(guard=individual)+uw", "tests.test_rebuilding:vectors"),
    ("dsmtl-il(guard=True, gate=sigmoid)", "tests.test_rebuilding:vectors"),
    ("dsmtl-al(gate=None)", "tests.test_rebuilding:vectors"),
    ("dsmtl-al(pure=False, gate=None)", "tests.test_rebuilding:vectors"),
    ("dsmtl-al(gate=fixed, order=second)", "tests.test_rebuilding:vectors"),
    ("conal(pure=False, notice=False)", "tests.test_rebuilding:vectors"),
    ("conal(splitting=False)", "tests.test_rebuilding:vectors"),
    ("tree(points={'kind': 1, 'size': 2, 'big': 3}, gate=projected)", "tests.test_rebuilding:vectors"),
    ("adashare(guard=individual, sparsity=1.0)", "tests.test_rebuilding:vectors"),
    ("mtl-nas", "tests.test_rebuilding:pixels"),
    ("aas(controller=fixed, configuration=1234)", "tests.domains:problem"),
    ("aas(controller=random, keep=best, cells=2)", "tests.domains:problem(targets=['there', 'yonder'])"),
]


@pytest.mark.parametrize(("name", "problem"), [
    *((spelled(name), problem_for(name)) for name in [*methods.names(), *methods.names(domains=True)]), *VARIANTS])
def test_the_stored_model_of_every_method_predicts_what_the_trained_one_did(name, problem, tmp_path, monkeypatch):
    run, folder = store(name, problem, tmp_path)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(torch, "load", None)
    seed_everything(99)
    state = torch.get_rng_state()
    back = runs.load(folder)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(back.model) is type(run.model) and not any(module.training for module in back.model.modules())
    run.model.eval()
    with torch.no_grad():
        for inputs in test_inputs(methods.load_problem(problem)):
            expected, found = run.model(inputs), back.model(inputs)
            assert list(found) == list(expected)
            for task in expected:
                assert torch.equal(found[task], expected[task]), task


def test_the_wrong_seed_or_weights_would_be_noticed(tmp_path):
    """The check above can fail: a rebuilt model has other weights before those of the run are read."""
    from mtlcourse.rebuilding import rebuild

    run, folder = store("hps", "tests.test_rebuilding:vectors", tmp_path)
    content = json.loads((folder / "run.json").read_text())
    x = test_inputs(vectors())[0]
    with torch.no_grad():
        assert not torch.equal(rebuild(content["config"], run.learned)(x)["kind"], run.model.eval()(x)["kind"])


def test_the_searches_are_among_those_that_say_what_they_found():
    searches = [name for name in methods.names() if hasattr(methods._METHODS[name].build, "discrete")]
    assert {"dsmtl-al", "conal", "conal-pro", "ltb", "bmtas", "mtl-nas", "adashare", "darts", "e2rnas"} <= set(searches)


# --- what cannot be made again ------------------------------------------------------------------------------------

def test_a_problem_in_memory_needs_its_model(tmp_path):
    config = {**runs.configuration("tests.test_rebuilding:vectors", "hps", 0, "smoke"), "problem": "mine"}
    problem = vectors()
    run = fit(problem, models.HPS(problem), epochs=1, progress=False)
    folder = runs.save(run, problem, config, tmp_path)
    with pytest.raises(ValueError, match=r"'hps' on 'mine'\) cannot be made again: Unknown problem 'mine'.*"
                                         r"in memory only, give the untrained model, load\(folder, model=...\)"):
        runs.load(folder)
    assert runs.load(folder, model=False).model is None
    back = runs.load(folder, models.HPS(problem)).model
    assert not back.training
    with torch.no_grad():
        x = problem.test.inputs
        assert all(torch.equal(back(x)[task], found) for task, found in run.model.eval()(x).items())


@pytest.mark.parametrize("change", [{"method": "stl"}, {"method": "nothing"}, {"problem": "nowhere.at:all"},
                                    {"method": "conal"}, {"method": "hps(guard=individual)"},
                                    {"method": "hps(encoder={'name': 'mlp', 'widths': [2]})"}])
def test_a_configuration_of_another_model_is_told(change, tmp_path):
    _, folder = store("hps", "tests.test_rebuilding:vectors", tmp_path)
    content = json.loads((folder / "run.json").read_text())
    content["config"] |= change
    (folder / "run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"cannot be made again: .*model=False\) reads all but the model"):
        runs.load(folder)


def test_the_encoder_of_the_run_counts_not_todays_default(tmp_path, monkeypatch):
    run, folder = store("hps", "tests.test_rebuilding:vectors", tmp_path)
    monkeypatch.setattr("tests.test_rebuilding.vectors", lambda train=40: replace(
        problems.small(("kind", "size", "big"), train=train), encoder={"name": "mlp", "widths": [3]}))
    back = runs.load(folder)
    assert [tuple(p.shape) for p in back.model.parameters()] == [tuple(p.shape) for p in run.model.parameters()]


def test_no_data_are_read(tmp_path, monkeypatch):
    _, folder = store("hps", "multidigits(train=60, val=20, test=20)", tmp_path)
    monkeypatch.setattr("mtlcourse.data.registry.load_any", None)
    monkeypatch.setattr("mtlcourse.tasks.TensorSplit.__init__", None)
    assert set(runs.load(folder).model(torch.zeros(2, 1, 36, 36))) == {"left", "right"}
