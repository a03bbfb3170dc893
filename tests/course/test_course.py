"""`mtlcourse course`, on notebooks made here: verdicts, parameters, resumption, comparison, interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from nbformat import v4

from mtlcourse import cli
from mtlcourse.course import book, lessons, outputs, parameters, running
from mtlcourse.course.book import build, ran
from tests.notebooks.samples import notebook, write

ROOT = Path(__file__).parents[2]
WAIT = 'import time; open("pid{}", "w").write(str(__import__("os").getpid())); time.sleep(120)'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for notebooks with the course's own sanitising file."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / outputs.SANITIZE, tmp_path / "notebooks")
    return tmp_path / "notebooks"


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """`mtlcourse course` beside `folder`, in a process group of its own as if in a terminal."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    return subprocess.Popen([sys.executable, "-m", "mtlcourse", "course", *arguments], cwd=folder.parent,
                            env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, start_new_session=True, preexec_fn=_hear_interrupts)


def _hear_interrupts() -> None:
    # Tests that run in the background of a script inherit an ignored SIGINT; a terminal's commands do not.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def course(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_every_notebook_gets_its_verdict(folder: Path):
    good = notebook("print('at', __import__('os').getcwd())", "print(seed, rate, budget)", title="Good <b>\n\nIs it?")
    good.cells.append(v4.new_markdown_cell("[next](01_bad.ipynb#top)"))
    good.cells.append(v4.new_code_cell("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"))
    write(folder, "00_good", good)
    write(folder, "01_bad", notebook("wrong = seed / 0", "print('ne' + 'ver')"))
    write(folder, "02_kernel_dies", notebook("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)"))
    write(folder, "03_process_dies", notebook("import os, signal", "os.kill(os.getppid(), signal.SIGKILL)"))
    write(folder, "04_does_nothing", notebook(parameters=None))
    write(folder, "05_slow", notebook("import time", "time.sleep(60)"))
    status, out, err = course(folder, "--parameter", "00:seed=3", "--parameter", "budget=smoke",
                              "--parameter", "00:rate=1", "--execution-timeout", "3")
    assert status == 1 and err == "" and "1 of 6 notebooks ok" in out
    told = {part.partition(" ")[0]: part for part in out.split("\n\n")[1:]}
    assert told["01_bad"].endswith("In [3]:\n    wrong = seed / 0\nZeroDivisionError: division by zero")
    assert "DeadKernelError" in told["02_kernel_dies"]
    assert "killed by signal 9" in told["03_process_dies"]
    assert "0 of 0 code cells" in told["04_does_nothing"]
    assert "timed out" in told["05_slow"]
    assert "Executed notebooks: build/course" in out and "No book was made: there is no folder" in out
    built = folder.parent / "build" / "course"
    assert list(built.glob("*.html")) == []  # what people read is the book
    fine, bad = (lessons.load(built / f"{name}.ipynb") for name in ("00_good", "01_bad"))
    said = json.dumps(fine)
    assert f"at {folder}" in said and "3 1 smoke" in said and '"image/png"' in said  # whatever MPLBACKEND is here
    shown = json.dumps([cell.get("outputs") for cell in bad["cells"]])
    assert "ZeroDivisionError" in shown and "never" not in shown
    outcomes = running.last(folder, built)
    assert {name: one.verdict for name, one in outcomes.items()} == {
        "00_good": "ok", **dict.fromkeys(("01_bad", "02_kernel_dies", "03_process_dies", "04_does_nothing", "05_slow"),
                                         "failed")}
    del outcomes["04_does_nothing"]
    table = ran.page([lesson(path) for path in lessons.find(folder)], outcomes)
    assert re.search(r"^\| \[00 Good <b>\]\(lessons/00_good.ipynb\) \| ok \| \d+ \|$", table, re.MULTILINE)
    assert "](lessons/04_does_nothing.ipynb) | not run, stored outputs | - |" in table
    assert "## 01_bad: failed\n\n``````text\nIn [3]:\n    wrong = seed / 0\nZeroDivisionError" in table


def lesson(path: Path) -> lessons.Lesson:
    title, question = lessons.heading(lessons.load(path))
    return lessons.Lesson(path, path.name[:2], title or path.stem, question, (), (), 1.0, 1.0)


