"""The README's code runs, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from mtlcourse import methods, strategies

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
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


def test_a_loop_of_ones_own_runs_and_learns():
    code = next(block for block in BLOCKS if "make_step" in block)
    assert len(code.strip().splitlines()) <= 19 and "clip_grad_norm_" in code and "schedule.step()" in code
    scope = {}
    assert 'data.load("multidigits")' in code and "range(6)" in code
    small = code.replace('"multidigits")', '"multidigits", train=256, val=64, test=64)').replace("range(6)", "range(2)")
    exec(small.replace("print(step.end_epoch())", "means.append(step.end_epoch())"), scope | {"means": (means := [])})
    assert means[1]["left"] < means[0]["left"]


def test_own_problem_runs_by_its_path(tmp_path, monkeypatch):
    own = next(block for block in BLOCKS if "# mine.py" in block)
    (tmp_path / "mine.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    run = methods.run("hps", "mine:problem", budget="smoke", progress=False)
    assert set(run.metrics) == {"sign", "norm"}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (ROOT / target).exists()


def test_every_notebook_is_named():
    for notebook in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert f"notebooks/{notebook.name}" in TEXT


def test_every_lesson_is_found_from_the_table():
    rows = re.findall(r"^\| \[\d\d [^]]+\]\(notebooks/([^)]+)\) \|", TEXT, re.MULTILINE)
    assert rows == sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))


def test_every_strategy_is_in_the_list():
    rows = TEXT.partition("| name | what it does |")[2].partition("\n\n")[0].splitlines()[2:]
    listed = [name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(strategies.names()) and len(set(listed)) == len(listed)
