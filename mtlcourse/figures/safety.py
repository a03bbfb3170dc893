"""The figures of safety: who got worse, how sure that is, what the gates did, what it cost.

Imports `plots`, `safety`, `training`. Every function returns a matplotlib `Figure` and leaves showing it
to the caller.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..safety import SafetyReport
from ..training import Run
from .style import COLUMN, panels

START = 0.5  # a gate's value before the first step
SIGNS = {"better": "better", "worse": "worse", "undecided": "?"}
MARKERS = "os^Dv<>PX*"  # shapes beside colours: not everybody sees these


def relative_performance(report: SafetyReport) -> Any:
    """Relative change of every metric, in percent of the baseline: one panel a task, a colour and shape a method.

    The whisker is the 95% t-interval over seeds of that one comparison; right of the line is better than the
    baseline. What is not a number has no point.
    """
    frame = report.frame
    tasks = list(dict.fromkeys(frame["task"]))
    most = frame.groupby("task")["metric"].nunique().max()
    figure, axes = panels(1, len(tasks), COLUMN, max(1.7, 0.9 + 0.14 * most * (len(report.methods) + 1)))
    for axis, task in zip(axes[0], tasks, strict=True):
        axis.axvline(0.0, color="0.3", linewidth=1)
        metrics = list(dict.fromkeys(frame.loc[frame["task"] == task, "metric"]))
        for number, method in enumerate(report.methods):
            rows = frame[(frame["method"] == method) & (frame["task"] == task)]
            places = np.arange(len(metrics)) + 0.8 * ((number + 0.5) / len(report.methods) - 0.5)
            axis.errorbar(100 * rows["change"], places, xerr=100 * rows["change_half_width"].fillna(0.0),
                          fmt=MARKERS[number % len(MARKERS)], markersize=4, capsize=2, label=method)
        axis.set_yticks(range(len(metrics)), metrics)
        axis.set(title=task, ylim=(len(metrics) - 0.5, -0.5), xlabel=f"better than {report.baseline} by (%)")
    figure.set_layout_engine("constrained")  # makes room for a legend outside
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(report.methods))
    return figure


def heat_map(report: SafetyReport) -> Any:
    """Methods by metrics: colour is the relative change in percent, the text says what is certain.

    "?" is undecided, "no number" what is broken, "-" what has no relative change, because the baseline is 0.
    """
    frame = report.frame
    columns = list(dict.fromkeys(zip(frame["task"], frame["metric"], strict=True)))
    figure, axes = panels(1, 1, 1.6 + 0.85 * len(columns), 1.2 + 0.55 * len(report.methods))
    axis = axes[0, 0]
    known = 100 * frame["change"].abs().dropna()
    limit = known.quantile(0.9) if len(known) else 1.0  # one outlier shall not hide all the rest
    places = [(report.methods.index(row.method), columns.index((row.task, row.metric))) for row in frame.itertuples()]
    wide = np.full((len(report.methods), len(columns)), np.nan)
    wide[tuple(zip(*places, strict=True))] = 100 * frame["change"]
    colours = axis.imshow(wide, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for row, place in zip(frame.itertuples(), places, strict=True):
        change = "no number" if row.broken else "-" if np.isnan(wide[place]) else f"{wide[place]:+.1f}"
        axis.text(place[1], place[0], f"{change}\n{SIGNS[row.verdict]}", ha="center", va="center", fontsize=7,
                  color="black" if np.isnan(wide[place]) else ink(colours.to_rgba(wide[place])[:3]))
    figure.colorbar(colours, label=f"better than {report.baseline} by (%)", extend="both")
    axis.set_xticks(range(len(columns)), [f"{task}\n{metric}" for task, metric in columns], rotation=90, fontsize=7)
    axis.set_yticks(range(len(report.methods)), report.methods)
    return figure


def ink(background: Sequence[float]) -> str:
    """Black or white, whichever has more contrast with a colour (red, green, blue in [0, 1]).

    Source: Web Content Accessibility Guidelines 2.2, "relative luminance" and "contrast ratio".

    >>> ink((1.0, 1.0, 1.0)), ink((0.88, 0.51, 0.08)), ink((0.18, 0.0, 0.29))
    ('black', 'black', 'white')
    """
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in background]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear)) + 0.05
    return "white" if 1.05 / luminance > luminance / 0.05 else "black"


def size_and_improvement(report: SafetyReport) -> Any:
    """Delta_I against the number of parameters, a point a method, with the 95% t-interval over seeds.

    Methods of equal size stand side by side; one whose Delta_I is undefined is in the legend only, and says so.

    The kind of figure 5.2 in Learning Architecture for Multiple Tasks in Transfer Learning.
    """
    figure, axes = panels(1, 1, 1.8 * COLUMN, COLUMN)
    axis = axes[0, 0]
    axis.axhline(0.0, color="0.3", linewidth=1)
    sizes = report.overview["parameters"]
    aside = report.overview.groupby("parameters").cumcount() * 0.02 * (sizes.max() - sizes.min())
    for number, (method, row) in enumerate(report.overview.iterrows()):
        width = 0.0 if np.isnan(row["delta_i_half_width"]) else 100 * row["delta_i_half_width"]
        axis.errorbar(row["parameters"] + aside[method], 100 * row["delta_i"], yerr=width, capsize=2, markersize=5,
                      fmt=MARKERS[number % len(MARKERS)],
                      label=f"{method} (undefined)" if np.isnan(row["delta_i"]) else method)
    axis.set(xlabel="parameters", ylabel=f"Delta_I (%), 0: {report.baseline}")
    figure.set_layout_engine("constrained")
    figure.legend(loc="outside right center")
    return figure


def gates(histories: Mapping[str, pd.DataFrame | Run | Sequence[Run]]) -> Any:
    """What the gates learned: alpha over epochs, one panel a method, one colour a task.

    histories: `{method: run}`, several runs (thin lines, and their mean), or a history. Lines begin at epoch 0 with
        one half, where all gates start. Raises ValueError when a history has no gates.
    """
    figure, axes = panels(1, len(histories))
    for axis, (method, given) in zip(axes[0], histories.items(), strict=True):
        runs = given if isinstance(given, Sequence) else [given]
        table = pd.concat([(run.history if isinstance(run, Run) else run).assign(run=k) for k, run in enumerate(runs)])
        alphas = table[(table["name"] == "alpha") & (table["stage"] != "guard")]
        if alphas.empty:
            raise ValueError(f"The history of {method!r} has no gates; it has {', '.join(table['name'].unique())}.")
        ends = {}
        for number, (task, rows) in enumerate(alphas.groupby("task", sort=False)):
            wide = rows.pivot(index="epoch", columns="run", values="value")
            wide.loc[0] = START
            wide = wide.sort_index()
            if len(runs) > 1:
                axis.plot(wide.index, wide, linewidth=0.8, alpha=0.4, color=f"C{number}")
            axis.plot(wide.index, wide.mean(axis=1), marker="o", markersize=3, color=f"C{number}")
            ends[task] = wide.mean(axis=1).iloc[-1], f"C{number}"
        _label_ends(axis, float(alphas["epoch"].max()), ends)
        axis.axhline(START, color="0.7", linewidth=1, linestyle=":")
        axis.set(title=method, xlabel="epoch", ylabel="gate alpha (1: public)", ylim=(-0.02, 1.02))
    return figure


def _label_ends(axis: Any, x: float, ends: Mapping[str, tuple[float, str]], apart: float = 0.08) -> None:
    """Write each line's name behind its end, the names at least so far apart."""
    lowest = -math.inf
    for task, (y, colour) in sorted(ends.items(), key=lambda item: item[1][0]):
        lowest = max(y, lowest + apart)
        axis.annotate(task, (x, lowest), xytext=(6, 0), textcoords="offset points", va="center", color=colour,
                      annotation_clip=False)
