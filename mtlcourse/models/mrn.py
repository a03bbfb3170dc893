"""Multilinear relationship network: a prior on the heads that learns how tasks, classes and features go together.

Imports `tasks`, `models.base`, `models.tensors`.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..tasks import Batch, Problem
from .base import Encoder
from .tensors import StackedHeads, unfold

MODES = ("features", "classes", "tasks")


class MRN(StackedHeads):
    """Multilinear relationship network: hard sharing, with a tensor-normal prior on the stack of the heads.

    The weights W of all output layers, of shape (features, classes, tasks), are drawn from a normal
    distribution whose covariance is a Kronecker product of one matrix a mode:
        `vec(W) ~ N(0, C_features x C_classes x C_tasks)`.
    loss: `sum_t L_t + strength / 2 * vec(W)^T (C_features x C_classes x C_tasks)^-1 vec(W)`. After each epoch the
    covariances are set to what the weights say, in closed form, one mode after the other (`estimate`). The
    covariance of the tasks is what the model has learned about their relations (`covariance("tasks")`).

    Outputs that a task does not have are zeros in W (`tensors.stack`), and zeros are data to the prior: a task with
    fewer classes than others has a smaller variance for that, and so have classes that few tasks have. Entries that
    are not there could only be left out of an estimate without closed form. Tasks of equal size have none.

    strength: weight of the prior, not negative. Only the product of the three covariances has a scale, so each is
        scaled to variances that are one on average, and this weight stands for the rest.
    ridge: then added to the diagonal of each covariance, positive. W has few entries for such large matrices: most
        eigenvalues would be zero, and their inverses would be all there is of the penalty.
    Raises ValueError for options that cannot be, and for heads that cannot be stacked, see `tensors`.
    Source: Learning Multiple Tasks with Multilinear Relationship Networks, section 4. Departures from it:
    - the prior is on the output layers alone, as in the authors' public code; in the paper it is on all layers that
      a task has for itself (the last two in its experiments), with covariances for each;
    - covariances are set after each epoch, one with the new values of those before it; in the code after each step,
      all with the old values;
    - they are scaled to mean variance one, where the paper takes them as estimated and the code scales the inverses
      to trace one;
    - the ridge is by default a tenth of the mean variance; there it is small, to keep inverses finite (1e-5 in the
      code).
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, strength: float = 1e-3, ridge: float = 0.1):
        if not strength >= 0 or not ridge > 0:
            raise ValueError(f"strength={strength!r} must not be negative, and ridge={ridge!r} must be positive.")
        super().__init__(problem, encoder)
        self.strength, self.ridge = strength, ridge
        for mode, size in zip(MODES, self.stacked().shape, strict=True):
            self.register_buffer(f"precision_{mode}", torch.eye(size))  # kept inverted, which is what each step needs

    def precisions(self) -> list[Float[Tensor, "_ _"]]:
        """The inverse covariances of features, classes and tasks."""
        return [getattr(self, f"precision_{mode}") for mode in MODES]

    def covariance(self, mode: str = "tasks") -> Float64[Tensor, "size size"]:
        """The covariance of "features", "classes" or "tasks"."""
        return torch.linalg.inv(getattr(self, f"precision_{mode}").double())

    def auxiliary_loss(self, batch: Batch, predictions: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        W = self.stacked()
        return self.strength / 2 * (W * torch.einsum("dct,di,cj,tk->ijk", W, *self.precisions())).sum()

    def on_epoch_end(self, epoch: int, mean_losses: Mapping[str, float]) -> None:
        """Set each covariance to its most likely value, given the weights and the other two."""
        W, precisions = self.stacked().detach().double(), [matrix.double() for matrix in self.precisions()]
        for mode, name in enumerate(MODES):
            covariance = estimate(W, precisions, mode)
            mean = covariance.trace() / len(covariance)
            ridge = self.ridge * torch.eye(len(covariance), dtype=W.dtype, device=W.device)
            precisions[mode] = torch.linalg.inv(covariance / mean.clamp_min(1e-300) + ridge)
            getattr(self, f"precision_{name}").copy_(precisions[mode])


def estimate(W: Float64[Tensor, "features classes tasks"], precisions: Sequence[Float64[Tensor, "_ _"]],
             mode: int) -> Float64[Tensor, "size size"]:
    """The most likely covariance C of one mode of W ~ N(0, C_1 x C_2 x C_3), given the inverses of the other two.

    `C = W_(k) (P_i x P_j) W_(k)^T / n`, where W_(k) is the matricisation of W in this mode, n its number of columns and
    P_i, P_j are the inverse covariances of the other modes.
    Source: Learning Multiple Tasks with Multilinear Relationship Networks, section 4.
    """
    others = list(precisions)
    others[mode] = torch.eye(W.shape[mode], dtype=W.dtype, device=W.device)
    whitened = unfold(torch.einsum("dct,di,cj,tk->ijk", W, *others), mode)
    return unfold(W, mode) @ whitened.T / whitened.shape[1]
