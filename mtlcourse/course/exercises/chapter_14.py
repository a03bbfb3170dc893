"""Checks of notebook 14, branching. Imports `exercises`."""

from collections.abc import Callable
from itertools import product

import torch

from . import NotYet, exercise, expect


@exercise("14.1",
          "Nothing is shared when at most one task enters the shared modules. Count those assignments.",
          "All tasks at the first point: one assignment. One of m tasks at one of the P - 1 others: m (P - 1) more.")
def sharing_trees(answer: Callable) -> None:
    """All, less those in which fewer than two tasks enter the shared encoder; counted here."""
    for m, P in ((2, 2), (3, 4), (2, 6), (1, 5)):
        expected = sum(sum(p > 1 for p in points) > 1 for points in product(range(1, P + 1), repeat=m))
        expect(expected, answer(m, P), f"for m={m} tasks and P={P} branch points")


@exercise("14.2",
          "Branch point p, which stands at index p - 1, leaves P - p modules. An expected number is a weighted sum.",
          "Multiply each beta by the numbers P - 1, P - 2, ..., 0, and add up over branch points and tasks.")
def own_modules(answer: Callable) -> None:
    """The sum over tasks of the mean of P - p, p being drawn with the probabilities beta, and a search can lower it."""
    for betas, expected in (([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]], 1.3), ([[1.0, 0.0, 0.0, 0.0]], 3.0),
                            ([[0.25] * 4, [0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0]], 4.5)):
        given = [torch.tensor(beta, dtype=torch.float64, requires_grad=True) for beta in betas]
        price = answer(given)
        expect(expected, price.detach() if isinstance(price, torch.Tensor) else price, f"for betas={betas}")
        if not getattr(price, "requires_grad", False):
            raise NotYet("the number is right, but it has no derivative, so a search cannot lower it: compute it from "
                         "the tensors themselves, without .item(), float() or detach()")


@exercise("14.3",
          "How far from u is w after one step, and after k? Each step shrinks the distance by the same factor.",
          "w_k - u is (1 - xi)^k (w - u), and so the derivative of w_k by u is 1 - (1 - xi)^k, which takes the place "
          "of xi.")
def hypergradient(answer: Callable) -> None:
    """u + (1 - (1 - xi)^k) (w_k - 1), by differentiating through the steps."""
    for w, start, xi, k in ((0.3, 0.7, 0.1, 1), (0.3, 0.7, 0.1, 5), (-1.0, 0.5, 0.25, 3), (2.0, 0.2, 1.0, 2)):
        u = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        ahead = torch.tensor(w, dtype=torch.float64)
        for _ in range(k):
            ahead = ahead - xi * (ahead - u)
        (expected,) = torch.autograd.grad((ahead - 1) ** 2 / 2 + u**2 / 2, u)
        expect(expected, answer(w, start, xi, k), f"for w={w}, u={start}, xi={xi}, k={k}")


@exercise("14.4",
          "Apply the formula that stands there to numbers that have no unit.",
          "Divide the losses by the first losses, and use these ratios in both places where the losses stood.")
def unit_free(answer: Callable) -> None:
    """w (r - w r) with r = losses / first."""
    first = torch.tensor([2.0, 0.5, 40.0], dtype=torch.float64)
    for rates in ([0.5, 0.8, 0.3], [1.0, 1.0, 1.0]):
        v = torch.tensor([0.2, -0.4, 0.1], dtype=torch.float64, requires_grad=True)
        r = torch.tensor(rates, dtype=torch.float64)
        w = torch.softmax(v, 0)
        (expected,) = torch.autograd.grad(w @ r, v)
        expect(expected, answer(w.detach(), r * first, first), f"for losses that are {rates} times the first ones")
