"""The figures of learned architectures: supernets, trees, branch probabilities over epochs, where tasks conflicted.

Imports `models`, `style`, `training`. Every function returns a matplotlib `Figure` and leaves showing it to the
caller.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from ..models import Tree
from ..training import Run
from .style import COLUMN, panels, shade

Groups = Sequence[Mapping[str, Hashable]]
Path = Sequence[tuple[int, Hashable]]  # what a task passes, stage by stage: (stage, label)
SHARED = "0.8"  # grey: modules of several tasks; a module of one task has the task's colour
PUBLIC = "f_S"


def tree(architecture: Tree | Run | Groups) -> Any:
    """A learned tree, input left, tasks right: what is shared is grey, what is a task's own has its colour.

    A number is a branch point p and stands where its tasks leave the trunk: p = 1 lies before the first module,
    p = P behind the last. Groups have none, unless they came from branch points. A dashed line is a gate; alpha,
    the share of f_S, stands beside the task.

    architecture: a `Tree`, a run with such a model, or groups as `Tree` takes them, one `{task: label}` a stage.
    Raises ValueError for another model.
    """
    model = architecture.model if isinstance(architecture, Run) else architecture
    if not isinstance(model, Tree | Sequence):
        raise ValueError(f"{type(model).__name__} is no tree; `figures.sharing.sharing` draws any model, and groups "
                         "can be drawn without one.")
    groups = model.groups() if isinstance(model, Tree) else model
    paths: dict[str, Path] = {task: [(stage, labels[task]) for stage, labels in enumerate(groups, start=1)]
                              for task in groups[0]}
    points = _branch_points(architecture, paths)
    alphas = model.alphas() if isinstance(model, Tree) else {}
    public = [(stage, "shared") for stage in range(1, len(groups) + 1)]
    if alphas and public not in paths.values():
        paths = {PUBLIC: public, **paths}  # kept whole although no task goes all the way
    heights = {task: float(-row) for row, task in enumerate(_leaves(paths))}
    figure, axes = panels(1, 1, 1.1 * (len(groups) + 2), max(1.4, 0.5 * len(paths)))
    axis, places = axes[0, 0], _draw_modules(axes[0, 0], paths, heights, points)
    for task, path in paths.items():
        if task != PUBLIC:
            behind = points.get(task) == len(path) + 1
            _draw_leaf(axis, task, places[tuple(path)], heights[task], len(path) + 1 if behind else None)
    for task, alpha in alphas.items():
        x, y = places[tuple(public)]
        axis.plot([x + 0.3, x + 0.88], [y, heights[task]], color="0.4", linestyle="--", linewidth=1)
        axis.text(x + 0.95, heights[task] - 0.28, rf"$\alpha$ = {alpha:.2f}", va="center", fontsize=8)
    axis.set_xticks(range(1, len(groups) + 1), [f"module {stage}" for stage in range(1, len(groups) + 1)])
    axis.set(xlim=(-0.3, len(groups) + 1.7), ylim=(-len(paths) + 0.4, 0.6), yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0)
    return figure


def _branch_points(architecture: Tree | Run | Groups, paths: Mapping[str, Path]) -> Mapping[str, int]:
    """Where each task leaves the trunk; empty if nobody says so and groups share more than a trunk."""
    if isinstance(architecture, Run) and "points" in architecture.learned:
        return architecture.learned["points"]
    passed = [place for path in paths.values() for place in path]
    if any(passed.count(place) > 1 for place in passed if place[1] != "shared"):
        return {}
    return {task: 1 + sum(label == "shared" for _, label in path) for task, path in paths.items()}


def _leaves(paths: Mapping[str, Path]) -> list[str]:
    """The tasks in an order in which groups are side by side at every stage."""
    first: dict[tuple, int] = {}
    for path in paths.values():
        for end in range(1, len(path) + 1):
            first.setdefault(tuple(path[:end]), len(first))
    return sorted(paths, key=lambda task: [first[tuple(paths[task][:end])] for end in range(1, len(paths[task]) + 1)])


def _draw_modules(axis: Any, paths: Mapping[str, Path], heights: Mapping[str, float],
                  points: Mapping[str, int]) -> dict[tuple, tuple[float, float]]:
    """A box for each module, lines between them, branch points where tasks leave; where each module stands."""
    tasks = [task for task in paths if task != PUBLIC]
    members: dict[tuple, list[str]] = {(): list(paths)}
    for task, path in paths.items():
        for end in range(1, len(path) + 1):
            members.setdefault(tuple(path[:end]), []).append(task)
    places = {node: (float(len(node)), sum(heights[task] for task in who) / len(who)) for node, who in members.items()}
    for node, who in members.items():
        x, y = places[node]
        if not node:
            axis.text(x, y, "x", ha="center", va="center")
            continue
        parent, trunk = node[:-1], node[-1][1] == "shared"
        _connect(axis, places[parent], (x - 0.3, y))
        if any(points.get(task) == len(node) for task in who):
            axis.text(x - 0.36, y + 0.06, str(len(node)), ha="right", va="bottom", fontsize=8)
        colour = f"C{tasks.index(who[0])}" if len(who) == 1 and not trunk else SHARED
        _box(axis, x, y, colour)
    return places


def _draw_leaf(axis: Any, task: str, end: tuple[float, float], height: float, point: int | None) -> None:
    _connect(axis, end, (end[0] + 0.9, height))
    axis.text(end[0] + 0.95, height, task, va="center")
    if point is not None:
        axis.text(end[0] + 0.84, height + 0.06, str(point), ha="right", va="bottom", fontsize=8)


def _connect(axis: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A line with one corner, as trees have it."""
    x = start[0] + 0.3 if start[0] else 0.15
    corner = x + 0.12
    axis.plot([x, corner, corner, end[0]], [start[1], start[1], end[1], end[1]], color="0.4", linewidth=1, zorder=0)


