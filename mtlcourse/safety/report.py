"""The safety report: better or worse than single-task learning, how sure, and what to do about it.

Imports `files`, and its folder's `measures`, `paired`, `words`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from ..files import write_text
from . import words
from .measures import delta_i, empirically_safe, negative_sharing, safeness_coefficient
from .paired import Pairs, Runs, half_width, pair

VERDICTS = ("better", "worse", "undecided")


@dataclass
class SafetyReport:
    """What the runs of some methods say about their safety, against a baseline of single-task learning.

    baseline: its name.  seeds: what is paired.  problem, budget: what was trained on, if known.
    frame: one row a method, task and metric: mean `value` of the method and of the `baseline`, their
        `difference` (positive is better) with the 95% interval [low, high], both relative to the baseline's
        mean as `change` and `change_half_width`, and the `verdict`.
    overview: one row a method (index), the baseline first:
        delta_i, delta_i_half_width: mean over seeds of each seed's Delta_I, a fraction, and its interval.
        eta, eta_of_means: mean over seeds of each seed's eta, in percent, which is the share of metrics
            and seeds that were safe; and eta of the mean metrics, as a table with one number a cell has it.
        negative_sharing: tasks of which some metric is worse in the mean (definition 1).
        worse: those where that is certain, because a verdict says so.
        individual, average: share of seeds on which the training losses were empirically safe (definition
            3, both versions); NaN where they are not known.
        parameters, seconds, and both as multiples of the baseline's: times_parameters, times_seconds.
    remedies: `{method: {worse task: [methods for which the task is not worse, cheapest first]}}`.
    notes: what a reader has to know to read it right.
    """

    baseline: str
    seeds: list[int]
    problem: str | None
    budget: str | None
    frame: pd.DataFrame
    overview: pd.DataFrame
    remedies: dict[str, dict[str, list[str]]]
    notes: list[str]

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
    def verdicts(self) -> pd.DataFrame:
        """"better", "worse" or "undecided": one column a method, one row a (task, metric)."""
        wide = self.frame.pivot(index=["task", "metric"], columns="method", values="verdict")
        order = pd.MultiIndex.from_frame(self.frame[["task", "metric"]].drop_duplicates())
        return wide.loc[order, self.methods].rename_axis(columns=None)

    def to_frame(self) -> pd.DataFrame:
        """One row a method, task and metric; see `frame`."""
        return self.frame.copy()

    def to_csv(self, path: str | Path | None = None) -> str:
        """`frame` as CSV text, written to `path` if there is one."""
        return _written(self.frame.to_csv(index=False), path)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The whole report as Markdown text, written to `path` if there is one."""
        return _written(words.markdown(self), path)


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        write_text(path, text)
    return text


def report(methods: Mapping[str, Runs] | pd.DataFrame, baseline: Runs | str = "stl") -> SafetyReport:
    """Compare methods with single-task learning (STL), task by task and seed by seed.

    For each metric j of task t and each seed, with M the method's value: the difference
    `Delta_tj = (-1)^p (M_tj - STL_tj)` (p = 1 where lower is better) and the relative change Delta_tj / |STL_tj|.
    Intervals are 95% t-intervals of the mean over seeds. A verdict is "better" or "worse" when the interval
    of the difference lies on one side of zero, else "undecided", and always so with one seed. Delta_I and
    eta are computed for each seed as `measures` defines them, and averaged.

    methods: `{name: runs}`, runs being a list of `Run`s (one a seed) or a table of them; or one table with
        all methods, as `runs.table` makes it.
    baseline: runs of single-task learning, or its name among `methods`.
    Raises ValueError, saying what to run, when there is no baseline, when seeds or metrics differ, when the
    test data differ (by the hash of their content) or problem, budget or the package's version do, and when
    a table holds several problems, budgets or learning rates.
    Source: Deep Safe Multi-Task Learning, section 3 (definitions 1 to 3) and section 7.1.
    """
    pairs = pair(methods, baseline)
    differences, changes = pairs.differences(), pairs.changes()
    known = ~np.isnan(differences).any(axis=(0, 1))
    defined = known & ~np.isnan(changes).any(axis=(0, 1))
    frame = _frame(pairs, differences)
    overview = _overview(pairs, differences, changes, known, defined, frame)
    return SafetyReport(pairs.methods[0], pairs.seeds, pairs.problem, pairs.budget, frame, overview,
                        _remedies(overview), _notes(pairs, known, defined))


