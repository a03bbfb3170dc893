"""The figures of searches for cells: what was found, what the objectives did, how large it became, what it trades.

Imports `search`, `style`, `training`. Every function returns a matplotlib `Figure` and leaves showing it to the caller.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..search.cells.genotype import KINDS, Genotype
from ..training import Run
from .style import COLUMN, panels

NAMES = {"max_pool_3x3": "max 3x3", "avg_pool_3x3": "mean 3x3", "skip_connect": "skip", "sep_conv_3x3": "sep 3x3",
         "sep_conv_5x5": "sep 5x5", "dil_conv_3x3": "dil 3x3", "dil_conv_5x5": "dil 5x5"}
INPUTS = (r"$c_{k-2}$", r"$c_{k-1}$")
SIZES = {"parameters": "L", "multiply_adds": "F"}  # what was wanted of each


def genotype(found: Genotype | Mapping[str, Any] | Run) -> Any:
    """Both cells as graphs: from the outputs of the two cells before, left, through the nodes in their order, to what
    the cell hands on, right. An arrow is an operation; the band around the nodes says that all of them are handed on,
    side by side.

    found: a genotype, its plain data, or a run that has searched.
    Raises ValueError for what is none.
    """
    plain = found.learned.get("genotype") if isinstance(found, Run) else found
    cells = plain if isinstance(plain, Genotype) else Genotype.from_dict(plain)
    figure, axes = panels(2, 1, 1.15 * (cells.nodes + 2.4), 1.15 * 2 * _height(cells.nodes) + 0.3)
    for axis, kind in zip(axes[:, 0], KINDS, strict=True):
        _cell(axis, getattr(cells, kind))
        axis.set_title(f"{kind} cell")
    return figure


def _cell(axis: Any, edges: Sequence[Sequence[tuple[str, int]]]) -> None:
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    last = len(edges)
    places = [(0.0, 0.7), (0.0, -0.7), *((1.5 + node, 0.0) for node in range(last))]
    axis.add_patch(FancyBboxPatch((1.1, -0.22), last - 0.2, 0.44, boxstyle="round,pad=0.06", facecolor="0.92",
                                  edgecolor="none", zorder=0))
    labels = [*INPUTS, *map(str, range(last))]
    for (x, y), label in zip(places, labels, strict=True):
        axis.text(x, y, label, ha="center", va="center", zorder=3,
                  bbox={"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": "0.4"})
    axis.add_patch(FancyArrowPatch((last + 0.96, 0.0), (last + 1.5, 0.0), arrowstyle="-|>", mutation_scale=9,
                                   color="0.4"))
    axis.text(last + 1.7, 0.0, r"$c_k$", ha="center", va="center")
    for node, incoming in enumerate(edges):
        for operation, source in incoming:
            start, end = places[source], places[2 + node]
            bend = _bend(source, node)
            colour = _colour(operation)
            axis.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", shrinkA=11,
                                           shrinkB=9, mutation_scale=9, color=colour, zorder=1))
            # Half of the way on the curve, which is as high as half of its control point stands from the line.
            x = (start[0] + end[0]) / 2 + bend / 2 * (end[1] - start[1])
            y = (start[1] + end[1]) / 2 - bend / 2 * (end[0] - start[0])
            axis.text(x, y, NAMES.get(operation, operation), ha="center", va="center", fontsize=7, zorder=2,
                      bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"})
    axis.set(xlim=(-0.4, last + 2.0), ylim=(-_height(last), _height(last)), aspect="equal")
    axis.axis("off")


def _height(nodes: int) -> float:
    """How far the arrows go up and down: the longest is bent by 0.15 of its length."""
    return 0.65 + 0.16 * nodes


def _bend(source: int, node: int) -> float:
    """Above for the first input, below for the second; between nodes in turn, the farther the flatter."""
    if source < 2:
        return (-0.3 if source == 0 else 0.3) if node else 0.0
    return 0.0 if source == node + 1 else (-0.45, 0.45)[source % 2]


def _colour(operation: str) -> str:
    return f"C{list(NAMES).index(operation)}" if operation in NAMES else "0.4"


# --- over the search ----------------------------------------------------------------------------------------

def objectives(run: Run | pd.DataFrame) -> Any:
    """The five objectives over the epochs of a search, each over its first value, and the weights that MGDA gave them.

    run: of a search on several objectives, or its history.
    Raises ValueError for a history that has none.
    """
    history = run.history if isinstance(run, Run) else run
    losses, weights = (_over_epochs(history, name) for name in ("upper_loss", "upper_weight"))
    figure, axes = panels(1, 2, COLUMN * 1.1)
    for name in losses:
        first = losses[name].iloc[0]
        axes[0, 0].plot(losses.index, losses[name] / (first if first else 1.0), marker="o", markersize=3, label=name)
        axes[0, 1].plot(weights.index, weights[name], marker="o", markersize=3, label=name)
    axes[0, 0].axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
    axes[0, 0].set(xlabel="epoch", ylabel="objective / its first value")
    axes[0, 1].set(xlabel="epoch", ylabel="weight", ylim=(-0.02, 1.02))
    axes[0, 1].legend(fontsize=7)
    return figure


def _over_epochs(history: pd.DataFrame, task: str) -> pd.DataFrame:
    """A column a name; stages that search one after the other go on counting."""
    rows = history[history["task"] == task]
    if rows.empty:
        raise ValueError(f"This history has no rows {task!r}; searches on several objectives, such as 'e2rnas', have.")
    rows = rows.assign(place=rows.groupby(["stage", "epoch"], sort=False).ngroup() + 1)
    return rows.pivot(index="place", columns="name", values="value")[list(dict.fromkeys(rows["name"]))]


def sizes(runs: Run | Mapping[str, Run]) -> Any:
    """Parameters and multiply-adds as the search expects them over its epochs (line), as the network has them that was
    derived (point), what was wanted (dashed: L and F), and what the space can reach (grey).

    runs: a run of a search on several objectives, or `{title: run}`.
    Raises ValueError for a run without these.
    """
    named = {"": runs} if isinstance(runs, Run) else dict(runs)
    figure, axes = panels(1, len(SIZES), COLUMN * 1.1)
    for axis, (size, wanted) in zip(axes[0], SIZES.items(), strict=True):
        for number, (title, run) in enumerate(named.items()):
            path = _over_epochs(run.history, "expected")[size]
            end = path.index[-1] + 0.5
            axis.plot(path.index, path, color=f"C{number}", label=f"{title} expected".strip())
            axis.plot([end], [run.learned["derived"][size]], "o", color=f"C{number}", label=f"{title} derived".strip())
            if "wanted" in run.learned:
                axis.axhline(run.learned["wanted"][size], color=f"C{number}", linestyle="--", linewidth=0.8,
                             label=f"{title} {wanted}".strip())
            axis.axhspan(*run.learned["reachable"][size], color="0.94", zorder=0)
        axis.set(xlabel="epoch of the search", ylabel=size.replace("_", "-"))
        axis.legend(fontsize=7)
    return figure


# --- what is traded -----------------------------------------------------------------------------------------

def front(points: pd.DataFrame, better_up: Mapping[str, bool]) -> list[bool]:
    """Which rows no other row beats: none is as good in every column and better in one.

    better_up: for each column, whether more is better.

    >>> front(pd.DataFrame({"size": [1, 2, 3], "error": [.3, .1, .2]}), {"size": False, "error": False})
    [True, True, False]
    """
    values = points[list(better_up)].to_numpy(float) * [1 if up else -1 for up in better_up.values()]
    return [not any((other >= row).all() and (other > row).any() for other in values) for row in values]


def pareto(table: pd.DataFrame, measures: Mapping[str, bool], cost: str = "parameters") -> Any:
    """What networks of several sizes are good for: one panel a measure over `cost`, small points for runs, large ones
    for the mean of each method's runs, a line through the means that no other mean beats.

    table: one row a run, with the columns "method", `cost` (less is better) and the measures.
    measures: by name, whether more is better.
    Raises ValueError for a table without one of the columns.
    """
    missing = [name for name in ("method", cost, *measures) if name not in table]
    if missing or table.empty:
        raise ValueError(f"The table has {len(table)} rows with the columns {list(table)}; it needs "
                         f"{missing or 'some rows'}.")
    means = table.groupby("method", sort=False)[[cost, *measures]].mean()
    figure, axes = panels(1, len(measures), COLUMN * 1.1)
    for axis, (measure, up) in zip(axes[0], measures.items(), strict=True):
        for number, (method, rows) in enumerate(table.groupby("method", sort=False)):
            axis.plot(rows[cost], rows[measure], ".", color=f"C{number}", alpha=0.5)
            axis.plot(means.loc[[method], cost], means.loc[[method], measure], "o", color=f"C{number}", label=method)
        best = means[front(means, {cost: False, measure: up})].sort_values(cost)
        axis.plot(best[cost], best[measure], color="0.5", linewidth=0.8, zorder=0)
        axis.set(xlabel=cost.replace("_", "-"), ylabel=f"{measure} ({'more' if up else 'less'} is better)")
    axes[0, -1].legend(fontsize=7)
    return figure
