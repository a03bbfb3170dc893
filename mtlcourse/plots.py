"""The figures of the course, in one style.

Imports `files`, `runs`, `tasks`, `training`; matplotlib and seaborn where they are used. Every function
returns a matplotlib `Figure` and leaves showing it to the caller.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from .files import seed_everything
from .runs import half_width
from .tasks import VOID, Batch, Problem, Task
from .training import Run

COLUMN = 3.2  # inches: width of one panel


def setup(seed: int = 0) -> None:
    """Begin a notebook: seed all chance, one thread for small nets, the course's figure style."""
    import seaborn

    seed_everything(seed)
    torch.set_num_threads(1)
    seaborn.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.8, rc={
        "figure.dpi": 100, "savefig.dpi": 100, "axes.spines.top": False, "axes.spines.right": False,
        "figure.constrained_layout.use": True, "image.cmap": "viridis", "legend.frameon": False})


def panels(rows: int, columns: int, width: float = COLUMN, height: float = COLUMN * 0.8) -> tuple[Any, Any]:
    """A figure with rows x columns axes (always a 2-d array); not shown twice by a notebook."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    plt.close(figure)
    return figure, axes


# --- training ---------------------------------------------------------------------------------------------

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
    "condition_number": "condition number of K"}


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
    axes[0, -1].legend(fontsize=7)
    return figure


def _measured(method: str, table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["name"].isin(DIAGNOSTICS)]
    if rows.empty:
        raise ValueError(f"The history of {method!r} has no measures of gradients; train it with "
                         "fit(..., diagnostics=True).")
    return rows


def shade(depth: float) -> Any:
    """Light at the input side (0), dark at the heads (1)."""
    import matplotlib.pyplot as plt

    return plt.get_cmap("viridis")(1.0 - 0.85 * depth)


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


# --- pictures -----------------------------------------------------------------------------------------------

def images(tensors: Tensor | Sequence[Tensor], titles: Sequence[str] = (), columns: int = 6, width: float = 1.5) -> Any:
    """A sheet of images `(channels, height, width)` or `(height, width)` in [0, 1]."""
    tensors = list(tensors)
    rows = math.ceil(len(tensors) / columns)
    figure, axes = panels(rows, min(columns, len(tensors)), width, width)
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, tensor) in enumerate(zip(axes.flat, tensors, strict=False)):
        draw_image(axis, tensor)
        if number < len(titles):
            axis.set_title(titles[number], fontsize=9)
    return figure


def draw_image(axis: Any, image: Tensor) -> None:
    """Draw one image: grey for one channel, colour for three."""
    image = image.detach().cpu()
    image = image[0] if image.dim() == 3 and image.shape[0] == 1 else image
    axis.imshow((image if image.dim() == 2 else image.permute(1, 2, 0).clip(0, 1)).numpy(), cmap="gray", vmin=0, vmax=1)
    axis.axis("off")


def draw_dense(axis: Any, task: Task, values: Tensor, like: Tensor | None = None) -> None:
    """Draw one sample's dense target `(height, width)` or `(channels, height, width)` as people expect it.

    Classes in colours, three channels (normals) as red, green, blue, other real values as a map, whose
    colours cover the range of `like` (the truth beside a prediction) if it is given.
    """
    values = values.detach().cpu().float()
    if task.kind == "classification":
        shown = values.masked_fill(values == VOID, float("nan")).numpy()
        axis.imshow(shown, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
    elif values.shape[0] == 3:
        unit = nn.functional.normalize(values, dim=0)
        axis.imshow(((unit + 1) / 2).permute(1, 2, 0).nan_to_num(1.0).numpy())
    else:
        known = values if like is None else like.detach().cpu().float()
        known = known[~known.isnan()]
        axis.imshow(values[0].numpy(), cmap="magma_r", vmin=known.min().item(), vmax=known.max().item())
    axis.axis("off")


def predictions(problem: Problem, models: Mapping[str, nn.Module], samples: Sequence[int] = (0, 1),
                split: str = "test") -> Any:
    """Dense predictions: one row a sample and task; columns input, truth, then each model's prediction.

    models: `{method: model}`. Raises ValueError when the problem has no dense task.
    """
    tasks = [task for task in problem.tasks if task.dense]
    if not tasks:
        raise ValueError(f"Problem {problem.name!r} has no dense task to draw.")
    batch = next(iter(getattr(problem, split).subset(list(samples)).batches(len(samples))))
    guesses = {method: _predict(model, batch) for method, model in models.items()}
    figure, axes = panels(len(samples) * len(tasks), 2 + len(models), 1.7, 1.3)
    for row, (number, task) in enumerate((n, t) for n in range(len(samples)) for t in tasks):
        line = axes[row]
        draw_image(line[0], batch.inputs[number])
        truth = batch.targets[task.name][number]
        draw_dense(line[1], task, truth)
        for axis, guess in zip(line[2:], guesses.values(), strict=True):
            draw_dense(axis, task, _as_target(task, guess[task.name][number]), truth)
        line[0].text(-0.06, 0.5, task.name, transform=line[0].transAxes, rotation=90, va="center", ha="right",
                     fontsize=8)
    for axis, title in zip(axes[0], ["input", "truth", *models], strict=True):
        axis.set_title(title, fontsize=9)
    return figure


def _predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        guesses = model(batch.inputs)
    model.train(was_training)
    return guesses


def _as_target(task: Task, prediction: Tensor) -> Tensor:
    return prediction.argmax(0) if task.kind == "classification" else prediction