def _frame(pairs: Pairs, differences: Float64[np.ndarray, "methods seeds metrics"]) -> pd.DataFrame:
    means, widths, values = differences.mean(1), half_width(differences, 1), pairs.values.mean(1)
    scale = np.where(values[0] == 0, math.nan, np.abs(values[0]))
    tables = []
    for k, method in enumerate(pairs.methods[1:], start=1):
        low, high = means[k] - widths[k], means[k] + widths[k]
        tables.append(pd.DataFrame({
            "method": method, "task": pairs.groups, "metric": [metric for _, metric in pairs.metrics],
            "value": values[k], "baseline": values[0], "difference": means[k], "low": low, "high": high,
            "change": means[k] / scale, "change_half_width": widths[k] / scale,
            "verdict": np.select([low > 0, high < 0], ["better", "worse"], "undecided"), "seeds": len(pairs.seeds)}))
    return pd.concat(tables, ignore_index=True)


def _overview(pairs: Pairs, differences: Float64[np.ndarray, "methods seeds metrics"],
              changes: Float64[np.ndarray, "methods seeds metrics"], known: Bool[np.ndarray, "metrics"],
              defined: Bool[np.ndarray, "metrics"], frame: pd.DataFrame) -> pd.DataFrame:
    groups = np.array(pairs.groups)
    worse = frame[frame["verdict"] == "worse"]
    rows = {}
    for k, method in enumerate(pairs.methods):
        deltas = [_over(delta_i, seed, groups, defined) for seed in changes[k]]
        etas = [_over(safeness_coefficient, seed, groups, known) for seed in differences[k]]
        means = differences[k].mean(0)
        safe = _empirically(pairs, k)
        rows[method] = {
            "delta_i": math.fsum(deltas) / len(deltas), "delta_i_half_width": half_width(deltas),
            "eta": math.fsum(etas) / len(etas), "eta_of_means": _over(safeness_coefficient, means, groups, known),
            "negative_sharing": negative_sharing(means[known], groups[known]) if known.any() else [],
            "worse": list(dict.fromkeys(worse.loc[worse["method"] == method, "task"])),
            "individual": safe[0], "average": safe[1], "parameters": pairs.parameters[k], "seconds": pairs.seconds[k],
            "times_parameters": pairs.parameters[k] / pairs.parameters[0],
            "times_seconds": pairs.seconds[k] / pairs.seconds[0]}
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
    others = overview.iloc[1:].sort_values(["parameters", "seconds"], kind="stable")
    return {method: {task: [name for name in others.index if task not in others.at[name, "worse"]]
                     for task in overview.at[method, "worse"]}
            for method in overview.index[1:] if overview.at[method, "worse"]}


def _notes(pairs: Pairs, known: Bool[np.ndarray, "metrics"], defined: Bool[np.ndarray, "metrics"]) -> list[str]:
    def named(chosen: np.ndarray) -> str:
        return ", ".join(f"{pairs.metrics[j][1]} of {pairs.metrics[j][0]}" for j in np.flatnonzero(chosen))

    notes = []
    if len(pairs.seeds) == 1:
        notes.append("One seed: a difference between two single runs may be chance, so every verdict is undecided. Run "
                     "at least three seeds.")
    if not known.all():
        notes.append(f"Not a number in some run, so undecided and left out of Delta_I and eta: {named(~known)}.")
    if (known & ~defined).any():
        notes.append("The baseline is 0 in some run, so a relative change is undefined and Delta_I leaves it out: "
                     f"{named(known & ~defined)}.")
    if np.isnan(pairs.train_losses).any():
        notes.append("Losses on the whole training split are not known for all runs, so empirical safety is not judged "
                     "for those; `methods.run` measures them.")
    return notes
