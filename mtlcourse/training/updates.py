"""One update from one batch: the step that `training.fit` repeats, and a loop of one's own can.

Imports `encoders`, `files`, `tasks`, `strategies`, `distributed`, `identity`, `network`, `rates`. Searches and staged
procedures bring step objects of their own and reuse the loop around them.
"""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..encoders import stays
from ..files import derived_seed, unknown
from ..strategies import Engine, NonFiniteGradient, Strategy, TaskWeights, average, make
from ..strategies.attended import learned
from ..strategies.base import positive
from ..strategies.shares import refuse_wrapped
from ..strategies.written import length
from ..tasks import Batch, mean_losses
from .distributed import ALONE, Total
from .identity import described
from .network import Network
from .rates import by_part, check_rates


def nesterov(groups: Any, **options: Any) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum 0.9, for weights that may get their first gradients at different times.

    torch's fused step fails where some weights have momentum and others not yet; from zeros all begin alike.
    """
    optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True, **options)
    for group in optimizer.param_groups:
        for weight in group["params"]:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "nesterov": nesterov}
HOOKS = ("auxiliary_loss", "param_groups", "after_backward", "after_step", "on_epoch_end", "passed")
SCALE, GOOD = 2.0**16, 2_000  # of losses in half precision: where it starts, and after how many steps it is doubled


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

    Called with a `Batch` it does it all. A loop of one's own takes `training.Loop`, which stands on this; or this
    itself, in two halves, to do what it likes in between and afterwards:

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
    accumulate: how many parts of a batch go one after the other, see `Engine.accumulate`; the engine's `total` sums
        over processes. An auxiliary loss is divided by the number of shares.
    clip: the largest norm of the whole gradient, as it is once the strategy has combined it, of all that the optimiser
        moves but the strategy's own parameters; a longer one is scaled down just before the step. None: any.
    scaling: losses are scaled up, so that their gradients fit into half precision. A step whose gradients are not
        finite is left out, and the scale halved; after 2,000 good steps it is doubled.
    The model's optional hooks are called in the order forward, `auxiliary_loss`, `after_backward`,
    `after_step`; `on_epoch_end` after each epoch.
    """

    def __init__(self, tasks: Sequence[Any], model: nn.Module, engine: Engine, optimizer: torch.optim.Optimizer,
                 forward: Callable | None = None, autocast: Callable = contextlib.nullcontext,
                 settings: Mapping[str, Any] | None = None, accumulate: int = 1, scaling: bool = False,
                 clip: float | int | None = None):
        self.tasks, self.model, self.engine, self.optimizer = tasks, model, engine, optimizer
        self.forward, self.autocast = model if forward is None else forward, autocast
        self.clip = check_clip(clip)
        self.settings = {"strategy": described(engine.strategy), "at": engine.at, **(settings or {}),
                         **({} if clip is None else {"clip": self.clip})}
        self.optimizers, self.steps, self.epoch, self.prepared = [optimizer], 0, 0, False
        self.seen: list[dict[str, Any]] = []
        self.auxiliary, self.auxiliaries = torch.zeros(()), 0  # the sum of auxiliary losses since the last look
        self.sums, self.counts = [0.0] * len(engine.tasks), [0.0] * len(engine.tasks)  # of losses in this epoch
        self.hooks: dict[str, Callable] = {name: getattr(model, name) for name in HOOKS if hasattr(model, name)}
        self.total: Total = engine.total or ALONE
        self.accumulate, self.scaling, self.good, self.left_out = accumulate, scaling, 0, False
        engine.scale = SCALE if scaling else 1.0
        if accumulate > 1 or self.total.size > 1:
            check_shares(model, engine)

    def __call__(self, batch: Batch) -> dict[str, float]:
        if self.accumulate > 1:
            return self._in_parts(batch)
        losses, auxiliary = self.losses(batch)
        if not losses:
            self.optimizer.zero_grad(set_to_none=True)
            return {}  # no sample of this batch has a label
        self.backward(losses, auxiliary)
        return self.update(again=lambda: self.task_losses(batch))

    def _in_parts(self, batch: Batch) -> dict[str, float]:
        """The same, one part of the batch after the other, all with the same chance, as if it had been thrown once."""
        self.optimizer.zero_grad(set_to_none=True)
        parts, chance, auxiliaries, passes = batch.parts(self.accumulate), _chance(), [], []
        if not any(batch.count(name) for name in self.engine.tasks):
            with torch.no_grad():
                self.forward(parts[0].inputs)  # for chance to go on as if the batch had been whole
            return {}

        def shares(graph: bool, chance: list[Tensor] = chance) -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
            auxiliaries.clear()
            passes.clear()
            for part in parts:
                _set_chance(chance)
                losses, auxiliary = self.losses(part) if graph else (self.task_losses(part), None)
                yield losses, auxiliary
                auxiliaries.extend([] if auxiliary is None else [auxiliary.detach()])
                passes.extend([self.hooks["passed"]()] if "passed" in self.hooks else [])

        def again() -> dict[str, Tensor]:
            found = [losses for losses, _ in shares(False, _chance())]
            return {name: sum(losses[name] for losses in found) for name in found[0]}

        fill = functools.partial(self.engine.accumulate, shares)
        self.filled(fill, {}, lambda: sum(auxiliaries) if auxiliaries else None, lambda: passes)
        return self.update(again)

    def backward(self, losses: Mapping[str, Tensor], auxiliary: Tensor | None = None) -> TaskWeights:
        """Fill `.grad` with this step's gradients, in place of what was there; returns the weights that were used.

        losses, auxiliary: as `Engine.backward` takes them, which raises what it raises.
        """
        self.optimizer.zero_grad(set_to_none=True)
        return self.filled(lambda: self.engine.backward(losses, auxiliary), losses, lambda: auxiliary)

    def filled(self, fill: Callable[[], TaskWeights], losses: Mapping[str, Tensor], auxiliary: Callable,
                passes: Callable | None = None) -> TaskWeights:
        """Have `fill` fill `.grad`, and note what there is to note."""
        self.prepared, self.left_out = True, False
        try:
            weights = fill()
        except NonFiniteGradient:
            if self.engine.scale <= 1:
                raise
            self.engine.scale, self.good, self.left_out = self.engine.scale / 2, 0, True
            nothing = torch.zeros(len(self.engine.tasks), dtype=torch.float64)
            return TaskWeights(nothing, nothing)
        if (found := auxiliary()) is not None:
            self.auxiliary, self.auxiliaries = found.detach() + self.auxiliary.to(found), self.auxiliaries + 1
        if self.engine.diagnostics:
            self.seen.append(self.engine.seen)
        if "after_backward" in self.hooks:
            shared = {"total": self.total, "passes": passes() if passes else None}
            self.hooks["after_backward"](losses, weights, **(shared if passes or self.total.size > 1 else {}))
        return weights

    def update(self, again: Callable[[], Mapping[str, Tensor]] | None = None) -> dict[str, float]:
        """Take the step that `backward` has prepared; returns its `{task: loss}`.

        again: gives the losses of the same batch anew, for a strategy that looks at them once more after the update.
        Raises ValueError when such a strategy (FAMO) gets none, RuntimeError without a `backward` before it.
        """
        strategy = self.engine.strategy
        if not self.prepared:
            raise RuntimeError("update() takes the step that backward(losses) has prepared; call that first.")
        if strategy.looks_again and again is None:
            raise ValueError(f"{type(strategy).__name__} looks at the losses of the same batch once more after the "
                             "update: give update(again=function), a function without arguments that computes them.")
        self.prepared = False
        if not self.left_out:
            if self.clip is not None:
                own = {id(parameter) for parameter in strategy.parameters()}
                clip_gradient((p for group in self.optimizer.param_groups for p in group["params"] if id(p) not in own),
                              self.clip)
            self.optimizer.step()
            self.steps += 1
            if self.scaling:
                self.good += 1
                self.engine.scale *= 1 if self.good % GOOD else 2
            if "after_step" in self.hooks:
                self.hooks["after_step"](self.steps)
        if strategy.looks_again and not self.left_out:
            with torch.no_grad():
                self.engine.look_again(again())
        told = self.engine.told
        for t, name in enumerate(self.engine.tasks):
            if name in told:
                self.sums[t], self.counts[t] = self.sums[t] + told[name], self.counts[t] + 1
        return told

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Each present task's mean loss on `batch`, and the model's auxiliary loss if it has one; a share its part."""
        with self.autocast(), explained(self.model, batch):
            predictions = self.forward(batch.inputs)
            auxiliary = self.hooks["auxiliary_loss"](batch, predictions) if "auxiliary_loss" in self.hooks else None
            if auxiliary is not None and batch.shares > 1:
                auxiliary = auxiliary / batch.shares
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
        if count:
            self.total([auxiliary])
        of_model = {"model": {"auxiliary_loss": auxiliary.item() / count}} if count else {}
        return of_model | average(seen, self.engine.tasks)

    def end_epoch(self) -> dict[str, float]:
        """Tell strategy and model that an epoch is over, and return its mean losses: over the steps since the last."""
        named = zip(self.engine.tasks, self.sums, self.counts, strict=True)
        means = {name: total / count for name, total, count in named if count}
        self.on_epoch_end(self.epoch + 1, means)
        return means

    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None:
        self.epoch = epoch
        if self.total.size > 1:
            self.engine.known.agreement.known.clear()
        self.sums, self.counts = [0.0] * len(self.sums), [0.0] * len(self.counts)
        values = [mean_losses.get(name, float("nan")) for name in self.engine.tasks]
        self.engine.strategy.on_epoch_end(torch.tensor(values, dtype=torch.float64))
        if "on_epoch_end" in self.hooks:
            self.hooks["on_epoch_end"](epoch, mean_losses)

    def state_dict(self) -> dict[str, Any]:
        strategy = self.engine.strategy
        return {"optimizer": self.optimizer.state_dict(), "strategy": dict(strategy.state_dict()),
                "generator": strategy.generator.get_state(), "steps": self.steps, "epoch": self.epoch,
                "sums": torch.tensor(self.sums, dtype=torch.float64),
                "counts": torch.tensor(self.counts, dtype=torch.float64), "seen": self.seen,
                "auxiliary": self.auxiliary, "auxiliaries": self.auxiliaries, "scale": self.engine.scale,
                "good": self.good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.engine.strategy.load_state_dict(state["strategy"])
        self.engine.strategy.generator.set_state(state["generator"])
        self.steps, self.epoch = state["steps"], state["epoch"]
        self.sums, self.counts = state["sums"].tolist(), state["counts"].tolist()
        self.seen, self.auxiliary = state.get("seen", []), state.get("auxiliary", self.auxiliary)
        self.auxiliaries, self.good = state.get("auxiliaries", 0), state.get("good", 0)
        self.engine.scale = state.get("scale", self.engine.scale)


def make_step(tasks: Sequence[Any], model: nn.Module, strategy: Strategy | str = "ew", *, at: str = "parameters",
              lr: float = 1e-3, weight_decay: float = 0.0, optimizer: str | Callable = "adam", precision: str = "auto",
              compile: bool | str = False, seed: int = 0, diagnostics: bool = False, accumulate: int = 1,
              total: Total | None = None, clip: float | int | None = None,
              lr_of: Mapping[str, float | int] | None = None) -> StrategyStep:
    """The step that `fit` takes by default: strategy bound to the tasks, one optimiser over all that learns.

    tasks: of the model; names, or what has a name and a kind, do where the losses are computed outside.
    Other arguments as in `training.fit`; the model is on its device already.
    Raises ValueError for tasks that are not the model's, for an optimiser without what the strategy learns, for
    `compile` with a model that differentiates twice, for a model wrapped in DistributedDataParallel, and for what
    cannot be trained in shares, see `check_shares`.
    """
    refuse_wrapped(model)
    if compile and getattr(model, "differentiates_twice", False):
        raise ValueError(f"{type(model).__name__} needs gradients of gradients, which a compiled model cannot give. "
                         "Train it with compile=False.")
    settings = {"strategy": described(strategy), "at": at, "optimizer": described(optimizer), "lr": lr,
                "weight_decay": weight_decay, "precision": precision, "compile": compile, "diagnostics": diagnostics,
                **({} if lr_of is None else {"lr_of": check_rates(lr_of)})}
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
    groups = groups if lr_of is None else by_part(model.net if isinstance(model, Network) else model, groups, lr_of)
    forward = None
    if compile:
        forward = torch.compile(model, backend=compile if isinstance(compile, str) else "inductor")
    optimizer = make_optimizer(optimizer, groups + strategy.param_groups(), lr)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not all(id(parameter) in held for parameter in learned(strategy)):
        raise ValueError(f"{type(strategy).__name__} learns numbers of its own, and the optimiser does not hold them: "
                         "let the function that makes it use all groups that it is given.")
    return StrategyStep(tasks, model, Engine(model, strategy, at, diagnostics, total), optimizer, forward,
                        autocast(next(model.parameters()).device, precision), settings, accumulate,
                        precision == "float16", clip)


def check_clip(clip: Any) -> float | None:
    """`clip`, if it is a norm or None. Raises ValueError."""
    return None if clip is None else positive("clip", clip)


def clip_gradient(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale `.grad` down to the norm `largest` where that of all together is longer; returns the norm that it had.

    As `torch.nn.utils.clip_grad_norm_` does it, for sparse gradients too. Raises RuntimeError for a norm that is not
    finite, of which no gradient would be left.
    """
    held = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in held:
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
    gradients = [p.grad.values() if p.grad.is_sparse else p.grad for p in held]
    with torch.no_grad():
        norm = length(gradients)
        if not norm < float("inf"):
            raise RuntimeError(f"The norm of the gradient is {norm.item()}, of which clipping would leave nothing. Use "
                               "a smaller learning rate, or look for what makes gradients so large.")
        torch._foreach_mul_(gradients, torch.clamp(largest / (norm + 1e-6), max=1.0))
    return norm


