"""GradNorm: weights that make tasks train at one pace. Imports `strategies.base`, `strategies.weighting`."""

from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from .base import Number, Strategy, TaskWeights, all_present, check_finite, check_not_negative, positive
from .gram import norms
from .weighting import own_group, scalars, write_gradients


class GradNorm(Strategy):
    """GradNorm: learn weights under which slow tasks have the larger gradients.

    The weights w minimise `sum_t | w_t |g_t| - Gbar r_t^alpha |` by gradient steps; g_t is the task's gradient
    on the last shared module, `Gbar = mean_t w_t |g_t|`, and r_t the relative inverse training rate, `L_t(s) /
    L_t(0)` over its mean. Gbar and r count as constants, so `d/dw_t = sign(w_t |g_t| - Gbar r_t^alpha) |g_t|`: no
    second derivative. The same weights on shared parameters and heads.

    alpha: how strongly pace is equalised; 0 makes all gradients equally long.  lr: learning rate of w.
    Scale: weights sum to m; after each step they are kept non-negative and brought back to that sum.
    Source: Chen et al., GradNorm, 2018, equations 1-2 and algorithm 1. A slow task gets more weight; a popular
    implementation has the sign the other way round. L_t(0) is the first loss that was seen; a task for which it
    is zero counts as average, and of no task can losses be below zero. A task that does not reach the last shared
    module has no pace there: it is no party and has weight one. Without shared modules the weights stay as they are.
    Raises ValueError for a loss below zero, and ArithmeticError when a step of w has left no positive weight: `lr` is
    too large.
    """

    needs = "module_grams"

    def __init__(self, alpha: Number = 1.5, lr: Number = 0.025):
        super().__init__()
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"alpha is {alpha}; it must be a number of zero or more.")
        self.alpha, self.lr = float(alpha), positive("lr", lr)

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.w = scalars(self.m, 1.0)
        self.register_buffer("first", torch.full((self.m,), float("nan"), dtype=torch.float64))
        self.register_buffer("moved", torch.zeros(self.m, dtype=torch.bool))  # by the step before this one
        return self

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        check_finite(gram, self.tasks)
        check_not_negative(self, losses, self.tasks)
        self._renormalise()
        present = all_present(losses, present)
        here = present.nonzero().flatten()
        first_time = present & self.first.isnan()
        self.first[first_time] = losses[first_time]
        w = torch.stack([parameter.detach() for parameter in self.w])[here]
        lengths = norms(gram[-1])[here] if len(gram) else torch.zeros_like(w)

        ratio = torch.where(self.first[here] > 0, losses[here] / self.first[here], 1.0)
        rate = ratio / ratio.mean() if ratio.any() else torch.ones_like(ratio)
        target = (w * lengths).mean() * rate**self.alpha
        write_gradients(self.w, here, torch.sign(w * lengths - target) * lengths)
        self.moved.copy_(present)

        weights = torch.zeros_like(losses)
        weights[here] = len(here) * w / w.sum() if w.any() else torch.ones_like(w)
        return TaskWeights(shared=weights, heads=weights)

    def parties(self, reaching: Bool[Tensor, "modules m"]) -> Bool[Tensor, "m"]:
        return reaching[-1:].any(0)

    def _renormalise(self) -> None:
        """Bring the weights that the optimiser has moved back to where all sum to m."""
        w = torch.stack([parameter.detach() for parameter in self.w])
        if not self.moved.any():
            return
        w[self.moved] = w[self.moved].clamp(min=0)
        total = w[self.moved].sum()
        if not total > 0:
            raise ArithmeticError("GradNorm's step has left no positive weight; use a learning rate below "
                                  f"{self.lr:g}.")
        w[self.moved] *= (self.m - w[~self.moved].sum()) / total
        for parameter, value in zip(self.w, w, strict=True):
            parameter.data.copy_(value)

    def param_groups(self) -> list[dict[str, Any]]:
        return own_group(self.w, self.lr)
