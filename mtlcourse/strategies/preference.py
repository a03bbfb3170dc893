"""Losses as one number, with a preferred proportion among them: COSMOS, PBI.

Imports `strategies.base`, `strategies.weighting`. Both add to a weighted sum a price on leaving the ray along the
preferences; with other preferences the same training ends at another point of the Pareto front. Weights are the
derivatives, which can be negative for a loss that is too small for its share.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from .base import Number, Strategy, per_task, positive
from .weighting import LossStrategy

ROUNDING = 1e-12  # what is less than this part of the losses away from the ray is on it


class PreferenceStrategy(LossStrategy):
    """Base of strategies with a preferred proportion r of the losses, one positive number a task (default: equal)."""

    def __init__(self, preferences: Sequence[Number] | None):
        super().__init__()
        self.preferences = None if preferences is None else [positive("A preference", value) for value in preferences]

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.register_buffer("r", per_task("preferences", self.preferences, self.tasks, 1.0), persistent=False)
        return self


class CosineScalarization(PreferenceStrategy):
    """COSMOS: a weighted sum of the losses, less a reward for proportions as preferred.

    minimise `sum_t r_t L_t - lam cos(r, L)`, r the preferences with sum one. Weights: m times the derivatives, `m (r_t
    - lam (r_t / (|r| |L|) - cos(r, L) L_t / |L|^2))`, on shared parameters and heads.

    lam: >= 0; 0 is the weighted sum.  preferences: r, one positive number a task (default: equal), brought to sum one.
    Scale: as printed times m, so that equal losses and preferences give equal weighting.
    Source: Ruchte and Grabocka, Scalable Pareto Front Approximation for Deep Multi-Objective Learning, 2021. The
    whole method draws other preferences for each batch and gives them to the network as a further input; here they are
    fixed. In a step without all tasks, r and cos are over those that it has.
    Raises ValueError for a wrong number of preferences and for such as are not positive.

    >>> strategy = CosineScalarization(lam=5).bind(["left", "right"])
    >>> strategy.weights(torch.tensor([3.0, 4.0]).double()).shared.round(decimals=6).tolist()
    [0.773726, 1.169706]
    """

    def __init__(self, lam: Number = 1.0, preferences: Sequence[Number] | None = None):
        super().__init__(preferences)
        if not 0 <= lam < float("inf"):
            raise ValueError(f"lam is {lam}; it must be a number of zero or more.")
        self.lam = float(lam)

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        r = self.r[here] / self.r[here].sum()
        size = losses.norm()
        if size == 0:  # no loss, no proportion
            return len(here) * r
        aim, proportion = r / r.norm(), losses / size
        return len(here) * (r - self.lam * off_the_line(aim, proportion) / size)


class PenaltyBoundary(PreferenceStrategy):
    """Penalty-based boundary intersection (PBI): how far along the preferred ray, and how far off it.

    minimise `d1 + theta d2`, `d1 = (L - z) . e` and `d2 = |L - z - d1 e|`, where e is the unit vector along the
    preferences r. Weights proportional to `e_t + theta (L - z - d1 e)_t / d2`, on shared parameters and heads; without
    the second part on the ray itself, where d2 has no derivative.

    theta: >= 0, the price of leaving the ray; 0 is a weighted sum.  preferences: r, one positive number a task
        (default: equal).  ideal: z, one number a task, the losses that could at best be had (default: zeros).
    Scale: m / sum(e) times the printed derivatives, so that equal losses and preferences give equal weighting.
    Source: Zhang and Li, MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition, 2007, section II C,
    where theta = 5.
    Raises ValueError for a wrong number of preferences or ideals.

    >>> strategy = PenaltyBoundary(theta=0.5).bind(["left", "right"])
    >>> strategy.weights(torch.tensor([1.0, 2.0]).double()).shared.round(decimals=6).tolist()
    [0.5, 1.5]
    """

    def __init__(self, theta: Number = 5.0, preferences: Sequence[Number] | None = None,
                 ideal: Sequence[Number] | None = None):
        super().__init__(preferences)
        if not 0 <= theta < float("inf"):
            raise ValueError(f"theta is {theta}; it must be a number of zero or more.")
        self.theta = float(theta)
        self.ideal = None if ideal is None else [float(value) for value in ideal]

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.register_buffer("z", per_task("ideal", self.ideal, self.tasks, 0.0), persistent=False)
        return self

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        e, above = self.r[here] / self.r[here].norm(), losses - self.z[here]
        off = off_the_line(above, e)
        d2 = off.norm()
        price = self.theta * off / d2 if d2 > 0 else 0.0
        return len(here) * (e + price) / e.sum()


def off_the_line(vector: Float64[Tensor, "k"], e: Float64[Tensor, "k"]) -> Float64[Tensor, "k"]:
    """The part of `vector` that is orthogonal to the unit vector e; zero if that is no more than rounding leaves."""
    off = vector - vector @ e * e
    return off if off.norm() > ROUNDING * vector.norm() else torch.zeros_like(off)
