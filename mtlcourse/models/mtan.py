"""MTAN: one shared encoder, and attention modules that pick each task's features out of it.

Imports `encoders`, `models.base`, `models.mixing`.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..files import part
from ..tasks import Problem
from .base import Encoder, MTLModel
from .mixing import group_norm, stages_after

Map = Float[Tensor, "batch _ _ _"]


class MTAN(MTLModel):
    """Multi-task attention network: a shared encoder whose maps each task multiplies by masks of its own.

    With z_k the shared map behind stage k, a_tk what task t takes of it, and l the attended stage before k:
    `a_tk = M_tk([z_k; f_k(a_tl)]) * z_k`, a mask M in (0, 1) for every sample, channel and pixel; the first M_t sees
    z_k alone. `f_k` is one convolutional block for all tasks that brings the former features to z_k's shape. The head
    of task t sees the last a_tk; stages behind it, if any, are shared and applied to each task's a_tk.

    With masks that are all ones it is hard parameter sharing, to the bit: the shared encoder starts as in `HPS`.

    after: the attended stages, numbered from 1. Default: all that give maps.
    Raises ValueError for an encoder without maps, for which masks by convolution are not defined, and for stages that
    are not there or give no maps.
    Source: S. Liu, E. Johns, A. J. Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019, equations 1 and
    2. There a mask looks at a map from the middle of a block; a stage shows only its output, which masks here look
    at. There batch norm comes before the sigmoid, here group norm: a mask is normalised within its own sample, so
    that how open it is on the whole is learned and hardly depends on the input. The sizes that Deep Safe Multi-Task
    Learning prints in tables 1, 2 and 4 are exactly those of attention to the four residual stages,
    `after=[2, 3, 4, 5]`; table 3 repeats table 4's.
    """

    attention: Mapping[str, nn.ModuleList]

    def __init__(self, problem: Problem, encoder: Encoder = None, after: Sequence[int] | None = None):
        super().__init__(problem, encoder)
        self.shared = self.new_encoder("shared")
        self.after = stages_after(after, self.shared, 0, True, "MTAN")
        shapes = [self.shared.shapes[k] for k in self.after]
        self.carry = nn.ModuleList()  # f_k, for all attended stages but the first
        for k, (former, shape) in zip(self.after[1:], pairwise(shapes), strict=True):
            with part(f"carry.{k}"):
                self.carry.append(Carry(former, shape[0]))
        self.attention = nn.ModuleDict({name: nn.ModuleList() for name in self.task_names})
        for name, modules in self.attention.items():
            for k, shape in zip(self.after, shapes, strict=True):
                with part(f"attention.{k}.{name}"):
                    modules.append(attention(shape, seen=shape[0] * (2 if modules else 1)))
        self.add_heads(self.shared.out_shape)

    def route(self, task: str) -> list[nn.Module]:
        modules, done = [], 0
        for i, k in enumerate(self.after):
            carry = [self.carry[i - 1]] if i else []
            modules += [*self.shared.stages[done:k], *carry, self.attention[task][i]]
            done = k
        return [*modules, *self.shared.stages[done:], self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        maps = self._maps(x)
        tail = self.after[-1] + 1
        if tail == self.shared.points:
            return {name: self._attended(name, maps, leave=True)[0] for name in tasks}
        return {name: self.leave(name, self.shared(self._attended(name, maps)[0], tail)) for name in tasks}

    def masks(self, x: Tensor) -> dict[str, list[Map]]:
        """`{task: masks of the attended stages}` for inputs x, `(batch, *input_shape)`."""
        maps = self._maps(x)
        return {name: self._attended(name, maps)[1] for name in self.task_names}

    def _maps(self, x: Tensor) -> list[Map]:
        """z_k for each attended stage."""
        maps, done = [], 0
        for k in self.after:
            x, done = self.shared(x, done + 1, k), k
            maps.append(x)
        return maps

    def _attended(self, task: str, maps: list[Map], leave: bool = False) -> tuple[Map, list[Map]]:
        """The last a_tk and all masks. With `leave` what is shared ends before the last mask."""
        masks: list[Map] = []
        a: Map
        for i, (z, module) in enumerate(zip(maps, self.attention[task], strict=True)):
            seen = [pooled(self.carry[i - 1](a), z.shape[-2:])] if i else []
            if leave and i == len(maps) - 1:
                z, *seen = (self.leave(task, shared) for shared in (z, *seen))
            masks.append(module(torch.cat([z, *seen], 1)))
            a = masks[-1] * z
        return a, masks


def attention(shape: Sequence[int], seen: int) -> nn.Sequential:
    """From a map with `seen` channels to a mask for a map of `shape`, through a quarter of its channels."""
    channels, pixels = shape[0], math.prod(shape[1:])
    width = max(channels // 4, 2)
    return nn.Sequential(
        nn.Conv2d(seen, width, 1), group_norm(width, pixels), nn.ReLU(),
        nn.Conv2d(width, channels, 1), group_norm(channels, pixels), nn.Sigmoid())


class Carry(nn.Module):
    """f_k: a residual bottleneck block from maps of shape `former` to `channels` channels."""

    def __init__(self, former: Sequence[int], channels: int):
        super().__init__()
        incoming, pixels, width = former[0], math.prod(former[1:]), max(channels // 4, 2)
        self.block = nn.Sequential(
            nn.Conv2d(incoming, width, 1, bias=False), group_norm(width, pixels), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), group_norm(width, pixels), nn.ReLU(),
            nn.Conv2d(width, channels, 1, bias=False), group_norm(channels, pixels))
        self.skip = nn.Sequential(nn.Conv2d(incoming, channels, 1, bias=False), group_norm(channels, pixels))

    def forward(self, a: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ height width"]:
        return nn.functional.relu(self.block(a) + self.skip(a))


def pooled(a: Float[Tensor, "batch channels _ _"], size: torch.Size) -> Float[Tensor, "batch channels _ _"]:
    """Maxima of `a` over as many rectangles as a map of `size` has pixels."""
    strides = [-(-old // new) for old, new in zip(a.shape[-2:], size, strict=True)]
    maxima = nn.functional.max_pool2d(a, strides, ceil_mode=True)  # a quarter of the adaptive one's time
    return maxima if maxima.shape[-2:] == size else nn.functional.adaptive_max_pool2d(a, size)
