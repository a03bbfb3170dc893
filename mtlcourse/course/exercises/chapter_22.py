"""Checks of notebook 22, conflict landscapes. Imports `exercises`."""

from collections.abc import Callable

from . import exercise, expect


@exercise("22.1",
          "For c < 1 CAGrad rests where the mean loss does. Set the gradient of L_1 + L_2 to zero.",
          "Along the first coordinate (x - 2) + s (x + 2) = 0; the second is zero.")
def cagrad_end(answer: Callable) -> None:
    """Where the mean loss is least: (x - 2) + s (x + 2) = 0."""
    for s in (1.0, 3.0, 100.0):
        expect([2 * (1 - s) / (1 + s), 0.0], answer(s), f"for s={s}")


@exercise("22.2",
          "A unit gradient is the gradient over its length, and a is the squared length of the first.",
          "Weights in the proportion 1/sqrt(a) to 1/sqrt(b), scaled so that they sum to 2.")
def unit_sum(answer: Callable) -> None:
    """Weights in inverse proportion to the lengths."""
    for a, b, k in ((4.0, 2.0, -2.0), (1.0, 9.0, 2.0), (100.0, 1.0, -9.0)):
        one, two = 1 / a**0.5, 1 / b**0.5
        expect([2 * one / (one + two), 2 * two / (one + two)], answer(a, b, k), f"for a={a}, b={b}, k={k}")


@exercise("22.3",
          "Either an end of the segment is nearest to zero, or the foot of the perpendicular. When is it the foot?",
          "If k is below a and b, the squared length is (a b - k^2) / (a + b - 2k); otherwise it is the smaller of a "
          "and b.")
def shortest(answer: Callable) -> None:
    """An end of the segment, or the perpendicular onto it."""
    for a, b, k in ((4.0, 2.0, -2.0), (1.0, 9.0, 2.0), (4.0, 1.0, -2.0), (2.0, 2.0, 0.5)):
        inside = k < min(a, b)
        squared = (a * b - k * k) / (a + b - 2 * k) if inside else min(a, b)
        expect(squared**0.5, answer(a, b, k), f"for a={a}, b={b}, k={k}")
