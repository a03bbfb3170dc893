"""One update from one batch: the step that `training.fit` repeats.

Imports `files`, `tasks`, `strategies`. Searches and staged procedures bring step objects of their own and
reuse the loop around them.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..files import derived_seed, unknown
from ..strategies import Engine, Strategy, average, make
from ..tasks import Batch, Task, mean_losses

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
HOOKS = ("auxiliary_loss", "param_groups", "after_backward", "after_step", "on_epoch_end")


@runtime_checkable
class Step(Protocol):
    """What `fit` needs of a step object.

    `step(batch)` makes one update and returns `{task: loss}` as numbers, for the tasks of the batch.
    optimizers: what a learning-rate schedule drives.  The state goes into the checkpoint.
    """

    optimizers: Sequence[torch.optim.Optimizer]

    def __call__(self, batch: Batch) -> dict[str, float]: ...
    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class StrategyStep:
    """The usual step: forward, task losses, the strategy's gradients, one optimiser step.

    tasks: with their losses.  model, engine, optimizer: what acts.  forward: the compiled model, if any.
    autocast: makes the context in which forward and losses run.
    The model's optional hooks are called in the order forward, `auxiliary_loss`, `after_backward`,
    `after_step`; `on_epoch_end` after each epoch.
    """

    def __init__(self, tasks: Sequence[Task], model: nn.Module, engine: Engine, optimizer: torch.optim.Optimizer,
                 forward: Callable | None = None, autocast: Callable = contextlib.nullcontext):
        self.tasks, self.model, self.engine, self.optimizer = tasks, model, engine, optimizer
        self.forward, self.autocast = model if forward is None else forward, autocast
        self.optimizers, self.steps = [optimizer], 0
        self.seen: list[dict[str, Any]] = []
        self.hooks: dict[str, Callable] = {name: getattr(model, name) for name in HOOKS if hasattr(model, name)}

    def __call__(self, batch: Batch) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        losses, auxiliary = self.losses(batch)
        if not losses:
            return {}  # no sample of this batch has a label
        weights = self.engine.backward(losses, auxiliary)
        values = self.engine.losses
        if self.engine.diagnostics:
            self.seen.append(self.engine.seen)
        if "after_backward" in self.hooks:
            self.hooks["after_backward"](losses, weights)
        self.optimizer.step()
        self.steps += 1
        if "after_step" in self.hooks:
            self.hooks["after_step"](self.steps)
        if self.engine.strategy.looks_again:
            with torch.no_grad():
                self.engine.look_again(self.losses(batch)[0])
        return {name: value for name, value in zip(self.engine.tasks, values.tolist(), strict=True) if value == value}

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Each present task's mean loss on `batch`, and the model's auxiliary loss if it has one."""
        with self.autocast():
            predictions = self.forward(batch.inputs)
            auxiliary = self.hooks["auxiliary_loss"](batch, predictions) if "auxiliary_loss" in self.hooks else None
            return mean_losses(self.tasks, predictions, batch), auxiliary

    def seen_so_far(self) -> dict[str, dict[str, float]]:
        """`{"shared": {measure: mean}, "module_1": ...}` since the last call; empty without diagnostics."""
        seen, self.seen = self.seen, []
        return average(seen, self.engine.tasks)

    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None:
        values = [mean_losses.get(name, float("nan")) for name in self.engine.tasks]
        self.engine.strategy.on_epoch_end(torch.tensor(values, dtype=torch.float64))
        if "on_epoch_end" in self.hooks:
            self.hooks["on_epoch_end"](epoch, mean_losses)

    def state_dict(self) -> dict[str, Any]:
        strategy = self.engine.strategy
        return {"optimizer": self.optimizer.state_dict(), "strategy": dict(strategy.state_dict()),
                "generator": strategy.generator.get_state(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.engine.strategy.load_state_dict(state["strategy"])
        self.engine.strategy.generator.set_state(state["generator"])
        self.steps = state["steps"]


def make_step(tasks: Sequence[Task], model: nn.Module, strategy: Strategy | str = "ew", *, at: str = "parameters",
              lr: float = 1e-3, weight_decay: float = 0.0, optimizer: str | Callable = "adam", precision: str = "auto",
              compile: bool | str = False, seed: int = 0, diagnostics: bool = False) -> StrategyStep:
    """The step that `fit` takes by default: strategy bound to the tasks, one optimiser over all that learns.

    Arguments as in `training.fit`; the model is on its device already.
    """
    strategy = make(strategy) if isinstance(strategy, str) else strategy
    strategy.bind(tasks, torch.Generator().manual_seed(derived_seed(seed, "strategy")))
    if hasattr(model, "param_groups"):
        groups = model.param_groups(lr, weight_decay)
    else:
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [{"params": learning, "lr": lr, "weight_decay": weight_decay}]
    forward = None
    if compile:
        forward = torch.compile(model, backend=compile if isinstance(compile, str) else "inductor")
    optimizer = make_optimizer(optimizer, groups + strategy.param_groups(), lr)
    return StrategyStep(tasks, model, Engine(model, strategy, at, diagnostics), optimizer, forward,
                        autocast(next(model.parameters()).device, precision))


def make_optimizer(optimizer: str | Callable, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """An optimiser by name ("adam", "adamw", "sgd"), or from a function that takes parameter groups.

    Raises ValueError for an unknown name.
    """
    if callable(optimizer):
        return optimizer(groups)
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"{unknown('optimizer', optimizer, OPTIMIZERS)} Or give a function that makes one.")
    return OPTIMIZERS[optimizer](groups, lr=lr, fused=True)


def autocast(device: torch.device, precision: str) -> Callable:
    """What makes the context of one forward pass: nothing for float32, bfloat16 autocast otherwise."""
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if precision == "float32":
        return contextlib.nullcontext
    if precision != "bfloat16":
        raise ValueError(f"precision={precision!r} is not known; use 'auto', 'float32' or 'bfloat16'.")
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
