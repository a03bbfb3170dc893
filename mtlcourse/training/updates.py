"""One update from one batch: the step that `training.fit` repeats, and a loop of one's own can.

Imports `files`, `tasks`, `strategies`, `identity`. Searches and staged procedures bring step objects of their own and
reuse the loop around them.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..files import derived_seed, unknown
from ..strategies import Engine, Strategy, TaskWeights, average, make
from ..tasks import Batch, Task, mean_losses
from .identity import described

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
HOOKS = ("auxiliary_loss", "param_groups", "after_backward", "after_step", "on_epoch_end")


@runtime_checkable
class Step(Protocol):
    """What `fit` needs of a step object.

    `step(batch)` makes one update and returns `{task: loss}` as numbers, for the tasks of the batch.
    optimizers: what a learning-rate schedule drives.  The state goes into the checkpoint.
    Two attributes it may have: `settings`, plain data that tell this step from another, which go into the
    configuration and with it into the checkpoint; `samples_above`, the training samples it took besides its batches.
    """

    optimizers: Sequence[torch.optim.Optimizer]

    def __call__(self, batch: Batch) -> dict[str, float]: ...
    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class StrategyStep:
    """The usual step: forward, task losses, the strategy's gradients, one optimiser step.

    Called with a `Batch` it does it all. A loop of one's own, with losses of its own, takes it in two, and does what
    it likes in between and afterwards:

        step = make_step(problem.tasks, model, "gradnorm", lr=1e-3)
        for epoch in range(6):
            for batch in batches:
                step.backward({task: loss})          # fills .grad
                clip_grad_norm_(model.parameters(), 1.0)
                step.update()                        # optimiser and hooks; FAMO: step.update(again=function)
            step.end_epoch()                         # DWA hears of the epoch's losses

    tasks: with their losses, or names.  model, engine, optimizer: what acts; the optimiser holds the strategy's own
        parameters too, so they come with its state.  forward: the compiled model, if any.
    autocast: makes the context in which forward and losses run.  settings: see `Step`.
    The model's optional hooks are called in the order forward, `auxiliary_loss`, `after_backward`,
    `after_step`; `on_epoch_end` after each epoch.
    """

    def __init__(self, tasks: Sequence[Any], model: nn.Module, engine: Engine, optimizer: torch.optim.Optimizer,
                 forward: Callable | None = None, autocast: Callable = contextlib.nullcontext,
                 settings: Mapping[str, Any] | None = None):
        self.tasks, self.model, self.engine, self.optimizer = tasks, model, engine, optimizer
        self.forward, self.autocast = model if forward is None else forward, autocast
        self.settings = {"strategy": described(engine.strategy), "at": engine.at, **(settings or {})}
        self.optimizers, self.steps, self.epoch, self.prepared = [optimizer], 0, 0, False
        self.seen: list[dict[str, Any]] = []
        self.auxiliary, self.auxiliaries = torch.zeros(()), 0  # the sum of auxiliary losses since the last look
        self.sums, self.counts = [torch.zeros(len(engine.tasks), dtype=torch.float64) for _ in range(2)]
        self.hooks: dict[str, Callable] = {name: getattr(model, name) for name in HOOKS if hasattr(model, name)}

    def __call__(self, batch: Batch) -> dict[str, float]:
        losses, auxiliary = self.losses(batch)
        if not losses:
            self.optimizer.zero_grad(set_to_none=True)
            return {}  # no sample of this batch has a label
        self.backward(losses, auxiliary)
        return self.update(again=lambda: self.task_losses(batch))

    def backward(self, losses: Mapping[str, Tensor], auxiliary: Tensor | None = None) -> TaskWeights:
        """Fill `.grad` with this step's gradients, in place of what was there; returns the weights that were used.

        losses, auxiliary: as `Engine.backward` takes them, which raises what it raises.
        """
        self.optimizer.zero_grad(set_to_none=True)
        weights = self.engine.backward(losses, auxiliary)
        self.prepared = True
        if auxiliary is not None:
            self.auxiliary, self.auxiliaries = auxiliary.detach() + self.auxiliary.to(auxiliary), self.auxiliaries + 1
        if self.engine.diagnostics:
            self.seen.append(self.engine.seen)
        if "after_backward" in self.hooks:
            self.hooks["after_backward"](losses, weights)
        return weights

    def update(self, again: Callable[[], Mapping[str, Tensor]] | None = None) -> dict[str, float]:
        """Take the step that `backward` has prepared; returns its `{task: loss}`.

        again: gives the losses of the same batch anew, for a strategy that looks at them once more after the update.
        Raises ValueError when such a strategy (FAMO) gets none, RuntimeError without a `backward` before it.
        """
        strategy, values = self.engine.strategy, self.engine.losses
        if not self.prepared:
            raise RuntimeError("update() takes the step that backward(losses) has prepared; call that first.")
        if strategy.looks_again and again is None:
            raise ValueError(f"{type(strategy).__name__} looks at the losses of the same batch once more after the "
                             "update: give update(again=function), a function without arguments that computes them.")
        self.optimizer.step()
        self.steps, self.prepared = self.steps + 1, False
        if "after_step" in self.hooks:
            self.hooks["after_step"](self.steps)
        if strategy.looks_again:
            with torch.no_grad():
                self.engine.look_again(again())
        here = ~values.isnan()
        self.sums[here] += values[here]
        self.counts += here
        return {name: value for name, value in zip(self.engine.tasks, values.tolist(), strict=True) if value == value}

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Each present task's mean loss on `batch`, and the model's auxiliary loss if it has one."""
        with self.autocast(), explained(self.model, batch):
            predictions = self.forward(batch.inputs)
            auxiliary = self.hooks["auxiliary_loss"](batch, predictions) if "auxiliary_loss" in self.hooks else None
            return mean_losses(self.tasks, predictions, batch), auxiliary

    def task_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Each present task's mean loss on `batch`, for a look without gradients, which no auxiliary loss need bear."""
        with self.autocast(), explained(self.model, batch):
            return mean_losses(self.tasks, self.forward(batch.inputs), batch)

    def seen_so_far(self) -> dict[str, dict[str, float]]:
        """Means since the last call: `{"model": {"auxiliary_loss": mean}}` of a model that has one, and with
        diagnostics `{"shared": {measure: mean}, "module_1": ...}`."""
        seen, auxiliary, count = self.seen, self.auxiliary, self.auxiliaries
        self.seen, self.auxiliary, self.auxiliaries = [], torch.zeros(()), 0
        of_model = {"model": {"auxiliary_loss": auxiliary.item() / count}} if count else {}
        return of_model | average(seen, self.engine.tasks)

    def end_epoch(self) -> dict[str, float]:
        """Tell strategy and model that an epoch is over, and return its mean losses: over the steps since the last."""
        named = zip(self.engine.tasks, (self.sums / self.counts).tolist(), strict=True)
        means = {name: value for name, value in named if value == value}
        self.on_epoch_end(self.epoch + 1, means)
        return means

    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None:
        self.epoch = epoch
        self.sums.zero_()
        self.counts.zero_()
        values = [mean_losses.get(name, float("nan")) for name in self.engine.tasks]
        self.engine.strategy.on_epoch_end(torch.tensor(values, dtype=torch.float64))
        if "on_epoch_end" in self.hooks:
            self.hooks["on_epoch_end"](epoch, mean_losses)

    def state_dict(self) -> dict[str, Any]:
        strategy = self.engine.strategy
        return {"optimizer": self.optimizer.state_dict(), "strategy": dict(strategy.state_dict()),
                "generator": strategy.generator.get_state(), "steps": self.steps, "epoch": self.epoch,
                "sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.engine.strategy.load_state_dict(state["strategy"])
        self.engine.strategy.generator.set_state(state["generator"])
        self.steps, self.epoch = state["steps"], state["epoch"]
        self.sums.copy_(state["sums"])
        self.counts.copy_(state["counts"])


def make_step(tasks: Sequence[Task | str], model: nn.Module, strategy: Strategy | str = "ew", *, at: str = "parameters",
              lr: float = 1e-3, weight_decay: float = 0.0, optimizer: str | Callable = "adam", precision: str = "auto",
              compile: bool | str = False, seed: int = 0, diagnostics: bool = False) -> StrategyStep:
    """The step that `fit` takes by default: strategy bound to the tasks, one optimiser over all that learns.

    tasks: of the model; names do where the losses are computed outside.
    Other arguments as in `training.fit`; the model is on its device already.
    Raises ValueError for tasks that are not the model's, and for `compile` with a model that differentiates twice.
    """
    if compile and getattr(model, "differentiates_twice", False):
        raise ValueError(f"{type(model).__name__} needs gradients of gradients, which a compiled model cannot give. "
                         "Train it with compile=False.")
    settings = {"strategy": described(strategy), "at": at, "optimizer": described(optimizer), "lr": lr,
                "weight_decay": weight_decay, "precision": precision, "compile": compile, "diagnostics": diagnostics}
    strategy = make(strategy) if isinstance(strategy, str) else strategy
    named = {getattr(task, "name", task): task for task in tasks}
    if set(named) != set(model.heads):
        raise ValueError(f"The tasks given are {list(named)}, and those of the model {list(model.heads)}.")
    strategy.bind([named[name] for name in model.heads], torch.Generator().manual_seed(derived_seed(seed, "strategy")))
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
                        autocast(next(model.parameters()).device, precision), settings)


@contextlib.contextmanager
def explained(model: nn.Module, batch: Batch) -> Iterator[None]:
    """Say in plain words what torch means by a batch norm that meets one sample, and by inputs of another dtype."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if "more than 1 value per channel" in str(error):
            raise ValueError(
                f"A batch of {batch.samples} met a batch norm, which can say nothing about a single sample; the last "
                "batch of an epoch is often that short. Use drop_last=True, another batch_size, or a norm without "
                "batch statistics, such as group norm.") from error
        own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        inputs = [batch.inputs] if isinstance(batch.inputs, Tensor) else batch.inputs.values()
        kinds = sorted({str(x.dtype) for x in inputs if x.dtype != own})
        if own is None or not kinds or not re.search(r"\b(d?type|Double|Long|Int)\b", str(error)):
            raise
        raise TypeError(f"The inputs are {', '.join(kinds)} and the model computes in {own}: convert the inputs with "
                        f".to({own}), or the model. ({error})") from error


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
