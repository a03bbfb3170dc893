"""Automatic checks of exercises: `check("01.2", answer)` in a notebook.

Imports `exercises`, one module a chapter, which holds what each exercise expects.
"""

import importlib.util
from typing import Any

from ..files import unknown
from .exercises import EXERCISES, NotYet


def check(number: str, answer: Any, strict: bool = False) -> None:
    """Print "correct", or "not yet" with what was expected and what came.

    number: of the exercise, such as "01.2".  answer: what the exercise asks for, a value or a function.
    strict: raise AssertionError instead of printing "not yet" (solutions are run so).
    Raises ValueError for an exercise that does not exist; an answer that raises is "not yet".
    """
    chapter = number.split(".")[0]
    known = [name for name in EXERCISES if name.startswith(f"{chapter}.")] or _load(chapter)
    if number not in known:
        raise ValueError(unknown("exercise", number, EXERCISES))
    try:
        EXERCISES[number](answer)
    except NotYet as reason:
        said = str(reason)
    except Exception as error:  # a learner's code may fail in any way; a lesson goes on
        said = f"your code raised {type(error).__name__}: {error}"
    else:
        print(f"Exercise {number}: correct.")
        return
    if strict:
        raise AssertionError(f"Exercise {number}: {said}")
    print(f"Exercise {number}: not yet: {said}")


def _load(chapter: str) -> list[str]:
    name = f"mtlcourse.course.exercises.chapter_{chapter}"
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name)
    return [number for number in EXERCISES if number.startswith(f"{chapter}.")]
