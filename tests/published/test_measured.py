"""What was measured stands beside what is printed, in the printed units, and what is missing is named."""

import pandas as pd
import pytest
from click.testing import CliRunner

from mtlcourse import cli, data, figures, published, runs
from mtlcourse.published import measured as side
from mtlcourse.published.counted import TABLES

NAN = float("nan")
MAIN = [name for name in published.names() if published.load(name).columns]
VALUES = {("segmentation", "miou"): 0.5211, ("segmentation", "pixel_accuracy"): 0.912, ("depth", "abs_error"): 0.0125,
          ("depth", "rel_error"): 20.5}


def rows(method: str, seed: int = 0, problem: str = "cityscapes", budget: str = "paper", lr: float = NAN,
         values: dict | None = None) -> list[dict]:
    """What `runs.table` has of one run; each seed is a thousandth further."""
    given = VALUES if values is None else values
    return [{**dict.fromkeys(runs.COLUMNS, NAN), "problem": problem, "method": method, "seed": seed, "budget": budget,
             "lr": lr, "task": task, "metric": metric, "value": value * (1 + seed / 1000), "parameters": 1,
             "higher_is_better": True} for (task, metric), value in given.items()]


def summary(*made: list[dict]) -> pd.DataFrame:
    return runs.summary(pd.DataFrame(sum(made, []), columns=runs.COLUMNS))


def test_printed_and_measured_have_one_unit():
    frame = published.beside("dsmtl-1", summary(*(rows("hps", seed) for seed in range(3)), rows("stl")))
    table = published.load("dsmtl-1")
    assert list(frame.columns) == [column.header for column in table.columns]
    printed = frame.loc[("HPS", "printed")]
    assert printed["segmentation/mIoU ↑"] == "67.40"  # 67.48 for STL, -0.08 printed
    assert frame.loc[("STL", "printed")].tolist() == [table.text("STL", header) for header in frame.columns]
    measured = frame.loc[("HPS", "hps, paper, 3 seeds")]
    assert measured["segmentation/mIoU ↑"].startswith("52.16 +- 0.1")
    assert measured["segmentation/pixel error ↓"].startswith("8.709 +- 0.2")  # 100 (1 - 0.912), a little less
    assert measured["depth/absolute error ↓"].startswith("0.01251 +- ")
    assert frame.loc[("STL", "stl, paper, 1 seed"), "depth/relative error ↓"] == "20.5"  # one seed has no interval


def test_errors_that_are_printed_as_improvements_become_errors():
    """Better is smaller there: the printed gain is taken off."""
    table, header = published.load("dsmtl-1"), "depth/absolute error ↓"
    gain, stl = (float(table.text(row, header)) for row in ("MTAN", "STL"))
    frame = published.beside("dsmtl-1", summary(rows("stl")))
    assert float(frame.loc[("MTAN", "printed"), header]) == pytest.approx(stl - gain, abs=1e-9)


def test_each_kind_of_run_has_a_row_and_other_methods_none():
    made = summary(rows("hps"), rows("hps(epochs=2)"), rows("hps", budget="full"), rows("hps", lr=0.01),
                   rows("hps+pcgrad"), rows("hps(epochs=2)+cagrad(c=0.5)"), rows("hps-wide"),
                   rows("hps", problem="nyuv2"), rows("hps", problem="cityscapes(holdout=0)"))
    whats = published.beside("dsmtl-1", made).loc["HPS"].index.tolist()
    assert whats == ["printed", "hps, paper, 1 seed", "hps(epochs=2), paper, 1 seed", "hps, full, 1 seed",
                     "hps, paper, lr 0.01, 1 seed", "hps, paper, cityscapes(holdout=0), 1 seed"]


