"""Problems of several domains through sweeps, tables, reports and counts, by name."""

import dataclasses
import math

import pytest

from mtlcourse import bench, counts, figures, methods, runs, safety
from mtlcourse.course import results
from tests import domains

PROBLEM = "tests.domains:problem(targets=['there', 'beyond'])"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return folder, bench.sweep([PROBLEM], ["source-only", "pc", "mmd(weight=2)"], [0, 1, 2], folder=folder,
                               progress=False)


def test_a_sweep_makes_a_table_by_target(swept):
    _, done = swept
    assert not done.failures
    assert set(done.table["task"]) == {"there", "beyond"} and set(done.table["metric"]) == {"accuracy", "loss"}
    assert set(done.table["method"]) == {"source-only", "pc", "mmd(weight=2)"}
    assert done.table["test_data"].nunique() == 1 and done.table["test_data"].notna().all()
    accuracy = done.table[done.table["metric"] == "accuracy"]
    assert accuracy["validation"].between(0, 1).all()  # the source's
    assert (accuracy.groupby(["method", "seed"])["validation"].nunique() == 1).all()
    assert (accuracy["value"] != accuracy["validation"]).any()
    assert accuracy["falling"].notna().all() and accuracy["train_loss"].isna().all()
    assert (accuracy["steps"] == 16).all() and (accuracy["epochs"] == 4).all()


def test_a_run_comes_back_as_it_was(swept):
    folder, _ = swept
    config = runs.configuration(PROBLEM, "pc", 1)
    stored, again = runs.load(runs.folder_of(config, folder)), methods.run("pc", PROBLEM, seed=1, progress=False)
    assert stored.metrics == again.metrics and stored.learned == again.learned
    assert stored.test_data == again.test_data and stored.samples.split == "test"
    assert set(stored.samples.rows) == {"there", "beyond"}
    assert set(stored.history["split"]) == {"train", "val", "oracle", "test"}


def test_learning_rates_are_chosen_by_the_source(tmp_path):
    done = bench.sweep([PROBLEM], ["pc"], [0, 1], folder=tmp_path, learning_rates=[1e-6, 0.05], progress=False)
    assert set(runs.selected(done.table)["lr"]) == {0.05}  # with the other the source is not learned


def test_a_report_has_verdicts_by_target(swept):
    folder, done = swept
    report = safety.report(done.table, baseline="source-only")
    assert report.methods == ["pc", "mmd(weight=2)"] and set(report.frame["task"]) == {"there", "beyond"}
    assert math.isfinite(report.delta_i["pc"])
    made = figures.page.from_folder(folder, baseline="source-only")[0]
    assert made.certificates is not None and set(made.certificates.frame["task"]) == {"there", "beyond"}
    live = safety.report({"pc": [methods.run("pc", PROBLEM, seed=seed, progress=False) for seed in (0, 1, 2)]},
                         [methods.run("source-only", PROBLEM, seed=seed, progress=False) for seed in (0, 1, 2)])
    for row, of_table in zip(live.frame.itertuples(), report.frame[report.frame["method"] == "pc"].itertuples(),
                             strict=True):
        assert (row.task, row.difference, row.verdict) == (of_table.task, of_table.difference, of_table.verdict)
    assert "source-only" in report.to_markdown()


def test_methods_of_the_other_kind_are_left_out(tmp_path, capsys):
    done = bench.sweep([PROBLEM, "relatedness"], ["pc", "hps"], [0], budget="smoke", folder=tmp_path, progress=False)
    ran = set(zip(done.table["problem"], done.table["method"], strict=True))
    assert {method for _, method in ran} == {"pc", "hps"} and len(ran) == 2
    assert len(done.failures) == 2 and "hps is left out for tests.domains" in capsys.readouterr().err
    with pytest.raises(ValueError, match="'hps' is a method for a multi-task problem"):
        bench.sweep([PROBLEM], ["hps"], [0], folder=tmp_path, progress=False)


def test_other_target_labels_are_other_data_and_not_another_training(tmp_path):
    clean, poisoned = (bench.sweep([f"tests.domains:problem(poisoned={poison})"], ["source-only", "pc"], [0, 1],
                                   folder=tmp_path, progress=False).table for poison in (False, True))
    assert set(clean["test_data"]).isdisjoint(poisoned["test_data"])
    assert clean["validation"].equals(poisoned["validation"])


def test_a_stored_table_of_domains(tmp_path):
    (tmp_path / "sweeps.toml").write_text('[[tiny]]\nproblems = ["digit_domains"]\nmethods = ["source-only", "pc"]\n'
                                          'seeds = [0]\nbudget = "smoke"\n')
    table = results.refresh("tiny", tmp_path, tmp_path / "runs", workers=1, progress=False)
    assert not results.stale("tiny", tmp_path) and set(table["task"]) == {"mnist"}
    assert set(results.learned("tiny", tmp_path)["method"]) == {"source-only", "pc"}
    assert all("oracle" in learned for learned in results.learned("tiny", tmp_path)["learned"])


def test_parameters_are_counted_without_data():
    counted = counts.count("digit_domains", ["source-only", "pc"])
    of_methods = counted[counted["what"] == "method"]
    assert of_methods["parameters"].nunique() == 1 and not of_methods["refused"].any()
    assert of_methods["parameters"].iloc[0] == methods.count_parameters("pc", "digit_domains")
    model = methods.build("pc", domains.problem())
    assert sum(p.numel() for p in model.parameters()) == methods.count_parameters("pc", "tests.domains:problem")


def test_problems_of_one_folder_stay_apart(swept):
    folder, _ = swept
    config = runs.configuration(PROBLEM, "pc", 0)
    assert config["settings"]["options"] == {"targets": ["there", "beyond"], "poisoned": False}
    assert runs.exists(config, folder) and not runs.exists({**config, "seed": 9}, folder)
    assert dataclasses.replace(domains.problem(), options={"a": 1}).view.source.options == {"a": 1}
