"""The multilinear relationship network: its penalty, its closed form, and what it says about the tasks."""

import functools

import numpy as np
import pytest
import torch

from mtlcourse import models
from mtlcourse.files import seed_everything
from mtlcourse.models.mrn import MODES, estimate
from mtlcourse.training import fit
from mtlcourse.training.updates import make_step
from tests.models.test_sharing import dense
from tests.problems import small


def built(problem, **options) -> models.MRN:
    seed_everything(3)
    return models.MRN(problem, **options)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariances(*sizes: int) -> list[torch.Tensor]:
    return [(factor := random(size, size, seed=size)) @ factor.T + torch.eye(size) for size in sizes]


def penalty(model: models.MRN) -> float:
    return model.auxiliary_loss(next(small().train.batches(5)), {}).item()  # which looks at neither


def penalty_of(W: np.ndarray, matrices: list[np.ndarray]) -> float:
    """`vec(W)^T (C_1 x C_2 x C_3)^-1 vec(W)`, with the Kronecker product as a whole."""
    return W.ravel() @ np.linalg.solve(functools.reduce(np.kron, matrices), W.ravel())


@pytest.mark.parametrize("problem", [small(("kind", "size", "big")), dense()], ids=["vector", "pixels"])
def test_the_penalty_is_the_quadratic_form_of_the_kronecker_product(problem):
    model = built(problem, strength=0.3).double()
    matrices = covariances(*model.stacked().shape)
    for mode, covariance in zip(MODES, matrices, strict=True):
        getattr(model, f"precision_{mode}").copy_(torch.linalg.inv(covariance))
        torch.testing.assert_close(model.covariance(mode), covariance, rtol=1e-8, atol=1e-8)
    expected = 0.3 / 2 * penalty_of(model.stacked().detach().numpy(), [matrix.numpy() for matrix in matrices])
    assert penalty(model) == pytest.approx(expected, rel=1e-8)


def test_before_the_first_epoch_it_is_weight_decay_of_the_heads():
    model = built(small(), strength=0.3)
    assert penalty(model) == pytest.approx(0.15 * model.stacked().square().sum().item())


@pytest.mark.parametrize("mode", range(3))
def test_the_closed_form_is_the_most_likely_covariance(mode):
    shape = [4, 3, 2]
    shape[mode] = 2  # few enough for the estimate to have full rank
    W, matrices = random(*shape), covariances(*shape)
    matrices[mode] = estimate(W, [torch.linalg.inv(matrix) for matrix in matrices], mode)

    def likelihood(covariance: torch.Tensor) -> torch.Tensor:
        here = [covariance if k == mode else matrix for k, matrix in enumerate(matrices)]
        whole = functools.reduce(torch.kron, here)
        return torch.distributions.MultivariateNormal(torch.zeros(W.numel(), dtype=W.dtype), whole).log_prob(W.ravel())

    best = matrices[mode].clone().requires_grad_()
    value = likelihood(best)
    (gradient,) = torch.autograd.grad(value, best)
    assert gradient.abs().max() < 1e-9
    for seed in range(5):
        change = random(2, 2, seed=seed)
        assert likelihood(best + 0.05 * change @ change.T) < value


def test_an_epoch_updates_one_mode_after_the_other():
    model = built(small(("kind", "size", "big")), ridge=0.2).double()
    W, expected = model.stacked().detach(), [torch.eye(size, dtype=torch.float64) for size in model.stacked().shape]
    for mode in range(3):
        covariance = estimate(W, expected, mode)
        covariance = covariance / covariance.diagonal().mean() + 0.2 * torch.eye(len(covariance))
        expected[mode] = torch.linalg.inv(covariance)
    model.on_epoch_end(1, {})
    for mode, precision in zip(MODES, expected, strict=True):
        torch.testing.assert_close(getattr(model, f"precision_{mode}"), precision)
        found = model.covariance(mode)
        assert found.diagonal().mean().item() == pytest.approx(1.2) and torch.linalg.eigvalsh(found).min() > 0.199


def test_it_finds_out_which_tasks_go_together():
    problem = small(("kind", "size", "big"))
    model = built(problem)
    heads = [head.weight.data for head in model.heads.values()]
    heads[0][0], heads[0][1:] = heads[2][0], 0.0  # `kind` does what `big` does
    heads[1][0], heads[1][1:] = -heads[2][0], 0.0  # `size` the opposite
    model.on_epoch_end(1, {})
    C = model.covariance("tasks")
    scale = C.diagonal().sqrt()
    correlations = C / scale / scale[:, None]
    expected = torch.tensor([[1, -1, 1], [-1, 1, -1], [1, -1, 1]]) / 1.1
    expected.fill_diagonal_(1.0)
    torch.testing.assert_close(correlations.float(), expected, rtol=1e-4, atol=1e-4)


def test_heads_of_zeros_leave_everything_finite():
    model = built(small())
    for head in model.heads.values():
        torch.nn.init.zeros_(head.weight)
    model.on_epoch_end(1, {})
    assert all(precision.isfinite().all() for precision in model.precisions()) and penalty(model) == 0


def test_training_updates_the_covariances_after_each_epoch():
    problem = small()
    model = built(problem, strength=0.1)
    step = make_step(problem.tasks, model)
    batch = next(problem.train.batches(40))
    step(batch)
    assert torch.equal(model.covariance("tasks"), torch.eye(2, dtype=torch.float64))
    step.on_epoch_end(1, {})
    assert not torch.equal(model.covariance("tasks"), torch.eye(2, dtype=torch.float64))


def test_without_strength_it_is_hard_sharing():
    problem = small()
    seed_everything(3)
    shared = fit(problem, models.HPS(problem), epochs=3, progress=False).model
    model = fit(problem, built(problem, strength=0.0), epochs=3, progress=False).model
    assert all(torch.equal(a, b) for a, b in zip(shared.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("options", [{"strength": -0.1}, {"ridge": 0.0}])
def test_options_that_cannot_be(options):
    with pytest.raises(ValueError, match="must not be negative, and ridge=.* must be positive"):
        models.MRN(small(), **options)
