"""The safety report against the printed formulas, case by case, and what it refuses."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from torch import nn

from mtlcourse import methods, runs, safety
from mtlcourse.safety import words
from mtlcourse.training import Run
from tests.problems import small

HIGHER = {"left": {"accuracy": True}, "depth": {"error": False, "within": True}}
STL = {"left": {"accuracy": 0.8}, "depth": {"error": 0.5, "within": 0.6}}


def run(scores: dict, seed: int = 0, losses: dict | None = None, parameters: int = 100, seconds: float = 1.0,
        **other) -> Run:
    return Run(pd.DataFrame(), scores, nn.Identity(), {"seed": seed, "problem": "mine", **other.pop("config", {})},
               cost={"parameters": parameters, "seconds": seconds, "steps": 1}, train_losses=losses or {},
               higher_is_better=other.pop("higher_is_better", HIGHER), test_data=other.pop("test_data", "abc"))


def scores(left: float = 0.8, error: float = 0.5, within: float = 0.6) -> dict:
    return {"left": {"accuracy": left, "loss": 1.0}, "depth": {"error": error, "within": within, "loss": 2.0}}


def baseline(seeds: int = 3, **changes) -> list[Run]:
    return [run(scores(), seed, {"left": 1.0, "depth": 2.0}, **changes) for seed in range(seeds)]


def several(values: list[dict], **changes) -> list[Run]:
    return [run(scores(**value), seed, **changes) for seed, value in enumerate(values)]


# --- measures --------------------------------------------------------------------------------------------

def test_one_seed_is_the_printed_formula_and_undecided():
    report = safety.report({"hps": [run(scores(0.76, 0.4, 0.6))]}, [run(scores())])
    assert report.delta_i["hps"] == pytest.approx((-0.05 + (0.2 + 0.0) / 2) / 2)
    assert report.eta["hps"] == 50.0  # equality is safe: depth 2 of 2, left 0 of 1
    assert set(report.frame["verdict"]) == {"undecided"} and report.frame["low"].isna().all()
    assert any("One seed" in note for note in report.notes) and "One seed" in report.to_markdown()
    assert report.overview.at["hps", "negative_sharing"] == ["left"] and report.overview.at["hps", "worse"] == []
    assert str(report.overview.at["hps", "negative_sharing"]) == "['left']"  # names, not numpy's strings


def test_means_intervals_and_verdicts_are_those_of_paired_differences():
    random = np.random.default_rng(0)
    alone, together = random.normal(0.7, 0.1, (2, 6, 3))
    together[:, 0] = alone[:, 0] + random.normal(0.05, 0.002, 6)  # better, though both spread widely
    together[:, 1] = alone[:, 1] + random.normal(0.05, 0.002, 6)  # an error: worse
    made = [several([dict(zip(("left", "error", "within"), row, strict=True)) for row in values])
            for values in (alone, together)]
    report = safety.report({"m": made[1]}, made[0])
    sign = np.array([1, -1, 1])
    for j, row in enumerate(report.to_frame().itertuples()):
        differences = sign[j] * (together[:, j] - alone[:, j])
        low, high = scipy.stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
        assert (row.difference, row.low, row.high) == pytest.approx((differences.mean(), low, high))
        assert row.change == pytest.approx(differences.mean() / alone[:, j].mean())
        assert row.change_half_width == pytest.approx((high - low) / 2 / alone[:, j].mean())
        assert row.value == pytest.approx(together[:, j].mean()) and row.baseline == pytest.approx(alone[:, j].mean())
    assert list(report.frame["verdict"])[:2] == ["better", "worse"]
    assert report.verdicts["m"]["left"]["accuracy"] == "better" and report.verdicts["m"][("depth", "error")] == "worse"
    changes = sign * (together - alone) / alone
    deltas = (changes[:, 0] + changes[:, 1:].mean(1)) / 2
    assert report.delta_i["m"] == pytest.approx(deltas.mean())
    expected = scipy.stats.t.interval(0.95, 5, deltas.mean(), scipy.stats.sem(deltas))
    assert report.overview.at["m", "delta_i_half_width"] == pytest.approx((expected[1] - expected[0]) / 2)
    safe = changes >= 0
    assert report.eta["m"] == pytest.approx(100 * ((safe[:, 0] + safe[:, 1:].mean(1)) / 2).mean())


def test_eta_of_each_seed_and_eta_of_the_means_can_differ():
    report = safety.report({"m": several([{"left": 0.9}, {"left": 0.79}, {"left": 0.79}])}, baseline())
    assert report.eta["m"] == pytest.approx(100 * (1 + 0.5 + 0.5) / 3)
    assert report.overview.at["m", "eta_of_means"] == 100 and report.overview.at["m", "negative_sharing"] == []


def test_equal_runs_are_safe_but_no_better():
    report = safety.report({"same": baseline()}, baseline())
    assert report.delta_i["same"] == 0 and report.eta["same"] == 100
    assert set(report.frame["verdict"]) == {"undecided"}
    assert report.overview.loc["same", ["individual", "average"]].tolist() == [1, 1]


def test_empirical_safety_compares_training_losses_seed_by_seed():
    losses = [{"left": 1.0, "depth": 2.0}, {"left": 1.1, "depth": 1.0}, {"left": 1.1, "depth": 2.0}]
    together = [run(scores(), seed, own) for seed, own in enumerate(losses)]
    report = safety.report({"m": together}, baseline())
    assert report.overview.at["m", "individual"] == pytest.approx(1 / 3)
    assert report.overview.at["m", "average"] == pytest.approx(2 / 3)
    assert "1 of 3 seeds" in report.to_markdown()
    unknown = safety.report({"m": several([{}] * 3)}, baseline())
    assert math.isnan(unknown.overview.at["m", "individual"]) and any("not known" in note for note in unknown.notes)


def test_remedies_are_the_methods_that_do_not_hurt_the_task_cheapest_first():
    def shifted(left: float, error: float, **cost) -> list[Run]:
        return several([{"left": 0.8 + left + 1e-4 * s, "error": 0.5 + error + 1e-4 * s} for s in range(3)], **cost)

    report = safety.report({
        "cheap": shifted(-0.1, 0.1, parameters=50),
        "large": shifted(0.1, -0.1, parameters=300),
        "slow": shifted(0.0, 0.1, parameters=200, seconds=9.0),
        "quick": shifted(0.0, 0.1, parameters=200, seconds=2.0)}, baseline())
    assert report.overview.at["cheap", "worse"] == ["left", "depth"]
    assert report.remedies["cheap"] == {"left": ["quick", "slow", "large"], "depth": ["large"]}
    assert set(report.remedies) == {"cheap", "slow", "quick"} and report.remedies["slow"] == {"depth": ["large"]}
    advice = "\n".join(words.advice(report))
    assert "left is worse with cheap: not certainly worse with quick (2.00 x parameters, 2.00 x time); slow (" in advice
    hopeless = safety.report({"only": shifted(-0.1, 0.0)}, baseline())
    assert "no method of this table avoids it: train it alone" in hopeless.to_markdown()


def test_the_baseline_comes_first_and_is_not_a_method():
    report = safety.report({"stl": baseline(), "m": several([{}] * 3, parameters=250, seconds=3.0)}, "stl")
    assert report.baseline == "stl" and report.methods == ["m"] and list(report.overview.index) == ["stl", "m"]
    assert report.overview.loc["m", ["times_parameters", "times_seconds"]].tolist() == [2.5, 3.0]


# --- metrics without a relative change -------------------------------------------------------------------

def test_a_baseline_of_zero_has_no_relative_change_and_is_left_out():
    alone = [run(scores(within=0.0), seed) for seed in range(3)]
    together = [{"left": 0.88, "within": 0.1 + 1e-4 * seed, "error": 0.25} for seed in (-1, 0, 1)]
    report = safety.report({"m": several(together)}, alone)
    row = report.frame.set_index("metric").loc["within"]
    assert math.isnan(row["change"]) and row["difference"] == pytest.approx(0.1) and row["verdict"] == "better"
    assert report.delta_i["m"] == pytest.approx((0.1 + 0.5) / 2) and report.eta["m"] == 100
    assert any("undefined" in note and "within of depth" in note for note in report.notes)


def test_if_nothing_has_a_relative_change_delta_i_is_undefined():
    alone = [run(scores(0.0, 0.0, 0.0), seed) for seed in range(2)]
    report = safety.report({"m": several([{}] * 2)}, alone)
    assert math.isnan(report.delta_i["m"]) and "Delta_I undefined" in report.to_markdown()


# --- what is refused --------------------------------------------------------------------------------------

def table(**columns) -> pd.DataFrame:
    rows = [{"problem": "mine", "budget": "fast", "lr": math.nan, "method": method, "seed": seed, "task": task,
             "metric": metric, "value": value, "higher_is_better": HIGHER[task][metric], "train_loss": 1.0,
             "parameters": 100, "seconds": 1.0, "test_data": "abc", "version": runs.MINOR}
            for method in ("stl", "hps") for seed in (0, 1) for task, values in STL.items()
            for metric, value in values.items()]
    return pd.DataFrame(rows).assign(**columns)


def test_a_table_serves_as_well_as_runs():
    report = safety.report(table())
    assert report.methods == ["hps"] and report.delta_i == {"hps": 0.0}
    assert (report.problem, report.budget) == ("mine", "fast")
    halves = dict(list(table().groupby("method")))
    assert safety.report({"hps": halves["hps"]}, halves["stl"]).baseline == "stl"


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t[t["method"] != "stl"], "There is no baseline 'stl' among hps.*run the method 'stl'"),
    (lambda t: t[t["method"] != "hps"], "nothing to compare with 'stl'"),
    (lambda t: t[:0], "There is no baseline 'stl' among no methods at all"),
    (lambda t: t[(t["method"] != "hps") | (t["seed"] == 0)], "'hps' has the seeds 0, 'stl' has 0, 1.*'hps' with 1"),
    (lambda t: t[(t["method"] != "stl") | (t["seed"] == 0)], "Run 'stl' with 1"),
    (lambda t: t.assign(test_data=t["method"]), "because test data is not the same: hps and stl"),
    (lambda t: t.assign(version="0.0"), "written by mtlcourse 0.0, and this is"),
    (lambda t: t.assign(problem=t["seed"].astype(str)), "several of problem: 0, 1. A report is about one"),
    (lambda t: t.assign(lr=t["seed"] / 10), "several learning rates; choose one on validation"),
    (lambda t: t.drop(columns="seed"), "lacks the columns seed"),
    (lambda t: t.drop(columns="method"), "no column 'method'"),
    (lambda t: pd.concat([t, t]), "two runs with seed 0"),
    (lambda t: t[(t["method"] != "hps") | (t["metric"] != "within")], "only one of them has 'within' of task"),
])
def test_what_cannot_be_compared_is_refused(change, message: str):
    with pytest.raises(ValueError, match=message):
        safety.report(change(table()))


@pytest.mark.parametrize(("together", "alone", "message"), [
    ([], baseline(), "There are no runs of 'm'"),
    (baseline(), [], "There are no runs of 'the baseline'"),
    (baseline(test_data="xyz"), baseline(), "test data is not the same: xyz and abc"),
    (baseline(config={"problem": "rooms"}), baseline(), "problem is not the same: rooms and mine"),
    (baseline(config={"budget": "full"}), baseline(config={"budget": "fast"}), "budget is not the same"),
    (baseline(higher_is_better={}), baseline(), "does not say whether more or less of 'accuracy'"),
    (baseline(config={"version": "9.9"}), baseline(), "written by mtlcourse 9.9"),
])
def test_runs_that_cannot_be_compared_are_refused(together, alone, message: str):
    with pytest.raises(ValueError, match=message):
        safety.report({"m": together}, alone)


def test_test_data_that_nobody_hashed_are_taken_on_trust():
    assert safety.report({"m": baseline(test_data=None)}, baseline()).methods == ["m"]


# --- real runs --------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def real() -> dict[str, list[Run]]:
    problem = small()
    return {name: [methods.run(name, problem, seed=seed, budget="smoke", progress=False) for seed in (0, 1)]
            for name in ("stl", "hps", "dsmtl-il(guard=True)")}


def test_runs_as_methods_make_them_go_straight_in(real: dict[str, list[Run]]):
    report = safety.report(real, "stl")
    assert report.methods == ["hps", "dsmtl-il(guard=True)"] and report.withheld == []
    assert [note.split(":")[0] for note in report.notes[:2]] == ["Two seeds decide nothing",
                                                                 "Warning, unequal training"]
    assert "dsmtl-il(guard=True) had 2.00 x the update steps (2 against 1)" in report.notes[1]
    assert len(report.notes) == 3 and "Whether stl had learned enough is not known" in report.notes[2]  # one epoch
    assert report.overview.at["dsmtl-il(guard=True)", "individual"] == 1
    again = safety.report({name: made for name, made in real.items() if name != "stl"}, real["stl"])
    assert again.baseline == "stl" and again.overview.equals(report.overview)


def test_other_test_data_are_told_apart_by_their_content(real: dict[str, list[Run]]):
    problem = small()
    problem.test.targets["kind"][3] = (problem.test.targets["kind"][3] + 1) % 3
    other = [methods.run("hps", problem, seed=seed, budget="smoke", progress=False) for seed in (0, 1)]
    with pytest.raises(ValueError, match="test data is not the same"):
        safety.report({"hps": other}, real["stl"])


def test_a_stored_run_carries_what_the_report_needs(real: dict[str, list[Run]], tmp_path):
    problem, folders = small(), {}
    for name, made in real.items():
        for seed, one in enumerate(made):
            config = {"problem": "small", "method": name, "seed": seed, "budget": "smoke", "lr": None,
                      "version": runs.MINOR}
            folders[name, seed] = runs.save(one, problem, config, tmp_path)
    loaded = {name: [runs.load(folders[name, seed], model=False) for seed in (0, 1)] for name in real}
    report, expected = safety.report(loaded, "stl"), safety.report(real, "stl")
    assert report.frame.equals(expected.frame) and report.overview.equals(expected.overview)
    stored = runs.table(tmp_path)
    lacking = [f"{times}{name}" for name in ("steps", "samples", "epochs") if name not in stored
               for times in ("", "times_")]
    found = safety.report(stored).overview.loc[["hps"]].drop(columns=lacking)
    pd.testing.assert_frame_equal(found, expected.overview.loc[["hps"]].drop(columns=lacking))
    history = real["hps"][0].history
    expected = history[(history["split"] == "val") & (history["task"] == "kind") & (history["name"] == "accuracy")]
    rows = stored[(stored["method"] == "hps") & (stored["seed"] == 0) & (stored["metric"] == "accuracy")]
    assert rows["validation"].item() == expected["value"].iloc[-1]
    path = folders["hps", 0] / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "config": {"version": "0.0"}}))
    with pytest.raises(ValueError, match="written by mtlcourse 0.0"):
        runs.table(tmp_path)


def test_a_run_that_was_cut_off_while_it_was_written_does_not_count(real: dict[str, list[Run]], tmp_path):
    config = {"problem": "small", "method": "hps", "seed": 0, "budget": "smoke", "lr": None, "version": runs.MINOR}
    folder = runs.save(real["hps"][0], small(), config, tmp_path)
    folder.rename(tmp_path / ".run-killed")
    assert runs.table(tmp_path).empty


# --- learning rates ---------------------------------------------------------------------------------------

def grid(validation: dict[float, list[float]], test: dict[float, float], **columns) -> pd.DataFrame:
    rows = [{"problem": "p", "budget": "fast", "method": "m", "seed": seed, "lr": lr, "task": "a", "metric": "error",
             "value": test[lr], "validation": value, "higher_is_better": False}
            for lr, values in validation.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows).assign(**columns)


def test_learning_rates_are_chosen_on_validation_and_never_on_the_test_split():
    chosen = runs.selected(grid({0.1: [0.5, 0.5], 0.01: [0.3, 0.4]}, {0.1: 0.0, 0.01: 9.0}))
    assert set(chosen["lr"]) == {0.01} and len(chosen) == 2
    flipped = grid({0.1: [0.5, 0.5], 0.01: [0.3, 0.4]}, {0.1: 0.0, 0.01: 9.0}, higher_is_better=True)
    assert set(runs.selected(flipped)["lr"]) == {0.1}


def test_a_learning_rate_that_diverged_on_a_seed_does_not_win():
    assert set(runs.selected(grid({0.1: [0.1], 0.01: [0.3, 0.4]}, {0.1: 0.0, 0.01: 0.0}))["lr"]) == {0.01}


def test_each_method_has_its_own_learning_rate_and_scales_do_not_matter():
    one = grid({0.1: [0.5], 0.01: [0.3]}, {0.1: 0.0, 0.01: 0.0})
    # A second metric in other units says the opposite, but by a smaller share; the loss does not count.
    metres = grid({0.1: [1000.0], 0.01: [1100.0]}, {0.1: 0.0, 0.01: 0.0}, metric="metres")
    loss = grid({0.1: [0.0], 0.01: [1e9]}, {0.1: 0.0, 0.01: 0.0}, metric="loss")
    other = grid({0.1: [0.3], 0.01: [0.5]}, {0.1: 0.0, 0.01: 0.0}, method="n")
    chosen = runs.selected(pd.concat([one, metres, loss, other], ignore_index=True))
    assert chosen.groupby("method")["lr"].unique().map(list).to_dict() == {"m": [0.01], "n": [0.1]}
    assert len(chosen) == 4


def test_the_problems_own_learning_rate_takes_part():
    chosen = runs.selected(grid({math.nan: [0.2], 0.01: [0.3]}, {math.nan: 0.0, 0.01: 0.0}))
    assert chosen["lr"].isna().all() and len(chosen) == 1
    plain = grid({math.nan: [0.2]}, {math.nan: 0.0})
    assert runs.selected(plain).equals(plain)


def test_a_change_that_rounds_to_zero_has_no_sign():
    report = safety.report({"hps": several([{"left": 0.8 - 1e-5 * (1 + seed)} for seed in range(3)])}, baseline())
    assert report.delta_i["hps"] < 0 and "Delta_I 0.0 +- 0.0%" in words.verdict(report, "hps")
