"""All mixed edges that leave one state of a cell, computed together. Imports `search.cells.operations`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .operations import KERNELS, SKIP, dilation_of, even_sides, padding

POOLS = ("max_pool_3x3", "avg_pool_3x3")


class Fan(nn.Module):
    """The edges from one state to T nodes: `f_t(x) = sum over operations o of w_to o_t(x)`.

    The same as T times eight modules, in fewer and larger pieces, because small maps cost a processor more in calls
    than in arithmetic:
    - poolings and the skip have no weights, so all edges share them;
    - of each kind of convolution all edges' depthwise ones are one call, and so are the 1 x 1 convolutions and norms of
      all kinds;
    - an edge's weight is what its batch norm multiplies by, so that weighing takes no pass over the maps of its own.

    A row is one operation of one edge; rows stand in the order of operations, then of nodes.
    channels: of the state.  stride: of its edges.  operations: what the columns of the weights stand for.
    allowed: for each node, the operations that its edge may have, one at least besides "none"; others are not made.
    """

    first_scale: Tensor
    second_scale: Tensor
    reduce_scale: Tensor
    corner: Tensor

    def __init__(self, channels: int, stride: int, operations: Sequence[str], allowed: Sequence[Sequence[str]]):
        super().__init__()
        self.channels, self.stride, self.operations, self.targets = channels, stride, list(operations), len(allowed)
        self.rows = {name: [t for t, names in enumerate(allowed) if name in names] for name in operations}
        kinds = [name for name in KERNELS if self.rows.get(name)]
        self.twice = [name for name in kinds if dilation_of(name) == 1]
        self.once = [name for name in kinds if dilation_of(name) == 2]
        self.pools = [name for name in POOLS if self.rows.get(name)]
        self.first = nn.ModuleDict({name: self._depthwise(name, stride) for name in [*self.twice, *self.once]})
        self.second = nn.ModuleDict({name: self._depthwise(name, 1) for name in self.twice})
        self.first_pointwise, self.first_norm = self._pointwise([*self.twice, *self.once])
        self.second_pointwise, self.second_norm = self._pointwise(self.twice)
        self.pool_norm = nn.BatchNorm2d(channels * len(self.pools), affine=False)
        self._scale("first_scale", self.once)
        self._scale("second_scale", self.twice)
        self.halves = stride == 2 and bool(self.rows.get(SKIP))
        if self.halves:
            outgoing = channels * len(self.rows[SKIP])
            self.reduce = nn.Conv2d(channels, outgoing, 1, bias=False)
            self.reduce_norm = nn.BatchNorm2d(outgoing, affine=False)
            corner = torch.zeros(channels, 1, 2, 2)  # half of the channels look at the even pixels, half at the odd
            corner[: channels // 2, 0, 0, 0] = corner[channels // 2 :, 0, 1, 1] = 1.0
            self.register_buffer("corner", corner.repeat(len(self.rows[SKIP]), 1, 1, 1), persistent=False)
            self._scale("reduce_scale", [SKIP])

    def _count(self, names: Sequence[str]) -> int:
        return sum(len(self.rows[name]) for name in names)

    def _depthwise(self, name: str, stride: int) -> nn.Module:
        """Dilated at stride 2 they see every second pixel only: the same as without both on those pixels."""
        channels, kernel, dilation = self.channels * self._count([name]), KERNELS[name], dilation_of(name)
        stride, dilation = (1, 1) if stride == dilation == 2 else (stride, dilation)
        return nn.Conv2d(channels, channels, kernel, stride, padding(kernel, dilation), dilation, groups=channels,
                         bias=False)

    def _pointwise(self, names: Sequence[str]) -> tuple[nn.Module, nn.Module]:
        rows = self._count(names)
        if not rows:
            return nn.Identity(), nn.Identity()
        channels = rows * self.channels
        return nn.Conv2d(channels, channels, 1, groups=rows, bias=False), nn.BatchNorm2d(channels, affine=False)

    def _scale(self, name: str, operations: Sequence[str]) -> None:
        """Where the weights of these operations' rows stand, for each of their channels."""
        places = [t * len(self.operations) + self.operations.index(o) for o in operations for t in self.rows[o]]
        index = torch.tensor(places, dtype=torch.long).repeat_interleave(self.channels)
        self.register_buffer(name, index, persistent=False)

    def forward(self, x: Float[Tensor, "batch channels height width"], weights: Float[Tensor, "nodes operations"],
                dropout: float | int = 0.0) -> list[Float[Tensor, "batch channels smaller_height smaller_width"]]:
        """The T sums. dropout: rate of skips at stride 1, of each edge by itself, while training."""
        sums: list[list[Tensor]] = [[] for _ in range(self.targets)]
        self._plain(x, weights, dropout if self.training else 0.0, sums)
        flat = weights.flatten()
        rectified = F.relu(x)
        if self.halves:
            maps = F.conv2d(even_sides(rectified), self.reduce.weight * self.corner, stride=2)
            self._add(weighted(maps, self.reduce_norm, flat[self.reduce_scale]), [SKIP], sums)
        if self.first:
            self._convolutions(rectified, flat, sums)
        return [sum(pieces[1:], pieces[0]) for pieces in sums]

    def _plain(self, x: Tensor, weights: Tensor, dropout: float | int, sums: list[list[Tensor]]) -> None:
        """Poolings, and the skip at stride 1."""
        parts = []
        if self.pools:
            pooled = [F.max_pool2d(x, 3, self.stride, 1) if name == "max_pool_3x3" else
                      F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False) for name in self.pools]
            parts = list(zip(self.pools, self.pool_norm(torch.cat(pooled, 1)).split(self.channels, 1), strict=True))
        if self.stride == 1 and self.rows.get(SKIP):
            parts.append((SKIP, x))
        for name, maps in parts:
            column = weights[:, self.operations.index(name)].unbind()
            for t in self.rows[name]:
                sums[t].append(column[t] * (F.dropout(maps, dropout) if name == SKIP and dropout else maps))

    def _convolutions(self, x: Tensor, flat: Tensor, sums: list[list[Tensor]]) -> None:
        seen = {1: x, 2: x[:, :, :: self.stride, :: self.stride]}
        maps = torch.cat([layer(torch.cat([seen[dilation_of(name)]] * self._count([name]), 1))
                          for name, layer in self.first.items()], 1)
        halfway = self.channels * self._count(self.twice)
        scale = torch.cat([flat.new_ones(halfway), flat[self.first_scale]])
        maps = weighted(self.first_pointwise(maps), self.first_norm, scale)
        widths = [self.channels * self._count([name]) for name in self.twice]
        *parts, done = maps.split([*widths, maps.shape[1] - halfway], 1)
        self._add(done, self.once, sums)
        if self.twice:
            maps = torch.cat([layer(F.relu(part)) for part, layer in zip(parts, self.second.values(), strict=True)], 1)
            maps = weighted(self.second_pointwise(maps), self.second_norm, flat[self.second_scale])
            self._add(maps, self.twice, sums)

    def _add(self, maps: Tensor, names: Sequence[str], sums: list[list[Tensor]]) -> None:
        targets = [t for name in names for t in self.rows[name]]
        for t, piece in zip(targets, maps.split(self.channels, 1), strict=bool(targets)):
            sums[t].append(piece)


def weighted(x: Tensor, norm: nn.Module, scale: Float[Tensor, "rows_times_channels"]) -> Tensor:
    """Batch norm, then each channel times its scale."""
    return F.batch_norm(x, norm.running_mean, norm.running_var, scale, None, norm.training, norm.momentum, norm.eps)
