"""Networks that are aligned to domains without labels. Imports `data`, `encoders`, `files`, `tasks`.

They are built from a `DomainView` and train on the source's task alone; the targets are seen through their inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data import DomainView
from ..encoders import StagedEncoder, build
from ..files import is_number, is_whole, part, unknown
from ..tasks import Batch, Task


@dataclass
class Seen:
    """What a network makes of inputs: `features` (n, d), which are aligned, and `logits` (n, classes)."""

    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n classes"]


class DomainModel(nn.Module):
    """Base of networks that align domains: a subclass defines `look(x) -> Seen`.

    view: what they are built for; its data are not looked at.  encoder: as for `MTLModel`.
    task: the one task, called as the source.  backbone: the encoder, with a map averaged over its pixels; `width`
    features a sample.  aligned: how many features `look` gives, by default as many.
    """

    def __init__(self, view: DomainView, encoder: Mapping | str | StagedEncoder | None = None):
        super().__init__()
        self.task: Task = view.task
        source = view.source
        spec = source.encoder if encoder is None else encoder
        if isinstance(spec, Mapping | str):
            with part("shared"):
                spec = build(spec, source.input_shape, source.input_dtype)
        shape = spec.out_shape
        flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if len(shape) == 3 else nn.Flatten()
        self.backbone = nn.Sequential(spec, flat)
        self.width = shape[0] if len(shape) == 3 else torch.Size(shape).numel()
        self.aligned = self.width

    @property
    def task_names(self) -> list[str]:
        return [self.task.name]

    def look(self, x: Tensor) -> Seen:
        """The features that are aligned, and the logits."""
        raise TypeError(f"{type(self).__name__} must define look(x).")

    def together(self, batch: Batch, targets: Mapping[str, Tensor]) -> tuple[Seen, dict[str, Seen]]:
        """What is seen of a source batch, and of a batch of each target, in one pass.

        So a batch norm has one statistic for all domains, which is what it has when it is evaluated.
        """
        inputs = [cast(Tensor, batch.inputs), *targets.values()]
        seen, sizes = self.look(torch.cat(inputs)), [len(x) for x in inputs]
        source, *others = (Seen(*both) for both in zip(seen.features.split(sizes), seen.logits.split(sizes),
                                                       strict=True))
        return source, dict(zip(targets, others, strict=True))

    def forward(self, inputs: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """`{task: logits}` of inputs of any domain. Raises ValueError for a task that is not the source's."""
        for name in tasks or ():
            if name != self.task.name:
                raise ValueError(unknown("task", name, self.task_names))
        return {self.task.name: self.look(inputs).logits}


class Aligned(DomainModel):
    """Backbone, a bottleneck whose output is aligned, and a linear classifier.

    The bottleneck is a fully connected layer, batch norm, ReLU and dropout.
    bottleneck: its width; by default that of the backbone's features.  dropout: its rate. Neither is printed.
    Raises ValueError for a bottleneck below 1, and a rate outside 0 to 1.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.4.4.
    """

    def __init__(self, view: DomainView, encoder: Mapping | str | StagedEncoder | None = None, bottleneck: Any = None,
                 dropout: Any = 0.1):
        super().__init__(view, encoder)
        width = self.width if bottleneck is None else bottleneck
        if not is_whole(width, 1):
            raise ValueError(f"bottleneck={bottleneck!r} is no width; give a whole number from 1 upwards.")
        if not is_number(dropout) or not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout!r} is no rate from 0 to below 1.")
        self.aligned = width
        with part("bottleneck"):
            self.bottleneck = nn.Sequential(nn.Linear(self.width, width), nn.BatchNorm1d(width), nn.ReLU(),
                                            nn.Dropout(dropout))
        with part(f"head.{self.task.name}"):
            self.heads = nn.ModuleDict({self.task.name: nn.Linear(width, self.task.out_channels)})

    def look(self, x: Tensor) -> Seen:
        features = self.bottleneck(self.backbone(x))
        return Seen(features, self.heads[self.task.name](features))
