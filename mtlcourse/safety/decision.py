"""Which method for these tasks: what a report says first. Imports `evidence`, `words`.

There is no second yardstick here: the decision follows from the report's verdicts, from its certificates where there
are some, and from how long each method trained.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from . import words
from .evidence import MANY


@dataclass(frozen=True)
class Decision:
    """Which method to train for these tasks, by the rule `words.DECISION`.

    kind: "use": `method` is safe. "alone": all others are out. "open": some other method is undecided, and none safe.
    method: what to train; the baseline, unless kind is "use".
    safe, undecided, out: the other methods, the cheapest first.
    nearest: of the undecided the one that needs least to be decided; "" if there is none.
    seeds: about how many in all would decide `nearest`; infinite if more than 100, NaN where seeds are not what it
        lacks, and where their spread is not known.
    sentence: what to do.  reason, price: of doing it.  doubts: what speaks against it, the report's notes included.
    """

    kind: str
    method: str
    safe: list[str]
    undecided: list[str]
    out: list[str]
    nearest: str
    seeds: float
    sentence: str
    reason: str
    price: str
    doubts: list[str]


def decide(report: Any) -> Decision:
    """The decision of a `SafetyReport`."""
    rows, unequal = _judged(report), words.unequal(report.overview)
    order = cheapest_first(report.overview)
    harmed, unsettled = (set(rows.loc[rows[what], "method"]) for what in ("harm", "open"))
    out = [method for method in order if method in harmed]
    safe = [method for method in order if method not in harmed | unsettled | set(unequal)]
    undecided = [method for method in order if method not in [*out, *safe]]
    if safe:
        return Decision("use", safe[0], safe, undecided, out, "", math.nan,
                        f"**Use {safe[0]}**: {_merit(report, rows, safe[0])}.",
                        _why_safe(report, rows, safe), _price(report, safe[0]), _doubts(report, safe[0]))
    base, alone = report.baseline, words.baseline(report)
    price, doubts = _price(report, base), _doubts(report, base)
    if not undecided:
        return Decision("alone", base, safe, undecided, out, "", math.nan,
                        f"**{alone}**: every other method harms some task.", f"{_harm(rows, out)}.", price, doubts)
    nearest, seeds = _nearest(report, rows, undecided)
    reason = ". ".join(filter(None, (_harm(rows, out), _lack(report, rows, nearest, seeds, unequal))))
    return Decision("open", base, safe, undecided, out, nearest, seeds,
                    f"**{alone} for now**: no other method is shown to be safe.", f"{reason}.", price, doubts)


def cheapest_first(overview: pd.DataFrame) -> list[str]:
    """The methods without the baseline: fewest parameters first, then fewest update steps, then least time."""
    return list(overview.iloc[1:].sort_values(["parameters", "steps", "seconds"], kind="stable").index)


def _judged(report: Any) -> pd.DataFrame:
    """The report's comparisons, and of each whether it is `better`, `allowed` by a margin, a `harm`, or `open`."""
    rows = report.frame.copy()
    certified = pd.Series("", index=rows.index)
    if report.certificates is not None and len(report.certificates.frame):
        keys = ["method", "task", "metric"]
        mean = report.certificates.frame.set_index(keys)["mean_verdict"]
        certified = mean.reindex(pd.MultiIndex.from_frame(rows[keys])).fillna("").set_axis(rows.index)
    trusted = ~rows["broken"] & ~rows["withheld"]
    rows["better"] = rows["verdict"] == "better"
    rows["allowed"] = ~rows["better"] & trusted & (certified == "safe")
    rows["harm"] = ~rows["allowed"] & (rows["broken"] | (rows["verdict"] == "worse")
                                       | (trusted & ~rows["better"] & (certified == "unsafe")))
    rows["open"] = ~(rows["better"] | rows["allowed"] | rows["harm"])
    return rows


def _nearest(report: Any, rows: pd.DataFrame, undecided: list[str]) -> tuple[str, float]:
    """The undecided method that needs least, best one that is worse in the mean nowhere, and its seeds."""
    missing = {method: rows[(rows["method"] == method) & rows["open"]] for method in undecided}
    seeds = {method: _seeds(report, own) for method, own in missing.items()}

    def far(method: str) -> tuple[bool, float]:
        more = 0.0 if missing[method].empty else math.inf if math.isnan(seeds[method]) else seeds[method]
        return bool(report.overview.at[method, "negative_sharing"]), more

    nearest = min(undecided, key=far)
    return nearest, seeds[nearest]


def _seeds(report: Any, missing: pd.DataFrame) -> float:
    """About how many seeds would decide all of these comparisons; see `Decision.seeds`."""
    if missing.empty or missing["withheld"].any() or missing["seeds_needed"].isna().any():
        return math.nan
    return max(float(missing["seeds_needed"].max()), float(words.least(report)))


