"""What LTB, BMTAS, MTL-NAS, AdaShare and AuxiLearn have in common: by name, anywhere, resumable, and visible."""

import functools
import json

import pytest
import torch
from torch import nn

from mtlcourse import data, methods, models
from mtlcourse.encoders import build
from mtlcourse.figures import trees
from mtlcourse.files import seed_everything
from mtlcourse.search.sharing.adashare import AdaShare, Skipping
from mtlcourse.search.sharing.bmtas import BMTAS
from mtlcourse.search.sharing.ltb import LTB
from mtlcourse.search.sharing.mtl_nas import MTLNAS, Fused
from mtlcourse.strategies import Engine
from mtlcourse.tasks import Problem, mean_losses
from tests.problems import OFFLINE, small

SIZES = {"multidigits": {"train": 300, "val": 40, "test": 40}, "rooms": {"train": 40, "val": 10, "test": 10},
         "digits_mtl": {"train": 100, "val": 40, "test": 40}, "twins": {"magnitudes": [2]}}
SEARCHES = {"ltb": (LTB, models.Tree), "bmtas": (BMTAS, models.Tree), "mtl-nas": (MTLNAS, Fused),
            "adashare": (AdaShare, Skipping)}
NAMES = [*SEARCHES, "auxilearn"]
THREE = ("kind", "size", "big")


@functools.cache
def offline(name: str) -> Problem:
    return data.load(name, **SIZES.get(name, {}))


def three() -> Problem:
    """Three tasks, and an encoder of three modules of which two can be skipped."""
    problem = small(THREE, train=60)
    problem.encoder = {"name": "mlp", "widths": [6, 6, 6]}
    return problem


def trained(name: str, problem: Problem, **options) -> methods.Run:
    return methods.run(name, problem, budget="fast(epochs=6)", progress=False, **options)


@functools.cache
def uninterrupted(name: str) -> methods.Run:
    return trained(name, three())


def rows(run: methods.Run) -> list:
    return run.history.drop(columns="value").values.tolist() + run.history["value"].tolist()


def same(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


# --- by name -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "problem"), [
    (name, problem) for problem in OFFLINE
    for name in [*NAMES, "adashare+pcgrad", "auxilearn+cagrad", "auxilearn(combination=monotone)"]
    if not (name.startswith("adashare") and problem == "twins")  # nothing to skip there, see test_adashare.py
    and not (name == "mtl-nas" and problem == "robust_digits")])  # one task, and edges lead from one to another
def test_they_run_by_name_on_the_offline_problems(name: str, problem: str):
    run = methods.run(name, offline(problem), budget="smoke", progress=False)
    assert json.loads(json.dumps(run.learned)) == run.learned  # plain data
    assert run.stages == (["train"] if name.startswith("auxilearn") else ["search", "retrain"])
    assert set(run.metrics) == set(offline(problem).task_names)
    if name in SEARCHES:
        assert isinstance(run.model, SEARCHES[name][1])
    assert methods.count_parameters(name, problem) > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("own", [True, False])
def test_tasks_may_have_their_own_inputs_and_lack_labels(name: str, own: bool):
    problem = small(THREE, train=90, own=own, void=0.3)
    problem.encoder = {"name": "mlp", "widths": [6, 6]}
    run = methods.run(name, problem, budget="smoke", progress=False)
    assert set(run.metrics) == set(THREE)


@pytest.mark.parametrize("name", NAMES)
def test_one_task_is_no_special_case_where_there_is_something_to_find(name: str):
    problem = small(("kind",))
    problem.encoder = {"name": "mlp", "widths": [6, 6]}
    runs_or_says_why_not(name, problem, {"mtl-nas": "a single task; edges lead from one task to another"})


def runs_or_says_why_not(name: str, problem: Problem, reasons: dict[str, str]) -> None:
    if name in reasons:
        with pytest.raises(ValueError, match=reasons[name]):
            methods.run(name, problem, budget="smoke", progress=False)
    else:
        assert methods.run(name, problem, budget="smoke", progress=False).learned


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name: str):
    run = methods.run(name, three(), budget="smoke", precision="bfloat16", progress=False)
    assert run.history["value"].notna().all()


# --- reproducible and resumable ------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_a_search_is_reproducible_and_depends_on_the_seed(name: str):
    first, again, other = uninterrupted(name), trained(name, three()), trained(name, three(), seed=2)
    assert same(first.model, again.model) and first.learned == again.learned and rows(first) == rows(again)
    assert rows(first) != rows(other)


