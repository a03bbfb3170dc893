"""Automatic checks of exercises, `check("01.2", answer)` in a notebook, and hints, `hint("01.2")`.

Imports `exercises`, one module a chapter, which holds what each exercise expects, and `progress`, which keeps what
was solved.
"""

from typing import Any

from ..files import unknown
from . import progress
from .exercises import EXERCISES, HINTS, NotYet, load


def check(number: str, answer: Any, strict: bool = False) -> None:
    """Print "correct", or "not yet" with what was expected and what came, and note it in the learner's progress.

    number: of the exercise, such as "01.2".  answer: what the exercise asks for, a value or a function.
    strict: raise AssertionError instead of printing "not yet", and note nothing (solutions are run so).
    Raises ValueError for an exercise that does not exist; an answer that raises is "not yet".
    """
    said = judge(number, answer)
    if said and strict:
        raise AssertionError(f"Exercise {number}: {said}")
    print(f"Exercise {number}: not yet: {said}" if said else f"Exercise {number}: correct.")
    if not strict and progress.watched():
        progress.note(number, correct=not said)


def judge(number: str, answer: Any) -> str:
    """Why `answer` to exercise `number` is not right yet; "" if it is. Raises ValueError as `check` does."""
    _known(number)
    try:
        EXERCISES[number](answer)
    except NotYet as reason:
        return str(reason)
    except Exception as error:  # a learner's code may fail in any way; a lesson goes on
        return f"your code raised {type(error).__name__}: {error}"
    return ""


def hint(number: str, step: int = 1) -> None:
    """Print a hint for exercise `number`: with `step` 1 where to look, with 2 nearly the answer.

    Raises ValueError for an exercise or a step that there is not.
    """
    _known(number)
    if step not in (1, 2):
        raise ValueError(f"There are two hints for every exercise, step 1 and step 2; got step={step!r}.")
    more = f'(One more hint: hint("{number}", 2).)' if step == 1 else "(After this there is only the solution.)"
    print(f"Hint {step} for exercise {number}: {HINTS[number][step - 1]}\n{more}")
    if progress.watched():
        progress.note(number, hint=step)


def _known(number: str) -> None:
    chapter = number.split(".")[0]
    if number not in EXERCISES and number not in load(chapter):
        raise ValueError(unknown("exercise", number, EXERCISES))
