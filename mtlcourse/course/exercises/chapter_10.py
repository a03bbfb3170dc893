"""Checks of notebook 10, loss weighting. Imports `exercises`."""

import math
from collections.abc import Callable

import torch

from . import NotYet, exercise, expect


@exercise("10.1")
def gls(answer: Callable) -> None:
    """GLS / L_t, without underflow."""
    for losses in ([0.5, 1.0, 2.0], [3.0, 3.0]):
        given = torch.tensor(losses, dtype=torch.float64)
        expect(given.log().mean().exp() / given, answer(given), f"for the losses {losses}")
    many = torch.full((1000,), 0.1, dtype=torch.float64)
    many[0] = 0.2
    expect(many.log().mean().exp() / many, answer(many), "for a thousand losses of about 0.1")


@exercise("10.2")
def settled_weight(answer: Callable) -> None:
    """-e^-v L / 2 + 1/2 = 0, so e^-v = 1/L, and the weight is 1/(2L)."""
    for loss in (0.25, 1.0, 4.0):
        expect(1 / (2 * loss), answer(loss), f"for L={loss}")


@exercise("10.3")
def temperature(answer: Callable) -> None:
    """exp((high - low) / T) = ratio."""
    for low, high, ratio in ((0.5, 2.0, 2.0), (0.0, 4.174, 1.5)):
        expect((high - low) / math.log(ratio), answer(low, high, ratio), f"for low={low}, high={high}, ratio={ratio}")


@exercise("10.4")
def bounded(answer: Callable) -> None:
    """For instance 3z - 2 ln(1 + z): its derivative 3 - 2/(1 + z) rises from 1 to 3."""
    z = torch.cat([torch.linspace(0, 100, 401, dtype=torch.float64), torch.tensor([1000.0], dtype=torch.float64)])
    z.requires_grad_()
    h = answer(z)
    (slope,) = torch.autograd.grad(h.sum(), z)
    for name, values in (("h", h.detach()), ("h'", slope)):
        if (values < 0).any() or not (values.diff() > 0).all():
            raise NotYet(f"{name} must be non-negative and strictly increasing on [0, 1000], and is not")
    if slope[-1] > 3:
        raise NotYet(f"the weight h'(1000) is {slope[-1].item():.3g}, allowed is 3")
    ratio = (slope[8] / slope[2]).item()  # losses 2 and 0.5
    if ratio < 1.2:
        raise NotYet(f"h'(2) / h'(0.5) is {ratio:.3f}, asked for is at least 1.2")
