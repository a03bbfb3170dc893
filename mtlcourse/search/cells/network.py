"""The derived network: cells of one genotype, one behind the other. Imports `models`, `tasks` and its folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...files import part
from ...models import MTLModel
from ...tasks import Batch, Problem, mean_losses
from .genotype import CellSpace, Genotype
from .layout import Place, auxiliary_at, layout
from .operations import OPERATIONS, Count, FactorizedReduce, build, make_stem, relu_conv_bn
from .resources import Resources


class Cell(nn.Module):
    """One cell of a derived network, from the outputs of the cell before the last and of the last.

    A node is the sum of its two edges; the cell hands on its nodes side by side.
    place: kind, channels and sides, see `Place`.  edges: of the genotype, for each node.
    """

    nodes: Sequence[nn.ModuleList]

    def __init__(self, place: Place, edges: Sequence[Sequence[tuple[str, int]]]):
        super().__init__()
        first, second = place.incoming
        self.before_last = (FactorizedReduce if place.follows_reduction else relu_conv_bn)(first, place.channels)
        self.last = relu_conv_bn(second, place.channels)
        self.sources = [[source for _, source in node] for node in edges]
        self.nodes = nn.ModuleList(nn.ModuleList(build(operation, place.channels, place.stride(source))
                                                 for operation, source in node) for node in edges)

    def forward(self, before_last: Tensor, last: Tensor, drop: float | int = 0.0) -> Tensor:
        """drop: probability with which a path is dropped for a sample (while training); skips are not."""
        states = [self.before_last(before_last), self.last(last)]
        for operations, sources in zip(self.nodes, self.sources, strict=True):
            paths = [operation(states[source]) for operation, source in zip(operations, sources, strict=True)]
            if drop and self.training:
                paths = [path if isinstance(operation, nn.Identity) else drop_path(path, drop)
                         for path, operation in zip(paths, operations, strict=True)]
            states.append(sum(paths))
        return torch.cat(states[2:], 1)


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Zero for so many samples, by chance; the others are scaled so that the mean stays."""
    keep = 1 - probability
    return x * (torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) < keep).to(x) / keep


