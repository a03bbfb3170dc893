"""Checks of notebook 20, task relatedness. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import exercise, expect


@exercise("20.1",
          "With which probability does one task pass module q? Then: nobody does, or exactly one.",
          "A task passes with s = (P - q)/P. Add (1 - s)^m and the probability that exactly one of m passes.")
def nobody_shares(answer: Callable) -> None:
    """At most one of m tasks goes past branch point q, each with probability (P - q) / P."""
    for m, P, q in ((3, 3, 1), (3, 3, 2), (2, 6, 4)):
        past = (P - q) / P
        expect((1 - past) ** m + m * past * (1 - past) ** (m - 1), answer(m, P, q), f"for m={m}, P={P}, q={q}")


@exercise("20.2",
          "Write down the probability of 'never in n seeds' for an outcome of probability p.",
          "Set (1 - p)^n equal to 0.05 and solve for p: an n-th root.")
def largest_share(answer: Callable) -> None:
    """(1 - p)^n = 0.05."""
    for n in (1, 10, 100):
        expect(1 - 0.05 ** (1 / n), answer(n), f"for n={n}")


@exercise("20.3",
          "Name the direction that comes first, going round. Where must all the others be?",
          "Each of the m - 1 others lies in the quarter behind the first with probability 1/4, and any of m may be "
          "first.")
def no_conflict(answer: Callable) -> None:
    """All within a quarter of the circle: any of m directions is the first, the others lie in the quarter behind it."""
    for m in (2, 3, 9):
        expect(m / 4 ** (m - 1), answer(m), f"for m={m}")


@exercise("20.4",
          "u has to be drawn from the normal distribution with this deviation; the correlation stays as it is.",
          "A million draws of torch.randn in double precision, with a generator of its own, times deviation, are "
          "enough.")
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
