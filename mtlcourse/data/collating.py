"""How samples become a batch: stacked as they are, brought to one size, or padded to one.

Imports `files`, `void`. A sample is `(inputs, {task: target})`; each function here takes a list of them, or of the
things that a dataset gives where these are such pairs already, and returns `(inputs, {task: targets})` for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import is_whole
from ..void import VOID

Sample = tuple[Tensor, dict[str, Tensor]]
Collated = tuple[Tensor, dict[str, Tensor]]


class Unequal(ValueError):
    """Samples of a batch that do not have one shape."""


def stacked(samples: Sequence[Any]) -> Collated:
    """The samples one upon another. A task that is missing or None in some is unlabelled there, in all is left out.

    Numbers and arrays become tensors: whole numbers int64, real ones float32; a tensor keeps its type.
    Raises TypeError for what is no sample, ValueError for samples of different shapes.

    >>> stacked([(torch.zeros(2), {"kind": 1, "size": None}), (torch.ones(2), {"kind": 0})])[1]
    {'kind': tensor([1, 0])}
    """
    pairs = [as_sample(sample) for sample in samples]
    inputs = _stack([x for x, _ in pairs], "inputs")
    targets = {}
    for task in dict.fromkeys(task for _, own in pairs for task in own):
        first = next(own[task] for _, own in pairs if task in own)
        if not first.is_floating_point() and first.dtype != torch.bool:
            first = first.long()  # small types without sign have no VOID
        void = torch.full_like(first, float("nan") if first.is_floating_point() else VOID)
        targets[task] = _stack([own.get(task, void) for _, own in pairs], f"targets of {task!r}")
    return inputs, targets


def resized(size: Any) -> Callable[[Sequence[Any]], Collated]:
    """A `collate` for images of several sizes: each becomes (height, width), then they are stacked.

    Inputs (channels, height, width) by linear interpolation, smoothed where they shrink. Targets of pixels, class
    indices (height, width) or real (channels, height, width), by nearest neighbour, which mixes neither two classes
    nor a value with a void one; they may have another size than their image. Depth and normals keep their values.

    >>> inputs, targets = resized((4, 4))([(torch.rand(3, 8, 6), {"kind": 2, "map": torch.ones(8, 6).long()})])
    >>> inputs.shape, targets["map"].shape
    (torch.Size([1, 3, 4, 4]), torch.Size([1, 4, 4]))
    """
    height, width = _checked(size)

    def collate(samples: Sequence[Any]) -> Collated:
        return stacked([_each(sample, smooth, _nearest, (height, width)) for sample in samples])

    return collate


def padded(size: Any) -> Callable[[Sequence[Any]], Collated]:
    """A `collate` for images of several sizes: each is filled up to (height, width) at the right and at the bottom.

    The margin is zero in the inputs and without label, VOID or NaN, in targets of pixels.
    Raises ValueError for an image that is larger; `resized` makes these smaller.

    >>> inputs, targets = padded((2, 3))([(torch.ones(1, 2, 2), {"map": torch.ones(2, 2).long()})])
    >>> targets["map"].tolist()
    [[[1, 1, -1], [1, 1, -1]]]
    """
    height, width = _checked(size)

    def collate(samples: Sequence[Any]) -> Collated:
        return stacked([_each(sample, _filled, _filled_void, (height, width)) for sample in samples])

    return collate


def as_sample(sample: Any) -> Sample:
    """The pair `(inputs, {task: target})` as tensors, without the tasks that are None.

    Raises TypeError, saying what to do, for anything else.
    """
    if not (isinstance(sample, tuple | list) and len(sample) == 2 and isinstance(sample[1], Mapping)):
        parts = f" of {len(sample)} parts" if isinstance(sample, tuple | list) else ""
        raise TypeError(f"a sample is (inputs, {{task: target}}), and this is {type(sample).__name__}{parts}: give "
                        "sample=, a function that makes that of what the dataset has, such as "
                        "lambda item: (item[0], {'kind': item[1]}).")
    inputs, targets = sample
    if isinstance(inputs, Mapping | tuple | list):
        what = f"a dict of {sorted(map(str, inputs))}" if isinstance(inputs, Mapping) else f"{len(inputs)} things"
        raise TypeError(f"the inputs of a sample are {what}, which would be read as inputs per task: let sample= pack "
                        "them into one tensor, such as torch.cat([x.flatten() for x in ...]), and take them apart in "
                        "the first stage of the encoder.")
    return _tensor(inputs, "inputs"), {task: _tensor(target, f"the target of {task!r}")
                                       for task, target in targets.items() if target is not None}


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} of a sample must be a tensor, an array or a number, not {type(value).__name__}: let "
                        "sample= make one.")
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array.astype(np.bool_ if array.dtype.kind == "b" else _whole(value, array)))


def _whole(value: Any, array: np.ndarray) -> Any:
    """Pixels stay as small as they are; a lone number is a class index."""
    small = array.ndim and array.dtype in (np.uint8, np.int8, np.int16, np.int32) and isinstance(value, np.ndarray)
    return array.dtype if small else np.int64


def _stack(tensors: list[Tensor], what: str) -> Tensor:
    for number, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise Unequal(f"{what} have shape {tuple(tensors[0].shape)} in one sample and {tuple(tensor.shape)} in "
                          f"another, number {number} of the batch; a batch needs one. Give collate=, such as "
                          "data.resized((height, width)) or data.padded((height, width)).")
    kinds = {tensor.dtype for tensor in tensors}
    if len(kinds) > 1:  # a 3 among numbers such as 2.5
        kind = next(iter(kinds))
        for other in kinds:
            kind = torch.promote_types(kind, other)
        tensors = [tensor.to(kind) for tensor in tensors]
    return torch.stack(tensors)


def _checked(size: Any) -> tuple[int, int]:
    if not isinstance(size, tuple | list) or len(size) != 2 or any(
            not is_whole(side, 1) for side in size):
        raise ValueError(f"size={size!r} is no size; give (height, width) in pixels, such as (288, 384).")
    return size[0], size[1]


def _each(sample: Any, image: Callable, labels: Callable, size: tuple[int, int]) -> Sample:
    inputs, targets = as_sample(sample)
    if inputs.dim() != 3:
        raise ValueError(f"inputs of shape {tuple(inputs.shape)} are no image (channels, height, width); this collate "
                         "is for images.")
    return image(inputs, size), {task: labels(y, size) if y.dim() >= 2 else y for task, y in targets.items()}


def smooth(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The image (channels, height, width) at another size, linear and smoothed where it shrinks."""
    if tuple(image.shape[-2:]) == size:
        return image
    lowest, highest = image.aminmax()  # no mean is outside of these, but rounding would put white beyond 1
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(lowest, highest)


def _nearest(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """The label at the middle of each new pixel."""
    rows, columns = (((torch.arange(new) + 0.5) * (old / new)).long().clamp_max(old - 1)
                     for new, old in zip(size, labels.shape[-2:], strict=True))
    return labels[..., rows[:, None], columns]


def _filled(values: Tensor, size: tuple[int, int], with_value: int | float = 0) -> Tensor:
    missing = [new - old for new, old in zip(size, values.shape[-2:], strict=True)]
    if min(missing) < 0:
        raise ValueError(f"an image of {values.shape[-2]} x {values.shape[-1]} pixels does not fit into {size[0]} x "
                         f"{size[1]}; take data.padded with a larger size, or data.resized.")
    return F.pad(values, (0, missing[1], 0, missing[0]), value=with_value)


def _filled_void(labels: Tensor, size: tuple[int, int]) -> Tensor:
    if not labels.is_floating_point():
        labels = labels.long()  # small types without sign have no VOID
    return _filled(labels, size, float("nan") if labels.is_floating_point() else VOID)
