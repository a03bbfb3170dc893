"""`make notebooks` stores outputs without traces of the machine, and keeps old ones where a notebook fails."""

import importlib.util
from pathlib import Path

import pytest

from mtlcourse.course import lessons
from tests.notebooks.samples import notebook, write

SCRIPT = Path(__file__).parents[2] / "notebooks" / "refresh.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("refresh", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outputs_are_stored_without_traces(script, tmp_path: Path):
    path = write(tmp_path, "00_a", notebook("print(seed + 41)"))
    assert script.refresh(path)
    stored = lessons.load(path)
    assert [cell["execution_count"] for cell in lessons.code_cells(stored)] == [1, 2]
    assert lessons.code_cells(stored)[1]["outputs"][0]["text"] == ["41\n"]
    assert not any("execution" in cell["metadata"] for cell in stored["cells"])


def test_a_failing_notebook_stays_as_it_was(script, tmp_path: Path, capsys: pytest.CaptureFixture):
    path = write(tmp_path, "00_a", notebook("print(seed)", "seed / 0"))
    before = path.read_bytes()
    assert not script.refresh(path)
    assert path.read_bytes() == before
    shown = capsys.readouterr()
    assert shown.out == "failed   00_a\n" and "ZeroDivisionError" in shown.err


def test_the_index_is_written_beside_the_notebooks(script, tmp_path: Path):
    write(tmp_path, "00_a", notebook())
    script.write_index(tmp_path)
    assert "[A sample](00_a.ipynb)" in (tmp_path / "README.md").read_text()


def test_an_unknown_notebook_is_refused(script):
    with pytest.raises(SystemExit, match="No notebook|Unknown notebook '77'"):
        script.main(["77"])
