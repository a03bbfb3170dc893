"""Checks of notebook 01, two tasks and one network. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import NotYet, exercise, expect


@exercise("01.1",
          "Each loss pulls at the shared parameters in its own direction: differentiate the losses one at a time.",
          "Call autograd.grad once for each loss, not for their sum. Keep the graph for the next one, and make one "
          "vector of the parts of each call.")
def task_gradients(answer: Callable) -> None:
    """A row a loss, the parameters' gradients one after another, and the graph still there for the next."""
    a = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[3.0]], dtype=torch.float64, requires_grad=True)
    z = (a * b).sum()  # what both losses share
    losses = [z**2 / 2, z - 4 * b.sum()]
    given = list(answer(losses, [a, b]))
    if len(given) != len(losses):
        raise NotYet(f"for two losses: expected two rows, got {len(given)}")
    rows = [[27.0, 27.0, 27.0], [3.0, 3.0, -1.0]]  # z = 9, dz = (3, 3, 3)
    for number, (row, got) in enumerate(zip(rows, given, strict=True), start=1):
        expect(row, got, f"the row of loss {number}, parameters [1, 2] and [[3]]")


@exercise("01.2",
          "A loss that counts a times has a gradient that counts a times.",
          "Only the term that pulls towards 1, task 1's optimum, gets the factor.")
def descend(answer: Callable) -> None:
    """a (theta - 1) + (theta + 1) = 0."""
    for a in (3.0, 1.0, 9.0):
        expect((a - 1) / (a + 1), answer(a), f"for a={a}", tolerance=1e-3)


@exercise("01.3",
          "Which task's turn it is depends on the number of the step alone.",
          "The remainder of the step when divided by two is zero in even steps.")
def take_turns(answer: Callable) -> None:
    """Task 1 moves theta towards 1 in even steps, task 2 towards -1 in odd ones."""
    for steps, lr in ((1, 0.5), (2, 0.5), (201, 0.1), (200, 0.1)):
        theta = 0.8
        for step in range(steps):
            theta -= lr * (theta - (1, -1)[step % 2])
        expect(theta, answer(steps, lr), f"for steps={steps} and lr={lr}", tolerance=1e-4)
