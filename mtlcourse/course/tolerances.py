"""How far the numbers of a training cell move from machine to machine, measured. Imports `outputs`, `tokens`."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import outputs
from .tokens import NOISE, Number, Tolerance, split

# A number may move this many times as far as it did between the instruction sets, which are a small sample of machines.
SAFETY = 3


def measure(cells: Sequence[dict[str, Any]], clean: Callable[[str], str]) -> Tolerance:
    """The tolerance of a cell of kind about, from what it printed on several machines.

    cells: the same cell, executed on each; the first is the one that is stored.  clean: see `outputs.sanitiser`.
    It is `SAFETY` times the largest spread (most minus least) of any of its numbers, and at least the smallest unit
    of a last printed digit; or relative, by the numbers' stored sizes, where that lets them move less than half as
    far on the geometric mean. Rounded up to one significant digit.
    Raises ValueError, naming them, if words, the number of numbers or the number of lines differ.
    """
    said = [outputs.texts(cell, clean) for cell in cells]
    for other in said[1:]:
        if other.keys() != said[0].keys():
            raise ValueError(f"it prints {', '.join(sorted(said[0]))} here and {', '.join(sorted(other))} there")
    numbers = [found for name in said[0] for found in _numbers([split(texts[name]) for texts in said])]
    if not numbers:
        raise ValueError("it prints no number that could move")
    spreads = [max(values) - min(values) for values in ([one.value for one in found] for found in numbers)]
    stored = [found[0] for found in numbers]
    floor = min((one.unit for one in stored if one.unit), default=1.0)
    absolute = _rounded_up(max(SAFETY * max(spreads), floor))
    sizes = [abs(one.value) for one in stored]
    if max(spreads) <= NOISE or any(spread > NOISE and not size for spread, size in zip(spreads, sizes, strict=True)):
        return Tolerance(absolute=absolute)  # nothing moved, or something moved away from zero
    relative = _rounded_up(SAFETY * max(spread / size for spread, size in zip(spreads, sizes, strict=True) if size))
    moves = [math.log(relative * size / absolute) for size in sizes if size]
    return Tolerance(relative=relative) if sum(moves) / len(moves) < -math.log(2) else Tolerance(absolute=absolute)


def _numbers(said: list[list[str | Number]]) -> Iterator[list[Number]]:
    """For each number of a text what it was on each machine."""
    for tokens in zip(*said, strict=False):
        if all(isinstance(token, Number) for token in tokens):
            yield list(tokens)
        elif any(token != tokens[0] for token in tokens):
            here, there = _shown(tokens[0]), next(_shown(token) for token in tokens if token != tokens[0])
            raise ValueError(f"it says {here} here and {there} there")
    if len(set(map(len, said))) > 1:
        longest, shortest = max(said, key=len), min(said, key=len)
        raise ValueError(f"it says more on one machine than on another: {_shown(longest[len(shortest)])}")


def _shown(token: str | Number) -> str:
    if token == "\n":
        return "the end of a line"
    return token.text if isinstance(token, Number) else repr(token)


def _rounded_up(value: float) -> float:
    """`value` with one significant digit, not below it.

    >>> _rounded_up(0.0142), _rounded_up(0.5), _rounded_up(96.0)
    (0.02, 0.5, 100.0)
    """
    unit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.1g}")
