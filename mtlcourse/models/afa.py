"""Adaptive feature aggregation: how much tasks share depends on the input. Imports `models.mixing`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..tasks import Problem
from .base import Encoder
from .mixing import Layer, Mixing, starting_weights


class AFA(Mixing):
    """Adaptive feature aggregation: an encoder a task, mixed by attention along channels, then along pixels.

    after stage k: `z_t <- sum_j c_tj * z_j`, then `z_t <- sum_j s_tj * z_j`. The weights c_tj of a sample have a number
    for each channel, s_tj one for each pixel; both are softmax over the tasks j of what all tasks' features say:
    `c_t = softmax(V_t relu(U_t [mean z_1; ...; mean z_m]))` with means over pixels, and
    `s_t = softmax(conv_t [mean z_1; ...; mean z_m])` with means over channels and a 7 x 7 convolution.

    own: where training starts: the share of a task's own features in each of the two, on which the input then acts.
    after: the stages that are followed by such a layer, numbered from 1. Default: all that give maps.
    Raises ValueError for an encoder without maps, which have no pixels to attend to, for shares outside (0, 1) and for
    stages that are not there or give no maps.
    Source: C. Cui, Z. Shen, J. Huang, M. Chen, M. Xu, M. Wang, Y. Yin, Adaptive Feature Aggregation in Deep
    Multi-task Convolutional Neural Networks, IEEE TCSVT 2021. The article could not be had: this is reconstructed
    from its abstract and from the authors' program for two tasks, and differs from that in four ways. Any number of
    tasks; each task has weights of its own, as an older version of the program has it (the last version has one pair,
    for "self" and "other"); pixels are attended to by the older version's convolution, not by matrices as large
    as the square of the number of pixels, which tie a model to one image size; and training starts near own features.
    The sizes that Deep Safe Multi-Task Learning prints in tables 1 to 4 follow from no reading that was tried; those
    with ResNet-18 are the largest, which a layer whose size depends on channels and tasks alone cannot give.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, own: float = 0.9,
                 after: Sequence[int] | None = None):
        if not 0 < own < 1:
            raise ValueError(f"own={own!r}: a softmax starts between 0 and 1, both excluded.")

        def start(t: int) -> Float[Tensor, "m"]:
            return torch.tensor(starting_weights(own, t, len(problem.tasks))).log()

        def layers(shape: tuple[int, ...]) -> list[Layer]:
            return [lambda t: ChannelAggregation(start(t), shape[0]), lambda t: PixelAggregation(start(t))]

        super().__init__(problem, encoder, layers, after, maps=True)


class ChannelAggregation(nn.Module):
    """`sum_j c_j * z_j` with weights c, for each sample and channel, from the means of all tasks' maps.

    start: `(m,)`, the logits of c if the input said nothing.
    """

    def __init__(self, start: Float[Tensor, "m"], channels: int):
        super().__init__()
        m, hidden = len(start), max(channels // 8, 32)
        self.squeeze = nn.Linear(m * channels, hidden)
        self.choose = nn.Linear(hidden, m * channels)
        with torch.no_grad():
            self.choose.bias.copy_(start.repeat_interleave(channels))

    def weights(self, z: Float[Tensor, "m batch channels h w"]) -> Float[Tensor, "batch m channels"]:
        means = z.mean((3, 4)).transpose(0, 1)
        logits = self.choose(self.squeeze(means.flatten(1)).relu())
        return logits.view_as(means).softmax(1)

    def forward(self, z: Float[Tensor, "m batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
        return torch.einsum("bjc,jbchw->bchw", self.weights(z), z).contiguous()  # as the stages behind expect it


class PixelAggregation(nn.Module):
    """`sum_j s_j * z_j` with weights s, for each sample and pixel, from the channel means of all tasks.

    start: `(m,)`, the logits of s if the input said nothing.
    """

    def __init__(self, start: Float[Tensor, "m"]):
        super().__init__()
        self.conv = nn.Conv2d(len(start), len(start), 7, padding=3)
        with torch.no_grad():
            self.conv.bias.copy_(start)

    def weights(self, z: Float[Tensor, "m batch channels h w"]) -> Float[Tensor, "batch m h w"]:
        return self.conv(z.mean(2).transpose(0, 1)).softmax(1)

    def forward(self, z: Float[Tensor, "m batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
        return torch.einsum("bjhw,jbchw->bchw", self.weights(z), z).contiguous()  # as the stages behind expect it
