"""Checks of notebook 12, soft sharing. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import NotYet, exercise, expect


@exercise("12.1")
def stitches(answer: Callable) -> None:
    """Each of m tasks has, for each of m tasks and each channel, one number."""
    for channels, m in (([8, 16, 16], 2), ([4, 6], 3)):
        expect(m * m * sum(channels), answer(channels, m), f"for channels={channels}, m={m}")


@exercise("12.2")
def stitch_gradient(answer: Callable) -> None:
    """The sum over samples and pixels of g times z_j, for each task j and channel."""
    z = _normal(3, 4, 2, 3, 5)  # tasks, batch, channels, height, width
    g = _normal(4, 2, 3, 5)
    expect((g * z).sum((1, 3, 4)), answer(g, z), "for three tasks, four samples and two channels, as (tasks, channels)")


@exercise("12.3")
def mixture(answer: Callable) -> None:
    """Shares by softmax over the experts, then the weighted sum."""
    s, A, b = _normal(4, 3), _normal(2, 3), _normal(2)
    e = _normal(4, 2, 5)
    shares = torch.softmax(s @ A.T + b, 1)
    mixed = (shares[:, :, None] * e).sum(1)
    got = answer(s, A, b, e)
    shape = getattr(got, "shape", None)
    if shape != mixed.shape:
        raise NotYet("for four samples, two experts and five features: expected a tensor of shape (4, 5), got "
                     f"{got!r}" if shape is None else f"{tuple(shape)}")
    for sample in range(len(mixed)):
        expect(mixed[sample], got[sample], f"for two experts, sample {sample + 1} of four")


@exercise("12.4")
def trace_norm(answer: Callable) -> None:
    """The mean over the modes of the sums of singular values."""
    flat = torch.einsum("d,c,t->dct", *(torch.tensor(v, dtype=torch.float64) for v in ([3.0, 0.0], [1.0], [0.6, 0.8])))
    expect(3.0, answer(flat), "for a tensor of rank one in each mode and of length 3")
    W = _normal(4, 3, 2)
    norms = [torch.linalg.svdvals(W.movedim(mode, 0).flatten(1)).sum() for mode in range(3)]
    expect(torch.stack(norms).mean(), answer(W), "for a random tensor")


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
