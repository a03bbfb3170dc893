"""Checks of notebook 31, strategies and architectures. Imports `exercises` and `strategies`."""

from collections.abc import Callable

import torch

from ...strategies import combine
from . import NotYet, exercise, expect

CONFLICT = torch.tensor([[1.0, 0.0, 2.0], [-4.0, 1.0, 0.0]], dtype=torch.float64)
PEACE = torch.tensor([[1.0, 0.0, 2.0], [2.0, 1.0, -0.5]], dtype=torch.float64)
ONE_OF_THREE = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-0.5, 1.0]], dtype=torch.float64)


@exercise("31.1",
          "Draw the number of one task with the generator; all other weights stay zero.",
          "torch.randint(m, (), generator=generator) draws the task; its weight is m.")
def coin(answer: Callable) -> None:
    """All weight on one task, by lot of the generator; the mean over draws is one for each."""
    for m in (2, 3):
        generator = torch.Generator().manual_seed(0)
        draws = torch.stack([torch.as_tensor(answer(m, generator), dtype=torch.float64) for _ in range(2000)])
        expect([0.0] * (m - 1) + [float(m)], draws[0].sort().values, f"sorted weights of {m} tasks")
        if not (((draws == 0) | (draws == m)).all() and (draws.sum(1) == m).all()):
            raise NotYet(f"for {m} tasks: expected {m} once and 0 elsewhere in every step")
        expect([1.0] * m, draws.mean(0), f"mean weights of {m} tasks over many steps", 0.15)
        again = torch.as_tensor(answer(m, torch.Generator().manual_seed(0)), dtype=torch.float64)
        expect(draws[0], again, "weights from a generator with the same seed")


@exercise("31.2",
          "Products of all pairs of rows stand in one matrix. When is there a conflict?",
          "If any entry of the Gram matrix of g is negative, return zeros of the shape of one row.")
def cautious(answer: Callable) -> None:
    """The sum of the gradients, or zero where any two of them conflict."""
    for g, direction in ((PEACE, PEACE.sum(0)), (CONFLICT, torch.zeros(3)), (ONE_OF_THREE, torch.zeros(2))):
        expect(direction, answer(g), f"for g={g.tolist()}")


@exercise("31.3",
          "Keep the direction of pcgrad, and change its length by one factor.",
          'strategies.combine("pcgrad", g) is the direction; bring it to the length of the sum.')
def same_length(answer: Callable) -> None:
    """PCGrad's direction, as long as the sum."""
    for g in (PEACE, CONFLICT, 3 * CONFLICT.flip(1)):
        direction = combine("pcgrad", g)
        expect(direction * g.sum(0).norm() / direction.norm(), answer(g), f"for g={g.tolist()}")
