"""Confidence bounds for a mean of which only the interval of the values is known: any distribution, any n.

Imports nothing of the package. Values are independent draws from one distribution, and nothing else is assumed: rare
large losses that the sample missed are allowed for.
"""

import math

import numpy as np
from jaxtyping import Float64

SHARE = 0.75  # of what may be lost in one round at most, so that no single value ruins the gambler


def at_least(values: Float64[np.ndarray, "n"], interval: tuple[float, float], delta: float, seed: int = 0) -> float:
    """A lower bound, at confidence 1 - delta, for the mean of the distribution that `values` were drawn from.

    For every candidate m a gambler starts with 1 and bets on each value in turn that the mean is larger:

        K_t(m) = prod_{i <= t} (1 + lambda_i(m) (x_i - m)),    lambda_i(m) = min(lambda_i, SHARE / m),
        lambda_i = sqrt(2 log(1 / delta) / (n s^2_{i-1})),

    x being the values scaled to [0, 1] and s^2_{i-1} the variance of those before x_i, which a bet may look at. If the
    mean is at most m, no bet has a positive expectation, and K reaches 1 / delta with probability at most delta
    (Ville's inequality). Every m at which it was reached is rejected. K falls as m grows, for every order and every
    lambda, so the rejected m are an interval, and its end is the bound.

    Values come in an order drawn from `seed`, since what is alike may stand together. The bound depends on the order:
    typically its distance from the mean is 1.3 times that of a normal bound, and up to a fifth more or less in another
    order. So the order is fixed beforehand. The best of several orders is no bound, and the mean of their bounds is
    none; the mean of their last K is as good as one last K, which is never better than the largest K.
    interval: smallest and largest possible value.
    Raises ValueError for values outside it, and for none.
    Source: Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting, 2024 (predictable plug-in
    bets for a fixed n). Departure: one-sided, so log(1 / delta) instead of log(2 / delta).

    >>> values = np.repeat([0.0, 1.0], [200, 800])
    >>> 0.7 < at_least(values, (0.0, 1.0), 0.05) < 0.8
    True
    """
    from scipy.optimize import brentq

    x = np.random.default_rng(seed).permutation(_scaled(values, interval))
    target = math.log(1 / delta)
    bets = np.sqrt(2 * target / (len(x) * _variances_before(x)))

    def won(m: float) -> float:
        return np.log1p(np.minimum(bets, SHARE / m) * (x - m)).cumsum().max() - target

    smallest, largest, close = 1e-12, 1 - 1e-12, 1e-10
    if won(smallest) < 0:
        return interval[0]
    m = brentq(won, smallest, largest, xtol=close)
    while won(m) < 0:  # the root is known up to `close`; what is certain lies below it
        m -= close
    return interval[0] + m * (interval[1] - interval[0])


def at_least_by_variance(values: Float64[np.ndarray, "n"], interval: tuple[float, float], delta: float) -> float:
    """The same from the empirical Bernstein inequality: simple, in closed form, and nearly twice as far away.

    `mean - sqrt(2 s^2 log(2 / delta) / n) - 7 (b - a) log(2 / delta) / (3 (n - 1))`, with s^2 the sample variance and
    [a, b] the interval; at least a.

    Source: Maurer and Pontil, Empirical Bernstein Bounds and Sample-Variance Penalization, 2009, theorem 4.

    >>> values = np.repeat([0.0, 1.0], [200, 800])
    >>> 0.7 < at_least_by_variance(values, (0.0, 1.0), 0.05) < at_least(values, (0.0, 1.0), 0.05)
    True
    """
    x, n = _scaled(values, interval), len(values)
    if n < 2:
        return interval[0]
    log = math.log(2 / delta)
    bound = x.mean() - math.sqrt(2 * x.var(ddof=1) * log / n) - 7 * log / (3 * (n - 1))
    return interval[0] + max(float(bound), 0.0) * (interval[1] - interval[0])


def _scaled(values: Float64[np.ndarray, "n"], interval: tuple[float, float]) -> Float64[np.ndarray, "n"]:
    """The values as parts of the way from one end of the interval to the other, without what rounding puts outside."""
    low, high = interval
    if not (len(values) and math.isfinite(high - low) and high > low):
        raise ValueError(f"{len(values)} values in [{low}, {high}]: a bound needs at least one value, and a finite "
                         "interval.")
    x = (values - low) / (high - low)
    if not (x.min() >= -1e-9 and x.max() <= 1 + 1e-9):
        raise ValueError(f"Values from {values.min():.6g} to {values.max():.6g} do not lie in [{low:.6g}, {high:.6g}], "
                         "on which the bound rests.")
    return x.clip(0, 1)


def _variances_before(x: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """The variance, about the means so far, of the values before each one, and of an imagined 1/4 at first."""
    count = np.arange(1, len(x) + 1)
    means = (0.5 + x.cumsum()) / (count + 1)
    squares = np.concatenate([[0.0], ((x - means) ** 2)[:-1]]).cumsum()
    return (1 / 4 + squares) / count
