"""Every exercise has a solution that passes and begins with an answer that does not.

The cells are run in this process, the solutions at the smallest budget; no kernel is needed.
"""

import re
from pathlib import Path

import pytest

from mtlcourse.course import lessons
from mtlcourse.course.exercises import EXERCISES

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSONS = lessons.find(NOTEBOOKS)
CHECK = re.compile(r"^check\(\"([\w.]+)\"", re.MULTILINE)


def sources(path):
    return [cell["source"] for cell in lessons.code_cells(lessons.load(path))]


def checked(path):
    return [number for source in sources(path) for number in CHECK.findall(source)]


@pytest.fixture
def here(monkeypatch):
    """In the notebooks' folder, as a kernel is."""
    def enter(path):
        monkeypatch.chdir(path.parent)
    return enter


@pytest.mark.parametrize("path", lessons.find(NOTEBOOKS / "solutions"), ids=lambda path: path.stem)
def test_solutions_are_stored_as_they_were_run(path):
    counts = [cell["execution_count"] for cell in lessons.code_cells(lessons.load(path))]
    assert counts == list(range(1, len(counts) + 1)), "run the notebook once from the top, and store it"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_answers_as_they_stand_are_not_yet_right(path, here, capsys):
    here(path)
    cells = sources(path)
    scope = {}
    setup = next(source for source in cells if "setup(seed)" in source)
    exec("seed = 0\n" + setup, scope)
    for answer, question in zip(cells, cells[1:], strict=False):
        for number in CHECK.findall(question):
            exec(answer, scope)
            capsys.readouterr()
            exec(question, scope)
            assert capsys.readouterr().out.startswith(f"Exercise {number}: not yet: ")


@pytest.mark.parametrize("path", [path for path in LESSONS if checked(path)], ids=lambda path: path.stem)
def test_solutions_pass(path, here, capsys):
    solution = NOTEBOOKS / "solutions" / path.name
    assert solution.exists(), f"{path.name} has exercises and no notebook of solutions"
    assert checked(solution) == checked(path)
    here(solution)
    scope = {}
    for source in sources(solution):
        assert "check(" not in source or "strict=True" in source or "import" in source
        exec(source.replace('budget = "fast"', 'budget = "smoke"'), scope)
    said = capsys.readouterr().out
    assert all(f"Exercise {number}: correct." in said for number in checked(path))


def test_every_check_is_asked():
    asked = {number for path in LESSONS for number in checked(path)}
    for chapter in {number.split(".")[0] for number in asked}:
        assert {number for number in EXERCISES if number.startswith(f"{chapter}.")} <= asked
