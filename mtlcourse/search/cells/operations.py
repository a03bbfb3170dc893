"""The eight candidate operations of a cell, as modules and as counts. Imports torch and `files` only."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...files import unknown

NONE, SKIP = "none", "skip_connect"
KERNELS = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "dil_conv_3x3": 3, "dil_conv_5x5": 5}  # the sides of their windows
OPERATIONS = (NONE, "max_pool_3x3", "avg_pool_3x3", SKIP, *KERNELS)
COUNTINGS = ("multiply-adds", "printed")


class Count(NamedTuple):
    """Learnable numbers, and what one sample costs."""

    parameters: int
    flops: int

    def __add__(self, other: "Count") -> "Count":  # type: ignore[override]
        return Count(self.parameters + other.parameters, self.flops + other.flops)


def build(operation: str, channels: int, stride: int, affine: bool = True) -> nn.Module:
    """An operation as a module, from `(batch, channels, height, width)` to as many channels; sides are divided by the
    stride, rounded up.

    none: zeros.  max_pool_3x3, avg_pool_3x3: over 3 x 3 pixels; the average leaves out what lies beyond the border.
    skip_connect: what comes in; at stride 2 a `FactorizedReduce`.
    sep_conv_kxk: twice ReLU, a k x k convolution of each channel by itself (depthwise), a 1 x 1 convolution, batch
        norm; the first of the two has the stride.
    dil_conv_kxk: the same once, with every second pixel of a window (dilation 2).
    affine: whether batch norms have weights of their own: in derived networks, not while searching.
    Raises ValueError for an unknown operation.
    Source: H. Liu, K. Simonyan, Y. Yang, DARTS: Differentiable Architecture Search, ICLR 2019, section 3.1.
    """
    if operation == NONE:
        return Nothing(stride)
    if operation == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if operation == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if operation == SKIP:
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    if operation not in KERNELS:
        raise ValueError(unknown("operation", str(operation), OPERATIONS))
    kernel, dilation = KERNELS[operation], dilation_of(operation)
    layers = separable(channels, kernel, stride, dilation, affine)
    return nn.Sequential(*layers, *(separable(channels, kernel, 1, dilation, affine) if dilation == 1 else []))


def dilation_of(operation: str) -> int:
    return 2 if operation.startswith("dil") else 1


def separable(channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    """ReLU, depthwise convolution, 1 x 1 convolution, batch norm; padded so that only the stride shrinks a map."""
    return [nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, padding(kernel, dilation), dilation, groups=channels,
                      bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine)]


def padding(kernel: int, dilation: int) -> int:
    return dilation * (kernel - 1) // 2


def relu_conv_bn(incoming: int, outgoing: int, affine: bool = True) -> nn.Module:
    """ReLU, 1 x 1 convolution, batch norm: how a cell makes its inputs as wide as itself."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(incoming, outgoing, 1, bias=False),
                         nn.BatchNorm2d(outgoing, affine=affine))


class Normalised(nn.Module):
    """`(x - mean) / std` by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def make_stem(incoming: int, outgoing: int, affine: bool = True, mean: Sequence[float] | None = None,
              std: Sequence[float] | None = None) -> nn.Module:
    """3 x 3 convolution and batch norm on images; with `mean` and `std`, one a channel, these are normalised first.

    Raises ValueError for one of the two without the other, or not as many as channels.
    """
    given = [len(values) for values in (mean, std) if values is not None]
    if given not in ([], [incoming, incoming]):
        raise ValueError(f"mean={mean!r}, std={std!r}: give both, with {incoming} numbers each (one a channel), or "
                         "neither.")
    normalise = [Normalised(mean, std)] if mean is not None and std is not None else []
    return nn.Sequential(*normalise, nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False),
                         nn.BatchNorm2d(outgoing, affine=affine))


class Nothing(nn.Module):
    """Zeros, of the shape that the other operations give."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class FactorizedReduce(nn.Module):
    """Half the sides without losing every second row: half of the channels looks at pixels (0, 0), (0, 2), ..., the
    other half at (1, 1), (1, 3), ..., each by a 1 x 1 convolution after a ReLU; then batch norm over all.

    Maps of odd sides get a row or column of zeros, so that both halves fit; the source has even sides only.
    """

    def __init__(self, incoming: int, outgoing: int, affine: bool = True):
        super().__init__()
        self.even = nn.Conv2d(incoming, outgoing // 2, 1, bias=False)
        self.odd = nn.Conv2d(incoming, outgoing - outgoing // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outgoing, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        # Pixels are picked here, since with AVX2 and channels last a 1 x 1 convolution of stride 2 and fewer than
        # eight channels writes beyond its memory in the backward pass (oneDNN issue 6035).
        x = even_sides(nn.functional.relu(x))
        return self.norm(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(x[:, :, 1::2, 1::2])], 1))


def even_sides(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return nn.functional.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x


# --- counts -------------------------------------------------------------------------------------------------------

def count(operation: str, channels: int, stride: int, side: int | Sequence[int], affine: bool = True,
          counting: str = "multiply-adds") -> Count:
    """What an operation costs on a map of `side` x `side` pixels, or of `side` = (height, width), that comes in.

    With C channels, k the side of a window, H x W the map that goes out:
        parameters: separable `2 (k^2 C + C^2)`, dilated `k^2 C + C^2`, skip at stride 2 `C^2`; and `2 C` more for each
        batch norm that is affine; the others have none.
    counting: the unit of `flops`.
        "multiply-adds": those of convolutions, which is half of what `torch.utils.flop_counter` says, which counts
            two for each: as parameters without norms, times H W.
        "printed": f_o of the source: separable `2 (CHW + C^2 HW + k^2 CHW + 2 CHW)` - ReLU, 1 x 1, depthwise, norm -,
            dilated half of that, average pooling CHW, skip at stride 2 `C^2 HW + 2 CHW`, the others nothing.
            The source says "with stride = 1" and gives no rule for 2: here H x W is then the smaller map. (Its strides
            of a skip are printed as 0 and 1; they must be 1 and 2.)
    Raises ValueError for an unknown operation or counting.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 3.3.2.2.
    """
    if operation not in OPERATIONS:
        raise ValueError(unknown("operation", str(operation), OPERATIONS))
    if counting not in COUNTINGS:
        raise ValueError(unknown("counting", str(counting), COUNTINGS))
    pixels = area(halved(sides(side)) if stride == 2 else sides(side))
    norm = 2 * channels
    if operation in KERNELS:
        times = 3 - dilation_of(operation)
        weights = KERNELS[operation] ** 2 * channels + channels**2
        extra = 3 * channels if counting == "printed" else 0
        return Count(times * (weights + affine * norm), times * (weights + extra) * pixels)
    if operation == SKIP and stride == 2:
        extra = 2 * channels if counting == "printed" else 0
        return Count(channels**2 + affine * norm, (channels**2 + extra) * pixels)
    pooled = operation == "avg_pool_3x3" and counting == "printed"
    return Count(0, channels * pixels if pooled else 0)


def sides(side: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) from either form."""
    height, width = (side, side) if isinstance(side, int) else side
    return height, width


def halved(side: tuple[int, int]) -> tuple[int, int]:
    """The sides of what stride 2 leaves of a map."""
    return -(-side[0] // 2), -(-side[1] // 2)


def area(side: tuple[int, int]) -> int:
    return side[0] * side[1]
