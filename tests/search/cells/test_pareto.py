"""`mtlcourse pareto`: several sizes, one table, one figure."""

import pandas as pd
import pytest
from click.testing import CliRunner

from mtlcourse import bench, cli, runs
from tests.search.cells.images import TINY

PROBLEM = "tests.search.cells.test_procedures:probed"
METHOD = f"e2rnas({TINY}, retrain=1)"


def ask(tmp_path, *more: str, method: str = METHOD):
    return CliRunner().invoke(cli.main, ["pareto", "--problem", PROBLEM, "--method", method, "--seeds", "0", "--budget",
                                         "smoke", "--folder", str(tmp_path / "runs"), "--no-progress", *more])


def test_several_sizes_make_a_table_and_a_figure(tmp_path):
    figure = tmp_path / "front.png"
    done = ask(tmp_path, "--L", "600,1500", "--with", f"darts({TINY}, retrain=1)", "--figure", str(figure))
    assert done.exit_code == 0, done.output
    assert figure.stat().st_size > 5_000
    lines = done.output.splitlines()
    assert lines[0].split() == ["accuracy", "pgd_accuracy", "ood_aupr", "parameters", "multiply_adds", "unbeaten"]
    assert sum("L=600" in line for line in lines) == sum("L=1500" in line for line in lines) == 1
    assert any(line.endswith("*") for line in lines) and lines[-1] == f"Figure: {figure}"
    table, ways = bench.by_run(runs.table(tmp_path / "runs"))
    assert len(table) == 3 and ways == {"accuracy": True, "pgd_accuracy": True, "ood_aupr": True, "parameters": False,
                                        "multiply_adds": False}


@pytest.mark.parametrize(("arguments", "message"), [
    (("--L", "600,1500", "--F", "9000"), "There are 2 values of --L and 1 of --F"),
    (("--L", ""), "Give sizes once"),
    (("--L", "small"), "'small' is not a list of numbers"),
    ((), "Missing option '--L'"),
])
def test_what_is_not_asked_for_rightly_is_told(tmp_path, arguments, message):
    done = ask(tmp_path, *arguments)
    assert done.exit_code != 0 and message in done.output


def test_a_size_out_of_reach_is_a_failure_of_that_search_alone(tmp_path):
    done = ask(tmp_path, "--L", "600,9000000", "--figure", str(tmp_path / "front.png"))
    assert done.exit_code == 1 and "L=600" in done.output
    assert "L=9,000,000 parameters are out of reach: networks of this space have 253 to 2,101" in done.output


def test_sizes_stand_in_names():
    assert bench.sized("e2rnas", [(500, 8e4), (600, None)]) == ["e2rnas(F=80000.0, L=500)", "e2rnas(L=600)"]
    with pytest.raises(ValueError, match="Give sizes once"):
        bench.sized("e2rnas(L=5)", [(500, None)])


def test_several_tasks_have_columns_of_their_own():
    rows = [{"method": "a", "seed": 0, "task": task, "metric": metric, "value": 1.0, "higher_is_better": True}
            for task in ("x", "y") for metric in ("accuracy", "loss")]
    table, ways = bench.by_run(pd.DataFrame(rows))
    assert list(table) == ["method", "seed", "x accuracy", "y accuracy"] and ways["x accuracy"]
