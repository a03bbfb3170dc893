"""Checks of notebook 22, conflict landscapes. Imports `exercises`."""

from collections.abc import Callable

from . import exercise, expect


@exercise("22.1")
def cagrad_end(answer: Callable) -> None:
    """Where the mean loss is least: (x - 2) + s (x + 2) = 0."""
    for s in (1.0, 3.0, 100.0):
        expect([2 * (1 - s) / (1 + s), 0.0], answer(s), f"for s={s}")


@exercise("22.2")
def unit_sum(answer: Callable) -> None:
    """Weights in inverse proportion to the lengths."""
    for a, b, k in ((4.0, 2.0, -2.0), (1.0, 9.0, 2.0), (100.0, 1.0, -9.0)):
        one, two = 1 / a**0.5, 1 / b**0.5
        expect([2 * one / (one + two), 2 * two / (one + two)], answer(a, b, k), f"for a={a}, b={b}, k={k}")


@exercise("22.3")
def shortest(answer: Callable) -> None:
    """An end of the segment, or the perpendicular onto it."""
    for a, b, k in ((4.0, 2.0, -2.0), (1.0, 9.0, 2.0), (4.0, 1.0, -2.0), (2.0, 2.0, 0.5)):
        inside = k < min(a, b)
        squared = (a * b - k * k) / (a + b - 2 * k) if inside else min(a, b)
        expect(squared**0.5, answer(a, b, k), f"for a={a}, b={b}, k={k}")
