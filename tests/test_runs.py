"""What runs leave on disk, and what tables say about many of them."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlcourse import data, methods, models, runs
from mtlcourse.files import config_hash, seed_everything
from mtlcourse.safety.trained import falling, trained
from mtlcourse.training import Run, fit
from tests.folders import full_disk, names_in
from tests.problems import small


@pytest.fixture(autouse=True)
def own_problem():
    """The small problem under a name."""
    data.register("small")(made)
    runs.settings.cache_clear()
    yield
    runs.settings.cache_clear()


def made(train=40, width=6):
    problem = small(train=train)
    problem.encoder = {"name": "mlp", "widths": [width]}
    return problem


def train(method="hps", seed=0):
    return methods.run(method, small(), seed=seed, budget="smoke", progress=False)


CONFIG = {"problem": "small", "method": "hps", "seed": 0, "budget": "smoke", "lr": None}


def configuration(**changes):
    return runs.configuration(**{**CONFIG, **changes})


# --- configurations ---------------------------------------------------------------------------------------

def test_equal_configurations_have_one_name():
    spelled = configuration(problem=" small( train = 40 ) ", method=" hps + ew ")
    assert spelled == configuration(problem="small(train=40)", method="hps+ew")
    assert spelled["settings"]["encoder"] == {"name": "mlp", "widths": [6]}
    assert spelled["settings"]["options"] == {"train": 40, "width": 6}
    assert spelled["version"] == runs.MINOR == "0.1"


@pytest.mark.parametrize("changes", [
    {"seed": 1}, {"method": "stl"}, {"method": "hps+ew"}, {"budget": "fast"}, {"lr": 0.1},
    {"problem": "small(train=41)"}, {"problem": "small(width=7)"},
])
def test_whatever_changes_the_result_changes_the_name(changes, tmp_path):
    assert runs.folder_of(configuration(), tmp_path) != runs.folder_of(configuration(**changes), tmp_path)


def test_another_default_or_version_changes_the_name(monkeypatch):
    before = {config_hash(configuration())}
    monkeypatch.setitem(methods.BUDGETS["smoke"], "epochs", 2)
    runs.settings.cache_clear()
    before.add(config_hash(configuration()))
    monkeypatch.setattr(runs, "MINOR", "0.2")
    before.add(config_hash(configuration()))
    assert len(before) == 3


# --- one run ------------------------------------------------------------------------------------------------

def test_a_run_comes_back_as_it_was(tmp_path):
    run, config = train(), configuration()
    assert not runs.exists(config, tmp_path)
    folder = runs.save(run, small(), config, tmp_path)
    assert folder == runs.folder_of(config, tmp_path) and runs.exists(config, tmp_path)
    assert names_in(folder) == ["history.csv", "model.safetensors", "run.json", "samples.safetensors"]
    assert names_in(tmp_path) == [folder.name]

    seed_everything(7)
    back = runs.load(folder, models.HPS(small()))
    pd.testing.assert_frame_equal(back.history, run.history, check_exact=True)
    assert back.metrics == run.metrics and back.learned == run.learned and back.stages == run.stages
    assert back.cost == run.cost
    assert {**back.config, **run.config} == back.config and back.config["version"] == runs.MINOR
    for mine, theirs in zip(run.model.parameters(), back.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert runs.load(folder, model=False).model is None
    for found in (back.samples, runs.load_samples(folder)):
        assert (found.split, found.data, found.groups) == ("test", run.test_data, None)
        for task, rows in run.samples.rows.items():
            assert {name: values.tolist() for name, values in rows.items()} == {
                name: values.tolist() for name, values in found.rows[task].items()}


def test_a_run_from_before_samples_were_kept_comes_back(tmp_path):
    folder = runs.save(replace(train(), samples=None), small(), configuration(), tmp_path)
    assert names_in(folder) == ["history.csv", "model.safetensors", "run.json"]
    assert runs.load_samples(folder) is None and runs.load(folder, model=False).samples is None
    assert len(runs.table(tmp_path)) == 5


@pytest.mark.parametrize("cut", [0, 7, 300, -1])
def test_samples_that_are_cut_off_are_told_by_their_file(tmp_path, cut):
    folder = runs.save(train(), small(), configuration(), tmp_path)
    file = folder / "samples.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match="samples.safetensors is cut off, or no file of.*run the same sweep again"):
        runs.load_samples(folder)


def test_samples_that_are_something_else_are_told_by_their_file(tmp_path):
    folder = runs.save(train(), small(), configuration(), tmp_path)
    (folder / "samples.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="samples.safetensors is cut off, or no file of a run"):
        runs.load_samples(folder)


def test_what_is_not_a_number_comes_back(tmp_path):
    run = train()
    run.metrics["size"]["r2"] = math.nan
    run.history.loc[0, "value"] = math.nan
    back = runs.load(runs.save(run, small(), configuration(), tmp_path), model=False)
    assert math.isnan(back.metrics["size"]["r2"]) and math.isnan(back.history["value"][0])


def test_a_table_says_how_long_a_run_trained(tmp_path):
    config = configuration(method="dsmtl-il", budget="fast")
    run = methods.run("dsmtl-il", small(), budget="fast", progress=False)
    runs.save(run, small(), config, tmp_path)
    rows = runs.table(tmp_path)
    assert set(rows["epochs"]) == {560} == {trained(run)["epochs"]}  # 280 in each of two stages, of one step each
    assert set(rows["steps"]) == {run.cost["steps"]} and set(rows["capability"]) == {runs.capability()}
    assert rows.groupby("task")["falling"].first().to_dict() == pytest.approx(falling(run))


def test_a_run_that_is_there_is_left_alone(tmp_path):
    folder = runs.save(train(), small(), configuration(), tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert runs.save(train(seed=1), small(), configuration(), tmp_path) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names_in(tmp_path) == [folder.name]


@pytest.mark.parametrize("room", [200, 3000])  # not even the weights fit, or the weights and not the rest
def test_a_full_disk_leaves_nothing_of_the_run_and_all_others(tmp_path, room):
    run = train()
    other = runs.save(run, small(), configuration(seed=9), tmp_path)
    run.history = pd.concat([run.history] * 50)
    with full_disk(room), pytest.raises(OSError, match="could not write .*What was there before is unchanged; free"):
        runs.save(run, small(), configuration(), tmp_path)
    assert names_in(tmp_path) == [other.name] and runs.load(other, model=False).metrics == run.metrics
    assert not runs.exists(configuration(), tmp_path)


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runs.save(train(), small(), configuration(), tmp_path)
    assert names_in(tmp_path) == []


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no run in .*nothing: run.json is missing"):
        runs.load(tmp_path / "nothing")


def test_a_run_of_another_version_is_refused_and_kept(tmp_path):
    folder = runs.save(train(), small(), configuration(), tmp_path)
    content = json.loads((folder / "run.json").read_text())
    content["config"]["version"] = "0.9"
    (folder / "run.json").write_text(json.dumps(content))
    for read in (lambda: runs.load(folder), lambda: runs.table(tmp_path)):
        with pytest.raises(ValueError, match=f"was written by mtlcourse 0.9, and this is {runs.MINOR}.*a new folder"):
            read()
    assert json.loads((folder / "run.json").read_text()) == content


def test_weights_of_another_architecture_are_refused(tmp_path):
    folder = runs.save(train(), small(), configuration(), tmp_path)
    with pytest.raises(RuntimeError, match="state_dict for STL"):
        runs.load(folder, models.STL(small()))


# --- tables ---------------------------------------------------------------------------------------------------

def stored(root, seeds=(0, 1), chosen=("stl", "hps")):
    configs = [configuration(method=method, seed=seed) for method in chosen for seed in seeds]
    for config in configs:
        runs.save(train(config["method"], config["seed"]), small(), config, root)
    return configs


def test_a_table_has_a_row_for_each_metric_of_each_run(tmp_path):
    configs = stored(tmp_path)
    table = runs.table(tmp_path, configs)
    assert list(table.columns) == runs.COLUMNS
    assert len(table) == 4 * 5
    assert table["method"].unique().tolist() == ["stl", "hps"]  # in the order of the configurations
    first = table[table["configuration"] == config_hash(configs[0])]
    assert list(zip(first["task"], first["metric"], strict=True)) == [
        ("kind", "accuracy"), ("kind", "loss"), ("size", "mse"), ("size", "r2"), ("size", "loss")]
    run = runs.load(runs.folder_of(configs[0], tmp_path), model=False)
    assert first["value"].tolist() == [value for values in run.metrics.values() for value in values.values()]
    assert first["higher_is_better"].tolist() == [True, False, False, True, False]
    assert set(first["parameters"]) == {run.cost["parameters"]} and set(first["seconds"]) == {run.cost["seconds"]}
    assert sorted(runs.table(tmp_path)["configuration"]) == sorted(table["configuration"])
    assert len(runs.table(tmp_path, configs[:1])) == 5


def test_an_empty_folder_gives_an_empty_table(tmp_path):
    assert runs.table(tmp_path).empty and list(runs.table(tmp_path / "nowhere").columns) == runs.COLUMNS
    assert len(runs.summary(runs.table(tmp_path))) == 0


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_half_widths_are_those_of_the_t_interval(values):
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95) if np.ptp(values) > 1e-9 else None
    if expected is not None:
        assert runs.half_width(values) == pytest.approx((expected.high - expected.low) / 2, rel=1e-6)
    assert runs.half_width([values[0]] * 3) == pytest.approx(0, abs=1e-9)


def test_one_seed_has_no_interval():
    assert math.isnan(runs.half_width([0.5])) and math.isnan(runs.half_width([]))


def rows(method, values, metric="accuracy", lr=None, task="kind"):
    return [{"problem": "small", "method": method, "seed": seed, "budget": "fast", "lr": lr, "task": task,
             "metric": metric, "value": value} for seed, value in enumerate(values)]


def test_a_summary_is_mean_and_interval_over_seeds():
    table = pd.DataFrame([*rows("stl", [0.5, 0.6, 0.7]), *rows("hps", [0.1]), *rows("stl", [9.0, 9.5, 9.0], "loss")])
    summary = runs.summary(table)
    assert {"problem", "budget", "lr", "method", "task", "metric"} <= set(summary.columns)
    assert summary["mean"].tolist() == pytest.approx([0.6, 0.1, 27.5 / 3])
    assert summary["seeds"].tolist() == [3, 1, 3]
    interval = scipy.stats.t.interval(0.95, 2, loc=0.6, scale=0.1 / math.sqrt(3))
    assert summary["half_width"][0] == pytest.approx(interval[1] - 0.6)
    assert math.isnan(summary["half_width"][1])


def test_learning_rates_are_summarised_apart():
    table = pd.DataFrame(rows("hps", [0.5, 0.6], lr=0.1) + rows("hps", [0.7, 0.8], lr=0.01) + rows("hps", [0.1, 0.1]))
    assert runs.summary(table)["mean"].tolist() == pytest.approx([0.55, 0.75, 0.1])


def test_a_summary_can_be_shown():
    table = pd.DataFrame([*rows("stl", [0.5, 0.6, 0.7]), *rows("stl", [9.0, 9.5, 9.0], "loss"),
                          *rows("hps", [0.25], lr=0.01), *rows("stl", [1.0, 1.0], "mse", task="a_task")])
    lines = runs.show(runs.summary(table)).splitlines()
    assert lines[0] == "small (fast)"
    assert [line.split() for line in lines[1:]] == [
        ["stl", "hps", "lr=0.01"], ["task", "metric"],
        ["kind", "accuracy", "0.6000", "+-", "0.2484", "0.2500"],
        ["loss", "9.1667", "+-", "0.7171", "NaN"],
        ["a_task", "mse", "1.0000", "+-", "0.0000", "NaN"]]


def test_any_run_can_be_stored_not_only_those_of_methods(tmp_path):
    run = fit(small(), models.HPS(small()), epochs=1, progress=False)
    assert isinstance(run, Run)
    config = {**configuration(), "note": "by hand"}
    assert runs.load(runs.save(run, small(), config, tmp_path), model=False).config["note"] == "by hand"
