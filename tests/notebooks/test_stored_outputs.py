"""The stored outputs of the notebooks come out again: nbval runs them, their kinds say what that means."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from mtlcourse.course import lessons, outputs
from tests.notebooks.samples import notebook, write

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
COURSE = sorted(path for path in FOLDER.glob("*.ipynb") if lessons.NAME.fullmatch(path.name))
CELL_SECONDS = 300


def nbval(path: Path) -> subprocess.CompletedProcess:
    """Run nbval on one notebook in a process of its own, with nothing of this project's pytest settings."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={path.parent}", "-p", "no:cacheprovider",
               "-p", "tests.notebooks.kinds", "--quiet", "--color=no", "--nbval", "--nbval-current-env",
               f"--nbval-sanitize-with={FOLDER / outputs.SANITIZE}", f"--nbval-cell-timeout={CELL_SECONDS}", str(path)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=ROOT)


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_stored_outputs_come_out_again(path: Path):
    done = nbval(path)
    cells = sum(cell["cell_type"] == "code" for cell in lessons.load(path)["cells"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{cells} passed" in done.stdout  # and not: nothing was collected, or skipped


def stored(source: str, text: str, *tags: str, **metadata: float) -> nbformat.NotebookNode:
    """A code cell with the output that was stored."""
    cell = v4.new_code_cell(source, execution_count=1, metadata={"tags": list(tags), "mtlcourse": metadata})
    cell.outputs = [v4.new_output("stream", name="stdout", text=text)]
    return cell


def with_cells(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    made = notebook(parameters=None)
    made.cells += cells
    return made


def test_what_agrees_passes(tmp_path: Path):
    made = with_cells(
        stored("print([0.0, 1.5])", "[-0.0, 1.5]\n"),
        stored("print('miou', 0.2597)", "miou 0.2542\n", "about", absolute=0.01),
        stored("import time; print(time.time(), 'today')", "yesterday\n", "free"),
    )
    done = nbval(write(tmp_path, "00_fine", made))
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout


def test_a_stored_output_that_is_not_true_is_found_whatever_its_kind(tmp_path: Path):
    made = with_cells(
        stored("print(0)", "0\n"),
        stored("print(1)", "7\n"),
        stored("print('miou', 0.2597)", "miou 0.2542\n", "about", absolute=0.001),
        stored("print('hps', 0.25)", "stl 0.25\n", "about", absolute=0.001),
        stored("1 / 0", "0\n", "free"),
    )
    done = nbval(write(tmp_path, "00_false", made))
    assert done.returncode == 1 and "4 failed, 1 passed" in done.stdout, done.stdout
    assert "-miou 0.2542\n+miou 0.2597\n(numbers may move by 0.001 absolute)" in done.stdout
