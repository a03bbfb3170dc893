"""Another strategy's weights, smoothed over the steps: CR-MOGM. Imports `strategies.base`."""

from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from .base import Number, Strategy, TaskWeights, all_present, make


class SmoothedWeights(Strategy):
    """CR-MOGM: let a gradient strategy's weights follow the steps slowly, since each step's are noisy.

    `w_k = alpha w_(k-1) + (1 - alpha) u_k`, u_k the weights that the strategy `of` gives in step k, from `w_1 = u_1`.
    Noise of the batch is then less correlated between weights and gradients, which biases their product. Heads are
    weighted as the inner strategy says.

    of: name of a strategy that needs the Gram matrix, with its defaults.  alpha: in [0, 1); 0 is the strategy itself.
    Scale: the inner strategy's.
    Source: Zhou et al., On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond, 2022,
    with constant alpha, as the documentation of TorchJD 0.18 states it; the paper lets it grow as learning rates fall.
    Raises ValueError for a strategy that does not combine gradients by the Gram matrix.

    >>> slow = SmoothedWeights(alpha=0.5).bind(["left", "right"])
    >>> for squares in ([1.0, 3.0], [3.0, 1.0]):
    ...     K = torch.diag(torch.tensor(squares)).double()
    ...     print(slow.weights(torch.ones(2).double(), K).shared.round(decimals=6).tolist())
    [1.5, 0.5]
    [1.0, 1.0]
    """

    needs = "gram"
    kind = "gradient"

    def __init__(self, of: str = "mgda", alpha: Number = 0.9):
        super().__init__()
        self.inner = make(of)
        if (self.inner.needs, self.inner.kind) != ("gram", "gradient"):
            raise ValueError(f"of={of!r} does not combine gradients by their Gram matrix (it is of the kind "
                             f"{self.inner.kind!r} and needs {self.inner.needs!r}); take one such as mgda or "
                             "cagrad.")
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha is {alpha}; it must be from 0 to below 1.")
        self.of, self.alpha, self.looks_again = of, float(alpha), self.inner.looks_again

    @property
    def hears_of_epochs(self) -> bool:
        return self.inner.hears_of_epochs

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.inner.bind(tasks, self.generator)
        self.smoothed: Tensor
        self.register_buffer("smoothed", torch.full((self.m,), float("nan"), dtype=torch.float64))
        return self

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        now, here = self.inner.weights(losses, gram, present), all_present(losses, present)
        new = torch.where(self.smoothed.isnan(), now.shared, self.alpha * self.smoothed + (1 - self.alpha) * now.shared)
        self.smoothed = torch.where(here, new, self.smoothed)
        return TaskWeights(shared=torch.where(here, new, 0.0), heads=now.heads)

    def after_step(self, losses_again: Float64[Tensor, "m"]) -> None:
        self.inner.after_step(losses_again)

    def on_epoch_end(self, mean_losses: Float64[Tensor, "m"]) -> None:
        self.inner.on_epoch_end(mean_losses)

    def param_groups(self) -> list[dict[str, Any]]:
        return self.inner.param_groups()
