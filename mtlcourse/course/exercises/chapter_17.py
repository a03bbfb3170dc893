"""Checks of notebook 17, robust cells. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import NotYet, exercise, expect


@exercise("17.1",
          "Which numbers of different edges can be compared: the raw ones, or those that sum to one on each edge?",
          "Apply the softmax along each row first, over all eight columns; only then leave out column 0.")
def strength(answer: Callable) -> None:
    """The largest entry of softmax(alpha) besides that of "none", for each edge."""
    for alpha in ([[0.0, *[3.0] * 7], [0.0, 1.0, *[-9.0] * 6]], [[5.0, 1.0, *[0.0] * 6], [0.0, 0.5, *[0.0] * 6]]):
        given = torch.tensor(alpha, dtype=torch.float64)
        expected = torch.stack([row.exp()[1:].max() / row.exp().sum() for row in given])
        expect(expected, answer(given), f"for alpha={alpha}")


@exercise("17.2",
          "Multiplying a loss by s multiplies its gradient by s. What does that make of each entry of K?",
          "The entries become K11, s K12 and s^2 K22; put them into lesson 11's formula, and stay between 0 and 1.")
def first_weight(answer: Callable) -> None:
    """(b - k) / (a - 2 k + b) within [0, 1], with a = K11, k = s K12, b = s^2 K22; here by trying many weights."""
    for K, s in (([[1.0, 0.0], [0.0, 4.0]], 1.0), ([[1.0, 0.0], [0.0, 4.0]], 0.1), ([[2.0, -0.5], [-0.5, 1.0]], 3.0),
                 ([[1.0, 0.9], [0.9, 1.0]], 10.0), ([[1.0, 0.9], [0.9, 1.0]], 0.1)):
        given = torch.tensor(K, dtype=torch.float64)
        weight = torch.linspace(0, 1, 100_001, dtype=torch.float64)
        both = torch.stack([weight, s * (1 - weight)])
        lengths = (both * (given @ both)).sum(0)
        expect(weight[lengths.argmin()], answer(given, s), f"for K={K}, s={s}", tolerance=1e-4)


@exercise("17.3",
          "What should it cost to be smaller than wanted? And how do you keep a tensor from going below a number?",
          "Leave out the absolute value, and cut the difference off at zero from below.")
def ceiling(answer: Callable) -> None:
    """max(expected / wanted - 1, 0), with a derivative."""
    for sizes in ([50.0, 300.0], [200.0, 100.0], [90.0, 210.0]):
        expected = torch.tensor(sizes, dtype=torch.float64, requires_grad=True)
        wanted = torch.tensor([100.0, 200.0], dtype=torch.float64)
        prices = answer(expected, wanted)
        right = [max(size / target - 1, 0) for size, target in zip(sizes, wanted.tolist(), strict=True)]
        expect(right, prices.detach() if isinstance(prices, torch.Tensor) else prices,
               f"for expected={sizes}, wanted={wanted.tolist()}")
        if not getattr(prices, "requires_grad", False):
            raise NotYet("the numbers are right, but they have no derivative, so a search cannot lower them: compute "
                         "them from the tensor itself, without .item(), float() or detach()")