def _merit(report: Any, rows: pd.DataFrame, method: str) -> str:
    """What is good about a safe method, in half a sentence."""
    other = "alone" if words.single(report.baseline) else f"with {report.baseline}"
    if rows.loc[rows["method"] == method, "better"].all():
        return f"every task is better than {other}"
    return f"no task is worse than {other} by more than the margin"


def _why_safe(report: Any, rows: pd.DataFrame, safe: list[str]) -> str:
    own = rows[rows["method"] == safe[0]]
    text = f"{own['better'].sum()} of {words.count(len(own), 'comparison')} better"
    if own["allowed"].any():
        text += f", and {own['allowed'].sum()} certified to be no worse than the margin allows"
    text += f"; Delta_I {words.percent(report.overview.loc[safe[0]], '%')}."
    if len(safe) > 1:
        text += f" Safe as well, and not cheaper: {', '.join(safe[1:])}; the report does not compare them with it."
    return text


def _harm(rows: pd.DataFrame, out: list[str]) -> str:
    """Where the methods do harm that are out: "left with hps; left, right with dsmtl-il"."""
    named = [f"{', '.join(dict.fromkeys(rows.loc[(rows['method'] == method) & rows['harm'], 'task']))} with {method}"
             for method in out]
    return f"Harmed: {'; '.join(named)}" if named else ""


def _lack(report: Any, rows: pd.DataFrame, nearest: str, seeds: float, unequal: dict[str, str]) -> str:
    """What the nearest method lacks to be decided, and what would provide it."""
    own = rows[rows["method"] == nearest]
    missing, worse = own[own["open"]], report.overview.at[nearest, "negative_sharing"]
    steps = [f"Nearest is {nearest}, with {len(missing) or 'none'} of {words.count(len(own), 'comparison')} open"]
    held = list(dict.fromkeys(missing.loc[missing["withheld"], "task"]))
    if held:
        steps.append(f"Train longer: {report.baseline} still learns {', '.join(held)}")
    elif math.isinf(seeds):
        steps.append(f"More than {MANY} seeds would be needed: say how much worse would not matter (`--margin`)")
    elif not math.isnan(seeds):
        steps.append(f"About {seeds:.0f} seeds would decide, {seeds - len(report.seeds):.0f} more than now")
    elif len(missing):
        steps.append(f"{words.count(len(report.seeds), 'seed')} cannot decide: run at least {words.least(report)}")
    if nearest in unequal:
        steps.append(f"It had {unequal[nearest]}: compare with a baseline that trains as long, such as stl(epochs=2)")
    if worse:
        steps.append(f"In the mean it is worse on {', '.join(worse)}")
    return ". ".join(steps)


def _price(report: Any, method: str) -> str:
    """What the method costs beside the baseline; of the baseline, what the smallest other one would save."""
    row, base = report.overview.loc[method], report.baseline
    if method == base:
        smallest = report.overview.loc[cheapest_first(report.overview)[0]]
        if math.isnan(row["parameters"]) or math.isnan(smallest["times_parameters"]):
            return "Its size is not known."
        return (f"{row['parameters']:,.0f} parameters; {smallest.name}, the smallest other method, has "
                f"{smallest['times_parameters']:.2f} x as many.")
    parts = [f"{row[f'times_{cost}']:.2f} x the {name}" for cost, name in
             (("parameters", "parameters"), ("steps", "update steps"), ("seconds", "time"))
             if not math.isnan(row[f"times_{cost}"])]
    return f"{', '.join(parts)} of {base}." if parts else "Its costs are not known."


def _doubts(report: Any, method: str) -> list[str]:
    """How many comparisons and seeds there were, what else differs, what is not known of new samples; the notes."""
    comparisons, seeds = words.count(len(report.frame), "comparison"), words.count(len(report.seeds), "seed")
    doubts = [f"{comparisons}, {seeds}: " + ("each verdict is at 5% by itself, so some may be chance." if
              report.per_comparison else "were there no difference at all, one such report in twenty would have a "
              "false verdict.")]
    row = report.overview.loc[method]
    if row["times_parameters"] > words.UNEQUAL:
        doubts.append(f"{method} has {row['times_parameters']:.2f} x the parameters of {report.baseline}: is it only "
                      "size? stl-wide has single-task networks as large.")
    found = report.certificates
    if method != report.baseline and found is not None and method in found.networks.index:
        counted = found.networks.loc[method]
        networks = words.count(int(counted["seeds"]), "network")
        doubts.append(f"On new samples {counted['safe']} of {networks} are certainly safe, {counted['unsafe']} unsafe.")
    elif method != report.baseline:
        doubts.append("Verdicts are about new seeds; another test sample is the matter of certificates, and there is "
                      "none here.")
    return doubts + report.notes
