"""What is written to `.grad`: added to what is there, looked at, and explained when it cannot be.

Imports `strategies.base`, `strategies.reach`.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from .base import NonFinite, NonFiniteGradient, NonFiniteLoss
from .reach import reach


@contextlib.contextmanager
def added_to(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """What is written to `.grad` inside is added, at the end, to what is there; after an error all is as before."""
    earlier = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    for parameter, _ in earlier:
        parameter.grad = None
    try:
        yield
    except BaseException:
        for parameter in parameters:
            parameter.grad = None
        for parameter, gradient in earlier:
            parameter.grad = gradient
        raise
    for parameter, gradient in earlier:
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


def check_written(learning: Sequence[nn.Parameter], scalars: Mapping[str, Tensor], auxiliary: Tensor | None) -> None:
    """One number for all gradients: only if it is not finite, look for whose they are, and raise `NonFinite`."""
    written = [p for p in learning if p.grad is not None]
    gradients = [p.grad.coalesce().values() if p.grad.is_sparse else p.grad for p in written]
    norm = length(gradients).item()
    if not norm < float("inf"):
        bad = [id(p) for p, gradient in zip(written, gradients, strict=True) if not torch.isfinite(gradient).all()]
        if bad:  # and not only large numbers, whose squares are infinite
            raise culprit(bad, norm, scalars, auxiliary)


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
