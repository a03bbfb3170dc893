"""Shallow methods by name: a path of strengths, one of which validation picks, and a run like any other."""

import json

import numpy as np
import pandas as pd
import pytest

from mtlcourse import bench, data, methods, models, runs, safety
from mtlcourse.models.shallow import collect, solve
from mtlcourse.training import Setting
from mtlcourse.training.shallow import score, shallow
from tests.models.shallow.problems import KINDS, problem
from tests.problems import SHALLOW, small


def run(name: str, made=None, **changes):
    return methods.run(name, made or problem("own", samples=60), **{"budget": "smoke", "progress": False, **changes})


def losses_of(history: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = history[(history["split"] == split) & (history["name"] == "loss") & (history["stage"] != "chosen")]
    return rows.pivot(index="stage", columns="task", values="value").reindex(rows["stage"].unique())


@pytest.mark.parametrize("name", SHALLOW)
def test_a_name_is_enough(name):
    found = run(name)
    picked = found.history.query("stage != 'chosen' and name == 'strength'")["value"].tolist()
    assert 5 <= len(picked) <= 17 and found.learned["strength"] in picked
    assert all(values["r2"] > 0.5 for values in found.metrics.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHALLOW)
def test_every_method_runs_by_name_on_every_kind_of_problem(name, kind):
    made = problem(kind)
    found = run(f"{name}(strength=[1, 0.1])", made)
    assert set(found.metrics) == set(made.task_names) and found.stages[-1] == "chosen"
    assert all(np.isfinite(value) for values in found.metrics.values() for value in values.values())
    json.dumps({"learned": found.learned, "config": found.config, "cost": found.cost}, allow_nan=False)
    assert found.cost["parameters"] == 18 and found.cost["steps"] > 0 and found.cost["samples"] > 0


def test_validation_picks_the_strength_with_the_least_mean_relative_loss():
    made = problem("own", samples=20, d=8)
    found = run("l21", made)
    train, val = (collect(split, made.tasks, lambda x: x) for split in (made.train, made.val))
    constant = val.each(np.zeros(val.shape), train.level)
    means = (losses_of(found.history, "val") / constant).mean(axis=1)
    strengths = found.history.query("name == 'strength'").set_index("stage")["value"]
    assert strengths[means.idxmin()] == found.learned["strength"] and means.idxmin() not in means.index[[0, -1]]
    assert means.iloc[0] == pytest.approx(1)  # nothing but constants
    solution, _ = solve(train, models.L21(made).penalty, found.learned["strength"])
    np.testing.assert_allclose(found.model.weights(), solution.weights, atol=1e-6)
    assert score(solution, train, val) == pytest.approx(means.min())
    assert losses_of(found.history, "train").sum(axis=1).is_monotonic_decreasing  # the weaker, the closer


def test_no_task_counts_more_for_its_unit():
    made = problem("own", samples=20, d=8)
    picked = run("lasso(strength=[0.03, 0.1, 0.3, 1.0])", made).learned["strength"]
    for split in (made.train, made.val, made.test):
        for target in split.targets.values():
            target *= 1000.0
    assert run("lasso(strength=[30, 100, 300, 1000])", made).learned["strength"] == 1000 * picked


def test_the_grid_ends_a_decade_after_its_best_and_given_strengths_do_not():
    made = problem("own", samples=12, d=8)
    found = run("lasso", made)
    strengths = found.history.query("name == 'strength'")["value"].tolist()
    assert strengths.index(found.learned["strength"]) == len(strengths) - 5 and len(strengths) < 17
    assert found.config["strengths"][: len(strengths)] == strengths and len(found.config["strengths"]) == 17
    again = run(f"lasso(strength={found.config['strengths']})", made)
    assert len(again.stages) == 18 and again.learned == found.learned


def test_given_strengths_are_solved_strongest_first_each_once():
    found = run("rmtl(strength=[0.1, 1, 0.1], balance=0.7)")
    assert found.stages == ["strength=1", "strength=0.1", "chosen"]
    assert run("rmtl(strength=0.1, balance=0.7)").learned["strength"] == 0.1


def test_targets_that_the_constant_meets_do_not_count():
    made = problem("shared")
    found = collect(made.train, made.tasks, lambda x: x)
    made.val.targets["t1"][:] = float(found.level[1])
    val = collect(made.val, made.tasks, lambda x: x)
    solution, _ = solve(found, models.Lasso(made).penalty, 0.1)
    others = [0, 2]
    constant = val.each(np.zeros(val.shape), found.level)
    expected = (val.each(solution.weights, solution.bias)[others] / constant[others]).sum() / 3
    if constant[1] == 0:  # single precision may leave a last digit
        assert score(solution, found, val) == pytest.approx(expected)


def test_chance_plays_no_part():
    first, second = run("mtrl", seed=0), run("mtrl", seed=3)
    assert first.metrics == second.metrics and first.learned == second.learned


def test_a_loose_tolerance_takes_fewer_iterations():
    assert run("lasso(tolerance=1e-3)").cost["steps"] < run("lasso").cost["steps"]


def test_shallow_methods_on_the_features_of_a_trained_network():
    made = problem("own", samples=60)
    net = run("hps", made, budget="fast(epochs=2)").model
    methods.register("l21-on-hps", lambda p: models.L21(p, encoder=net.shared), shallow, strategy=None)
    found = run("l21-on-hps", made)
    assert found.model.weights().shape == (4, 3)
    train = collect(made.train, made.tasks, net.shared)
    assert found.train_losses == pytest.approx(dict(zip(made.task_names, train.each(
        found.model.weights(), np.array([head.bias.item() for head in found.model.heads.values()])), strict=True)))


# --- stored, swept and reported ---------------------------------------------------------------------------------

PROBLEM = "tests.models.shallow.problems:problem(kind=mixed)"


@pytest.mark.parametrize("name", SHALLOW)
def test_a_run_is_stored_and_read_back(name, tmp_path):
    made = data.load("tests.models.shallow.problems:problem", kind="mixed")
    name = f"{name}(strength=0.1)"
    config = runs.configuration(PROBLEM, name, 0, "smoke")
    found = run(name, made)
    folder = runs.save(found, made, config, tmp_path)
    back = runs.load(folder, methods.build(name, made))
    assert back.metrics == found.metrics and back.learned == found.learned and back.cost == found.cost
    assert back.stages == found.stages
    assert (back.model.weights() == found.model.weights()).all()
    pd.testing.assert_frame_equal(back.history, found.history, check_dtype=False)
    table = runs.table(tmp_path)
    assert table["validation"].notna().all() and table["falling"].isna().all()
    assert (table["steps"] == found.cost["steps"]).all()


def test_sweeps_and_reports_take_them_among_others(tmp_path):
    done = bench.sweep([PROBLEM], ["stl", "lasso", "theta"], [0, 1], budget="smoke", folder=tmp_path, progress=False)
    assert not done.failures and set(done.table["method"]) == {"stl", "lasso", "theta"}
    made = problem("mixed")
    report = safety.report({"lasso": [run("lasso", made, seed=seed) for seed in (0, 1)]},
                           baseline=[run("stl", made, seed=seed) for seed in (0, 1)])
    assert len(report.to_frame()) and "lasso" in report.to_markdown()


def test_what_cannot_be_built_is_left_out_of_a_sweep_with_the_reason(tmp_path):
    done = bench.sweep(["tests.problems:small"], ["hps", "l21"], [0], budget="smoke", folder=tmp_path, progress=False)
    assert [reason for _, reason in done.failures] == [
        "Task 'kind' has 3 classes, and a shallow method one column of weights a task. Make it one binary task a "
        "class, with data.binary."]


# --- refusals ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["lasso+pcgrad", "rmtl+ew", "mtrl+dwa+pcgrad"])
def test_strategies_are_refused(name):
    with pytest.raises(ValueError, match="is one convex problem, solved as a whole: it takes no steps in which"):
        run(name)


@pytest.mark.parametrize("option", ["epochs=2", "select=best-val", "drop_last=True"])
def test_options_of_training_are_refused(option):
    with pytest.raises(ValueError, match=f"is solved, not trained: {option.split('=')[0]} would do nothing"):
        run(f"l21({option})")


@pytest.mark.parametrize("strength", ["-1", "-0.5", "True", "many", "1e999", "[0.1, -1]", "[]"])
def test_strengths_are_numbers_from_0(strength):
    with pytest.raises(ValueError, match="is no number from 0 upwards|is an empty list"):
        run(f"theta(strength={strength})")


@pytest.mark.parametrize("tolerance", ["0", "1", "-1e-8", "True", "fine"])
def test_tolerances_are_between_0_and_1(tolerance):
    with pytest.raises(ValueError, match="is no number between 0 and 1"):
        run(f"lasso(tolerance={tolerance})")


def test_constant_targets_are_refused():
    made = problem("shared")
    made.train.targets["t1"][:] = 2.0
    with pytest.raises(ValueError, match="training targets of task 't1' are 2: there is nothing to learn"):
        run("lasso", made)


def test_a_problem_without_data_is_refused():
    with pytest.raises(ValueError, match="is a description without data"):
        shallow(data.describe("relatedness"), models.Lasso, None, Setting())


def test_several_outputs_are_refused_before_anything_is_solved():
    with pytest.raises(ValueError, match="'kind' has 3 classes"):
        run("lasso", small())
