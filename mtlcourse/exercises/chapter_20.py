"""Checks of notebook 20, task relatedness. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import exercise, expect


@exercise("20.1")
def same_point(answer: Callable) -> None:
    """P points that all may meet at, each with probability P^-m."""
    for m, P in ((3, 3), (2, 6), (1, 4)):
        expect(P ** (1 - m), answer(m, P), f"for m={m}, P={P}")


@exercise("20.2")
def largest_share(answer: Callable) -> None:
    """(1 - p)^n = 0.05."""
    for n in (1, 10, 100):
        expect(1 - 0.05 ** (1 / n), answer(n), f"for n={n}")


@exercise("20.3")
def self_conflict(answer: Callable) -> None:
    """Half of the pairs; no pair at all if all signs are equal, which has probability 2 / 2^m."""
    for m in (2, 3, 9):
        expect([0.5, 1 - 2.0 ** (1 - m)], answer(m), f"for m={m}")


@exercise("20.4")
def relatedness(answer: Callable) -> None:
    """Means under the normal distribution, here by a fine sum with its density as weights."""
    functions = {"sinc": lambda u: torch.sinc(u / torch.pi), "bent": lambda u: ((u**2 + 1).sqrt() - 1) / 2 + u,
                 "square": lambda u: u**2}
    for first, second, deviation in (("sinc", "square", 0.22), ("sinc", "square", 3.16), ("bent", "square", 1.12)):
        f, g = functions[first], functions[second]
        u = torch.linspace(-8, 8, 4001, dtype=torch.float64)
        covariance = torch.cov(torch.stack([f(deviation * u), g(deviation * u)]), aweights=torch.exp(-(u**2) / 2))
        expected = covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()
        expect(expected, answer(f, g, deviation), f"for {first}, {second} and deviation={deviation}", tolerance=0.02)
