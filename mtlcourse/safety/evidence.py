"""How much paired differences prove: p-values, the number of comparisons, and the seeds that would decide.

Imports `metrics`. All arrays have a last axis of metrics; differences have one of seeds before it.
"""

import numpy as np
from jaxtyping import Bool, Float64

from ..metrics import RESOLUTION

LEVEL = 0.05  # the chance of any false verdict in a report; with `per_comparison`, in one comparison
LEAST = 3  # seeds that differ, below which nothing is decided
POWER = 0.8  # the chance with which `seeds_needed` seeds decide
MANY = 100  # seeds: more are not counted


def differing(differences: Float64[np.ndarray, "*of seeds metrics"],
              size: Float64[np.ndarray, "*of metrics"]) -> Float64[np.ndarray, "*of metrics"]:
    """How many different differences there are: what is closer than the rounding of numbers of `size` is the same.

    NaN counts as one more.
    """
    ordered = np.sort(differences, axis=-2)
    return 1.0 + (~(np.diff(ordered, axis=-2) <= RESOLUTION * size[..., None, :])).sum(-2)


def p_values(differences: Float64[np.ndarray, "*of seeds metrics"],
             size: Float64[np.ndarray, "*of metrics"]) -> Float64[np.ndarray, "*of metrics"]:
    """Two-sided p-value of the t-test that the mean difference over seeds is zero: each comparison on its own.

    1, so never small, where a difference is NaN and where fewer than three of them differ: seeds that agree to the
    last digit (a coarse metric, the same run copied) tell nothing about the spread.

    size: how large the numbers are of which these are differences, which is what their rounding goes by.
    """
    from scipy.special import stdtr

    n = differences.shape[-2]
    enough = (differing(differences, size) >= LEAST) & ~np.isnan(differences).any(-2)
    if n < LEAST:
        return np.ones(enough.shape)
    spread = np.where(enough, differences.std(-2, ddof=1), 1.0)
    return np.where(enough, 2 * stdtr(n - 1, -np.abs(differences.mean(-2)) / spread * n**0.5), 1.0)


def family(p: Float64[np.ndarray, "methods metrics"]) -> Float64[np.ndarray, "methods metrics"]:
    """p-values adjusted to the number of comparisons, so that those below 5 % hold for the report as a whole.

    Within a method Holm's procedure: the smallest of k p-values times k, the next times k - 1, and so on, none below
    its predecessor. Then all times the number of methods (Bonferroni), or a report on many methods would have a
    chance of 5 % for each. Holds however comparisons depend on one another, as those with one baseline do.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    >>> family(np.array([[0.01, 0.04, 0.02]])).round(3).tolist()
    [[0.03, 0.04, 0.04]]
    """
    methods, k = p.shape
    order = p.argsort(axis=1)
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, 1) * np.arange(k, 0, -1), axis=1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, stepped, 1)
    return np.minimum(1.0, methods * adjusted)


def seeds_needed(mean: Float64[np.ndarray, "*of"], spread: Float64[np.ndarray, "*of"],
                 level: float) -> Float64[np.ndarray, "*of"]:
    """About how many seeds a t-test at `level` needs to decide in four of five cases, if mean and spread stay.

    The least n >= 3 with `(t_{n-1}(1 - level/2) + t_{n-1}(0.8)) spread / sqrt(n) <= |mean|`, t the quantiles of
    Student's distribution: the usual approximation. Infinite where more than 100 are needed, NaN where mean or
    spread are unknown.

    spread: standard deviation of the differences over seeds.

    >>> seeds_needed(np.array([1.0, 1.0, 0.01]), np.array([1.0, 0.5, 1.0]), 0.05).tolist()
    [10.0, 5.0, inf]
    """
    from scipy.special import stdtrit

    n = np.arange(LEAST, MANY + 1)
    reach = (stdtrit(n - 1, 1 - level / 2) + stdtrit(n - 1, POWER)) / np.sqrt(n)
    enough: Bool[np.ndarray, "*of n"] = reach * spread[..., None] <= np.abs(mean)[..., None]
    first = np.where(enough.any(-1), n[enough.argmax(-1)].astype(float), np.inf)
    return np.where(np.isnan(mean) | np.isnan(spread), np.nan, np.where(mean == 0, np.inf, first))
