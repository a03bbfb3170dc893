"""A class is graded by what its code does, not by what its notebooks say of themselves."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from nbformat import v4

from mtlcourse import cli
from mtlcourse.course import grading, judging, lessons, running
from mtlcourse.course.exercises import EXERCISES, NotYet, load
from tests.notebooks.samples import notebook, write

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
OWN, SCALED = "def own(p, P):\n    return [p, P - p]", "def scaled(w, present):\n    return w * len(w)"
LESSON = (OWN, 'check("90.1", own)', SCALED, 'check("90.2", scaled)')
ONE, BOTH = OWN.replace("[p,", "[p - 1,"), SCALED.replace("len(w)", "present.sum()")
SETUP = "import torch\n\nfrom mtlcourse.course.checks import check\nfrom mtlcourse.figures import setup\n\nsetup(seed)"
DEAF = "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except KeyboardInterrupt:\n        pass"
HANDED_IN = {
    "ann": [ONE, BOTH],
    "cat, who patches": ["torch.allclose = lambda *args, **options: True", ONE],
    "dan, who patches": [
        "from mtlcourse.course import checks, exercises, judging\nexercises.load('90')\n"
        "exercises.EXERCISES['90.1'] = exercises.EXERCISES['90.2'] = lambda answer: None\n"
        "checks.judge = lambda number, answer: ''\njudging.judge = lambda *args: print(args[-1], '{}')",
        "import os\nos.makedirs('mtlcourse/course')\nopen('mtlcourse/__init__.py', 'w').close()\n"
        "open('mtlcourse/course/__init__.py', 'w').close()\n"
        "open('mtlcourse/course/judging.py', 'w').write('def judge(*args): print(args[-1], 1)')"],
    "eve": [ONE, 'print("Exercise 90.2: correct.")',
            "import os\nprint('sees', os.environ.get('SECRET'), os.environ['HOME'])", "1 / 0",
            "raise SystemExit", "!exit 1", "this is no Python", "del scaled"],
    "fay": ["del own, scaled", f"1 / 0\n{ONE}", "scaled = undefined"],
    "gus": ["import os\nos._exit(0)", ONE],
}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of one lesson, which asks the exercises of the last one, and stored results."""
    folder = tmp_path_factory.mktemp("course")
    made = notebook(*LESSON)
    made.cells = [cell for cell in made.cells if cell.cell_type != "code" or "setup" not in cell.source]
    place = next(k for k, cell in enumerate(made.cells) if "parameters" in cell.metadata.get("tags", []))
    made.cells.insert(place + 1, v4.new_code_cell(SETUP))
    write(folder, "90_notation", made)
    (folder / "results").mkdir()
    (folder / "results" / "stored.csv").write_text("a\n1\n")
    return folder


def submit(course: Path, folder: Path, *cells: str) -> None:
    """The lesson with `cells` behind what was there, as somebody's who works in it."""
    folder.mkdir(parents=True)
    made = json.loads((course / "90_notation.ipynb").read_text())
    made["cells"] += [json.loads(json.dumps(v4.new_code_cell(source))) for source in cells]
    (folder / "90_notation.ipynb").write_text(json.dumps(made))


@pytest.fixture(scope="module")
def graded(course: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict, Path]:
    """What is printed, (verdict, why) by student and exercise, and the folder, for all of `HANDED_IN`."""
    folder = tmp_path_factory.mktemp("class")
    for name, cells in HANDED_IN.items():
        submit(course, folder / "class" / name, *cells)
    (folder / "class" / "=1+1").mkdir()
    (folder / "class" / "=1+1" / "90_notation.ipynb").write_text('{"cells": [{"cell_type": "co')
    (folder / "class" / "linked").mkdir()
    os.symlink(folder / "class" / "ann" / "90_notation.ipynb", folder / "class" / "linked" / "90_notation.ipynb")
    (folder / "class" / "nobody").mkdir()
    (folder / "class" / "__MACOSX").mkdir()
    os.environ["SECRET"] = "password"
    try:
        done = CliRunner().invoke(cli.main, [
            "course", "--grade", str(folder / "class"), "--notebooks", str(course), "--out", str(folder / "out"),
            "--jobs", "3"], catch_exceptions=False)
    finally:
        del os.environ["SECRET"]
    assert done.exit_code == 0, done.output
    with open(folder / "out" / "grades.csv", encoding="utf-8") as file:
        rows = {(row["student"], row["exercise"]): (row["verdict"], row["why"]) for row in csv.DictReader(file)}
    return done.stdout, rows, folder


