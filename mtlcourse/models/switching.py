"""Task switching network: one encoder and one decoder for all tasks, told by a code which task it is.

Imports `files`, `tasks`, `models.base`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..files import part
from ..tasks import Problem
from .base import Encoder, MTLModel

SLOPE = 0.2  # of the leaky rectifiers of the embedding


class TSN(MTLModel):
    """Task switching network: everything is shared but the last layer, and a task's code switches it.

    prediction of task t: `h_t(d(f_S(x); w_t))`. An embedding network turns a fixed code of the task, orthogonal to
    those of the others, into w_t. Every block of the decoder d is conditioned on w_t: a layer, a normalisation,
    then a scale and a shift for each channel that are linear in w_t. Adding a task adds no parameters but
    those of its last layer h_t. (In the source that layer is shared too; fewer channels than it has are
    averages over neighbouring ones.)

    A task with one answer a pixel is decoded from the deepest map to the shallowest. Each map passes a
    conditioned 1 x 1 convolution, is joined to what comes from below, enlarged to its size, and both pass a
    conditioned 3 x 3 convolution. One more follows at the size of the input; h_t is a 1 x 1 convolution.
    A task with one answer a sample has nothing to decode: its decoder is one conditioned block on the last
    representation, normalised over all features of a sample, because the means of single channels are
    what its head reads. This case is not in the source.

    latent: length of the codes and of w_t.  layers: how many the embedding network has.
    widths: channels of the 3 x 3 blocks, deepest first, one for each stage; by default those of the maps that
        they join, and of the shallowest map for the last. The source, on a ResNet-18, has (512, 256, 256, 128, 64).
    The embedding's weights start at the scale that its rectifiers keep (He); the source rescales at run time.
    Raises ValueError for more tasks than codes can tell apart, a wrong number of widths, and stages whose
    outputs cannot be decoded.
    Source: Task Switching Network for Multi-Task Learning, and the authors' public code.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, latent: int = 512, layers: int = 8,
                 widths: Sequence[int] | None = None):
        super().__init__(problem, encoder)
        if len(self.tasks) > latent or layers < 1:
            raise ValueError(f"latent={latent} and layers={layers}: the codes of {len(self.tasks)} tasks need at least "
                             "as many numbers, and the embedding network at least one layer.")
        self.shared = self.new_encoder("shared")
        shapes = self.shared.shapes[1:]
        self.register_buffer("codes", orthogonal_codes(len(self.tasks), latent))
        with part("embedding"):
            self.embedding = embedding(latent, layers)
        self.dense = [task.name for task in self.tasks if task.dense]
        if self.dense:
            with part("decoder"):
                self.decoder = ConditionedDecoder(shapes, self.input_shape[-2:], latent, widths)
        if len(self.dense) < len(self.tasks):
            with part("block"):
                self.block = _whole(shapes[-1], latent)
        self.heads = nn.ModuleDict()
        for task in self.tasks:
            with part(f"head.{task.name}"):
                self.heads[task.name] = (nn.Conv2d(self.decoder.channels, task.out_channels, 1) if task.dense
                                         else self._decoder(task, shapes[-1], self.input_shape))

    def route(self, task: str) -> list[nn.Module]:
        conditioned = self.decoder if task in self.dense else self.block
        return [*self.shared.stages, self.embedding, conditioned, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        outputs = []
        for stage in self.shared.stages:
            x = stage(x)
            outputs.append(x)
        w = dict(zip(self.task_names, self.embedding(self.codes), strict=True))
        return {name: self.leave(name, self.decoder(outputs, w[name]) if name in self.dense
                                 else self.block(x, w[name])) for name in tasks}


def orthogonal_codes(tasks: int, latent: int) -> Float[Tensor, "tasks latent"]:
    """One code a task, of mean square one: the same number at places that no other task uses, zero elsewhere.

    >>> orthogonal_codes(4, 8)[1].tolist()
    [0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    """
    places = latent // tasks
    codes = torch.eye(tasks).repeat_interleave(places, 1) * (latent / places) ** 0.5
    return nn.functional.pad(codes, (0, latent - tasks * places))


def embedding(latent: int, layers: int) -> nn.Sequential:
    """The embedding network: `layers` linear layers, each with a leaky rectifier."""
    modules: list[nn.Module] = []
    for _ in range(layers):
        linear = nn.Linear(latent, latent)
        nn.init.kaiming_normal_(linear.weight, a=SLOPE)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*modules)


