"""Checks of notebook 30, the benchmark. Imports `exercises` and `safety`."""

from collections.abc import Callable

import numpy as np

from ...safety import half_width
from . import NotYet, exercise, expect


@exercise("30.1")
def verdict(answer: Callable) -> None:
    """On which side of zero the 95% t-interval of the paired differences lies; one seed decides nothing."""
    cases = [[0.02, 0.03, 0.01, 0.02], [-0.02, -0.03, -0.01, -0.02], [0.05, -0.01, 0.02], [0.03, 0.02], [0.4]]
    for differences in cases:
        mean, half = np.mean(differences), half_width(differences)
        expected = "better" if mean - half > 0 else "worse" if mean + half < 0 else "undecided"
        got = answer(np.array(differences))
        if got != expected:
            raise NotYet(f"for differences={differences}: expected {expected!r}, got {got!r}")


@exercise("30.2")
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


@exercise("30.3")
def seeds_needed(answer: Callable) -> None:
    """Least n with t(n) sigma / sqrt(n) below the effect, t the 97.5% quantile with n - 1 degrees of freedom."""
    from scipy.stats import t

    for effect, sigma in ((0.01, 0.01), (0.02, 0.01), (0.005, 0.012)):
        expected = next(n for n in range(2, 1000) if t.ppf(0.975, n - 1) * sigma / n**0.5 < effect)
        expect(expected, answer(effect, sigma), f"for effect={effect} and sigma={sigma}")
