"""Small encoders for small inputs: fully connected and convolutional stages. Imports `staged`."""

import math
from collections.abc import Sequence

from torch import nn

from .staged import StagedEncoder


def mlp(input_shape: Sequence[int], widths: Sequence[int] = (64, 64), dropout: float = 0.0) -> StagedEncoder:
    """Fully connected stages (linear, ReLU and, if asked for, dropout), one a width; images are flattened."""
    stages: list[nn.Module] = []
    incoming = math.prod(input_shape)
    for width in widths:
        layers: list[nn.Module] = [nn.Flatten()] if not stages and len(input_shape) > 1 else []
        layers += [nn.Linear(incoming, width), nn.ReLU()]
        stages.append(nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else [])))
        incoming = width
    return StagedEncoder(stages, input_shape)


def conv(input_shape: Sequence[int], channels: Sequence[int] = (16, 32, 32), strides: Sequence[int] | int = 2,
         features: int | None = None, kernel: int = 3, norm: str | None = "group") -> StagedEncoder:
    """Convolutional stages (convolution, norm, ReLU), one a channel count.

    strides: one for all stages or one a stage.  features: with a number, a last stage flattens the map
    and maps it linearly to so many features (for tasks with one answer an image, not one a pixel).
    norm: "group" norm, because batch statistics would make halves of a batch differ from the whole, or None.
    Raises ValueError for another norm or an even kernel, when the input is no image or the encoder is too deep for it.
    """
    if len(input_shape) != 3:
        raise ValueError(f"'conv' needs images (channels, height, width); this problem has inputs of shape "
                         f"{tuple(input_shape)}. Use {{'name': 'mlp', 'widths': [...]}} instead.")
    if norm not in ("group", None):
        raise ValueError(f"norm={norm!r} is not known; 'conv' has 'group' and None.")
    strides = [strides] * len(channels) if isinstance(strides, int) else list(strides)
    if len(strides) != len(channels):
        raise ValueError(f"'conv' has {len(channels)} channel counts and {len(strides)} strides; "
                         "give one stride a stage.")
    if kernel % 2 == 0:
        raise ValueError(f"'conv' has kernel={kernel}; use an odd size, so that a map keeps its place under it.")
    incoming, height, width = input_shape
    stages: list[nn.Module] = []
    for number, (outgoing, stride) in enumerate(zip(channels, strides, strict=True), start=1):
        if stride > 1 and min(height, width) == 1:
            raise ValueError(
                f"'conv' is too deep for images of {input_shape[1]} x {input_shape[2]} pixels: stage {number} would "
                f"shrink a map of {height} x {width}. Use fewer stages or stride 1.")
        normalise = [nn.GroupNorm(math.gcd(outgoing, 4), outgoing)] if norm else []
        convolve = nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, bias=not norm)
        stages.append(nn.Sequential(convolve, *normalise, nn.ReLU()))
        incoming, height, width = outgoing, -(-height // stride), -(-width // stride)
    if features is not None:
        stages.append(nn.Sequential(nn.Flatten(), nn.Linear(incoming * height * width, features), nn.ReLU()))
    return StagedEncoder(stages, input_shape)
