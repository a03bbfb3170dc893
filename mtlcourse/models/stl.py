"""Single-task learning: the yardstick of safety. Imports `models.base`."""

from collections.abc import Sequence

from torch import Tensor, nn

from ..tasks import Problem
from .base import Encoder, MTLModel


class STL(MTLModel):
    """Single-task learning: each task t has its own encoder f_t and head h_t, and nothing is shared.

    prediction of task t: `h_t(f_t(x))`.

    One model holds all m nets, so that a single-task baseline is trained, evaluated and stored like any
    other architecture; its nets do not influence each other.
    No source: common; the STL of Deep Safe Multi-Task Learning, section 3.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__(problem, encoder)
        self.private = nn.ModuleDict({name: self.new_encoder(f"private.{name}") for name in self.task_names})
        self.add_heads(self.private[self.task_names[0]].out_shape)

    def route(self, task: str) -> list[nn.Module]:
        return [*self.private[task].stages, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        return {name: self.private[name](x) for name in tasks}
