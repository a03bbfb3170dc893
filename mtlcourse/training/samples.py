"""What a trained model did on every sample of a split: enough to compute, resample and certify every measure.

Imports `files`, `metrics`, `tasks`, `void`, and its folder's `distributed` and `evaluation`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from torch import Tensor, from_numpy, nn

from .. import metrics
from ..files import content_hash
from ..tasks import Problem, Task
from ..void import has_target
from .distributed import ALONE, Total
from .evaluation import Scores, evaluate

WIDE = 128  # numbers a sample; of wider measures, which are histograms, a run keeps nothing but the value
TYPES = (np.uint8, np.uint16, np.uint32, np.float32)  # in which columns are stored, the first that holds every number


@dataclass
class Samples:
    """What one trained model did on every sample of a split, in the order of the split.

    split: "train", "val" or "test".
    data: hash of the split's content and order; None where it does not lie in memory. Not of its groups, which say how
        the same data were made.
    rows: `{task: {measure: (n, k)}}`: what `Metric.statistics` says of each sample; its mean loss as "loss", (n, 1).
        The measures are those of `measures`. Rows of samples without the task are zero.
    labelled: `{task: (n,)}`: the samples that have the task.
    groups: `{task: (n, g)}`, or `{"*": (n, g)}` for all tasks, with g = 1 or 2: which sources each sample was made of,
        see `TensorSplit`; None where every sample was drawn by itself.
    """

    split: str
    data: str | None
    rows: dict[str, dict[str, Float64[np.ndarray, "n k"]]]
    labelled: dict[str, Bool[np.ndarray, "n"]]
    groups: dict[str, Int64[np.ndarray, "n g"]] | None = None

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, from which `load` reads every number as it was.

        Equal columns of rows are stored once, one that is the same for all samples as one number, and each in the
        smallest of `TYPES` that holds all of it: a hit takes a byte, the loss of a sample four.
        """
        from safetensors.numpy import save_file

        columns: dict[tuple[str, bytes], tuple[str, np.ndarray]] = {}

        def stored(values: Shaped[np.ndarray, "n *k"]) -> list[str]:
            small = [_smallest(column) for column in values.reshape(len(values), -1).T]
            return [columns.setdefault((column.dtype.str, column.tobytes()), (str(len(columns)), column))[0]
                    for column in small]

        header = {"split": self.split, "data": self.data,
                  "rows": {task: {name: stored(values) for name, values in own.items()}
                           for task, own in self.rows.items()},
                  "labelled": {task: [len(mask), *stored(mask)] for task, mask in self.labelled.items()},
                  "groups": self.groups and {task: [len(ids), *stored(ids)] for task, ids in self.groups.items()}}
        save_file(dict(columns.values()), path, metadata={"samples": json.dumps(header)})

    @staticmethod
    def load(path: str | Path) -> "Samples":
        """What `save` wrote to `path`."""
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["samples"])

            def whole(names: list[str], samples: int, kind: Any) -> np.ndarray:
                return np.stack([np.broadcast_to(file.get_tensor(name), samples) for name in names], 1).astype(kind)

            sizes = {task: size for task, (size, *_) in header["labelled"].items()}
            rows = {task: {name: whole(names, sizes[task], np.float64) for name, names in own.items()}
                    for task, own in header["rows"].items()}
            labelled = {task: whole(names, size, bool)[:, 0] for task, (size, *names) in header["labelled"].items()}
            groups = header["groups"] and {task: whole(names, size, np.int64)
                                           for task, (size, *names) in header["groups"].items()}
        return Samples(header["split"], header["data"], rows, labelled, groups)


def measures(task: Task) -> dict[str, Callable[[], Any]]:
    """The measures of a task of which rows are kept, as factories: its own and, of one class a sample, two more.

    "error": wrong or not.  "brier": squared distance of the probabilities from the truth, which also moves where no
    decision changes. A measure of the task that has one of these names already stands in its place.

    >>> from mtlcourse import data
    >>> list(measures(data.classification("digit", 10)))
    ['accuracy', 'error', 'brier']
    """
    own = dict(task.metrics)
    if task.kind == "classification" and not task.dense:
        own = {**own, **{"error": metrics.ErrorRate, "brier": metrics.Brier, **own}}
    return own


def per_sample(model: nn.Module, problem: Problem, split: str = "test", batch_size: int = 512) -> Samples:
    """What `model` does on every sample of a split, in every measure of `measures` and in the loss.

    As `evaluate`, in the same loop: in float32 and evaluation mode, the model left in the mode it was in.
    Raises as `evaluate` does.
    """
    keep = Keeping(problem)
    evaluate(model, replace(problem, probes={}), split, batch_size, keep=keep)
    return keep.samples(problem, split)


