"""Splits of single tasks, as one split in which each task has samples of its own.

Imports its folder's `datasets`.
"""

from collections.abc import Mapping

from .datasets import DatasetSplit


class Apart:
    """What `mapped.convert` takes where tasks have samples of their own that do not all lie in memory.

    splits: `{task: DatasetSplit}`, each of that task alone. It is converted, task by task, and not trained on.
    Raises ValueError for a split of other tasks.
    """

    shared = False

    def __init__(self, splits: Mapping[str, DatasetSplit]):
        self.splits = dict(splits)
        for name, split in self.splits.items():
            tasks = [task.name for task in split.tasks]
            if tasks != [name]:
                raise ValueError(f"The split of {name!r} has the tasks {tasks}; give one of this task alone.")
