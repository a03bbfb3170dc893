"""All configurations of an alignment space in one network with shared weights.

Imports `data`, `files`, `models`, its folder's `space`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...data import DomainView
from ...encoders import StagedEncoder
from ...files import is_number, part
from ...models.aligned import DomainModel, Seen
from .space import BACKBONE, SIZES, AlignmentSpace, Configuration, cell


class Cell(nn.Module):
    """`dropout(relu(norm(linear(x)))) + skip`, with a skip from the cell's input, its linear layer or its norm.

    So the skip passes by all that comes after its start. From the input to an output of half the width it goes through
    a linear projection, which the source does not print.
    inputs, outputs: widths.  Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.3.1.
    """

    def __init__(self, inputs: int, outputs: int, dropout: float | int):
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)
        self.after = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))
        self.project = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Float[Tensor, "n inputs"], skip: str) -> Float[Tensor, "n outputs"]:
        linear = self.linear(x)
        norm = self.norm(linear)
        start = self.project(x) if skip == "input" else linear if skip == "linear" else norm
        return self.after(norm) + start


class AlignmentNetwork(DomainModel):
    """Backbone, cells and classifier, run in one configuration at a time; configurations share all they agree on.

    Cell k has a `Cell` for each pair of widths that its input and output can have; all configurations in which it has
    these use it, whatever their skips and connections. The classifier has a linear layer for each width.

    configuration: the one that runs now, plain data; to change it, `take` another.
    aligned: how many features are aligned in this configuration.
    encoder: as for other domain models.  cells, tied: of the space of configurations, see `AlignmentSpace`.
    dropout: rate in the cells, not printed.
    Raises ValueError where N halvings would leave less than one feature, and for a rate outside 0 to 1.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.3.1.
    """

    def __init__(self, view: DomainView, encoder: Mapping | StagedEncoder | None = None, cells: Any = 3,
                 tied: Any = False, dropout: float | int = 0.1):
        super().__init__(view, encoder)
        self.space = AlignmentSpace(cells, tied)
        if not is_number(dropout) or not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout!r} is no rate from 0 to below 1.")
        if self.width < 2**self.space.cells:
            raise ValueError(f"The backbone has {self.width} features, and {self.space.cells} cells may halve them as "
                             "many times: use fewer cells, or a wider backbone.")
        self.cells = nn.ModuleDict()
        outputs = {BACKBONE: {self.width}}
        for k in range(self.space.cells):
            outputs[cell(k)] = set()
            sources = self.space.choices[f"input_{k}"] if k else (BACKBONE,)
            for inputs in sorted(set().union(*(outputs[name] for name in sources))):
                for size in SIZES:
                    width = _sized(inputs, size)
                    outputs[cell(k)].add(width)
                    with part(f"{cell(k)}.{inputs}.{width}"):
                        self.cells[_key(k, inputs, width)] = Cell(inputs, width, dropout)
        self.heads = nn.ModuleDict()
        for width in sorted(set().union(*(outputs[cell(k)] for k in range(self.space.cells)))):
            with part(f"head.{self.task.name}.{width}"):
                self.heads[str(width)] = nn.Linear(width, self.task.out_channels)
        self.at_classifier = False
        self.take(self.space[0])

    def take(self, configuration: Any) -> None:
        """Run in this configuration from now on; a table of choices or a number, as `AlignmentSpace.check` takes it."""
        self.configuration: Configuration = self.space.check(configuration)
        self.align_at_classifier(self.at_classifier)

    def align_at_classifier(self, wanted: bool) -> None:
        """Let `look` see the features that the classifier takes, wherever the configuration aligns, or no longer."""
        self.at_classifier = wanted
        self.aligned = widths(self.space, self.configuration, self.width)[self._aligned()]

    def _aligned(self) -> str:
        end = self.space.classified if self.at_classifier else self.space.aligned
        return cell(end(self.configuration))

    def look(self, x: Tensor) -> Seen:
        outputs = self.outputs(self.backbone(x))
        classified = outputs[cell(self.space.classified(self.configuration))]
        return Seen(outputs[self._aligned()], self.head()(classified))

    def outputs(self, h: Float[Tensor, "n width"]) -> dict[str, Tensor]:
        """`{"backbone": h, "cell_0": ..., ...}`, of the cells that are needed, from the backbone's features h."""
        found = {BACKBONE: h}
        for name, (source, module, skip) in self.wiring().items():
            found[name] = module(found[source], skip)
        return found

    def wiring(self) -> dict[str, tuple[str, nn.Module, str]]:
        """Of each needed cell, in order, whose output it takes, the module that it is, and where its skip starts.

        Needed are those on the way to what is aligned or classified; others cost nothing and learn nothing.
        """
        ends = self.space.aligned(self.configuration), self.space.classified(self.configuration)
        width, found = widths(self.space, self.configuration, self.width), {}
        for k in sorted({k for end in ends for k in self.space.path(self.configuration, end)}):
            source = self.space.source(self.configuration, k)
            module = self.cells[_key(k, width[source], width[cell(k)])]
            found[cell(k)] = source, module, self.configuration[f"skip_{k}"]
        return found

    def head(self) -> nn.Module:
        """The classifier's layer."""
        width = widths(self.space, self.configuration, self.width)
        return self.heads[str(width[cell(self.space.classified(self.configuration))])]

    def running(self) -> list[nn.Module]:
        """The modules that the configuration uses."""
        return [self.backbone, *(module for _, module, _ in self.wiring().values()), self.head()]

    # The configuration is a part of what was learned: a copy of the weights alone would run another network.
    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.space.picks(self.configuration))

    def set_extra_state(self, state: Tensor) -> None:
        self.take(self.space.named(state.tolist()))


def widths(space: AlignmentSpace, configuration: Configuration, width: int) -> dict[str, int]:
    """How wide each output is, by its name, behind a backbone with `width` features."""
    found = {BACKBONE: width}
    for k in range(space.cells):
        found[cell(k)] = _sized(found[space.source(configuration, k)], configuration[f"size_{k}"])
    return found


def _sized(width: int, size: str) -> int:
    return width if size == "same" else width // 2


def _key(k: int, inputs: int, outputs: int) -> str:
    return f"{cell(k)}-{inputs}-{outputs}"
