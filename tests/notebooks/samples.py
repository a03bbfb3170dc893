"""Small notebooks that tests make for themselves."""

from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4

FRONT = {"goals": ["see", "try", "explain"], "needs": [], "fast_seconds": 5, "full_minutes": 1}
PARAMETERS = 'budget = "fast"\nseed = 0\nrate = 0.5'


def notebook(*sources: str, parameters: str | None = PARAMETERS, title: str = "A sample\n\nDoes it run?",
             **front: Any) -> nbformat.NotebookNode:
    """A notebook with a title, a parameters cell (unless None) and a code cell for each of `sources`.

    `front` replaces fields of the front matter.
    """
    cells = [v4.new_markdown_cell(f"# {title}")]
    if parameters is not None:
        cells.append(v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    cells += [v4.new_code_cell(source) for source in sources]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                "mtlcourse": {**FRONT, **front}}
    return v4.new_notebook(cells=cells, metadata=metadata)


def write(folder: Path, name: str, made: nbformat.NotebookNode) -> Path:
    """Write `made` as `folder/name.ipynb` and return the path."""
    path = folder / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
    return path
