"""What a multi-task problem is: tasks, batches, splits, problems.

Imports `batches` and `void`. Everything above speaks in these terms.
"""

import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .batches import Batch, Whole, epoch_of, move, rows_of
from .void import VOID, has_target

__all__ = ["VOID", "Batch", "Problem", "Task", "TensorSplit", "Whole", "epoch_of", "mean_losses"]


@dataclass(frozen=True)
class Task:
    """One task: how a prediction is judged while training (`loss`) and afterwards (`metrics`).

    name: a Python identifier; it names the head and the columns of every table.
    loss: `loss(prediction, target) -> (batch,)`, non-negative, the mean over one sample's valid
        elements; zero for a sample without any.
    metrics: `{name: factory}`; `factory()` makes a fresh `Metric`, so nothing is shared.
    out_channels: classes, or channels of a real target. One channel with `kind="classification"`
        is a binary task with a single logit.
    dense: one prediction per pixel instead of one per sample.
    kind: "classification" (integer targets, `VOID` where unlabelled) or "regression" (real targets,
        NaN where unknown).
    Raises ValueError for a name that is no identifier, no channels, an unknown kind, no metric.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: Mapping[str, Callable[[], Any]]
    out_channels: int
    dense: bool = False
    kind: str = "classification"

    def __post_init__(self):
        if not (isinstance(self.name, str) and self.name.isidentifier()) or keyword.iskeyword(self.name):
            raise ValueError(
                f"Task name {self.name!r} is not a Python identifier. Names become attributes and "
                "table columns: use letters, digits and underscores, such as 'left_digit'."
            )
        if self.out_channels < 1:
            raise ValueError(f"Task {self.name!r} has out_channels={self.out_channels}; it needs at least 1.")
        if self.kind not in ("classification", "regression"):
            raise ValueError(f"Task {self.name!r} has kind={self.kind!r}; use 'classification' or 'regression'.")
        if not self.metrics:
            raise ValueError(f"Task {self.name!r} has no metric; give at least one, such as {{'accuracy': Accuracy}}.")

    @property
    def classes(self) -> int:
        """Number of label values of a classification task (a single logit separates two)."""
        return max(self.out_channels, 2)

    def check(self, target: Tensor, input_shape: Sequence[int]) -> None:
        """Raise ValueError or TypeError, in plain words, if `target` cannot belong to this task."""
        pixels = tuple(input_shape[-2:]) if self.dense else ()
        channels = (self.out_channels,) if self.kind == "regression" else ()
        expected = channels + pixels
        if tuple(target.shape[1:]) != expected:
            wanted = f"(samples, {', '.join(map(str, expected))})" if expected else "(samples,)"
            raise ValueError(f"Task {self.name!r}: targets have shape {tuple(target.shape)}, expected {wanted}"
                             f"{self._remedy(tuple(target.shape[1:]), expected)}")
        if self.kind == "regression":
            if not target.is_floating_point():
                raise TypeError(f"Task {self.name!r}: regression targets are {target.dtype}; convert with .float().")
            return
        if target.is_floating_point() or target.dtype == torch.bool:
            raise TypeError(f"Task {self.name!r}: class targets are {target.dtype}; convert with .long().")
        if target.numel():
            low, high = int(target.min()), int(target.max())
            if low < VOID or high >= self.classes:
                raise ValueError(
                    f"Task {self.name!r}: labels run from {low} to {high}, allowed are 0 to {self.classes - 1} "
                    f"and {VOID} for 'no label'."
                )


    def _remedy(self, given: tuple[int, ...], expected: tuple[int, ...]) -> str:
        """What to do about targets whose shape, without the samples, is not the expected one."""
        if self.kind == "regression" and (1, *given) == expected:
            return ": give target.unsqueeze(1)."
        if self.kind == "classification" and given == (1, *expected):
            return ": give target.squeeze(1)."
        if self.kind == "classification" and given == (self.out_channels, *expected):
            return ": one class index a sample, not one-hot rows; give target.argmax(1)."
        return "." if expected else ": one class index a sample."


def _named(inputs: Any) -> dict[str, Tensor]:
    return {"inputs": inputs} if isinstance(inputs, Tensor) else inputs


def check_tensors(inputs: Any, targets: Any) -> None:
    """Raise TypeError, saying what to do, unless these are tensors, or dicts of tensors."""
    if not isinstance(targets, Mapping):
        raise TypeError(f"targets are {_kind(targets)}; give a dict {{task: tensor}}.")
    named = {f"inputs of {t!r}": x for t, x in inputs.items()} if isinstance(inputs, Mapping) else {"inputs": inputs}
    for name, values in {**named, **{f"targets of {t!r}": y for t, y in targets.items()}}.items():
        if not isinstance(values, Tensor):
            array = "torch.from_numpy" if hasattr(values, "__array_interface__") else "torch.tensor"
            raise TypeError(f"{name} are {_kind(values)}, and must be a tensor: give {array}(...), real numbers with "
                            ".float() after it.")


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")


def mean_losses(tasks: Sequence[Task], predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Each task's mean loss over the samples of `batch` that have it: `{task: scalar}`; of a share, its part of that.

    A task without a sample in the batch is left out, so that no strategy mistakes absence for success.
    """
    losses = {
        task.name: task.loss(predictions[task.name], batch.targets[task.name]).sum() / count
        for task in tasks
        if task.name in predictions and task.name in batch.targets and (count := batch.count(task.name))
    }
    if batch.whole:  # a loss may drop the graph where it finds no label, and a share must keep it
        losses = {name: loss + predictions[name].flatten()[:0].sum() for name, loss in losses.items()}
    return losses