@pytest.mark.parametrize(("there", "found", "reason"), [
    (False, True, "there is no folder"), (True, False, "sphinx, myst_nb"), (True, True, ""),
])
def test_why_there_is_no_book_is_a_sentence(tmp_path: Path, monkeypatch, there: bool, found: bool, reason: str):
    if there:
        (tmp_path / "book").mkdir()
        (tmp_path / "book" / "conf.py").touch()
    monkeypatch.setattr(book, "find_spec", lambda name: object() if found else None)
    assert book.lacking(tmp_path).startswith(reason) and bool(book.lacking(tmp_path)) == bool(reason)


def test_the_course_ends_in_the_book_also_when_a_lesson_failed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    write(folder, "00_a", notebook("print(seed)"))
    made, failed = [], running.Outcome("00_a", "failed", 1.0, "why")
    monkeypatch.setattr(running, "run", lambda *arguments, **options: iter([failed]))
    monkeypatch.setattr(book, "lacking", lambda root: "")
    monkeypatch.setattr(build, "build", lambda *places: made.append(places) or places[2] / "index.html")
    chosen = ["course", "--notebooks", str(folder), "--out", str(folder.parent / "out")]
    done = CliRunner().invoke(cli.main, chosen)
    assert done.exit_code == 1 and f"The book: {folder.parent / 'book' / 'index.html'}" in done.output
    assert made == [(folder.parent, folder.parent / "out", folder.parent / "book")]
    assert CliRunner().invoke(cli.main, [*chosen, "--no-book"]).exit_code == 1 and len(made) == 1


@pytest.mark.parametrize(("assignment", "message"), [
    ("00:sead=3", "Notebook 00: Unknown parameter 'sead'. Known: seed, "),
    ("sead=3", "Unknown parameter 'sead'"),
    ("07:seed=3", "Unknown notebook '07'. Known: 00_a"),
    ("00:seed=three", "parameter seed is 0 there, of type int; 'three' is of type str"),
    ("00:seed=True", "of type bool"),
    ("seed", "name=value"),
    ("=3", "name=value"),
])
def test_a_wrong_parameter_is_refused_before_anything_runs(folder: Path, assignment: str, message: str):
    path = write(folder, "00_a", notebook("print(seed)"))
    with pytest.raises(ValueError) as error:
        parameters.assign([path], [assignment])
    assert message in str(error.value)


def test_a_refusal_on_the_command_line_is_one_sentence(folder: Path):
    write(folder, "00_a", notebook("print(seed)"))
    status, out, err = course(folder, "--parameter", "00:sed=1")
    assert status == 1 and out == ""
    assert err == "Error: Notebook 00: Unknown parameter 'sed'. Known: seed, budget, rate.\n"
    assert not (folder.parent / "build").exists()
    status, _, err = course(folder, "--notebooks", "elsewhere")
    assert status == 1 and "elsewhere" in err and "Traceback" not in err


def test_what_ran_is_kept_until_something_changes(folder: Path):
    path = write(folder, "00_a", notebook("print(seed)"))
    job = running.plan(folder, folder.parent / "out")[0]
    job.target.parent.mkdir()
    record = asdict(running.Outcome("00_a", "ok", 1.0, key=job.key()))
    job.record.write_text(json.dumps(record))
    assert running.kept(job) is None  # the executed notebook is gone
    shutil.copy(path, job.executed)
    assert running.kept(job) == running.Outcome("00_a", "ok", 1.0, key=job.key(), kept=True)
    assert [outcome.kept for outcome in running.run([job])] == [True]
    assert running.kept(replace(job, values={"seed": 4})) is None  # other parameters
    for text in (json.dumps({**record, "verdict": "failed"}), '{"name": "00_a", "verd', '{"colour": 1}'):
        job.record.write_text(text)
        assert running.kept(job) is None  # failed; half a record; the record of another version
    job.record.write_text(json.dumps(record))
    (folder / "results").mkdir()
    (folder / "results" / "00_a.csv").write_text("a\n1\n")
    assert running.kept(job) is None  # other stored results
    shutil.rmtree(folder / "results")
    assert running.kept(job)
    write(folder, "00_a", notebook("print(seed + 1)"))
    assert running.kept(job) is None  # another source