def check_shares(model: nn.Module, engine: Engine, norms_too: bool = True) -> None:
    """Raise ValueError for what does not add up over the shares of a batch, with the reason; of norms, if asked."""
    engine.check_shares()
    norms = [name for name, layer in model.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)
             and not stays(layer)]
    if norms and norms_too:
        raise ValueError(f"{type(model).__name__} has batch norm ({norms[0]}), whose statistics of a share are not "
                         "those of the batch. Use group norm, or accumulate=1 in one process.")
    hook = getattr(model, "after_backward", None)
    if hook is not None and "total" not in inspect.signature(hook).parameters:
        raise ValueError(f"{type(model).__name__}.after_backward(losses, weights) would see shares of a batch: let it "
                         "take total= and passes=, as RotoGrad's does, or use accumulate=1 in one process.")


def _chance() -> list[Tensor]:
    """The states of torch's random generators."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]


def _set_chance(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)


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
    """An optimiser by name ("adam", "adamw", "sgd", "nesterov"), or from a function that takes parameter groups.

    Raises ValueError for an unknown name.
    """
    if callable(optimizer):
        return optimizer(groups)
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"{unknown('optimizer', optimizer, OPTIMIZERS)} Or give a function that makes one.")
    return OPTIMIZERS[optimizer](groups, lr=lr, fused=True)


def autocast(device: torch.device, precision: str) -> Callable:
    """What makes the context of one forward pass: nothing for float32, autocast otherwise.

    precision: as in `training.fit`. Raises ValueError for another.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if precision == "float32":
        return contextlib.nullcontext
    if precision not in ("bfloat16", "float16"):
        raise ValueError(f"precision={precision!r} is not known; use 'auto', 'float32', 'bfloat16' or 'float16'.")
    return lambda: torch.autocast(device.type, dtype=getattr(torch, precision))
