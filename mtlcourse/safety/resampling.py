"""Bounds from resampling: for ratios, roots and unbounded values, and where samples are not independent of one another.

Imports nothing of the package. Only sums are resampled: a draw gives every sample a weight, and the measure of the draw
is that of the weighted sum of the samples' rows. These bounds are approximate, and blind to what the sample missed.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64, Int64

DRAWS = 2000
CHUNK = 2**23  # numbers: how many weights are in memory at once, 64 MiB


def weights(n: int, draws: int = DRAWS, seed: int = 0,
            groups: Int64[np.ndarray, "n ids"] | None = None) -> Iterator[Float64[np.ndarray, "some n"]]:
    """How often each of n samples is in each of `draws` draws, some draws at a time.

    Without groups n samples are drawn with replacement. With groups it is the groups that are drawn, as many as there
    are, with replacement (the cluster bootstrap): with one id a sample comes as often as its group, and with two, as
    often as the product of both (the pigeonhole bootstrap). Ids of both columns are of one kind: 7 on the left is the
    same group as 7 on the right. What samples owe to neither group is then counted three times, see `without_excess`.

    Sources: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979; Owen, The Pigeonhole Bootstrap, 2007.
    """
    random = np.random.default_rng(seed)
    ids = None if groups is None else np.unique(groups, return_inverse=True)[1].reshape(groups.shape)
    units = n if ids is None else int(ids.max()) + 1
    step = max(1, CHUNK // n)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        counts = np.empty((size, units))
        for row in counts:
            row[:] = np.bincount(random.integers(units, size=units), minlength=units)
        yield counts if ids is None else np.prod([counts[:, column] for column in ids.T], axis=0)


def without_excess(drawn: Float64[np.ndarray, "draws"],
                   by_samples: Float64[np.ndarray, "draws"]) -> Float64[np.ndarray, "draws"]:
    """Draws of the pigeonhole bootstrap, drawn together about their mean until their variance is right.

    With w_a w_b, both of variance 1 about 1, samples that share one id have covariance 1, as they should, but a sample
    with itself has 3 instead of 1. The two too many are twice the variance of resampled single samples; at least that
    itself remains.

    by_samples: the same measure with single samples resampled.
    Source: the excess is that of Owen, The Pigeonhole Bootstrap, 2007, theorem 3. Taking it off is ours, after Cameron,
    Gelbach and Miller, Robust Inference With Multiway Clustering, 2011, whose variance is what remains.
    """
    whole, own = drawn.var(), by_samples.var()
    if not whole > 0:
        return drawn
    return drawn.mean() + (drawn - drawn.mean()) * math.sqrt(max(whole - 2 * own, own) / whole)


def totals(rows: Sequence[Float64[np.ndarray, "n _"]], weighted: Iterator[Float64[np.ndarray, "some n"]]
           ) -> list[Float64[np.ndarray, "draws _"]]:
    """For each array of rows their weighted sums, one for each draw: one product of matrices for all."""
    widths = [array.shape[1] for array in rows]
    together = np.concatenate(rows, axis=1)
    sums = np.concatenate([counts @ together for counts in weighted])
    return np.split(sums, np.cumsum(widths)[:-1], axis=1)


def at_least(draws: Float64[np.ndarray, "draws"], found: float, units: int, delta: float) -> float:
    """An approximate lower bound, at confidence 1 - delta, for a difference from its values in resampled data.

    The quantile of `draws` at `delta' = Phi(-sqrt(units / (units - 1)) t)`, t being the quantile of Student's
    distribution with units - 1 degrees of freedom at 1 - delta, shifted by twice the bias of the median: at
    `Phi(2 z - Phi^-1(1 - delta'))` with `z = Phi^-1(share of draws below found)`, ties counted half. The first
    correction widens it for few samples, whose spread resampling understates; the second is BC, the bias correction of
    BCa. -inf where there are too few draws for such a quantile, and where a draw's value is not a number.

    found: the difference in the data themselves.  units: how many samples, or groups, were resampled.
    Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 14.3; Hesterberg, What Teachers
    Should Know About the Bootstrap, 2015, section 5.3 (expanded percentiles).

    >>> round(at_least(np.linspace(-1, 1, 2001), 0.0, 10**6, 0.05), 3)
    -0.901
    """
    from scipy.special import ndtr, ndtri, stdtrit

    share = ((draws < found).mean() + (draws <= found).mean()) / 2
    if units < 2 or np.isnan(draws).any() or not 0 < share < 1:
        return -math.inf
    z = ndtri(share)
    level = ndtr(2 * z - math.sqrt(units / (units - 1)) * stdtrit(units - 1, 1 - delta))
    position = math.floor(level * (len(draws) + 1)) - 1
    return float(np.sort(draws)[position]) if position >= 0 else -math.inf
