"""What a report may say: nothing broken is safe, equal is equal, sameness is no certainty, learning comes first."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlcourse import metrics, safety
from mtlcourse.safety import words

LOWER = {"error"}
ALONE = {("left", "accuracy"): [0.80, 0.82, 0.81], ("depth", "error"): [0.50, 0.52, 0.51],
         ("depth", "within"): [0.60, 0.61, 0.63]}


def shifted(by: float) -> dict:
    """ALONE, better by so much on every seed but for a little; three seeds that differ decide about it."""
    signs = {"error": -1, "accuracy": 1, "within": 1}
    return {(task, metric): [value + signs[metric] * by + 1e-4 * k for value, k in zip(values, (0, 1, 3), strict=True)]
            for (task, metric), values in ALONE.items()}


BETTER, WORSE = shifted(0.1), shifted(-0.2)


def table(**methods: dict) -> pd.DataFrame:
    """One table out of `{(task, metric): [value of each seed]}` of each method."""
    return pd.DataFrame([{"method": method, "seed": seed, "task": task, "metric": metric, "value": value,
                          "higher_is_better": metric not in LOWER, "parameters": 100, "seconds": 1.0}
                         for method, cells in methods.items() for (task, metric), values in cells.items()
                         for seed, value in enumerate(values)])


# --- undefined is not safe ---------------------------------------------------------------------------------

def check_broken(report: safety.SafetyReport, name: str, without: safety.SafetyReport) -> None:
    """`name` is not safe and no remedy, and the others are judged as if it were not there."""
    assert math.isnan(report.delta_i[name]) and report.eta[name] < 100
    row = report.overview.loc[name]
    assert row["broken"] and set(row["broken"]) <= set(row["negative_sharing"]) and row["eta_of_means"] < 100
    assert not any(name in names for tasks in report.remedies.values() for names in tasks.values())
    for measure in ("delta_i", "eta"):
        assert {m: v for m, v in getattr(report, measure).items() if m != name} == getattr(without, measure)
    kept = ["task", "metric", "method", "difference", "low", "p", "broken"]
    mine = report.frame[report.frame["method"] != name][kept].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, without.frame[kept])
    assert f"**{name}**: Delta_I undefined" in report.to_markdown()
    assert "Not safe: not a number on" in words.verdict(report, name)


@pytest.mark.parametrize("place, values", [
    (("left", "accuracy"), [math.nan, 0.3, 0.4]),  # bad where it is a number
    (("left", "accuracy"), [0.95, math.nan, 0.95]),  # good where it is a number
    (("left", "accuracy"), [math.nan] * 3),
    (("depth", "error"), [0.4, math.inf, 0.4]),
    (("depth", "within"), [0.9, 0.9, math.inf]),  # infinitely good is no result either
    (("depth", "within"), [-math.inf, 0.9, None]),
])
def test_a_broken_method_is_not_safe_and_takes_no_metric_from_the_others(place, values: list):
    without = safety.report(table(stl=ALONE, good=BETTER, bad=WORSE))
    report = safety.report(table(stl=ALONE, broken={**BETTER, place: values}, good=BETTER, bad=WORSE))
    check_broken(report, "broken", without)
    assert report.verdicts["broken"][place] == "worse" and place[0] in report.overview.at["broken", "worse"]
    assert report.remedies["bad"] == {"left": ["good"], "depth": ["good"]}
    assert report.remedies["broken"] == {place[0]: ["good"]}
    assert f"not a number on {place[0]} ({place[1]}): look at its training" in "\n".join(words.advice(report))
    assert report.overview["delta_i"].drop("stl").sort_values(ascending=False).index[-1] == "broken"


def test_one_seed_that_is_not_a_number_is_undecided_but_not_safe():
    one = {place: values[:1] for place, values in BETTER.items()}
    report = safety.report(table(stl={place: values[:1] for place, values in ALONE.items()},
                                 broken={**one, ("left", "accuracy"): [math.nan]}))
    assert set(report.frame["verdict"]) == {"undecided"} and math.isnan(report.delta_i["broken"])
    assert report.eta["broken"] == 50 and "Not safe: not a number on left (accuracy)" in report.to_markdown()


def test_what_the_baseline_does_not_have_nobody_is_judged_by():
    alone = {**ALONE, ("left", "accuracy"): [0.8, math.nan, 0.8]}
    report = safety.report(table(stl=alone, good=BETTER))
    assert report.verdicts["good"]["left"]["accuracy"] == "undecided" and report.eta["good"] == 100
    assert not math.isnan(report.delta_i["good"]) and report.overview.at["good", "broken"] == []
    assert any("stl is not a number in some run" in note and "accuracy of left" in note for note in report.notes)
    # What fails where the baseline does not is broken all the same.
    broken = safety.report(table(stl=alone, broken={**BETTER, ("left", "accuracy"): [math.nan, 0.9, 0.9]}))
    assert math.isnan(broken.delta_i["broken"]) and broken.eta["broken"] < 100


CELLS = st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3)


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_whatever_is_broken_is_never_the_safest(data):
    places = list(ALONE)
    cells = {name: {place: data.draw(CELLS) for place in places} for name in ("stl", "a", "b", "broken")}
    holes = data.draw(st.lists(st.tuples(st.sampled_from(places), st.integers(0, 2)), min_size=1, max_size=5))
    for place, seed in holes:
        cells["broken"][place][seed] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    report = safety.report(table(**cells))
    del cells["broken"]
    check_broken(report, "broken", safety.report(table(**cells)))


# --- equal is equal ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("alone, together", [
    ([0.8, 0.8], [0.9, 0.7]),
    ([0.3, 0.0], [0.1, 0.2]),  # 0.1 + 0.2 is above 0.3
    ([0.1, 0.2], [0.3, 0.0]),  # and the other way round
    ([0.1] * 10, [1.0] + [0.0] * 9),  # the sum of ten tenths is below 1
    ([0.1 + 0.2] * 3, [0.3] * 3),
    ([0.9, -0.9, 0.1], [0.1, 0.9, -0.9]),
])
@pytest.mark.parametrize("metric", ["accuracy", "error"])
def test_equal_means_are_no_negative_sharing(alone: list[float], together: list[float], metric: str):
    report = safety.report(table(stl={("t", metric): alone}, m={("t", metric): together}))
    assert report.overview.at["m", "negative_sharing"] == [] and report.overview.at["m", "eta_of_means"] == 100
    assert report.frame["difference"].item() == 0 and "No task is worse in the mean" in report.to_markdown()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=12), st.randoms(), st.sampled_from([1000, 7, 3e6]))
def test_the_same_results_in_another_order_are_equal(values: list[int], random, unit: float):
    alone = [value / unit for value in values]
    together = random.sample(alone, len(alone))
    difference = np.array(together) - np.array(alone)
    assert safety.measures.exact_mean([*together, *(-value for value in alone)]) == 0
    assert safety.delta_i(difference, ["t"] * len(difference)) == 0
    names = [str(k) for k in range(len(alone))]
    losses = (dict(zip(names, map(abs, values), strict=True)) for values in (together, alone))
    assert safety.empirically_safe(*losses).average


def test_sums_of_losses_are_compared_by_the_resolution_of_the_losses():
    assert safety.empirically_safe({"a": 0.1, "b": 0.2}, {"a": 0.3, "b": 0.0}) == (False, True)
    assert safety.empirically_safe({"a": 0.1, "b": 0.2 + 1e-12}, {"a": 0.3, "b": 0.0}) == (False, False)
    assert safety.empirically_safe({"a": math.inf, "b": 0.1}, {"a": math.inf, "b": 0.2}) == (True, True)


@pytest.mark.parametrize("higher", [True, False])
def test_a_change_that_is_only_rounding_is_none(higher: bool):
    for value, baseline in itertools.permutations((0.1 + 0.2, 0.3)):
        assert metrics.relative_change(value, baseline, higher) == 0
        assert safety.negative_sharing([safety.relative_change(value, baseline, higher)], ["t"]) == []
    assert abs(metrics.relative_change(0.3 * (1 + 1e-13), 0.3, higher)) == pytest.approx(1e-13, rel=0.01)
    assert metrics.relative_change(math.inf, 1.0, True) == math.inf


def test_true_differences_stay_however_small():
    report = safety.report(table(stl={("t", "accuracy"): [0.8, 0.7]}, m={("t", "accuracy"): [0.8, 0.7 - 1e-12]}))
    assert report.overview.at["m", "negative_sharing"] == ["t"] and report.eta["m"] == 50


# --- sameness is no certainty ------------------------------------------------------------------------------

@pytest.mark.parametrize("differences, verdict", [
    ([-0.1] * 3, "undecided"), ([-0.1] * 10, "undecided"), ([-0.1, -0.1, -0.12], "undecided"),
    ([-0.1, -0.101], "undecided"), ([-0.1, -0.101, -0.102], "worse"), ([0.1, 0.101, 0.102], "better"),
])
@pytest.mark.parametrize("per_comparison", [False, True])
def test_a_verdict_needs_three_seeds_that_differ(differences, verdict: str, per_comparison: bool):
    alone = [0.7 + 0.01 * (k % 3) for k in range(len(differences))]
    together = [a + d for a, d in zip(alone, differences, strict=True)]
    rows = table(stl={("t", "accuracy"): alone}, m={("t", "accuracy"): together})
    report = safety.report(rows, per_comparison=per_comparison)
    assert report.frame["verdict"].item() == verdict
    assert math.isnan(report.frame["low"].item()) == (len(set(differences)) == 1)  # no interval of width zero
    if verdict == "undecided":
        said = ("Fewer than three seeds differ", "Two seeds decide nothing")
        assert any(note.startswith(said) for note in report.notes)


def test_the_report_says_what_it_covers_and_how_many_comparisons_there_are():
    many = safety.report(table(stl=ALONE, good=BETTER, bad=WORSE))
    text = " ".join(many.to_markdown().split())
    assert "at 5% for this report as a whole and its 6 comparisons (2 methods, Holm's procedure within each)" in text
    assert "They do not cover the test sample" in text and "about 11 to 13 cases of 100 instead of 5" in text
    alone = " ".join(safety.report(table(stl=ALONE, bad=WORSE), per_comparison=True).to_markdown().split())
    assert "the interval lies on one side of zero, each comparison by itself" in alone
    assert "3 comparisons (1 method)" in alone


def test_one_comparison_among_many_needs_more_to_be_decided():
    random = np.random.default_rng(0)
    alone = {(f"t{j}", "accuracy"): random.normal(0.7, 0.02, 5).tolist() for j in range(9)}
    together = {place: random.normal(0.7, 0.02, 5).tolist() for place in alone}
    together["t0", "accuracy"] = [a - d for a, d in zip(alone["t0", "accuracy"], [1, 2, 3, 4, 5], strict=True)]
    by_itself = safety.report(table(stl=alone, m=together), per_comparison=True)
    family = safety.report(table(stl=alone, m=together))
    assert by_itself.verdicts["m"]["t0"]["accuracy"] == "worse" and "t0" in by_itself.remedies["m"]
    assert family.verdicts["m"]["t0"]["accuracy"] == "undecided" and family.remedies == {}
    assert "Negative sharing: worse on t0" in words.verdict(by_itself, "m")
    assert "Negative sharing" not in family.to_markdown() and "t0" in words.verdict(family, "m")
    assert family.frame[["low", "high"]].equals(by_itself.frame[["low", "high"]])  # intervals are of one comparison


# --- learning comes first, and alike -----------------------------------------------------------------------

def trained(frame: pd.DataFrame, falling: dict, steps: dict, samples: dict | None = None) -> pd.DataFrame:
    return frame.assign(falling=frame["task"].map(falling), steps=frame["method"].map(steps), epochs=6,
                        samples=frame["method"].map(samples or {method: 100 * n for method, n in steps.items()}))


def test_no_verdict_where_the_baseline_still_learns():
    rows = trained(table(stl=ALONE, bad=WORSE), {"left": 0.22, "depth": 0.03}, {"stl": 18, "bad": 18})
    report = safety.report(rows)
    assert report.withheld == ["left"] and report.overview.at["bad", "worse"] == ["depth"]
    assert report.verdicts["bad"]["left"]["accuracy"] == "undecided"
    assert report.frame.set_index("metric")["withheld"].to_dict() == {"accuracy": True, "error": False, "within": False}
    text = report.to_markdown()
    assert "Verdicts on left are withheld: stl still learns there" in text and "1 of 3 verdicts withheld" in text
    assert "Train longer: stl still learns left" in text and "withheld |" in text and "left is worse" not in text


@pytest.mark.parametrize("falling, withheld", [
    ([0.2, 0.2, 0.2, 0.2, 0.2], True), ([0.2, 0.2, 0.2, 0.2, 0.0], True), ([0.2, 0.2, 0.2, 0.0, 0.0], False),
    ([0.09] * 5, False), ([0.2, math.nan, math.nan, math.nan, math.nan], True), ([math.nan] * 5, False),
])
def test_the_rule_is_a_tenth_of_the_fall_on_four_of_five_seeds(falling: list[float], withheld: bool):
    cells = {("t", "accuracy"): [0.7, 0.71, 0.72, 0.73, 0.74]}
    rows = table(stl=cells, m={("t", "accuracy"): [0.5, 0.5, 0.51, 0.53, 0.55]})
    rows["falling"] = [*falling, *[0.9] * 5]  # that of other methods does not count
    assert safety.report(rows).withheld == (["t"] if withheld else [])


def test_what_is_broken_is_broken_while_the_baseline_learns():
    cells = {**BETTER, ("left", "accuracy"): [math.nan, 0.9, 0.9]}
    rows = trained(table(stl=ALONE, broken=cells), {"left": 0.3, "depth": 0.3}, {"stl": 18, "broken": 18})
    report = safety.report(rows)
    assert report.verdicts["broken"]["left"]["accuracy"] == "worse" and report.withheld == ["left", "depth"]


def test_unequal_training_is_shown_and_said():
    steps = {"stl": 288, "staged": 576, "searched": 864, "equal": 310}
    rows = trained(table(stl=ALONE, staged=BETTER, searched=BETTER, equal=WORSE), {}, steps)
    report = safety.report(rows)
    warning = next(note for note in report.notes if note.startswith("Warning, unequal training"))
    assert "staged had 2.00 x the update steps (576 against 288)" in warning and "stl(epochs=2)" in warning
    assert "searched had 3.00 x the update steps" in warning and "equal" not in warning.replace("unequal", "")
    assert report.overview["times_steps"].tolist() == pytest.approx([1, 2, 3, 310 / 288])
    shown = words.overall(report).set_index("method")
    assert shown.at["staged", "steps"] == "576 (2.00 x)" and shown.at["staged", "samples"] == "57,600 (2.00 x)"
    assert shown.at["staged", "epochs"] == "6 (1.00 x)"
    more_samples = trained(table(stl=ALONE, m=BETTER), {}, {"stl": 10, "m": 10}, {"stl": 100, "m": 150})
    assert "m had 1.50 x the samples (150 against 100)" in "\n".join(safety.report(more_samples).notes)


def test_older_tables_do_not_know_and_the_report_says_so():
    report = safety.report(table(stl=ALONE, bad=WORSE))
    assert report.withheld == [] and "worse" in set(report.frame["verdict"])
    assert any("How many update steps stl, bad took is not known" in note for note in report.notes)
    assert any("no verdict is withheld" in note for note in report.notes)
    assert set(words.overall(report)["steps"]) == {"not known"}


# --- what to do --------------------------------------------------------------------------------------------

def test_too_little_evidence_is_not_nothing_to_do():
    alone = {("t", "accuracy"): [0.8, 0.5, 0.7]}
    report = safety.report(table(stl=alone, m={("t", "accuracy"): [0.5, 0.6, 0.6]}))
    (line,) = words.advice(report)
    assert line.startswith("The evidence is too little: none of 1 comparison is decided by 3 seeds.")
    needed = report.frame["seeds_needed"].item()
    assert f"about {needed:.0f} seeds would decide the clearest of them (accuracy of t, m)" in line
    assert 3 < needed < 100 and "Nothing" not in report.to_markdown()


def test_where_not_even_a_hundred_seeds_decide_or_the_spread_is_unknown():
    alone = {("t", "accuracy"): [0.8, 0.5, 0.7]}
    tiny = safety.report(table(stl=alone, m={("t", "accuracy"): [0.7, 0.6, 0.7001]}))
    assert "more than 100 seeds" in words.advice(tiny)[0]
    one = safety.report(table(stl={("t", "accuracy"): [0.8]}, m={("t", "accuracy"): [0.7]}))
    assert "run at least 5" in words.advice(one)[0]
    same = safety.report(table(stl=alone, m={("t", "accuracy"): [0.7, 0.4, 0.6]}))
    assert "These seeds tell nothing of the spread" in words.advice(same)[0]


def test_nothing_is_to_be_done_only_where_all_is_decided_and_better():
    assert words.advice(safety.report(table(stl=ALONE, good=BETTER)))[0].startswith("Nothing: every")
    half = {**BETTER, ("left", "accuracy"): [0.85, 0.95, 0.81]}
    (line,) = words.advice(safety.report(table(stl=ALONE, half=half)))
    assert line.startswith("1 of 3 comparisons undecided, no proof of safety. If means")


def test_names_of_families_do_not_depend_on_the_order_of_rows():
    rows = table(stl=ALONE, good=BETTER, bad=WORSE)
    shuffled = rows.sample(frac=1.0, random_state=0)
    first, second = safety.report(rows), safety.report(shuffled)
    keys = ["method", "task", "metric"]
    pd.testing.assert_frame_equal(first.frame.sort_values(keys, ignore_index=True),
                                  second.frame.sort_values(keys, ignore_index=True))
