"""Probes that the robust problems have: accuracy under attack, telling what is foreign, and size.

Imports `metrics`, `tasks`. Each gives its values for every task that answers one of several classes.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..metrics import Probe, aupr, pgd_accuracy, strangeness
from ..metrics.robustness import check_ball
from ..tasks import Problem

BATCH = 512
Values = dict[str, dict[str, float]]


def robustness(epsilon: float | int, steps: int = 10) -> dict[str, Probe]:
    """`{name: Probe}` for `Problem.probes`.

    "attack": `pgd_accuracy`, the accuracy on the test split under `metrics.pgd` of this radius with so many steps of
        2.5 epsilon / steps, from starts that are the same for every model.
    "outside": `ood_aupr`, the trapezoid area under the precision-recall curve (`metrics.aupr`) of telling
        `problem.outside["test"]`, the positive ones, from the test split by minus the largest probability. A classifier
        that cannot has the share of positive ones.
    "size": `parameters`, those that a prediction depends on (so without auxiliary heads), and `multiply_adds` of
        convolutions and matrix products for one sample; less is better.
    Raises ValueError for an epsilon below 0.
    """
    check_ball(epsilon)
    return {"attack": Probe(partial(_attacked, epsilon=epsilon, steps=steps), {"pgd_accuracy": True}),
            "outside": Probe(_told_apart, {"ood_aupr": True}),
            "size": Probe(_size, {"parameters": False, "multiply_adds": False})}


def judged(problem: Problem) -> list[str]:
    """The tasks that answer one of several classes for each sample: what robustness is about."""
    return [task.name for task in problem.tasks
            if task.kind == "classification" and not task.dense and task.out_channels > 1]


def _attacked(model: nn.Module, problem: Problem, epsilon: float | int, steps: int) -> Values:
    return {task: {"pgd_accuracy": pgd_accuracy(_logits(model, task), _pairs(model, problem, task), epsilon, steps)}
            for task in judged(problem)}


def _told_apart(model: nn.Module, problem: Problem) -> Values:
    foreign = problem.outside["test"].to(_device(model))

    def scores(task: str, inputs: Iterator[Tensor]) -> Tensor:
        with torch.no_grad():
            return torch.cat([strangeness(_logits(model, task)(x)) for x in inputs])

    return {task: {"ood_aupr": aupr(scores(task, iter(foreign.split(BATCH))),
                                    scores(task, (x for x, _ in _pairs(model, problem, task))))}
            for task in judged(problem)}


def _size(model: nn.Module, problem: Problem) -> Values:
    weights = [parameter for parameter in model.parameters() if parameter.numel()]
    found: Values = {}
    for task in judged(problem):
        sample = next(_pairs(model, problem, task))[0][:1]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            _logits(model, task)(sample)
        frozen = [parameter for parameter in weights if not parameter.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(True)
        try:
            with torch.enable_grad():
                used = torch.autograd.grad(_logits(model, task)(sample).sum(), weights, allow_unused=True)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(False)
        found[task] = {"parameters": float(sum(g.numel() for g in used if g is not None)),
                       "multiply_adds": counter.get_total_flops() / 2}
    return found


def _logits(model: nn.Module, task: str) -> Callable[[Tensor], Tensor]:
    return lambda x: model(x, [task])[task]


def _pairs(model: nn.Module, problem: Problem, task: str) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in problem.test.to(_device(model)).batches(BATCH):
        if task in batch.targets:
            yield batch.inputs if isinstance(batch.inputs, Tensor) else batch.inputs[task], batch.targets[task]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
