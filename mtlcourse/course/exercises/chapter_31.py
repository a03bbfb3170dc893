"""Checks of notebook 31, strategies and architectures. Imports `exercises`."""

from collections.abc import Callable

from . import exercise, expect


@exercise("31.1")
def trainings(answer: Callable) -> None:
    """Every combination and the baseline, once a seed."""
    for a, s, n in ((3, 8, 5), (1, 1, 1)):
        expect((a * s + 1) * n, answer(a, s, n), f"for a={a}, s={s}, n={n}")


@exercise("31.2")
def some_false_alarm(answer: Callable) -> None:
    """1 - 0.95^k."""
    for k in (1, 10, 24):
        expect(1 - 0.95**k, answer(k), f"for k={k}")


@exercise("31.3")
def slowdown(answer: Callable) -> None:
    """(1 + 2m) / 3."""
    for m in (2, 3, 8):
        expect((1 + 2 * m) / 3, answer(m), f"for m={m}")
