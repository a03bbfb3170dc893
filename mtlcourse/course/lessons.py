"""A lesson is a notebook `NN_topic.ipynb` with front matter: finding lessons, reading them, their index.

The front matter stands in the notebook's metadata under "mtlcourse":
`{"goals": [...], "needs": ["02"], "fast_seconds": 25, "full_minutes": 12}`.
Imports the standard library only.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIELDS = ("goals", "needs", "fast_seconds", "full_minutes")
NAME = re.compile(r"\d\d_\w+\.ipynb")


@dataclass(frozen=True)
class Lesson:
    """What the index says about one notebook.

    number: the two digits of its file name, as a string.  title, question: from its first cell.
    goals: what the reader can do afterwards.  needs: numbers of the lessons it builds on.
    fast_seconds, full_minutes: run time at `budget="fast"` and `budget="full"`.
    """

    path: Path
    number: str
    title: str
    question: str
    goals: tuple[str, ...]
    needs: tuple[str, ...]
    fast_seconds: float
    full_minutes: float


def find(folder: str | Path) -> list[Path]:
    """The notebooks `NN_topic.ipynb` in `folder`, in reading order.

    Raises ValueError when there is none.
    """
    found = sorted(path for path in Path(folder).glob("*.ipynb") if NAME.fullmatch(path.name))
    if not found:
        raise ValueError(f"No notebook NN_topic.ipynb in {Path(folder).resolve()}: run this where the folder "
                         "'notebooks' of the course is, or name the folder.")
    return found


def load(path: str | Path) -> dict[str, Any]:
    """The notebook at `path` as plain data, sources and texts as one string each."""
    notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def tags(cell: dict[str, Any]) -> list[str]:
    """The tags of a cell."""
    return cell["metadata"].get("tags", [])


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that hold code to run, in order; empty ones are never run and left out."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell["source"].strip()]


def heading(notebook: dict[str, Any]) -> tuple[str, str]:
    """Title and question of a notebook: the first line `# ...` of its first cell and the paragraph below.

    Either is empty if it is not there.
    """
    first = notebook["cells"][0]["source"] if notebook["cells"] else ""
    match = re.match(r"# +(?P<title>[^\n]+)\n*(?P<question>(?:[^\n#][^\n]*\n?)*)", first)
    if match is None:
        return "", ""
    return match["title"].strip(), " ".join(match["question"].replace("*", "").split())


def front_matter_faults(front: Any) -> list[str]:
    """What is wrong with the front matter `front`, a sentence each; empty when it is as it should be."""
    if not isinstance(front, dict):
        return ["there is no front matter 'mtlcourse' in the notebook's metadata"]
    faults = [f"front matter lacks {name!r}" for name in FIELDS if name not in front]
    faults += [f"front matter has an unknown field {name!r}" for name in front if name not in FIELDS]
    if faults:
        return faults
    goals, needs = front["goals"], front["needs"]
    if not (_texts(goals) and 3 <= len(goals) <= 5 and all(goals)):
        faults.append("'goals' must be a list of three to five sentences")
    if not (_texts(needs) and all(re.fullmatch(r"\d\d", need) for need in needs)):
        faults.append("'needs' must be a list of lesson numbers such as \"02\"")
    for name in ("fast_seconds", "full_minutes"):
        if isinstance(front[name], bool) or not isinstance(front[name], int | float) or front[name] <= 0:
            faults.append(f"{name!r} must be a number above 0, not {front[name]!r}")
    return faults


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def read(path: str | Path) -> Lesson:
    """The lesson at `path`. Raises ValueError, saying what is wrong, when its front matter is not valid."""
    path = Path(path)
    notebook = load(path)
    front = notebook["metadata"].get("mtlcourse")
    faults = front_matter_faults(front)
    if faults:
        raise ValueError(f"{path.name}: {'; '.join(faults)}.")
    title, question = heading(notebook)
    return Lesson(path, path.name[:2], title, question, tuple(front["goals"]), tuple(front["needs"]),
                  float(front["fast_seconds"]), float(front["full_minutes"]))


def index(lessons: list[Lesson]) -> str:
    """The table of contents of the course as Markdown: `notebooks/README.md`."""
    lines = [
        "# The notebooks, in reading order",
        "",
        "<!-- Made by `make notebooks` from the notebooks' front matter and `theory`: change those, not this file. -->",
        "",
        "| no. | notebook | what it answers | builds on | fast run | full run |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for lesson in lessons:
        needs = ", ".join(lesson.needs) or "nothing"
        lines.append(f"| {lesson.number} | [{lesson.title}]({lesson.path.name}) | {lesson.question} | {needs} | "
                     f"{lesson.fast_seconds:g} s | {lesson.full_minutes:g} min |")
    total = sum(lesson.fast_seconds for lesson in lessons)
    lines += ["", f"Together {total / 60:.1f} minutes at `budget=\"fast\"`, one after the other.",
              "", "## What each one is for"]
    for lesson in lessons:
        lines += ["", f"**{lesson.number} {lesson.title}.** After it you can:", ""]
        lines += [f"- {goal}" for goal in lesson.goals]
    return "\n".join(lines) + "\n"
