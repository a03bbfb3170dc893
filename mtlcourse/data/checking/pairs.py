"""What two tasks have to do with each other: the same targets, one that follows from the other, no sample in common.

Imports `tasks`, its folder's `report`, `seen`.
"""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from ...tasks import Task
from .report import Finding
from .seen import Seen

ENOUGH = 20  # elements with both labels
SAME = 1 - 1e-6  # absolute correlation, from which on it is an affine map but for rounding
SEVERAL = 3  # elements that each of at least two classes has, so that it is no chance that they go together


def examine(train: Seen) -> Iterator[Finding]:
    """All findings about pairs of tasks with the same inputs."""
    if not train.pairs:
        return
    yield from _apart(train)
    for where, tasks in train.groups().items():
        yield from _classes(train, where, [task for task in tasks if task.kind == "classification"])
        yield from _numbers(train, where, [task for task in tasks if task.kind == "regression"])


def _apart(train: Seen) -> Iterator[Finding]:
    alone = []
    for (i, one), (j, other) in ((a, b) for a in enumerate(train.part.tasks) for b in enumerate(train.part.tasks)):
        if i < j and train.both[i, i] and train.both[j, j] and not train.both[i, j]:
            alone.append((one, other))
    if alone:
        one, other = alone[0]
        more = f" (and {len(alone) - 1} more pairs)" if len(alone) > 1 else ""
        yield Finding("note", "never-together", f"No training sample has labels of both {one.name!r} and "
                      f"{other.name!r}{more}: conflicts between their gradients are conflicts between different "
                      "inputs, and whether the tasks agree on one input cannot be learned from these data.", "train",
                      one.name)


def _classes(train: Seen, where: str, tasks: list[Task]) -> Iterator[Finding]:
    counts = train.together[where].counts
    if counts is None:
        return
    starts = np.cumsum([0, *(task.classes for task in tasks)])
    for i, one in enumerate(tasks):
        for j, other in enumerate(tasks):
            if i < j:
                table = counts[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
                yield from _table(one, other, table)


def _table(one: Task, other: Task, table: Tensor) -> Iterator[Finding]:
    total = table.sum().item()
    shared = [int((table.sum(axis) >= SEVERAL).sum()) for axis in (1, 0)]
    if total < ENOUGH or min(shared) < 2:
        return
    follows = bool(((table > 0).sum(1) <= 1).all())  # other from one
    leads = bool(((table > 0).sum(0) <= 1).all())
    if follows and leads:
        yield Finding("warning", "same-task", f"{other.name!r} has the targets of {one.name!r} in each of {total:,.0f} "
                      "labels, up to the names of classes: one task is counted twice, in means over tasks and in every "
                      "equal weight.", "train", other.name)
    elif (follows and total >= 10 * shared[0]) or (leads and total >= 10 * shared[1]):
        known, derived = (one, other) if follows else (other, one)
        yield Finding("note", "determined", f"The class of {derived.name!r} follows from that of {known.name!r} in "
                      f"each of {total:,.0f} labels: the two are no independent tasks, and help or harm between them "
                      "says little about others.", "train", derived.name)


def _numbers(train: Seen, where: str, tasks: list[Task]) -> Iterator[Finding]:
    together = train.together[where]
    if together.shift is None:
        return
    alike = (together.correlations().abs() > SAME) & (together.number >= ENOUGH)
    starts = np.cumsum([0, *(task.out_channels for task in tasks)])
    for i, one in enumerate(tasks):
        for j, other in enumerate(tasks):
            block = alike[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
            if i < j and block.numel() and bool(block.any(0).all() & block.any(1).all()):
                yield Finding("warning", "same-task", f"{other.name!r} is {one.name!r} up to factor and offset: one "
                              "task is counted twice, in means over tasks and in every equal weight.", "train",
                              other.name)


def last_batch(budgets: set[tuple[int, int]]) -> Iterator[Finding]:
    """Budgets that leave a last batch of one sample. budgets: samples and batch size of each."""
    alone = [f"{size} of {samples:,} samples" for samples, size in sorted(budgets) if size > 1 and samples % size == 1]
    if alone:
        yield Finding("note", "last-batch", f"Batches of {' or '.join(alone)} leave a last one of a single sample: "
                      "batch normalisation has no variance there (drop_last=True leaves it out), and that sample "
                      "weighs as much as a batch.", "train")
