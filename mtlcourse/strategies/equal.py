"""Equal and fixed weights, the baselines of all strategies. Imports `files`, `strategies.base`."""

from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ..files import is_number, unknown
from .base import Number, Strategy, TaskWeights, all_present


class EqualWeighting(Strategy):
    """Equal weighting (EW, also "direct sum"): minimise `sum_t L_t`.

    `w_t = 1` for each task t, on shared parameters and heads. Scale: as printed, so the direction is
    the plain sum of the task gradients.
    No source: common; A Simple General Approach to Balance Task Difficulty calls it the direct sum.
    """

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        ones = all_present(losses, present, torch.float64)
        return TaskWeights(shared=ones, heads=ones)


class FixedWeighting(Strategy):
    """Fixed weights, chosen beforehand: minimise `sum_t w_t L_t`.

    `fixed(left=2, right=1)` gives the weights by task; those of tasks that are not named are one. The same weights on
    shared parameters and heads.

    Scale: as given. Weights that are to be compared at one step size have one sum, such as m.
    Source: linear scalarisation, as old as optimisation of several objectives. Xin et al., Do Current Multi-Task
    Optimization Methods in Deep Learning Even Help?, 2022, find it hard to beat when the weights are tuned, which
    `mtlcourse bench --tune weights` does on the validation split.
    Raises ValueError for a weight that is no number of zero or more, for a task that is not there, and for weights
    that are all zero.

    >>> FixedWeighting(left=2).bind(["left", "right"]).weights(torch.ones(2).double()).shared.tolist()
    [2.0, 1.0]
    """

    def __init__(self, **of_tasks: Number):
        super().__init__()
        for name, value in of_tasks.items():
            if not is_number(value) or not 0 <= value < float("inf"):
                raise ValueError(f"The weight of task {name!r} is {value!r}; a fixed weight is a number of zero or "
                                 "more.")
        self.of_tasks = of_tasks

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        for name in self.of_tasks:
            if name not in self.tasks:
                raise ValueError(f"A fixed weight is given for no task of these. {unknown('task', name, self.tasks)}")
        self.values = torch.tensor([self.of_tasks.get(name, 1.0) for name in self.tasks], dtype=torch.float64)
        if not self.values.any():
            raise ValueError("All fixed weights are zero, so there is nothing to learn; give one task more than zero.")
        return self

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        weights = self.values * all_present(losses, present)
        return TaskWeights(shared=weights, heads=weights)
