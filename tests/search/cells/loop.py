"""The supernet as it is usually written: a loop over edges and their operations, each a module of its own."""

import copy

import torch
from torch import Tensor, nn

from mtlcourse.search.cells.fan import Fan
from mtlcourse.search.cells.operations import KERNELS, SKIP, build
from mtlcourse.search.cells.supernet import CellSupernet, MixedCell


class LoopedFan(nn.Module):
    """A module for each operation of each edge, with the weights of `fan`."""

    def __init__(self, fan: Fan):
        super().__init__()
        self.channels, self.operations = fan.channels, fan.operations
        self.edges = nn.ModuleList(
            nn.ModuleDict({name: self._operation(fan, name, t) for name in fan.operations if t in fan.rows[name]})
            for t in range(fan.targets))

    def _operation(self, fan: Fan, name: str, t: int) -> nn.Module:
        module = build(name, fan.channels, fan.stride, affine=False)
        if "pool" in name:
            return nn.Sequential(module, nn.BatchNorm2d(fan.channels, affine=False))
        row = fan.rows[name].index(t) * fan.channels
        mine = slice(row, row + fan.channels)
        if name in KERNELS:
            convolutions = [layer for layer in module if isinstance(layer, nn.Conv2d)]
            order = [name for name in KERNELS if fan.rows.get(name)]
            before = sum(len(fan.rows[other]) for other in order[: order.index(name)]) * fan.channels
            pointwise = slice(before + row, before + row + fan.channels)
            given = [(fan.first[name], mine), (fan.first_pointwise, pointwise)]
            if name in fan.twice:
                given += [(fan.second[name], mine), (fan.second_pointwise, pointwise)]
            for convolution, (layer, part) in zip(convolutions, given, strict=True):
                convolution.weight.data = layer.weight.data[part].clone()
        if name == SKIP and fan.stride == 2:
            weight = fan.reduce.weight.data[mine]
            module.even.weight.data, module.odd.weight.data = (
                half.clone() for half in (weight[: fan.channels // 2], weight[fan.channels // 2 :]))
        return module

    def forward(self, x: Tensor, weights: Tensor, dropout: float = 0.0) -> list[Tensor]:
        columns = [dict(zip(self.operations, row.unbind(), strict=True)) for row in weights]
        return [sum(column[name] * operation(x) for name, operation in edge.items())
                for column, edge in zip(columns, self.edges, strict=True)]


def looped(supernet: CellSupernet) -> CellSupernet:
    """The same supernet with a `LoopedFan` in the place of every `Fan`."""
    other = copy.deepcopy(supernet)
    for cell in other.cells:
        assert isinstance(cell, MixedCell)
        cell.fans = nn.ModuleList(LoopedFan(fan) for fan in cell.fans)
    return other.to(next(supernet.parameters()).dtype)


def settled(supernet: nn.Module) -> None:
    """Architecture parameters that differ visibly, as after some search."""
    generator = torch.Generator().manual_seed(1)
    for parameter in supernet.architecture_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter)
