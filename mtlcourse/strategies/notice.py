"""Conflict noticing: a step ends where tasks begin to disagree. Imports `files`, `strategies.base`."""

from jaxtyping import Bool, Float64
from torch import Tensor

from ..files import is_whole
from .base import Strategy, TaskWeights, all_present, check_finite


class ConflictNoticing(Strategy):
    """Conflict noticing: shared modules learn only as far up as no two tasks contradict each other.

    Walk the shared modules from the input side. Up to the first one on which two task gradients have a negative
    cosine, take the sum `sum_t g_t^p` of the gradients; this module and all later ones make no step. Modules of
    a single task go on with their own gradients. The cosine with a zero gradient counts as no conflict.

    first: number of the module where the walk begins; those before it always take the sum. CoNAL-Pro looks
        at the last shared module only, and those behind it. ValueError below 1.
    literal: False (default): no step means no gradient at all, so that neither momentum nor Adam nor weight
        decay moves the module. True: the gradient is zero, as printed, and all three still do.
    Scale: as printed; equal weighting's where there is no conflict.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, equation 5.3. It is meant for models that
    have modules of each task's own beside the shared ones; with hard sharing a conflict leaves only the
    heads to learn.
    """

    needs = "module_grams"
    kind = "gradient"

    def __init__(self, first: int = 1, literal: bool = False):
        super().__init__()
        if not is_whole(first, 1):
            raise ValueError(f"first={first!r}: shared modules are numbered from 1, the one next to the input.")
        self.first, self.zero_is_a_step = first, literal

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        check_finite(gram, self.tasks)
        ones = all_present(losses, present).double()
        conflict = (gram < 0).flatten(1).any(1)
        conflict[: self.first - 1] = False
        moves = conflict.cumsum(0) == 0
        return TaskWeights(shared=moves[:, None] * ones, heads=ones)
