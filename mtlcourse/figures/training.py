"""Figures of training: losses and gradients over epochs, and what a method gained over another, seed by seed.

Imports `runs`, `training`. Every function returns a matplotlib `Figure` and leaves showing it to the caller.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..runs import half_width
from ..training import Run
from .style import COLUMN, panels, shade


def learning_curves(histories: Mapping[str, pd.DataFrame | Run], name: str = "loss", split: str = "val") -> Any:
    """One panel a task: `name` on `split` over epochs, one line a method.

    histories: `{method: history}`, or runs.
    """
    tables = {method: run.history if isinstance(run, Run) else run for method, run in histories.items()}
    tables = {method: table[(table["name"] == name) & (table["split"] == split)] for method, table in tables.items()}
    tasks = list(dict.fromkeys(task for table in tables.values() for task in table["task"]))
    figure, axes = panels(1, len(tasks))
    for axis, task in zip(axes[0], tasks, strict=True):
        for method, table in tables.items():
            rows = table[table["task"] == task]
            axis.plot(rows["epoch"], rows["value"], marker="o", markersize=3, label=method)
        axis.set(title=task, xlabel="epoch")
    axes[0, 0].set_ylabel(f"{name} ({'validation' if split == 'val' else split})")
    axes[0, -1].legend()
    return figure


DIAGNOSTICS = {  # as `fit(diagnostics=True)` notes them, and what their axis says
    "cosine": "cosine of task gradients",
    "conflict_rate": "pairs in conflict (share)",
    "magnitude_similarity": "similarity of lengths",
    "condition_number": "condition number of G"}


def diagnostics(histories: Mapping[str, pd.DataFrame | Run], modules: bool = False) -> Any:
    """What the task gradients looked like over training: one panel a measure, one line a method.

    histories: `{method: history}`, or runs, of `fit(..., diagnostics=True)`.
    modules: one row of panels a method instead, with a line for each shared module, light at the input side,
        and a dashed one for all shared parameters together.
    Raises ValueError for a history without these measures, and says how to get them.
    """
    measured = {method: _measured(method, run.history if isinstance(run, Run) else run)
                for method, run in histories.items()}
    figure, axes = panels(len(measured) if modules else 1, len(DIAGNOSTICS), COLUMN * 0.9)
    for number, (method, table) in enumerate(measured.items()):
        row = axes[number if modules else 0]
        places = sorted({name for name in table["task"] if name != "shared"}, key=lambda name: int(name[7:]))
        for axis, (name, label) in zip(row, DIAGNOSTICS.items(), strict=True):
            rows = table[table["name"] == name].pivot(index="epoch", columns="task", values="value")
            if modules:
                for depth, place in enumerate(places, start=1):
                    axis.plot(rows.index, rows[place], color=shade(depth / len(places)), label=place.replace("_", " "))
                axis.plot(rows.index, rows["shared"], color="0.2", linestyle="--", label="all shared")
                axis.set_title(method)
            else:
                axis.plot(rows.index, rows["shared"], marker="o", markersize=3, label=method)
            axis.set(xlabel="epoch", ylabel=label)
            if name == "condition_number":
                axis.set_yscale("log")
                axis.yaxis.set_minor_formatter("{x:.3g}")
    for row in axes:
        row[0].axhline(0.0, color="0.7", linewidth=1, linestyle=":")
    axes[0, -1].legend(fontsize=8)
    return figure


def _measured(method: str, table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["name"].isin(DIAGNOSTICS)]
    if rows.empty:
        raise ValueError(f"The history of {method!r} has no measures of gradients; train it with "
                         "fit(..., diagnostics=True).")
    return rows


def differences(table: pd.DataFrame, method: str, baseline: str = "stl") -> Any:
    """How much better `method` is than `baseline`, seed by seed: one column of dots per task.

    table: as `runs.table` gives it, of one problem. Differences are paired by seed and signed so that
    positive is better; the bar is their mean, the whisker its 95% t-interval. Losses are left out. There is
    one panel per metric and budget; budgets of one metric share their scale.
    """
    paired = paired_differences(table, method, baseline)
    groups = list(paired.groupby(["metric", "budget"], sort=False))
    columns = min(len(groups), 5)
    figure, axes = panels(math.ceil(len(groups) / columns), columns, COLUMN * (1.0 if columns < 4 else 0.75))
    for axis in axes.flat[len(groups):]:
        axis.axis("off")
    first: dict[str, Any] = {}
    for axis, ((metric, budget), rows) in zip(axes.flat, groups, strict=False):
        if metric in first:
            axis.sharey(first[metric])
        first.setdefault(metric, axis)
        tasks = list(dict.fromkeys(rows["task"]))
        axis.axhline(0.0, color="0.3", linewidth=1)
        for place, task in enumerate(tasks):
            values = rows[rows["task"] == task]["difference"].to_numpy()
            spread = [place + 0.12 * (i / max(len(values) - 1, 1) - 0.5) for i in range(len(values))]
            colour = f"C{place}"
            axis.scatter(spread, values, s=14, alpha=0.6, color=colour)
            axis.errorbar(place + 0.2, values.mean(), yerr=half_width(values), fmt="_", capsize=3, markersize=12,
                          color=colour)
        axis.set_xticks(range(len(tasks)), tasks)
        axis.set(title=metric if paired["budget"].nunique() == 1 else f"{metric}, {budget} budget",
                 xlim=(-0.5, len(tasks) - 0.4))
    for row in axes:
        row[0].set_ylabel(f"gain of {method} over {baseline}")
    return figure


def paired_differences(table: pd.DataFrame, method: str, baseline: str = "stl") -> pd.DataFrame:
    """Differences `method` - `baseline` on the same seed, signed so that positive is better; losses left out.

    Columns problem, budget, task, metric, seed, difference. Raises ValueError when either method has no runs.
    """
    for name in (method, baseline):
        if name not in set(table["method"]):
            raise ValueError(f"The table has no runs of {name!r}; it has {', '.join(sorted(set(table['method'])))}.")
    keys = ["problem", "budget", "task", "metric", "seed"]
    scores = table[table["metric"] != "loss"]
    both = scores[scores["method"] == method].merge(scores[scores["method"] == baseline][[*keys, "value"]], on=keys,
                                                    suffixes=("", "_baseline"))
    sign = both["higher_is_better"].map({True: 1.0, False: -1.0})
    return both[keys].assign(difference=sign * (both["value"] - both["value_baseline"]))
