"""Grade a class: run every student's notebooks headlessly, and judge every exercise in them.

A class is a folder with a folder for each student, in which notebooks of the course lie. Of a notebook the code is
taken, and nothing else: no output (a printed "correct" counts for nothing), no metadata, no file beside it. It runs in
a process of its own and in a scratch folder, with time limits, an environment without what the instructor has in it,
and a limit to the size of files. Behind the student's cells come cells that `judging` describes; their verdicts are
found by seals that are made for this run.

That is no prison. The code runs as the user who grades, on this machine and with its network, and code that is
written to fool the judge in its own process can. Verdicts that look so are called "suspect", not all are found. Grade
strangers in a container or under an account that owns nothing. Imports its neighbours,
and `files`.
"""

import ast
import csv
import io
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_text
from . import handout, lessons, parameters, running

VERDICTS = ("solved", "not yet", "suspect", "not run", "not handed in")
LARGEST = 20e6  # bytes of a notebook


@dataclass(frozen=True)
class Verdict:
    """What is said of one exercise of one student: one of `VERDICTS`, and in words why."""

    student: str
    number: str
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Question:
    """One exercise as the lesson asks it.

    expression: code of what is checked, such as the name of a function.  wrong: code that sets `wrong` to the answer
    that stands in the lesson.
    """

    number: str
    expression: str
    wrong: str


def questions(lesson: dict[str, Any]) -> list[Question]:
    """The exercises of a lesson of the course, in order."""
    cells = [cell["source"] for cell in lessons.code_cells(lesson)]
    setup = "seed = 0\n" + next((source for source in cells if "setup(seed)" in source), "")
    known: dict[str, ast.stmt] = {}  # what answers may call, by its name
    answers, found, before = [], [], ""
    for source in cells:
        body = _python(source)
        asked = [call for node in body for call in _check(node)]
        rest = [node for node in body if not _check(node)]
        if asked:  # the answer stands in the same cell, or else in the one before it
            own = ast.unparse(asked[0].args[1]) in [getattr(node, "name", "") for node in rest]
            answers.append("\n".join(map(ast.unparse, rest)) if own else before)
        for call in asked:
            number, expression = ast.literal_eval(call.args[0]), ast.unparse(call.args[1])
            parts = [setup, *_called(answers, known), *answers, f"wrong = {expression}"]
            found.append(Question(number, expression, "\n".join(parts)))
        known |= {name: node for node in rest for name in _defined(node)}
        before = source
    return found


def _defined(node: ast.stmt) -> list[str]:
    """The names that a definition of a function, or an import, makes known."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    return [node.name] if isinstance(node, ast.FunctionDef) else []


def _called(sources: Sequence[str], known: dict[str, ast.stmt]) -> list[str]:
    """The code of what is `known` and `sources` name, and of what that names in turn."""
    needed: set[str] = set()
    todo = [node for source in sources for node in _python(source)]
    while todo:
        names = {part.id for part in ast.walk(todo.pop()) if isinstance(part, ast.Name)} & set(known) - needed
        needed |= names
        todo += [known[name] for name in names]
    return [ast.unparse(node) for name, node in known.items() if name in needed]


def _python(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a magic
        return []


def _check(node: ast.stmt) -> list[ast.Call]:
    """The call if the statement is `check(number, answer)`, or nothing."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "check":
        return [call]
    return []


def students(folder: Path) -> list[Path]:
    """The students' folders in `folder`, by name. Raises ValueError when there is none."""
    found = [path for path in sorted(folder.glob("*")) if path.is_dir() and path.name[0] not in "._"
             and not path.is_symlink()]
    if not found:
        raise ValueError(f"There are no folders in {folder.resolve()}: give a folder with one folder for each student.")
    return found


