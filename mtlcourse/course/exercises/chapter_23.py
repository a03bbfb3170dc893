"""Checks of notebook 23, unequal difficulty. Imports `exercises`."""

import math
from collections.abc import Callable

import torch

from . import NotYet, exercise, expect


@exercise("23.1",
          "What stands in the place of the temperature, 50?",
          "Divide by the mean of the losses instead: the exponent is then a number without a unit.")
def own_temperature(answer: Callable) -> None:
    """exp(L_t / mean L - 1), which no common unit changes."""
    for losses in ([0.5, 1.0, 1.5], [50.0, 100.0, 150.0], [1.0, 1.0, 4.0, 2.0]):
        given = torch.tensor(losses, dtype=torch.float64)
        expect((given / given.mean() - 1).exp(), answer(given), f"for losses {losses}")


@exercise("23.2",
          "Put z = L / T into all three parts. What does each have to be multiplied by?",
          "max L is T times max z: multiply both ends of what stands there by T.")
def room(answer: Callable) -> None:
    """T ln v - T ln m and T ln v."""
    for losses, T in (([1.0, 2.0, 3.0, 4.0], 50.0), ([0.5, 8.0], 2.0)):
        v = sum(math.exp(loss / T) for loss in losses)
        high = T * math.log(v)
        expect([high - T * math.log(len(losses)), high], answer(v, len(losses), T), f"for losses {losses}, T={T}")


@exercise("23.3",
          "A squared error grows with the square of the unit. Which number of a column of y does so, too?",
          "Divide 1 by the variance of each column.")
def unit_free(answer: Callable) -> None:
    """Weights proportional to one over the variance: s^2 y^2 / s^2 stays."""
    y = torch.randn(200, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 1.0
    unit = torch.tensor([1.0, 10.0, 0.01], dtype=torch.float64)
    before, after = (torch.as_tensor(answer(given), dtype=torch.float64) for given in (y, y * unit))
    if before.shape != (3,) or not (before > 0).all():
        raise NotYet(f"expected three positive weights, got {before.tolist()}")
    expect(before, after * unit**2, "weight times squared unit, after a change of units,")
