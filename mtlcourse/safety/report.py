"""The safety report: better or worse than single-task learning, how sure, and what to do about it.

Imports `files`, and its folder's `decision`, `evidence`, `measures`, `paired`, `tally`, `words`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from ..files import write_text
from . import evidence, words
from .decision import Decision, cheapest_first, decide
from .measures import delta_i, empirically_safe, exact_mean, negative_sharing, safeness_coefficient
from .paired import COSTS, Pairs, Runs, half_width, pair
from .tally import Tally

VERDICTS = ("better", "worse", "undecided")
FALLING = 0.1  # a baseline still learns while the last quarter of its epochs brings more of the loss's fall than this
OFTEN = 0.8  # ... on at least this share of seeds


@dataclass
class SafetyReport:
    """What the runs of some methods say about their safety, against a baseline of single-task learning.

    baseline: its name.  seeds: what is paired.  problem, budget: what was trained on, if known.
    frame: one row a method, task and metric: mean `value` of the method and of the `baseline`, their
        `difference` (positive is better) with its 95% interval [low, high], NaN where all seeds have the same
        difference; both relative to the baseline's mean as `change` and `change_half_width`; the p-value of the
        comparison on its own, `p`, and in its family, `p_family`; the `verdict`; `broken`: the method's value is
        not a number with some seed, and the baseline's is; `withheld`: no verdict, as the baseline still learns;
        `seeds`, and `seeds_needed`: about how many would decide (see `evidence.seeds_needed`).
    overview: one row a method (index), the baseline first:
        delta_i, delta_i_half_width: mean over seeds of each seed's Delta_I, a fraction, and its interval.
        eta, eta_of_means: mean over seeds of each seed's eta, in percent, which is the share of metrics
            and seeds that were safe; and eta of the mean metrics, as a table with one number a cell has it.
        negative_sharing: tasks of which some metric is worse in the mean (definition 1), or broken.
        worse: those where that is certain, because a verdict says so.
        broken: tasks of which some metric is not a number. Delta_I is then NaN, and eta counts it as not safe.
        individual, average: share of seeds on which the training losses were empirically safe (definition
            3, both versions); NaN where they are not known.
        parameters, seconds, steps (updates), samples (seen in training), epochs, means over seeds, NaN where not
            known; and as multiples of the baseline's: times_parameters, times_seconds and so on.
    remedies: `{method: {worse task: [methods for which the task is not worse, cheapest first]}}`; never a method
        that is broken anywhere.
    notes: what a reader has to know to read it right.
    per_comparison: whether verdicts regard each comparison on its own.
    withheld: the tasks without verdicts, because the baseline still learns them.
    certificates: how many of each method's networks are certainly safe, where somebody asked; see `tally`.
    """

    baseline: str
    seeds: list[int]
    problem: str | None
    budget: str | None
    frame: pd.DataFrame
    overview: pd.DataFrame
    remedies: dict[str, dict[str, list[str]]]
    notes: list[str]
    per_comparison: bool = False
    withheld: list[str] = field(default_factory=list)
    certificates: Tally | None = None

    @property
    def methods(self) -> list[str]:
        """The methods compared, without the baseline."""
        return [method for method in self.overview.index if method != self.baseline]

    @property
    def delta_i(self) -> dict[str, float]:
        """`{method: Delta_I}`, a fraction; positive is better."""
        return self.overview.loc[self.methods, "delta_i"].to_dict()

    @property
    def eta(self) -> dict[str, float]:
        """`{method: eta}`, in percent."""
        return self.overview.loc[self.methods, "eta"].to_dict()

    @property
    def decision(self) -> Decision:
        """Which method to train for these tasks, with reason, price and doubts; see `words.DECISION`."""
        return decide(self)

    @property
    def verdicts(self) -> pd.DataFrame:
        """"better", "worse" or "undecided": one column a method, one row a (task, metric)."""
        wide = self.frame.pivot(index=["task", "metric"], columns="method", values="verdict")
        order = pd.MultiIndex.from_frame(self.frame[["task", "metric"]].drop_duplicates())
        return wide.loc[order, self.methods].rename_axis(columns=None)

    def to_frame(self) -> pd.DataFrame:
        """One row a method, task and metric; see `frame`. With certificates, theirs too, as `certified_...`."""
        if self.certificates is None:
            return self.frame.copy()
        keys = ["method", "task", "metric"]
        own = self.certificates.frame.set_index(keys).add_prefix("certified_").reset_index()
        return self.frame.merge(own, "left", keys)

    def to_csv(self, path: str | Path | None = None) -> str:
        """`to_frame` as CSV text, written to `path` if there is one."""
        return _written(self.to_frame().to_csv(index=False), path)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The whole report as Markdown text, written to `path` if there is one."""
        return _written(words.markdown(self), path)


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        write_text(path, text)
    return text


