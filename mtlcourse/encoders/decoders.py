"""Decoders, the "heads" that turn a representation into one task's prediction. Imports `tasks`."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from ..tasks import Task


class DenseDecoder(nn.Module):
    """One prediction per pixel: 3 x 3 convolution, ReLU, 1 x 1 convolution, bilinear to input resolution."""

    def __init__(self, channels: int, out_channels: int, size: Sequence[int]):
        super().__init__()
        self.size = tuple(size)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, out_channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.interpolate(self.layers(features), self.size, mode="bilinear", align_corners=False)


def decoder(task: Task, shape: Sequence[int], input_shape: Sequence[int]) -> nn.Module:
    """The head of `task` on a representation of `shape`: linear, or dense at input resolution.

    A map is averaged over its pixels before a linear head, any other array is flattened. Raises ValueError
    when a dense task meets a representation without pixels.
    """
    if task.dense:
        if len(shape) != 3:
            raise ValueError(
                f"Task {task.name!r} predicts every pixel, but the encoder ends in a vector of shape {tuple(shape)}. "
                "Use an encoder that ends in a map, such as 'conv' without `features`.")
        return DenseDecoder(shape[0], task.out_channels, input_shape[-2:])
    if len(shape) == 3:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], task.out_channels))
    linear = nn.Linear(math.prod(shape), task.out_channels)
    return linear if len(shape) == 1 else nn.Sequential(nn.Flatten(), linear)
