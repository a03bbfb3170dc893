"""Fallback: some tasks answered by their single-task networks, the others by the model, and nothing kept besides."""

import copy
import functools
import itertools

import pytest
import torch
from torch import nn

from mtlcourse import data, models
from mtlcourse.encoders import size
from mtlcourse.files import load_state, save_state, seed_everything
from mtlcourse.models import Fallback
from mtlcourse.tasks import Problem
from mtlcourse.training import evaluate, fit
from tests.models.test_dsmtl import statistical
from tests.models.test_sharing import CASES, KINDS, PROBLEMS, built
from tests.problems import small

THREE = ("kind", "size", "big")


@functools.cache
def problem_of(kind: str) -> Problem:
    return PROBLEMS[kind]()


def networks(name: str, problem: Problem) -> tuple[nn.Module, nn.Module]:
    """A model and single-task networks, as they start; nothing here depends on what they have learned."""
    return built(name, problem).eval(), built("stl", problem).eval()


def predicted(model: nn.Module, problem: Problem, tasks=None) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model(next(problem.test.batches(100)).inputs, tasks)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)


def needed(network: nn.Module, problem: Problem, tasks: list[str]) -> set[str]:
    """The parameters on which predictions for these tasks depend: those that spoil one when they are no numbers."""
    found, whole = set(), predicted(network, problem, tasks) if tasks else {}
    for name, parameter in network.named_parameters():
        before = parameter.data.clone()
        parameter.data.fill_(float("nan"))
        if tasks and not same(predicted(network, problem, tasks), whole):
            found.add(name)
        parameter.data.copy_(before)
    return found


# --- predictions ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_task_is_answered_by_its_network_to_the_bit(name, kind):
    problem = problem_of(kind)
    model, alone = networks(name, problem)
    together, apart = predicted(model, problem), predicted(alone, problem)
    names = problem.task_names
    for tasks in ([], names[:1], names[1:], names):
        fallback = Fallback(model, alone, tasks)
        expected = {task: (apart if task in tasks else together)[task] for task in names}
        assert fallback.guarded == list(tasks) and same(predicted(fallback, problem), expected)
        one = names[-1:]
        assert same(predicted(fallback, problem, one), {one[0]: expected[one[0]]}) and list(fallback.exits) == one
        assert all(not fallback.exits[task] for task in one if task in tasks)


@pytest.mark.parametrize(("name", "kind"), [*KINDS.items()])
def test_what_is_kept_is_what_is_needed_to_answer(name, kind):
    problem = problem_of(kind)
    model, alone = networks(name, problem)
    names = problem.task_names
    idle = {f"model.{key}" for key, _ in model.named_parameters()} - {
        f"model.{key}" for key in needed(model, problem, names)}  # of SRDML, how it weighs pairs of tasks
    for tasks in (names[:1], names[1:]):
        others = [task for task in names if task not in tasks]
        fallback = Fallback(model, alone, tasks)
        expected = {f"model.{key}" for key in needed(model, problem, others)} | idle | {
            f"alone.{key}" for key in needed(alone, problem, tasks)}
        assert {key for key, _ in fallback.named_parameters()} == expected
        assert set(fallback.state_dict()) >= expected
        for task in names:
            network, part = (alone, "alone") if task in tasks else (model, "model")
            only = needed(network, problem, [task]) - needed(
                network, problem, [other for other in (tasks if task in tasks else others) if other != task])
            own = {id(p) for p in fallback.task_parameters(task)}
            assert {key for key, p in fallback.named_parameters() if id(p) in own} == {f"{part}.{key}" for key in only}


@pytest.mark.parametrize("name", ["hps", "dsmtl-jl", "mmoe", "ple", "cross-stitch", "rotograd", "dmtrl",
                                  "tree(points={'kind': 3, 'size': 2, 'big': 3})"])
def test_what_is_still_shared_is_shared_by_tasks_that_the_model_answers(name):
    problem = problem_of("vector")
    model, alone = networks(name, problem)
    for tasks in ([], ["size"], ["kind", "big"], list(THREE)):
        fallback = Fallback(model, alone, tasks)
        others = [task for task in THREE if task not in tasks]
        users = [needed(model, problem, [task]) for task in others]
        expected = {f"model.{key}" for first, second in itertools.combinations(users, 2) for key in first & second}
        names = {id(p): key for key, p in fallback.named_parameters()}
        assert {names[id(p)] for p in fallback.shared_parameters()} == expected
        assert [id(p) for group in fallback.shared_modules() for p in group] == [
            id(p) for p in fallback.shared_parameters()]


def test_a_branch_that_only_guarded_tasks_pass_is_gone():
    problem = problem_of("vector")
    groups = [dict.fromkeys(THREE, 0), {"kind": 0, "size": 0, "big": 1}]
    seed_everything(0)
    model, alone = models.Tree(problem, groups=groups), models.STL(problem)
    trunk, branch = (sum(size(part) for part in stage.values()) for stage in model.parts)
    head = {task: size(model.heads[task]) for task in THREE}
    last = size(model.parts[1]["private-big"])
    assert size(Fallback(model, alone, [])) == trunk + branch + sum(head.values())
    one = {task: size(alone.private[task]) + size(alone.heads[task]) for task in THREE}
    assert size(Fallback(model, alone, ["kind"])) == trunk + branch + head["size"] + head["big"] + one["kind"]
    assert size(Fallback(model, alone, ["kind", "size"])) == trunk + last + head["big"] + one["kind"] + one["size"]
    assert size(Fallback(model, alone, THREE)) == size(alone)