def handed_in(path: Path) -> dict[str, Any]:
    """The code of a student's notebook as a notebook: no outputs, no metadata but which cell has the parameters.

    Raises FileNotFoundError where there is none, ValueError for a link, a huge file, or what is no notebook.
    """
    if path.is_symlink():
        raise ValueError("it is a link; links are not followed")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST / 1e6:.0f} MB; clear its outputs")
    try:
        cells = [("".join(cell["source"]), "parameters" in cell.get("metadata", {}).get("tags", []))
                 for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it cannot be read as a notebook ({type(error).__name__})") from error
    return {"nbformat": 4, "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "cells": [_cell(source, k, ["parameters"] * tagged) for k, (source, tagged) in enumerate(cells)]}


def _cell(source: str, place: int | str, tags: Sequence[str] = ()) -> dict[str, Any]:
    return {"cell_type": "code", "id": f"cell-{place}", "source": source, "metadata": {"tags": list(tags)},
            "outputs": [], "execution_count": None}


def judged(notebook: dict[str, Any], asked: Sequence[Question], seals: Sequence[str]) -> dict[str, Any]:
    """`notebook` with a cell behind it for each question, which prints its verdict behind the seal."""
    root = str(running.PACKAGE.parent)
    last = [_cell("import sys\n"
                  "for name in [name for name in sys.modules if name.partition('.')[0] == 'mtlcourse']:\n"
                  "    del sys.modules[name]\n"
                  f"sys.path.insert(0, {root!r})\n"
                  "from mtlcourse.course import judging\n"
                  f"judging.judge({question.number!r}, lambda: {question.expression}, {question.wrong!r}, {seal!r})",
                  f"judge-{k}") for k, (question, seal) in enumerate(zip(asked, seals, strict=True))]
    return {**notebook, "cells": notebook["cells"] + last}


def verdict(executed: dict[str, Any], seal: str) -> tuple[str, str]:
    """What stands behind `seal` in an executed notebook: a verdict and why. Two of them or half of one are suspect."""
    outputs = [output for cell in lessons.code_cells(executed) for output in cell["outputs"]]
    said = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    found = re.findall(rf"^{seal} (.*)$", said, re.MULTILINE)
    if not found:
        return "not run", "the judge said nothing"
    try:
        (content,) = map(json.loads, found)
        if content["believed"]:
            return ("not yet", str(content["said"])) if content["said"] else ("solved", "")
    except (ValueError, TypeError, KeyError):
        return "suspect", "what the judge said was tampered with"
    return "suspect", "after this notebook the judge accepts the lesson's own wrong answer, or does not run"


def grade(folder: Path, notebooks: Path, out: Path, only: Sequence[str] = (), assignments: Sequence[str] = (), *,
          at_once: int = 2, timeout: int = 600, limit: int = 900,
          watch: Callable[[list[str]], None] = lambda names: None) -> Iterator[list[Verdict]]:
    """The verdicts on each notebook of each student, a list for each as it is done.

    folder: of the class.  notebooks: the course.  out: where executed notebooks go, a folder a student.
    only, assignments, at_once, timeout, watch: as for `running`; `budget` is "smoke" unless it is assigned.
    limit: seconds that one notebook may take in all.
    Raises ValueError for an empty class, and for a notebook or a parameter that there is not.
    """
    chosen = parameters.choose(lessons.find(notebooks), only)
    values = parameters.assign(chosen, assignments)
    asked = {path: found for path in chosen if (found := questions(lessons.load(path)))}
    everybody = students(folder)
    for start in range(0, len(everybody), at_once):  # so many scratch folders at a time
        with tempfile.TemporaryDirectory(prefix="mtlcourse-", ignore_cleanup_errors=True) as scratch:
            jobs, sealed = [], {}
            for student in everybody[start:start + at_once]:
                desk = Path(scratch, student.name)
                _lay_out(notebooks, desk)
                for lesson, ones in asked.items():
                    seals = [secrets.token_hex(16) for _ in ones]
                    job = running.Job(desk / lesson.name, out.resolve() / student.name / lesson.stem,
                                      {"budget": "smoke"} | values[lesson], f"{student.name}/{lesson.stem}",
                                      untrusted=True)
                    try:
                        made = judged(handed_in(student / lesson.name), ones, seals)
                        job.source.write_text(json.dumps(made), encoding="utf-8")
                    except FileNotFoundError:
                        yield [Verdict(student.name, one.number, "not handed in") for one in ones]
                    except (ValueError, OSError) as error:
                        yield [Verdict(student.name, one.number, "not run", str(error)) for one in ones]
                    else:
                        jobs.append(job)
                        sealed[job.name] = job, student.name, dict(zip(seals, ones, strict=True))
            for outcome in running.run(jobs, at_once=at_once, fresh=True, timeout=timeout, limit=limit, watch=watch):
                job, name, by_seal = sealed[outcome.name]
                yield [Verdict(name, one.number, *_read(job.executed, seal, outcome.message))
                       for seal, one in by_seal.items()]


def _lay_out(notebooks: Path, desk: Path) -> None:
    """Make the folder `desk` with what lessons read."""
    desk.mkdir()
    if (notebooks / "results").is_dir():
        shutil.copytree(notebooks / "results", desk / "results", ignore=_no_data)


def _no_data(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder, name).is_dir() or name.endswith(handout.DATA))]


