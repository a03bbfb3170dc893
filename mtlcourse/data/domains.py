"""Problems of two or more domains: one with labels, and others that must do without.

Imports `tasks`. What may train sees a `DomainView`: its targets are `Unlabelled`, a kind of split that has no place
for labels. Those of the target test samples lie in the `DomainProblem`, which is handed to nothing that trains.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..tasks import Problem, Task, TensorSplit


class Unlabelled:
    """Inputs of a domain without labels, (samples, ...); there is no attribute in which a label could lie.

    Raises TypeError for what is no tensor, ValueError for no samples.
    """

    __slots__ = ("inputs",)

    def __init__(self, inputs: Any):
        if not isinstance(inputs, Tensor):
            raise TypeError(f"Unlabelled inputs are {type(inputs).__name__}, and must be a tensor (samples, ...).")
        if len(inputs) == 0:
            raise ValueError("A target domain has no samples; to adapt to it takes some of its inputs, without labels.")
        self.inputs: Tensor = inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str) -> "Unlabelled":
        """The same inputs on `device`."""
        return Unlabelled(self.inputs.to(device))

    def first(self, samples: int | None) -> "Unlabelled":
        """The first `samples` of them; all if there are fewer, or for None."""
        return Unlabelled(self.inputs[:samples])

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """One pass in order, `batch_size` inputs at a time."""
        return iter(self.inputs.split(batch_size))


@dataclass(frozen=True)
class DomainView:
    """What may be trained on: the source with its labels, the targets without.

    source: an ordinary `Problem` with one task, called as the source domain; its three splits are source samples.
    targets: `{domain: Unlabelled}`, to train on.  held_out: `{domain: Unlabelled}`, other inputs of the same domains,
        for criteria that select a model without target labels.
    """

    source: Problem
    targets: Mapping[str, Any]  # None in place of the inputs in a description without data
    held_out: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The problem's name."""
        return self.source.name

    @property
    def task(self) -> Task:
        """The task, on the source."""
        return self.source.tasks[0]


@dataclass(frozen=True)
class Target:
    """A target domain: inputs to train on, others held out for criteria without labels, and labelled ones to judge by.

    train, val: `Unlabelled`.  test: a `TensorSplit` with the labels under the domain's name.
    """

    train: Unlabelled
    val: Unlabelled
    test: TensorSplit


@dataclass
class DomainProblem:
    """One task in several domains: labels in the source, none in the targets but for judging.

    name: how tables call it.
    task: the classification, called as the source domain is.
    train, val, test: source splits with labels under that name; all None in a description without data.
    targets: `{domain: Target}`; with several, one network is aligned to all of them at once. None in place of each
        `Target` in a description.
    input_shape, encoder, options, training, input_dtype: as of a `Problem`.
    Metrics, reports and certificates go by target domain: `tasks` are the same task once for each.
    Raises ValueError or TypeError, naming the domain, when the domains do not fit together: other input shapes, labels
    that the source does not know, no target, a target called as the source.
    """

    name: str
    task: Task
    train: Any
    val: Any
    test: Any
    targets: Mapping[str, Any]
    input_shape: tuple[int, ...]
    encoder: Any
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    input_dtype: torch.dtype | None = None
    probes: ClassVar[dict[str, Any]] = {}  # none, of whole models

    def __post_init__(self):
        if not self.targets:
            raise ValueError(f"Problem {self.name!r} has no target domain; give at least one.")
        if self.task.name in self.targets:
            raise ValueError(f"Problem {self.name!r}: {self.task.name!r} is the source and a target. To see what is "
                             "left without a shift, evaluate on the source's own test split.")
        if self.task.kind != "classification" or self.task.dense:
            raise ValueError(f"Problem {self.name!r}: task {self.task.name!r} is no classification of whole samples; "
                             "alignment is defined for these.")
        source = self._source()  # checks the source, as any problem is checked
        self.input_dtype = source.input_dtype
        if self.train is None:
            return
        known = set(self.train.targets[self.task.name].unique().tolist())
        for domain, target in self.targets.items():
            if not isinstance(target, Target):
                raise TypeError(f"Problem {self.name!r}: target {domain!r} is {type(target).__name__}; give "
                                "Target(train, val, test).")
            for part in ("train", "val", "test"):
                shape = tuple(getattr(target, part).inputs.shape[1:])
                if shape != tuple(self.input_shape):
                    raise ValueError(f"Problem {self.name!r}: inputs of {domain!r} ({part}) have shape {shape}, those "
                                     f"of {self.task.name!r} have {tuple(self.input_shape)}. One network sees both: "
                                     "bring them to one shape.")
            foreign = sorted(set(target.test.targets[domain].unique().tolist()) - known)
            if foreign:
                raise ValueError(f"Problem {self.name!r}: {domain!r} has the labels {foreign}, which no sample of the "
                                 f"source {self.task.name!r} has. Domains share one set of classes; leave these "
                                 "samples out, or number the classes alike.")
        self.sealed()  # checks the labels

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The task once for each target domain, by whose name it goes."""
        return tuple(replace(self.task, name=domain) for domain in self.targets)

    @property
    def task_names(self) -> list[str]:
        return list(self.targets)

    @property
    def view(self) -> DomainView:
        """What may be trained on: no label of a target is in it."""
        return DomainView(self._source(), {domain: target and target.train for domain, target in self.targets.items()},
                          {domain: target and target.val for domain, target in self.targets.items()})

    def sealed(self) -> Problem:
        """The labelled test samples of all targets, a task each with inputs of its own: to judge by, never to train on.

        A `Problem` of which there is only a test split; it stands in the place of the two others too. A description's
        has none.
        """
        test = None
        if self.train is not None:
            test = TensorSplit({domain: target.test.inputs for domain, target in self.targets.items()},
                               {domain: target.test.targets[domain] for domain, target in self.targets.items()})
        return Problem(self.name, self.tasks, test, test, test, self.input_shape, self.encoder, self.options)

    def sized(self, samples: int | None, evaluate: int | None = None) -> "DomainProblem":
        """The same problem with at most `samples` of each domain to train on, and `evaluate` in each other split."""
        source = self._source().sized(samples, evaluate)
        targets = {domain: Target(target.train.first(samples), target.val.first(evaluate),
                                  target.test if evaluate is None else target.test.first(evaluate))
                   for domain, target in self.targets.items()}
        return replace(self, train=source.train, val=source.val, test=source.test, targets=targets)

    def described(self) -> "DomainProblem":
        """The same problem without its data."""
        return replace(self, train=None, val=None, test=None, targets=dict.fromkeys(self.targets))

    def _source(self) -> Problem:
        return Problem(self.name, [self.task], self.train, self.val, self.test, tuple(self.input_shape), self.encoder,
                       self.options, training=self.training, input_dtype=self.input_dtype)
