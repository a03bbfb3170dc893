"""What one step sees: a batch, or a share of one; and which steps make an epoch. Ground floor: imports `void` only."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .files import is_number
from .void import has_target


@dataclass(frozen=True)
class Whole:
    """The batch that a share was cut from.

    shares: how many there are of it.  samples: how many it has.
    labelled: `{task: (samples of the whole batch,)}`, which of them have the task.
    """

    shares: int
    samples: int
    labelled: Mapping[str, Tensor]

    @property
    def length(self) -> int:
        """How long it is: its samples, of tasks with own inputs those of the longest."""
        return max((len(mask) for mask in self.labelled.values()), default=0)


def rows_of(samples: int, share: tuple[int, int]) -> slice:
    """The rows that share `(rank, size)` has of so many.

    >>> [rows_of(5, (rank, 3)) for rank in range(3)]
    [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    rank, size = share
    if not 0 <= rank < size:
        raise ValueError(f"share={share} is none: give (rank, size), with rank from 0 to size - 1.")
    return slice(samples * rank // size, samples * (rank + 1) // size)


@dataclass
class Batch:
    """Inputs and targets of one step, or a share of them: some of the rows.

    A share knows the counts of the whole batch. So its mean losses are shares of the batch's, and add up to them, as
    their gradients do. A task that the batch has stays in each share, with a loss of zero where no row has a label.

    inputs: a tensor `(batch, ...)` that all tasks share, or `{task: tensor}` when tasks have own data.
    targets: `{task: tensor}`; a task that is not there has no loss in this step.
    counts: `{task: samples that have it}`, known on the host so that nobody asks the device; counted
        when needed if not given. Those of the whole batch, if this is a share.
    whole: what it is a share of, if it is one.
    """

    inputs: Tensor | dict[str, Tensor]
    targets: dict[str, Tensor]
    counts: dict[str, int] | None = None
    whole: Whole | None = None

    def parts(self, k: int) -> "list[Batch]":
        """The batch in k shares, one after the other, of equal size but for one row; some are empty if k is larger."""
        if k == 1:
            return [self]
        whole = self.whole or Whole(1, self.samples, self.labelled)
        whole, counts = replace(whole, shares=whole.shares * k), {name: self.count(name) for name in self.targets}

        def cut(tensors: Any, rank: int) -> Any:
            if isinstance(tensors, Tensor):
                return tensors[rows_of(len(tensors), (rank, k))]
            return {name: cut(tensor, rank) for name, tensor in tensors.items()}

        return [Batch(cut(self.inputs, rank), {name: y for name, y in cut(self.targets, rank).items() if counts[name]},
                      counts, whole) for rank in range(k)]

    @property
    def shares(self) -> int:
        """How many shares the batch has of which this is one."""
        return self.whole.shares if self.whole else 1

    @property
    def labelled(self) -> Mapping[str, Tensor]:
        """`{task: (samples,)}`: which samples have the task; of a share, those of the whole batch."""
        return self.whole.labelled if self.whole else {name: has_target(y) for name, y in self.targets.items()}

    def count(self, task: str) -> int:
        """How many samples of this batch have `task`; of a share, of the whole batch."""
        if self.counts is not None and task in self.counts:
            return self.counts[task]
        return int(has_target(self.targets[task]).sum()) if task in self.targets else 0

    @property
    def samples(self) -> int:
        """How many samples this batch has (a share: the whole); where tasks have own inputs, those of all tasks."""
        if self.whole:
            return self.whole.samples
        return len(self.inputs) if isinstance(self.inputs, Tensor) else sum(len(x) for x in self.inputs.values())

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`."""
        return replace(self, inputs=move(self.inputs, device), targets=move(self.targets, device))

    def __len__(self) -> int:
        tensors = [self.inputs] if isinstance(self.inputs, Tensor) else list(self.inputs.values())
        return max((len(x) for x in tensors), default=0)


def move(tensors: Any, device: torch.device | str) -> Any:
    """A tensor, or a dict of them, on `device`."""
    if isinstance(tensors, Tensor):
        return tensors.to(device)
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def shared(share: tuple[int, int]) -> dict[str, Any]:
    """The argument that asks a split for shares; none for whole batches, which any split has."""
    return {} if share == (0, 1) else {"share": share}


def epoch_of(split: Any, batch_size: int, generator: torch.Generator | None, drop_last: bool = False,
             share: tuple[int, int] = (0, 1), sampling: str | float | int = "cycle") -> Iterator[Batch]:
    """One epoch of training on `split`: batches in random order, without the last one where it is not full.

    share: which part of each batch is wanted, see `TensorSplit.batches`.
    sampling: how often each task comes, where tasks have inputs of their own: "cycle", in every step; "proportional" or
        a temperature, see `samples_of_epoch`.
    An epoch has as many steps as its largest task has batches, with any sampling: that task comes in all of them, and
    another one in as many, drawn by lot, as its samples fill. So a step has several tasks, whose gradients a strategy
    can compare, and over an epoch a task counts as often as it is sampled.
    Raises ValueError when `drop_last` leaves no batch, and for a sampling where there is nothing to sample.
    """
    if drop_last and len(split) < batch_size:
        raise ValueError(f"drop_last=True leaves nothing of {len(split)} training samples in batches of {batch_size}; "
                         "take a smaller batch_size.")
    options: dict[str, Any] = shared(share)
    if check_sampled(split, sampling) != "cycle":
        options["samples"] = samples_of_epoch(split.lengths, sampling, batch_size, drop_last)
    for batch in split.batches(batch_size, shuffle=True, generator=generator, **options):
        if not drop_last or (batch.whole.length if batch.whole else len(batch)) == batch_size:
            yield batch


def steps_of_epoch(samples: int, batch_size: int, drop_last: bool = False) -> int:
    """How many batches `epoch_of` gives for so many samples, those of the largest task where tasks have their own.

    >>> steps_of_epoch(100, 16), steps_of_epoch(100, 16, drop_last=True)
    (7, 6)
    """
    return samples // batch_size if drop_last else -(-samples // batch_size)


def check_sampled(split: Any, sampling: Any) -> Any:
    """`sampling`, if `split` can be sampled so. Raises ValueError for no sampling, and where tasks share inputs."""
    if check_sampling(sampling) != "cycle" and getattr(split, "shared", True):
        raise ValueError(f"sampling={sampling!r} says how often each task comes, and these tasks share their inputs: "
                         "all come in every step. Leave it out; to weigh tasks there is the strategy 'fixed'.")
    return sampling


def check_sampling(sampling: Any) -> Any:
    """`sampling`, if it is a way to sample tasks: "cycle", "proportional" or a temperature; ValueError if not."""
    number = is_number(sampling)
    if sampling not in ("cycle", "proportional") and not (number and 0 < sampling < math.inf):
        raise ValueError(f"sampling is {sampling!r}; it must be 'cycle' (all tasks equally often), 'proportional' (to "
                         "their numbers of samples), or a temperature, a number above 0, between the two.")
    return sampling


def samples_of_epoch(samples: Mapping[str, int], sampling: Any, batch_size: int,
                     drop_last: bool = False) -> dict[str, int]:
    """How many samples each task gives in an epoch: `N (n_t / N)^(1 / T)`, where the largest of them has N.

    samples: n_t, how many each task has.  sampling: the temperature T; "proportional" is T = 1, every sample once, and
        "cycle" is T without bounds, every task as many as the largest.
    drop_last: full batches only, of each task at least one.

    >>> samples_of_epoch({"a": 900, "b": 100}, 2, 10)
    {'a': 900, 'b': 300}
    """
    largest = max(samples.values())
    power = {"cycle": 0.0, "proportional": 1.0}[sampling] if isinstance(sampling, str) else 1 / sampling
    found = {task: max(1, round(largest * (n / largest) ** power)) for task, n in samples.items()}
    return {task: max(1, n // batch_size) * batch_size for task, n in found.items()} if drop_last else found
