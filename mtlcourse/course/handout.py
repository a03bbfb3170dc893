"""The lessons for a class, as they are before anybody worked on them: without outputs, solutions and answers.

Imports its neighbour `lessons`, and `files`.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from ..files import write_text
from . import lessons, parameters

ANSWER = re.compile(r"<details>\s*<summary>(Answer|What to expect)\b.*?</details>\n*", re.DOTALL)
SOLUTION = re.compile(r"^.*(\bsolutions/|`solutions`).*\n?", re.MULTILINE)
DATA = (".csv", ".json", ".npz", ".safetensors")


def write(folder: Path, out: Path, only: tuple[str, ...] | list[str] = ()) -> list[Path]:
    """Write the lessons of `folder` for a class to `out`, with what they read and an index; the notebooks' paths.

    only: numbers or names of notebooks; all when empty.
    Raises ValueError for a notebook that there is not, and for a folder that has something in it: it may be work.
    """
    chosen = parameters.choose(lessons.find(folder), only)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already, and not an empty folder: somebody may have worked in it. "
                         "Name a new one.")
    written = []
    for path in chosen:
        written.append(out / path.name)
        write_text(written[-1], json.dumps(blank(lessons.load(path)), indent=1, ensure_ascii=False) + "\n")
    for source in (path for path in sorted((folder / "results").rglob("*")) if path.suffix in DATA):
        target = out / source.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    write_text(out / "README.md", lessons.index([lessons.read(path) for path in chosen]))
    return written


def blank(notebook: dict[str, Any]) -> dict[str, Any]:
    """`notebook` without outputs, what was measured on them, folded answers, and lines that lead to solutions.

    >>> said = "Why?\\n<details><summary>Answer</summary>So.</details>\\n\\nNext\\n[Solutions](solutions/00.ipynb)"
    >>> blank({"cells": [{"cell_type": "markdown", "source": said, "metadata": {}}]})["cells"][0]["source"]
    'Why?\\nNext\\n'
    """
    cells = []
    for cell in notebook["cells"]:
        kept = {name: value for name, value in cell["metadata"].items() if name == "tags"}
        if cell["cell_type"] == "code":
            cells.append({**cell, "metadata": kept, "outputs": [], "execution_count": None})
        else:
            cells.append({**cell, "metadata": kept, "source": SOLUTION.sub("", ANSWER.sub("", cell["source"]))})
    return {**notebook, "cells": cells}
