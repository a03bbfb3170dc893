"""What is written to `.grad`: added to what is there, looked at, and explained when it cannot be.

Imports `strategies.base`, `strategies.reach`.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import NonFinite, NonFiniteGradient, NonFiniteLoss
from .reach import reach


class AddedTo:
    """What is written to `.grad` inside is added, at the end, to what is there; after an error all is as before.

    A class, since each step goes through it: a generator would cost more than what is done here.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self.parameters = parameters

    def __enter__(self) -> None:
        self.earlier = [(parameter, found) for parameter in self.parameters if (found := parameter.grad) is not None]
        for parameter, _ in self.earlier:
            parameter.grad = None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        for parameter in () if error is None else self.parameters:
            parameter.grad = None
        for parameter, gradient in self.earlier:
            if parameter.grad is not None:
                gradient += parameter.grad
            parameter.grad = gradient


@contextlib.contextmanager
def clear_error() -> Iterator[None]:
    """Say in this project's terms what autograd means by a graph that is gone, or that it cannot pass twice."""
    try:
        yield
    except RuntimeError as error:
        if "double backward" in str(error):
            raise RuntimeError("A loss contains gradients (it was made with create_graph=True), and a compiled model "
                               "cannot give gradients of gradients. Train this model with compile=False.") from error
        if "second time" not in str(error):
            raise
        raise RuntimeError("The graph behind these losses is gone: backward was called on them before. Compute the "
                           "predictions and losses anew for each step.") from error


@torch.no_grad()
def length(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together: `torch.nn.utils.get_total_norm`, without what that costs in small models."""
    norms = torch._foreach_norm(gradients) if len(gradients) else [torch.zeros(())]
    kinds = {(norm.device, norm.dtype) for norm in norms}
    return torch.linalg.vector_norm(torch.stack(norms)) if len(kinds) == 1 else nn.utils.get_total_norm(gradients)


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no entry is NaN or infinite.

    By what a scaler of half precision looks with, which multiplies by one besides: a single call for all tensors of a
    kind, where norms are a call each.
    """
    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        kinds.setdefault((real.device, real.dtype), []).append(real)
    for (device, _), some in kinds.items():
        found = torch.zeros((), dtype=torch.float32, device=device)  # whatever the default dtype is
        with torch.no_grad():
            torch._amp_foreach_non_finite_check_and_unscale_(some, found, _one(device))
        if found.item():
            return False
    return True


@functools.cache
def _one(device: torch.device) -> Tensor:
    return torch.ones((), dtype=torch.float32, device=device)


def check_written(learning: Sequence[nn.Parameter], scalars: Mapping[str, Tensor], auxiliary: Tensor | None) -> None:
    """One look at all gradients: only if an entry is not finite, look for whose it is, and raise `NonFinite`."""
    written = {id(p): gradient for p in learning if (gradient := p.grad) is not None}
    gradients = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in written.values()]
    if not all_finite(gradients):
        bad = [key for key, gradient in zip(written, gradients, strict=True) if not torch.isfinite(gradient).all()]
        raise culprit(bad, length(gradients).item(), scalars, auxiliary)


def culprit(bad: Sequence[int], value: float, scalars: Mapping[str, Tensor], auxiliary: Tensor | None) -> NonFinite:
    """Whose gradients are not finite in the parameters `bad` (ids), of which one or more reach each.

    Who is alone in reaching one of them has it for certain. If nobody is, all remain who reach every one.
    """
    if auxiliary is not None and not torch.isfinite(auxiliary):
        return NonFiniteLoss("auxiliary", auxiliary.item())
    parts = dict(scalars) if auxiliary is None else {**scalars, "auxiliary": auxiliary}
    reached = reach(parts).whole
    users = [[name for name in parts if key in reached[name]] for key in bad]
    certain = [name for name in parts if [name] in users]
    possible = certain[:1] or [name for name in parts if all(name in some for some in users)] or list(parts)
    return NonFiniteGradient(" or ".join(possible), value)
