"""The README's code runs, and its links lead somewhere."""

import re
from pathlib import Path

import pytest
import torch
import torchjd.aggregation
import torchjd.scalarization

from mtlcourse import export, methods, runs, strategies

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


def test_a_loop_of_ones_own_runs_and_learns():
    code = next(block for block in BLOCKS if "Loop" in block)
    assert len(code.strip().splitlines()) <= 19 and "clip=" in code and "schedule.step()" in code
    torch.manual_seed(0)
    exec(code.replace("print(loop.epoch_end())", "means.append(loop.epoch_end())"), {"means": (means := [])})
    assert len(means) == 6 and all(means[5][task] < 0.5 * means[0][task] for task in ("kind", "size"))


def test_own_problem_runs_by_its_path(tmp_path, monkeypatch):
    own = next(block for block in BLOCKS if "# mine.py" in block)
    (tmp_path / "mine.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    run = methods.run("hps", "mine:problem", budget="smoke", progress=False)
    assert set(run.metrics) == {"sign", "norm"}


def test_a_run_is_served(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    problem = "multidigits(train=64, val=32, test=32)"
    config = runs.configuration(problem, "hps", 0, "smoke")
    loaded = methods.load_problem(problem)
    folder = runs.save(methods.run("hps", loaded, budget="smoke", progress=False), loaded, config, "runs")
    export.export(folder, "exported")
    code = next(block for block in BLOCKS if "torch.export" in block)
    assert len(code.strip().splitlines()) <= 5
    exec(code, {})
    assert len(re.findall(r"\d", capsys.readouterr().out)) == 16


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", PROSE))))
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


# By its documentation and repository; what the sentence below the table names counts as answered.
LIBMTL = ("Aligned_MTL", "CAGrad", "DB_MTL", "DWA", "EW", "ExcessMTL", "FAMO", "FORUM", "FairGrad", "GLS", "GradDrop",
          "GradNorm", "GradVac", "IMTL", "MGDA", "MoCo", "MoDo", "Nash_MTL", "PCGrad", "RGW", "RLW", "SDMGrad", "STCH",
          "UPGrad", "UW")
BASES = {"Aggregator", "Weighting", "GramianWeightedAggregator", "WeightedAggregator", "Scalarizer"}


def test_every_strategy_of_both_peers_is_answered():
    table, _, below = TEXT.partition("| name | what it does |")[2].partition("\n\n")
    columns = [row.split("|")[3:5] for row in table.splitlines()[2:]]
    left_out = re.search(r"Not here: (.*?)\n\n", below, re.DOTALL)[1]
    theirs = {name for module in (torchjd.aggregation, torchjd.scalarization) for name in vars(module)
              if isinstance(getattr(module, name), type) and name[0].isupper() and name not in BASES}
    for place, names in enumerate((set(LIBMTL), {name.removesuffix("Weighting") for name in theirs})):
        said = " ".join(column[place] for column in columns).replace("Weighting", "").replace(",", " ").split()
        assert not [name for name in names if name not in said and not re.search(rf"\b{name}\b", left_out)]
        assert not {name for name in said if name not in names} - {"first", "second", "half"}, "not theirs"