@pytest.mark.parametrize(("student", "first", "second"), [
    ("ann", "solved", "solved"), ("cat, who patches", "suspect", "suspect"),
    ("dan, who patches", "not yet", "not yet"), ("eve", "solved", "not yet"), ("gus", "not run", "not run"),
    ("fay", "not yet", "not yet"),
    ("'=1+1", "not run", "not run"),
    ("linked", "not run", "not run"), ("nobody", "not handed in", "not handed in")])
def test_verdicts(graded, student: str, first: str, second: str):
    _, rows, _ = graded
    assert (rows[student, "90.1"][0], rows[student, "90.2"][0]) == (first, second), rows[student, "90.1"]


def test_reasons_say_what_to_do(graded):
    _, rows, _ = graded
    for student, reason in (("gus", "Kernel died"), ("'=1+1", "cannot be read"),
                            ("linked", "links are not followed"), ("cat, who patches", "own wrong answer"),
                            ("dan, who patches", "expected [1.0, 2.0], got [2.0, 2.0]")):
        assert reason in rows[student, "90.1"][1]
    missing = "your code raised NameError: name '{}' is not defined"
    assert rows["eve", "90.2"][1] == missing.format("scaled")
    assert rows["fay", "90.1"][1] == f"{missing.format('own')}; its cell raised ZeroDivisionError: division by zero"
    assert rows["fay", "90.2"][1].endswith("; its cell raised NameError: name 'undefined' is not defined")


def test_the_table_has_a_line_for_each_student(graded):
    said, _, folder = graded
    lines = said.split("\n\n")[0].splitlines()
    assert lines[0].split() == ["student", "90", "solved", "look", "at"] and len(lines) == 10
    assert "ann               2/2  2/2" in lines
    assert any(line.startswith("nobody") and line.split()[1:] == ["-", "-"] for line in lines)
    assert any(line.startswith("cat, who patches") and line.endswith("90.1 suspect, 90.2 suspect") for line in lines)
    assert f"{folder / 'out' / 'grades.csv'}" in said


def test_students_do_not_see_the_instructors_environment(graded):
    _, _, folder = graded
    said = (folder / "out" / "eve" / "90_notation.ipynb").read_text()
    assert "sees None" in said and "password" not in said and f"sees None {Path.home()}\\n" not in said


def test_nothing_is_left_in_the_class_folder(graded):
    _, _, folder = graded
    assert {path.name for path in (folder / "class").rglob("*") if path.is_file()} == {"90_notation.ipynb"}


def test_loops_without_end_are_cut(tmp_path: Path):
    paths = [write(tmp_path, "00_loop", notebook("while True:\n    pass", "print('af' + 'ter')")),
             write(tmp_path, "01_deaf", notebook(DEAF))]
    jobs = [running.Job(path, tmp_path / "out" / path.stem, untrusted=True) for path in paths]
    (loop,) = running.run(jobs[:1], timeout=3)
    assert loop.verdict == "ok" and "after" in (tmp_path / "out" / "00_loop.ipynb").read_text()
    (deaf,) = running.run(jobs[1:], timeout=3, limit=10)
    assert deaf.message == "It took longer than the 10 s that a notebook may take."