def test_what_is_missing_is_named():
    part = {key: value for key, value in VALUES.items() if key[0] == "segmentation"}
    said = side.missing(published.beside("dsmtl-1", summary(rows("stl"), rows("hps", values=part))))
    assert said[0].startswith("No run of Cross-stitch (cross-stitch), MTAN (mtan), NDDR-CNN (nddr)")
    assert said[1:] == ["hps, paper, 1 seed: no depth/absolute error ↓, depth/relative error ↓."]


@pytest.mark.parametrize("name", MAIN)
def test_every_measure_of_every_table_is_one_that_the_problem_has(name: str):
    problem = data.describe(published.problem_of(name))
    measured = {task.name: set(task.metrics) for task in problem.tasks}
    for column in published.load(name).columns:
        metric = side.MEASURES[column.metric].metric
        known = metric in measured[column.task.replace(" ", "_")]
        assert known != (problem.name == "pascal_context" and metric == "median_angle")  # one paper has it, one RMSE


@pytest.mark.parametrize("name", MAIN)
def test_every_row_means_a_method(name: str):
    from mtlcourse import methods

    for row in published.load(name).cells.index:
        assert side.method_named(row) in methods.names()


@pytest.mark.parametrize("name", sorted(set(published.names()) - set(MAIN)))
def test_tables_without_measures_of_tasks_are_refused(name: str):
    with pytest.raises(ValueError, match="prints no measures of tasks; those that do are dsmtl-1"):
        published.beside(name, summary(rows("stl")))


def test_second_prints_are_of_the_same_problem():
    assert published.problem_of("thesis-6.2") == published.problem_of("dsmtl-2") == "nyuv2"
    assert set(TABLES) > {published.problem_of(name) for name in MAIN}


@pytest.fixture
def folder(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A folder whose runs are made up."""
    made = pd.DataFrame(sum((rows(method, seed) for method in ("stl", "hps") for seed in range(3)), []),
                        columns=runs.COLUMNS)
    monkeypatch.setattr(figures.page, "table", lambda root: made)
    return tmp_path


def test_the_command_prints_it(folder):
    asked = ["report", "--paper", "dsmtl-1", "--folder", str(folder), "--csv", str(folder / "beside.csv")]
    done = CliRunner().invoke(cli.main, asked)
    assert done.exit_code == 0, done.output
    assert "Deep Safe Multi-Task Learning" in done.output and "hps, paper, 3 seeds" in done.output
    assert "No run of Cross-stitch (cross-stitch)" in done.output
    assert not {"better", "worse", "undecided"} & set(done.output.split())
    assert (folder / "beside.csv").read_text().count("printed") == 15
    fewer = CliRunner().invoke(cli.main, [*asked, "--seeds", "0,1", "--methods", "hps"])
    assert "hps, paper, 2 seeds" in fewer.output and "stl, paper" not in fewer.output


@pytest.mark.parametrize(("arguments", "message"), [
    (["--paper", "dsmtl-9"], "Unknown published table 'dsmtl-9'. Known: dsmtl-"),
    (["--paper", "dsmtl-5"], "prints no measures of tasks"),
    (["--paper", "dsmtl-1", "--html", "page.html"], "With --paper TABLE there is no page"),
    (["--paper", "dsmtl-1", "--folder", "no/such/folder"], "There is no folder no/such/folder"),
])
def test_mistakes_are_answered_in_a_sentence(arguments: list[str], message: str):
    done = CliRunner().invoke(cli.main, ["report", *arguments])
    assert done.exit_code in (1, 2) and message in done.output and "Traceback" not in done.output


def test_what_was_never_measured_is_printed_alone():
    """Runs of other methods and problems, or of none, leave a table with printed values, and say what is missing."""
    for made in (rows("stl", problem="multidigits"), rows("conal"), []):
        frame = published.beside("dsmtl-1", summary(made))
        assert list(frame.columns) == [column.header for column in published.load("dsmtl-1").columns]
        assert set(frame.index.get_level_values("what")) == {"printed"} and side.missing(frame)
        assert published.show("dsmtl-1", summary(made))
