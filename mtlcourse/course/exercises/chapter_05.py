"""Checks of notebook 05, what balancing by difficulty proves. Imports `exercises`."""

import math
from collections.abc import Callable

from . import exercise, expect


@exercise("05.1",
          "The curvature is a sum of terms that are not negative. At which z is it smallest?",
          "At z = 0 all terms of the curvature vanish but that of the square. A list may be too short to have one.")
def strength(answer: Callable) -> None:
    """The curvature is smallest at zero, where only the square has any."""
    for coefficients in ([0.0, 1.0, 0.5], [1.0, 0.0, 0.0, 2.0], [0.0, 1.0], [2.0], [0.0, 0.0, 3.0, 1.0, 4.0]):
        expect(2 * sum(coefficients[2:3]), answer(list(coefficients)), f"for the coefficients {coefficients}")


@exercise("05.2",
          "Count anew: how many independent things are there, and how far does one of them move the quantity?",
          "There are n inputs, and each moves all m losses: m times the printed eta. So N = n, and the m before the "
          "exponentials cancels.")
def shared_confidence(answer: Callable) -> None:
    """n independent inputs, each moving the mean over all tasks."""
    for m, n, T, delta in ((4, 100, 50.0, 0.05), (9, 10, 2.0, 0.1), (1, 7, 1.0, 0.5)):
        change = 2 * math.exp(1 / T) * math.expm1(1 / (n * T))
        expect(math.sqrt(change**2 * n * math.log(1 / delta) / 2), answer(m, n, T, delta),
               f"for m={m}, n={n}, T={T} and delta={delta}")


@exercise("05.3",
          "R_h is a mean of h over the tasks, and each of the other tasks adds at least h(0) to it.",
          "h(0) is 1, so that h(R_t) is at most m b minus the number of the other tasks. Undo the exponential.")
def one_task(answer: Callable) -> None:
    """All other tasks may be at zero, where the transform is one."""
    for b, m, T in ((1.01, 4, 50.0), (1.5, 2, 1.0), (1.02, 9, 10.0)):
        expect(T * math.log(m * b - (m - 1)), answer(b, m, T), f"for b={b}, m={m} and T={T}")
