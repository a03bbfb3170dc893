"""Learning rates of a network's parts, of the first steps, and after each epoch.

Imports `files` and `strategies`. The same for `fit` and for a loop of one's own.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..files import is_whole, unknown
from ..strategies.base import positive

SCHEDULES = ("cosine", "inverse")
ENCODER = "encoder"  # all but the heads, in a model that has heads and no part of that name
HEADS = "heads"


def check_rates(lr_of: Any) -> dict[str, float]:
    """`lr_of` as `{name of a part: learning rate}`. Raises ValueError for anything else."""
    if not isinstance(lr_of, Mapping) or not lr_of or not all(isinstance(name, str) for name in lr_of):
        raise ValueError(f"lr_of is {lr_of!r}; give {{name of a part: learning rate}}, as "
                         "{'encoder': 1e-4, 'heads': 1e-3}.")
    return {name: positive(f"lr_of[{name!r}]", rate) for name, rate in lr_of.items()}


def by_part(model: nn.Module, groups: Sequence[Mapping[str, Any]],
            lr_of: Mapping[str, float | int]) -> list[dict[str, Any]]:
    """The parameter groups with the learning rates of `lr_of`: a group for each rate, all else as it was.

    lr_of: `{name: learning rate}`, names of modules or parameters of `model` with all that is inside; where one lies in
        another, the inner one's counts. "encoder" is all but "heads", in a model that has these and no part called
        "encoder"; what learns an architecture (`architecture_parameters`) keeps its own rate then.
    A part that is frozen, as others are in each stage of a method in stages, has no use for its rate.
    Raises ValueError for a name that is not there, and for what is no rate.
    """
    named = dict(model.named_parameters())
    rate_of: dict[int, float] = {}
    for part, rate in sorted(check_rates(lr_of).items(), key=lambda item: (item[0] != ENCODER, len(item[0]))):
        inside = _inside(model, named, part)
        if not inside:
            raise ValueError(unknown(f"part of {type(model).__name__} in lr_of", part, _parts(named)))
        rate_of |= dict.fromkeys(inside, rate)  # over that of a part around it, which came before
    found: list[dict[str, Any]] = []
    for group in groups:
        split: dict[float | None, list] = {}
        for parameter in group["params"]:
            split.setdefault(rate_of.get(id(parameter)), []).append(parameter)
        found += [{**group, "params": some, **({} if rate is None else {"lr": rate})} for rate, some in split.items()]
    return found


def _inside(model: nn.Module, named: Mapping[str, nn.Parameter], part: str) -> set[int]:
    """Ids of the parameters of the part called so."""
    found = {id(p) for name, p in named.items() if _within(name, part)}
    if found or part != ENCODER:
        return found
    if not any(_within(name, HEADS) for name in named):
        return set()
    apart = {id(parameter) for parameter in getattr(model, "architecture_parameters", list)()}
    return {id(p) for name, p in named.items() if not _within(name, HEADS)} - apart


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _parts(named: Mapping[str, nn.Parameter]) -> list[str]:
    """What may be named, without what lies deeper than a part of a part."""
    words = [name.split(".")[:-1] for name in named]
    found = {".".join(word[:depth]) for word in words for depth in (1, 2) if word[:depth]}
    return [*([ENCODER] if HEADS in found else []), *found - {ENCODER}]


def check_warmup(warmup: Any, steps: float | int = float("inf")) -> int:
    """`warmup`, if it is a number of steps that leaves some of the training's; ValueError if not."""
    if not is_whole(warmup, 0):
        raise ValueError(f"warmup is {warmup!r}; it must be a whole number of steps, from 0 upwards.")
    if warmup and warmup >= steps:
        raise ValueError(f"warmup is {warmup} steps, and the training has {steps}: it would never take its learning "
                         "rate. Warm up for less, or train longer.")
    return warmup


@contextlib.contextmanager
def warmed(optimizers: Sequence[torch.optim.Optimizer], done: int, warmup: int) -> Iterator[None]:
    """Inside, the step after `done` others has its share of the learning rates: `(done + 1) / (warmup + 1)`, at most 1.

    Afterwards they are what they were, to the bit: schedules and checkpoints do not notice.
    """
    if done >= warmup:
        yield
        return
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    before = [group["lr"] for group in groups]
    try:
        for group in groups:
            group["lr"] = group["lr"] * ((done + 1) / (warmup + 1))
        yield
    finally:
        for group, rate in zip(groups, before, strict=True):
            group["lr"] = rate


def check_schedule(schedule: Any) -> str | Callable | None:
    """`schedule`, if it is one by name, a function from an optimiser to a scheduler, or None; ValueError if not."""
    if not (schedule is None or schedule in SCHEDULES or callable(schedule)):
        raise ValueError(unknown("schedule", str(schedule), SCHEDULES) + " Or give a function of an optimiser.")
    return schedule


def inverse(updates: float | int) -> float:
    """`(1 + 0.001 p)^-0.75`, what is left of the learning rate after p updates, by the schedule "inverse".

    It is set anew after each epoch, where the source counts single steps.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.4.1.

    >>> inverse(0), round(inverse(1_000), 2)
    (1.0, 0.59)
    """
    return (1 + 0.001 * updates) ** -0.75


def schedulers(schedule: str | Callable | None, optimizers: Sequence[torch.optim.Optimizer], epochs: int,
               steps: float | int) -> list[Any]:
    """What is to be stepped after each epoch, one for each optimiser; nothing without a schedule.

    epochs: after so many "cosine" is at zero.  steps: updates in an epoch, which "inverse" counts.
    """
    if check_schedule(schedule) is None:
        return []
    if schedule == "cosine":
        return [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs) for optimizer in optimizers]
    if schedule == "inverse":
        return [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: inverse(epoch * steps))
                for optimizer in optimizers]
    return [schedule(optimizer) for optimizer in optimizers]
