"""What holds for all strategies that other libraries had first: scale, order, one task, absent tasks, resuming."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mtlcourse import models, strategies
from mtlcourse.strategies import Chain, Engine, NonFiniteGradient, combine, make
from tests.strategies.nets import model_and_batch
from tests.strategies.vectors import (
    bound,
    close,
    gradients,
    longest,
    random_gradients,
    spread,
    stationary_gradients,
    step,
    vector,
)

LOSS = ("fixed", "imtl-l", "cosmos", "pbi")
GRAM = ("config", "dualproj", "sdmgrad", "pcd", "krum", "cr-mogm", "rotograd-scale")
TRACKING = ("moco", "db-mtl", "excess-mtl")
ROWS = ("trimmed-mean", *TRACKING)
EVERY = (*LOSS, *GRAM, "rgw", *ROWS)
# On identical gradients g and equal losses of one: the direction as a multiple of m g, in the first step.
ON_IDENTICAL = {"pcd": lambda m: 1 / m, "moco": lambda m: 0.5, "db-mtl": lambda m: 0.1}
few = settings(max_examples=25)


def test_the_list_of_what_is_tested_here_is_that_of_the_registry():
    assert sorted(EVERY) == sorted(strategies.names()[24:])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_identical_gradients_give_equal_weightings_direction(name, scale, m):
    """One task too, whose gradient nothing can turn."""
    row = scale * gradients(1, seed=3)
    rows = row.repeat(m, 1)
    expected = ON_IDENTICAL.get(name, lambda m: 1.0)(m) * rows.sum(0)
    strategy = bound(name, m)
    for _ in range(3):
        d, _ = step(strategy, rows)
        assert torch.cosine_similarity(d, row[0], dim=0).item() == pytest.approx(1)
        if name not in TRACKING[:2] or strategy.steps[0] == 1:
            close(d, expected, longest(rows) * m)


@few
@given(random_gradients(uneven=1), st.randoms(use_true_random=False))
def test_tasks_may_come_in_any_order(rows, random):
    assume(spread(rows))
    order = list(range(len(rows)))
    random.shuffle(order)
    losses = torch.linspace(0.5, 2, len(rows), dtype=torch.float64)
    for name in EVERY:
        if name == "rgw":
            continue  # random by design
        preferred = [{"preferences": given.tolist()} if name == "pbi" else {} for given in (losses, losses[order])]
        one, other = (bound(name, len(rows), **options) for options in preferred)
        if name == "pcd":
            other.first = order.index(0)
        for factor in (1.0, 0.5):
            now = rows * factor + rows.roll(1, 1)
            assume(spread(now))
            found, mixed = step(one, now, losses)[0], step(other, now[order], losses[order])[0]
            close(found, mixed, max(found.norm().item(), longest(now)), rtol=1e-4)


@few
@given(random_gradients(uneven=1), st.floats(-6, 6))
def test_directions_follow_the_scale_of_the_gradients(rows, decades):
    """All but MoCo as it is printed, whose step of the weights is one of squared lengths."""
    assume(spread(rows))
    factor = 10.0**decades
    losses = torch.linspace(0.5, 2, len(rows), dtype=torch.float64)
    for name in EVERY:
        one, other = bound(name, len(rows)), bound(name, len(rows))
        if name == "moco":
            one, other = (bound("moco", len(rows), normalise="loss") for _ in range(2))
        for turn in (1.0, 2.0):
            now = rows + turn * rows.roll(1, 1)
            assume(spread(now))
            found, expected = step(one, factor * now, losses)[0], step(other, now, losses)[0]
            if name != "moco":
                expected = factor * expected
            close(found, expected, max(expected.norm().item(), 1e-12 * factor), rtol=1e-5)


def test_moco_as_printed_goes_to_a_corner_for_large_gradients():
    rows = gradients(3, seed=4)
    assert (bound("moco", 3).w == 1 / 3).all()
    large = bound("moco", 3)
    combine(large, 1e6 * rows)
    assert (large.w > 0).sum() == 1


@few
@given(random_gradients(uneven=3))
def test_weights_sum_to_m_where_that_is_the_scale(rows):
    assume((rows.norm(dim=1) > 0).all())
    for name in ("sdmgrad", "krum", "cr-mogm", "rgw", "cosmos", "pbi", "imtl-l"):
        strategy = bound(name, len(rows))
        found = strategy.weights(torch.full((len(rows),), 0.7).double(), rows @ rows.T).shared
        assert found.sum().item() == pytest.approx(len(rows)), name


@pytest.mark.parametrize("name", EVERY)
def test_degenerate_gradients_are_no_trouble(name):
    rows = gradients(3, seed=2)
    for degenerate in (torch.cat([rows, rows[:1]]), torch.cat([rows, 0 * rows[:1]]), 0 * rows, rows[:1], 0 * rows[:1],
                       torch.stack([rows[0], -3 * rows[0]]), stationary_gradients(4, seed=1), rows[:, :0]):
        strategy = bound(name, len(degenerate))
        for _ in range(2):
            assert torch.isfinite(step(strategy, degenerate)[0]).all()


@pytest.mark.parametrize("name", ["config", "dualproj"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_stationary_point_gives_zero(name, scale):
    for rows in (stationary_gradients(2, scale), scale * torch.stack([gradients(1)[0], -3 * gradients(1)[0]])):
        assert combine(name, rows).norm() <= 1e-6 * longest(rows)


@pytest.mark.parametrize("name", EVERY)
def test_absent_tasks_are_left_out_and_what_is_remembered_of_them_stays(name):
    rows, losses, strategy = gradients(4, seed=5), vector(0.5, 2.0, 1.0, 3.0), bound(name, 4)
    present = torch.tensor([True, False, True, True])
    fresh, among = bound(name, 4), bound(name, 3)
    if name != "rgw":
        found, expected = step(fresh, rows, losses, present), step(among, rows[present], losses[present])
        torch.testing.assert_close(found[0], expected[0])
        assert found[1][1] == 0
        torch.testing.assert_close(found[1][present], expected[1])
    step(strategy, rows, losses)
    before = copy.deepcopy(strategy.state_dict())
    assert step(strategy, 2 * rows, 2 * losses, present)[1][1] == 0
    for key, value in strategy.state_dict().items():
        last = key.split(".")[-1]
        assert last.isdigit() or torch.equal(value[1], before[key][1]), key
        assert not last == "1" or torch.equal(value, before[key])


@pytest.mark.parametrize("name", EVERY)
def test_a_resumed_strategy_goes_on_to_the_bit(name):
    steps = [(gradients(3, n=7, seed=k), torch.rand(3, generator=torch.Generator().manual_seed(k)).double() + 0.1)
             for k in range(6)]
    one = bound(name, 3)
    for now in steps[:3]:
        step(one, *now)
    other = bound(name, 3)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    other.generator.set_state(one.generator.get_state())
    for now in steps[3:]:
        for found, expected in zip(step(other, *now), step(one, *now), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("name", GRAM)
def test_gradients_that_are_no_numbers_are_named(name):
    K = torch.eye(3, dtype=torch.float64)
    K[1, 1] = float("nan")
    with pytest.raises(NonFiniteGradient, match="'right'"):
        make(name).bind(["left", "right", "middle"]).weights(torch.ones(3).double(), K)


@pytest.mark.parametrize("name", TRACKING)
def test_what_follows_parameters_says_so_when_their_number_changes(name):
    strategy = bound(name, 2)
    step(strategy, gradients(2, n=6))
    with pytest.raises(ValueError, match="of 6 entries, and this step's have 5.*the same in each step"):
        step(strategy, gradients(2, n=5))


@pytest.mark.parametrize("loss, gradient", [(one, other) for one in LOSS for other in (*GRAM, "rgw", *ROWS)])
def test_each_loss_strategy_goes_with_each_gradient_strategy(loss, gradient):
    model, losses = model_and_batch(models.HPS)
    options = {"fixed": {"kind": 2.0}, "pbi": {"theta": 0.1}}.get(loss, {})  # no weight below zero
    engine = Engine(model, Chain(make(loss, **options), make(gradient)))
    for _ in range(2):
        engine.backward(losses())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_published_sentence_on_imtl_holds_by_chain():
    """IMTL is both halves: projections of the scaled losses' gradients are equal."""
    rows, losses = gradients(3, seed=6), vector(0.5, 2.0, 1.0)
    strategy = Chain(make("imtl-l"), make("imtl-g")).bind(["a", "b", "c"])
    for scale, value in zip(strategy.loss.log_scales, (0.3, -0.2, 0.0), strict=True):
        scale.data.fill_(value)
    d = combine(strategy, rows, losses)
    projections = rows @ d / rows.norm(dim=1)
    close(projections, projections.mean().expand(3), longest(rows))
