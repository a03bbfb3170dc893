"""What one trained model did on every sample of a split: enough to certify every measure without model or data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import metrics
from ..tasks import Problem, Task
from ..void import has_target
from .loop import hash_test_data


@dataclass
class Samples:
    """What one trained model did on every sample of a split: enough to compute, resample and certify every measure.

    split: "train", "val" or "test".
    data: hash of the content and order of the split; None where it does not lie in memory.
    rows: `{task: {measure: (n, k) float64}}`: `Metric.statistics` of each sample; "loss": (n, 1).
    labelled: `{task: (n,) bool}`: samples that have the task; the rows of others are zero.
    groups: `{task or "*": (n, g) int64}`: ids of what was sampled before the sample was made, g = 1 or 2; None where
        samples are independent.
    """

    split: str
    data: str | None
    rows: dict[str, dict[str, np.ndarray]]
    labelled: dict[str, np.ndarray]
    groups: dict[str, np.ndarray] | None = None


def measures(task: Task) -> dict[str, Callable[[], Any]]:
    """The measures of a task of which rows are kept, as factories: its own and, of one class a sample, two more."""
    own = dict(task.metrics)
    if task.kind == "classification" and not task.dense:
        own = {**{"error": metrics.ErrorRate, "brier": metrics.Brier}, **own}
    return own


def per_sample(model: nn.Module, problem: Problem, split: str = "test", batch_size: int = 512) -> Samples:
    """What `model` does on every sample of a split in memory, in every measure of `measures` and in the loss."""
    data = getattr(problem, split)
    parts: dict[str, dict[str, list]] = {task.name: {} for task in problem.tasks}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        for start in range(0, len(data), batch_size):
            chosen = data.subset(range(start, min(start + batch_size, len(data))))
            predictions = model(chosen.inputs)
            for task in problem.tasks:
                prediction, target = predictions[task.name], chosen.targets[task.name]
                found = {name: factory().statistics(prediction, target) for name, factory in measures(task).items()}
                found["loss"] = task.loss(prediction, target)[:, None].double()
                for name, rows in found.items():
                    parts[task.name].setdefault(name, []).append(rows.numpy())
    for module, training in modes.items():
        module.training = training
    rows = {task: {name: np.concatenate(own) for name, own in found.items()} for task, found in parts.items()}
    return Samples(split, hash_test_data(replace(problem, test=data)), rows,
                   {task.name: has_target(data.targets[task.name]).numpy() for task in problem.tasks})
