"""Exact arithmetic on what a printed number can stand for.

Imports nothing of the project. A printed `0.31` stands for every value between 0.305 and 0.315; what
follows from printed numbers is therefore an interval, and only a value outside of it cannot follow.
Bounds are fractions, so no finding is an artefact of floating point.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


@dataclass(frozen=True)
class Interval:
    """The closed interval [low, high]; sums, differences, products and quotients contain all possible results."""

    low: Fraction
    high: Fraction

    @staticmethod
    def exactly(value: int | Fraction) -> "Interval":
        return Interval(Fraction(value), Fraction(value))

    def __add__(self, other: "Interval | int") -> "Interval":
        other = _interval(other)
        return Interval(self.low + other.low, self.high + other.high)

    def __neg__(self) -> "Interval":
        return Interval(-self.high, -self.low)

    def __rsub__(self, other: int) -> "Interval":
        return _interval(other) - self

    def __sub__(self, other: "Interval | int") -> "Interval":
        return self + -_interval(other)

    def __mul__(self, other: "Interval | int | Fraction") -> "Interval":
        other = _interval(other)
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(corners), max(corners))

    def __truediv__(self, other: "Interval | int") -> "Interval":
        other = _interval(other)
        if other.low <= 0 <= other.high:
            raise ZeroDivisionError(f"The divisor {other} may be zero.")
        return self * Interval(1 / other.high, 1 / other.low)

    def meets(self, other: "Interval") -> bool:
        """Whether some value lies in both."""
        return self.low <= other.high and other.low <= self.high

    def common(self, other: "Interval") -> "Interval | None":
        """What lies in both, None if nothing does."""
        return Interval(max(self.low, other.low), min(self.high, other.high)) if self.meets(other) else None

    def __str__(self) -> str:
        return f"[{_number(self.low)}, {_number(self.high)}]"


def _interval(value: "Interval | int | Fraction") -> Interval:
    return value if isinstance(value, Interval) else Interval.exactly(value)


def _number(value: Fraction) -> str:
    return f"{float(value):.6g}"


def total(terms: Iterable[Interval]) -> Interval:
    """The sum of `terms`."""
    return sum(terms, Interval.exactly(0))


def decimals(text: str) -> int:
    """How many digits stand behind the point: 2 for "4.80"."""
    return len(text.partition(".")[2])


def printed(text: str) -> Interval:
    """All values that would be printed as `text`: half a unit of the last digit to either side.

    A sign in front of zero tells the side: "+0.00" stands for [0, 0.005], "-0.00" for [-0.005, 0].
    Raises ValueError for text that is not a plain decimal number.

    >>> print(printed("4.80"), printed("-0.00"))
    [4.795, 4.805] [-0.005, 0]
    """
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a printed number; expected digits such as '4.80', '+0.31' or '-12'.")
    value, half = Fraction(text), Fraction(1, 2 * 10 ** decimals(text))
    low = 0 if value == 0 and text[0] == "+" else value - half
    high = 0 if value == 0 and text[0] == "-" else value + half
    return Interval(Fraction(low), Fraction(high))


def slips(text: str, target: Interval) -> list[str]:
    """What `text` may have been meant to read: one slip away from it and standing for a value of `target`.

    A slip is one digit changed, dropped, added or exchanged with its neighbour, or a turned sign. Shortest
    first; an empty list says that no single slip explains the difference.

    >>> slips("4.80", printed("24.8"))
    ['24.80']
    """
    sign, digits = ("", text) if text[0].isdigit() else (text[0], text[1:])
    variants = {digits[:i] + d + digits[i + 1:] for i, c in enumerate(digits) if c != "." for d in "0123456789"}
    variants |= {digits[:i] + d + digits[i:] for i in range(len(digits) + 1) for d in "0123456789"}
    variants |= {digits[:i] + digits[i + 1:] for i, c in enumerate(digits) if c != "."}
    variants |= {digits[:i] + digits[i + 1] + digits[i] + digits[i + 2:] for i in range(len(digits) - 1)}
    candidates = {sign + v for v in variants} | {{"+": "-", "-": "+", "": "-"}[sign] + digits}
    # Same number of decimals as the column prints: an author mistypes a digit, not the format.
    candidates = {c for c in candidates if NUMBER.fullmatch(c) and decimals(c) == decimals(text) and c != text}
    good = [c for c in candidates if printed(c).meets(target) and not re.match(r"[+-]?0\d", c)]
    return sorted(good, key=lambda c: (len(c), c))
