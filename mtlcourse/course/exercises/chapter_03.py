"""Checks of notebook 03, safety theorems. Imports `exercises`."""

import math
from collections.abc import Callable

from . import exercise, expect


@exercise("03.1",
          "The term is given and n is wanted: solve the equation for it.",
          "Square both sides; n then stands alone over m times the squared width. Mind the 18 and the logarithm.")
def samples(answer: Callable) -> None:
    """`18 ln(2 / delta) / (m width^2)`, rounded up or not."""
    for width, delta, m in ((0.01, 0.05, 1), (0.1, 0.05, 4), (0.02, 1e-6, 1), (0.05, 0.5, 9)):
        expect(18 * math.log(2 / delta) / (m * width**2), answer(width, delta, m),
               f"for width={width}, delta={delta}, m={m}", tolerance=2e-3)


@exercise("03.2",
          "A triangle is its own hull. How long is the string around it, and around two points?",
          "For two points at distance x the string is 2x long and G is x / sqrt(2 pi), so that G is the length of "
          "the string over 2 sqrt(2 pi).")
def triangle(answer: Callable) -> None:
    """Half the length around it over sqrt(2 pi): for two points, a flat triangle, that is `|a - b| / sqrt(2 pi)`."""
    for sides in ((3.0, 4.0, 5.0), (1.0, 1.0, 1.0), (2.0, 2.0, 0.0), (1.0, 0.5, 0.75)):
        expect(sum(sides) / (2 * math.sqrt(2 * math.pi)), answer(*sides), f"for the sides {sides}")


@exercise("03.3",
          "Two things have to hold at once, each with half of delta; their two terms are added.",
          "Theorem 6 gives three times a root with ln(4/delta), Hoeffding once a root with ln(2/delta); both roots "
          "have 2n below.")
def confidence(answer: Callable) -> None:
    """Theorem 6 for one network and Hoeffding for the other, at delta / 2 each."""
    for n, delta in ((6000, 0.05), (100, 0.5), (100, 1e-6)):
        uniform, fixed = 9 * math.log(4 / delta) / (2 * n), math.log(2 / delta) / (2 * n)
        expect(math.sqrt(uniform) + math.sqrt(fixed), answer(n, delta), f"for n={n}, delta={delta}")
