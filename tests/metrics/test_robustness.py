"""Attacks that stay in their ball, and areas under precision-recall curves against scikit-learn."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlcourse import metrics
from mtlcourse.metrics import aupr, average_precision, fgsm, from_uniform, pgd, pgd_accuracy, strangeness
from mtlcourse.void import VOID


def net(seed: int = 0, activation=nn.Softplus) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), activation(), nn.Linear(16, 3)).double()


def images(batch: int = 20, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, 1, 3, 4, generator=generator, dtype=torch.float64)
    return x.round(decimals=1), torch.randint(3, (batch,), generator=generator)


def raised(model: nn.Module, y: torch.Tensor):
    return lambda z: F.cross_entropy(model(z), y, reduction="none")


# --- attacks --------------------------------------------------------------------------------------------

@given(epsilon=st.floats(0, 2), steps=st.integers(1, 4), step_size=st.none() | st.floats(1e-3, 5),
       start=st.sampled_from(["random", "centre"]), seed=st.integers(0, 99))
def test_an_attack_stays_in_its_ball_and_in_the_unit_interval(epsilon, steps, step_size, start, seed):
    model, (x, y) = net(), images(8, seed)
    found = pgd(raised(model, y), x, epsilon, steps, step_size, start, torch.Generator().manual_seed(seed))
    assert found.shape == x.shape and not found.requires_grad
    assert (found - x).abs().max() <= epsilon * (1 + 1e-12) + 1e-15
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("epsilon", [0, 0.01, 0.3, 1])
def test_fgsm_is_one_step_of_pgd_and_its_formula(epsilon):
    model, (x, y) = net(), images()
    found = fgsm(raised(model, y), x, epsilon)
    if epsilon:
        assert torch.equal(found, pgd(raised(model, y), x, epsilon, steps=1, step_size=epsilon, start="centre"))
    z = x.clone().requires_grad_()
    raised(model, y)(z).sum().backward()
    torch.testing.assert_close(found, (x + epsilon * z.grad.sign()).clamp(0, 1), rtol=0, atol=1e-15)
    assert all(p.grad is None or p.grad.abs().sum() > 0 for p in model.parameters())


def test_an_attack_leaves_parameters_without_gradients():
    model, (x, y) = net(), images()
    pgd(raised(model, y), x, 0.1)
    with torch.no_grad():
        fgsm(raised(model, y), x, 0.1)  # an evaluation runs without gradients
    assert all(p.grad is None for p in model.parameters())


def test_the_default_step_is_that_of_the_cited_source():
    """2.5 epsilon / steps; the thesis prints 2.5 epsilon, with which the inner points of the ball are never seen."""
    model, (x, y) = net(), images(40)
    loss = raised(model, y)
    assert torch.equal(pgd(loss, x, 0.1, start="centre"), pgd(loss, x, 0.1, step_size=0.025, start="centre"))
    jumped = pgd(loss, x, 0.1, steps=7, step_size=0.25, start="centre")
    low, high = (x - 0.1).clamp(min=0), (x + 0.1).clamp(max=1)
    assert bool(((jumped == low) | (jumped == high)).all())
    walked = pgd(loss, x, 0.1, steps=7, start="centre")
    assert not bool(((walked == low) | (walked == high)).all())


def test_more_steps_raise_the_loss():
    model, (x, y) = net(activation=nn.Tanh), images(40)
    loss = raised(model, y)
    plain, one, ten = (loss(z).mean().item() for z in (x, fgsm(loss, x, 0.2), pgd(loss, x, 0.2, start="centre")))
    assert plain < one <= ten + 1e-9


def test_starts_come_from_the_generator_and_differ():
    model, (x, y) = net(), images()
    first, again, other = (pgd(raised(model, y), x, 0.3, steps=1, step_size=1e-3,
                               generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert (first - x).abs().max() > 0.2


def test_accuracy_under_attack():
    model, (x, y) = net(seed=3), images(60)
    model[3].bias.data -= model(x).mean(0)  # no class is preferred
    y = torch.where(torch.arange(60) < 50, model(x).argmax(1), y)
    batches = [(x[:35], y[:35]), (x[35:], y[35:])]
    plain = pgd_accuracy(model, batches, 0.0)
    assert plain == (model(x).argmax(1) == y).double().mean().item()
    attacked = [pgd_accuracy(model, batches, epsilon) for epsilon in (0.05, 0.5)]
    assert plain >= attacked[0] > attacked[1]
    assert attacked[0] == pgd_accuracy(model, batches, 0.05) and pgd_accuracy(model, batches, 0.3, seed=5) <= plain


def test_samples_without_a_label_do_not_count():
    model, (x, y) = net(), images(30)
    hidden = y.clone()
    hidden[10:] = VOID
    assert pgd_accuracy(model, [(x, hidden)], 0.0) == pgd_accuracy(model, [(x[:10], y[:10])], 0.0)
    assert math.isnan(pgd_accuracy(model, [(x, torch.full_like(y, VOID))], 0.1))


@pytest.mark.parametrize(("options", "message"), [
    ({"epsilon": -0.1}, "epsilon=-0.1 is the radius of a ball"),
    ({"epsilon": float("nan")}, "epsilon=nan is the radius"),
    ({"epsilon": float("inf")}, "epsilon=inf is the radius"),
    ({"epsilon": True}, "epsilon=True is the radius"),
    ({"epsilon": "0.1"}, "epsilon='0.1' is the radius"),
    ({"epsilon": 0.1, "steps": 0}, "steps=0: an attack takes a whole number of steps"),
    ({"epsilon": 0.1, "steps": 2.5}, "steps=2.5: an attack takes a whole number"),
    ({"epsilon": 0.1, "step_size": -1.0}, "step_size=-1.0: give a positive number"),
    ({"epsilon": 0.1, "step_size": 0.0}, "step_size=0.0: give a positive number"),
    ({"epsilon": 0.1, "start": "corner"}, "start='corner' is not known"),
])
def test_what_is_no_attack_is_refused(options, message):
    model, (x, y) = net(), images()
    with pytest.raises(ValueError, match=message):
        pgd(raised(model, y), x, **options)


@pytest.mark.parametrize("low", [-0.5, 0.0])
def test_inputs_outside_the_unit_interval_are_refused(low):
    model, (x, y) = net(), images()
    with pytest.raises(ValueError, match="the inputs run from .* scale them"):
        fgsm(raised(model, y), 2 * x + low, 0.1)
    with pytest.raises(ValueError, match=r"these are torch.int64: convert with .float\(\)"):
        fgsm(raised(model, y), x.long(), 0.1)


# --- out of distribution --------------------------------------------------------------------------------

def scores(seed: int, ties: bool, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    outside, inside = rng.normal(0.7, 1, n), rng.normal(0, 1, m)
    return (outside.round(0), inside.round(0)) if ties else (outside, inside)


@given(seed=st.integers(0, 10_000), ties=st.booleans(), n=st.integers(1, 40), m=st.integers(1, 40))
def test_both_areas_are_those_of_scikit_learn(seed, ties, n, m):
    outside, inside = scores(seed, ties, n, m)
    truth, joined = np.r_[np.ones(n), np.zeros(m)], np.r_[outside, inside]
    precision, recall, _ = sk.precision_recall_curve(truth, joined)
    mine = [area(torch.from_numpy(outside), torch.from_numpy(inside)) for area in (aupr, average_precision)]
    assert mine == pytest.approx([sk.auc(recall, precision), sk.average_precision_score(truth, joined)], abs=1e-12)


def test_the_two_areas_are_different_numbers():
    outside, inside = (torch.from_numpy(s) for s in scores(3, False, 50, 200))
    assert abs(aupr(outside, inside) - average_precision(outside, inside)) > 1e-3


def test_the_ends_of_the_scale():
    low, high = torch.zeros(30).double(), torch.ones(10).double()
    assert aupr(high, low) == average_precision(high, low) == 1.0
    assert average_precision(low[:10], torch.zeros(30).double()) == pytest.approx(0.25)  # the share of outside samples


@pytest.mark.parametrize(("outside", "inside", "message"), [
    ([], [1.0], "there are 0 outside and 1 inside"), ([1.0], [], "there are 1 outside and 0 inside"),
    ([math.nan], [1.0], "Some scores are NaN"), ([0.5], [1.0, math.nan], "Some scores are NaN")])
def test_what_has_no_curve_is_refused(outside, inside, message):
    with pytest.raises(ValueError, match=message):
        aupr(torch.tensor(outside).double(), torch.tensor(inside).double())


def test_divergence_from_uniform_is_its_sum():
    logits = torch.randn(9, 4, dtype=torch.float64)
    uniform = torch.full((9, 4), 0.25, dtype=torch.float64)
    expected = (uniform * (uniform.log() - F.softmax(logits, 1).log())).sum(1)
    torch.testing.assert_close(from_uniform(logits), expected)
    assert from_uniform(torch.zeros(2, 7)).abs().max() < 1e-6 and from_uniform(logits).min() >= 0


def test_half_precision_is_judged_in_full():
    logits = 30 * torch.randn(50, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = from_uniform(logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, from_uniform(logits.float()))


def test_strangeness_falls_with_confidence():
    assert strangeness(torch.tensor([[0.0, 0.0], [9.0, 0.0]])).tolist() == pytest.approx([-0.5, -0.99988], abs=1e-4)


def test_a_probe_is_its_function():
    probe = metrics.Probe(lambda model, problem: {"digit": {"size": model + problem}}, {"size": False})
    assert probe(1.0, 2.0) == {"digit": {"size": 3.0}}