class Conditioned(nn.Module):
    """A layer, a normalisation without parameters, and a scale and a shift for each channel, linear in w.

    `LeakyReLU(a(w) * norm(layer(z)) + b(w))`; for w = 0, a is one and b zero.
    channels: that the layer gives.  latent: length of w.
    """

    def __init__(self, layer: nn.Module, norm: nn.Module, channels: int, latent: int):
        super().__init__()
        self.layer, self.norm, self.style = layer, norm, nn.Linear(latent, 2 * channels)
        with torch.no_grad():
            self.style.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def forward(self, z: Float[Tensor, "batch _ *pixels"],
                w: Float[Tensor, "latent"]) -> Float[Tensor, "batch _ *pixels"]:
        z = self.norm(self.layer(z))
        scale, shift = self.style(w).view(2, -1, *[1] * (z.dim() - 2))
        return nn.functional.leaky_relu(scale * z + shift)


class ConditionedDecoder(nn.Module):
    """From the maps behind all stages to one at the size of the input, see `TSN`.

    shapes: of one sample behind each stage.  size: height and width of the input.  channels: of the result.
    """

    def __init__(self, shapes: Sequence[Sequence[int]], size: Sequence[int], latent: int,
                 widths: Sequence[int] | None = None):
        super().__init__()
        if any(len(shape) != 3 or shape[1] * shape[2] < 2 for shape in shapes):
            raise ValueError(f"A task switching network decodes dense tasks from the maps behind all stages, of two "
                             f"pixels or more, but these have the shapes {list(shapes)}. Use an encoder whose stages "
                             "all give maps, such as 'conv' without `features`, and fewer strides.")
        channels = [shape[0] for shape in shapes]
        if widths is None:
            widths = [*channels[-2::-1], channels[0]]
        if len(widths) != len(shapes):
            raise ValueError(f"widths={list(widths)} has {len(widths)} channel counts; the decoder has one block for "
                             f"each of the encoder's {len(shapes)} stages.")
        self.sizes = [*(tuple(shape[1:]) for shape in shapes[-2::-1]), tuple(size)]
        self.skips = nn.ModuleList(_conv(count, count, 1, latent) for count in channels[::-1])
        below, beside = [channels[-1], *widths[:-1]], [*channels[-2::-1], 0]
        self.joins = nn.ModuleList(_conv(a + b, width, 3, latent)
                                   for a, b, width in zip(below, beside, widths, strict=True))
        self.channels = widths[-1]

    def forward(self, maps: Sequence[Tensor],
                w: Float[Tensor, "latent"]) -> Float[Tensor, "batch channels height width"]:
        z, *sides = [skip(side, w) for skip, side in zip(self.skips, reversed(maps), strict=True)]
        for number, (join, size) in enumerate(zip(self.joins, self.sizes, strict=True)):
            z = nn.functional.interpolate(z, size, mode="bilinear", align_corners=False)
            z = join(torch.cat([z, *sides[number : number + 1]], 1), w)
        return z


def _conv(incoming: int, outgoing: int, kernel: int, latent: int) -> Conditioned:
    layer = nn.Conv2d(incoming, outgoing, kernel, padding=kernel // 2)
    return Conditioned(layer, nn.InstanceNorm2d(outgoing), outgoing, latent)


def _whole(shape: Sequence[int], latent: int) -> Conditioned:
    """The conditioned block on a last representation, for tasks with one answer a sample."""
    if len(shape) not in (1, 3):
        raise ValueError("A task switching network conditions vectors and maps, but the encoder ends in "
                         f"{tuple(shape)}; flatten that in its last stage.")
    layer = nn.Linear(shape[0], shape[0]) if len(shape) == 1 else nn.Conv2d(shape[0], shape[0], 1)
    return Conditioned(layer, nn.GroupNorm(1, shape[0], affine=False), shape[0], latent)