def _read(executed: Path, seal: str, message: str) -> tuple[str, str]:
    try:
        notebook = lessons.load(executed)
        said, why = verdict(notebook, seal)
        missing = re.search(r"NameError: name '(\w+)' is not defined", why)
        found = said, why + (_raised(notebook, missing[1]) if missing else "")
    except (OSError, ValueError, KeyError, TypeError):
        found = "not run", "there is no executed notebook"
    return ("not run", message) if found[0] == "not run" and message else found


def _raised(executed: dict[str, Any], name: str) -> str:
    """What the cell raised that should have defined `name`, "" if none did."""
    for cell in lessons.code_cells(executed):
        made = {known for statement in _python(cell["source"]) for known in [*_defined(statement), *_set(statement)]}
        for output in cell["outputs"]:
            if name in made and output["output_type"] == "error":
                return f"; its cell raised {output['ename']}: {output['evalue']}"
    return ""


def _set(node: ast.stmt) -> list[str]:
    """The names that a statement gives values to."""
    return [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]


def of_this_class(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those `verdicts` that are about a lesson that somebody handed in, by student and number."""
    chapters = {one.number.split(".")[0] for one in verdicts if one.verdict != "not handed in"}
    return sorted((one for one in verdicts if one.number.split(".")[0] in chapters),
                  key=lambda one: (one.student, one.number))


def table(verdicts: Sequence[Verdict]) -> str:
    """A line a student: exercises solved of those in each lesson, in all, and what an instructor should look at."""
    chapters = sorted({one.number.split(".")[0] for one in verdicts})
    rows = [["student", *chapters, "solved", "look at"]]
    for student in sorted({one.student for one in verdicts}):
        own = [one for one in verdicts if one.student == student]
        parts = [[one for one in own if one.number.startswith(f"{chapter}.")] for chapter in chapters]
        odd = [f"{one.number} {one.verdict}" for one in own if one.verdict in ("suspect", "not run")]
        rows.append([printable(student), *map(_share, parts), _share(own), ", ".join(odd)])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)


def write_csv(verdicts: Sequence[Verdict], path: Path) -> None:
    """Write a line for each student and exercise, as `printable` text."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["student", "exercise", "verdict", "why"])
    for one in verdicts:
        lines.writerow([printable(one.student), one.number, one.verdict, printable(one.why)])
    write_text(path, text.getvalue())


def _share(verdicts: Sequence[Verdict]) -> str:
    if all(one.verdict == "not handed in" for one in verdicts):
        return "-"
    return f"{sum(one.verdict == 'solved' for one in verdicts)}/{len(verdicts)}"


def printable(text: str) -> str:
    """`text` on one line, without what a terminal or a spreadsheet would take for a command, 200 characters of it.

    >>> printable("=HYPERLINK(1)"), printable("a\\x1b[31mb\\nc")
    ("'=HYPERLINK(1)", 'a?[31mb c')
    """
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))[:200]
    return f"'{line}" if line[:1] in tuple("=+-@") else line