class TensorSplit:
    """A split that lives in memory, on the training device, and is batched by `index_select`.

    inputs: `(samples, ...)`, or `{task: (samples of that task, ...)}`.
    targets: `{task: (samples, ...)}`.
    groups: what was drawn before the samples were made, for samples that share it: whole numbers (samples, 1) or
        (samples, 2), `{task: ...}` when tasks have own inputs. Equal numbers are the same source, in both columns: the
        digits on a canvas, the scene that several views show. They stay on the host, and training does not look at
        them. None (default): every sample was drawn by itself.
    With own inputs per task an epoch is the longest task: while training (`shuffle=True`) shorter tasks
    start again in a new order, or come less often, see `epoch_of`; in order (`shuffle=False`) each sample comes once
    and a task that has run out is missing from the later batches.
    Raises ValueError for no samples, for no targets, and for tensors that do not agree in length, TypeError for what
    is no tensor, and for groups that are no whole numbers.
    """

    def __init__(self, inputs: Any, targets: Any, groups: Any = None):
        check_tensors(inputs, targets)  # in words, where a type checker would print both
        self.inputs: Tensor | dict[str, Tensor] = inputs if isinstance(inputs, Tensor) else dict(inputs)
        self.targets: dict[str, Tensor] = dict(targets)
        if not self.targets:
            raise ValueError("A split needs the targets of at least one task; `targets` is empty.")
        for name, target in self.targets.items():
            if not self.shared and name not in self.inputs:
                raise ValueError(f"Task {name!r} has targets but no inputs; there are inputs of {sorted(self.inputs)}.")
            samples = len(self._inputs_of(name))
            if len(target) != samples:
                raise ValueError(f"Task {name!r} has {len(target)} targets for {samples} inputs; they must match.")
            if samples == 0:
                raise ValueError(f"Task {name!r} has no samples; a split needs at least one.")
        # Host copies, so that counting a batch's labels never waits for the device; None: all labelled.
        self._labelled = {name: _labelled(target) for name, target in self.targets.items()}
        self.groups: Tensor | dict[str, Tensor] | None = self._checked(groups)

    def _checked(self, groups: Any) -> Any:
        """The groups on the host, if they can belong to these samples."""
        if groups is None:
            return None
        if isinstance(groups, Mapping) == self.shared:
            raise TypeError("groups are one tensor where tasks share their inputs, and {task: tensor} where each has "
                            f"its own; these are {_kind(groups)}.")
        named = {"groups": groups} if self.shared else {f"groups of {t!r}": groups.get(t) for t in self.targets}
        for (name, ids), task in zip(named.items(), self.targets, strict=False):
            if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
                what = ids.dtype if isinstance(ids, Tensor) else _kind(ids)
                raise TypeError(f"{name} are {what}, and must be a tensor of whole numbers: which source each is from.")
            samples = len(self.targets[task])
            if ids.dim() != 2 or len(ids) != samples or ids.shape[1] not in (1, 2):
                raise ValueError(f"{name} have shape {tuple(ids.shape)}; it must be ({samples}, 1) or ({samples}, 2): "
                                 "one or two sources a sample.")
        return move(groups if self.shared else {t: groups[t] for t in self.targets}, "cpu")

    @property
    def shared(self) -> bool:
        """True when all tasks look at the same inputs."""
        return isinstance(self.inputs, Tensor)

    def _inputs_of(self, task: str) -> Tensor:
        return self.inputs if isinstance(self.inputs, Tensor) else self.inputs[task]

    def __len__(self) -> int:
        return max(self.lengths.values())

    @property
    def lengths(self) -> dict[str, int]:
        """How many samples there are for each task, with a label or without."""
        return {name: len(target) for name, target in self.targets.items()}

    @property
    def device(self) -> torch.device:
        return next(iter(self.targets.values())).device

    def to(self, device: torch.device | str) -> "TensorSplit":
        """The same split on `device` (itself if it is there already)."""
        if self.device == torch.device(device):
            return self
        return TensorSplit(move(self.inputs, device), move(self.targets, device), self.groups)

    def subset(self, indices: Tensor | Sequence[int] | Mapping[str, Tensor | Sequence[int]]) -> "TensorSplit":
        """The samples at `indices`; `{task: indices}` selects per task when tasks have own inputs.

        Raises TypeError for a mask, and for indices per task where tasks share their inputs.
        """
        def take(tensor: Tensor, rows: Any) -> Tensor:
            rows = torch.as_tensor(rows, device=tensor.device)
            if rows.dtype == torch.bool:
                raise TypeError("subset takes indices, not a mask: give mask.nonzero().flatten().")
            return tensor.index_select(0, rows.long())

        if isinstance(self.inputs, Tensor):
            if isinstance(indices, Mapping):
                raise TypeError("These tasks share their inputs: give one list of indices, not one per task.")
            return TensorSplit(take(self.inputs, indices), {t: take(y, indices) for t, y in self.targets.items()},
                               None if self.groups is None else take(self.groups, indices))
        rows = indices if isinstance(indices, Mapping) else {name: indices for name in self.targets}
        return TensorSplit({t: take(self.inputs[t], r) for t, r in rows.items()},
                           {t: take(self.targets[t], r) for t, r in rows.items()},
                           None if self.groups is None else {t: take(self.groups[t], r) for t, r in rows.items()})

    def first(self, samples: int) -> "TensorSplit":
        """The first `samples` samples (of each task); all of them if there are fewer."""
        if self.shared:
            return self.subset(range(min(samples, len(self))))
        return self.subset({t: torch.arange(min(samples, len(y))) for t, y in self.targets.items()})

    def count(self, task: str) -> int:
        """How many samples have `task`."""
        if task not in self.targets:
            return 0
        labelled = self._labelled[task]
        return len(self.targets[task]) if labelled is None else int(labelled.sum())

    def batches(self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None,
                share: tuple[int, int] = (0, 1), samples: Mapping[str, int] | None = None) -> Iterator[Batch]:
        """Yield one epoch of batches; `generator` (a CPU one) decides the order when shuffling.

        share: `(rank, size)` yields of each batch what `batch.parts(size)[rank]` is, without gathering the rest.
        samples: how many each task gives, where tasks have own inputs and are shuffled; by default as many as the
            longest. A task whose batches are fewer than the steps has them in some, drawn by lot, each step alike.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        lengths = {"*": len(self)} if self.shared else self.lengths
        wanted = dict.fromkeys(lengths, len(self)) if samples is None else samples
        orders = {name: self._order(length, wanted[name], shuffle, generator) for name, length in lengths.items()}
        moved = {name: None if order is None else order.to(self.device) for name, order in orders.items()}
        batches = {name: -(-wanted[name] // batch_size) for name in lengths}
        steps = max(batches.values())
        when = {name: iter(_drawn(count, steps, generator)) for name, count in batches.items()}
        begun = dict.fromkeys(lengths, 0)  # how much of its order each task has given
        for _ in range(steps):
            rows = {name: slice(begun[name], begun[name] + batch_size * next(here)) for name, here in when.items()}
            begun = {name: part.stop for name, part in rows.items()}
            yield self._batch(orders, moved, rows, share)

    @staticmethod
    def _order(samples: int, total: int, shuffle: bool, generator: torch.Generator | None) -> Tensor | None:
        if not shuffle:
            return None  # in order: slices are views, nothing is copied
        rounds = -(-total // samples)
        return torch.cat([torch.randperm(samples, generator=generator) for _ in range(rounds)])[:total]

    def _batch(self, orders: dict, moved: dict, rows: dict[str, slice], share: tuple[int, int]) -> Batch:
        """The batch of these rows, or a share of it."""
        def of(named: dict, task: str) -> Any:
            return named["*"] if self.shared else named[task]

        mine, masks = {}, {}
        for t, y in self.targets.items():
            ends = of(rows, t).indices(len(y if of(orders, t) is None else of(orders, t)))
            part = rows_of(max(ends[1] - ends[0], 0), share)
            mine[t] = slice(ends[0] + part.start, ends[0] + part.stop)
            labelled = self._labelled[t]
            masks[t] = max(ends[1] - ends[0], 0) if labelled is None else _rows(labelled, of(orders, t), of(rows, t))
        counts = {t: mask if isinstance(mask, int) else int(mask.sum()) for t, mask in masks.items()}
        targets = _present({t: _rows(y, of(moved, t), mine[t]) for t, y in self.targets.items()}, counts)
        if isinstance(self.inputs, Tensor):
            inputs: Any = _rows(self.inputs, moved["*"], next(iter(mine.values())))
        else:
            inputs = {t: _rows(self.inputs[t], moved[t], mine[t]) for t in targets}
        if share == (0, 1):
            return Batch(inputs, targets, counts)
        labelled = {t: torch.ones(m, dtype=torch.bool) if isinstance(m, int) else m for t, m in masks.items()}
        sizes = [len(mask) for mask in labelled.values()][:1] if self.shared else [len(labelled[t]) for t in targets]
        return Batch(inputs, targets, counts, Whole(share[1], sum(sizes), {t: labelled[t] for t in targets}))


def _drawn(count: int, steps: int, generator: torch.Generator | None) -> list[bool]:
    """In which of so many steps a task comes that has `count` batches."""
    if count == steps:
        return [True] * steps  # nothing is drawn
    chosen = set(torch.randperm(steps, generator=generator)[:count].tolist())
    return [step in chosen for step in range(steps)]


def _rows(tensor: Tensor, order: Tensor | None, rows: slice) -> Tensor:
    return tensor[rows] if order is None else tensor.index_select(0, order[rows])


def _present(tensors: dict[str, Tensor], counts: dict[str, int]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if counts[name]}


def _labelled(target: Tensor) -> Tensor | None:
    labelled = has_target(target).cpu()
    return None if bool(labelled.all()) else labelled


@dataclass
class Problem:
    """A multi-task problem: tasks, three splits, and what a model needs to know about the inputs.

    name: how tables call it.  tasks: the tasks, in the order of all vectors of length m.
    train, val, test: splits with `len()`, `batches(batch_size, shuffle, generator)`, `subset(indices)`,
        `to(device)`; all None in a description without data.
    input_shape: shape of one sample.  encoder: plain data for `encoders.build`; for models made by
        hand also modules, which a sweep cannot store.
    options: what `data.load` was called with.  probes: extra measures of a whole model, `{name: metrics.Probe}`, each
        with its direction.
    training: `{budget: {"epochs": ..., "samples": ..., "lr": ..., "batch_size": ...}}`, where the
        defaults of `methods.BUDGETS` do not suit this problem.
    input_dtype: of the inputs, with which encoders are tried; by default that of the training split, where it says.
    outside: inputs without labels that are from elsewhere, `{name: (samples, *input_shape)}`; for out-of-distribution
        robustness "lower" and "upper", for the two levels of a search, and "test", for probes: samples of their own.
    Raises ValueError or TypeError when tasks or data cannot be a problem, naming the task.
    """

    name: str
    tasks: Sequence[Task]
    train: Any
    val: Any
    test: Any
    input_shape: tuple[int, ...]
    encoder: Any
    options: dict[str, Any] = field(default_factory=dict)
    probes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    input_dtype: torch.dtype | None = None
    outside: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        self.tasks = tuple(self.tasks)
        if not self.tasks:
            raise ValueError(f"Problem {self.name!r} has no tasks; give at least one Task.")
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"Problem {self.name!r} has tasks of the same name: {names}.")
        if self.input_dtype is None and isinstance(self.train, TensorSplit):
            self.input_dtype = next(iter(_named(self.train.inputs).values())).dtype
        for split_name in ("train", "val", "test"):
            split = getattr(self, split_name)
            if split is not None and len(split) == 0:
                raise ValueError(f"Problem {self.name!r}: split {split_name!r} has no samples.")
            if isinstance(split, TensorSplit):
                self.check(Batch(split.inputs, split.targets), f"split {split_name!r}")
            missing = [name for name in names if hasattr(split, "count") and not split.count(name)]
            if missing:
                raise ValueError(f"Problem {self.name!r}: split {split_name!r} has no labels for {missing}.")
        for name, inputs in self.outside.items():
            if tuple(inputs.shape[1:]) != tuple(self.input_shape) or not len(inputs):
                raise ValueError(f"Problem {self.name!r}: outside set {name!r} has shape {tuple(inputs.shape)}, "
                                 f"expected (samples, {', '.join(map(str, self.input_shape))}), as the tasks have.")
            if self.input_dtype not in (None, inputs.dtype):
                raise TypeError(f"Problem {self.name!r}: outside set {name!r} is {inputs.dtype}, the tasks' inputs are "
                                f"{self.input_dtype}; convert it with .to({self.input_dtype}).")
        for name, probe in self.probes.items():
            if not hasattr(probe, "higher_is_better"):
                raise TypeError(f"Problem {self.name!r}: probe {name!r} does not say whether more is better. Give "
                                "metrics.Probe(function, higher_is_better={'name of a value': True}).")

    @property
    def task_names(self) -> list[str]:
        return [task.name for task in self.tasks]

    def check(self, batch: Batch, where: str = "batch") -> None:
        """Raise, naming problem and task, if `batch` does not fit the tasks or the input shape."""
        try:
            check_tensors(batch.inputs, batch.targets)
        except TypeError as error:
            raise TypeError(f"Problem {self.name!r}, {where}: {error}") from None
        for name, tensor in _named(batch.inputs).items():
            if tuple(tensor.shape[1:]) != tuple(self.input_shape):
                raise ValueError(
                    f"Problem {self.name!r}, {where}: {name} have shape {tuple(tensor.shape)}, "
                    f"expected (samples, {', '.join(map(str, self.input_shape))})."
                )
        for task in self.tasks:
            if task.name in batch.targets:
                try:
                    task.check(batch.targets[task.name], self.input_shape)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"Problem {self.name!r}, {where}: {error}") from None

    def sized(self, samples: int | None, evaluate: int | None = None) -> "Problem":
        """The same problem with at most `samples` training and `evaluate` validation and test samples.

        So many are left of what is outside too: of "test" as of the test split, of the others as for training.
        """
        def cut(split: Any, size: int | None) -> Any:
            if split is None or size is None or size >= len(split):
                return split
            return split.first(size) if hasattr(split, "first") else split.subset(range(size))

        outside = {name: inputs[: evaluate if name == "test" else samples] for name, inputs in self.outside.items()}
        return replace(self, train=cut(self.train, samples), val=cut(self.val, evaluate), test=cut(self.test, evaluate),
                       outside=outside)
