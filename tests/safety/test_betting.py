"""Bounds for a mean of values in a known interval: against the definition, at the boundary, and how close they come."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlcourse.safety.betting import SHARE, at_least, at_least_by_variance

BOTH = pytest.mark.parametrize("bound", [at_least, at_least_by_variance])
DELTA, PROBLEMS = 0.05, 1000
# At most this many of 1,000 wrong ones happen by chance in 999 of 1,000 cases, if each is wrong with probability 0.05.
WRONG = 72


def rejected(x, m, delta):
    """Whether the gambler of the docstring, in plain loops, ever wins 1 / delta of those who say that the mean is m."""
    capital, past = 1.0, []
    for value in x:
        means = [(0.5 + sum(past[:i + 1])) / (i + 2) for i in range(len(past))]
        spread = (0.25 + sum((v - mean) ** 2 for v, mean in zip(past, means, strict=True))) / (len(past) + 1)
        bet = min(math.sqrt(2 * math.log(1 / delta) / (len(x) * spread)), SHARE / m)
        capital *= 1 + bet * (value - m)
        past.append(value)
        if capital >= 1 / delta:
            return True
    return False


@given(seed=st.integers(0, 10**6), n=st.integers(1, 25), delta=st.sampled_from([0.01, 0.05, 0.2]))
@settings(max_examples=15)
def test_the_bound_is_where_the_gambler_stops_winning(seed, n, delta):
    values = np.random.default_rng(seed).beta(4, 1, n)
    x = np.random.default_rng(0).permutation(values)
    low = at_least(values, (0.0, 1.0), delta)
    assert low == 0 or rejected(x, low - 1e-9, delta)
    assert not rejected(x, low + 1e-6, delta)
    grid = [rejected(x, m, delta) for m in np.linspace(0.01, 0.99, 15)]
    assert grid == sorted(grid, reverse=True)  # what is rejected is an interval


def boundary(kind, n, random):
    """Differences in [-1, 1] of mean exactly 0."""
    if kind == "rare large losses":  # the sample of most problems has none
        small, rate = 0.01, 0.01 / 1.01
        return np.where(random.random(n) < rate, -1.0, small)
    if kind == "very rare large losses":
        small, rate = 1e-3, 1e-3 / 1.001
        return np.where(random.random(n) < rate, -1.0, small)
    if kind == "rare large gains":
        return -boundary("rare large losses", n, random)
    if kind == "right or wrong":
        return random.choice([-1.0, 0.0, 1.0], p=[0.05, 0.9, 0.05], size=n)
    if kind == "spread":
        return random.uniform(-1, 1, n)
    return (random.normal(size=n) * 0.05).clip(-1, 1)


@pytest.mark.parametrize(("bound", "kind"), [
    (at_least, "rare large losses"), (at_least, "very rare large losses"), (at_least, "rare large gains"),
    (at_least, "right or wrong"), (at_least, "spread"), (at_least_by_variance, "rare large losses"),
    (at_least_by_variance, "spread")])
def test_at_the_boundary_it_is_wrong_at_most_as_often_as_it_says(bound, kind):
    """Above the mean, 0, in at most delta of 1,000 problems: then equally good networks would be told apart."""
    random = np.random.default_rng(0)
    n = 60 if bound is at_least else 400
    wrong = sum(bound(boundary(kind, n, random), (-1.0, 1.0), DELTA) > 0 for _ in range(PROBLEMS))
    assert wrong <= WRONG


@pytest.mark.parametrize("kind", ["right or wrong", "spread", "narrow"])
def test_it_comes_close(kind):
    """No further from the mean than 1.7 times a bound for normal values, which holds for large n only; and it decides
    where the mean is three times that away."""
    random = np.random.default_rng(0)
    values = boundary(kind, 2000, random)
    normal = 1.645 * values.std() / math.sqrt(len(values))
    far = [values.mean() - at_least(values, (-1.0, 1.0), DELTA, seed) for seed in range(20)]
    assert max(far) < 1.7 * normal and np.mean(far) < 1.6 * normal
    assert at_least(values - values.mean() + 3 * normal, (-1.1, 1.1), DELTA) > 0
    assert values.mean() - at_least_by_variance(values, (-1.0, 1.0), DELTA) > 1.5 * normal


@BOTH
def test_equal_values_are_certain_of_nothing(bound):
    """No difference on n samples: about log(1 / delta) / n of the width may still be lost, and never nothing."""
    for n in (1, 10, 1000):
        low = bound(np.zeros(n), (-1.0, 1.0), DELTA)
        assert -1 <= low < -math.log(1 / DELTA) / n * (1 if n > 10 else 0)
    assert at_least(np.zeros(1000), (-1.0, 1.0), DELTA) > -5 / 1000


@BOTH
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-6, 1.0, 1e6]), shift=st.floats(-3, 3))
@settings(max_examples=10)
def test_units_do_not_matter_and_more_confidence_costs(bound, seed, scale, shift):
    values = np.random.default_rng(seed).uniform(-0.3, 1, 60)
    low = bound(values, (-1.0, 1.0), DELTA)
    moved = bound((values + shift) * scale, ((shift - 1) * scale, (shift + 1) * scale), DELTA)
    assert moved == pytest.approx((low + shift) * scale, abs=1e-7 * scale)
    lows = [bound(values, (-1.0, 1.0), delta) for delta in (0.001, 0.01, 0.1)]
    assert lows == sorted(lows) and lows[-1] < values.mean()
    assert bound(values, (-2.0, 2.0), DELTA) <= low + 1e-9  # a wider interval allows for more
    assert bound(np.minimum(values + 0.1, 1.0), (-1.0, 1.0), DELTA) >= low - 1e-9 or bound is at_least_by_variance


def test_the_order_of_the_samples_is_drawn_and_stays():
    values = np.repeat([-1.0, 1.0, 0.0], [20, 40, 140])
    assert at_least(values, (-1.0, 1.0), DELTA) == at_least(values, (-1.0, 1.0), DELTA)
    assert at_least(values, (-1.0, 1.0), DELTA, 1) != at_least(values, (-1.0, 1.0), DELTA, 2)


@BOTH
@pytest.mark.parametrize(("values", "interval", "words"), [
    (np.array([0.5, 1.1]), (0.0, 1.0), "do not lie in"),
    (np.array([0.5, np.nan]), (0.0, 1.0), "do not lie in"),
    (np.array([]), (0.0, 1.0), "at least one value"),
    (np.array([0.5]), (0.0, math.inf), "finite interval"),
    (np.array([0.5]), (0.5, 0.5), "finite interval"),
], ids=str)
def test_what_has_no_bound_is_refused(bound, values, interval, words):
    with pytest.raises(ValueError, match=words):
        bound(values, interval, DELTA)
