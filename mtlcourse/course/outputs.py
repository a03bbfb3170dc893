"""Do the outputs of an executed notebook say what the stored ones say?

The rules are those of nbval, which checks the same outputs in the tests: streams of one name are one
text, pictures and widget views are not compared, a cell that was never run promises nothing, and the
patterns of `notebooks/sanitize.cfg` replace what may differ from run to run. Imports `lessons`.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .lessons import code_cells, tags

SANITIZE = "sanitize.cfg"  # beside the notebooks: it belongs to their stored outputs
_COMPARED = ("text/", "image/svg+xml")  # kinds of data that are text


@dataclass(frozen=True)
class Difference:
    """One cell whose outputs differ: its execution count as stored, its first line, what changed."""

    count: int
    line: str
    change: str


def sanitiser(path: str | Path) -> Callable[[str], str]:
    """The function that replaces what may differ, read from pairs of lines `regex: ...`, `replace: ...`."""
    pairs = re.findall(r"^regex: (.*)\nreplace: (.*)$", Path(path).read_text(encoding="utf-8"), re.MULTILINE)
    patterns = [(re.compile(regex), replacement) for regex, replacement in pairs]

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
    With `check` "lax" in the front matter of `stored` only cells tagged `nbval-check-output` count.
    Raises ValueError when the two are not the same notebook.
    """
    before = code_cells(stored)
    after = [cell for cell in code_cells(executed) if "injected-parameters" not in tags(cell)]
    if [cell["source"] for cell in before] != [cell["source"] for cell in after]:
        raise ValueError("The executed notebook has other cells than the stored one: run it again.")
    check_all = stored["metadata"].get("mtlcourse", {}).get("check", "strict") == "strict"
    found = []
    for old, new in zip(before, after, strict=True):
        checked = (check_all or "nbval-check-output" in tags(old)) and "nbval-ignore-output" not in tags(old)
        if checked and old["execution_count"] is not None:
            change = _change(_texts(old, clean), _texts(new, clean))
            if change:
                found.append(Difference(old["execution_count"], old["source"].strip().splitlines()[0], change))
    return found


def _texts(cell: dict[str, Any], clean: Callable[[str], str]) -> dict[str, str]:
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


def _change(old: dict[str, str], new: dict[str, str]) -> str:
    """The lines that went (-) and came (+), kind by kind; empty when nothing did."""
    lines = []
    for kind in sorted(old.keys() | new.keys()):
        before, after = old.get(kind, "").splitlines(), new.get(kind, "").splitlines()
        changed = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
        lines += [line for line in changed if not line.startswith("@@")]
    return "\n".join(lines)
