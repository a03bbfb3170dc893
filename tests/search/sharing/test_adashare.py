"""AdaShare: policies, what can be skipped, the losses of the policies, and the curriculum."""

import itertools

import pytest
import torch

from mtlcourse import encoders, methods, models
from mtlcourse.files import seed_everything
from mtlcourse.search.sharing.adashare import AdaShare, Skipping, can_skip, skip
from mtlcourse.tasks import Problem
from tests.problems import OFFLINE, pixels, small

THREE = ("kind", "size", "big")
POLICIES = [[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0]]


def three() -> Problem:
    problem = small(THREE, train=60)
    problem.encoder = {"name": "mlp", "widths": [5, 6, 6]}
    return problem


def supernet(problem: Problem, **options) -> AdaShare:
    seed_everything(0)
    model = AdaShare(problem, **options).double().eval()
    with torch.no_grad():
        model.logits.normal_(std=2.0)
    return model


# --- policies ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("problem", [three, pixels])
def test_all_ones_are_hard_parameter_sharing_to_the_bit(problem):
    problem = problem()
    seed_everything(1)
    shared = models.HPS(problem)
    seed_everything(1)
    model = Skipping(problem)
    x = problem.test.inputs
    assert all(torch.equal(model(x)[task], shared(x)[task]) for task in problem.task_names)
    assert len(list(model.parameters())) == len(list(shared.parameters()))


@pytest.mark.parametrize("first", POLICIES)
@pytest.mark.parametrize("others", list(itertools.product(POLICIES[1:], POLICIES)))
def test_policies_by_hand(first: list[int], others: tuple):
    problem, policies = three(), (first, *others)
    model = Skipping(problem, policies=dict(zip(THREE, policies, strict=True))).double()
    x = problem.test.inputs.double()
    found = model(x)
    for task, policy in zip(THREE, policies, strict=True):
        z = x
        for s, used in enumerate(policy, start=1):
            if used:
                z = model.stages[str(s)](z)
            elif s == 2:
                z = torch.cat([z, torch.zeros(len(z), 1)], 1)  # five numbers, where six are wanted
        torch.testing.assert_close(found[task], model.heads[task](z), rtol=1e-12, atol=1e-12)
        assert len(model.exits[task]) == 1
    assert set(model.stages) == {str(s) for s in (1, 2, 3) if any(policy[s - 1] for policy in policies)}


def test_what_tasks_decide_alike_is_computed_once():
    model = Skipping(three(), policies={"kind": [1, 1, 0], "size": [1, 1, 1], "big": [1, 1, 1]})
    passes = []
    for stage in model.stages.values():
        stage.register_forward_hook(lambda *_: passes.append(1))
    model(three().test.inputs)
    assert len(passes) == 3


# --- skipping ------------------------------------------------------------------------------------------

def test_skipping_is_the_identity_where_it_can_be():
    z = torch.randn(2, 4, 6, 8)
    assert skip(z, (4, 6, 8)) is z
    smaller = skip(z, (5, 3, 4))
    assert smaller.shape == (2, 5, 3, 4) and not smaller[:, 4].any()
    torch.testing.assert_close(smaller[:, :4], torch.nn.functional.avg_pool2d(z, 2))
    vector = torch.randn(2, 3)
    assert torch.equal(skip(vector, (5,)), torch.cat([vector, torch.zeros(2, 2)], 1))


def test_what_can_be_skipped():
    spec = {"name": "conv", "channels": [4, 4, 8, 6], "strides": [1, 1, 2, 1], "features": 9}
    encoder = encoders.build(spec, (4, 8, 8))
    # Not the first, though shapes are equal; not where channels are lost; not where maps turn into vectors.
    assert [can_skip(encoder, s) for s in range(1, 6)] == [False, True, True, False, False]


def test_every_offline_problem_has_something_to_skip():
    from mtlcourse import data
    for name in OFFLINE:
        if name != "twins":  # its trunk is one layer
            assert AdaShare(data.describe(name)).optional
    with pytest.raises(ValueError, match="no module of this encoder can be skipped"):
        AdaShare(data.describe("twins"))


def test_an_encoder_without_anything_to_skip_is_refused_with_the_reason():
    problem = small()
    for widths in ([6], [6, 5], [6, 5, 4]):
        problem.encoder = {"name": "mlp", "widths": widths}
        with pytest.raises(ValueError, match=r"no module of this encoder can be skipped.*\(4,\) -> \(6,\)"):
            AdaShare(problem)


