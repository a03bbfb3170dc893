"""Loss weighting and gradient combination at once. Imports `strategies.base`."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from .base import Strategy, TaskWeights


class Chain(Strategy):
    """First weigh the losses, then combine the gradients of the weighted losses.

    With weights v of the losses, the gradient strategy sees losses `v_t L_t` and the Gram matrix `v_s v_t K_st`, and
    gives weights u: shared parameters get `u_t v_t`, heads v_t times what the gradient strategy says.

    loss, gradient: the two strategies. Raises ValueError when they are not of these two kinds, or when the first
    needs Gram matrices by module and the second the gradients themselves.
    """

    kind = "gradient"

    def __init__(self, loss: Strategy, gradient: Strategy):
        super().__init__()
        if (loss.kind, gradient.kind) != ("loss", "gradient"):
            raise ValueError(f"A chain is one loss strategy and one gradient strategy, in this order; given were "
                             f"{type(loss).__name__} ({loss.kind}) and {type(gradient).__name__} ({gradient.kind}).")
        if loss.needs != "losses" and gradient.needs == "gradients":
            raise ValueError(f"{type(loss).__name__} needs {loss.needs!r} and cannot go with "
                             f"{type(gradient).__name__}, which needs 'gradients'.")
        self.loss, self.gradient = loss, gradient
        self.needs = gradient.needs if loss.needs == "losses" else loss.needs
        self.looks_again = loss.looks_again or gradient.looks_again
        self.by_entry, self.zero_is_a_step = gradient.by_entry, gradient.zero_is_a_step

    @property
    def remembers(self) -> bool:
        return self.loss.remembers or self.gradient.remembers

    @property
    def hears_of_epochs(self) -> bool:
        return self.loss.hears_of_epochs or self.gradient.hears_of_epochs

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.loss.bind(tasks, self.generator)  # one stream of random numbers for both
        self.gradient.bind(tasks, self.generator)
        self.register_buffer("v", torch.ones(self.m, dtype=torch.float64))
        return self

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        return self.weights_among(None, losses, gram, present)

    def weights_among(self, reaching: Bool[Tensor, "modules m"] | None, losses: Float64[Tensor, "m"],
                      gram: Float64[Tensor, "*modules m m"] | None = None,
                      present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        first = self.loss.weights_among(reaching, losses, None if self.loss.needs == "losses" else gram, present)
        self.v = first.shared
        if gram is not None:
            gram = gram * self.v[:, None] * self.v
            if gram.dim() == 3 and self.gradient.needs == "gram":
                gram = gram.sum(0)
        second = self.gradient.weights_among(reaching, self.v * losses, gram, present)
        return TaskWeights(shared=second.shared * first.shared, heads=second.heads * first.heads)

    def direction(self, gradients: Float[Tensor, "m n"],
                  losses: Float64[Tensor, "m"] | None = None) -> Float[Tensor, "n"]:
        weighted = None if losses is None else self.v * losses
        return self.gradient.direction(self.v.to(gradients)[:, None] * gradients, weighted)

    def after_step(self, losses_again: Float64[Tensor, "m"]) -> None:
        for strategy in (self.loss, self.gradient):
            if strategy.looks_again:
                strategy.after_step(losses_again)

    def on_epoch_end(self, mean_losses: Float64[Tensor, "m"]) -> None:
        self.loss.on_epoch_end(mean_losses)
        self.gradient.on_epoch_end(mean_losses)

    def param_groups(self) -> list[dict[str, Any]]:
        return self.loss.param_groups() + self.gradient.param_groups()
