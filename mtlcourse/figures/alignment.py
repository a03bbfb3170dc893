"""The figures of domain alignment: what a search chose and how, where two domains lie, what the settings do.

Imports `data`, `models`, `safety`, `search`, `style`, `training`; scikit-learn where it is used. Every function returns
a matplotlib `Figure` and leaves showing it to the caller.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data import DomainProblem
from ..models import DomainModel
from ..safety.paired import half_width
from ..search.alignment import AlignmentSpace
from ..search.alignment.configurations import agreement
from ..search.alignment.space import BACKBONE, cell
from ..training import Run
from .style import COLUMN, panels

LAYERS = ("linear", "norm", "ReLU, dropout", "+")  # of a cell, from its input upwards
STARTS = {"input": -0.55, "linear": 0.0, "norm": 1.0}  # heights at which a skip leaves
USED, UNUSED = "C0", "0.85"


def architecture(chosen: Run | Mapping[str, str]) -> Any:
    """The chosen cells, one column each, data upwards: their layers, skips, connections, and what leaves them.

    Cells that neither the distance nor the classifier needs are grey.
    chosen: a run of a search, or a configuration.
    Raises ValueError for a run that has searched no cells.
    """
    if isinstance(chosen, Run):
        if "configuration" not in chosen.learned:
            raise ValueError("This run has no configuration of cells in its `learned`; methods such as aaspc have.")
        chosen = chosen.learned["configuration"]
    space = AlignmentSpace(sum(choice.startswith("size_") for choice in chosen), "align" not in chosen)
    space.check(chosen)
    ends = {"distance": space.aligned(chosen), "classifier": space.classified(chosen)}
    used = {k for last in ends.values() for k in space.path(chosen, last)}
    figure, axes = panels(1, 1, 1.9 * (space.cells + 1), 3.6)
    axis, top = axes[0, 0], len(LAYERS) - 1
    places = {BACKBONE: (0.0, -1.5), **{cell(k): (1.0 + k, float(top)) for k in range(space.cells)}}
    _box(axis, *places[BACKBONE], BACKBONE, USED)
    for k in range(space.cells):
        _cell(axis, 1.0 + k, chosen[f"size_{k}"], chosen[f"skip_{k}"], USED if k in used else UNUSED)
        axis.text(1.0 + k, -0.95, f"cell {k}", ha="center", va="center", fontsize=8)
        source = space.source(chosen, k)
        _wire(axis, places[source], (1.0 + k, -1.2), source == BACKBONE, "0.3" if k in used else UNUSED)
    for shift, (name, k) in zip((-0.25, 0.25), ends.items(), strict=True):
        _box(axis, 1.0 + k + shift, top + 1.3, name, "C2" if name == "classifier" else "C1", width=0.46)
        axis.plot([1.0 + k, 1.0 + k + shift], [top + 0.25, top + 1.05], color="0.3", linewidth=1)
    axis.set(xlim=(-0.6, space.cells + 0.7), ylim=(-2.1, top + 1.9), xticks=[], yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
    return figure


def _cell(axis: Any, x: float, size: str, skip: str, colour: str) -> None:
    for height, layer in enumerate(LAYERS):
        _box(axis, x, float(height), f"{layer} ({size})" if layer == "linear" else layer, colour)
    axis.plot([x, x], [-0.75, len(LAYERS) - 1], color="0.3", linewidth=1, zorder=0)
    start, end = STARTS[skip], float(len(LAYERS) - 1)
    axis.plot([x, x + 0.43, x + 0.43, x], [start, start, end, end], color="C3", linewidth=1.2, zorder=0)


def _box(axis: Any, x: float, y: float, text: str, colour: str, width: float = 0.74) -> None:
    from matplotlib.patches import FancyBboxPatch

    axis.add_patch(FancyBboxPatch((x - width / 2, y - 0.22), width, 0.44, boxstyle="round,pad=0.02", facecolor=colour,
                                  edgecolor="0.3", alpha=0.45, linewidth=0.8))
    axis.text(x, y, text, ha="center", va="center", fontsize=7)


def _wire(axis: Any, start: tuple[float, float], end: tuple[float, float], beneath: bool, colour: str) -> None:
    """From an output to the lower end of a cell: beneath the cells from the backbone, between them from a cell."""
    way = ([start, (end[0], start[1]), (end[0], -0.75)] if beneath else
           [start, (start[0], start[1] + 0.42), (start[0] + 0.5, start[1] + 0.42), (start[0] + 0.5, end[1]), end,
            (end[0], -0.75)])
    axis.plot(*zip(*way, strict=True), color=colour, linewidth=1, zorder=-1)


def search_history(runs: Run | Mapping[str, Run]) -> Any:
    """Reward and entropy of the policy over the epochs of searches, one line a run; a tied or lucky policy is flat.

    Hollow points are epochs in which what is aligned lay beside the classifier's way.
    Raises ValueError for a run without a search.
    """
    runs = {"search": runs} if isinstance(runs, Run) else dict(runs)
    figure, axes = panels(1, 2, COLUMN * 1.1)
    for number, (name, run) in enumerate(runs.items()):
        table = _of_search(run)
        axes[0, 0].plot(table.index, table["reward"], color=f"C{number}", linewidth=1, label=name)
        for beside, filled in ((0.0, f"C{number}"), (1.0, "white")):
            rows = table[table["beside"] == beside]
            axes[0, 0].plot(rows.index, rows["reward"], "o", markersize=3.5, color=f"C{number}", markerfacecolor=filled)
        axes[0, 1].plot(table.index, table["entropy"], color=f"C{number}", label=name)
    axes[0, 0].set(xlabel="epoch", ylabel="reward")
    axes[0, 1].set(xlabel="epoch", ylabel="entropy of the policy (nats)")
    axes[0, 1].set_ylim(bottom=0)
    if len(runs) > 1:
        axes[0, 1].legend(fontsize=8)
    return figure


def _of_search(run: Run) -> pd.DataFrame:
    rows = run.history[(run.history["task"] == "search") & (run.history["split"] == "train")]
    if rows.empty:
        raise ValueError("The run has no rows of a search in its history; methods such as aaspc have.")
    return rows.pivot(index="epoch", columns="name", values="value")


def embedding(models: Mapping[str, DomainModel], problem: DomainProblem, samples: int = 300, seed: int = 0) -> Any:
    """Where the features of both domains lie for each model, by t-SNE: colours are classes, forms are domains.

    Of test samples, at most so many of each domain; a label of the target is used for nothing but a colour. How far
    apart groups lie says nothing, t-SNE keeps neighbours only; panels do not share axes.
    models: `{title: model}`, before and after say.
    """
    from sklearn.manifold import TSNE

    sealed, source = problem.sealed().test, problem.task.name
    parts = {source: (problem.test.inputs[:samples], problem.test.targets[source][:samples])}
    parts |= {domain: (sealed.inputs[domain][:samples], sealed.targets[domain][:samples])
              for domain in problem.task_names}
    labels = np.concatenate([labels.numpy() for _, labels in parts.values()])
    domains = np.repeat(list(parts), [len(labels) for _, labels in parts.values()])
    figure, axes = panels(1, len(models))
    for axis, (title, model) in zip(axes[0], models.items(), strict=True):
        features = _features(model, torch.cat([inputs for inputs, _ in parts.values()]))
        places = TSNE(init="pca", random_state=seed, perplexity=min(30, (len(labels) - 1) / 3)).fit_transform(features)
        for marker, domain in zip("ox^sv", parts, strict=False):
            own = domains == domain
            axis.scatter(*places[own].T, c=labels[own], cmap="tab10", vmin=-0.5, vmax=9.5, marker=marker, s=12,
                         linewidths=0.8, alpha=0.7, label=domain)
        axis.set(title=title, xticks=[], yticks=[])
    axes[0, -1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@torch.no_grad()
def _features(model: DomainModel, inputs: torch.Tensor) -> np.ndarray:
    training, device = model.training, next(model.parameters()).device
    model.eval()
    features = model.look(inputs.to(device)).features.float().cpu().numpy()
    model.train(training)
    return features


def configurations(table: pd.DataFrame, reward: str = "reward") -> Any:
    """Every configuration's accuracy on the target over its reward, and their rank correlation with its interval.

    table: as `search.alignment.every_configuration` gives it.  reward: the column of it that is drawn.
    """
    import seaborn

    figure, axes = panels(1, 1, COLUMN * 1.5, COLUMN)
    finite = table[np.isfinite(table[reward]) & table["accuracy"].notna()]
    way = finite["beside"].map({True: "beside the classifier's way", False: "on the classifier's way"})
    seaborn.scatterplot(x=finite[reward], y=finite["accuracy"], hue=way.rename("aligned"), style=way.rename("aligned"),
                        hue_order=sorted(way.unique(), reverse=True), ax=axes[0, 0], s=25)
    r, low, high = agreement(finite[reward], finite["accuracy"])
    axes[0, 0].set(xlabel=reward.replace("_", " "), ylabel="accuracy on the target",
                   title=f"rank correlation {r:.2f} [{low:.2f}, {high:.2f}]")
    return figure


def sensitivity(table: pd.DataFrame) -> Any:
    """Accuracy over the batch size, one line a lambda, with 95% t-intervals over seeds.

    table: columns "batch_size", "weight" (lambda), "accuracy", a row a run.
    """
    figure, axes = panels(1, 1, COLUMN * 1.4, COLUMN)
    axis = axes[0, 0]
    for number, (weight, rows) in enumerate(table.groupby("weight")):
        groups = rows.groupby("batch_size")["accuracy"]
        mean, half = groups.mean(), groups.agg(half_width).fillna(0.0)
        axis.plot(mean.index, mean, marker="o", markersize=3, color=f"C{number}", label=rf"$\lambda$ = {weight:g}")
        axis.fill_between(mean.index, mean - half, mean + half, color=f"C{number}", alpha=0.2, linewidth=0)
    axis.set_xscale("log", base=2)
    axis.set(xlabel="batch size", ylabel="accuracy on the target")
    axis.legend(fontsize=8)
    return figure