@pytest.mark.parametrize(("name", "at"), [*((name, at) for name in SEARCHES for at in (3, 8)), ("auxilearn", 3)])
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(name: str, at: int, tmp_path, monkeypatch):
    whole = uninterrupted(name)
    stop_after(at, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        trained(name, three(), checkpoint=tmp_path / "cut")
    monkeypatch.undo()
    resumed = trained(name, three(), checkpoint=tmp_path / "cut")
    assert same(whole.model, resumed.model) and whole.learned == resumed.learned and rows(whole) == rows(resumed)
    once_more = trained(name, three(), checkpoint=tmp_path / "cut")  # nothing is left to do
    assert once_more.learned == whole.learned and same(once_more.model, whole.model)


def stop_after(epochs: int, monkeypatch) -> None:
    """Have the machine fail right after so many epochs, of all stages together, were saved."""
    from mtlcourse.training.state import State
    save, saved = State.save, []

    def counted(state):
        save(state)
        saved.append(state.epoch)
        if len(saved) == epochs:
            raise KeyboardInterrupt
    monkeypatch.setattr(State, "save", counted)


# --- what the stages do --------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SEARCHES)
def test_retraining_starts_from_scratch_and_sees_all_training_data(name: str, monkeypatch):
    seen = []
    fit = methods.Setting.fit

    def noted(setting, problem, model, strategy, stage="", **changes):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        run = fit(setting, problem, model, strategy, stage, **changes)
        seen.append((stage, len(problem.train), type(strategy).__name__, before))
        return run
    monkeypatch.setattr(methods.Setting, "fit", noted)
    problem = three()
    run = trained(f"{name}+pcgrad", problem, seed=3)
    assert [stage for stage, *_ in seen] == ["search", "retrain"]
    search, retrain = seen
    assert search[1] < len(problem.train) == retrain[1]
    assert (search[2], retrain[2]) == ("EqualWeighting", "ProjectConflicting")
    seed_everything(3)
    fresh = {"ltb": models.Tree, "bmtas": models.Tree, "mtl-nas": Fused, "adashare": Skipping}[name]
    key = {"mtl-nas": "edges", "adashare": "policies"}.get(name, "groups")
    expected = fresh(problem, **{key: run.learned[key]}).state_dict()
    assert all(torch.equal(expected[k], retrain[3][k]) for k in expected)
    assert run.cost["parameters"] == sum(p.numel() for p in run.model.parameters())


@pytest.mark.parametrize(("name", "first"), [("ltb", "stage_1_kind"), ("bmtas", "stage_1_kind"),
                                             ("mtl-nas", "edge_1_size_1"), ("adashare", "pass_2"),
                                             ("auxilearn", "weight")])
def test_the_history_shows_what_is_being_learned(name: str, first: str):
    run = uninterrupted(name)
    found = run.history[(run.history["name"] == first) & (run.history["task"] == "kind")]
    assert found["epoch"].tolist() == [1, 2, 3, 4, 5, 6] and found["value"].nunique() > 1
    stage = "train" if name == "auxilearn" else "search"
    assert set(found["stage"]) == {stage}
    relaxed = run.history[(run.history["stage"] == stage) & (run.history["split"] == "val")]
    assert set(relaxed["epoch"]) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("name", SEARCHES)
def test_gradients_reach_all_that_should_learn(name: str):
    problem = three()
    seed_everything(0)
    model = methods.build(name, problem)
    model.prepare(6, 0)
    model.on_epoch_end(4, {})
    model.train()
    batch = next(problem.train.batches(60))
    loss = sum(mean_losses(problem.tasks, model(batch.inputs), batch).values()) + model.regularizer()
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key
    upper = {id(p) for p in model.architecture_parameters()}
    lower = {id(p) for group in model.param_groups(0.1, 0.0) for p in group["params"]}
    assert not upper & lower and upper | lower == {id(p) for p in model.parameters()}


def discrete_models() -> dict[str, models.MTLModel]:
    """Some results of searches, with modules that all tasks, two tasks, one task or none passes."""
    problem = three()
    edges = [("kind", 1, "size", 1), ("size", 2, "kind", 1), ("kind", 3, "big", 3)]
    return {
        "supernet-ltb": LTB(problem), "supernet-bmtas": BMTAS(problem), "supernet-mtl-nas": MTLNAS(problem),
        "supernet-adashare": AdaShare(problem), "all edges": Fused(problem), "some edges": Fused(problem, edges=edges),
        "no edges": Fused(problem, edges=[]),
        "private before shared": Skipping(problem, policies={"kind": [1, 1, 1], "size": [1, 0, 1], "big": [1, 0, 0]}),
        "private at the end": Skipping(problem, policies={"kind": [1, 1, 1], "size": [1, 1, 0], "big": [1, 0, 0]}),
        "nobody in between": Skipping(problem, policies={"kind": [1, 0, 1], "size": [1, 0, 1], "big": [1, 0, 1]}),
    }


@pytest.mark.parametrize("name", discrete_models())
def test_what_is_said_to_be_shared_is_what_autograd_reaches(name: str):
    problem = three()
    model = discrete_models()[name].double().eval()
    logits = {id(p) for p in getattr(model, "architecture_parameters", list)()}
    weights = {key: p for key, p in model.named_parameters() if id(p) not in logits}
    x = problem.train.inputs.double()
    reached: dict[str, set[str]] = {key: set() for key in weights}
    for task, prediction in model(x).items():
        found = torch.autograd.grad(prediction.square().sum(), weights.values(), allow_unused=True, retain_graph=True)
        for key, gradient in zip(weights, found, strict=True):
            if gradient is not None:
                reached[key].add(task)
    shared = {id(p) for p in model.shared_parameters()}
    assert {key for key, p in weights.items() if id(p) in shared} == {k for k, t in reached.items() if len(t) > 1}
    for task in problem.task_names:
        own = {id(p) for p in model.task_parameters(task)}
        assert {key for key, p in weights.items() if id(p) in own} == {k for k, t in reached.items() if t == {task}}


@pytest.mark.parametrize("at", ["parameters", "features"])
@pytest.mark.parametrize("name", discrete_models())
def test_the_engine_finds_the_same_gradients_as_one_backward_pass(name: str, at: str):
    problem = three()
    model = discrete_models()[name].double().eval()
    batch = next(problem.train.batches(60))
    batch.inputs, batch.targets["size"] = batch.inputs.double(), batch.targets["size"].double()
    sum(mean_losses(problem.tasks, model(batch.inputs), batch).values()).backward()
    logits = {id(p) for p in getattr(model, "architecture_parameters", list)()}
    expected = {key: p.grad.clone() for key, p in model.named_parameters() if id(p) not in logits}
    model.zero_grad()
    Engine(model, "ew", at, diagnostics=True).backward(mean_losses(problem.tasks, model(batch.inputs), batch))
    for key, p in model.named_parameters():
        if id(p) not in logits:
            torch.testing.assert_close(p.grad, expected[key], rtol=1e-9, atol=1e-12)


# --- bad input -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_a_half_without_a_task_is_refused(name: str):
    problem = small(train=40)
    problem.encoder = {"name": "mlp", "widths": [6, 6]}
    problem.train.targets["size"][1:] = float("nan")
    problem.train = type(problem.train)(problem.train.inputs, problem.train.targets)
    with pytest.raises(ValueError, match="no labels for \\['size'\\]"):
        methods.run(name, problem, budget="fast(epochs=6)", progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_with_one_module(name: str):
    problem = small()
    problem.encoder = {"name": "mlp", "widths": [6]}
    # The others still choose with whom to share it, or what to take from it.
    runs_or_says_why_not(name, problem, {"adashare": "nothing to decide"})


@pytest.mark.parametrize("name", ["mtl-nas", "adashare", "auxilearn"])
def test_what_is_no_tree_is_not_drawn_as_one(name: str):
    with pytest.raises(ValueError, match="is no tree; `figures.sharing.sharing` draws any model"):
        trees.tree(uninterrupted(name))


@pytest.mark.parametrize("name", SEARCHES)
def test_results_of_another_problem_are_refused(name: str):
    learned = uninterrupted(name).learned
    key = {"mtl-nas": "edges", "adashare": "policies"}.get(name, "groups")
    learned = learned[key] or [["big", 1, "kind", 1]]
    with pytest.raises(ValueError, match="Unknown task 'big'.* are those of another problem"):
        SEARCHES[name][1](small(), {"name": "mlp", "widths": [6, 6, 6]}, **{key: learned})


@pytest.mark.parametrize("name", SEARCHES)
def test_encoders_may_be_given_as_modules_whose_weights_are_where_retraining_starts(name: str):
    problem = three()
    stages = list(build(problem.encoder, (4,)).stages)
    supernet = SEARCHES[name][0](problem, stages)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(1.0)
    retrained = supernet.discrete(problem)
    given = stages[0][0].weight
    assert any(torch.equal(given, p) for p in retrained.parameters())
    assert set(retrained(problem.val.inputs)) == set(THREE)


@pytest.mark.parametrize("name", [
    "bmtas(resource=-1)", "adashare(sparsity=-0.1)", "adashare(sharing=-1)", "mtl-nas(entropy=-2)",
    "auxilearn(terms=-1)", "conal(architecture_lr=-1)", "dsmtl-al(architecture_lr=-1.0)",
])
def test_what_is_no_number_from_0_upwards_is_refused(name: str):
    option = name.split("(")[1].split("=")[0]
    with pytest.raises(ValueError, match=f"{option}=.* is not a number from 0 upwards"):
        methods.run(name, three(), budget="smoke", progress=False)
