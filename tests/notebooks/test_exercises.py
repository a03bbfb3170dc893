"""Every exercise has a solution that passes and begins with an answer that does not.

The cells are run in this process, the solutions at the smallest budget; no kernel is needed.
"""

import ast
import re
from pathlib import Path

import pytest

from mtlcourse.course import lessons
from mtlcourse.course.exercises import EXERCISES, HINTS, load

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


def statements(source):
    """The statements of a cell as code without spaces, and the expressions that they return or assign."""
    for node in ast.walk(ast.parse(source)):
        value = getattr(node, "value", None)
        for part in (node, value):
            if isinstance(part, ast.stmt | ast.expr) and isinstance(node, ast.stmt):
                yield re.sub(r"\s", "", ast.unparse(part))


def given_away(hint, source):
    """The statements of the solution `source` that stand in `hint`; short ones, such as x = 0, give nothing away."""
    squeezed = re.sub(r"\s", "", hint)
    return [code for code in statements(source) if len(code) > 12 and code in squeezed]


@pytest.mark.parametrize("path", [path for path in LESSONS if checked(path)], ids=lambda path: path.stem)
def test_every_exercise_has_two_hints_that_leave_the_last_step(path):
    solutions = {number: source for source in sources(NOTEBOOKS / "solutions" / path.name)
                 for number in CHECK.findall(source)}
    load(path.stem[:2])
    for number in checked(path):
        first, second = HINTS[number]
        assert first != second and all(20 < len(hint) < 250 and hint == hint.strip() for hint in (first, second))
        assert all(hint[-1] in ".?" for hint in (first, second)), f"{number}: a hint is a sentence"
        assert not given_away(f"{first} {second}", solutions[number])


def test_a_hint_that_is_the_solution_is_noticed():
    source = "def tasks_that_suffer(mtl, stl):\n    return (mtl < stl).sum()"
    assert given_away("Write return (mtl<stl).sum() there.", source) == ["return(mtl<stl).sum()", "(mtl<stl).sum()"]
    assert not given_away("Compare, then count.", source)
