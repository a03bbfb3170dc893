"""Hard parameter sharing: one encoder for all. Imports `models.base`."""

from collections.abc import Sequence

from torch import Tensor, nn

from ..tasks import Problem
from .base import Encoder, MTLModel


class HPS(MTLModel):
    """Hard parameter sharing: one encoder f_S for all tasks, one head h_t a task.

    prediction of task t: `h_t(f_S(x))`.

    Source: R. Caruana, Multitask Learning, Machine Learning 28, 1997.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__(problem, encoder)
        self.shared = self.new_encoder("shared")
        self.add_heads(self.shared.out_shape)

    def route(self, task: str) -> list[nn.Module]:
        return [*self.shared.stages, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.shared(x)
        return {name: self.leave(name, z) for name in tasks}
