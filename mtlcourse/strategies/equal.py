"""Equal weighting, the baseline of all strategies. Imports `strategies.base`."""

from jaxtyping import Bool, Float64
from torch import Tensor

from .base import Strategy, TaskWeights, all_present


class EqualWeighting(Strategy):
    """Equal weighting (EW, also "direct sum"): minimise `sum_t L_t`.

    `w_t = 1` for each task t, on shared parameters and heads. Scale: as printed, so the direction is
    the plain sum of the task gradients.
    """

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        ones = all_present(losses, present).double()
        return TaskWeights(shared=ones, heads=ones)
