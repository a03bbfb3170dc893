"""What shares of a batch have measured, and what several processes agree on.

Imports `strategies.reach`, `strategies.rows`.
A share knows the counts of the whole batch, so that what is measured on shares adds up.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from .reach import Leaves
from .rows import Cut, Rows


@dataclass
class Measured:
    """What the losses of one share of a batch have measured; `add` makes it that of several.

    scalars: the losses, with their graph.  losses: as numbers.
    vector: where losses are all that is measured, with their graph as one tensor, whose gradient the weights will be.
    Where gradients are measured: rows, those of what is shared, and cut, of the tasks' own. At features, where rows
    lead into the graph, also grams, their Gram matrices, and reaching, which task has any.
    others: the shares that were added.  passed: whether the graph has given all it has, and is gone.
    """

    scalars: dict[str, Tensor]
    losses: Float64[Tensor, "k"]
    auxiliary: Tensor | None = None
    vector: Float[Tensor, "k"] | None = None
    cut: Cut | None = None
    rows: Rows | None = None
    grams: Float64[Tensor, "modules k k"] | None = None
    reaching: Bool[Tensor, "modules k"] | None = None
    others: list["Measured"] = field(default_factory=list)
    passed: bool = False

    @property
    def pulling(self) -> Tensor | None:
        """The auxiliary loss, unless it is a constant, such as that of a network without auxiliary head."""
        return self.auxiliary if self.auxiliary is not None and self.auxiliary.requires_grad else None

    def add(self, other: "Measured") -> "Measured":
        """Add what another share of the same batch has measured. Raises ValueError if it has other tasks."""
        if list(self.scalars) != list(other.scalars):
            raise ValueError(f"One share has losses of {list(self.scalars)}, another of {list(other.scalars)}; each "
                             "needs one for each task of the batch, zero where it has no label; see Batch.parts.")
        self.losses = self.losses + other.losses
        if self.grams is not None:
            self.grams, self.reaching = self.grams + other.grams, self.reaching | other.reaching
        elif self.rows is not None:
            self.rows.add(other.rows)
            self.cut.add(other.cut)
            other.rows = other.cut = None
        self.others += [other, *other.others]
        return self

    def numbers(self) -> "Measured":
        """The same without any graph."""
        scalars = {name: loss.detach() for name, loss in self.scalars.items()}
        return replace(self, scalars=scalars, auxiliary=None, vector=None, cut=None, rows=None, others=[])


class Agreement:
    """What the processes of a training agree on: which parameters losses reach, and the sums of what was written.

    total: sums over processes.  learning: the model's parameters, the same list in all.  trained: ids of those that
    task losses train.
    """

    def __init__(self, total: Any, learning: Sequence[nn.Parameter], trained: Collection[int]):
        self.total, self.learning, self.trained = total, learning, trained
        self.known: dict[tuple[str, ...], dict[str, Leaves]] = {}

    def reached(self, found: Mapping[str, Leaves]) -> dict[str, Leaves]:
        """What any process reached from these losses when they first came, since the epoch began.

        Raises ValueError when this process reaches more: others would not know of it.
        """
        names = tuple(found)
        if names not in self.known:
            bits = torch.tensor([[id(p) in leaves for p in self.learning] for leaves in found.values()]).double()
            self.total([bits])
            self.known[names] = {name: {id(p): p for p, bit in zip(self.learning, row, strict=True) if bit}
                                 for name, row in zip(names, bits.tolist(), strict=True)}
        for name, leaves in found.items():
            if any(key in self.trained and key not in self.known[names][name] for key in leaves):
                raise ValueError(f"The loss of {name!r} reaches parameters that it reached in no process when it first "
                                 "came. Models that choose their way by the data can be trained in one process only.")
        return self.known[names]

    def sum_written(self, found: Mapping[str, Leaves], without: Collection[int]) -> None:
        """Sum the `.grad` of the trained parameters that these losses reach, but for those of `without`."""
        ids = {key for leaves in self.reached(found).values() for key in leaves if key in self.trained} - {*without}
        parameters = [parameter for parameter in self.learning if id(parameter) in ids]
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.to_dense()
        self.total([p.grad for p in parameters])


def refuse_wrapped(model: Any) -> None:
    """Raise ValueError for a model in DistributedDataParallel."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ValueError("This model is wrapped in DistributedDataParallel, which sums gradients in hooks that the "
                         "gradients of single tasks never meet: replicas would drift apart. Give fit the model itself, "
                         "and total=training.distributed.Processes().")