def report(methods: Mapping[str, Runs] | pd.DataFrame, baseline: Runs | str = "stl", *,
           per_comparison: bool = False) -> SafetyReport:
    """Compare methods with single-task learning (STL), task by task and seed by seed.

    For each metric j of task t and each seed, with M the method's value: the difference
    `Delta_tj = (-1)^p (M_tj - STL_tj)` (p = 1 where lower is better) and the relative change Delta_tj / |STL_tj|.
    Intervals are 95% t-intervals of the mean over seeds, for one comparison. Delta_I and eta are computed for each
    seed as `measures` defines them, and averaged.

    Verdicts. "better" or "worse": the paired t-test over seeds decides, at 5 % for the whole report (`evidence.family`:
    Holm's procedure within a method, shared among methods), and at least three seeds differ; else "undecided", and
    always so with one seed. A value that is not a number, or infinite, where the baseline has one, is "worse":
    undefined is not safe. All verdicts on a task are withheld, so undecided, while its baseline still learns: where
    the last quarter of the epochs brought more than a tenth of the fall of its validation loss (`trained.falling`),
    on four of five seeds or more. Where that is not known nothing is withheld, and a note says so.

    methods: `{name: runs}`, runs being a list of `Run`s (one a seed) or a table of them; or one table with
        all methods, as `runs.table` makes it.
    baseline: runs of single-task learning, or its name among `methods`.
    per_comparison: each verdict at 5 % on its own, so that it goes by the interval shown. Some false verdict is then
        likely where there are many: of 27 comparisons without a difference, in three reports of four.
    Raises ValueError, saying what to run, when there is no baseline, when seeds or metrics differ, when the
    test data differ (by the hash of their content) or problem, budget or the package's version do, and when
    a table holds several problems, budgets or learning rates.
    Source: Deep Safe Multi-Task Learning, section 3 (definitions 1 to 3) and section 7.1. The paper compares single
    runs; the tests are an addition.
    """
    pairs = pair(methods, baseline)
    learning = _learning(pairs)
    frame = _frame(pairs, learning, per_comparison)
    overview = _overview(pairs, frame)
    withheld = [task for task, still in zip(pairs.tasks, learning, strict=True) if still]
    return SafetyReport(pairs.methods[0], pairs.seeds, pairs.problem, pairs.budget, frame, overview,
                        _remedies(overview), _notes(pairs, frame, overview, withheld), per_comparison, withheld)


def _learning(pairs: Pairs) -> Bool[np.ndarray, "tasks"]:
    """The tasks that the baseline still learns; see `report`."""
    known = ~np.isnan(pairs.falling)
    still = (pairs.falling > FALLING).sum(axis=0)
    return known.any(axis=0) & (still >= OFTEN * known.sum(axis=0))


def _frame(pairs: Pairs, learning: Bool[np.ndarray, "tasks"], per_comparison: bool) -> pd.DataFrame:
    differences, size, n = pairs.differences()[1:], pairs.size()[1:], len(pairs.seeds)
    means, broken = pairs.mean_differences()[1:], pairs.broken()[1:]
    widths = np.where(evidence.differing(differences, size) > 1, half_width(differences, 1), math.nan)
    values = np.apply_along_axis(exact_mean, 1, pairs.values)
    scale = np.where(values[0] == 0, math.nan, np.abs(values[0]))
    p = evidence.p_values(differences, size)
    adjusted = evidence.family(p)
    sure = (p if per_comparison else adjusted) < evidence.LEVEL
    held = np.isin(pairs.groups, np.array(pairs.tasks)[learning])
    verdicts = np.select([broken & (n > 1), np.broadcast_to(held, p.shape), sure & (means > 0), sure & (means < 0)],
                         ["worse", "undecided", "better", "worse"], "undecided")
    spread = differences.std(1, ddof=1) if n > 1 else np.full(p.shape, math.nan)
    level = evidence.LEVEL / (1 if per_comparison else p.size)
    needed = evidence.seeds_needed(means, np.where(np.isnan(widths), math.nan, spread), level)
    return pd.concat([pd.DataFrame({
        "method": method, "task": pairs.groups, "metric": [metric for _, metric in pairs.metrics],
        "value": values[k + 1], "baseline": values[0], "difference": means[k], "low": means[k] - widths[k],
        "high": means[k] + widths[k], "change": means[k] / scale, "change_half_width": widths[k] / scale,
        "p": p[k], "p_family": adjusted[k], "verdict": verdicts[k], "broken": broken[k],
        "withheld": held & (verdicts[k] == "undecided"), "seeds": n, "seeds_needed": needed[k]})
        for k, method in enumerate(pairs.methods[1:])], ignore_index=True)


