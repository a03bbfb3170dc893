"""The exact bound for paired rights and wrongs: against sums over everything that could have happened."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from mtlcourse.safety.disagreements import _tail, at_least

DELTAS = (0.01, 0.05, 0.25)


def outcomes(n):
    return [(gained, lost) for gained in range(n + 1) for lost in range(n + 1 - gained)]


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("n", [1, 4, 15])
def test_it_is_wrong_with_probability_delta_at_most(n, delta):
    """Exactly: the probabilities of all outcomes whose bound lies above the true difference, for many truths."""
    lows = np.array([at_least(gained, lost, n, delta) for gained, lost in outcomes(n)])
    every = np.array(outcomes(n))
    worst = 0.0
    for theta in np.linspace(0, 1, 21):
        for p in np.linspace(0, 1, 41):
            differing = every.sum(1)
            chance = binom.pmf(differing, n, theta) * binom.pmf(every[:, 0], differing, p)
            wrong = chance[lows > theta * (2 * p - 1) + 1e-9].sum()
            worst = max(worst, wrong)
    assert worst <= delta + 1e-12
    assert n < 15 or worst > delta / 4  # and not by saying nothing


@pytest.mark.parametrize("n", [40, 4000])
def test_above_zero_exactly_where_the_binomial_test_rejects(n):
    for delta in DELTAS:
        for differing in (1, 2, 5, 8, 13, 30, 40):
            for gained in range(differing + 1):
                p = binomtest(gained, differing, alternative="greater").pvalue
                if abs(p - delta) > 1e-9:
                    assert (at_least(gained, differing - gained, n, delta) > -1e-9) == (p < delta)


@pytest.mark.parametrize("delta", DELTAS)
def test_what_is_rejected_is_an_interval(delta):
    """So that bisection finds its end. From the rejection rule itself, for all outcomes of twelve samples."""
    grid = np.linspace(-1, 1, 101)
    for gained, lost in outcomes(12):
        rejected = [_tail(gained, lost, 12, m, delta * abs(m)) <= delta * (1 - abs(m)) for m in grid]
        assert rejected == sorted(rejected, reverse=True)
        low = at_least(gained, lost, 12, delta)
        assert grid[sum(rejected) - 1] - 1e-9 <= low <= grid[sum(rejected)] + 1e-9


def test_more_gains_raise_it_and_more_confidence_lowers_it():
    """But for the first few gains, which also tell that the networks disagree more often."""
    lows = np.array([[at_least(gained, lost, 300, 0.05) for gained in range(5, 95, 10)]
                     for lost in range(0, 100, 10)])
    assert (np.diff(lows, axis=1) > 0).all() and (np.diff(lows, axis=0) < 0).all()
    assert at_least(30, 10, 300, 0.01) < at_least(30, 10, 300, 0.05) < (30 - 10) / 300


def test_without_a_disagreement_something_may_still_be_lost():
    for n in (1, 100, 10_000):
        assert -1 <= at_least(0, 0, n, 0.05) < -3 / n * (n > 3)
    assert at_least(0, 0, 10_000, 0.05) > -11 / 10_000


def test_it_comes_close_to_the_normal_bound():
    n, gained, lost = 10_000, 320, 280
    normal = 1.645 * np.sqrt((gained + lost - (gained - lost) ** 2 / n) / n**2)
    assert (gained - lost) / n - at_least(gained, lost, n, 0.05) < 1.15 * normal


@pytest.mark.parametrize("arguments", [(3, 3, 5, 0.05), (-1, 3, 5, 0.05), (0, 0, 0, 0.05), (1, 1, 5, 0.0),
                                       (1, 1, 5, 0.3)])
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match="counts that add up"):
        at_least(*arguments)
