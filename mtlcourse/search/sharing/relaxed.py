"""Discrete choices made differentiable: Gumbel-softmax samples at a falling temperature.

Imports `models`, `tasks`. Base of the supernets of LTB, BMTAS and AdaShare.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...models import MTLModel
from ...models.base import Encoder
from ...tasks import Problem


class Relaxed(MTLModel):
    """Base of models that choose, for every row of `logits`, one of its columns.

    A choice is a one-hot vector, relaxed to `softmax((logits + g) / tau)` with fresh standard Gumbel noise g in
    each training step, and to `softmax(logits / tau)`, without noise, in evaluation. As the temperature tau falls
    both become one-hot: the first a sample from softmax(logits), the second the most probable choice.
    Noise comes from torch's global generator, which checkpoints keep.

    A subclass makes `self.logits` (zeros: all choices equally probable) and says in `temperatures` where tau
    starts and ends, and in `falling` how: "exponential" or "linear" in the epochs after the warm-up.
    """

    temperatures = (5.0, 0.1)
    falling = "exponential"

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__(problem, encoder)
        self.logits: nn.Parameter
        self.epochs, self.warm_up = 1, 0
        self.register_buffer("done", torch.tensor(0))  # epochs, kept with the checkpoint

    # --- choices ---

    def choices(self) -> Float[Tensor, "*rows choices"]:
        """The relaxed choices of this step, or without noise in evaluation mode."""
        if self.training:
            return nn.functional.gumbel_softmax(self.logits, self.tau)
        return torch.softmax(self.logits / self.tau, -1)

    def probabilities(self) -> Float[Tensor, "*rows choices"]:
        """What a sample's choices are drawn from: `softmax(logits)`."""
        return torch.softmax(self.logits, -1)

    @property
    def warming_up(self) -> bool:
        """True while only the weights learn."""
        return int(self.done) < self.warm_up

    @property
    def progress(self) -> float:
        """How much of the epochs after the warm-up is done: 0 in the first of them, 1 in the last."""
        return min(max((int(self.done) - self.warm_up) / max(self.epochs - 1 - self.warm_up, 1), 0.0), 1.0)

    @property
    def tau(self) -> float:
        """The temperature."""
        first, last = self.temperatures
        if self.falling == "linear":
            return first + self.progress * (last - first)
        return first * (last / first) ** self.progress

    # --- what a search needs ---

    def prepare(self, epochs: int, warm_up: int) -> None:
        """Set the schedule: so many epochs in all, so many of them for the weights alone."""
        self.epochs, self.warm_up = epochs, warm_up

    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None:
        self.done.fill_(epoch)

    def architecture_parameters(self) -> list[nn.Parameter]:
        return [self.logits]

    def regularizer(self) -> Tensor:
        """What the upper level minimises besides the losses; by default nothing."""
        return self.logits.new_zeros(())

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The weights, without the logits."""
        return [{"params": self.learning(without=[self.logits]), "lr": lr, "weight_decay": weight_decay}]