def test_a_network_that_answers_no_task_is_gone():
    problem = problem_of("vector")
    model, alone = networks("hps", problem)
    assert Fallback(model, alone, []).alone is None and size(Fallback(model, alone, [])) == size(model)
    assert Fallback(model, alone, THREE).model is None and size(Fallback(model, alone, THREE)) == size(alone)
    assert Fallback(model, alone, THREE).shared_modules() == []


def test_each_network_runs_only_for_the_tasks_that_it_answers():
    problem, runs = problem_of("vector"), []
    fallback = Fallback(*networks("mmoe", problem), ["size"])
    for name, network in (("model", fallback.model), ("alone", fallback.alone)):
        network.register_forward_pre_hook(lambda module, inputs, name=name: runs.append((name, list(inputs[1]))))
    predicted(fallback, problem)
    assert runs == [("model", ["kind", "big"]), ("alone", ["size"])]
    for tasks, network in ((["size"], "alone"), (["big", "kind"], "model"), ([], None)):
        runs.clear()
        assert list(predicted(fallback, problem, tasks)) == tasks and runs == [(network, tasks)] * (network is not None)


def test_a_task_without_data_in_a_batch_is_not_answered():
    problem = small(own=True)
    fallback = Fallback(*networks("hps", problem), ["size"])
    x = torch.rand(3, 4)
    assert list(fallback({"size": x})) == ["size"] and list(fallback({"kind": x})) == ["kind"]
    assert list(fallback({"size": x, "kind": x})) == ["kind", "size"]


# --- as a module ------------------------------------------------------------------------------------------------

def test_both_networks_are_copied():
    problem = problem_of("vector")
    model, alone = networks("dsmtl-jl", problem)
    model.train()
    before = [copy.deepcopy(network.state_dict()) for network in (model, alone)]
    fallback = Fallback(model, alone, ["size"])
    assert model.training and not alone.training and not fallback.training
    assert all(same(old, network.state_dict()) for old, network in zip(before, (model, alone), strict=True))
    answers = predicted(fallback, problem)
    for parameter in [*model.parameters(), *alone.parameters()]:
        parameter.data.zero_()
    assert same(predicted(fallback, problem), answers)


@pytest.mark.parametrize("name", ["hps", "dsmtl-jl", "maxroam", "rotograd", "mtan", "srdml"])
def test_a_state_is_saved_and_loaded_into_networks_that_are_untrained(name, tmp_path):
    problem = problem_of(KINDS[name])
    first = problem.task_names[:1]
    fallback = Fallback(*networks(name, problem), first)
    save_state(tmp_path / "state", dict(fallback.state_dict()))
    other = Fallback(built(name, problem, seed=5), built("stl", problem, seed=5), first)
    assert not same(predicted(other, problem), predicted(fallback, problem))
    other.load_state_dict(load_state(tmp_path / "state"))
    assert same(predicted(other, problem), predicted(fallback, problem))
    with pytest.raises(RuntimeError, match="Missing key"):
        Fallback(*networks(name, problem), problem.task_names[1:]).load_state_dict(fallback.state_dict())


def test_running_statistics_are_those_of_the_network_that_answers():
    problem = small(train=60)
    seed_everything(1)
    model, alone = (fit(problem, kind(problem, encoder=statistical()), epochs=2, lr=0.05, progress=False).model.eval()
                    for kind in (models.HPS, models.STL))
    fallback = Fallback(model, alone, ["size"])
    assert same(predicted(fallback, problem), {"kind": predicted(model, problem)["kind"],
                                               "size": predicted(alone, problem)["size"]})
    fallback.train()
    assert all(module.training for module in fallback.modules())
    assert evaluate(fallback, problem)["size"] == evaluate(alone, problem)["size"]


def test_it_can_be_copied_in_the_middle_of_a_step():
    fallback = Fallback(*networks("hps", problem_of("vector")), ["size"])
    sum(prediction.sum() for prediction in fallback(torch.rand(3, 4)).values()).backward()
    assert {name: len(points) for name, points in fallback.exits.items()} == {"kind": 1, "size": 0, "big": 1}
    twin = copy.deepcopy(fallback)
    assert same(twin.state_dict(), fallback.state_dict()) and twin.exits is None and fallback.exits is not None
    assert [id(p) for p in twin.shared_parameters()] == [id(p) for p in twin.model.shared.parameters()]


def test_heads_are_those_of_the_networks_that_answer():
    fallback = Fallback(*networks("hps", problem_of("vector")), ["size"])
    assert list(fallback.heads) == fallback.task_names == list(THREE)
    for name, network in (("kind", fallback.model), ("size", fallback.alone), ("big", fallback.model)):
        assert fallback.heads[name] is network.heads[name]


