"""p-values, families and sample sizes against independent ones, and simulations in which the truth is known."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtlcourse import safety
from mtlcourse.safety import evidence

RANDOM = np.random.default_rng


def decided(differences: np.ndarray) -> np.ndarray:
    """What `report` decides: the sign of the mean where the family-level p-value is below 5 %, else 0."""
    p = evidence.family(evidence.p_values(differences, np.ones(differences.shape[::2])))
    return np.where(p < evidence.LEVEL, np.sign(differences.mean(1)), 0)


def test_p_values_are_those_of_the_paired_t_test():
    differences = RANDOM(0).normal(0.3, 1.0, (2, 5, 4))
    expected = scipy.stats.ttest_1samp(differences, 0.0, axis=1).pvalue
    assert evidence.p_values(differences, np.ones((2, 4))) == pytest.approx(expected)


@pytest.mark.parametrize("column", [
    [0.1, 0.1, 0.1, 0.1],  # equal
    [0.1, 0.9 - 0.8, 0.8 - 0.7, 0.5 - 0.4],  # equal but for rounding, in three ways
    [0.1, 0.1, 0.1, 0.12],  # two that differ
    [0.1, 0.11, math.nan, 0.12],
])
def test_too_few_seeds_that_differ_prove_nothing(column: list[float]):
    assert evidence.p_values(np.array(column)[None, :, None], np.ones((1, 1))).item() == 1


def test_two_seeds_prove_nothing_and_three_may():
    differences = np.array([0.1, 0.1001, 0.1002])[None, :, None]
    assert evidence.p_values(differences[:, :2], np.ones((1, 1))).item() == 1
    assert evidence.p_values(differences[:, :1], np.ones((1, 1))).item() == 1
    assert evidence.p_values(differences, np.ones((1, 1))).item() < 1e-5


@given(arrays(np.float64, (2, 5), elements=st.floats(0, 1)))
def test_the_family_is_holms_procedure_shared_among_methods(p: np.ndarray):
    adjusted = evidence.family(p)
    assert (adjusted >= np.minimum(1, 2 * p)).all() and (adjusted <= 1).all()
    for own, found in zip(p, adjusted, strict=True):
        rejected = set()  # step by step, at 5 % / 2 methods
        for step, j in enumerate(np.argsort(own, kind="stable")):
            if not own[j] < evidence.LEVEL / 2 / (5 - step):
                break
            rejected.add(int(j))
        near = np.isclose(found, evidence.LEVEL, rtol=1e-9)
        assert {j for j in np.flatnonzero(found < evidence.LEVEL) if not near[j]} <= rejected
        assert rejected - set(np.flatnonzero(near)) <= set(np.flatnonzero(found < evidence.LEVEL))
    assert evidence.family(np.array([[0.03]])).item() == 0.03  # one comparison is a family of its own


@pytest.mark.parametrize("shape, shared", [((1, 27), 0.0), ((3, 9), 0.0), ((3, 9), 1.0), ((9, 3), 0.0), ((27, 1), 0.0)])
def test_without_differences_a_report_hardly_ever_accuses(shape, shared: float):
    """27 null comparisons, five seeds: some false "worse" in at most 5 % of 1,000 reports, however they are grouped.

    shared: the baseline's own spread, which all methods' differences have in common.
    """
    random, wrong, single = RANDOM(1), 0, 0
    for _ in range(1000):
        differences = random.normal(size=(shape[0], 5, shape[1])) - shared * random.normal(size=(5, shape[1]))
        wrong += (decided(differences) < 0).any()
        p = evidence.p_values(differences, np.ones(shape))
        single += ((p < evidence.LEVEL) & (differences.mean(1) < 0)).any()
    assert wrong / 1000 <= 0.05
    assert single / 1000 > 0.35  # which is what verdicts one by one would do


def test_true_differences_are_found_and_the_others_still_not_accused():
    random, wrong, found = RANDOM(2), 0, 0
    truth = np.r_[np.full(4, -6.0), np.zeros(5)]
    for _ in range(1000):
        signs = decided(truth + random.normal(size=(1, 5, 9)))[0]
        wrong += (signs[4:] < 0).any() or (signs > 0)[:4].any()
        found += (signs[:4] < 0).mean()
    assert wrong / 1000 <= 0.05 and found / 1000 > 0.9


def test_whole_reports_decide_as_the_simulation_does():
    random, wrong = RANDOM(3), 0
    index = pd.MultiIndex.from_product([["stl", "a", "b", "c"], range(5), [f"m{j}" for j in range(9)]])
    for _ in range(10):
        values = random.normal(size=(4, 5, 9))
        table = pd.DataFrame({"value": values.ravel()}, index).rename_axis(["method", "seed", "metric"]).reset_index()
        report = safety.report(table.assign(task="t", higher_is_better=True))
        signs = decided(values[1:] - values[:1]).ravel()
        assert list(report.frame["verdict"]) == [{0: "undecided", 1: "better", -1: "worse"}[sign] for sign in signs]
        wrong += (signs < 0).any()
        one_by_one = safety.report(table.assign(task="t", higher_is_better=True), per_comparison=True).frame
        outside = (one_by_one["low"] > 0) | (one_by_one["high"] < 0)
        assert ((one_by_one["verdict"] != "undecided") == outside).all()
    assert wrong <= 2


def test_seeds_do_not_cover_the_test_sample_as_the_report_says():
    """Two methods, equally good on all images there are, err on other ones: a verdict on 50 of them is about these."""
    def rate(seeds: int, spread: float = 1.0) -> float:
        random, reports = RANDOM(4), 3000
        logits = 1.4 + 1.5 * random.normal(size=(reports, 1, 1, 50)) + spread * random.normal(size=(reports, 2, 1, 50))
        right = random.random((reports, 2, seeds, 50)) < 1 / (1 + np.exp(-logits))
        accuracy = right.mean(-1)
        p = scipy.stats.ttest_1samp(accuracy[:, 0] - accuracy[:, 1], 0.0, axis=1).pvalue
        return float((p < 0.05).mean())

    assert 0.09 < rate(5) < 0.15 and rate(10) > rate(5) and 0.03 < rate(5, spread=0.0) < 0.08


@pytest.mark.parametrize("effect, level", [(0.5, 0.05), (1.0, 0.05), (1.0, 0.05 / 27), (2.0, 0.01)])
def test_about_so_many_seeds_decide_four_times_in_five(effect: float, level: float):
    n = int(evidence.seeds_needed(np.array([effect]), np.array([1.0]), level).item())
    means = RANDOM(5).normal(effect, 1.0, (4000, n))
    power = (scipy.stats.ttest_1samp(means, 0.0, axis=1).pvalue < level).mean()
    assert 0.74 < power < 0.92


def test_seeds_are_not_counted_beyond_a_hundred_nor_without_a_spread():
    needed = evidence.seeds_needed(np.array([0.0, 1e-3, math.nan, 1.0]), np.array([1.0, 1.0, 1.0, math.nan]), 0.05)
    assert needed[:2].tolist() == [math.inf, math.inf] and np.isnan(needed[2:]).all()
