"""What the exercises of the notebooks expect, and hints for them; one module a chapter, loaded by `checks`."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch

EXERCISES: dict[str, Callable[[Any], None]] = {}
HINTS: dict[str, tuple[str, str]] = {}


class NotYet(Exception):
    """The answer is not right yet; the message says what was expected and what came."""


def exercise(number: str, direction: str, nearly: str) -> Callable:
    """Decorator: the function below judges answers to exercise `number`, raising `NotYet` for a wrong one.

    direction: a hint that says where to look.  nearly: a second one, from which there is but a step to the answer.
    """
    def remember(judge: Callable[[Any], None]) -> Callable[[Any], None]:
        EXERCISES[number], HINTS[number] = judge, (direction, nearly)
        return judge
    return remember


def load(chapter: str) -> list[str]:
    """The numbers of the exercises of `chapter`, such as "01", whose module is imported if it was not; [] if none."""
    name = f"{__name__}.chapter_{chapter}"
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name)
    return [number for number in EXERCISES if number.startswith(f"{chapter}.")]


def expect(expected: Any, got: Any, what: str = "the answer", tolerance: float = 1e-6) -> None:
    """Raise `NotYet` unless `got` is the number, list or tensor `expected`, within `tolerance`."""
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    try:
        given = torch.as_tensor(got, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"{what}: expected {_short(wanted)}, got {got!r}") from None
    if given.shape != wanted.shape or not torch.allclose(given, wanted, rtol=tolerance, atol=tolerance):
        raise NotYet(f"{what}: expected {_short(wanted)}, got {_short(given)}")


def _short(tensor: torch.Tensor) -> str:
    rounded = (tensor * 1e4).round() / 1e4
    return str(rounded.tolist())