def scores_and_samples(model: nn.Module, problem: Problem, total: Total = ALONE) -> tuple[Scores, Samples]:
    """What `evaluate` and `per_sample` say of the test split, in one pass; without rows of more than `WIDE` numbers."""
    keep = Keeping(problem, WIDE)
    scores, samples = evaluate(model, problem, keep=keep, total=total), keep.samples(problem, "test")
    if total.size > 1:  # each process has its own rows, and zero elsewhere
        total([from_numpy(values) for rows in samples.rows.values() for values in rows.values()])
        labelled = {task: mask.astype(np.uint8) for task, mask in samples.labelled.items()}
        total([from_numpy(mask) for mask in labelled.values()])
        samples.labelled = {task: mask.astype(bool) for task, mask in labelled.items()}
    return scores, samples


def hash_data(problem: Problem, split: str = "test") -> str | None:
    """Which data a split holds, and in which order: runs on different data cannot be compared.

    None if they lie neither in memory nor in a converted set. What is outside counts where it has the split's name;
    groups do not.
    """
    part = getattr(problem, split)
    if hasattr(part, "hash"):
        return part.hash()
    if not hasattr(part, "targets"):
        return None
    inputs, targets = part.inputs, part.targets
    return content_hash([*([inputs] if not isinstance(inputs, dict) else [inputs[name] for name in sorted(inputs)]),
                         *(targets[name] for name in sorted(targets)),
                         *([problem.outside[split]] if split in problem.outside else [])])


class Keeping:
    """Collects, batch by batch, what `evaluate` sees. widest: of measures of more numbers a sample nothing is kept."""

    def __init__(self, problem: Problem, widest: int | float = float("inf")):
        self.widest = widest
        self.more = {task.name: {name: factory() for name, factory in measures(task).items()
                                 if name not in task.metrics} for task in problem.tasks}
        self.pieces: dict[str, list[tuple[int, dict[str, np.ndarray]]]] = {name: [] for name in self.more}
        self.labelled: dict[str, list[tuple[int, np.ndarray]]] = {name: [] for name in self.more}
        self.ends = dict.fromkeys(self.more, 0)

    def takes(self, metric: metrics.Metric) -> bool:
        """Whether rows of this measure are wanted."""
        return metric.k <= self.widest

    def add(self, task: Task, start: int, prediction: Tensor, target: Tensor, losses: Tensor,
            rows: dict[str, Tensor]) -> None:
        """What a task's answers are worth in one batch, the first sample of which is number `start`."""
        start = max(start, self.ends[task.name])  # a split of another class may make larger batches than it was told
        # Those that no table shows are kept as exact as the predictions are, in half the bytes.
        more = {name: metric.statistics(prediction, target).float() for name, metric in self.more[task.name].items()}
        found = {**rows, **more, "loss": losses[:, None]}
        self.pieces[task.name].append((start, {name: values.double().cpu().numpy() for name, values in found.items()}))
        self.labelled[task.name].append((start, has_target(target).cpu().numpy()))
        self.ends[task.name] = start + len(target)

    def samples(self, problem: Problem, split: str) -> Samples:
        """All of it. A batch without a label of a task has not come with it, and its rows are zero."""
        part = getattr(problem, split)
        sizes = {name: len(part.targets[name]) if hasattr(part, "targets") else max(self.ends.values())
                 for name in self.ends}
        rows = {task: {name: _placed([(start, found[name]) for start, found in pieces], sizes[task])
                       for name in (pieces[0][1] if pieces else ())} for task, pieces in self.pieces.items()}
        labelled = {task: _placed(pieces, sizes[task]) if pieces else np.zeros(sizes[task], bool)
                    for task, pieces in self.labelled.items()}
        groups = getattr(part, "groups", None)
        if groups is not None:
            named = groups if isinstance(groups, dict) else {"*": groups}
            groups = {name: ids.numpy().astype(np.int64) for name, ids in named.items()}
        return Samples(split, hash_data(problem, split), rows, labelled, groups)


def _placed(pieces: list[tuple[int, np.ndarray]], samples: int) -> Shaped[np.ndarray, "samples *k"]:
    """The pieces of rows at their places, and zero elsewhere."""
    first = pieces[0][1]
    whole = np.zeros((samples, *first.shape[1:]), first.dtype)
    for start, rows in pieces:
        whole[start : start + len(rows)] = rows
    return whole


def _smallest(column: Shaped[np.ndarray, "n"]) -> np.ndarray:
    """The same numbers in fewer bytes; one number, if they are all equal."""
    if np.array_equal(column, np.full_like(column, column[0]), equal_nan=column.dtype.kind == "f"):
        column = column[:1]
    with np.errstate(all="ignore"):  # what does not fit is what we look for
        for kind in TYPES:
            small = column.astype(kind)
            if np.array_equal(small, column, equal_nan=True):
                return small
    return np.ascontiguousarray(column)