# --- before the choice ------------------------------------------------------------------------------------

def supernet(probabilities: Mapping[str, Mapping[int, float]]) -> Any:
    """All branches of all tasks at once: the trunk f_S in grey, below it each task's own encoder in its colour.

    A line leaves the trunk at branch point p for the task's own module p, the last one for its head; the more
    probable a branch, the thicker its line. A branch that has probability zero is not drawn.

    probabilities: `{task: {p: beta_t^p}}` for p = 1 to P, as `Supernet.probabilities()` gives it.
    Raises ValueError if a task has other branch points than 1 to P.
    """
    points = sorted({p for row in probabilities.values() for p in row})
    if any(sorted(row) != list(range(1, len(points) + 1)) for row in probabilities.values()):
        raise ValueError(f"The branch points are {[sorted(row) for row in probabilities.values()]}; draw a supernet in "
                         "which every task has all of them, from 1 to P.")
    last = points[-1]
    figure, axes = panels(1, 1, 1.3 * (last + 1), 0.6 * (len(probabilities) + 1.4))
    axis = axes[0, 0]
    axis.text(0.0, 0.0, "x", ha="center", va="center")
    _row(axis, 0.0, last - 1, SHARED, start=0.12)
    for p in points:
        axis.text(p - 0.5, 0.28, f"p = {p}", ha="center", fontsize=8)
    axis.text(last - 0.3, 0.0, r"$f_S$", va="center", fontsize=8)
    for number, (task, row) in enumerate(probabilities.items()):
        height, colour = -1.0 - number, f"C{number}"
        _row(axis, height, last - 1, colour, end=last + 0.1)
        axis.text(last + 0.15, height, task, va="center")
        for p in [p for p in points if row[p] > 0]:
            x = p - 0.5 + 0.06 * (number - (len(probabilities) - 1) / 2)
            axis.plot([x, x, p - 0.28 if p < last else x], [0.0, height, height], color=colour, zorder=0,
                      linewidth=0.4 + 6 * row[p], solid_joinstyle="round", solid_capstyle="butt")
    axis.set_xticks(range(1, last), [f"module {stage}" for stage in range(1, last)])
    axis.set(xlim=(-0.2, last + 1.1), ylim=(-len(probabilities) - 0.4, 0.5), yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0)
    return figure


def _row(axis: Any, height: float, modules: int, colour: str, start: float = 0.72, end: float | None = None) -> None:
    """An encoder: `modules` boxes side by side on a thin line from `start` to `end`, or to the last branch point."""
    axis.plot([start, modules + 0.5 if end is None else end], [height, height], color="0.4", linewidth=1, zorder=0)
    for stage in range(1, modules + 1):
        _box(axis, float(stage), height, colour)


