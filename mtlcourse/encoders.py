"""Staged encoders, and the decoders ("heads") that sit on them.

Imports `files` and `tasks`. An encoder is a list of stages, the "modules" of the papers, applied in
turn; sharing architectures decide, stage by stage, what tasks have in common.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .files import unknown
from .tasks import Task


class StagedEncoder(nn.Module):
    """Stages applied in turn, numbered from 1 as in the papers.

    With P - 1 stages there are P branch points: p = 1 lies before the first stage (nothing shared),
    p = P behind the last (everything shared).

    stages: the modules.  input_shape: shape of one sample, without the batch.
    shapes[p - 1]: shape of one sample at branch point p; `out_shape` is the last of them.
    Raises ValueError when there is no stage or when a stage cannot take what the one before gives.
    """

    def __init__(self, stages: Sequence[nn.Module], input_shape: Sequence[int]):
        super().__init__()
        if not stages:
            raise ValueError("An encoder needs at least one stage; the list of stages is empty.")
        self.stages = nn.ModuleList(stages)
        self.shapes = [tuple(input_shape)]
        for number, stage in enumerate(self.stages, start=1):
            self.shapes.append(_output_shape(stage, self.shapes[-1], number))

    @property
    def points(self) -> int:
        """P, the number of branch points."""
        return len(self.stages) + 1

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.shapes[-1]

    def forward(self, x: Tensor, first: int = 1, last: int | None = None) -> Tensor:
        """Apply stages `first` to `last`, both included; nothing when `last < first`."""
        for stage in self.stages[first - 1 : last]:
            x = stage(x)
        return x


def _output_shape(stage: nn.Module, shape: tuple[int, ...], number: int) -> tuple[int, ...]:
    # On the meta device: shapes only, no arithmetic. Two samples, since batch norm refuses one.
    state = {name: tensor.to("meta") for name, tensor in [*stage.named_parameters(), *stage.named_buffers()]}
    try:
        output = torch.func.functional_call(stage, state, (torch.empty(2, *shape, device="meta"),))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"Stage {number} of the encoder cannot take samples of shape {shape}: {error}") from error
    return tuple(output.shape[1:])


# --- builders: plain data -> StagedEncoder -----------------------------------------------------------

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


BUILDERS: dict[str, Callable[..., StagedEncoder]] = {"mlp": mlp, "conv": conv}


def build(spec: Mapping, input_shape: Sequence[int]) -> StagedEncoder:
    """The encoder that plain data describe, such as `{"name": "conv", "channels": [8, 16]}`.

    Raises ValueError for an unknown name or option, naming the known ones.

    >>> build({"name": "mlp", "widths": [5, 3]}, (4,)).shapes
    [(4,), (5,), (3,)]
    """
    options = dict(spec)
    name = options.pop("name", None)
    if name not in BUILDERS:
        raise ValueError(unknown("encoder", str(name), BUILDERS))
    known = list(inspect.signature(BUILDERS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of encoder {name!r}", option, known))
    return BUILDERS[name](input_shape, **options)


# --- decoders ----------------------------------------------------------------------------------------

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
