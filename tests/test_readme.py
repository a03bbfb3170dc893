"""The README's code runs, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_first_example_runs():
    scope = {}
    smaller = {'budget="fast"': 'budget="smoke"', "epochs=6": "epochs=1", "fit(problem": "fit(problem.sized(256, 256)"}
    code = BLOCKS[0]
    for full, small in smaller.items():
        assert full in code
        code = code.replace(full, small)
    exec(code, scope)
    assert set(scope["run"].metrics) == {"left", "right"}


def test_the_loop_of_ones_own_is_its_guides_which_is_run():
    guide = (ROOT / "book" / "guides" / "own_loop.md").read_text(encoding="utf-8")
    (loop,) = [block for block in BLOCKS if "Loop(" in block]
    assert loop in guide and len(loop.strip().splitlines()) <= 19


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", PROSE))))
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (ROOT / target).exists()


def test_every_notebook_is_named():
    for notebook in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert f"notebooks/{notebook.name}" in TEXT


def test_every_lesson_is_found_from_the_table():
    rows = re.findall(r"^\| \[\d\d [^]]+\]\(notebooks/([^)]+)\) \|", TEXT, re.MULTILINE)
    assert rows == sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))


def test_it_is_read_in_a_quarter_of_an_hour():
    assert len(TEXT.split()) <= 4_000
