"""Checks of notebook 04, interfering gradients. Imports `exercises`."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import exercise, expect

# Pairs in conflict: the plain sum harms the second task, the first, none; equal lengths; opposite gradients.
PAIRS = ([[3.0, 0.0], [-1.0, 1.0]], [[-0.5, 0.25, 0.0], [2.0, 1.0, 1.0]], [[1.0, 0.0], [-0.5, 1.0]],
         [[2.0, 1.0], [-2.0, 1.0]], [[2.0, 0.0], [-1.0, 0.0]])
EVEN_PAIRS = ([[4.0, 3.0], [-4.0, 3.0]], [[2.0, 1.0], [-2.0, 1.0]], [[1.0, 2.0, 2.0], [2.0, -2.0, -1.0]])
TRIPLE = [[2.0, -1.0, 0.0], [-1.0, 0.5, 1.5], [-0.5, 1.0, -1.0]]


def rows(numbers: list[list[float]]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def coordinates(g_1: Tensor, g_2: Tensor) -> tuple[float, float, float]:
    """|h|^2, p_1 and p_2: `g_1 = h + p_1 u`, `g_2 = h - p_2 u`, u along their difference."""
    u = (g_1 - g_2) / (g_1 - g_2).norm()
    p_1, p_2 = (g_1 @ u).item(), -(g_2 @ u).item()
    return (g_1 @ g_1).item() - p_1**2, p_1, p_2


@exercise("04.1",
          "Write down the product of the clipped gradient with g_j, and set it to zero.",
          "With u the unit vector along g_i - g_j: zero = g_i . g_j - Delta (u . g_j). Solve for Delta.")
def just_enough(answer: Callable) -> None:
    """`g_i' . g_j = |h|^2 - (p_i - Delta) p_j` is zero."""
    for numbers in PAIRS:
        h2, p_i, p_j = coordinates(*rows(numbers))
        expect(p_i - h2 / p_j, answer(*rows(numbers)), f"for g_i={numbers[0]} and g_j={numbers[1]}")


@exercise("04.2",
          "Split both gradients into the foot h and parts along u. Who loses by what is left of the leftover?",
          "With d = 2h + (1 - x)(p_1 - p_2) u the one with the shorter part gains 2|h|^2 - (1 - x)|p_1 - p_2| "
          "min(p_1, p_2). Zero gives x; it is never below 0, and 0 where nothing pulls.")
def smallest_share(answer: Callable) -> None:
    """What is left of the leftover may pull the shorter gradient's task back by its gain from 2h, and no more."""
    for numbers in PAIRS:
        h2, p_1, p_2 = coordinates(*rows(numbers))
        pull = abs(p_1 - p_2) * min(p_1, p_2)
        allowed = 2 * h2 / pull if pull > 1e-12 else math.inf
        expect(max(0.0, 1 - allowed), answer(*rows(numbers)), f"for g_1={numbers[0]} and g_2={numbers[1]}")


@exercise("04.3",
          "Two loops: over the gradients, and over the others in the given order; test and clip the running one.",
          "In a conflict with the original g_j let P be the running gradient minus g_j, and take away from the "
          "running gradient its projection onto P.")
def to_the_foot(answer: Callable) -> None:
    """Each gradient in turn loses its part along the difference to each original one that it conflicts with."""
    cases = [(PAIRS[0], [[1], [0]]), (TRIPLE, [[1, 2], [0, 2], [0, 1]]), (TRIPLE, [[2, 1], [2, 0], [1, 0]])]
    for numbers, orders in cases:
        G = rows(numbers)
        total = torch.zeros_like(G[0])
        for g, order in zip(G, orders, strict=True):
            for j in order:
                if g @ G[j] < 0:
                    P = G[j] - g
                    g = G[j] - (G[j] @ P) / (P @ P) * P  # the foot, from the other tip
            total = total + g
        expect(total, answer(rows(numbers), orders), f"for G={numbers} and orders={orders}")


@exercise("04.4",
          "Along g the loss is a parabola with its bottom at step 1. Equally high is equally far from the bottom.",
          "MAMG goes s and PCGrad (1 + |cos|) s: set 1 - s equal to (1 + |cos|) s - 1, and remember that the cosine "
          "is negative here.")
def crossing(answer: Callable) -> None:
    """Both go along g, one step t and the other (1 - cos) t: equally far from the minimum, on its two sides."""
    for numbers in EVEN_PAIRS:
        g_1, g_2 = rows(numbers)
        wanted = 2 / (2 - torch.cosine_similarity(g_1, g_2, dim=0).item())
        expect(wanted, answer(g_1, g_2), f"for g_1={numbers[0]} and g_2={numbers[1]}")
