"""Pictures: what goes into a model, what is true, and what models say.

Imports `metrics`, `tasks`. Every function that ends a figure returns a matplotlib `Figure` and leaves showing it to
the caller.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..metrics.angles import angles_between
from ..tasks import VOID, Batch, Problem, Task
from .style import panels


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
    """Draw an image `(channels, height, width)` or `(height, width)` in [0, 1], grey of one channel, else in colour."""
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
                split: str = "test", errors: bool = False) -> Any:
    """Dense predictions: one row a sample and task; columns input, truth, then each model's prediction.

    models: `{method: model}`.
    errors: beside each prediction where it is wrong and how far, white for right and black for the largest error of
        the row; above each map stands its mean, of the pixels that have a label.
    Raises ValueError when the problem has no dense task.
    """
    tasks = [task for task in problem.tasks if task.dense]
    if not tasks:
        raise ValueError(f"Problem {problem.name!r} has no dense task to draw.")
    batch = next(iter(getattr(problem, split).subset(list(samples)).batches(len(samples))))
    guesses = {method: _predict(model, batch) for method, model in models.items()}
    width = 2 if errors else 1
    figure, axes = panels(len(samples) * len(tasks), 2 + width * len(models), 1.7, 1.4 if errors else 1.3)
    for row, (number, task) in enumerate((n, t) for n in range(len(samples)) for t in tasks):
        line = axes[row]
        draw_image(line[0], batch.inputs[number])
        truth = batch.targets[task.name][number]
        draw_dense(line[1], task, truth)
        for axis, guess in zip(line[2::width], guesses.values(), strict=True):
            draw_dense(axis, task, _as_target(task, guess[task.name][number]), truth)
        if errors:
            _draw_errors(line[3::2], task, [guess[task.name][number] for guess in guesses.values()], truth)
        line[0].text(-0.06, 0.5, task.name, transform=line[0].transAxes, rotation=90, va="center", ha="right",
                     fontsize=8)
    for axis, title in zip([*axes[0, :2], *axes[0, 2::width]], ["input", "truth", *models], strict=True):
        axis.set_title(title, fontsize=9)
    return figure


def error_map(task: Task, prediction: Tensor, truth: Tensor) -> Tensor:
    """How far off one sample's dense prediction is at each pixel, `(height, width)`, NaN where there is no label.

    1 for a wrong class and 0 for the right one; the angle in degrees for three channels (normals); for other real
    values the absolute difference, in the target's unit, summed over channels.
    """
    if task.kind == "classification":
        return (prediction.argmax(0) != truth).double().masked_fill(truth == VOID, float("nan"))
    if truth.shape[0] == 3:
        return angles_between(prediction[None], truth[None])[0]
    return (prediction.double() - truth.double()).abs().sum(0)


def _draw_errors(axes: Iterable[Any], task: Task, guesses: Sequence[Tensor], truth: Tensor) -> None:
    maps = [error_map(task, guess, truth).cpu() for guess in guesses]
    largest = max(errors.nan_to_num(0.0).max().item() for errors in maps)
    for axis, errors in zip(axes, maps, strict=True):
        mean = errors.nanmean().item()
        axis.imshow(errors.numpy(), cmap="gray_r", vmin=0.0, vmax=largest or 1.0, interpolation="nearest")
        axis.set_title(f"{mean:.0%} wrong" if task.kind == "classification" else f"off by {mean:.3g}", fontsize=8)
        axis.axis("off")


def _predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        guesses = model(batch.inputs)
    model.train(was_training)
    return guesses


def _as_target(task: Task, prediction: Tensor) -> Tensor:
    return prediction.argmax(0) if task.kind == "classification" else prediction