def cutout(x: Tensor, length: int, fill: Tensor | float = 0.0) -> Tensor:
    """A square of `length` pixels a side is blanked in each image; its centre is any pixel, so it may stick out.

    fill: what stands there instead, one number or one a channel.
    Source: T. DeVries, G. W. Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.
    """
    inside = []
    for size in x.shape[-2:]:
        distance = torch.arange(size, device=x.device) - torch.randint(size, (len(x), 1), device=x.device)
        inside.append((distance >= -(length // 2)) & (distance < length - length // 2))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(square, torch.as_tensor(fill, dtype=x.dtype, device=x.device).reshape(-1, 1, 1), x)


class CellNetwork(MTLModel):
    """What a search has found, as a network: a stem, cells of a genotype, a head a task.

    Reduction cells stand at a third and at two thirds of the depth and double the channels; all other cells are
    normal. Batch norms have weights of their own. While training:
    - a square is cut out of each image (`cutout`), which here is part of the network and not of the data;
    - paths are dropped for single samples, with a probability that rises linearly with the epochs from 0 to `drop_path`
      (`prepare` says how many there are; without, it is the full one from the start);
    - an auxiliary head on the second reduction cell's output adds its weighted loss (`auxiliary_loss`): ReLU, average
      pooling to 2 x 2 pixels, 1 x 1 convolution to 128, 2 x 2 convolution to 768, each with norm and ReLU, linear.

    genotype: or its plain data.
    cells, channels: of the network, and of the first cells' nodes.  stem: the stem has `stem * channels`.
    auxiliary: whether there is that head; auxiliary_weight: of its loss.
        The source pools 5 x 5 windows at stride 3, which makes 2 x 2 of the 8 x 8 pixels that images of 32 x 32 leave.
        Where that does not give 2 x 2 (maps smaller than 8 or larger than 10 pixels), as even windows as there are
        do: adaptive average pooling. So the head has the same parameters on all images.
    cutout: side of the square as a share of the image's smaller side; 0.5 is the source's 16 of 32 pixels.
    mean, std: by channel: images are normalised with them on their way in, after `(image - mean) / std` a blank is 0.
    operations: of the space that the genotype is from.
    Raises ValueError for a genotype from another space, images that are too small, and shares that are none.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 3.3.2.3; DARTS: Differentiable
    Architecture Search, section 3 and appendix; with the genotype `DARTS_V2`, 32 x 32 pixels and 10 classes it has the
    3,349,342 parameters of the authors' network.
    """

    def __init__(self, problem: Problem, genotype: Genotype | Mapping[str, Any], cells: int = 20, channels: int = 36,
                 stem: int = 3, auxiliary: bool = True, auxiliary_weight: float | int = 0.4,
                 drop_path: float | int = 0.2, cutout: float | int = 0.5, mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None, operations: Sequence[str] = OPERATIONS):
        super().__init__(problem)
        for name, value, limit in (("drop_path", drop_path, 1.0), ("cutout", cutout, 2.0)):
            if not 0 <= value < limit:
                raise ValueError(f"{name}={value!r} must be from 0 to below {limit:g}.")
        self.genotype = genotype if isinstance(genotype, Genotype) else Genotype.from_dict(genotype)
        self.space = CellSpace(self.genotype.nodes, tuple(operations))
        self.space.check(self.genotype)
        self.sizes = {"cells": cells, "channels": channels, "stem": stem}
        self.places = layout(cells, channels, self.space.nodes, stem, problem.input_shape)
        self.drop_path, self.auxiliary_weight, self.epochs = drop_path, auxiliary_weight, 1
        self.length = round(cutout * min(problem.input_shape[1:]))
        self.fill = 0.0 if mean is None else torch.tensor(mean)
        with part("stem"):
            self.stem = make_stem(problem.input_shape[0], stem * channels, True, mean, std)
        self.cells = nn.ModuleList()
        for number, place in enumerate(self.places):
            with part(f"cell.{number}"):
                self.cells.append(Cell(place, self.genotype.cell(place.reduction)))
        self.add_heads((self.space.nodes * self.places[-1].channels, *self.places[-1].out))
        self.auxiliary_heads = nn.ModuleDict()
        if auxiliary:
            place = self.places[auxiliary_at(cells)]
            for task in self.tasks:
                if task.dense:
                    raise ValueError(f"Task {task.name!r} predicts every pixel, for which there is no auxiliary head: "
                                     "use auxiliary=False.")
                with part(f"auxiliary.{task.name}"):
                    self.auxiliary_heads[task.name] = auxiliary_head(
                        self.space.nodes * place.channels, place.out, task.out_channels)
        self.auxiliaries: dict[str, Tensor] = {}  # the auxiliary heads' predictions of the last forward pass
        self.register_buffer("done", torch.tensor(0))  # epochs, kept with the checkpoint

    def route(self, task: str) -> list[nn.Module]:
        auxiliary = [self.auxiliary_heads[task]] if task in self.auxiliary_heads else []
        return [self.stem, *self.cells, *auxiliary, self.heads[task]]

    def forward(self, inputs: Tensor | Mapping[str, Tensor], tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        self.auxiliaries = {}
        return super().forward(inputs, tasks)

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        if self.training and self.length:
            x = cutout(x, self.length, self.fill)
        before_last = last = self.stem(x).contiguous(memory_format=torch.channels_last)
        for number, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last, self.drop)
            if number == auxiliary_at(len(self.cells)) and self.training:
                self.auxiliaries |= {name: self.auxiliary_heads[name](last) for name in tasks
                                     if name in self.auxiliary_heads}
        return {name: self.leave(name, last) for name in tasks}

    @property
    def drop(self) -> float | int:
        """The probability that drops a path in this epoch."""
        return self.drop_path * min(int(self.done) / self.epochs, 1.0) if self.epochs > 1 else self.drop_path

    def prepare(self, epochs: int) -> None:
        """Say over how many epochs the paths' probability rises."""
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, mean_losses: Mapping[str, float]) -> None:
        self.done.fill_(epoch)

    def auxiliary_loss(self, batch: Batch, predictions: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the auxiliary heads' losses; zero outside of training."""
        losses = mean_losses(self.tasks, self.auxiliaries, batch)
        zero = next(iter(predictions.values())).new_zeros(())
        return self.auxiliary_weight * sum(losses.values(), zero)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "auxiliaries": {}}

    def counts(self, counting: str = "multiply-adds") -> Count:
        """Parameters and multiply-adds for one sample, without auxiliary heads."""
        return Resources(self.space, **self.sizes, input_shape=self.input_shape,
                         classes=[task.out_channels for task in self.tasks], counting=counting).counts(self.genotype)


def auxiliary_head(channels: int, side: tuple[int, int], classes: int) -> nn.Module:
    """From a map of `side` to classes, see `CellNetwork`."""
    printed = all((size - 5) // 3 == 1 for size in side)
    pool = nn.AvgPool2d(5, stride=3, count_include_pad=False) if printed else nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(nn.ReLU(), pool, nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
                         nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU(), nn.Flatten(),
                         nn.Linear(768, classes))
