"""A learner's progress: which exercises were solved, with how many tries and hints.

It is kept in one JSON file in the folder where Jupyter keeps this user's data (`path`), outside of any copy of the
course, so that a new copy goes on where the old one stopped and nothing of it gets into git. Only a person's work
counts: cells that a program runs (the course headlessly, tests, grading) write nothing. It is the learner's own note,
and no evidence: a class is graded by `grading`. Imports `exercises`, `files` and jupyter_core.
"""

import json
import os
import pkgutil
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..files import alone, write_json
from . import exercises


@dataclass(frozen=True)
class Progress:
    """What is known of one exercise.

    tries: checked answers up to the first correct one, that one included.  hints: how many were asked for, 0 to 2.
    solved: local date and time of the first correct answer, "" before it.
    """

    tries: int = 0
    hints: int = 0
    solved: str = ""


def path() -> Path:
    """Where progress is kept; `JUPYTER_DATA_DIR` moves it, with all that Jupyter keeps for the user."""
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "mtlcourse" / "progress.json"


def watched() -> bool:
    """Whether the running cell was sent by a front end that could ask its user a question, as JupyterLab does.

    What runs notebooks without anybody (nbclient, papermill, nbconvert, nbval) says that it could not. Progress is
    kept, and bars are shown while a lesson trains, for somebody only: no stored output holds one.
    """
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    request = kernel.get_parent("shell") if kernel is not None else {}
    return bool(request.get("content", {}).get("allow_stdin", False))


def load(file: Path | None = None) -> dict[str, Progress]:
    """Progress by the number of the exercise, from `file` (default: `path()`); empty if there is no file.

    Raises ValueError for a file that is not what `note` writes, OSError for one that cannot be read.
    """
    file = file or path()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known = {number: Progress(**fields) for number, fields in content.items()}
        whole = all(type(getattr(one, name)) is type(value) for one in known.values()
                    for name, value in asdict(Progress()).items())
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no file of progress ({error}).") from error
    if not whole:
        raise ValueError(f"{file} is no file of progress (tries and hints are whole numbers, solved is a text).")
    return known


def note(number: str, correct: bool = False, hint: int = 0, file: Path | None = None) -> None:
    """Note a checked answer to exercise `number`, or, with `hint` 1 or 2, that this hint was read.

    Nothing changes for an exercise that is solved. A file that is broken is set aside under another name, with a
    warning; what the disk refuses is a warning too, for a lesson goes on.
    """
    file = file or path()
    try:
        with alone(file.with_suffix(".lock")):
            known = _load_or_set_aside(file)
            before = known.get(number, Progress())
            if before.solved:
                return
            if hint:
                known[number] = replace(before, hints=max(before.hints, hint))
            else:
                known[number] = replace(before, tries=before.tries + 1,
                                        solved=time.strftime("%Y-%m-%d %H:%M") if correct else "")
            write_json(file, {key: asdict(known[key]) for key in sorted(known)})
    except OSError as error:
        warnings.warn(f"Your progress was not noted: {error}", stacklevel=3)


def _load_or_set_aside(file: Path) -> dict[str, Progress]:
    try:
        return load(file)
    except ValueError as error:
        aside = file.with_name(f"progress-broken-{time.strftime('%Y%m%d-%H%M%S')}.json")
        os.replace(file, aside)
        warnings.warn(f"{error} It is now {aside.name}, beside a new one that begins with this exercise.", stacklevel=4)
        return {}


def chapters() -> dict[str, list[str]]:
    """The numbers of all exercises, by the number of their lesson."""
    for module in pkgutil.iter_modules(exercises.__path__):
        exercises.load(module.name.removeprefix("chapter_"))
    found: dict[str, list[str]] = {}
    for number in sorted(exercises.EXERCISES):
        found.setdefault(number.split(".")[0], []).append(number)
    return found


def summary(known: dict[str, Progress]) -> str:
    """A line for each lesson that was begun, and how much of all is solved.

    known: as `load` returns it; numbers that there is no exercise of are left out.

    >>> print(summary({"00.1": Progress(2, 0, "2026-03-01 10:00"), "01.2": Progress(3, 1)}))
    00  1 of 1  solved 00.1
    01  0 of 3  open 01.1, 01.2 (tries: 3, hints: 1), 01.3
    Solved: 1 of ... exercises, in 1 of ... lessons all. Next: 01.1.
    """
    lines, done, whole, following = [], 0, 0, ""
    lessons = chapters()
    for lesson, numbers in lessons.items():
        solved = [number for number in numbers if known.get(number, Progress()).solved]
        remaining = [number for number in numbers if number not in solved]
        done, whole = done + len(solved), whole + (not remaining)
        following = following or next(iter(remaining), "")
        if any(number in known for number in numbers):
            parts = {"solved": solved, "open": [_still_open(number, known.get(number)) for number in remaining]}
            said = "; ".join(f"{name} {', '.join(part)}" for name, part in parts.items() if part)
            lines.append(f"{lesson}  {len(solved)} of {len(numbers)}  {said}")
    total = sum(map(len, lessons.values()))
    lines.append(f"Solved: {done} of {total} exercises, in {whole} of {len(lessons)} lessons all."
                 + f" Next: {following}." * bool(following))
    return "\n".join(lines)


def show() -> None:
    """Print the `summary` of what was noted, or why it cannot be read: a lesson goes on."""
    try:
        print(summary(load()))
    except (ValueError, OSError) as error:
        print(error, "The next check that you run sets it aside and begins a new one.")


def _still_open(number: str, one: Progress | None) -> str:
    said = {"tries": one.tries, "hints": one.hints} if one else {}
    counts = ", ".join(f"{name}: {count}" for name, count in said.items() if count)
    return f"{number} ({counts})" if counts else number
