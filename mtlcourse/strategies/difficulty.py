"""Loss weighting by difficulty: maximum, soft maximum, curriculum, BMTL, smooth Tchebycheff.

Imports `files`, `strategies.base`, `strategies.weighting`. What a large loss means is where these differ: the
first two and BMTL say "attend to it", the curriculum says "later".
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ..files import is_whole
from .base import Number, Strategy, check_not_negative, one_of, per_task, positive
from .weighting import LossStrategy

FLOOR = 1e-8  # losses below count as this, so that they have a logarithm


class Maximum(LossStrategy):
    """Maximum: minimise `max_t L_t`.

    All weight on the task with the largest loss, m; tasks that tie share it. The same weights on shared
    parameters and heads.

    Scale: weights sum to m.
    Source: Mehta, Lee and Gray, Minimax Multi-Task Learning, 2012; A Simple General Approach to Balance Task
    Difficulty, equation 3.
    """

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        largest = (losses == losses.max()).double()
        return len(here) * largest / largest.sum()


class SoftMaximum(LossStrategy):
    """Soft maximum (sMAX): minimise `log sum_t exp(L_t)`.

    `w = m softmax(L)`, on shared parameters and heads.

    Scale: weights sum to m (the gradient of the formula sums to one).
    Source: A Simple General Approach to Balance Task Difficulty, section 3.3.
    """

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        return len(here) * torch.softmax(losses, 0)


class Curriculum(LossStrategy):
    """Curriculum learning (CL), self-paced: easy tasks first.

    `w_t` proportional to `exp(-L_t(s - 1) / T)`, L_t(s - 1) the task's loss at the last step that had it. A
    task without such a step counts with its present loss. The same weights on shared parameters and heads.

    T: > 0; large T gives equal weights.
    Scale: weights sum to m.
    Source: A Simple General Approach to Balance Task Difficulty, equation 4, after Murugesan and Carbonell,
    Self-Paced Multitask Learning with Shared Knowledge, 2017.
    """

    def __init__(self, T: Number = 1.0):
        super().__init__()
        self.T = positive("T", T)

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.register_buffer("last", torch.full((self.m,), float("nan"), dtype=torch.float64))
        return self

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        last = torch.where(self.last[here].isnan(), losses, self.last[here])
        self.last[here] = losses
        return len(here) * torch.softmax(-last / self.T, 0)


class BalancedWeighting(LossStrategy):
    """Balanced multi-task learning (BMTL): minimise `sum_t h(L_t)`, so that a larger loss counts for more.

    `w_t = h'(L_t)`, on shared parameters and heads.  h and h' must be non-negative and strictly increasing.

    h: "exp" for `h(z) = exp(z / T)`, "poly" for `h(z) = sum_k coefficients[k] z^k`, or a function of a tensor
        that autograd can differentiate; it is checked on a grid over [0, 100].
    T: > 0, for "exp".  coefficients: non-negative, for "poly"; some power of two or more is needed.
    normalise: divide by h' of the mean loss, which keeps the step size of equal weighting: any h changes the
        effective learning rate, `exp(z / 50)` divides it by 50.
    Scale: as printed; with `normalise`, weights are one when all losses are equal.
    Raises ValueError for a loss below zero unless h is "exp", because the conditions are checked from zero upwards,
    and OverflowError when a weight is beyond the largest float32 number: exp at L / T > 88 or so, where a
    network's arithmetic would go on with infinity.
    Source: A Simple General Approach to Balance Task Difficulty, equations 8 and 9, theorem 1; T = 50 there.
    """

    def __init__(self, T: Number = 50.0, h: str | Callable[[Tensor], Tensor] = "exp",
                 coefficients: Sequence[Number] = (0.0, 1.0, 0.5), normalise: bool = False):
        super().__init__()
        self.T, self.normalise = positive("T", T), normalise
        self.coefficients = torch.tensor(list(coefficients), dtype=torch.float64)
        if not callable(h):
            one_of("h", h, ("exp", "poly"))
            self.h = {"exp": lambda z: torch.exp(z / self.T), "poly": self._polynomial}[h]
        else:
            self.h = h
        self.exponential = h == "exp"
        self.not_negative = not self.exponential
        if not self.exponential:  # exp(z / T) satisfies the conditions for every T > 0
            check_transform(self.h)

    def _polynomial(self, z: Tensor) -> Tensor:
        return (z[..., None] ** torch.arange(len(self.coefficients)) * self.coefficients).sum(-1)

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        if self.exponential and self.normalise:
            weights = torch.exp((losses - losses.mean()) / self.T)  # no overflow on the way to a harmless ratio
        else:
            weights = derivative(self.h, losses)
            if self.normalise:
                weights = weights / derivative(self.h, losses.mean()[None])
        beyond = ~(weights <= torch.finfo(torch.float32).max)
        if beyond.any():
            t = int(beyond.nonzero()[0])
            raise OverflowError(f"BMTL's weight h'(L) of task {self.tasks[here[t]]!r} is {weights[t].item():.3g} at "
                                f"loss {losses[t].item():.6g}, more than float32 holds. Use a larger T (it is "
                                f"{self.T:g}).")
        return weights


def derivative(h: Callable[[Tensor], Tensor], z: Float64[Tensor, "k"]) -> Float64[Tensor, "k"]:
    """h'(z) by autograd, zero where h does not depend on z."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        values = h(z)
        if not values.requires_grad:
            return torch.zeros_like(z)
        return torch.autograd.grad(values.sum(), z)[0]