def test_it_can_be_built_without_memory_and_in_double_precision():
    problem = problem_of("vector")
    with torch.device("meta"):
        described = Fallback(models.HPS(problem), models.STL(problem), ["kind"])
    real = Fallback(*networks("hps", problem), ["kind"])
    assert [(name, p.shape) for name, p in described.named_parameters()] == [
        (name, p.shape) for name, p in real.named_parameters()]
    model, alone = networks("hps", problem)
    fallback = Fallback(model.double(), alone.double(), ["kind"])
    assert fallback(torch.rand(2, 4).double())["kind"].dtype == torch.float64


def test_whole_numbers_are_inputs_too():
    split = problem_of("vector").train
    words = Problem("words", problem_of("vector").tasks, None, None, None, (6,), [
        nn.Sequential(nn.Embedding(9, 4), nn.Flatten())], input_dtype=torch.long)
    assert split is not None
    fallback = Fallback(built("hps", words), built("stl", words), ["big"])
    assert fallback(torch.randint(9, (3, 6)))["big"].shape == (3, 1)


class Plain(nn.Module):
    """What a model must have to be guarded, and no more."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(4, 5)
        self.heads = nn.ModuleDict({"kind": nn.Linear(5, 3), "size": nn.Linear(5, 2)})
        self.exits = None

    def forward(self, inputs, tasks=None):
        z = self.trunk(inputs)
        return {name: self.heads[name](z) for name in tasks or self.heads}

    def shared_modules(self):
        return [list(self.trunk.parameters())]


def test_a_model_of_ones_own_needs_no_more_than_the_contract():
    problem, model = small(), Plain()
    alone = built("stl", problem).eval()
    fallback = Fallback(model, alone, ["size"])
    assert same(predicted(fallback, problem), {"kind": predicted(model, problem)["kind"],
                                               "size": predicted(alone, problem)["size"]})
    assert size(fallback) == size(model) - 12 + size(alone.private["size"]) + 12
    assert fallback.shared_modules() == [] and len(fallback.task_parameters("kind")) == 4
    assert len(Fallback(model, alone, []).shared_parameters()) == 2


# --- what cannot be -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("tasks", "error", "message"), [
    (["knd"], ValueError, "Unknown task 'knd'. Known: kind, "),
    (["kind", "size", "kind"], ValueError, "Task 'kind' is named 2 times; once is enough"),
    ("kind", TypeError, r"tasks='kind' is one name; give a list of names, such as \['kind'\]"),
])
def test_tasks_that_cannot_be(tasks, error, message):
    with pytest.raises(error, match=message):
        Fallback(*networks("hps", problem_of("vector")), tasks)


def test_networks_that_cannot_be_fallen_back_on():
    problem = problem_of("vector")
    model, alone = networks("hps", problem)
    with pytest.raises(ValueError, match="There is no single-task network of 'big' to fall back on; there are those of "
                                         "kind, size"):
        Fallback(model, built("stl", small()), ["big"])
    with pytest.raises(ValueError, match=r"HPS is no set of single-task networks: 4 of its parameters are used by "
                                         r"several tasks \(shared.stages.0.0.weight is one\). Give a models.STL"):
        Fallback(model, built("hps", problem), ["big"])
    with pytest.raises(ValueError, match="DSMTL is no set of single-task networks"):
        Fallback(model, built("dsmtl-il", problem), [])
    with pytest.raises(ValueError, match=r"samples of shape \(4,\) and the single-task networks of shape \(3, 8, 12\)"):
        Fallback(model, built("stl", problem_of("dense")), [])
    wider = Problem("wider", [data.classification("kind", 5)], None, None, None, (4,), problem.encoder)
    with pytest.raises(ValueError, match=r"Task 'kind': on two samples the model predicts \(2, 3\) and the single-task "
                                         r"network \(2, 5\). They were made for different problems"):
        Fallback(model, models.STL(wider), ["kind"])


def test_networks_of_the_tasks_that_fall_back_are_enough():
    problem = problem_of("vector")
    model, alone = built("hps", problem).eval(), built("stl", small(("size",))).eval()
    fallback = Fallback(model, alone, ["size"])
    assert torch.equal(predicted(fallback, problem)["size"], predicted(alone, small(("size",)))["size"])


def test_unknown_tasks_are_told():
    fallback = Fallback(*networks("hps", problem_of("vector")), ["size"])
    with pytest.raises(ValueError, match="Unknown task 'sise'. Known: size"):
        fallback(torch.rand(2, 4), ["sise"])
    with pytest.raises(ValueError, match="Unknown task 'kinds'. Known: kind"):
        fallback.task_parameters("kinds")


@pytest.mark.parametrize("options", [{}, {"strategy": "pcgrad"}, {"compile": True}])
def test_it_is_not_trained_on(options):
    problem = problem_of("vector")
    fallback = Fallback(*networks("hps", problem), ["size"])
    with pytest.raises(ValueError, match=r"trained networks.* choice of tasks \(\['size'\]\)"):
        fit(problem, fallback, progress=False, **options)