def _box(axis: Any, x: float, y: float, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axis.add_patch(FancyBboxPatch((x - 0.26, y - 0.16), 0.52, 0.32, boxstyle="round,pad=0.04", facecolor=colour,
                                  edgecolor="0.3", alpha=0.8, linewidth=0.8))


# --- over epochs ------------------------------------------------------------------------------------------

def branch_probabilities(history: pd.DataFrame | Run) -> Any:
    """How likely each branch point was over the epochs of a search: one panel a task, one line a point.

    Points early in the encoder are light, late ones dark. The stages of a progressive search follow one
    another, a dotted line between them.
    Raises ValueError for a history without a search.
    """
    table, starts = _of_search(history, "beta_")
    points = sorted({int(name[5:]) for name in table["name"]})
    tasks = list(dict.fromkeys(table["task"]))
    low, high = table["value"].min(), table["value"].max()
    margin = 0.05 * max(high - low, 0.01)
    figure, axes = panels(1, len(tasks), COLUMN * 0.8)
    for axis, task in zip(axes[0], tasks, strict=True):
        for p in points:
            rows = table[(table["task"] == task) & (table["name"] == f"beta_{p}")]
            for number, (_, part) in enumerate(rows.groupby("stage", sort=False)):
                axis.plot(part["epoch"], part["value"], color=shade(p / points[-1]), marker="o", markersize=2,
                          label=f"p = {p}" if number == 0 else None)
        _mark(axis, starts)
        axis.set(title=task, xlabel="epoch of the search", ylim=(low - margin, high + margin))
    axes[0, 0].set_ylabel("probability")
    handles = {label: line for axis in axes[0] for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0, -1].legend([handles[f"p = {p}"] for p in points], [f"p = {p}" for p in points], fontsize=8,
                       loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def conflict_map(history: pd.DataFrame | Run) -> Any:
    """Where and when tasks conflicted: modules upwards, epochs to the right, one panel a pair of tasks.

    The colour is the share of an epoch's steps in which the two tasks' gradients of the module had a negative
    cosine. For any history with such rows: of a search with conflict noticing, or of
    `fit(..., diagnostics=True)`.
    Raises ValueError for a history without them.
    """
    table, starts = _of_search(history, "conflict ")
    table = table[table["task"] != "shared"].assign(module=lambda rows: rows["task"].str[7:].astype(int))
    pairs, modules = list(dict.fromkeys(table["name"])), range(1, table["module"].max() + 1)
    columns = min(len(pairs), 4)
    figure, axes = panels(-(-len(pairs) // columns), columns, COLUMN * 0.9, COLUMN * 0.7)
    epochs = range(1, table["epoch"].max() + 1)
    for axis, pair in zip(axes.flat, pairs, strict=False):
        rows = table[table["name"] == pair].pivot(index="module", columns="epoch", values="value")
        drawn = axis.imshow(rows.reindex(index=modules, columns=epochs), vmin=0, vmax=1, origin="lower", aspect="auto",
                            cmap="magma_r", extent=(0.5, len(epochs) + 0.5, 0.5, len(modules) + 0.5))
        _mark(axis, starts)
        axis.set(title=pair.removeprefix("conflict ").replace("-", " and "), yticks=modules, xlabel="epoch")
    for axis in axes.flat[len(pairs):]:
        axis.axis("off")
    for row in axes:
        row[0].set_ylabel("shared module")
    figure.colorbar(drawn, ax=axes[:, -1].tolist(), label="steps in conflict (share)")
    return figure


def _of_search(history: pd.DataFrame | Run, prefix: str) -> tuple[pd.DataFrame, list[int]]:
    """The rows whose name has the prefix, stages one after another, and the epochs that stages begin after."""
    table = history.history if isinstance(history, Run) else history
    table = table[table["name"].str.startswith(prefix)]
    if table.empty:
        raise ValueError(f"The history has no rows '{prefix}...'. Branch probabilities come from searches such as "
                         "conal, conflicts from conflict noticing or from fit(..., diagnostics=True).")
    before, starts, parts = 0, [], []
    for _, rows in table.groupby("stage", sort=False):
        starts.append(before)
        parts.append(rows.assign(epoch=rows["epoch"] + before))
        before = int(parts[-1]["epoch"].max())
    return pd.concat(parts), starts[1:]


def _mark(axis: Any, starts: Sequence[int]) -> None:
    for start in starts:
        axis.axvline(start + 0.5, color="0.5", linewidth=1, linestyle=":")

