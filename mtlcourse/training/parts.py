"""One update from a batch whose equal parts come one after the other, in calls of their own.

Imports `strategies`, `training.updates`. Where a step may ask for the parts itself, it does so by `Engine.accumulate`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..strategies import TaskWeights
from ..strategies.shares import Measured
from .updates import StrategyStep, check_shares


class Parts:
    """What the parts of a batch have given so far.

    step: what shall be done with them.  number: how many parts make a batch.
    The strategy decides once, on the means over all parts. Where gradients are measured at parameters, and with equal
    weights, the graph of a part is gone after it; for other strategies that weigh losses, and at features, the graphs
    of all parts stay until the decision.
    Raises ValueError for what cannot be computed in parts.
    """

    def __init__(self, step: StrategyStep, number: int):
        check_shares(step.model, step.engine, norms_too=False)
        self.step, self.number = step, number
        self.clear()

    def clear(self) -> None:
        """Begin a batch."""
        self.came = 0
        self.measured: Measured | None = None
        self.auxiliaries: list[Tensor] = []
        self.passes: list[Any] = []

    def add(self, losses: Mapping[str, Tensor], auxiliary: Tensor | None = None) -> TaskWeights | None:
        """Add a part: as `StrategyStep.backward` with the last one, None before.

        Raises what that raises, and ValueError for other tasks than the first part had; the next part then begins a
        batch.
        """
        try:
            return self._add(losses, auxiliary)
        except BaseException:
            self.clear()
            raise

    def _add(self, losses: Mapping[str, Tensor], auxiliary: Tensor | None) -> TaskWeights | None:
        engine, passed = self.step.engine, self.step.hooks.get("passed")
        if self.measured is None:
            self.step.optimizer.zero_grad(set_to_none=True)
        elif set(self.measured.scalars) != set(losses):
            raise ValueError(f"Of {self.number} parts that make one update, part {self.came + 1} has losses of "
                             f"{sorted(losses)} and part 1 of {sorted(self.measured.scalars)}. All parts need the same "
                             "tasks: give a loss of zero, with a graph, where a part has no label of a task.")
        part = engine.measure({name: loss / self.number for name, loss in losses.items()},
                              None if auxiliary is None else auxiliary / self.number, keep_graph=False)
        self.measured = engine.gather(part, self.measured)
        self.came += 1
        self.auxiliaries += [] if auxiliary is None else [auxiliary.detach() / self.number]
        self.passes += [] if passed is None else [passed()]
        if self.came < self.number:
            return None
        measured, auxiliaries, passes = self.measured, self.auxiliaries, self.passes
        self.clear()
        decide: Callable[[], TaskWeights] = lambda: engine.decide(measured)  # noqa: E731
        return self.step.filled(decide, {}, lambda: sum(auxiliaries) if auxiliaries else None, lambda: passes)
