"""The evaluation loop: what a model scores on a whole split.

Imports `batches`, `data`, `files`, `tasks`, and its folder's `distributed` and `updates`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..batches import rows_of, shared
from ..data import DomainProblem
from ..files import unknown
from ..tasks import Problem
from .distributed import ALONE, Total
from .updates import explained

Scores = dict[str, dict[str, float]]


def evaluate(model: nn.Module, problem: Problem, split: str = "test", batch_size: int = 512,
             losses_only: bool = False, keep: Any = None, total: Total = ALONE) -> Scores:
    """Each task's metrics and mean loss on a whole split: `{task: {metric: value, ..., "loss": value}}`.

    Runs in float32 and evaluation mode, and leaves the model in the mode it was in. The loss is the mean
    over the samples that have the task. On the test split the problem's probes are added.
    losses_only: leave out metrics and probes, which take longer than the losses.
    keep: a `samples.Keeping`, which gets the losses and statistics that are added up here of each sample.
    total: sums over processes, of which each takes its share of every batch; probes are made by all.
    Raises ValueError for an unknown split, for a problem without data, and for a probe that gives what it has not
    announced.
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
            part, share = getattr(problem, split).to(_device_of(model)), (total.rank, total.size)
            for number, batch in enumerate(part.batches(batch_size, **shared(share))):
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
                            first = rows_of(len(batch.labelled[task.name]), share).start if batch.whole else 0
                            keep.add(task, number * batch_size + first, prediction, target, losses, rows)
            if total.size > 1:
                _summed(total, sums, [metric for named in metrics.values() for metric in named.values()])
        scores = {name: {**{key: metric.compute() for key, metric in metrics[name].items()},
                         "loss": sums[name] / counts[name] if counts[name] else float("nan")} for name in sums}
        for called, probe in problem.probes.items() if split == "test" and not losses_only else ():
            for name, values in probe(model, problem).items():
                _check_probed(called, probe, name, values, scores)
                scores[name].update(values)
    finally:
        for module, training in modes.items():
            module.training = training
    return scores


def _check_probed(called: str, probe: Any, task: str, values: Mapping[str, float], scores: Scores) -> None:
    """Raise ValueError for a value of a probe that has no direction, no task, or the name of another measure."""
    if task not in scores:
        raise ValueError(f"Probe {called!r} speaks of " + unknown("task", task, scores))
    for name in values:
        if name not in probe.higher_is_better:
            raise ValueError(f"Probe {called!r} gives {name!r}, of which it has not said whether more is better: its "
                             "`higher_is_better` lacks it.")
        if name in scores[task]:
            raise ValueError(f"Probe {called!r} gives {name!r}, and task {task!r} has a measure of that name already.")


def _summed(total: Total, sums: dict[str, float], metrics: list) -> None:
    """Losses and metrics of all processes in place of one's own."""
    losses = torch.tensor(list(sums.values()), dtype=torch.float64)
    for metric in metrics:
        metric.total = metric.total.cpu()
    total([losses, *(metric.total for metric in metrics)])
    sums.update(zip(sums, losses.tolist(), strict=True))


def split_losses(model: nn.Module, problem: Problem, split: str, total: Total = ALONE) -> dict[str, float]:
    """Each task's mean loss over a whole split, "train", "val" or "test", in evaluation mode."""
    return {task: values["loss"]
            for task, values in evaluate(model, problem, split, losses_only=True, total=total).items()}


def train_losses(model: nn.Module, problem: Problem, total: Total = ALONE) -> dict[str, float]:
    """Each task's mean loss over the whole training split, in evaluation mode: the L_t of definition 3.

    Source: Deep Safe Multi-Task Learning, section 3.
    """
    return split_losses(model, problem, "train", total)


def directions(problem: Problem | DomainProblem) -> dict[str, dict[str, bool]]:
    """`{task: {metric: True where higher is better}}`, the values of probes, which any task may have, among them."""
    announced = [probe.higher_is_better for probe in problem.probes.values()]
    probed = {name: bool(better) for ways in announced for name, better in ways.items()}
    return {task.name: {**{name: bool(factory().higher_is_better) for name, factory in task.metrics.items()}, **probed}
            for task in problem.tasks}


def check_data(problem: Problem) -> None:
    """Raise ValueError for a problem without data."""
    if any(split is None for split in (problem.train, problem.val, problem.test)):
        raise ValueError(f"Problem {problem.name!r} is a description without data; "
                         f"load it with data.load({problem.name!r}).")


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