@pytest.mark.parametrize(("policies", "message"), [
    ({"kind": [1, 1, 1], "size": [1, 1, 1], "bag": [1, 1, 1]}, "Unknown task 'bag'. Known: big"),
    ({"kind": [1, 1, 1], "size": [1, 1, 1]}, "Task 'big' has no policy"),
    ({"kind": [1, 1, 1], "size": [1, 1], "big": [1, 1, 1]}, "policy of task 'size' is .* the encoder's 3 modules"),
    ({"kind": [1, 2, 1], "size": [1, 1, 1], "big": [1, 1, 1]}, "needs a 1 .pass. or 0 .skip."),
    ({"kind": [1, 1, 1], "size": [0, 1, 1], "big": [1, 1, 1]}, "Task 'size' cannot skip module 1"),
])
def test_policies_that_cannot_be(policies: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Skipping(three(), policies=policies)


# --- the search ----------------------------------------------------------------------------------------

def test_the_printed_equation():
    problem = three()
    model, x = supernet(problem), problem.test.inputs.double()
    alpha = torch.softmax(model.logits / model.tau, -1)[..., 0]
    found = model(x)
    for t, task in enumerate(THREE):
        z = model.shared.stages[0](x)
        for number, s in enumerate((2, 3)):
            skipped = skip(z, model.shared.shapes[s])
            z = alpha[t, number] * model.shared.stages[s - 1](z) + (1 - alpha[t, number]) * skipped
        torch.testing.assert_close(found[task], model.heads[task](z), rtol=1e-10, atol=1e-10)


def test_certain_policies_are_the_model_that_is_found():
    problem = three()
    for seed in range(4):
        model, x = supernet(problem), problem.test.inputs.double()
        torch.manual_seed(seed)
        with torch.no_grad():
            model.logits.normal_()
            model.logits.copy_(1e4 * (model.logits > model.logits.flip(-1)))
        found = model.discrete(problem).double()
        for s, stage in found.stages.items():
            stage.load_state_dict(model.shared.stages[int(s) - 1].state_dict())
        found.heads.load_state_dict(model.heads.state_dict())
        for task, prediction in model(x).items():
            torch.testing.assert_close(prediction, found(x)[task], rtol=1e-10, atol=1e-10)


def test_undecided_tasks_pass():
    assert AdaShare(three()).found_policies() == {name: [1, 1, 1] for name in THREE}


def test_the_losses_of_the_policies():
    model = supernet(three(), sparsity=0.3, sharing=0.7)
    alpha = torch.softmax(model.logits, -1)[..., 0]
    sparsity = sum(-torch.log(1 - alpha[t, n]) / 2 for t in range(3) for n in range(2))
    sharing = sum(weight * (alpha[t, n] - alpha[u, n]).abs()
                  for t in range(3) for u in range(t) for n, weight in enumerate((1.0, 0.5)))
    torch.testing.assert_close(model.sparsity_loss(), sparsity)
    torch.testing.assert_close(model.sharing_loss(), sharing)
    torch.testing.assert_close(model.regularizer(), 0.3 * sparsity + 0.7 * sharing)


def test_strong_losses_of_the_policies_decide_alone(monkeypatch):
    monkeypatch.setitem(methods.BUDGETS, "fast", {"epochs": 20})
    run = methods.run("adashare(sparsity=100)", three(), budget="fast", lr=0.02, progress=False)
    assert run.learned == {"policies": {name: [1, 0, 0] for name in THREE}}
    assert list(run.model.stages) == ["1"]


@pytest.mark.parametrize(("curriculum", "opened"), [(True, [0, 0, 1, 1, 2, 2, 2, 2, 2, 2]), (False, [0, 0] + [2] * 8)])
def test_decisions_open_from_the_output_side(curriculum: bool, opened: list[int]):
    problem = three()
    model = supernet(problem, curriculum=curriculum)
    model.prepare(10, 2)
    x = problem.test.inputs.double()
    whole = model.heads["kind"](model.shared(x))
    for epoch, expected in enumerate(opened):
        model.on_epoch_end(epoch, {})
        assert model.open == expected
        model.zero_grad()
        prediction = model(x)["kind"]
        assert torch.equal(prediction, whole) == (expected == 0)
        if expected:
            prediction.sum().backward()
            assert model.logits.grad[0].any(-1).tolist() == [False] * (2 - expected) + [True] * expected


@pytest.mark.parametrize("curriculum", [True, False])
def test_sparsity_counts_open_decisions_only(curriculum: bool):
    model = supernet(three(), curriculum=curriculum)
    model.prepare(10, 2)
    for epoch in range(10):
        model.on_epoch_end(epoch, {})
        first = len(model.optional) - model.open
        alpha = torch.softmax(model.logits, -1)[:, first:, 0]
        torch.testing.assert_close(model.sparsity_loss(), -torch.log(1 - alpha).sum() / 2)
        model.zero_grad()
        model.sparsity_loss().backward()
        assert model.open == 0 or model.logits.grad[:, first:].all()
        assert model.logits.grad is None or not model.logits.grad[:, :first].any()


def test_no_decision_drifts_before_it_opens(monkeypatch):
    """P(pass) stays at a half, by search's own steps, until the epoch in which the curriculum opens the module."""
    monkeypatch.setitem(methods.BUDGETS, "fast", {"epochs": 12})
    history = methods.run("adashare(sparsity=1.0)", three(), budget="fast", lr=0.05, progress=False).history
    rows = history[(history["stage"] == "search") & (history["name"] == "pass_2")]
    model = AdaShare(three())
    model.prepare(12, 2)
    closed = 0
    for epoch in range(1, 13):
        model.on_epoch_end(epoch - 1, {})  # what is open during this epoch
        values = rows[rows["epoch"] == epoch]["value"]
        if model.open < 2:
            closed += 1
            assert (values == 0.5).all(), (epoch, values)
    assert closed >= 5 and (rows[rows["epoch"] == 12]["value"] != 0.5).all()


def test_a_curriculum_is_there_or_not():
    with pytest.raises(ValueError, match="curriculum='no' is neither True nor False"):
        AdaShare(three(), curriculum="no")


def test_a_search_of_one_epoch_is_open():
    model = AdaShare(three())
    model.prepare(1, 0)
    assert model.open == 2


def test_the_temperature_falls_exponentially():
    model = AdaShare(three())
    model.prepare(11, 0)
    model.on_epoch_end(5, {})
    assert model.tau == pytest.approx((5 * 0.1) ** 0.5)
