"""Gradients remembered from step to step: MoCo, DB-MTL, Excess-MTL.

Imports `files`, `strategies.base`. A batch's gradients are noisy, so these keep something of every entry of every
task's gradient: m times the shared parameters in memory, and in the checkpoint. What is remembered belongs to
parameters; the gradients of a batch's representation are others in each step.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ..files import is_whole
from .base import DirectionStrategy, Number, Strategy, TaskWeights, check_not_negative, one_of, positive

FLOOR = 1e-8  # losses below count as this, so that they have a logarithm


class TrackingStrategy(DirectionStrategy):
    """Base of the strategies with a memory as large as all task gradients, `(m, n)`, and a count of each task's steps.

    A subclass defines `follow`, which sees the tasks of the step only, and changes their rows of the memory.
    It is refused at="features", where each batch has other entries.
    Raises ValueError when the number of entries changes, for a shared parameter that not all steps reach.
    """

    by_entry = True

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.memory: Tensor
        self.register_buffer("memory", torch.zeros(self.m, 0))  # its width is known at the first step
        self.register_buffer("steps", torch.zeros(self.m, dtype=torch.float64))
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        self.memory = torch.empty_like(state_dict[f"{prefix}memory"])
        super()._load_from_state_dict(state_dict, prefix, *others)

    def direction(self, gradients: Float[Tensor, "m n"],
                  losses: Float64[Tensor, "m"] | None = None) -> Float[Tensor, "n"]:
        if self.memory.shape[1] == 0:
            self.memory = gradients.new_zeros(gradients.shape)
        if self.memory.shape != gradients.shape:
            raise ValueError(f"{type(self).__name__} remembers gradients of {self.memory.shape[1]} entries, and this "
                             f"step's have {gradients.shape[1]}. It follows shared parameters, which must be the same "
                             "in each step.")
        here = self.here.nonzero().flatten()
        losses = torch.ones(self.m, dtype=torch.float64) if losses is None else losses
        self.steps[here] += 1
        self.memory = self.memory.to(gradients)
        if self.here.all():
            return self.follow(self.memory, gradients, losses, here)
        on_device = here.to(gradients.device)
        rows = self.memory[on_device]
        found = self.follow(rows, gradients[on_device], losses[here], here)
        self.memory[on_device] = rows
        return found

    def follow(self, rows: Float[Tensor, "k n"], gradients: Float[Tensor, "k n"], losses: Float64[Tensor, "k"],
               here: Tensor) -> Float[Tensor, "n"]:
        """The direction, for the k tasks of this step, whose places are `here`; changes `rows`, their memory."""
        raise TypeError(f"{type(self).__name__} must define follow(rows, gradients, losses, here).")


def fading(rate: float, power: float, steps: Float64[Tensor, "k"], like: Tensor) -> Float[Tensor, "k 1"]:
    """`rate / k^power` for the k-th step of each task, as a column."""
    return (rate / steps**power)[:, None].to(like)


class GradientCorrection(TrackingStrategy):
    """MoCo: MGDA on gradients that are tracked over the steps, for weights from one batch's gradients are biased.

    y_t follows the gradient, `y_t <- y_t - beta_k (y_t - g_t)` from zero, and w on the simplex follows MGDA's problem
    for them, `w <- Proj(w - gamma_k (Y Y^T w + rho w))`, from equal weights. Direction: `sum_t w_t y_t`. `beta_k = beta
    / k^beta_power`, gamma_k likewise, in the k-th step of the task. Heads keep their own unweighted gradients.

    beta, gamma, rho: as in the formulas, > 0, > 0 and >= 0.  beta_power, gamma_power: >= 0. ValueError for others.
    normalise: "none", as printed; "loss": g_t is brought to the length L_t, as the authors' code does, so that gamma
        means the same for gradients of any length.
    Scale: mean direction multiplied by m (w sums to m).
    Source: Fernando et al., Mitigating Gradient Bias in Multi-objective Learning, 2023, algorithm 1, without the
    projection of y on a ball; defaults as in LibMTL, whose code has a softmax where the paper projects on the simplex.
    In a step without all tasks, the weights of those that it has change among themselves.

    >>> moco = GradientCorrection(beta=1.0, beta_power=0.0, gamma=0.5).bind(["left", "right"])
    >>> moco.direction(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()  # w goes from (1/2, 1/2) to (7/8, 1/8)
    [1.75, 0.5]
    """

    def __init__(self, beta: Number = 0.5, gamma: Number = 0.1, rho: Number = 0.0, beta_power: Number = 0.5,
                 gamma_power: Number = 0.5, normalise: str = "none"):
        super().__init__()
        self.beta, self.gamma = positive("beta", beta), positive("gamma", gamma)
        for name, value in (("rho", rho), ("beta_power", beta_power), ("gamma_power", gamma_power)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; it must be a number of zero or more.")
        self.rho, self.beta_power, self.gamma_power = float(rho), float(beta_power), float(gamma_power)
        self.normalise = one_of("normalise", normalise, ("none", "loss"))

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.w: Tensor
        self.register_buffer("w", torch.full((self.m,), 1 / self.m, dtype=torch.float64))
        return self

    def follow(self, rows: Float[Tensor, "k n"], gradients: Float[Tensor, "k n"], losses: Float64[Tensor, "k"],
               here: Tensor) -> Float[Tensor, "n"]:
        if self.normalise == "loss":
            length = gradients.norm(dim=1, keepdim=True)
            gradients = torch.where(length > 0, gradients / length, 0.0) * losses[:, None].to(gradients)
        k = self.steps[here]
        rows.lerp_(gradients, fading(self.beta, self.beta_power, k, rows))
        mass = self.w[here].sum()
        w = self.w[here] / mass if mass > 0 else torch.full_like(k, 1 / len(k))
        slope = (rows @ rows.T).double().cpu() @ w + self.rho * w
        w = onto_simplex(w - fading(self.gamma, self.gamma_power, k, w).flatten() * slope)
        self.w[here] = mass * w
        return len(k) * w.to(rows) @ rows


def onto_simplex(v: Float64[Tensor, "k"]) -> Float64[Tensor, "k"]:
    """The point nearest to v with no negative entry and sum one: all entries less one number, cut off at zero.

    >>> onto_simplex(torch.tensor([0.5, 1.0, -3.0]).double()).tolist()
    [0.25, 0.75, 0.0]
    """
    v = v - v.max()  # the same for all changes nothing, and large numbers would be rounded
    falling = v.sort(descending=True).values
    lowered = (falling.cumsum(0) - 1) / torch.arange(1, len(v) + 1)  # if the first, the first two, ... stay above zero
    return (v - lowered[falling > lowered][-1]).clamp(min=0)


class DualBalancing(TrackingStrategy):
    """DB-MTL: the logarithms of the losses, and their tracked gradients all as long as the longest.

    y_t follows the gradient of the logarithm, `y_t <- l_t + beta_k (y_t - l_t)` with `l_t = g_t / L_t`, from zero.
    Direction: `sum_t max_s |y_s| / |y_t| y_t`. `beta_k = beta / k^power` in the k-th step of the task. Heads have the
    gradients of the logarithms, with weights `1 / L_t`.

    beta: in [0, 1), how much of the past stays; 0 remembers nothing.  power: >= 0.
    Scale: as printed, so each task adds a vector of one length. A task whose y is zero adds none.
    Source: Lin et al., Dual-Balancing for Multi-Task Learning, 2023, algorithm 1; defaults as in LibMTL. A loss below
    1e-8 counts as 1e-8.
    Raises ValueError for a loss below zero.

    >>> balanced = DualBalancing(beta=0.0).bind(["left", "right"])
    >>> balanced.direction(torch.tensor([[6.0, 0.0], [0.0, 2.0]]), torch.tensor([2.0, 4.0]).double()).tolist()
    [3.0, 3.0]
    """

    def __init__(self, beta: Number = 0.9, power: Number = 0.0):
        super().__init__()
        if not 0 <= beta < 1:
            raise ValueError(f"beta is {beta}; it must be from 0 to below 1.")
        if not 0 <= power < float("inf"):
            raise ValueError(f"power is {power}; it must be a number of zero or more.")
        self.beta, self.power = float(beta), float(power)

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        found = super().weights(losses, gram, present)
        check_not_negative(self, losses[self.here], [self.tasks[t] for t in self.here.nonzero().flatten().tolist()])
        return TaskWeights(found.shared, torch.where(self.here, 1 / losses.clamp(min=FLOOR), 0.0))

    def follow(self, rows: Float[Tensor, "k n"], gradients: Float[Tensor, "k n"], losses: Float64[Tensor, "k"],
               here: Tensor) -> Float[Tensor, "n"]:
        of_logs = gradients / losses.clamp(min=FLOOR)[:, None].to(gradients)
        rows.lerp_(of_logs, 1 - fading(self.beta, self.power, self.steps[here], rows))
        length = rows.norm(dim=1)
        return torch.where(length > 0, length.max() / length, 0.0) @ rows


class ExcessRisk(TrackingStrategy):
    """Excess-MTL: more weight for the task whose loss is further above the least that it can have.

    With G_t the sum of the squares of all its gradients so far, at each coordinate, the excess is about `E_t = sum
    g_t^2 / sqrt(G_t)`, and w_t is multiplied by `exp(eta E_t / E_t(0))` and brought to its sum: `w = m softmax(eta
    sum_k E_t(k) / E_t(0))`. E_t(0) is the mean over the task's first `warm_up` steps, which leave weights as they are.
    Heads keep their own unweighted gradients.

    eta: > 0, how fast weights follow.  warm_up: number of steps, 1 or more. ValueError for others.
    Scale: weights sum to m.
    Source: He et al., Robust Multi-Task Learning with Excess Risks, 2024, equations 6, 7 and 9, and section 3.2 for the
    ratio; eta = 1 as in TorchJD. There the weights act on losses, and so on heads too. Departs from known code in that
    nothing is added under root and fraction, which would change the result for small gradients. A task that has had
    no gradient in its warm-up has no ratio, and counts with one, as an absent one does.

    >>> robust = ExcessRisk().bind(["left", "right"])
    >>> for left in (1.0, 3.0):  # then the ratios are 9 / sqrt 10 and 1 / sqrt 2
    ...     print(robust.direction(torch.tensor([[left, 0.0], [0.0, 1.0]]).double()).round(decimals=3).tolist())
    [1.0, 1.0]
    [5.368, 0.211]
    """

    def __init__(self, eta: Number = 1.0, warm_up: int = 1):
        super().__init__()
        self.eta = positive("eta", eta)
        if not is_whole(warm_up, 1):
            raise ValueError(f"warm_up is {warm_up!r}; it is a number of steps, one or more.")
        self.warm_up = warm_up

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.first: Tensor
        for name in ("first", "log_w"):
            self.register_buffer(name, torch.zeros(self.m, dtype=torch.float64))
        return self

    def follow(self, rows: Float[Tensor, "k n"], gradients: Float[Tensor, "k n"], losses: Float64[Tensor, "k"],
               here: Tensor) -> Float[Tensor, "n"]:
        squares = gradients.square()
        rows += squares
        excess = (squares * rows.rsqrt().nan_to_num_(posinf=0.0)).sum(1).double().cpu()
        young = self.steps[here] <= self.warm_up
        self.first[here] += torch.where(young, excess / self.warm_up, 0.0)
        ratio = torch.where(young | (self.first[here] == 0), 1.0, excess / self.first[here])
        self.log_w[here] += self.eta * (ratio - 1)  # one is neutral, so that who is absent falls behind nobody
        return len(here) * torch.softmax(self.log_w[here], 0).to(rows) @ gradients
