"""BMTAS: its equations, the tree it ends in, and the expected cost against counting all trees."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlcourse import encoders, methods, models
from mtlcourse.files import seed_everything
from mtlcourse.search.sharing.bmtas import BMTAS, stage_costs
from mtlcourse.tasks import Problem
from tests.problems import small
from tests.search.sharing.test_ltb import THREE, one_hot, three, tree_of


def supernet(problem: Problem, seed: int = 0, **options) -> BMTAS:
    seed_everything(seed)
    model = BMTAS(problem, **options).double().eval()
    with torch.no_grad():
        model.logits.normal_(std=2.0)
    return model


def test_the_printed_equation():
    problem = three()
    model, x = supernet(problem), problem.test.inputs.double()
    choices = torch.softmax(model.logits / model.tau, -1)
    found = model(x)
    for t, task in enumerate(THREE):
        z = x
        for s in range(3):
            z = sum(choices[s, t, i] * model.nodes[s][i](z) for i in range(3))
        torch.testing.assert_close(found[task], model.heads[task](z), rtol=1e-10, atol=1e-10)
    assert torch.equal(model(x, ["size"])["size"], found["size"])


def test_certain_choices_that_make_a_tree_are_that_tree():
    problem = three()
    model, x = supernet(problem), problem.test.inputs.double()
    # All pass copy 1; then the first two part from the third; then all go alone, on copies that others left.
    chosen = torch.tensor([[1, 1, 1], [0, 0, 2], [2, 0, 1]])
    with torch.no_grad():
        model.logits.zero_().scatter_(-1, chosen[..., None], 1.0)
    one_hot(model)
    copies = [{task: THREE[chosen[s, t]] for t, task in enumerate(THREE)} for s in range(3)]
    tree = tree_of(model, problem, copies)
    assert tree.paths == {"kind": ["shared", "group.kind.size", "private.kind"],
                          "size": ["shared", "group.kind.size", "private.size"],
                          "big": ["shared", "private.big", "private.big"]}
    for task, prediction in model(x).items():
        torch.testing.assert_close(prediction, tree(x)[task], rtol=1e-10, atol=1e-10)


def blocks(choices: tuple[tuple[int, ...], ...]) -> list[int]:
    """How many modules each stage has if tasks that chose differently once stay apart."""
    return [len({way[:s] for way in zip(*choices, strict=True)}) for s in range(1, len(choices) + 1)]


@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_the_expected_modules_are_the_mean_over_all_trees(seed: int):
    model = supernet(small(THREE), seed)  # two stages
    p = torch.softmax(model.logits.detach(), -1).tolist()
    expected = [0.0, 0.0]
    draws = list(itertools.product(range(3), repeat=3))
    for choices in itertools.product(draws, draws):
        probability = math.prod(p[s][t][i] for s, row in enumerate(choices) for t, i in enumerate(row))
        expected = [sofar + probability * n for sofar, n in zip(expected, blocks(choices), strict=True)]
    assert model.expected_modules().tolist() == pytest.approx(expected, rel=1e-9)


def test_certain_choices_cost_what_the_tree_costs():
    problem = three()
    model = supernet(problem, count="parameters")
    one_hot(model)
    tree = model.discrete(problem)
    parameters = sum(p.numel() for p in tree.parts.parameters())
    one = sum(p.numel() for p in models.HPS(problem).shared.parameters())
    assert model.expected_cost().item() == pytest.approx(parameters / one)
    assert model.regularizer().item() == pytest.approx(0.05 * parameters / one)


def test_groups_part_for_good():
    problem = three()
    model = BMTAS(problem)
    with torch.no_grad():
        model.logits.scatter_(-1, torch.tensor([[0, 0, 1], [2, 1, 2], [0, 0, 0]])[..., None], 1.0)
    assert model.groups() == [
        {"kind": "kind", "size": "kind", "big": "size"},
        {"kind": "kind-big", "size": "kind-size", "big": "size-big"},
        {"kind": "kind-big-kind", "size": "kind-size-kind", "big": "size-big-kind"}]
    assert model.discrete(problem).paths["size"] == ["group.kind.size", "private.size", "private.size"]


def test_the_temperature_falls_linearly_and_the_warm_up_is_single_task_learning():
    problem = small()
    seed_everything(0)
    model = BMTAS(problem)
    model.prepare(41, 1)
    found = []
    for epoch in range(42):
        model.on_epoch_end(epoch, {})
        found.append(model.tau)
    assert found[1] == 5.0 and found[21] == pytest.approx(5.0 - 20 / 39 * 4.9)
    assert found[40] == found[41] == pytest.approx(0.1)
    alone = models.STL(problem)
    x = problem.test.inputs
    model.train()
    model.on_epoch_end(0, {})
    assert all(torch.equal(model(x)[task], alone(x)[task]) for task in problem.task_names)
    model.on_epoch_end(1, {})
    assert not any(torch.equal(model(x)[task], alone(x)[task]) for task in problem.task_names)


def test_a_dear_resource_makes_tasks_share(monkeypatch):
    monkeypatch.setitem(methods.BUDGETS, "fast", {"epochs": 20})
    cost = {}
    for resource in (0, 100.0):
        run = methods.run(f"bmtas(resource={resource})", small(THREE, train=60), budget="fast", lr=0.05,
                          progress=False)
        cost[resource] = run.learned["expected_cost"]
    assert cost[100.0] == pytest.approx(1, abs=0.05) and run.model.paths == dict.fromkeys(THREE, ["shared"] * 2)
    assert cost[0] > 1.3


def test_what_stages_cost():
    encoder = encoders.build({"name": "conv", "channels": [8, 16], "strides": 2, "features": 10}, (3, 12, 16))
    multiplications = [8 * 3 * 9 * 6 * 8, 16 * 8 * 9 * 3 * 4, 16 * 3 * 4 * 10]
    assert stage_costs(encoder, "flops") == [2.0 * number for number in multiplications]
    assert stage_costs(encoder, "parameters") == [sum(p.numel() for p in s.parameters()) for s in encoder.stages]


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="Unknown count 'flop'. Known: flops, parameters"):
        BMTAS(small(), count="flop")
    many = small(("kind",))
    many.tasks = tuple(type(many.tasks[0])(f"t{i}", many.tasks[0].loss, many.tasks[0].metrics, 3) for i in range(17))
    with pytest.raises(ValueError, match="17 tasks has too many terms .* use resource=0"):
        BMTAS(many)
    assert BMTAS(many, resource=0).regularizer() == 0
