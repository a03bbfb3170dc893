"""What an engine knows of its model: what that says of itself, and what processes have agreed on.

Imports `strategies.reach`, `strategies.shares`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from .reach import Reach, Sharing, leaves_of, reach
from .shares import Agreement


@runtime_checkable
class SharingModel(Protocol):
    """What the engine needs to know of a model.

    What the graph says goes first: a task's own parameters that another task's loss reaches are shared. Parameters
    that neither list names learn too, unless the model names them in `architecture_parameters()`.
    """

    heads: Any
    exits: dict[str, list[Tensor]] | None

    def shared_modules(self) -> list[list[nn.Parameter]]: ...
    def task_parameters(self, task: str) -> list[nn.Parameter]: ...


class Known:
    """A model that is asked once, when the answer is first needed, and again after `forget`.

    tasks: names.  total: sums over processes, see `training.distributed`; None for one process.
    """

    def __init__(self, model: SharingModel, tasks: Sequence[str], total: Any = None):
        self.model, self.tasks, self.total = model, tasks, total
        self.several = total is not None and total.size > 1

    def forget(self) -> None:
        for name in ("sharing", "learning", "trained", "agreement"):
            vars(self).pop(name, None)

    @cached_property
    def sharing(self) -> Sharing:
        """The shared parameters by module, and each task's own, as the model has them."""
        return Sharing(self.model.shared_modules(), {name: self.model.task_parameters(name) for name in self.tasks})

    @cached_property
    def learning(self) -> list[nn.Parameter]:
        """All of the model's parameters."""
        if isinstance(self.model, nn.Module):
            return list(self.model.parameters())
        return [parameter for group in (*self.sharing.modules, *self.sharing.own.values()) for parameter in group]

    @cached_property
    def trained(self) -> set[int]:
        """Ids of the parameters that task losses train; those of an architecture are for somebody else."""
        others = {id(parameter) for parameter in getattr(self.model, "architecture_parameters", list)()}
        return {id(parameter) for parameter in self.learning} - others

    @cached_property
    def agreement(self) -> Agreement:
        """What several processes agree on; forgotten after each epoch."""
        return Agreement(self.total, self.learning, self.trained)

    def reached(self, scalars: Mapping[str, Tensor], auxiliary: Tensor | None) -> Reach:
        """What the losses of a step reach, in any process."""
        found = reach(scalars, self.model.exits)
        if self.several:
            agreed = self.agreement.reached(leaves_of(scalars, auxiliary))
            found.whole = {name: agreed[name] for name in scalars}
        return found

    def sharing_in(self, reached: Reach) -> Sharing:
        """Who shares what in a step with this reach."""
        return self.sharing.as_reached(reached.whole, self.trained)
