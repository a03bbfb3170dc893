"""Loss weighting that balances how tasks learn: UW, IMTL-L, DWA, GLS, RLW and RGW, FAMO.

Imports `strategies.base`. All of them are functions from m losses to m weights; the weights act on the
losses, so on shared parameters and heads alike.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from .base import Number, Strategy, TaskWeights, all_present, check_not_negative, one_of, per_task, positive


class LossStrategy(Strategy):
    """Base of the strategies that see losses only: a subclass defines `weigh`, for the tasks of the step.

    not_negative: True where the method means nothing for a loss below zero; such a loss raises ValueError.
    """

    not_negative = False

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        here = all_present(losses, present).nonzero().flatten()
        if self.not_negative:
            check_not_negative(self, losses[here], [self.tasks[t] for t in here.tolist()])
        weights = torch.zeros_like(losses)
        weights[here] = self.weigh(losses[here], here)
        return TaskWeights(shared=weights, heads=weights)

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        """Weights of the k tasks of this step, whose places among all m are `here`."""
        raise TypeError(f"{type(self).__name__} must define weigh(losses, here).")


def scalars(m: int, value: float) -> nn.ParameterList:
    """m learned numbers, each a parameter of its own.

    An optimiser passes over a parameter whose `.grad` is None, so what a task that is absent from a step
    has learned stays as it was; an entry of a vector would go on with its momentum.
    """
    return nn.ParameterList(nn.Parameter(torch.tensor(value, dtype=torch.float64)) for _ in range(m))


class UncertaintyWeighting(LossStrategy):
    """Uncertainty weighting (UW): learn the noise level of each task, and weigh by it.

    minimise `sum_t e^(-v_t) L_t / 2 + v_t / 2` over v for regression, `e^(-v_t) L_t + v_t / 2` for
    classification; v_t = log sigma_t^2 is the logarithm of the task's noise variance, learned with the
    model. Weights: `e^(-v_t) / 2` and `e^(-v_t)`, on shared parameters and heads.

    kind: "auto" takes each task's own kind; "regression" or "classification" treats all alike.
    lr: learning rate of v (default: the model's).
    Scale: as printed; 1 or 1/2 at the start.
    Source: Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, 2018, equations
    7 and 10. Departs from much code, which lets weight decay pull v, and so the variance, towards one: here
    v has none. A perfect task (L = 0) keeps a finite weight at each step, which grows without bound.
    Raises ValueError for a loss below zero, for which the objective has no minimum.
    """

    not_negative = True

    def __init__(self, kind: str = "auto", lr: Number | None = None):
        super().__init__()
        self.kind_of_all = one_of("kind", kind, ("auto", "regression", "classification"))
        self.lr = None if lr is None else positive("lr", lr)

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.log_variances = scalars(self.m, 0.0)
        return self

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        kinds = self.kinds if self.kind_of_all == "auto" else [self.kind_of_all] * self.m
        v = torch.stack([parameter.detach() for parameter in self.log_variances])[here]
        factor = torch.tensor([0.5 if kinds[t] == "regression" else 1.0 for t in here.tolist()], dtype=torch.float64)
        weights = factor * torch.exp(-v)
        write_gradients(self.log_variances, here, 0.5 - weights * losses)
        return weights

    def param_groups(self) -> list[dict[str, Any]]:
        return own_group(self.log_variances, self.lr)


class ScaleLearning(LossStrategy):
    """IMTL-L: learn a scale for each loss, so that all scaled losses are alike.

    minimise `sum_t e^(s_t) L_t - s_t` over the logarithms s of the scales, learned with the model. Weights: `e^(s_t)`,
    on shared parameters and heads; where s has settled, `e^(s_t) L_t = 1`. With IMTL-G behind it this is IMTL:
    `hps+imtl-l+imtl-g`.

    lr: learning rate of s (default: the model's).
    Scale: as printed; one at the start.
    Source: Liu et al., Towards Impartial Multi-task Learning, 2021, section 3.2: scales e^s with the base e. It is
    uncertainty weighting of classifications with s = -v, its objective doubled. Here s has no weight decay.
    Raises ValueError for a loss below zero, for which the objective has no minimum.

    >>> strategy = ScaleLearning().bind(["left", "right"])
    >>> strategy.weights(torch.tensor([0.5, 3.0]).double()).shared.tolist()
    [1.0, 1.0]
    >>> [scale.grad.item() for scale in strategy.log_scales]
    [-0.5, 2.0]
    """

    not_negative = True

    def __init__(self, lr: Number | None = None):
        super().__init__()
        self.lr = None if lr is None else positive("lr", lr)

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.log_scales = scalars(self.m, 0.0)
        return self

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        weights = torch.stack([parameter.detach() for parameter in self.log_scales])[here].exp()
        write_gradients(self.log_scales, here, weights * losses - 1)
        return weights

    def param_groups(self) -> list[dict[str, Any]]:
        return own_group(self.log_scales, self.lr)


def write_gradients(parameters: nn.ParameterList, here: Tensor, gradients: Float64[Tensor, "k"]) -> None:
    """Set `.grad` of the parameters of the tasks `here`, and None for the others."""
    for parameter in parameters:
        parameter.grad = None
    for t, gradient in zip(here.tolist(), gradients, strict=True):
        parameters[t].grad = gradient.clone()


def own_group(parameters: nn.ParameterList, lr: float | None) -> list[dict[str, Any]]:
    """An optimiser group with its own learning rate, if there is one, and no weight decay."""
    return [{"params": list(parameters), "weight_decay": 0.0} | ({} if lr is None else {"lr": lr})]


class DynamicWeightAverage(LossStrategy):
    """Dynamic weight average (DWA): more weight for a task whose loss falls more slowly.

    `w_t = m softmax(r_t / T)`, `r_t = L_t(e - 1) / L_t(e - 2)`, the ratio of the task's mean losses over the
    last two epochs; ones during the first two. The same weights on shared parameters and heads.

    T: temperature, > 0; large T gives equal weights.
    Scale: weights sum to m.
    Source: Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, 2019, equation 7; also A
    Simple General Approach to Balance Task Difficulty, section 2.2. A task without two means to compare, or
    whose older mean is zero, counts with the ratio one; an epoch in which it never came changes nothing.
    Raises ValueError for a loss below zero, of which ratios tell nothing.
    """

    not_negative = True

    def __init__(self, T: Number = 2.0):
        super().__init__()
        self.T = positive("T", T)

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.register_buffer("means", torch.full((2, self.m), float("nan"), dtype=torch.float64))  # older, newer
        return self

    def on_epoch_end(self, mean_losses: Float64[Tensor, "m"]) -> None:
        check_not_negative(self, mean_losses, self.tasks)
        came = ~mean_losses.isnan()
        self.means[0, came], self.means[1, came] = self.means[1, came], mean_losses[came]

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        older, newer = self.means[:, here]
        ratio = torch.where(older > 0, newer / older, 1.0)  # a comparison with NaN is false
        return len(here) * torch.softmax(ratio / self.T, 0)


class GeometricLoss(LossStrategy):
    """Geometric loss strategy (GLS): minimise the geometric mean of the losses, whatever their units.

    `GLS = exp(mean_t log L_t)`; its gradient is `sum_t GLS / (m L_t) g_t`. Weights: m times that,
    `GLS / L_t`, on shared parameters and heads.

    Scale: mean direction multiplied by m; weights one for equal losses. Multiplying one task's loss by a
    constant multiplies all tasks' weighted gradients alike.
    Source: Chennupati et al., MultiNet++, 2019, equation 3. Departs from code that multiplies the losses
    and takes the root: the product of small losses underflows. A task whose loss is exactly zero is left
    out of the mean, with weight zero: its gradient vanishes there, and its logarithm is no number. A loss that is
    only nearly zero is not, and starves the others: their weights GLS / L_t are nearly zero too.
    Raises ValueError for a loss below zero.
    """

    not_negative = True

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        logs = losses.log()
        positive_losses = losses > 0
        if not positive_losses.any():
            return torch.ones_like(losses)
        return torch.where(positive_losses, torch.exp(logs[positive_losses].mean() - logs), 0.0)


class RandomWeighting(LossStrategy):
    """Random loss weighting (RLW): new random weights in each step, the baseline of all weighting.

    `w = m softmax(z)`, z_t standard normal, drawn from the strategy's own generator. The same weights on
    shared parameters and heads.

    distribution: "normal" (default), or "uniform": `w_t = m u_t / sum_s u_s`, u_t uniform on [0, 1].
    Scale: weights sum to m (the uniform ones as printed to one).
    Source: Lin et al., Reasonable Effectiveness of Random Weighting, 2022, section 3.1; uniform: Learning
    Architecture for Multiple Tasks in Transfer Learning, equation 5.5.
    """

    def __init__(self, distribution: str = "normal"):
        super().__init__()
        self.distribution = one_of("distribution", distribution, ("normal", "uniform"))

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        # m draws whatever the step has, so that the stream does not depend on which tasks are there.
        if self.distribution == "uniform":
            uniform = 1 - torch.rand(self.m, generator=self.generator, dtype=torch.float64)[here]  # never zero
            return len(here) * uniform / uniform.sum()
        normal = torch.randn(self.m, generator=self.generator, dtype=torch.float64)
        return len(here) * torch.softmax(normal[here], 0)


class RandomGradientWeighting(RandomWeighting):
    """Random gradient weighting (RGW): RLW's random weights on the gradients of shared parameters only.

    `w = m softmax(z)`, z_t standard normal, fresh in each step. Heads keep their own unweighted gradients.

    distribution: as for RLW.
    Scale: weights sum to m.
    Source: Lin et al., Reasonable Effectiveness of Random Weighting, 2022, section 3.1.

    >>> weights = RandomGradientWeighting().bind(["left", "right"]).weights(torch.ones(2).double())
    >>> round(weights.shared.sum().item(), 6), weights.heads.tolist()
    (2.0, [1.0, 1.0])
    """

    kind = "gradient"

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        return TaskWeights(super().weights(losses, gram, present).shared, all_present(losses, present).double())


class FastAdaptiveWeighting(LossStrategy):
    """Fast adaptive multi-task optimisation (FAMO): let all losses fall at the same relative speed.

    weights proportional to `w_t / (L_t - b_t)`, `w = softmax(xi)`, b_t the least loss that can be had. After the update
    the losses on the same batch are computed once more, and xi takes a step of Adam against `J^T (log (L_before - b) -
    log (L_after - b))`, J the Jacobian of the softmax: who fell less than the others gets more. The same weights on
    shared parameters and heads.

    lr: learning rate of xi.  decay: weight decay on xi, which pulls towards equal weights.
    min_losses: b, one number a task (default: zeros), for losses that can be below zero.
    Scale: weights sum to m (the source's sum to one).
    Source: Liu, Feng, Stone and Liu, FAMO, 2023, algorithm 1. Costs one more forward pass a step. A distance from b
    below 1e-8 counts as 1e-8, so that a perfect task has a finite logarithm. In a step in which one task is there, it
    has nearly all the weight, and the others all but stop: as the method has it, a loss must fall by the same factor.
    Raises ValueError for a loss below its b, before the update and after, and for a wrong number of `min_losses`.
    """

    looks_again = True
    floor = 1e-8

    def __init__(self, lr: Number = 0.025, decay: Number = 1e-3, min_losses: Sequence[Number] | None = None):
        super().__init__()
        self.lr, self.decay = positive("lr", lr), float(decay)
        self.min_losses = None if min_losses is None else [float(value) for value in min_losses]

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        for name in ("xi", "first", "second", "steps"):  # the last three: what Adam remembers of each entry
            self.register_buffer(name, torch.zeros(self.m, dtype=torch.float64))
        self.before: Tensor
        self.register_buffer("before", torch.full((self.m,), float("nan"), dtype=torch.float64))
        self.least = per_task("min_losses", self.min_losses, self.tasks, 0.0)
        return self

    def above_least(self, losses: Float64[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """`L - b`, at least 1e-8; NaN where there is no loss."""
        for name, value, least in zip(self.tasks, losses.tolist(), self.least.tolist(), strict=True):
            if value < least:
                raise ValueError(f"FAMO needs losses of min_losses or more, but that of task {name!r} is {value:.6g}, "
                                 f"and its min_losses {least:g}. Give min_losses=[...] below what losses can reach, "
                                 "one number a task.")
        return (losses - self.least).clamp(min=self.floor)

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        everyone = torch.full_like(self.before, float("nan"))
        everyone[here] = losses
        self.before = self.above_least(everyone)
        weights = torch.softmax(self.xi[here], 0) / self.before[here]
        return len(here) * weights / weights.sum()

    def after_step(self, losses_again: Float64[Tensor, "m"]) -> None:
        after = self.above_least(losses_again)
        both = ~(self.before.isnan() | after.isnan())
        fall = self.before[both].log() - after[both].log()
        w = torch.softmax(self.xi[both], 0)
        gradient = w * (fall - w @ fall) + self.decay * self.xi[both]
        self.steps[both] += 1
        self.first[both] = 0.9 * self.first[both] + 0.1 * gradient
        self.second[both] = 0.999 * self.second[both] + 0.001 * gradient.square()
        first = self.first[both] / (1 - 0.9 ** self.steps[both])
        second = self.second[both] / (1 - 0.999 ** self.steps[both])
        self.xi[both] -= self.lr * first / (second.sqrt() + 1e-8)
