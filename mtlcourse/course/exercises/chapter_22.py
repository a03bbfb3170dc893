"""Checks of notebook 22, conflict landscapes. Imports `exercises`."""

from collections.abc import Callable

from . import exercise, expect


@exercise("22.1")
def sum_optimum(answer: Callable) -> None:
    """(x - 2) + s (x + 2) = 0."""
    for s in (1.0, 3.0, 100.0):
        expect([2 * (1 - s) / (1 + s), 0.0], answer(s), f"for s={s}")


@exercise("22.2")
def room(answer: Callable) -> None:
    """max over the front of the smaller of the two gains."""
    front = [[0.0, 4.0], [1.0, 1.0], [4.0, 0.0]]
    for losses in ([3.0, 2.0], [1.0, 1.0], [0.5, 9.0]):
        expected = max(min(mine - best for mine, best in zip(losses, point, strict=True)) for point in front)
        expect(expected, answer(losses, front), f"for losses={losses} and front={front}")


@exercise("22.3")
def shortest(answer: Callable) -> None:
    """An end of the segment, or the perpendicular onto it."""
    for a, b, k in ((4.0, 2.0, -2.0), (1.0, 9.0, 2.0), (4.0, 1.0, -2.0), (2.0, 2.0, 0.5)):
        inside = k < min(a, b)
        squared = (a * b - k * k) / (a + b - 2 * k) if inside else min(a, b)
        expect(squared**0.5, answer(a, b, k), f"for a={a}, b={b}, k={k}")