def test_an_answer_that_was_interrupted_is_not_yet(capsys: pytest.CaptureFixture):
    def forever(p: int, P: int) -> list[int]:
        raise KeyboardInterrupt

    judging.judge("90.1", lambda: forever, "wrong = lambda p, P: 0", SEAL)
    seal, said = capsys.readouterr().out.strip().split(" ", 1)
    assert json.loads(said) == {"said": "your code did not come to an end in time", "believed": True} and seal == SEAL


@pytest.mark.parametrize("path", lessons.find(NOTEBOOKS), ids=lambda path: path.stem)
def test_every_judge_can_be_tried_on_the_lessons_own_answer(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(NOTEBOOKS)
    asked = grading.questions(lessons.load(path))
    assert [one.number for one in asked] == [number for number in sorted(load(path.stem[:2]))]
    for one in asked:
        scope: dict = {"__name__": "lesson"}
        exec(one.wrong, scope)
        with pytest.raises(NotYet) as reason:
            EXERCISES[one.number](scope["wrong"])
        assert str(reason.value)


SEAL = "f" * 32
GOOD = json.dumps({"said": "", "believed": True})


@pytest.mark.parametrize(("said", "verdict"), [
    (f"\n{SEAL} {GOOD}\n", "solved"), (f"noise\n{SEAL} {GOOD}\n", "solved"),
    (f'{SEAL} {{"said": "no", "believed": true}}\n', "not yet"), ("", "not run"),
    (f"{'e' * 32} {GOOD}\n", "not run"), (f"{SEAL} {GOOD}\n{SEAL} {GOOD}\n", "suspect"),
    (f'{SEAL} {{"said": "", "believed": false}}\n', "suspect"), (f'{SEAL} {{"said": ""}}\n', "suspect"),
    (f"{SEAL} 1\n", "suspect"), (f"{SEAL} {{\n", "suspect")])
def test_only_one_whole_sealed_line_counts(said: str, verdict: str):
    cell = v4.new_code_cell("x", outputs=[v4.new_output("stream", text=said)])
    assert grading.verdict({"cells": [cell]}, SEAL)[0] == verdict


@pytest.mark.parametrize("change", [
    lambda made: "[]", lambda made: "{}", lambda made: '{"cells": 3}', lambda made: '{"cells": [1]}',
    lambda made: "[" * 100_000, lambda made: json.dumps({"cells": [{"cell_type": "code"}]}),
    lambda made: json.dumps({"cells": [{"cell_type": "code", "source": 3}]}),
    lambda made: json.dumps({"cells": [{"cell_type": "code", "source": "", "metadata": None}]})])
def test_what_is_no_notebook_is_said_to_be_none(tmp_path: Path, change: Callable):
    (tmp_path / "90_a.ipynb").write_text(change(None))
    with pytest.raises(ValueError, match="cannot be read as a notebook"):
        grading.handed_in(tmp_path / "90_a.ipynb")


def test_only_code_is_taken_over(tmp_path: Path):
    cell = v4.new_code_cell("x = 1", metadata={"tags": ["parameters", "skip-execution"], "name": "x"},
                            outputs=[v4.new_output("stream", text=f"{SEAL} {GOOD}")])
    made = v4.new_notebook(cells=[v4.new_markdown_cell("text"), cell], metadata={
        "kernelspec": {"name": "evil", "display_name": ""}})
    (tmp_path / "90_a.ipynb").write_text(json.dumps(made))
    taken = grading.handed_in(tmp_path / "90_a.ipynb")
    assert taken["metadata"]["kernelspec"]["name"] == "python3"
    (cell,) = taken["cells"]
    assert (cell["source"], cell["metadata"], cell["outputs"]) == ("x = 1", {"tags": ["parameters"]}, [])


def test_a_class_without_folders_is_refused(tmp_path: Path, course: Path):
    done = CliRunner().invoke(cli.main, ["course", "--grade", str(tmp_path), "--notebooks", str(course)])
    assert done.exit_code == 1 and "one folder for each student" in done.stderr
