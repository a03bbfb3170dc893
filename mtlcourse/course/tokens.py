"""A printed text as words and numbers, and whether another text says the same.

Imports the standard library only.
"""

import re
from dataclasses import dataclass

NOISE = 1e-12  # what float64 leaves of a zero: its digits and its sign are an accident of the order of additions

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_EXPONENT = r"(?:[eE][-+]?\d+)?"
# A number does not begin inside a word (conv2, v1.5, 3-5 is no 3 and -5); a whole one is not followed by letters
# (3x3, 2nd), one with a point may be (1.9x).
_TOKEN = re.compile(rf"(?P<number>(?<![\w.])[-+−]?(?:(?:{_WHOLE}\.\d*|\.\d+){_EXPONENT}|{_WHOLE}{_EXPONENT}(?!\w))"
                    r"(?: ?%)?)|\w+|[^\w ]")


@dataclass(frozen=True)
class Number:
    """A printed number: as it stands, its value (12 % is .12), and the unit of its last printed digit.

    The unit is 0 for a whole number, which counts and was not rounded.
    """

    text: str
    value: float
    unit: float


@dataclass(frozen=True)
class Tolerance:
    """How far a number may move: by `absolute`, or by `relative` times its stored size, whichever is more.

    One unit of its last printed digit is allowed always.
    """

    absolute: int | float = 0
    relative: int | float = 0

    def allows(self, stored: Number, said: Number) -> bool:
        unit = min(stored.unit, said.unit)  # 0.5 and 0.4983 come of the same format, which left zeros out
        allowed = max(self.absolute, self.relative * abs(stored.value), unit)
        return abs(said.value - stored.value) <= allowed * (1 + 1e-9)

    def __str__(self) -> str:
        return " or ".join(f"{value:g} {name}" for name, value in vars(self).items() if value) or "a printed unit"


def split(text: str) -> list[str | Number]:
    """The words (and signs, and ends of lines) of `text` as strings, its numbers as `Number`, in order.

    >>> split("conv2: -1,234.5 or 12 %")[2].value, split("12 %")
    (-1234.5, [Number(text='12 %', value=0.12, unit=0.01)])
    """
    found = _TOKEN.finditer(re.sub(r"[^\S\n]", " ", text))
    return [_number(match[0]) if match["number"] else match[0] for match in found]


def _number(token: str) -> Number:
    plain = token.replace(",", "").replace("−", "-").rstrip("% ")
    mantissa, _, exponent = plain.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    hundredth = 0.01 if token.endswith("%") else 1.0
    rounded = decimals or exponent or token.endswith("%")
    unit = 10.0 ** (int(exponent or 0) - decimals) * hundredth if rounded else 0.0
    return Number(token, float(plain) * hundredth, unit)


def agree(stored: str, said: str, tolerance: Tolerance | None = None) -> bool:
    """True if two texts have the same words in the same order, and numbers that agree between them.

    tolerance: how far numbers may move; without one they are the same to the letter. Zeros up to `NOISE` agree
        anyway: `-0.0` with `0.0`, `1e-17` with `0`.
    """
    old, new = split(stored), split(said)
    return len(old) == len(new) and all(_agree(*pair, tolerance) for pair in zip(old, new, strict=True))


def _agree(old: str | Number, new: str | Number, tolerance: Tolerance | None) -> bool:
    if not (isinstance(old, Number) and isinstance(new, Number)):
        return old == new
    if max(abs(old.value), abs(new.value)) <= NOISE:
        return True
    return old.text == new.text if tolerance is None else tolerance.allows(old, new)
