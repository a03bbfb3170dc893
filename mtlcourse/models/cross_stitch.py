"""Cross-stitch networks: each task's features become a linear mixture of all tasks'. Imports `models.mixing`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..tasks import Problem
from .base import Encoder
from .mixing import Layer, Mixing, starting_weights


class CrossStitch(Mixing):
    """Cross-stitch network: an encoder a task, stitched together channel by channel after each stage.

    after stage k: `z_t <- sum_j w_tj * z_j`, where w_tj has a number for each channel of the stage. Vectors are mixed
    feature by feature.

    own: where training starts: w_tt = own, the rest of 1 in equal parts for the other tasks. With own=1 it is
        single-task learning to the bit, with own=1/m all tasks go on from the average.
    after: the stages that are followed by a stitch, numbered from 1. Default: all.
    channelwise: False for one number a pair of tasks in place of one a channel.
    share_first: so many stages, counted from the input, are one for all tasks.
    speed: learning rate of the units w, as a multiple of the model's. The source, which trains with SGD, does
        best with 100 to 1,000 (table 2): w is larger than other weights, and its gradients are too small to move it.
        Here the default is 1, because steps of Adam, the default optimiser, do not depend on the gradient's scale.
        Units are a group of parameters of their own, without weight decay, which would draw all that is passed on
        towards zero.
    Raises ValueError for weights outside [0, 1], a speed that is not positive, and stages that are not there.
    Source: I. Misra, A. Shrivastava, A. Gupta, M. Hebert, Cross-stitch Networks for Multi-task Learning, CVPR 2016,
    equation 1 and section 4. The sizes that Deep Safe Multi-Task Learning prints in tables 1, 2 and 4 are those of
    `channelwise=False, share_first=1`: less than single-task learning's by m - 1 first layers.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, own: float = 0.9,
                 after: Sequence[int] | None = None, channelwise: bool = True, share_first: int = 0,
                 speed: float | int = 1):
        def layers(shape: tuple[int, ...]) -> list[Layer]:
            return [lambda t: Stitch(starting_weights(own, t, len(problem.tasks)), shape[0] if channelwise else 1)]

        super().__init__(problem, encoder, layers, after, share_first=share_first, speed=speed, decays=False)

    def mixing(self) -> dict[int, Float[Tensor, "m m"]]:
        """`{stage: w}`: how much each task (rows) takes from each, on the mean over channels, as it is now."""
        return {stage: torch.stack([stitch.weight.detach().mean(1) for stitch in self.mixers[str(stage)][0].values()])
                for stage in self.after}


class Stitch(nn.Module):
    """A task's row of a cross-stitch unit: `sum_j w_j * z_j` with `weight[j, c]` for channel c of task j."""

    def __init__(self, start: Sequence[float], channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start)[:, None].repeat(1, channels))

    def forward(self, z: Float[Tensor, "m batch channels *pixels"]) -> Float[Tensor, "batch channels *pixels"]:
        weight = self.weight.expand(-1, z.shape[2])
        # einsum puts channels first in memory, which would change the last bit of the stages that follow
        return torch.einsum("jc,jbc...->bc...", weight, z).contiguous()
