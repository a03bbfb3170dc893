"""`make notebooks` stores outputs that hold on every machine, without traces of this one, or keeps the old ones."""

import importlib.util
from pathlib import Path

import pytest

from mtlcourse.course import lessons, machines
from tests.notebooks.samples import notebook, write

SCRIPT = Path(__file__).parents[2] / "notebooks" / "refresh.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    for name in machines.SETS["avx2"]:  # these tests may themselves run under one of the sets
        monkeypatch.delenv(name, raising=False)
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


# A cell that says something else on each instruction set, as trained numbers do.
MACHINE = "import os\nmachine = {None: 0, 'avx2': 1, 'default': 2}[os.environ.get('ATEN_CPU_CAPABILITY')]"
TRAINED = "print('miou', 0.25 + 0.01 * machine, 'epochs', 6)"


def with_tags(made, **tags: str):
    """`made`, the code cells that contain a name tagged so."""
    for cell in made.cells:
        cell.metadata.tags = cell.metadata.get("tags", []) + [tag for name, tag in tags.items() if name in cell.source]
    return made


def test_tolerances_are_measured_and_stored(script, tmp_path: Path, capsys: pytest.CaptureFixture):
    made = with_tags(notebook(MACHINE, TRAINED, "print(-0.0 * machine)", "print('free', 'abc'[machine])"),
                     miou="about", free="free")
    made.cells[3].metadata.mtlcourse = {"absolute": 0.0001}  # by hand, too little
    made.cells[4].metadata.mtlcourse = {"absolute": 5.0}  # it is no longer about anything
    path = write(tmp_path, "00_a", made)
    assert script.refresh(path)
    stored = lessons.code_cells(lessons.load(path))
    assert [cell["metadata"].get("mtlcourse") for cell in stored] == [None, None, {"absolute": 0.06}, None, None]
    assert [cell["outputs"][0]["text"] for cell in stored[2:]] == [["miou 0.25 epochs 6\n"], ["-0.0\n"], ["free a\n"]]
    assert "[3] about, numbers may move by 0.06 absolute" in capsys.readouterr().out


REFUSED = {
    "'hps best'[4 * (machine == 1):]": "but it says 'hps' here and 'best' there",
    "'about 1.0' + ' 2.0' * (machine == 2)": "but it says the end of a line here and 2.0 there",
    "'hps 1.0' if machine else 'stl 1.0'": "but it says 'stl' here and 'hps' there",
    "'no number'": "it prints no number that could move",
}
EXACT = "[7] is exact, but as it comes (-) it says something else than with {0} (+): tag it 'about'"


def test_what_does_not_hold_on_every_machine_is_refused(script, tmp_path: Path, capsys: pytest.CaptureFixture):
    made = notebook(MACHINE, *(f"print({said})" for said in REFUSED), "f'miou {0.25 + 0.01 * machine}'")
    path = write(tmp_path, "00_a", with_tags(made, print="about"))
    before = path.read_bytes()
    assert not script.refresh(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["00_a.ipynb"]
    shown = capsys.readouterr()
    assert shown.out == "refused  00_a\n"
    for count, (said, message) in enumerate(REFUSED.items(), 3):
        assert f"[{count}] is 'about', but" in shown.err and message in shown.err and f"print({said})" in shown.err
    assert EXACT.format("avx2") in shown.err and EXACT.format("sse") in shown.err


@pytest.mark.parametrize(("source", "where"), [("seed / 0", "as it comes"), ("seed / (machine - 2)", "sse")])
def test_a_failing_notebook_stays_as_it_was(script, tmp_path: Path, capsys: pytest.CaptureFixture, source: str,
                                            where: str):
    path = write(tmp_path, "00_a", notebook("print(seed)", MACHINE, source))
    before = path.read_bytes()
    assert not script.refresh(path)
    assert path.read_bytes() == before
    shown = capsys.readouterr()
    assert shown.out == f"failed   00_a, {where}\n" and "ZeroDivisionError" in shown.err


def test_the_index_is_written_beside_the_notebooks(script, tmp_path: Path):
    write(tmp_path, "00_a", notebook())
    script.write_index(tmp_path)
    assert "[A sample](00_a.ipynb)" in (tmp_path / "README.md").read_text()


def test_an_unknown_notebook_is_refused(script):
    with pytest.raises(SystemExit, match="No notebook|Unknown notebook '77'"):
        script.main(["77"])
