"""Goes through a split once, come what may: what cannot be read is noted, and reading goes on behind it.

Imports `tasks`, its data folder's `collating`, `datasets`, `domains`.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...batches import Batch
from ...tasks import Task
from ..collating import Unequal
from ..datasets import DatasetSplit
from ..domains import Unlabelled

NUMBERS = 1 << 20  # of the inputs of one batch
GIVEN_UP = 100  # samples that cannot be read, after which a split is left
BROKEN = (TypeError, ValueError, RuntimeError, OSError, IndexError, KeyError)


@dataclass
class Part:
    """One split, or the unlabelled inputs of a domain.

    name: how findings call it.  tasks: those that it may have.  input_shape: of one sample, as the problem says.
    broken: `{sample: what was said}`, of those that cannot be read.  shapes: `{shape: its first sample}`.
    """

    name: str
    split: Any
    tasks: Sequence[Task]
    input_shape: tuple[int, ...]
    limit: int | None = None
    broken: dict[int, str] = field(default_factory=dict)
    shapes: dict[tuple[int, ...], int] = field(default_factory=dict)

    def __post_init__(self):
        self.total = len(self.split)
        self.complete = self.split
        self.rows: np.ndarray | None = None  # the samples' numbers; None: as they come
        if self.limit is None or self.limit >= self.total:
            return
        if isinstance(self.split, Unlabelled) or not getattr(self.split, "shared", True):
            self.split = self.split.first(self.limit)
        else:  # all over the split, which may be sorted
            self.rows = np.linspace(0, self.total - 1, self.limit).round().astype(np.int64)
            self.split = self.split.subset(self.rows.tolist())

    def __len__(self) -> int:
        return len(self.split)

    @property
    def given_up(self) -> bool:
        """Whether so many samples could not be read that the rest was left alone."""
        return len(self.broken) >= GIVEN_UP

    def numbers(self, start: int, samples: int) -> np.ndarray:
        """Which samples of the split these are."""
        rows = np.arange(start, start + samples)
        return rows if self.rows is None else self.rows[rows]

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """All batches in order, each with the place of its first sample. What fails is read again one by one."""
        size = max(1, min(1024, NUMBERS // max(1, int(np.prod(self.input_shape)))))
        start = 0
        while start < len(self):
            try:
                for batch in self._from(start, size):
                    self._check(batch)
                    self._note_shapes(batch, start)
                    yield start, batch
                    start += size
                return
            except Unequal:
                end = len(self)
            except BROKEN as error:
                if not getattr(self.split, "shared", True):  # its samples cannot be taken one by one
                    self.broken[start] = str(error)
                    return
                end = min(start + size, len(self))
            yield from self._singly(range(start, end))
            start = end
            if self.given_up:
                return

    def again(self, numbers: Sequence[int], task: str = "") -> Batch:
        """The samples of these numbers once more, in one batch; those of `task` where tasks have own inputs."""
        rows = {task: list(numbers)} if task else list(numbers)
        return next(self.complete.subset(rows).batches(len(numbers)))

    def twice(self, number: int) -> tuple[Batch, Batch] | None:
        """A sample of a dataset in two epochs: what augmentation draws is drawn anew. None if it cannot be read."""
        one = _here(self.complete).subset([number])
        try:
            return next(one.batches(1)), next(one.batches(1, shuffle=True, generator=torch.Generator().manual_seed(0)))
        except BROKEN:
            return None

    def _from(self, start: int, size: int) -> Iterator[Batch]:
        if isinstance(self.split, Unlabelled):
            return (Batch(inputs, {}) for inputs in self.split.batches(size))
        if not start:
            return self.split.batches(size)
        return self.split.subset(range(start, len(self))).batches(size)

    def _singly(self, places: range) -> Iterator[tuple[int, Batch]]:
        here = _here(self.split)
        for place in places:
            try:
                batch = next(here.subset([place]).batches(1))
                self._check(batch)
            except BROKEN as error:
                self.broken[int(self.numbers(place, 1)[0])] = str(error)
                if self.given_up:
                    return
                continue
            self._note_shapes(batch, place)
            yield place, batch

    def _check(self, batch: Batch) -> None:
        """As `Problem.check`, but each batch may have a size of its own, which is noted instead."""
        for task in self.tasks:
            if task.name in batch.targets:
                inputs = batch.inputs if isinstance(batch.inputs, torch.Tensor) else batch.inputs[task.name]
                task.check(batch.targets[task.name], inputs.shape[1:])

    def _note_shapes(self, batch: Batch, start: int) -> None:
        for inputs in ([batch.inputs] if isinstance(batch.inputs, torch.Tensor) else batch.inputs.values()):
            self.shapes.setdefault(tuple(inputs.shape[1:]), int(self.numbers(start, 1)[0]))


def _here(split: Any) -> Any:
    """The split, without workers, which would be started anew for each sample."""
    if not isinstance(split, DatasetSplit):
        return split
    split = copy.copy(split)
    split.workers = 0
    return split