def check_transform(h: Callable[[Tensor], Tensor]) -> None:
    """Raise ValueError unless h and h' are non-negative and strictly increasing on a grid over [0, 100].

    Source: A Simple General Approach to Balance Task Difficulty, theorem 1 and the conditions before it.
    """
    grid = torch.linspace(0, 100, 401, dtype=torch.float64)
    for name, values in (("h", h(grid).detach()), ("h'", derivative(h, grid))):
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} is not finite on all of [0, 100]; BMTL needs a transform that does not overflow.")
        if (values < 0).any():
            raise ValueError(f"{name} is negative somewhere on [0, 100]; BMTL needs h and h' non-negative.")
        if not (values.diff() > 0).all():
            hint = ("; h is linear, which is equal weighting: use strategy 'ew'"
                    if name == "h'" and torch.allclose(values, values[0].expand_as(values)) else "")
            raise ValueError(f"{name} is not strictly increasing on [0, 100]; BMTL needs that of h and h'{hint}.")


class SmoothTchebycheff(LossStrategy):
    """Smooth Tchebycheff scalarisation (STCH): a soft maximum of the distances from an ideal point.

    minimise `mu log sum_t exp(lambda_t (l_t - z_t) / mu)` with `l_t = L_t`; weights proportional to `lambda_t
    softmax_t(lambda (l - z) / mu)`, on shared parameters and heads.

    mu: > 0, smoothness; towards zero this becomes the weighted maximum.  preferences: lambda, one positive
    number a task (default: 1/m each).  ideal: z, one number a task, the losses that could at best be had
    (default: zeros).
    warm_up: 0 (default), or so many epochs that minimise `sum_t log L_t`; after them `l_t = log(L_t / Lbar_t)`, Lbar_t
        the task's mean loss in the last of these. Losses then count in relation to what they were, whatever their
        units; the weights have the derivative's factor 1 / L_t. A loss below 1e-8 counts as 1e-8, and has nearly all
        the weight of its step, while the others all but stop.
    Scale: weights sum to m.
    Source: Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, 2024, equation 7, on raw
    losses. `warm_up` is what the authors' public code for many tasks does (there five epochs, preferences of one each,
    and a scale of its own). A task that did not come in the last epoch of the warm-up is measured by the first in
    which it comes after that; until then it counts as being where it was.
    Raises ValueError for a wrong number of preferences or ideals, and with warm_up for a loss below zero.
    """

    def __init__(self, mu: Number = 1.0, preferences: Sequence[Number] | None = None,
                 ideal: Sequence[Number] | None = None, warm_up: int = 0):
        super().__init__()
        self.mu = positive("mu", mu)
        if not is_whole(warm_up, 0):
            raise ValueError(f"warm_up is {warm_up!r}; it is a number of epochs, zero or more.")
        self.warm_up, self.not_negative = warm_up, warm_up > 0
        self.preferences = None if preferences is None else [positive("A preference", value) for value in preferences]
        self.ideal = None if ideal is None else [float(value) for value in ideal]

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        for name, given, default in (("preferences", self.preferences, 1 / self.m), ("ideal", self.ideal, 0.0)):
            self.register_buffer(f"of_{name}", per_task(name, given, self.tasks, default), persistent=False)
        if self.warm_up:
            self.register_buffer("epochs", torch.zeros(()))
            self.register_buffer("typical", torch.full((self.m,), float("nan"), dtype=torch.float64))
        return self

    @property
    def hears_of_epochs(self) -> bool:
        return self.warm_up > 0

    def on_epoch_end(self, mean_losses: Float64[Tensor, "m"]) -> None:
        if not self.warm_up:
            return
        check_not_negative(self, mean_losses, self.tasks)
        self.epochs += 1
        if self.epochs >= self.warm_up:
            first_time = self.typical.isnan()
            self.typical[first_time] = mean_losses[first_time].clamp(min=FLOOR)

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        if not self.warm_up:
            return self.smooth_maximum(losses, here)
        losses = losses.clamp(min=FLOOR)
        slopes = 1 / losses
        if self.epochs >= self.warm_up:
            typical = torch.where(self.typical[here].isnan(), losses, self.typical[here])
            slopes = slopes * self.smooth_maximum(torch.log(losses / typical), here)
        return len(here) * slopes / slopes.sum()

    def smooth_maximum(self, values: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        """The slope of the smooth maximum in each of `values`, brought to the sum k."""
        preferences = self.of_preferences[here]
        weights = preferences * torch.softmax(preferences * (values - self.of_ideal[here]) / self.mu, 0)
        return len(here) * weights / weights.sum()