def _overview(pairs: Pairs, frame: pd.DataFrame) -> pd.DataFrame:
    groups, known, broken = np.array(pairs.groups), pairs.known(), pairs.broken()
    differences, changes, means = pairs.differences(), pairs.changes(), pairs.mean_differences()
    defined = known & (pairs.values[0] != 0).all(axis=0)
    worse = frame[frame["verdict"] == "worse"]
    rows = {}
    for k, method in enumerate(pairs.methods):
        # What is broken counts, whatever the baseline has with other seeds: as undefined for Delta_I, as harm for eta.
        deltas = [_over(delta_i, seed, groups, defined | broken[k]) for seed in changes[k]]
        counted = known | broken[k]
        signs, mean_signs = (np.where(np.isnan(found) & counted, -1.0, found) for found in (differences[k], means[k]))
        etas = [_over(safeness_coefficient, seed, groups, counted) for seed in signs]
        harmed = negative_sharing(mean_signs[counted], groups[counted].tolist()) if counted.any() else []
        safe = _empirically(pairs, k)
        rows[method] = {
            "delta_i": exact_mean(deltas), "delta_i_half_width": half_width(deltas),
            "eta": exact_mean(etas), "eta_of_means": _over(safeness_coefficient, mean_signs, groups, counted),
            "negative_sharing": harmed,
            "worse": list(dict.fromkeys(worse.loc[worse["method"] == method, "task"])),
            "broken": list(dict.fromkeys(groups[broken[k]].tolist())), "individual": safe[0], "average": safe[1],
            **dict(zip(COSTS, pairs.costs[k], strict=True)),
            **{f"times_{name}": own / base if base else math.nan
               for name, own, base in zip(COSTS, pairs.costs[k], pairs.costs[0], strict=True)}}
    return pd.DataFrame.from_dict(rows, orient="index")


def _over(measure: Callable[..., float], values: Float64[np.ndarray, "metrics"], groups: np.ndarray,
          chosen: Bool[np.ndarray, "metrics"]) -> float:
    """A measure of the chosen metrics; NaN if there are none."""
    return measure(values[chosen], groups[chosen]) if chosen.any() else math.nan


def _empirically(pairs: Pairs, k: int) -> tuple[float, float]:
    """Share of seeds on which method k was empirically safe: individually, and on average."""
    if np.isnan(pairs.train_losses[[0, k]]).any():
        return math.nan, math.nan
    found = [empirically_safe(dict(zip(pairs.tasks, own, strict=True)), dict(zip(pairs.tasks, alone, strict=True)))
             for own, alone in zip(pairs.train_losses[k], pairs.train_losses[0], strict=True)]
    return tuple(sum(values) / len(found) for values in zip(*found, strict=True))


def _remedies(overview: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    whole = [name for name in cheapest_first(overview) if not overview.at[name, "broken"]]
    return {method: {task: [name for name in whole if task not in overview.at[name, "worse"]]
                     for task in overview.at[method, "worse"]}
            for method in overview.index[1:] if overview.at[method, "worse"]}


def _notes(pairs: Pairs, frame: pd.DataFrame, overview: pd.DataFrame, withheld: list[str]) -> list[str]:
    def named(chosen: np.ndarray) -> str:
        return ", ".join(f"{pairs.metrics[j][1]} of {pairs.metrics[j][0]}" for j in np.flatnonzero(chosen))

    notes, known, n = [], pairs.known(), len(pairs.seeds)
    if n == 1:
        notes.append("One seed: a difference between two single runs may be chance, so every verdict is undecided. Run "
                     "at least three seeds.")
    elif n < evidence.LEAST:
        notes.append("Two seeds decide nothing: their spread is hardly known. Run at least three, better five.")
    else:
        alike = frame[frame["difference"].notna() & (frame["p"] == 1) & (frame["difference"] != 0)]
        if len(alike):
            places = ", ".join(f"{row.metric} of {row.task} ({row.method})" for row in alike.itertuples())
            notes.append(f"Fewer than three seeds differ, which tells too little of chance to decide: {places}.")
    if withheld:
        notes.append(f"Verdicts on {', '.join(withheld)} are withheld: {pairs.methods[0]} still learns there. The "
                     "last quarter of its epochs brought more than a tenth of the fall of its validation loss. Train "
                     "longer.")
    notes += words.fairness(overview, bool(np.isnan(pairs.falling).all(axis=0).any()))
    if not known.all():
        notes.append(f"{pairs.methods[0]} is not a number in some run, so undecided and left out of Delta_I and eta: "
                     f"{named(~known)}.")
    for k, method in enumerate(pairs.methods):
        if pairs.broken()[k].any():
            notes.append(f"Not a number in some run of {method}: {named(pairs.broken()[k])}. What is undefined is not "
                         "safe: Delta_I is undefined, and eta counts it as worse.")
    zero = known & (pairs.values[0] == 0).any(axis=0)
    if zero.any():
        notes.append("The baseline is 0 in some run, so a relative change is undefined and Delta_I leaves it out: "
                     f"{named(zero)}.")
    if np.isnan(pairs.train_losses).any():
        notes.append("Losses on the whole training split are not known for all runs, so empirical safety is not judged "
                     "for those; `methods.run` measures them.")
    return notes
