"""The evaluation loop: what a model scores on a whole split.

Imports `tasks`, and its folder's `updates`.
"""

from typing import Any

import torch
from torch import nn

from ..tasks import Problem
from .updates import explained

Scores = dict[str, dict[str, float]]


def evaluate(model: nn.Module, problem: Problem, split: str = "test", batch_size: int = 512,
             losses_only: bool = False, keep: Any = None) -> Scores:
    """Each task's metrics and mean loss on a whole split: `{task: {metric: value, ..., "loss": value}}`.

    Runs in float32 and evaluation mode, and leaves the model in the mode it was in. The loss is the mean
    over the samples that have the task. On the test split the problem's probes are added.
    losses_only: leave out metrics and probes, which take longer than the losses.
    keep: a `samples.Keeping`, which gets the losses and statistics that are added up here of each sample.
    Raises ValueError for an unknown split, and for a problem without data.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"split={split!r} is not known; use 'train', 'val' or 'test'.")
    check_data(problem)
    metrics = {task.name: {name: factory() for name, factory in task.metrics.items() if not losses_only}
               for task in problem.tasks}
    sums = {task.name: 0.0 for task in problem.tasks}
    counts = dict.fromkeys(sums, 0)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            for number, batch in enumerate(getattr(problem, split).to(_device_of(model)).batches(batch_size)):
                with explained(model, batch):
                    predictions = model(batch.inputs)
                for task in problem.tasks:
                    if task.name in batch.targets:
                        prediction, target = predictions[task.name], batch.targets[task.name]
                        losses = task.loss(prediction, target).double()
                        sums[task.name] += losses.sum().item()
                        counts[task.name] += batch.count(task.name)
                        rows = {}
                        for name, metric in metrics[task.name].items():
                            if keep is not None and keep.takes(metric):
                                rows[name] = metric.statistics(prediction, target)
                                metric.add(rows[name])
                            else:
                                metric.update(prediction, target)
                        if keep is not None:
                            keep.add(task, number * batch_size, prediction, target, losses, rows)
        scores = {name: {**{key: metric.compute() for key, metric in metrics[name].items()},
                         "loss": sums[name] / counts[name] if counts[name] else float("nan")} for name in sums}
        for probe in problem.probes.values() if split == "test" and not losses_only else ():
            for name, values in probe(model, problem).items():
                scores[name].update(values)
    finally:
        for module, training in modes.items():
            module.training = training
    return scores


def split_losses(model: nn.Module, problem: Problem, split: str) -> dict[str, float]:
    """Each task's mean loss over a whole split, "train", "val" or "test", in evaluation mode."""
    return {task: values["loss"] for task, values in evaluate(model, problem, split, losses_only=True).items()}


def train_losses(model: nn.Module, problem: Problem) -> dict[str, float]:
    """Each task's mean loss over the whole training split, in evaluation mode: the L_t of definition 3.

    Source: Deep Safe Multi-Task Learning, section 3.
    """
    return split_losses(model, problem, "train")


def directions(problem: Problem) -> dict[str, dict[str, bool]]:
    """`{task: {metric: True where higher is better}}`."""
    return {task.name: {name: bool(factory().higher_is_better) for name, factory in task.metrics.items()}
            for task in problem.tasks}


def check_data(problem: Problem) -> None:
    """Raise ValueError for a problem without data."""
    if any(split is None for split in (problem.train, problem.val, problem.test)):
        raise ValueError(f"Problem {problem.name!r} is a description without data; "
                         f"load it with data.load({problem.name!r}).")


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
