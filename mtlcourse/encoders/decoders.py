"""Decoders, the "heads" that turn a representation into one task's prediction. Imports `files`, `tasks`."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..files import imported, unknown
from ..tasks import Task

# Of heads with hidden layers. The smooth ones have second derivatives, ReLU's are zero.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "softplus": nn.Softplus, "gelu": nn.GELU, "tanh": nn.Tanh}


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


def heads(wanted: Any, activation: str | None = None) -> Callable[..., nn.Module]:
    """What makes the heads that `wanted` says.

    wanted: a list of widths of hidden layers, see `deeper`; one's own `function(task, shape, input_shape)`, which
        returns a module from representations `(batch, *shape)` to predictions, or its address,
        "package.module:function"; or `{task: one of these}`, for tasks that are not named the usual `decoder`.
    activation: of hidden layers, "relu" if None.
    Raises ValueError for what is none of these, TypeError where a function returns no module.
    """
    if isinstance(wanted, Mapping):
        return partial(_by_task, {task: heads(one, activation) for task, one in wanted.items()})
    if isinstance(wanted, str):
        wanted = imported(wanted, "head", "a function that returns a head")
    if callable(wanted):
        if activation is not None:
            raise ValueError(f"activation={activation!r} is that of a head's hidden layers; a function of your own "
                             "makes the whole head, with its activations.")
        return partial(_own, wanted)
    return deeper(wanted, activation or "relu")


def _by_task(made: Mapping[str, Callable], task: Task, shape: Sequence[int], input_shape: Sequence[int]) -> nn.Module:
    return made.get(task.name, decoder)(task, shape, input_shape)


def _own(function: Callable, task: Task, shape: Sequence[int], input_shape: Sequence[int]) -> nn.Module:
    head = function(task, shape, input_shape)
    if not isinstance(head, nn.Module):
        raise TypeError(f"{getattr(function, '__name__', function)} returned {type(head).__name__} for task "
                        f"{task.name!r}; a head's function returns a module.")
    return head


def deeper(widths: Any, activation: str = "relu") -> Callable[..., nn.Module]:
    """What makes heads with hidden layers: each task's map is flattened, then passes layers of these widths.

    widths: a list.  activation: after each hidden layer, one of `ACTIVATIONS`.
    Raises ValueError for widths that are none and for an unknown activation; and, where it meets a task that
    predicts every pixel, then.

    >>> from mtlcourse import data
    >>> deeper([16])(data.binary("a"), (3, 4, 4), (1, 8, 8))[1]
    Linear(in_features=48, out_features=16, bias=True)
    """
    if not isinstance(widths, list | tuple) or not all(isinstance(width, int) and width > 0 for width in widths):
        raise ValueError(f"head={widths!r} must be a list of widths of hidden layers, such as [128], or a function of "
                         "your own by its address, 'package.module:function'.")
    if activation not in ACTIVATIONS:
        raise ValueError(unknown("activation of a head", str(activation), ACTIVATIONS))
    return partial(_deep, tuple(widths), activation)


def _deep(widths: tuple[int, ...], activation: str, task: Task, shape: Sequence[int], input_shape: Sequence[int]
          ) -> nn.Module:
    if task.dense:
        raise ValueError(f"Task {task.name!r} predicts every pixel, and hidden layers see a flattened map: leave out "
                         f"head={list(widths)} of the encoder, dense tasks have decoders of their own.")
    sizes = [math.prod(shape), *widths]
    hidden = [layer for before, after in zip(sizes, widths, strict=False)
              for layer in (nn.Linear(before, after), ACTIVATIONS[activation]())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], task.out_channels))
