"""The lessons for a class, as they are before anybody worked on them: without outputs, solutions and answers.

Imports its neighbour `lessons`, and `files`.
"""

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..files import write_text
from . import lessons, parameters

ANSWER = re.compile(r"<details>\s*<summary>(Answer|What to expect)\b.*?</details>\n*", re.DOTALL)
SOLUTION = re.compile(r"^.*(\bsolutions/|`solutions`).*\n?", re.MULTILINE)
LINK = re.compile(r"\[([^\]]*)\]\((\d\d_\w+\.ipynb)\)")
DATA = (".csv", ".json", ".npz", ".safetensors")


def write(folder: Path, out: Path, only: tuple[str, ...] | list[str] = ()) -> list[Path]:
    """Write the lessons of `folder` for a class to `out`, with what they read and an index; the notebooks' paths.

    only: numbers or names of notebooks; all when empty. Of the stored results those are written that their code names,
        and links to other lessons lose the link.
    Raises ValueError for a notebook that there is not, and for a folder that has something in it: it may be work.
    """
    chosen = parameters.choose(lessons.find(folder), only)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already, and not an empty folder: somebody may have worked in it. "
                         "Name a new one.")
    written, there, code = [], {path.name for path in chosen}, []
    for path in chosen:
        written.append(out / path.name)
        made = blank(lessons.load(path), there)
        code += [cell["source"] for cell in lessons.code_cells(made)]
        write_text(written[-1], json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    named = set(re.findall(r"\w+", "\n".join(code)))
    results = [path for path in sorted((folder / "results").rglob("*")) if path.suffix in DATA and path.stem in named]
    for source in results:
        target = out / source.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    write_text(out / "README.md", lessons.index([lessons.read(path) for path in chosen]))
    return written


def blank(notebook: dict[str, Any], there: Collection[str]) -> dict[str, Any]:
    """`notebook` without outputs, what was measured on them, folded answers, and lines that lead to solutions.

    there: names of the notebooks that links may lead to; of other links the words are left.

    >>> said = "Why?\\n<details><summary>Answer</summary>So.</details>\\n\\n[Next](01_a.ipynb)\\n[All](solutions/0)"
    >>> blank({"cells": [{"cell_type": "markdown", "source": said, "metadata": {}}]}, [])["cells"][0]["source"]
    'Why?\\nNext\\n'
    """
    def linked(found: re.Match[str]) -> str:
        return found[0] if found[2] in there else found[1]

    cells = []
    for cell in notebook["cells"]:
        kept = {name: value for name, value in cell["metadata"].items() if name == "tags"}
        if cell["cell_type"] == "code":
            cells.append({**cell, "metadata": kept, "outputs": [], "execution_count": None})
        else:
            text = SOLUTION.sub("", ANSWER.sub("", cell["source"]))
            cells.append({**cell, "metadata": kept, "source": LINK.sub(linked, text)})
    return {**notebook, "cells": cells}
