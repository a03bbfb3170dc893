"""A split of any map-style torch dataset, in the order in which `TensorSplit` would give the same data.

Imports `files`, `tasks`, `void`, its folder's `collating`. What the dataset does in `__getitem__` is its own; what is
decided here is the order, the chance that augmentation draws from, and what a batch may be.
"""

import copy
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    get_worker_info,
)

from ..files import is_whole
from ..tasks import Batch, Task, TensorSplit
from ..void import has_target
from .collating import Unequal, stacked


class DatasetSplit:
    """A split whose samples a torch `Dataset` makes, one by one, when they are needed.

    dataset: has `len()` and `dataset[i]` for i from 0.
    tasks: the problem's tasks; each batch is checked against them.
    sample: `sample(item) -> (inputs, {task: target})`, from what the dataset gives; None if it gives that. inputs are
        one tensor, array or number; a target may be None, or missing: the sample is then unlabelled in that task.
    collate: from a list of samples to `(inputs, {task: targets})`, all of one shape; None stacks them. For images of
        several sizes `data.resized(size)` and `data.padded(size)`.
    workers: processes that make samples meanwhile; 0 makes them here. What comes out is the same.
    seeded: chance in `__getitem__`, whether from torch, numpy or random, depends on the epoch's order and on the
        sample's index alone: not on workers, on the batch, or on what else has been drawn; and nobody else notices
        that it was used. False leaves the streams as they are; the dataset's own `__getitems__` is then used.
    An epoch is every sample once. Its order, and what is drawn for it, are those of `TensorSplit`: the same data in
    memory give the same model to the bit. How many samples have a task is known only when they have been read.
    Raises TypeError for an iterable dataset and for what is no dataset, ValueError for an empty one; while batches are
    made, ValueError or TypeError for samples that cannot be these tasks', and RuntimeError where the dataset fails or
    a worker dies; each names the sample where one is to blame.

    >>> from mtlcourse import data
    >>> pairs = [(torch.zeros(2), {"kind": 1}), (torch.ones(2), {"kind": None})]
    >>> batch = next(DatasetSplit(pairs, [data.classification("kind", 3)]).batches(2))
    >>> batch.targets["kind"].tolist(), batch.counts
    ([1, -1], {'kind': 1})
    """

    shared = True  # all tasks look at the same inputs

    def __init__(self, dataset: Any, tasks: Any, sample: Any = None, collate: Any = None, workers: Any = 0,
                 seeded: bool = True):
        self.dataset: Any = dataset
        self.tasks: tuple[Task, ...] = tuple(tasks)
        self.sample, self.collate, self.workers, self.seeded = sample, collate, workers, seeded
        if isinstance(dataset, IterableDataset):
            raise TypeError(f"{type(dataset).__name__} is an iterable dataset: it has no order that a seed could "
                            "decide, and an epoch is every sample once. Give a dataset with len() and dataset[i].")
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise TypeError(f"{type(dataset).__name__} is no map-style dataset: it needs len() and dataset[i].")
        if not self.tasks or not all(isinstance(task, Task) for task in self.tasks):
            raise TypeError("tasks must be the problem's tasks, at least one Task; batches are checked by them.")
        if not is_whole(workers, 0):
            raise ValueError(f"workers={workers!r}: a number of processes, 0 for none.")
        for name, function in (("sample", sample), ("collate", collate)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} is {type(function).__name__}, and must be a function.")
        if not len(dataset):
            raise ValueError(f"{type(dataset).__name__} has no samples; a split needs at least one.")
        self.device = torch.device("cpu")
        self._index = _index(torch.arange(len(dataset)))

    @staticmethod
    def of(loader: Any, tasks: Any, sample: Any = None, seeded: bool = True) -> "DatasetSplit":
        """The split of what `loader` loads: its dataset, its collate function and its number of workers.

        Batch size and order are those that `fit` is told. A collate function of its own gets what it got there (after
        `sample`, if there is one) and must return `(inputs, {task: targets})`.
        Raises TypeError and ValueError as for a dataset, and ValueError for a loader that does not give every sample
        once, or leaves some out, and for a `worker_init_fn`.
        """
        if not isinstance(loader, DataLoader):
            raise TypeError(f"{type(loader).__name__} is no torch DataLoader; for a dataset there is "
                            "DatasetSplit(dataset, tasks).")
        if not isinstance(loader.dataset, IterableDataset):
            reason = _own_order(loader)
            if reason:
                raise ValueError(f"The loader has {reason}, and an epoch is every sample once, in an order that the "
                                 "seed decides. Give DatasetSplit(loader.dataset, tasks, ...); fit has batch_size and "
                                 "drop_last.")
            if loader.worker_init_fn is not None:
                raise ValueError("The loader has a worker_init_fn, which would run in some settings and not in others. "
                                 "Chance is seeded here; open files in __getitem__, where they are first needed, and "
                                 "give DatasetSplit(loader.dataset, tasks, ...).")
        usual = loader.collate_fn is default_collate or loader.batch_size is None
        return DatasetSplit(loader.dataset, tasks, sample, None if usual else loader.collate_fn, loader.num_workers,
                            seeded)

    def __len__(self) -> int:
        return len(self._index)

    def to(self, device: torch.device | str) -> "DatasetSplit":
        """The same split, whose batches go to `device`."""
        return self._with(device=torch.device(device))

    def subset(self, indices: Tensor | Sequence[int]) -> "DatasetSplit":
        """The samples at `indices`, of which none is made yet. Raises as `TensorSplit.subset`, and IndexError."""
        return self._with(_index=self._index.subset(indices))

    def first(self, samples: int) -> "DatasetSplit":
        """The first `samples` samples; all of them if there are fewer."""
        return self._with(_index=self._index.first(samples))

    def batches(self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None,
                share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield one epoch of batches; `generator` (a CPU one) decides the order when shuffling.

        share: (rank, size) yields one of `size` shares of each batch, see `TensorSplit.batches`. The whole batch is
            made all the same: which of its samples have labels is known only then.
        """
        rows = [batch.inputs for batch in self._index.batches(batch_size, shuffle, generator)]
        order = hashlib.blake2b(torch.cat(rows).numpy().tobytes() if shuffle else b"in order").digest()
        maker = _Maker(self.dataset, self.tasks, self.sample, self.collate, order if self.seeded else None)
        indices = [own.tolist() for own in rows]
        shape = None
        for inputs, targets, counts in self._made(maker, indices):
            shape = inputs.shape[1:] if shape is None else shape
            if inputs.shape[1:] != shape:
                raise Unequal(f"Inputs have shape {tuple(shape)} in one batch and {tuple(inputs.shape[1:])} in "
                              "another; a problem has one. Give collate=, such as data.resized((height, width)).")
            present = {name: target for name, target in targets.items() if counts[name]}
            yield Batch(inputs, present, counts).parts(share[1])[share[0]].to(self.device)

    def _made(self, maker: "_Maker", indices: list) -> Iterator[tuple]:
        if not self.workers:
            found: Any = map(maker.__getitems__, indices)
        else:
            # A generator of its own: a loader draws a seed at each start, and would move the global stream.
            found = DataLoader(maker, batch_sampler=indices, num_workers=self.workers, collate_fn=_as_it_is,
                               generator=torch.Generator().manual_seed(0))
        batches = iter(found)
        while True:
            try:
                batch = next(batches, None)
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise RuntimeError("A worker process ended before its work was done, for want of memory perhaps, or "
                                   f"killed: run again, with fewer workers than {self.workers} or with workers=0, "
                                   "where an error of the dataset shows itself.") from error
            if batch is None:
                return
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def _with(self, **changed: Any) -> "DatasetSplit":
        other = copy.copy(self)
        vars(other).update(changed)
        return other


class _Maker:
    """Makes whole batches, here or in a worker: what `DataLoader` takes for a dataset.

    order: of the epoch, as bytes, or None for chance that is left alone.
    """

    def __init__(self, dataset: Any, tasks: tuple[Task, ...], sample: Callable | None, collate: Callable | None,
                 order: bytes | None):
        self.dataset, self.tasks, self.sample, self.collate, self.order = dataset, tasks, sample, collate, order

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list) -> tuple[Tensor, dict[str, Tensor], dict[str, int]] | Exception:
        """A batch and its counts, or the error, returned: a worker would wrap it in a page of its own."""
        try:
            return self._checked(indices, self._samples(indices))
        except (TypeError, ValueError, RuntimeError) as error:
            return error

    def _samples(self, indices: list) -> list:
        if self.order is None:
            return self._read(indices)
        before = None if get_worker_info() else _streams()  # a worker's own streams are nobody else's
        try:
            found = []
            for index in indices:
                _seed(hashlib.blake2b(index.to_bytes(8, "big"), key=self.order, digest_size=8).digest())
                found.append(self._read([index])[0])
            return found
        finally:
            if before is not None:
                _restore(before)

    def _read(self, indices: list) -> list:
        try:
            if self.order is None and hasattr(self.dataset, "__getitems__"):
                items = self.dataset.__getitems__(indices)
            else:
                items = [self.dataset[index] for index in indices]
            return items if self.sample is None else [self.sample(item) for item in items]
        except Exception as error:
            which = f"sample {indices[0]}" if len(indices) == 1 else f"one of samples {indices[0]}, {indices[1]}, ..."
            raise RuntimeError(f"{type(self.dataset).__name__} could not give {which} "
                               f"({type(error).__name__}: {error}).") from error

    def _checked(self, indices: list, samples: list) -> tuple[Tensor, dict[str, Tensor], dict[str, int]]:
        try:
            inputs, targets = self._together(samples)
        except Unequal:
            raise
        except (TypeError, ValueError) as error:
            raise self._blamed(error, indices, samples) from error
        unknown = [name for name in targets if name not in {task.name for task in self.tasks}]
        if unknown:
            raise ValueError(f"A sample has a target of {unknown[0]!r}, which is no task of this split: there are "
                             f"{[task.name for task in self.tasks]}. Leave it out in sample=, or give the task.")
        if len(inputs) != len(indices):
            raise ValueError(f"The collate function made {len(inputs)} inputs of {len(indices)} samples; it must keep "
                             "all of them, in their order.")
        counts = {}
        for task in self.tasks:
            if task.name in targets:
                targets[task.name] = target = _widened(task, targets[task.name])
                try:
                    task.check(target, inputs.shape[1:])
                except (TypeError, ValueError) as error:
                    raise self._blamed(error, indices, samples) from error
            counts[task.name] = int(has_target(targets[task.name]).sum()) if task.name in targets else 0
        return inputs, targets, counts

    def _together(self, samples: list) -> tuple[Tensor, dict[str, Tensor]]:
        if self.collate is None:
            return stacked(samples)
        found = self.collate(samples)
        if not (isinstance(found, tuple | list) and len(found) == 2 and isinstance(found[0], Tensor)
                and isinstance(found[1], dict) and all(isinstance(y, Tensor) for y in found[1].values())):
            raise TypeError("the collate function must return (inputs, {task: targets}), all of them tensors, and "
                            f"returned {type(found).__name__}.")
        return found[0], dict(found[1])

    def _blamed(self, error: Exception, indices: list, samples: list) -> Exception:
        """The error with the first sample that makes it alone."""
        if len(samples) > 1:
            for index, sample in zip(indices, samples, strict=True):
                try:
                    self._checked([index], [sample])
                except (TypeError, ValueError) as own:
                    return own
        return type(error)(f"Sample {indices[0]} of {type(self.dataset).__name__}: {error}" if len(indices) == 1
                           else f"{type(self.dataset).__name__}: {error}")


def _index(rows: Tensor) -> TensorSplit:
    """The numbers of samples as a split of their own, which has the order, the subsets and the checks of any other."""
    return TensorSplit(rows, {"index": rows})


def _widened(task: Task, target: Tensor) -> Tensor:
    """One number a sample is a target of one channel; class indices of any whole type are int64."""
    if task.kind == "regression":
        return target[:, None] if task.out_channels == 1 and not task.dense and target.dim() == 1 else target
    return target if target.is_floating_point() or target.dtype == torch.bool else target.long()


def _own_order(loader: DataLoader) -> str | None:
    """What keeps a loader from giving every sample once, in any order; None if nothing does."""
    if loader.drop_last:
        return "drop_last=True"
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        return f"a batch sampler of its own, {type(loader.batch_sampler).__name__}"
    sampler = loader.sampler
    if type(sampler) not in (RandomSampler, SequentialSampler):
        return f"a sampler of its own, {type(sampler).__name__}"
    if isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != len(loader.dataset)):
        return "a sampler that takes some samples several times or not at all"
    return None


def _as_it_is(batch: Any) -> Any:
    return batch


def _streams() -> tuple:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _restore(streams: tuple) -> None:
    torch.set_rng_state(streams[0])
    np.random.set_state(streams[1])
    random.setstate(streams[2])


def _seed(seed: bytes) -> None:
    """Seed the three streams of this process that a dataset may draw from; those of devices stay as they are."""
    number = int.from_bytes(seed, "big")
    torch.default_generator.manual_seed(number >> 1)
    np.random.seed(number & 0xFFFFFFFF)
    random.seed(number)
