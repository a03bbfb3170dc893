"""The guides' code runs, their links lead somewhere here and in the book, and their tables are whole."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import torchjd.aggregation
import torchjd.scalarization

from mtlcourse import export, methods, runs, strategies

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "book" / "guides"
GUIDES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
STRATEGIES = GUIDES["strategies"]


def blocks(guide: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDES[guide], re.DOTALL)


def test_a_loop_of_ones_own_runs_and_learns():
    code = next(block for block in blocks("own_loop") if "Loop" in block)
    assert len(code.strip().splitlines()) <= 19 and "clip=" in code and "schedule.step()" in code
    torch.manual_seed(0)
    exec(code.replace("print(loop.epoch_end())", "means.append(loop.epoch_end())"), {"means": (means := [])})
    assert len(means) == 6 and all(means[5][task] < 0.5 * means[0][task] for task in ("kind", "size"))


def test_own_problem_runs_by_its_path(tmp_path, monkeypatch):
    own = next(block for block in blocks("own_tasks") if "# mine.py" in block)
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
    code = next(block for block in blocks("serving") if "torch.export" in block)
    assert len(code.strip().splitlines()) <= 5
    exec(code, {})
    assert len(re.findall(r"\d", capsys.readouterr().out)) == 16


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> Path:
    """The folder of the guide on adding a method, with its two files."""
    folder = tmp_path_factory.mktemp("added")
    for block in blocks("adding_a_method"):
        (folder / re.match(r"# (\w+\.py)\n", block)[1]).write_text(block)
    return folder


def test_a_method_is_added_in_forty_lines_and_its_tests_pass(added: Path):
    lines = [line for line in (added / "scaled.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 40 and sorted(path.name for path in added.iterdir()) == ["scaled.py", "test_scaled.py"]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(added)], cwd=added,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout


@pytest.mark.parametrize(("right", "wrong"), [
    ("torch.ones(features)", "2 * torch.ones(features)"), ("len(w) * w / w.sum()", "w / w.sum()"),
    ("1 / np.maximum(lengths, 1e-6 * lengths.max())", "np.ones(len(lengths))"),
    ("[*self.shared.stages, self.scales[task], self.heads[task]]", "[self.scales[task], self.heads[task]]"),
])
def test_the_added_tests_can_fail(added: Path, tmp_path: Path, monkeypatch, right: str, wrong: str):
    code = (added / "scaled.py").read_text()
    assert right in code
    unregistered = re.sub(r"^(@strategies|methods)\.register.*\n", "", code.replace(right, wrong), flags=re.MULTILINE)
    broken = types.ModuleType("scaled")
    exec(unregistered, broken.__dict__)
    monkeypatch.setitem(sys.modules, "scaled", broken)
    monkeypatch.setattr(strategies, "make", lambda name: broken.UnitLength())
    scope: dict = {}
    exec((added / "test_scaled.py").read_text(), scope)
    failed = 0
    for name in ("test_at_the_start_it_is_hard_sharing", "test_only_the_encoder_is_shared",
                 "test_weighted_gradients_are_equally_long_and_weights_sum_to_m"):
        try:
            scope[name]()
        except AssertionError:
            failed += 1
    assert failed == 1


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_somewhere(guide: str):
    made = {"adding.md", "citing.md", "../glossary.md"}  # when the book is built
    for target in re.findall(r"\]\(([^)#]+)\)", re.sub(r"```.*?```", "", GUIDES[guide], flags=re.DOTALL)):
        assert target.startswith("https://") or target in made or (FOLDER / target).exists(), target


def test_every_guide_is_found_from_the_readme_and_from_the_index():
    readme, own = (ROOT / "README.md").read_text(encoding="utf-8"), set(GUIDES) - {"index"}
    assert set(re.findall(r"^\| \[[^]]+\]\(book/guides/(\w+)\.md\)", readme, re.MULTILINE)) == own
    assert set(re.findall(r"\]\((\w+)\.md\)", GUIDES["index"])) == own | {"adding", "citing"}
    toctree = GUIDES["index"].split(":hidden:")[1].split("```")[0].split()
    assert set(toctree) == own | {"adding", "citing"}


def test_every_strategy_is_in_the_list():
    rows = STRATEGIES.partition("| name | what it does |")[2].partition("\n\n")[0].splitlines()[2:]
    listed = [name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(strategies.names()) and len(set(listed)) == len(listed)


# By its documentation and repository; what the sentence below the table names counts as answered.
LIBMTL = ("Aligned_MTL", "CAGrad", "DB_MTL", "DWA", "EW", "ExcessMTL", "FAMO", "FORUM", "FairGrad", "GLS", "GradDrop",
          "GradNorm", "GradVac", "IMTL", "MGDA", "MoCo", "MoDo", "Nash_MTL", "PCGrad", "RGW", "RLW", "SDMGrad", "STCH",
          "UPGrad", "UW")
BASES = {"Aggregator", "Weighting", "GramianWeightedAggregator", "WeightedAggregator", "Scalarizer"}


def test_every_strategy_of_both_peers_is_answered():
    table, _, below = STRATEGIES.partition("| name | what it does |")[2].partition("\n\n")
    columns = [row.split("|")[3:5] for row in table.splitlines()[2:]]
    left_out = re.search(r"Not here: (.*?)\n\n", below, re.DOTALL)[1]
    theirs = {name for module in (torchjd.aggregation, torchjd.scalarization) for name in vars(module)
              if isinstance(getattr(module, name), type) and name[0].isupper() and name not in BASES}
    for place, names in enumerate((set(LIBMTL), {name.removesuffix("Weighting") for name in theirs})):
        said = " ".join(column[place] for column in columns).replace("Weighting", "").replace(",", " ").split()
        assert not [name for name in names if name not in said and not re.search(rf"\b{name}\b", left_out)]
        assert not {name for name in said if name not in names} - {"first", "second", "half"}, "not theirs"
