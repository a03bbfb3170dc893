"""Do the outputs of an executed notebook say what the stored ones say?

Every code cell's output is of one kind, which a tag of the cell declares:
    exact  no tag: it comes out again to the letter (but for the sign of zero, and what float64 leaves of a zero).
    about  numbers come of training: words, their order, the number of numbers and of lines are the same on every
           machine, each number moves within the cell's tolerance. `make notebooks` measures that and writes it
           into the cell's metadata: `"mtlcourse": {"absolute": 0.03}` or `{"relative": 0.2}`.
    free   paths, times, versions: not compared.

The tests (through nbval) and `mtlcourse course --diff` both compare with `change`. As in nbval, streams of one name
are one text, pictures and widget views are not compared, a cell that was never run promises nothing, and the
patterns of `notebooks/sanitize.cfg` replace what may differ from run to run. Imports `lessons`, `tokens`.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .lessons import code_cells, tags
from .tokens import Tolerance, agree

SANITIZE = "sanitize.cfg"  # beside the notebooks: it belongs to their stored outputs
ABOUT, FREE = "about", "free"
_COMPARED = ("text/", "image/svg+xml")  # kinds of data that are text


@dataclass(frozen=True)
class Difference:
    """One cell whose outputs differ: its execution count as stored, its first line, what changed."""

    count: int
    line: str
    change: str


def sanitiser(path: str | Path) -> Callable[[str], str]:
    """The function that replaces what may differ, read from pairs of lines `regex: ...`, `replace: ...`."""
    rules = re.findall(r"^regex: (.*)\nreplace: (.*)$", Path(path).read_text(encoding="utf-8"), re.MULTILINE)
    patterns = [(re.compile(regex), replacement) for regex, replacement in rules]

    def clean(text: str) -> str:
        for pattern, replacement in patterns:
            text = pattern.sub(replacement, text)
        return text

    return clean


def differences(stored: dict[str, Any], executed: dict[str, Any], clean: Callable[[str], str]) -> list[Difference]:
    """The cells of `executed` that say something else than those of `stored`.

    stored, executed: notebooks as `lessons.load` reads them; the cell in which papermill puts
        parameters is passed over.
    clean: what `sanitiser` returned.
    Raises ValueError when the two are not the same notebook.
    """
    found = []
    for old, new in pairs(stored, executed):
        changed = change(old, new, clean)
        if changed:
            found.append(Difference(old["execution_count"], old["source"].strip().splitlines()[0], changed))
    return found


def pairs(stored: dict[str, Any], executed: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each code cell of `stored` with its like in `executed`. Raises ValueError when they are not the same notebook."""
    before = code_cells(stored)
    after = [cell for cell in code_cells(executed) if "injected-parameters" not in tags(cell)]
    if [cell["source"] for cell in before] != [cell["source"] for cell in after]:
        raise ValueError("The executed notebook has other cells than the stored one: run it again.")
    return list(zip(before, after, strict=True))


def change(stored: dict[str, Any], executed: dict[str, Any], clean: Callable[[str], str]) -> str:
    """The lines that a code cell said (-) and says now (+), kind of output by kind; empty when it says the same.

    stored: the cell, whose tags and metadata count.  executed: anything with `outputs`.
    """
    if FREE in tags(stored) or stored["execution_count"] is None:
        return ""
    allowed = tolerance(stored)
    old, new = texts(stored, clean), texts(executed, clean)
    lines = [line for name in sorted(old.keys() | new.keys())
             for line in _changed(old.get(name, ""), new.get(name, ""), allowed)]
    if lines and allowed is not None:
        lines.append(f"(numbers may move by {allowed})")
    return "\n".join(lines)


def tolerance(cell: dict[str, Any]) -> Tolerance | None:
    """How far numbers of a cell may move: as its metadata say for one of kind about, None for one of kind exact."""
    return Tolerance(**cell["metadata"].get("mtlcourse", {})) if ABOUT in tags(cell) else None


def texts(cell: dict[str, Any], clean: Callable[[str], str]) -> dict[str, str]:
    """Everything a cell said, one text a kind of output."""
    said: dict[str, str] = {}
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            kinds = {output["name"]: output["text"]}
        elif output["output_type"] == "error":
            kinds = {"error": f"{output['ename']}: {output['evalue']}\n"}
        else:
            kinds = {mime: data for mime, data in output["data"].items() if mime.startswith(_COMPARED)}
        for kind, text in kinds.items():
            said[kind] = said.get(kind, "") + (text if isinstance(text, str) else "".join(map(str, text)))
    return {kind: clean(_overwritten(text)) for kind, text in said.items()}


def _overwritten(text: str) -> str:
    """`text` as a terminal shows it: a carriage return starts the line again."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _changed(old: str, new: str, allowed: Tolerance | None) -> list[str]:
    """The lines of `old` that went (-) and those of `new` that came (+)."""
    before, after = old.splitlines(), new.splitlines()
    if len(before) == len(after):  # a line that agrees is no change, whatever its digits
        after = [was if agree(was, now, allowed) else now for was, now in zip(before, after, strict=True)]
    changed = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
    return [line for line in changed if not line.startswith("@@")]
