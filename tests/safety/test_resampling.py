"""Resampling: weights that are what they say, sums that are those of the samples, and quantiles against brute force."""

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from mtlcourse.safety.resampling import at_least, totals, weights, without_excess
from mtlcourse.safety.scope import inflation


def all_weights(*arguments):
    return np.concatenate(list(weights(*arguments)))


def test_weights_are_counts_of_draws_with_replacement(monkeypatch):
    drawn = all_weights(50, 300, 0)
    assert drawn.shape == (300, 50) and (drawn.sum(1) == 50).all() and (drawn == drawn.round()).all()
    assert drawn.var() == pytest.approx(1, abs=0.1)
    monkeypatch.setattr("mtlcourse.safety.resampling.CHUNK", 120)
    assert (all_weights(50, 300, 0) == drawn).all()  # however many are in memory at once
    assert (all_weights(50, 300, 1) != drawn).any()


def test_groups_come_as_a_whole():
    one = np.array([[7], [7], [3], [5], [3]])
    drawn = all_weights(5, 100, 0, one)
    assert (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 2] == drawn[:, 4]).all()
    assert (drawn[:, [0, 2, 3]].sum(1) == 3).all()
    two = np.array([[1, 2], [2, 1], [1, 9], [9, 9]])
    drawn = all_weights(4, 100, 0, two)
    assert (drawn[:, 0] == drawn[:, 1]).all()  # 1 and 2 are the same groups in either column
    # Three groups, drawn three times: w1 w2 and w1 w9 and w9^2 of the same w1 + w2 + w9 = 3.
    w9 = np.sqrt(drawn[:, 3])
    known = w9 > 0
    w1 = drawn[known, 2] / w9[known]
    assert drawn[known, 0] == pytest.approx(w1 * (3 - w1 - w9[known]))


def test_sums_are_those_of_the_resampled_samples():
    random = np.random.default_rng(0)
    rows = [random.normal(size=(20, 2)), random.normal(size=(20, 5))]
    for found, array in zip(totals(rows, weights(20, 40)), rows, strict=True):
        for total, counts in zip(found, all_weights(20, 40, 0), strict=True):
            assert total == pytest.approx(np.repeat(array, counts.astype(int), axis=0).sum(0))


def test_the_bound_of_a_mean_is_about_the_normal_one():
    """And for few samples about that of Student, whose spread resampling alone understates."""
    random = np.random.default_rng(0)
    for n in (10, 400):
        values = random.normal(size=n)
        drawn = all_weights(n, 4000, 0) @ values / n
        expected = values.mean() - stdtrit(n - 1, 0.95) * values.std(ddof=1) / math.sqrt(n)
        error = values.std() / math.sqrt(n)
        assert at_least(drawn, values.mean(), n, 0.05) == pytest.approx(expected, abs=0.2 * error)
        assert at_least(drawn, values.mean(), n, 0.05) < values.mean() - 1.5 * error


def test_a_bias_is_moved_out():
    """Draws that lie above what was found, as those of a biased measure do, lower the bound by twice as much."""
    drawn = np.random.default_rng(0).normal(size=50_000)
    right, shifted = at_least(drawn, 0.0, 10**6, 0.05), at_least(drawn + 0.5, 0.0, 10**6, 0.05)
    assert right == pytest.approx(-1.645, abs=0.03) and shifted == pytest.approx(0.5 - 1.645 - 1.0, abs=0.06)


@pytest.mark.parametrize(("drawn", "found", "units"), [
    (np.full(500, 0.3), 0.3, 1), (np.array([0.1, math.nan, 0.3] * 100), 0.2, 50), (np.full(500, 0.3), 0.2, 50)])
def test_nothing_to_go_by_is_no_bound(drawn, found, units):
    assert at_least(drawn, found, units, 0.05) == -math.inf


def test_too_few_draws_for_a_small_delta_are_no_bound():
    drawn = np.random.default_rng(0).normal(size=200)
    assert at_least(drawn, 0.0, 1000, 1e-5) == -math.inf and math.isfinite(at_least(drawn, 0.0, 1000, 0.05))


def test_the_variance_of_two_sources_is_right():
    """Against the formula and the spread of means over many data sets: samples of two sources each, and own noise."""
    random = np.random.default_rng(0)
    means, found, plain, expected = [], [], [], []
    for seed in range(120):
        ids = random.integers(100, size=(400, 2))
        effect = random.normal(size=100) * 0.25
        values = effect[ids].sum(1) + random.normal(size=400)
        rows = [np.stack([values, np.ones(400)], 1)]
        pigeonhole, single = (totals(rows, weights(400, 200, seed, groups))[0] for groups in (ids, None))
        drawn, single = (sums[:, 0] / sums[:, 1] for sums in (pigeonhole, single))
        means.append(values.mean())
        found.append(without_excess(drawn, single).var())
        plain.append(single.var())
        expected.append(values.var() / 400 * inflation(values, ids) ** 2)
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.15)
    assert np.mean(found) == pytest.approx(np.var(means), rel=0.35)
    assert np.mean(plain) < 0.8 * np.mean(expected)
