"""What a report says first: which method for these tasks, by its own verdicts and nothing else."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlcourse import safety
from tests.safety.stored import pair, problem
from tests.safety.test_verdicts import ALONE, BETTER, WORSE, table, trained

MIXED = {**BETTER, ("depth", "error"): WORSE["depth", "error"]}
OPEN = {**BETTER, ("left", "accuracy"): [0.85, 0.95, 0.81]}  # better in the mean, and not certainly
LEANING = {**BETTER, ("left", "accuracy"): [0.70, 0.90, 0.80]}  # worse in the mean, and not certainly


def report(sizes: dict | None = None, steps: dict | None = None, falling: dict | None = None, **methods):
    names = ["stl", *methods]
    rows = trained(table(stl=ALONE, **methods), falling or {"left": 0.0, "depth": 0.0},
                   {name: 100 for name in names} | (steps or {}))
    return safety.report(rows.assign(parameters=rows["method"].map({name: 100 for name in names} | (sizes or {}))))


def test_a_method_that_is_better_everywhere_is_taken_and_its_price_is_said():
    made = report({"good": 50}, good=BETTER, bad=MIXED).decision
    assert (made.kind, made.method, made.safe, made.out) == ("use", "good", ["good"], ["bad"])
    assert made.sentence == "**Use good**: every task is better than alone."
    assert made.reason.startswith("3 of 3 comparisons better; Delta_I +")
    assert made.price == "0.50 x the parameters, 1.00 x the update steps, 1.00 x the time of stl."
    assert made.doubts[0].startswith("6 comparisons, 3 seeds: were there no difference")
    assert "another test sample" in made.doubts[1]


@pytest.mark.parametrize(("sizes", "steps", "first"), [
    ({"one": 80, "two": 60}, {}, "two"), ({"one": 60, "two": 80}, {}, "one"), ({}, {"two": 90}, "two"), ({}, {}, "one"),
])
def test_of_several_safe_ones_the_cheapest_is_taken_whatever_it_gains(sizes: dict, steps: dict, first: str):
    more = {place: [value + 0.01 * k for k, value in enumerate(values)] for place, values in BETTER.items()}
    made = report(sizes, steps, one=BETTER, two={**BETTER, ("left", "accuracy"): more["left", "accuracy"]}).decision
    assert made.method == first and set(made.safe) == {"one", "two"}
    assert f"Safe as well, and not cheaper: {made.safe[1]}; the report does not compare them" in made.reason


def test_where_every_method_harms_somebody_each_task_is_trained_alone():
    made = report({"mixed": 50}, mixed=MIXED, bad=WORSE).decision
    assert (made.kind, made.method, made.out) == ("alone", "stl", ["mixed", "bad"])
    assert made.sentence == "**Train each task alone (stl)**: every other method harms some task."
    assert made.reason == "Harmed: depth with mixed; left, depth with bad."
    assert made.price == "100 parameters; mixed, the smallest other method, has 0.50 x as many."


def test_what_is_not_a_number_harms():
    made = report(broken={**BETTER, ("left", "accuracy"): [math.nan, 0.9, 0.95]}).decision
    assert made.kind == "alone" and made.reason == "Harmed: left with broken."


def test_undecided_is_not_safe_and_the_seeds_that_lack_are_said():
    found = report(open=OPEN, bad=WORSE)
    made, needed = found.decision, found.frame.query("method == 'open'")["seeds_needed"].max()
    assert (made.kind, made.method, made.nearest, made.seeds) == ("open", "stl", "open", max(needed, 5))
    assert made.sentence == "**Train each task alone (stl) for now**: no other method is shown to be safe."
    assert made.reason == (f"Harmed: left, depth with bad. Nearest is open, with 1 of 3 comparisons open. About "
                           f"{needed:.0f} seeds would decide, {needed - 3:.0f} more than now.")


def test_a_method_that_is_worse_in_the_mean_is_not_the_nearest_and_it_is_said_where_there_is_no_other():
    assert report({"leaning": 10}, leaning=LEANING, open=OPEN).decision.nearest == "open"
    alone = report(leaning=LEANING).decision
    assert alone.nearest == "leaning" and alone.reason.endswith("In the mean it is worse on left.")


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_decide_nothing(seeds: int):
    cut = {name: {place: values[:seeds] for place, values in cells.items()}
           for name, cells in {"stl": ALONE, "good": BETTER}.items()}
    made = safety.report(table(**cut)).decision
    assert made.kind == "open" and math.isnan(made.seeds) == (seeds == 1)
    assert ("1 seed cannot decide: run at least 5" in made.reason) == (seeds == 1)


def test_equal_methods_ask_for_a_margin_and_not_for_seeds():
    made = report(same=ALONE).decision
    assert made.kind == "open" and "run at least 5" in made.reason  # three equal seeds know no spread
    turned = {place: [values[1], values[0], values[2]] for place, values in ALONE.items()}
    made = report(turned=turned).decision
    assert made.kind == "open" and math.isinf(made.seeds) and "(`--margin`)" in made.reason


def test_longer_training_does_not_count_as_safe():
    made = report(steps={"good": 200}, good=BETTER).decision
    assert made.kind == "open" and made.undecided == ["good"] and math.isnan(made.seeds)
    assert "none of 3 comparisons open. It had 2.00 x the update steps (200 against 100)" in made.reason
    assert any("unequal training" in doubt for doubt in made.doubts)
    assert report(steps={"good": 110}, good=BETTER).decision.kind == "use"
    both = report(steps={"longer": 200}, longer=BETTER, open=OPEN).decision
    assert both.nearest == "longer"  # no seed is missing there


def test_while_the_baseline_learns_nothing_is_safe_and_what_harms_still_does():
    found = report(falling={"left": 0.3, "depth": 0.0}, good=BETTER, bad=MIXED)
    made = found.decision
    assert (made.kind, made.undecided, made.out) == ("open", ["good"], ["bad"])
    assert "Train longer: stl still learns left" in made.reason
    assert any("withheld" in doubt for doubt in made.doubts) and set(found.notes) <= set(made.doubts)


def test_size_is_a_doubt():
    assert any("is it only size?" in doubt for doubt in report({"good": 150}, good=BETTER).decision.doubts)
    assert not any("is it only size?" in doubt for doubt in report({"good": 105}, good=BETTER).decision.doubts)


def certified(verdicts: dict[tuple[str, str], str], **methods):
    """A report whose certificates say of each (task, metric) of `open` what holds in the mean."""
    found = report(open=OPEN, **methods)
    kept = {name: {seed: pair(9, 5 + seed, 100)[name == "stl"] for seed in range(3)}
            for name in ("stl", "open")}
    tally = safety.tally(kept, "stl", problem(), margin=1.0)
    rows = pd.DataFrame([{**tally.frame.iloc[0], "task": task, "metric": metric, "mean_verdict": verdict}
                         for (task, metric), verdict in verdicts.items()])
    found.certificates = replace(tally, frame=rows)
    return found


def test_a_margin_makes_safe_what_seeds_leave_open():
    made = certified({("left", "accuracy"): "safe"}).decision
    assert made.kind == "use" and made.method == "open"
    assert made.sentence == "**Use open**: no task is worse than alone by more than the margin."
    assert made.reason.startswith("2 of 3 comparisons better, and 1 certified to be no worse than the margin allows")
    assert any(doubt.startswith("On new samples ") and "of 3 networks are certainly safe" in doubt
               for doubt in made.doubts)


def test_a_margin_does_not_excuse_other_comparisons_nor_what_is_certified_unsafe():
    assert certified({("depth", "error"): "safe"}).decision.kind == "open"
    made = certified({("left", "accuracy"): "unsafe"}).decision
    assert made.kind == "alone" and made.reason == "Harmed: left with open."


def test_a_margin_that_was_asked_for_allows_what_is_certainly_worse_by_less():
    found = certified({("left", "accuracy"): "safe"})
    found.frame.loc[found.frame["metric"] == "accuracy", "verdict"] = "worse"
    assert found.decision.kind == "use"
    found.frame.loc[found.frame["metric"] == "accuracy", "broken"] = True
    assert found.decision.kind == "alone"
    found = certified({("left", "accuracy"): "safe"})
    found.frame.loc[found.frame["metric"] == "accuracy", "withheld"] = True
    assert found.decision.kind == "open"


def test_another_baseline_is_not_called_alone():
    rows = table(hps=ALONE, good=BETTER)
    assert safety.report(rows, "hps").decision.sentence == "**Use good**: every task is better than with hps."
    assert safety.report(table(hps=ALONE, bad=WORSE), "hps").decision.sentence.startswith("**Stay with hps**")


def test_costs_that_nobody_knows():
    rows = table(stl=ALONE, good=BETTER).drop(columns=["parameters", "seconds"])
    assert safety.report(rows).decision.price == "Its costs are not known."
    rows = table(stl=ALONE, bad=WORSE).drop(columns=["parameters", "seconds"])
    assert safety.report(rows).decision.price == "Its size is not known."


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["better", "worse", "open", "leaning", "mixed"]), min_size=1, max_size=4),
       st.integers(0, 2**31 - 1))
def test_every_method_is_safe_undecided_or_out_and_only_safe_ones_are_used(kinds: list[str], seed: int):
    cells = {"better": BETTER, "worse": WORSE, "open": OPEN, "leaning": LEANING, "mixed": MIXED}
    random = np.random.default_rng(seed)
    names = {f"m{k}": cells[kind] for k, kind in enumerate(kinds)}
    found = report({name: int(random.integers(50, 200)) for name in names},
                   {name: int(random.choice([100, 200])) for name in names}, **names)
    made = found.decision
    assert sorted([*made.safe, *made.undecided, *made.out]) == sorted(names)
    for name in made.safe:
        own = found.frame[found.frame["method"] == name]
        assert (own["verdict"] == "better").all() and found.overview.at[name, "times_steps"] <= 1.1
    for name in made.out:
        assert found.overview.at[name, "worse"]
    assert made.kind == ("use" if made.safe else "open" if made.undecided else "alone")
    assert made.method == (made.safe[0] if made.safe else "stl") and (made.nearest in made.undecided) == (
        made.kind == "open")


def test_the_report_leads_with_the_decision_and_states_the_rule():
    text = report(good=BETTER).to_markdown()
    assert text.split("\n\n")[1] == "**Use good**: every task is better than alone."
    assert "Of the safe ones the\ncheapest is taken" in text and "1.1 times the update steps" in text
