"""NDDR-CNN: all tasks' features are concatenated, and each task reduces them again. Imports `models.mixing`."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..files import unknown
from ..tasks import Problem
from .base import Encoder
from .mixing import Layer, Mixing, group_norm, starting_weights

NORMS = ("group", "none")


class NDDR(Mixing):
    """Neural discriminative dimensionality reduction: an encoder a task, fused by 1 x 1 convolutions.

    after stage k: `z_t <- relu(norm_t(W_t [z_1; ...; z_m]))`. The concatenation has m C channels, W_t is a 1 x 1
    convolution to C channels without bias, on vectors a linear map.

    own: where training starts: W_t takes each channel of task t with weight own and the same channel of the other
        tasks with the rest of 1 in equal parts. With norm="none", own=1 is single-task learning and own=1/m averaging.
    after: the stages that are followed by a fusion, numbered from 1. Default: all.
    norm: "group" (default): norm and ReLU, as in the source's layer. "none": neither, `z_t <- W_t [z_1; ...; z_m]`.
        The source has batch norm; the course has group norm everywhere, because batch statistics mix samples. Both
        have as many parameters. (Whatever the input, a group norm gives a group of channels the same mean; it is the
        ReLU that leaves something to see for a head that averages the pixels of few channels.)
    speed: learning rate of all layers W_t with their norms, as a multiple of the model's. The source trains with SGD
        from pre-trained networks and gives these new layers a larger one. Here the default is 1: with Adam, the default
        optimiser, and nothing pre-trained, all parts start alike. Weight decay acts on them as on the rest.
    Raises ValueError for weights outside [0, 1], a speed that is not positive, unknown norms, stages that are not
    there, and stages that give neither vectors nor maps.
    Source: Y. Gao, J. Ma, M. Zhao, W. Liu, A. L. Yuille, NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by
    Neural Discriminative Dimensionality Reduction, CVPR 2019, section 3. The sizes that Deep Safe Multi-Task
    Learning prints in tables 1 to 4 are exactly those of the defaults.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, own: float = 0.9,
                 after: Sequence[int] | None = None, norm: str = "group", speed: float | int = 1):
        if norm not in NORMS:
            raise ValueError(unknown("norm", str(norm), NORMS))

        def layers(shape: tuple[int, ...]) -> list[Layer]:
            if len(shape) not in (1, 3):
                raise ValueError(f"NDDR fuses vectors and maps, but a stage of this encoder gives samples of shape "
                                 f"{shape}. Leave it out of `after`, or use 'cross-stitch', which mixes any shape.")
            return [lambda t: Fusion(starting_weights(own, t, len(problem.tasks)), shape, norm == "group")]

        super().__init__(problem, encoder, layers, after, speed=speed)


class Fusion(nn.Module):
    """A task's NDDR layer: from all tasks' features of one `shape` to new ones of its own."""

    def __init__(self, start: Sequence[float], shape: tuple[int, ...], norm: bool):
        super().__init__()
        channels = shape[0]
        incoming = len(start) * channels
        self.reduce = (nn.Linear(incoming, channels, bias=False) if len(shape) == 1 else
                       nn.Conv2d(incoming, channels, 1, bias=False))
        self.norm = group_norm(channels, math.prod(shape[1:])) if norm else nn.Identity()
        self.activation = nn.ReLU() if norm else nn.Identity()
        with torch.no_grad():
            weights = torch.cat([weight * torch.eye(channels) for weight in start], 1)
            self.reduce.weight.copy_(weights.view_as(self.reduce.weight))

    def forward(self, z: Float[Tensor, "m batch channels *pixels"]) -> Float[Tensor, "batch channels *pixels"]:
        return self.activation(self.norm(self.reduce(z.transpose(0, 1).flatten(1, 2))))