def test_the_key_knows_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch):
    write(folder, "00_a", notebook("print(seed)"))
    job = running.plan(folder, folder.parent / "out")[0]
    before = job.key()
    assert job.key() == before
    monkeypatch.setattr(running, "__version__", "9.9.9")
    assert job.key() != before
    monkeypatch.undo()
    (folder / "module.py").write_text("x = 1")
    monkeypatch.setattr(running, "PACKAGE", folder)
    assert job.key() != before


def test_a_kernel_that_does_not_start_gets_a_second_chance(folder: Path, monkeypatch: pytest.MonkeyPatch):
    write(folder, "00_a", notebook("print(seed)"))
    spec = folder.parent / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    starter, starts = spec / "start.py", spec / "starts"
    starter.write_text(f"import os, sys\nopen({str(starts)!r}, 'a').write('x')\n"
                       f"if os.path.getsize({str(starts)!r}) == 1: sys.exit(1)\n"
                       "os.execv(sys.executable, [sys.executable, '-m', 'ipykernel_launcher', *sys.argv[1:]])\n")
    (spec / "kernel.json").write_text(json.dumps({
        "argv": [sys.executable, str(starter), "-f", "{connection_file}"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder.parent / "jupyter"))
    jobs = running.plan(folder, folder.parent / "out")
    assert [outcome.verdict for outcome in running.run(jobs, fresh=True)] == ["ok"]
    assert starts.read_text() == "xx"


def test_comparison_shows_the_cells_that_say_something_else(folder: Path):
    def executed(*said: str):
        made = notebook("print(seed)", "print(object())", "print(took)", "seed + 1")
        for count, (cell, text) in enumerate(zip(made.cells[1:], ["", *said], strict=True), 1):
            cell.execution_count = count
            cell.outputs = [stream(text)] if text else []
        made.cells[-1].outputs = [v4.new_output("execute_result", {"text/plain": said[-1], "image/png": said[0]})]
        return made

    write(folder, "00_a", executed("0\n", "<object at 0x7f01020304>\n", "took 3 s\n", "1"))
    job = running.plan(folder, folder.parent / "out")[0]
    fine = running.Outcome("00_a", "ok", 1.0)
    write(job.target.parent, "00_a", executed("0\n", "<object at 0x7f99999999>\n", "\rwait\rtook 4.5 s\n", "1"))
    assert running.compare(job, fine) == fine  # an address and a duration are allowed to differ
    other = executed("7\n", "<object at 0x7f01020304>\n", "took 3 s\n", "8")
    other.cells.insert(2, v4.new_code_cell("seed = 7", metadata={"tags": ["injected-parameters"]}))
    write(job.target.parent, "00_a", other)
    outcome = running.compare(job, fine)
    assert outcome.verdict == "differs"
    assert outcome.message == "[2] print(seed)\n-0\n+7\n[5] seed + 1\n-1\n+8"


def stream(text: str) -> dict:
    return v4.new_output("stream", name="stdout", text=text)


def test_sanitising_is_narrow():
    clean = outputs.sanitiser(ROOT / "notebooks" / outputs.SANITIZE)
    for text in ("accuracy 0.912", "1.2345", "[1, 2, 3]", "3 of 5 seeds", "layer 3s7", "5.0 points", "0x"):
        assert clean(text) == text
    assert clean("<a at 0x7f3a10>") == clean("<a at 0x7f9999>")
    assert clean("torch 2.13.0+cpu") == clean("torch 2.14.1")
    assert clean("took 3.1 s") == clean("took 12 s")


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_an_interrupt_leaves_no_kernel_and_what_finished_is_kept(folder: Path):
    write(folder, "00_a", notebook("print(seed)"))
    write(folder, "01_b", notebook(WAIT.format(1)))
    write(folder, "02_c", notebook(WAIT.format(2)))
    process = start(folder)
    pids = [folder / "pid1", folder / "pid2"]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernels = [int(path.read_text()) for path in pids]
    assert all(map(is_alive, kernels))
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    out, err = process.communicate(timeout=40)
    assert process.returncode == 130 and "Interrupted" in err and "Traceback" not in err
    assert not any(map(is_alive, kernels))
    assert '"ok"' in (folder.parent / "build" / "course" / "00_a.json").read_text()
