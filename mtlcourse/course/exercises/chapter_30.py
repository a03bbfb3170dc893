"""Checks of notebook 30, the benchmark. Imports `exercises` and `safety`."""

from collections.abc import Callable

import numpy as np

from ...safety import half_width
from ...safety.evidence import LEAST, seeds_needed
from . import NotYet, exercise, expect


@exercise("30.1",
          "The code as it stands decides with any number of seeds. What must be true before it may?",
          "If fewer than three different values are among the differences, the answer is 'undecided'.")
def verdict(answer: Callable) -> None:
    """On which side of zero the 95% t-interval of the paired differences lies, if three of them differ."""
    cases = [[0.02, 0.03, 0.01, 0.02], [-0.02, -0.03, -0.01, -0.02], [0.05, -0.01, 0.02], [0.03, 0.0301],
             [-0.02, -0.02, -0.02, -0.03], [0.02, 0.02, 0.02], [0.4]]
    for differences in cases:
        mean, half, enough = np.mean(differences), half_width(differences), len(set(differences)) >= LEAST
        expected = "undecided" if not enough or abs(mean) <= half else "better" if mean > 0 else "worse"
        got = answer(np.array(differences))
        if got != expected:
            raise NotYet(f"for differences={differences}: expected {expected!r}, got {got!r}")


@exercise("30.2",
          "First leave out the methods that hurt this task; then take the smallest of those that are left.",
          "min over the names for which task is not in worse[name], by their size; min has an argument `default`.")
def cheapest(answer: Callable) -> None:
    """The smallest of the methods that do not certainly hurt the task; None if there is none."""
    sizes = {"hps": 17_060, "dsmtl-il": 49_862, "hps-wide": 50_652}
    cases = [({"hps": ["left"], "dsmtl-il": [], "hps-wide": []}, "left", "dsmtl-il"),
             ({"hps": ["left"], "dsmtl-il": ["left"], "hps-wide": []}, "right", "hps"),
             ({"hps": ["left"], "dsmtl-il": ["left"], "hps-wide": ["left", "right"]}, "left", None)]
    for worse, task, expected in cases:
        got = answer(worse, sizes, task)
        if got != expected:
            raise NotYet(f"for worse={worse} and task {task!r}: expected {expected!r}, got {got!r}")


@exercise("30.3",
          "Both quantiles depend on n, so that no formula gives it: try n = 3, 4, 5, ...",
          "While the left side is still above the effect, add 1 to n. Both quantiles have n - 1 degrees of freedom.")
def needed(answer: Callable) -> None:
    """What `evidence.seeds_needed` counts: so many seeds that a test at 5% decides in four cases of five."""
    for effect, sigma in ((0.01, 0.01), (0.02, 0.01), (0.005, 0.012), (0.5, 0.01)):
        expected = seeds_needed(np.array([effect]), np.array([sigma]), 0.05)[0]
        expect(expected, answer(effect, sigma), f"for effect={effect} and sigma={sigma}")
