"""What a learner has solved is noted once a person worked, whole or not at all, and never in the way of a lesson."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from jupyter_client.manager import start_new_kernel

from mtlcourse import cli
from mtlcourse.course import checks, progress
from mtlcourse.course.exercises import HINTS
from mtlcourse.course.progress import Progress, load, note

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where progress goes in this test."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    assert progress.path() == tmp_path / "mtlcourse" / "progress.json"
    return progress.path()


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "watched", lambda: True)


def test_checks_and_hints_are_noted(file: Path, somebody, capsys: pytest.CaptureFixture):
    checks.check("90.1", lambda p, P: [p, P - p])
    checks.hint("90.1", 2)
    checks.hint("90.1")
    assert load() == {"90.1": Progress(tries=1, hints=2)}
    checks.check("90.1", lambda p, P: [p - 1, P - p])
    solved = load()["90.1"]
    assert (solved.tries, solved.hints) == (2, 2) and len(solved.solved) == len("2026-03-01 10:00")
    checks.check("90.1", lambda p, P: 0)
    checks.hint("90.1")
    assert load() == {"90.1": solved}  # later play does not undo it
    checks.check("00.1", lambda mtl, stl: (mtl < stl).sum(), strict=True)  # a solution is no learner
    assert list(load()) == ["90.1"]
    said = capsys.readouterr().out
    assert f"Hint 1 for exercise 90.1: {HINTS['90.1'][0]}\n" in said and 'hint("90.1", 2)' in said


def test_a_program_notes_nothing(file: Path):
    assert not progress.watched()
    checks.check("90.1", lambda p, P: [p - 1, P - p])
    checks.hint("90.1")
    assert not file.exists()


def test_a_kernel_knows_whether_somebody_is_there(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    manager, client = start_new_kernel(kernel_name="python3", transport_encryption="auto")
    try:
        source = "from mtlcourse.course.checks import check\ncheck('90.1', lambda p, P: [p - 1, P - p])"
        for asked in (False, True):
            assert not file.exists()
            done = client.execute_interactive(source, allow_stdin=asked, timeout=60, output_hook=lambda message: None)
            assert done["content"]["status"] == "ok"
        assert load()["90.1"].solved
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("text", [
    "", '{"00.1": {"tr', "[]", '{"00.1": 3}', '{"00.1": {"colour": 1}}', '{"00.1": {"tries": "2"}}',
    '{"00.1": {"tries": true}}', '{"00.1": {"solved": null}}', "\x00"])
def test_a_broken_file_is_said_and_set_aside(file: Path, text: str, capsys: pytest.CaptureFixture):
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(ValueError, match="is no file of progress"):
        load()
    done = CliRunner().invoke(cli.main, ["progress"])
    assert done.exit_code == 1 and str(file) in done.stderr and file.read_text() == text
    progress.show()
    assert "is no file of progress" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="(?s)is no file of progress .* It is now progress-broken-"):
        note("00.1", correct=True)
    (aside,) = file.parent.glob("progress-broken-*.json")
    assert aside.read_text() == text and load()["00.1"].solved


def test_bytes_that_are_no_text_are_a_broken_file_too(file: Path):
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no file of progress"):
        load()


def test_what_the_disk_refuses_does_not_stop_a_lesson(file: Path, somebody, capsys: pytest.CaptureFixture):
    file.parent.write_text("a file where a folder is needed")
    with pytest.warns(UserWarning, match="Your progress was not noted: .*could not write"):
        checks.check("90.1", lambda p, P: [p - 1, P - p])
    assert capsys.readouterr().out == "Exercise 90.1: correct.\n"


def _note_some(file: Path, numbers: list[str]) -> None:
    for number in numbers:
        note(number, file=file)


def test_two_notebooks_at_once_lose_nothing(file: Path):
    context = multiprocessing.get_context("fork")
    parts = [[f"0{part}.{k}" for k in range(20)] for part in range(2)]
    processes = [context.Process(target=_note_some, args=(file, part)) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert set(load()) == {number for part in parts for number in part}


def test_the_command_shows_what_is_solved(file: Path):
    said = CliRunner().invoke(cli.main, ["progress"]).stdout
    assert said.startswith("Solved: 0 of ") and "Next: 00.1." in said and str(file) in said
    note("00.1", correct=True)
    note("02.2", hint=1)
    note("77.7", correct=True)  # of another version of the course
    said = CliRunner().invoke(cli.main, ["progress"]).stdout
    assert "00  1 of 1  solved 00.1\n02  0 of 3  open 02.1, 02.2 (hints: 1), 02.3\nSolved: 1 of " in said
    assert "77" not in said and "Next: 01.1." in said


def test_all_exercises_are_counted():
    written = (ROOT / "mtlcourse" / "course" / "exercises").glob("chapter_*.py")
    asked = sum(path.read_text().count("\n@exercise(") for path in written)
    assert sum(map(len, progress.chapters().values())) == asked


def test_the_file_reads_as_what_it_is(file: Path):
    note("00.1")
    assert json.loads(file.read_text()) == {"00.1": {"tries": 1, "hints": 0, "solved": ""}}
    assert sorted(os.listdir(file.parent)) == ["progress.json", "progress.lock"]
