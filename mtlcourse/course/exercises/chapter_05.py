"""Checks of notebook 05, what balancing by difficulty proves. Imports `exercises`."""

import math
from collections.abc import Callable

from . import exercise, expect


@exercise("05.1")
def strength(answer: Callable) -> None:
    """The curvature is smallest at zero, where only the square has any."""
    for coefficients in ([0.0, 1.0, 0.5], [1.0, 0.0, 0.0, 2.0], [0.0, 1.0], [2.0], [0.0, 0.0, 3.0, 1.0, 4.0]):
        expect(2 * sum(coefficients[2:3]), answer(list(coefficients)), f"for the coefficients {coefficients}")


@exercise("05.2")
def shared_confidence(answer: Callable) -> None:
    """n independent inputs, each moving the mean over all tasks."""
    for m, n, T, delta in ((4, 100, 50.0, 0.05), (9, 10, 2.0, 0.1), (1, 7, 1.0, 0.5)):
        change = 2 * math.exp(1 / T) * math.expm1(1 / (n * T))
        expect(math.sqrt(change**2 * n * math.log(1 / delta) / 2), answer(m, n, T, delta),
               f"for m={m}, n={n}, T={T} and delta={delta}")


@exercise("05.3")
def one_task(answer: Callable) -> None:
    """All other tasks may be at zero, where the transform is one."""
    for b, m, T in ((1.01, 4, 50.0), (1.5, 2, 1.0), (1.02, 9, 10.0)):
        expect(T * math.log(m * b - (m - 1)), answer(b, m, T), f"for b={b}, m={m} and T={T}")
