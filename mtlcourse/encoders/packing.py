"""Several tensors a sample in one: token ids and their mask, an image and what is measured beside it.

Imports `files`. A sample's inputs are one tensor everywhere in this project, so what goes together is packed where
samples are made, and taken apart in the first stage of the encoder.
"""

import math
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ..files import is_whole, unknown

EXACT = 2**24  # float32 has all whole numbers up to here


class Packing:
    """How the tensors of a sample lie in one vector.

    parts: `{name: shape}` of one sample, or `{name: (shape, dtype)}` for what is no float32, such as `torch.long` for
        token ids and `torch.bool` for a mask.
    shape, dtype: of a packed sample, which are a problem's `input_shape` and `input_dtype`: whole numbers if all parts
        are, float32 if some are not. Whole numbers among those are exact up to 2**24.

    In `DatasetSplit(dataset, tasks, sample)` the function packs one sample, for `TensorSplit` one call packs all:

    >>> packing = Packing(ids=((5,), torch.long), mask=((5,), torch.bool))
    >>> x = packing.pack(ids=torch.tensor([[4, 2, 7, 0, 0]]), mask=torch.tensor([[True, True, True, False, False]]))
    >>> x.shape, packing.shape, packing.unpack(x)["mask"]
    (torch.Size([1, 10]), (10,), tensor([[ True,  True,  True, False, False]]))

    Raises ValueError for no parts and for what is no shape.
    """

    def __init__(self, **parts: Any):
        self.parts: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        for name, part in parts.items():
            shape, dtype = part if len(part) == 2 and isinstance(part[1], torch.dtype) else (part, torch.float32)
            if any(not is_whole(side, 1) for side in shape):
                raise ValueError(f"{name}={part!r} is no shape; give that of one sample, such as (16,), or with its "
                                 "dtype, ((16,), torch.long).")
            self.parts[name] = (tuple(shape), dtype)
        if not self.parts:
            raise ValueError("There is nothing to pack: name the parts of a sample, such as Packing(ids=(16,), "
                             "mask=(16,)).")
        real = any(dtype.is_floating_point for _, dtype in self.parts.values())
        self.dtype = torch.float32 if real else torch.long
        self.shape = (sum(math.prod(shape) for shape, _ in self.parts.values()),)

    def pack(self, **tensors: Any) -> Shaped[Tensor, "*samples n"]:
        """One vector a sample; all parts with the same dimensions before their own: none for one sample.

        Raises ValueError for parts that are missing or have another shape, and for whole numbers that would not stay
        what they are.
        """
        for name in tensors.keys() ^ self.parts.keys():
            raise ValueError(unknown("part", name, self.parts) if name in tensors else
                             f"Part {name!r} is missing; a sample has {', '.join(self.parts)}.")
        flat = []
        for name, (shape, dtype) in self.parts.items():
            tensor = torch.as_tensor(tensors[name])
            before = tensor.dim() - len(shape)
            if before < 0 or tuple(tensor.shape[before:]) != shape:
                raise ValueError(f"Part {name!r} has shape {tuple(tensor.shape)}, and one sample of it is {shape}.")
            if tensor.is_floating_point() and not dtype.is_floating_point:
                raise ValueError(f"Part {name!r} is {tensor.dtype}, and {dtype} was announced; convert it.")
            if self.dtype.is_floating_point and not tensor.is_floating_point() and tensor.dtype != torch.bool and (
                    tensor.numel() and tensor.abs().max() > EXACT):
                raise ValueError(f"Part {name!r} has whole numbers above {EXACT:,}, which float32 does not keep; pack "
                                 "it with whole numbers only, or number them from 0.")
            flat.append(tensor.reshape(*tensor.shape[:before], math.prod(shape)).to(self.dtype))
        if len({part.shape[:-1] for part in flat}) > 1:
            raise ValueError("The parts are of different numbers of samples: "
                             f"{dict(zip(self.parts, (tuple(part.shape[:-1]) for part in flat), strict=True))}.")
        return torch.cat(flat, -1)

    def unpack(self, x: Shaped[Tensor, "samples n"]) -> dict[str, Tensor]:
        """`{name: (samples, *shape)}`, each in its dtype; what is real stays in the dtype of `x`."""
        sizes = [math.prod(shape) for shape, _ in self.parts.values()]
        if x.shape[1:] != self.shape:
            raise ValueError(f"Samples of shape {tuple(x.shape[1:])} are not packed like this; expected {self.shape}.")
        return {name: part.reshape(len(x), *shape).to(x.dtype if dtype.is_floating_point else dtype)
                for (name, (shape, dtype)), part in zip(self.parts.items(), x.split(sizes, 1), strict=True)}

    def stage(self, module: nn.Module) -> nn.Module:
        """A first stage that takes packed samples and calls `module(name=tensor, ...)` with their parts."""
        return Unpacked(self, module)


class Unpacked(nn.Module):
    """A module that is called with the parts of packed samples, by name."""

    def __init__(self, packing: Packing, module: nn.Module):
        super().__init__()
        self.packing, self.module = packing, module

    def forward(self, x: Shaped[Tensor, "samples n"]) -> Tensor:
        return self.module(**self.packing.unpack(x))
