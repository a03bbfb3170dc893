"""Checks of notebook 10, loss weighting. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import NotYet, exercise, expect


@exercise("10.1",
          "The derivative of the geometric mean by one loss is the mean over m times that loss.",
          "The m cancels. Make the geometric mean of the mean of the logarithms, and divide it by each loss.")
def gls(answer: Callable) -> None:
    """GLS / L_t, without underflow."""
    for losses in ([0.5, 1.0, 2.0], [3.0, 3.0]):
        given = torch.tensor(losses, dtype=torch.float64)
        expect(given.log().mean().exp() / given, answer(given), f"for the losses {losses}")
    many = torch.full((1000,), 0.1, dtype=torch.float64)
    many[0] = 0.2
    expect(many.log().mean().exp() / many, answer(many), "for a thousand losses of about 0.1")


@exercise("10.2",
          "A task that is behind has kept more of its first loss. What is the rate for such a task?",
          "The fraction is upside down, in both places: what is left of the loss is the present one over the first.")
def derivative(answer: Callable) -> None:
    """sign(w |g| - mean(w |g|) r^alpha) |g|, r = (L / L(0)) over its mean."""
    generator = torch.Generator().manual_seed(0)
    cases = [([1.0, 1.0], [1.0, 1.0], [0.9, 0.1], [1.0, 1.0], 1.5)]
    for alpha in (0.5, 3.0):
        numbers = torch.rand(4, 3, generator=generator, dtype=torch.float64).add(0.1).tolist()
        cases.append((*numbers, alpha))
    for *numbers, alpha in cases:
        w, lengths, losses, first = (torch.tensor(row, dtype=torch.float64) for row in numbers)
        rate = losses / first / (losses / first).mean()
        expected = torch.sign(w * lengths - (w * lengths).mean() * rate**alpha) * lengths
        left = [round(share, 2) for share in (losses / first).tolist()]
        expect(expected, answer(w, lengths, losses, first, alpha), f"for tasks of which {left} of the loss is left")


@exercise("10.3",
          "Which weight gives one task the wanted product with its length? Then bring all to the right sum.",
          "Divide rate to the power alpha by the lengths; then multiply so that the sum is the number of tasks.")
def jump(answer: Callable) -> None:
    """w_t = r_t^alpha / |g_t|, scaled to sum to m."""
    for lengths, rate, alpha in (([1.0, 3.0], [1.0, 1.0], 1.5), ([1.0, 2.0, 4.0], [0.5, 1.0, 1.5], 2.0)):
        given, pace = torch.tensor(lengths, dtype=torch.float64), torch.tensor(rate, dtype=torch.float64)
        w = pace**alpha / given
        expect(len(w) * w / w.sum(), answer(given, pace, alpha), f"for lengths {lengths}, rates {rate}, alpha {alpha}")


@exercise("10.4",
          "Begin with the weight h': from 1 it shall rise towards a ceiling of at most 3. Then integrate.",
          "Take h'(z) = 3 - 2/(1 + z). Which h has this derivative, and is zero at zero?")
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
