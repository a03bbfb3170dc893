"""Checks of notebook 90, notation and glossary. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import exercise, expect


@exercise("90.1",
          "Branch point p lies before module p. Which modules does the task pass before it, and which after it?",
          "Shared are modules 1 to p - 1, its own are modules p to P - 1. Count both.")
def modules_passed(answer: Callable) -> None:
    """p - 1 shared modules, then P - p of the task's own."""
    for p, P in ((2, 4), (1, 5), (6, 6)):
        expect([p - 1, P - p], answer(p, P), f"for p={p} and P={P}")


@exercise("90.2",
          "By what did the paper divide? Not by the number of all tasks, but by that of tasks that are there.",
          "The number of present tasks is the sum of `present`.")
def on_the_scale_of_the_sum(answer: Callable) -> None:
    """Times the number of present tasks, which need not be m."""
    for w, present in (([0.25, 0.75], [True, True]), ([0.5, 0.0, 0.5], [True, False, True])):
        given = torch.tensor(w, dtype=torch.float64), torch.tensor(present)
        expect(given[0] * sum(present), answer(*given), f"for w={w} and present={present}")
