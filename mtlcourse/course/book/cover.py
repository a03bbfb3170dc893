"""The picture on the cover: what sharing one network did to three tasks. Imports `course.results`, `figures`."""

from pathlib import Path
from typing import Any

import pandas as pd

from ... import figures
from .. import results

TABLE, PROBLEM, BASELINE, SHARED = "13_deep_safe_mtl", "rooms", "stl", "hps"
SHOWN = {"depth": "abs_error", "normals": "mean_angle", "segmentation": "miou"}


def changes(folder: Path) -> pd.DataFrame:
    """How much better each task is with hard sharing than alone, in percent: a row a seed, a column a task."""
    table = results.stored(TABLE, folder)
    table = table[(table["problem"] == PROBLEM) & (table["metric"] == table["task"].map(SHOWN))]
    table = table.drop_duplicates(["method", "seed", "task"])
    sign = table["higher_is_better"].map({True: 100.0, False: -100.0})
    alone, shared = (table[table["method"] == method].set_index(["seed", "task"]) for method in (BASELINE, SHARED))
    change = (shared["value"] / alone["value"] - 1.0).unstack()
    return change * sign.groupby(table["task"]).first()


def draw(folder: Path) -> tuple[Any, str]:
    """The figure, and what it says to who cannot see it."""
    change = changes(folder)
    figure, axes = figures.panels(1, 1, 6.5, 2.3)
    axis = axes[0, 0]
    axis.axvline(0.0, color="0.3", linewidth=1)
    for place, task in enumerate(SHOWN):
        axis.scatter(change[task], [place] * len(change), s=22, alpha=0.6, color=f"C{place}")
        axis.scatter(change[task].mean(), place, marker="|", s=600, color=f"C{place}")
    axis.set_yticks(range(len(SHOWN)), SHOWN)
    axis.set(ylim=(len(SHOWN) - 0.5, -0.5), xlabel="better than a network of its own by (%)",
             title="One network for three tasks: dots are seeds, bars their mean")
    means = ", ".join(f"{task} {change[task].mean():+.0f} %" for task in SHOWN)
    return figure, (f"Change against single-task networks over {len(change)} seeds, above zero is better. "
                    f"Means: {means}.")
