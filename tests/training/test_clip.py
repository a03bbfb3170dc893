"""The norm of the whole gradient, clipped after the strategy and before the optimiser."""

import copy

import pytest
import torch
from torch import nn

from mtlcourse import models
from mtlcourse.files import seed_everything
from mtlcourse.training.updates import clip_gradient, make_step
from tests.problems import small

PROBLEM = small()
BATCH = next(iter(PROBLEM.train.batches(10)))


def model():
    seed_everything(0)
    return models.HPS(PROBLEM)


def flat(net):
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def norm(net):
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm().item()


@pytest.mark.parametrize("strategy", ["ew", "uw", "pcgrad", "gradnorm", "graddrop"])
def test_a_step_that_is_clipped_is_torchs_clipping_between_the_halves(strategy):
    net, twin = model(), model()
    step = make_step(PROBLEM.tasks, net, strategy, lr=0.05, clip=0.1)
    other = make_step(PROBLEM.tasks, twin, strategy, lr=0.05)
    for _ in range(3):
        step(BATCH)
        other.backward(*other.losses(BATCH))
        assert nn.utils.clip_grad_norm_(twin.parameters(), 0.1) > 0.1 and norm(net) == pytest.approx(0.1, rel=1e-4)
        other.update()
        assert torch.equal(flat(net), flat(twin))


def test_a_short_gradient_is_left_as_it_is():
    net, twin = model(), model()
    make_step(PROBLEM.tasks, net, clip=1e3)(BATCH)
    make_step(PROBLEM.tasks, twin)(BATCH)
    assert torch.equal(flat(net), flat(twin))


def test_what_the_strategy_learns_is_not_part_of_the_norm():
    net = model()
    step = make_step(PROBLEM.tasks, net, "uw", clip=1e-4)
    losses, _ = step.losses(BATCH)
    step.backward(losses)
    before = [p.grad.clone() for p in step.engine.strategy.parameters()]
    step.update()
    assert [p.grad for p in step.engine.strategy.parameters()] == before and norm(net) == pytest.approx(1e-4, rel=1e-3)


@pytest.mark.parametrize("strategy", ["ew", "pcgrad"])
def test_losses_that_are_scaled_for_half_precision_are_clipped_by_their_own_length(strategy):
    net, twin = model(), model()
    step = make_step(PROBLEM.tasks, net, strategy, optimizer="sgd", lr=0.05, clip=0.1)
    step.engine.scale = 2.0**10
    step(BATCH)
    make_step(PROBLEM.tasks, twin, strategy, optimizer="sgd", lr=0.05, clip=0.1)(BATCH)
    torch.testing.assert_close(flat(net), flat(twin), rtol=1e-5, atol=1e-7)


def test_sparse_gradients_count_and_are_clipped():
    rows, layer = nn.Embedding(10, 3, sparse=True), nn.Linear(3, 2)
    (7 * layer(rows(torch.tensor([1, 1, 2]))).sum()).backward()
    parameters = [*rows.parameters(), *layer.parameters()]
    dense = [(p.grad.to_dense() if p.grad.is_sparse else p.grad).clone() for p in parameters]
    length = torch.cat([g.flatten() for g in dense]).norm()
    assert clip_gradient(parameters, 1.0) == pytest.approx(length.item())
    for parameter, gradient in zip(parameters, dense, strict=True):
        torch.testing.assert_close(parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad,
                                   gradient / length)


def test_a_length_that_is_not_finite_is_no_step_of_length_zero():
    net = model()
    step = make_step(PROBLEM.tasks, net, clip=1.0)
    step.backward(step.losses(BATCH)[0])
    next(net.parameters()).grad.fill_(1e30)
    before, weights = copy.deepcopy(step.optimizer.state_dict()["state"]), flat(net)
    with pytest.raises(RuntimeError, match="norm of the gradient is inf, of which clipping would leave nothing"):
        step.update()
    assert step.optimizer.state_dict()["state"] == before and torch.equal(flat(net), weights)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_length_is_refused(clip):
    with pytest.raises(ValueError, match="clip is .*; it must be a positive number"):
        make_step(PROBLEM.tasks, model(), clip=clip)


def test_a_clipped_training_is_another_one_and_others_stay_what_they_were():
    assert make_step(PROBLEM.tasks, model(), clip=1.0).settings["clip"] == 1.0
    assert "clip" not in make_step(PROBLEM.tasks, model()).settings
