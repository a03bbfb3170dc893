"""Strategies that look at losses only, and GradNorm: closed forms, brute force, what they remember."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchjd import scalarization

from mtlcourse import strategies
from mtlcourse.strategies import make
from tests.problems import TASKS

LOSSES = ("uw", "dwa", "gls", "rlw", "max", "smax", "cl", "bmtl", "famo", "stch")
SUM_TO_M = ("dwa", "rlw", "max", "smax", "cl", "famo", "stch", "gradnorm")


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def bound(name: str, m: int = 3, **options) -> strategies.Strategy:
    return make(name, **options).bind([f"t{t}" for t in range(m)], torch.Generator().manual_seed(0))


def weights(strategy, losses, present=None, lengths=None):
    """Weights for these losses; with `lengths` the gradients are orthogonal and so long."""
    lengths = torch.ones_like(losses) if lengths is None else lengths
    gram = None if strategy.needs == "losses" else torch.diag(lengths**2)[None]
    found = strategy.weights(losses, gram, present)
    assert torch.equal(found.shared, found.heads)  # they are weights of the losses, so heads have them too
    return found.shared


losses_of_tasks = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6).map(lambda values: vector(*values))


# --- what holds for all ------------------------------------------------------------------------------------

@given(losses_of_tasks, st.integers(0, 5))
def test_weights_sum_to_m_where_that_is_the_scale(losses, epochs):
    for name in SUM_TO_M:
        strategy = bound(name, len(losses))
        for epoch in range(epochs):
            strategy.on_epoch_end(losses / (epoch + 1))
            strategy.weights(losses, torch.eye(len(losses), dtype=torch.float64)[None])
        found = weights(strategy, losses)
        assert found.sum().item() == pytest.approx(len(losses)) and (found >= 0).all(), name


@pytest.mark.parametrize("name", [*LOSSES, "gradnorm"])
def test_equal_losses_have_equal_weights_and_one_task_weighs_one(name):
    for strategy, factor in ((bound(name), 1.0), (bound(name, 1), 1.0)):
        found = weights(strategy, torch.full((strategy.m,), 0.7, dtype=torch.float64))
        if name == "rlw" and strategy.m > 1:
            continue  # random by design
        factor = math.exp(0.7 / 50) / 50 if name == "bmtl" else factor
        assert found.tolist() == pytest.approx([factor] * strategy.m)


@pytest.mark.parametrize("name", [n for n in (*LOSSES, "gradnorm") if n != "rlw"])
def test_tasks_may_come_in_any_order(name):
    losses, order = vector(0.5, 2.0, 1.0, 4.0), [2, 0, 3, 1]
    found = []
    for permuted in (range(4), order):
        strategy, mixed = bound(name, 4), losses[list(permuted)]
        for epoch in range(1, 4):
            strategy.on_epoch_end(mixed ** (1 / epoch))
            strategy.weights(mixed * epoch, torch.diag(mixed)[None])
            strategy.after_step(mixed ** (1 / epoch))
        found.append(weights(strategy, mixed))
    torch.testing.assert_close(found[0][order], found[1])


@pytest.mark.parametrize("name", [*LOSSES, "gradnorm"])
def test_an_absent_task_weighs_nothing_and_keeps_what_is_remembered_of_it(name):
    strategy = bound(name)
    losses = vector(1.0, 2.0, 3.0)
    optimizer = torch.optim.Adam(groups, lr=0.1) if (groups := strategy.param_groups()) else None

    def step(losses, present=None):
        found = weights(strategy, losses, present, lengths=vector(1.0, 3.0, 2.0))
        if optimizer:
            optimizer.step()
        strategy.after_step(losses * vector(0.9, 0.5, 0.7))
        strategy.on_epoch_end(losses * vector(0.9, 0.5, 0.7))
        return found

    absent = vector(1.0, float("nan"), 2.0), torch.tensor([True, False, True])
    step(losses)
    step(losses * 0.8)
    step(*absent)  # what the step before has started is finished here
    before = {name: value.clone() for name, value in strategy.state_dict().items()}
    found = step(*absent)
    assert found[1] == 0 and torch.isfinite(found).all()
    if name in SUM_TO_M:
        assert found.sum().item() == pytest.approx(2)  # m is the number of tasks that the step has
    for key, value in strategy.state_dict().items():
        if key in ("before", "moved"):
            continue  # what the last step had, not what is remembered of a task
        entry = (lambda t: t) if key.split(".")[-1].isdigit() else (lambda t: t[..., 1])
        if not key.split(".")[-1].isdigit() or key.endswith(".1"):
            assert torch.equal(torch.nan_to_num(entry(before[key])), torch.nan_to_num(entry(value))), key


# --- one by one ----------------------------------------------------------------------------------------------

def test_uw_is_the_gradient_of_its_objective():
    """kind is a classification, size a regression."""
    strategy = make("uw").bind(TASKS[:2])
    for parameter, start in zip(strategy.log_variances, (0.3, -0.4), strict=True):
        parameter.data.fill_(start)
    losses = vector(0.8, 2.0).requires_grad_()
    v = vector(0.3, -0.4).requires_grad_()
    objective = torch.exp(-v[0]) * losses[0] + v[0] / 2 + torch.exp(-v[1]) * losses[1] / 2 + v[1] / 2
    to_losses, to_v = torch.autograd.grad(objective, (losses, v))
    torch.testing.assert_close(weights(strategy, losses.detach()), to_losses)
    torch.testing.assert_close(torch.stack([p.grad for p in strategy.log_variances]), to_v)


def test_uw_treats_all_alike_when_told_and_has_no_weight_decay():
    strategy = make("uw", kind="regression", lr=0.3).bind(TASKS[:2])
    assert weights(strategy, vector(1.0, 1.0)).tolist() == [0.5, 0.5]
    group, = strategy.param_groups()
    assert group["weight_decay"] == 0 and group["lr"] == 0.3 and len(group["params"]) == 2
    assert "lr" not in make("uw").bind(["a"]).param_groups()[0]


def test_uw_finds_the_noise_level():
    """Regression: the optimum is e^v = L."""
    strategy = make("uw", kind="regression").bind(["a", "b"])
    optimizer = torch.optim.SGD(strategy.param_groups(), lr=0.5)
    for _ in range(300):
        weights(strategy, vector(0.25, 3.0))
        optimizer.step()
    assert [math.exp(v.item()) for v in strategy.log_variances] == pytest.approx([0.25, 3.0])


def test_dwa_uses_the_ratio_of_the_last_two_epoch_means():
    strategy = bound("dwa", T=3)
    means = vector(1.0, 2.0, 4.0), vector(0.5, 1.9, 4.4)
    for mean in means:
        assert weights(strategy, vector(9.0, 1.0, 5.0)).tolist() == [1, 1, 1]
        strategy.on_epoch_end(mean)
    expected = 3 * torch.softmax(means[1] / means[0] / 3, 0)
    torch.testing.assert_close(weights(strategy, vector(9.0, 1.0, 5.0)), expected)
    assert expected[0] < expected[1] < expected[2]  # the slower, the more


def test_dwa_passes_over_epochs_without_the_task_and_ratios_that_are_none():
    strategy = bound("dwa")
    for mean in (vector(1.0, 2.0, 0.0), vector(float("nan"), 1.0, 0.0), vector(0.5, float("nan"), 1.0)):
        strategy.on_epoch_end(mean)
    torch.testing.assert_close(weights(strategy, vector(1, 1, 1)), 3 * torch.softmax(vector(0.5, 0.5, 1.0) / 2, 0))


@given(losses_of_tasks)
def test_gls_is_m_times_the_gradient_of_the_geometric_mean(losses):
    strategy = bound("gls", len(losses))
    variable = losses.clone().requires_grad_()
    gradient, = torch.autograd.grad(torch.exp(variable.log().mean()), variable)
    torch.testing.assert_close(weights(strategy, losses), len(losses) * gradient, rtol=1e-9, atol=0)


def test_gls_survives_losses_whose_product_underflows_and_losses_of_zero():
    assert weights(bound("gls", 40), torch.full((40,), 1e-20, dtype=torch.float64)).tolist() == pytest.approx([1] * 40)
    assert weights(bound("gls"), vector(0.0, 4.0, 1.0)).tolist() == pytest.approx([0, 0.5, 2])
    assert weights(bound("gls"), vector(0.0, 0.0, 0.0)).tolist() == [1, 1, 1]


def test_rlw_draws_afresh_from_its_own_generator():
    strategy = bound("rlw")
    torch.manual_seed(0)
    draws = torch.stack([weights(strategy, vector(1, 1, 1)) for _ in range(2000)])
    assert len(set(draws[:, 0].tolist())) == 2000
    assert draws.mean(0).tolist() == pytest.approx([1, 1, 1], abs=0.06)
    torch.manual_seed(1)  # the global generator has no part in it
    assert torch.equal(torch.stack([weights(bound("rlw"), vector(1, 1, 1)) for _ in range(2)])[0], draws[0])
    normal = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(draws[0], 3 * torch.softmax(normal, 0))


def test_max_takes_the_largest_and_shares_ties():
    assert weights(bound("max"), vector(1.0, 3.0, 2.0)).tolist() == [0, 3, 0]
    assert weights(bound("max"), vector(3.0, 3.0, 2.0)).tolist() == [1.5, 1.5, 0]


@given(losses_of_tasks)
def test_smax_is_m_times_the_gradient_of_log_sum_exp(losses):
    variable = losses.clone().requires_grad_()
    gradient, = torch.autograd.grad(torch.logsumexp(variable, 0), variable)
    torch.testing.assert_close(weights(bound("smax", len(losses)), losses), len(losses) * gradient)


def test_cl_uses_the_losses_of_the_step_before():
    strategy = bound("cl", T=2.0)
    first, second = vector(1.0, 2.0, 0.5), vector(5.0, 5.0, 5.0)
    assert weights(strategy, first).argmax() == 2  # without a step before, the present losses
    torch.testing.assert_close(weights(strategy, second), 3 * torch.softmax(-first / 2, 0))
    torch.testing.assert_close(weights(strategy, first), vector(1, 1, 1))


@pytest.mark.parametrize("options, h", [
    ({}, lambda z: torch.exp(z / 50)), ({"T": 2}, lambda z: torch.exp(z / 2)),
    ({"h": "poly"}, lambda z: z + z**2 / 2),
    ({"h": "poly", "coefficients": (1, 0, 2, 3)}, lambda z: 1 + 2 * z**2 + 3 * z**3),
    ({"h": lambda z: z**4 + z**2}, lambda z: z**4 + z**2),
])
@pytest.mark.parametrize("normalise", [False, True])
def test_bmtl_weighs_by_the_slope_of_h(options, h, normalise):
    losses = vector(0.5, 3.0, 10.0)
    variable = losses.clone().requires_grad_()
    expected, = torch.autograd.grad(h(variable).sum(), variable)
    if normalise:
        mean = losses.mean().requires_grad_()
        expected = expected / torch.autograd.grad(h(mean), mean)[0]
    found = weights(bound("bmtl", normalise=normalise, **options), losses)
    torch.testing.assert_close(found, expected)
    assert found[0] < found[1] < found[2]  # a larger loss, a larger weight


@pytest.mark.parametrize("h, words", [
    (lambda z: z, "h is linear, which is equal weighting: use strategy 'ew'"),
    (lambda z: 3 * z + 1, "use strategy 'ew'"),
    (lambda z: torch.sqrt(z + 1), "h' is not strictly increasing"), (lambda z: z**2 - 5, "h is negative"),
    (lambda z: (z - 3) ** 2, "h is not strictly increasing|h' is negative"),
    (lambda z: torch.exp(20 * z), "not finite"),
    (lambda z: torch.ones_like(z), "h is not strictly increasing"),
])
def test_bmtl_checks_the_conditions_on_h(h, words):
    with pytest.raises(ValueError, match=words):
        make("bmtl", h=h)
    with pytest.raises(ValueError, match="use strategy 'ew'"):
        make("bmtl", h="poly", coefficients=(0, 1))


def test_bmtl_says_when_a_weight_is_beyond_float32():
    strategy = bound("bmtl", T=1)
    assert torch.isfinite(weights(strategy, vector(1.0, 88.0, 3.0)).float()).all()
    with pytest.raises(OverflowError, match="'t1'.*Use a larger T"):
        weights(strategy, vector(1.0, 89.0, 3.0))
    with pytest.raises(OverflowError, match="'t0'"):
        weights(strategy, vector(1e4, 1.0, 3.0))
    assert weights(bound("bmtl", T=1, normalise=True), vector(900.0, 900.0, 900.0)).tolist() == [1, 1, 1]


def test_stch_is_the_gradient_of_the_smooth_maximum_up_to_its_scale():
    losses = vector(0.5, 3.0, 1.0)
    for options in ({}, {"mu": 0.3}, {"preferences": [1, 2, 0.5], "ideal": [0.1, 0.2, 0.3]}):
        given = {key: vector(*values) for key, values in
                 (("weights", options.get("preferences")), ("reference", options.get("ideal"))) if values}
        variable = losses.clone().requires_grad_()
        value = scalarization.STCH(mu=options.get("mu", 1.0), **given)(variable)
        gradient, = torch.autograd.grad(value, variable)
        torch.testing.assert_close(weights(bound("stch", **options), losses), 3 * gradient / gradient.sum())
    with pytest.raises(ValueError, match="preferences has 2 numbers for 3 tasks"):
        bound("stch", preferences=[1, 2])


def test_famo_follows_an_independent_implementation():
    strategy, other = bound("famo", lr=0.1, decay=0.01), scalarization.FAMO(3, lr=0.1, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        losses = torch.rand(3, generator=generator, dtype=torch.float64) + 0.1
        variable = losses.clone().requires_grad_()
        gradient, = torch.autograd.grad(other(variable), variable)
        torch.testing.assert_close(weights(strategy, losses), 3 * gradient / gradient.sum(), rtol=1e-4, atol=1e-6)
        after = losses * torch.rand(3, generator=generator, dtype=torch.float64)
        strategy.after_step(after)
        other.update(after)


def test_famo_gives_more_weight_to_who_fell_less_and_survives_zero():
    strategy = bound("famo")
    assert strategy.looks_again
    weights(strategy, vector(1.0, 1.0, 1.0))
    strategy.after_step(vector(0.5, 0.9, 0.99))
    found = weights(strategy, vector(1.0, 1.0, 1.0))
    assert found[0] < found[1] < found[2]
    weights(strategy, vector(0.0, 1.0, 1.0))
    strategy.after_step(vector(0.0, 0.5, 0.5))
    assert torch.isfinite(weights(strategy, vector(0.0, 1.0, 1.0))).all()


# --- GradNorm --------------------------------------------------------------------------------------------------

def test_gradnorm_writes_the_gradient_of_its_objective():
    strategy = bound("gradnorm", alpha=0.7)
    first, losses, lengths = vector(1.0, 2.0, 4.0), vector(0.5, 1.8, 1.0), vector(3.0, 0.1, 1.0)
    weights(strategy, first, lengths=lengths)
    for parameter, value in zip(strategy.w, (0.5, 1.5, 1.0), strict=True):
        parameter.data.fill_(value)
    weights(strategy, losses, lengths=lengths)
    w = vector(0.5, 1.5, 1.0).requires_grad_()
    rate = losses / first / (losses / first).mean()
    target = ((w * lengths).mean() * rate**0.7).detach()
    gradient, = torch.autograd.grad((w * lengths - target).abs().sum(), w)
    torch.testing.assert_close(torch.stack([p.grad for p in strategy.w]), gradient)


def test_gradnorm_gives_a_slow_task_more_weight():
    strategy = bound("gradnorm", 2, lr=0.05)
    optimizer = torch.optim.Adam(strategy.param_groups())
    for step in range(40):
        found = weights(strategy, vector(0.9**step, 0.99**step))
        optimizer.step()
    assert found[1] > found[0] and found.sum().item() == pytest.approx(2)


def test_gradnorm_makes_gradients_equally_long_when_alpha_is_zero():
    strategy = bound("gradnorm", 2, alpha=0, lr=0.01)
    optimizer = torch.optim.SGD(strategy.param_groups())
    for _ in range(600):
        found = weights(strategy, vector(1.0, 1.0), lengths=vector(1.0, 3.0))
        optimizer.step()
    assert found.tolist() == pytest.approx([1.5, 0.5], abs=0.05)


def test_gradnorm_looks_at_the_last_shared_module():
    strategy = bound("gradnorm", 2)
    gram = torch.stack([torch.diag(vector(9.0, 1.0)), torch.diag(vector(1.0, 4.0))])
    strategy.weights(vector(1.0, 1.0), gram)
    assert [p.grad.item() for p in strategy.w] == [-1.0, 2.0]


def test_gradnorm_keeps_weights_positive_or_says_that_it_cannot():
    strategy = bound("gradnorm", 2)
    weights(strategy, vector(1.0, 1.0))
    strategy.w[0].data.fill_(-3.0)
    assert weights(strategy, vector(1.0, 1.0)).tolist() == [0, 2]
    strategy.w[1].data.fill_(-3.0)
    with pytest.raises(ArithmeticError, match="learning rate"):
        weights(strategy, vector(1.0, 1.0))


def test_gradnorm_without_shared_modules_or_first_losses_stays():
    strategy = bound("gradnorm", 2)
    found = strategy.weights(vector(0.0, 0.0), torch.zeros(0, 2, 2, dtype=torch.float64))
    assert found.shared.tolist() == [1, 1] and [p.grad.item() for p in strategy.w] == [0, 0]
    assert torch.isfinite(weights(strategy, vector(1.0, 0.0))).all()


# --- losses below zero, and of exactly zero -----------------------------------------------------------------------

NEED_POSITIVE = [("gls", {}), ("famo", {}), ("uw", {}), ("dwa", {}), ("gradnorm", {}), ("stch", {"warm_up": 1}),
                 ("bmtl", {"h": "poly"})]


@pytest.mark.parametrize("name, options", NEED_POSITIVE)
@pytest.mark.parametrize("losses", [(-2.0, 1.0, 1.0), (1.0, -1e-9, 1.0), (3.0, 1.0, -1e6), (0.0, 0.0, -0.5)])
def test_a_loss_below_zero_is_refused_by_name_and_value(name, options, losses):
    t = next(t for t, value in enumerate(losses) if value < 0)
    with pytest.raises(ValueError, match=f"'t{t}' is {losses[t]:.6g}".replace("+", "[+]")):
        weights(bound(name, **options), vector(*losses))
    here = torch.ones(3, dtype=torch.bool)
    here[t] = False
    absent = vector(*[value if value >= 0 else float("nan") for value in losses])
    assert torch.isfinite(weights(bound(name, **options), absent, here)).all()


@pytest.mark.parametrize("name", ["dwa", "stch"])
def test_an_epoch_mean_below_zero_is_refused(name):
    with pytest.raises(ValueError, match="'t1' is -3"):
        bound(name, **({"warm_up": 1} if name == "stch" else {})).on_epoch_end(vector(1.0, -3.0, float("nan")))


@pytest.mark.parametrize("normalise", ["loss", "loss+"])
def test_mgda_does_not_normalise_by_a_loss_below_zero(normalise):
    K = torch.eye(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="'t1' is -1"):
        bound("mgda", 2, normalise=normalise).weights(vector(1.0, -1.0), K)
    assert bound("mgda", 2).weights(vector(1.0, -1.0), K).shared.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("name", ["ew", "rlw", "max", "smax", "cl", "bmtl", "stch"])
@given(shift=st.floats(-20, 20))
def test_who_looks_at_differences_only_takes_any_loss(name, shift):
    losses = vector(0.5, 2.0, 1.0)
    found = [weights(bound(name), losses + by) for by in (0.0, shift)]
    torch.testing.assert_close(found[0] / found[0].sum(), found[1] / found[1].sum())  # bmtl's are factors of each other


def test_famo_takes_the_least_losses_that_can_be_had():
    below, above = bound("famo", 2, min_losses=[-3.0, -1.0]), bound("famo", 2)
    for _ in range(5):
        losses = vector(-2.0, 1.0)
        assert torch.equal(weights(below, losses), weights(above, losses - vector(-3.0, -1.0)))
        for strategy, moved in ((below, losses - 0.3), (above, losses - 0.3 - vector(-3.0, -1.0))):
            strategy.after_step(moved)
    assert torch.equal(below.xi, above.xi) and below.xi.any()
    with pytest.raises(ValueError, match="'t0' is -3.5, and its min_losses -3"):
        weights(below, vector(-3.5, 1.0))
    with pytest.raises(ValueError, match="'t1' is -1.5"):
        below.after_step(vector(-2.0, -1.5))
    with pytest.raises(ValueError, match="min_losses has 1 numbers for 2 tasks"):
        bound("famo", 2, min_losses=[0.0])


def test_a_perfect_task_starves_the_others_where_weights_are_inverse_losses():
    """It takes all but a hundred-millionth; in GLS, where it has no logarithm, nothing."""
    for strategy in (bound("famo"), bound("stch", warm_up=2)):
        found = weights(strategy, vector(0.0, 1.0, 1.0))
        assert found[0] > 3 - 1e-6 and found[1:].max() < 1e-7 and found.sum().item() == pytest.approx(3)
    assert weights(bound("gls"), vector(0.0, 1.0, 1.0)).tolist() == pytest.approx([0, 1, 1])
    assert weights(bound("gls"), vector(1e-12, 1.0, 1.0))[1:].max() < 1e-3  # nearly zero is another matter
    assert weights(bound("uw"), vector(0.0, 1.0, 1.0)).tolist() == [1, 1, 1]


def test_stch_after_a_warm_up_measures_losses_by_where_they_were():
    strategy = bound("stch", warm_up=2, mu=0.5, preferences=[1, 1, 1])
    losses = vector(0.5, 3.0, 10.0)
    inverse = 3 / losses / (1 / losses).sum()
    for mean in (vector(9.0, 9.0, 9.0), vector(1.0, 2.0, float("nan"))):
        torch.testing.assert_close(weights(strategy, losses), inverse)  # the gradient of sum log L
        strategy.on_epoch_end(mean)
    typical = vector(1.0, 2.0, 10.0)  # the last did not come: it counts as being where it was
    variable = losses.clone().requires_grad_()
    value = 0.5 * torch.logsumexp(torch.log(variable / typical) / 0.5, 0)
    gradient, = torch.autograd.grad(value, variable)
    torch.testing.assert_close(weights(strategy, losses), 3 * gradient / gradient.sum())
    strategy.on_epoch_end(vector(0.1, 0.1, 4.0))
    assert strategy.typical.tolist() == [1.0, 2.0, 4.0]
    for factor in (1e-4, 1e4):  # units do not matter, but for the factor 1 / L
        other = bound("stch", warm_up=1)
        one = bound("stch", warm_up=1)
        scale = vector(factor, 1.0, 1.0)
        one.on_epoch_end(vector(1.0, 2.0, 3.0))
        other.on_epoch_end(vector(1.0, 2.0, 3.0) * scale)
        first, second = weights(one, losses), weights(other, losses * scale)
        torch.testing.assert_close(first / first[1], second * scale / second[1])
    with pytest.raises(ValueError, match="warm_up is -1"):
        make("stch", warm_up=-1)
