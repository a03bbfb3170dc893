"""LTB: its equations, the tree it ends in, its schedules, and the relaxed choices it shares with others."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtlcourse import methods, models
from mtlcourse.files import seed_everything
from mtlcourse.search.sharing.ltb import LTB
from mtlcourse.tasks import Problem
from tests.problems import small

THREE = ("kind", "size", "big")


def three() -> Problem:
    problem = small(THREE, train=60)
    problem.encoder = {"name": "mlp", "widths": [6, 5, 4]}
    return problem


def supernet(problem: Problem, seed: int = 0) -> LTB:
    seed_everything(seed)
    model = LTB(problem).double().eval()
    with torch.no_grad():
        model.logits.normal_(std=2.0)
    return model


def one_hot(model: nn.Module) -> None:
    """Have the model choose what is most probable, with certainty."""
    with torch.no_grad():
        best = model.logits.argmax(-1, keepdim=True)
        model.logits.zero_().scatter_(-1, best, 1e4)


def tree_of(model: nn.Module, problem: Problem, copies: list[dict[str, str]]) -> models.Tree:
    """The discrete model with the supernet's weights; `copies` says whose copy a task passes, stage by stage."""
    tree = model.discrete(problem).double().eval()
    for task, path in tree.paths.items():
        for s, name in enumerate(path):
            copy = problem.task_names.index(copies[s][task])
            tree._module((s, name)).load_state_dict(model.nodes[s][copy].state_dict())
    tree.heads.load_state_dict(model.heads.state_dict())
    return tree


def test_the_printed_equation():
    problem = three()
    model, x = supernet(problem), small(THREE).test.inputs.double()
    parents = torch.softmax(model.logits / model.tau, -1)
    z: list[Tensor] = [node(x) for node in model.nodes[0]]
    for s in (1, 2):
        z = [model.nodes[s][j](sum(parents[s - 1, j, i] * z[i] for i in range(3))) for j in range(3)]
    found = model(x)
    for t, task in enumerate(THREE):
        expected = model.heads[task](sum(parents[2, t, i] * z[i] for i in range(3)))
        torch.testing.assert_close(found[task], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_certain_choices_are_the_tree_that_is_found(seed: int):
    problem = three()
    model, x = supernet(problem, seed), problem.test.inputs.double()
    one_hot(model)
    tree = tree_of(model, problem, model.groups())
    for task, prediction in model(x).items():
        torch.testing.assert_close(prediction, tree(x)[task], rtol=1e-10, atol=1e-10)


def test_samples_at_a_low_temperature_are_the_tree_of_the_choices_drawn():
    problem = three()
    model, x = supernet(problem), problem.test.inputs.double()
    model.prepare(2, 0)
    model.on_epoch_end(2, {})
    model.temperatures = (2.0, 1e-4)
    model.train()
    torch.manual_seed(5)
    drawn = model.choices().argmax(-1)
    torch.manual_seed(5)
    found = model(x)
    with torch.no_grad():
        model.logits.zero_().scatter_(-1, drawn[..., None], 1e4)
    model.eval()
    tree = tree_of(model, problem, model.groups())
    for task, prediction in found.items():
        torch.testing.assert_close(prediction, tree(x)[task], rtol=1e-6, atol=1e-6)


def test_choices_are_drawn_with_their_probabilities():
    problem = small()
    model = LTB(problem)
    model.temperatures = (1e-3, 1e-3)
    with torch.no_grad():
        model.logits[..., 0] = 1.0
    torch.manual_seed(0)
    share = torch.stack([model.choices()[..., 0] for _ in range(2000)]).mean(0)
    expected = torch.softmax(model.logits, -1)[..., 0]  # sigmoid(1) = 0.73; the standard error is 0.01
    torch.testing.assert_close(share, expected, atol=0.05, rtol=0)


@settings(max_examples=15)
@given(st.lists(st.integers(0, 2), min_size=9, max_size=9))
def test_what_is_found_refines_from_the_input_to_the_heads(parents: list[int]):
    problem = three()
    model = LTB(problem)
    with torch.no_grad():
        model.logits.scatter_(-1, torch.tensor(parents).view(3, 3, 1), 1.0)
    groups = model.groups()
    for before, after in itertools.pairwise(groups):
        assert all(after[a] != after[b] or before[a] == before[b] for a in THREE for b in THREE)
    models.Tree(problem, groups=groups)


def test_without_any_learning_it_is_hard_parameter_sharing():
    problem = three()
    model = LTB(problem)
    assert model.groups() == [dict.fromkeys(THREE, "kind")] * 3
    assert model.discrete(problem).paths == {name: ["shared"] * 3 for name in THREE}


def test_passages_are_the_shares_of_all_ways():
    model = supernet(three())
    p = torch.softmax(model.logits, -1)
    found = model.passages()
    for t in range(3):
        for first in range(3):
            ways = sum(p[2, t, j] * p[1, j, i] * p[0, i, first] for i in range(3) for j in range(3))
            torch.testing.assert_close(found[0, t, first], ways)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found.sum(-1)))
    assert model.report()["size"]["stage_2_big"] == found[1, 1, 2].item()


def test_the_temperature_falls_exponentially_after_the_warm_up():
    model = LTB(small())
    model.prepare(12, 2)
    found = []
    for epoch in range(13):
        model.on_epoch_end(epoch, {})
        found.append(model.tau)
        assert model.warming_up == (epoch < 2)
    assert found[0] == found[1] == found[2] == 2.0
    assert found[11] == found[12] == pytest.approx(0.1)
    ratios = [b / a for a, b in zip(found[2:11], found[3:12], strict=True)]
    assert ratios == pytest.approx([0.05 ** (1 / 9)] * 9)


@pytest.mark.parametrize(("epochs", "warm"), [(1, 0), (6, 1), (20, 2)])
def test_a_tenth_of_the_epochs_is_for_the_weights_alone(epochs: int, warm: int, monkeypatch):
    monkeypatch.setitem(methods.BUDGETS, "fast", {"epochs": epochs})
    run = methods.run("ltb", small(), budget="fast", progress=False)
    found = run.history[(run.history["name"] == "stage_1_size") & (run.history["task"] == "kind")]["value"].tolist()
    assert found[:warm] == [0.5] * warm and all(value != 0.5 for value in found[warm:])


def test_by_default_choices_learn_from_all_training_data(monkeypatch):
    from mtlcourse.search import searching
    seen = []
    step = searching.BilevelStep
    monkeypatch.setattr(searching, "BilevelStep", lambda *a, **k: seen.append(k) or step(*a, **k))
    methods.run("ltb", small(), budget="smoke", progress=False)
    methods.run("ltb(order=first)", small(), budget="smoke", progress=False)
    assert [(k["order"], k["lr"]) for k in seen] == [("single", 1e-3), ("first", 1e-3)]
