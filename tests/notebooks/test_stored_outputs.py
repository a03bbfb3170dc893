"""The stored outputs of the notebooks come out again: nbval, strict or lax as the front matter says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat import v4

from mtlcourse.course import lessons, outputs
from tests.notebooks.samples import notebook, write

FOLDER = Path(__file__).parents[2] / "notebooks"
COURSE = sorted(path for path in FOLDER.glob("*.ipynb") if lessons.NAME.fullmatch(path.name))
CELL_SECONDS = 300


def nbval(path: Path) -> subprocess.CompletedProcess:
    """Run nbval on one notebook in a process of its own, with nothing of this project's pytest settings."""
    check = lessons.load(path)["metadata"]["mtlcourse"]["check"]
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={path.parent}", "-p", "no:cacheprovider",
               "--quiet", "--color=no", "--nbval" if check == "strict" else "--nbval-lax", "--nbval-current-env",
               f"--nbval-sanitize-with={FOLDER / outputs.SANITIZE}", f"--nbval-cell-timeout={CELL_SECONDS}", str(path)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=path.parent)


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_stored_outputs_come_out_again(path: Path):
    done = nbval(path)
    cells = sum(cell["cell_type"] == "code" for cell in lessons.load(path)["cells"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{cells} passed" in done.stdout  # and not: nothing was collected, or skipped


def said(check: str, tags: list[str], *texts: str):
    made = notebook(*[f"print({number})" for number in range(len(texts))], parameters=None, check=check)
    for count, (cell, text) in enumerate(zip(made.cells[1:], texts, strict=True)):
        cell.update(execution_count=count + 1, outputs=[v4.new_output("stream", name="stdout", text=text)])
        cell.metadata.tags = tags
    return made


def test_a_stored_output_that_is_not_true_is_found(tmp_path: Path):
    done = nbval(write(tmp_path, "00_strict", said("strict", [], "0\n", "7\n")))
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout


def test_a_lax_notebook_is_held_to_its_tagged_cells(tmp_path: Path):
    made = said("lax", [], "0\n", "7\n", "8\n")
    made.cells[-1].metadata.tags = ["nbval-check-output"]
    done = nbval(write(tmp_path, "00_lax", made))
    assert done.returncode == 1 and "1 failed, 2 passed" in done.stdout
