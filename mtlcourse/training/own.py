"""One object for a loop of one's own: what stands between the losses and the next batch.

Imports `files`, `strategies`, `tasks`, and its folder's `identity`, `network`, `parts`, `rates`, `updates`. Data,
forward pass and losses are the user's; the step is the one that `training.fit` takes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..files import is_whole
from ..strategies import Strategy, TaskWeights, make
from ..strategies.attended import learned
from ..strategies.known import SharingModel
from ..tasks import Task
from .identity import described
from .network import Network, Shared
from .parts import Parts
from .rates import check_schedule, check_warmup, schedulers, warmed
from .updates import make_step

KINDS = ("classification", "regression")
NOT_GIVEN: Any = object()


@dataclass
class Named:
    """A task of which nothing is known but its name and kind."""

    name: str
    kind: str = "classification"


class Loop:
    """A strategy for somebody's network in somebody's loop.

        loop = Loop(net, "pcgrad", tasks=["depth", "normals"], shared=net.trunk, lr=1e-3, clip=1.0)
        for epoch in range(6):
            for batch in batches:
                predictions = net(batch["image"])
                loop.step({"depth": loss_a, "normals": loss_b})
            loop.epoch_end()

    net: any `nn.Module`, or a model of this package, which knows its tasks and what they share.
    strategy: a `Strategy` or its name.
    tasks: names, or `{name: kind}` with the kind "classification" or "regression" (uncertainty weighting weighs a
        regression by half), or `Task`s. What has only a name counts as classification.
    shared, cut: what the tasks share, see `training.network.Network`; without both, what the losses of two tasks reach.
        Strategies that look at modules (gradnorm, notice) see those in `shared`, in that order.
    at: "parameters", or "features": where the output of `cut` ends what is shared, see `Engine`.
    lr, weight_decay: 1e-3 and 0, where none are given.
    lr_of: learning rates of some parts of `net`, by the names of modules or parameters in it, as
        `{"trunk": 1e-4, "head": 1e-3}`, see `rates.by_part`; `lr` is that of all others.
    warmup: so many updates at the beginning take a share of the learning rates that grows evenly, see `rates.warmed`;
        of an optimiser that was given, too.
    optimizer: "adam", "adamw", "sgd", "nesterov", a function from parameter groups to an optimiser, or an optimiser,
        which holds all that learns in `net`; what the strategy learns is added to it.
    schedule, epochs: "cosine", which is at zero after so many `epochs`, "inverse" (see `rates.inverse`), or a function
        from an optimiser to a scheduler. `epoch_end` steps it. A scheduler of one's own on `loop.optimizer` is one's
        own to step.
    steps_per_epoch: calls of `step` in an epoch at most: whoever hears of the ends of epochs (dwa, a schedule, a
        model's hook) needs it, so that an `epoch_end()` that does not come is noticed.
    clip: largest norm of the whole gradient, once the strategy has combined it.
    accumulate: so many calls of `step` make one update: that of a batch whose equal parts they were, so all give the
        means over their parts. The strategy decides once, on the whole; what a network does with statistics of a batch
        or with chance is each part's own. Memory is saved at="parameters" by strategies that measure gradients, and by
        "ew"; for others the graphs of all parts wait for the decision. What an epoch's end leaves over goes on in the
        next epoch.
    precision: "float32", "bfloat16", or "float16", which scales losses; use `with loop.autocast():` around the forward
        pass and the losses.
    seed: of the strategy's chance.

    engine, strategy, optimizer: what acts.  weights: those of the last update.  updates, epoch: how many there were.
    Raises ValueError and TypeError, in a sentence, for what does not fit.
    """

    def __init__(self, net: nn.Module, strategy: Strategy | str = "ew", *,
                 tasks: Sequence[str | Task] | Mapping[str, str] | None = None, shared: Shared = None,
                 cut: Any = None, at: str = "parameters", lr: float | None = None,
                 weight_decay: float | None = None, lr_of: Mapping[str, float | int] | None = None,
                 warmup: int = 0, optimizer: Any = "adam",
                 schedule: str | Callable | None = None, epochs: int | None = None, steps_per_epoch: int | None = None,
                 clip: float | None = None, accumulate: int = 1, precision: str = "float32", seed: int = 0):
        if not is_whole(accumulate, 1):
            raise ValueError(f"accumulate is {accumulate!r}; it is the number of calls that make one update.")
        self.strategy = make(strategy) if isinstance(strategy, str) else strategy
        self.network: Network | None = None
        self.model: Any = net
        if isinstance(net, SharingModel):
            found = _tasks_of(net, tasks)
            if shared is not None or cut is not None:
                raise ValueError(f"{type(net).__name__} knows itself what its tasks share; leave shared and cut out.")
        else:
            found = _tasks(tasks)
            self.model = self.network = Network(net, [task.name for task in found], shared, cut, at == "features",
                                                self.strategy.needs != "losses")
        if isinstance(optimizer, torch.optim.Optimizer):
            if any(setting is not None for setting in (lr, weight_decay, lr_of)):
                raise ValueError("lr, weight_decay and lr_of are settings of the optimiser that was given, of its "
                                 "groups; leave them out.")
            optimizer = Taken(optimizer, self.strategy, self.network)
        elif not isinstance(optimizer, str) and not callable(optimizer):
            raise ValueError(f"optimizer is {type(optimizer).__name__}; a loop drives one: its name, a function that "
                             "makes it from parameter groups, or an optimiser. Parts of a network may have groups, "
                             "and so learning rates, of their own in one optimiser.")
        self._step = make_step(found, self.model, self.strategy, at=at, lr=1e-3 if lr is None else lr,
                               weight_decay=weight_decay or 0.0, optimizer=optimizer, precision=precision, seed=seed,
                               clip=clip, lr_of=lr_of)
        self.engine, self.optimizer, self.autocast = self._step.engine, self._step.optimizer, self._step.autocast
        self._parts = Parts(self._step, accumulate) if accumulate > 1 else None
        self._hears = self._who_hears(schedule)
        self._schedulers = self._scheduled(schedule, epochs, steps_per_epoch, accumulate)
        self._warmup = check_warmup(warmup, epochs * steps_per_epoch // accumulate if epochs and steps_per_epoch
                                    else float("inf"))
        self._asked = 0  # updates, those with it that half precision left out
        self.weights: TaskWeights | None = None
        self._steps_per_epoch, self._calls = steps_per_epoch if self._hears else None, 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._samples: dict[str, int] = {}
        self._looked_at: set[frozenset[str]] = set()

    @property
    def updates(self) -> int:
        return self._step.steps

    @property
    def epoch(self) -> int:
        return self._step.epoch

    @property
    def shared(self) -> list[list[str]]:
        """Names of the shared parameters, by module, as far as losses have come."""
        names = {id(parameter): name for name, parameter in
                 (self.model if self.network is None else self.network.net).named_parameters()}
        return [[names[id(parameter)] for parameter in group] for group in self.model.shared_modules()]

    def step(self, losses: Any, *, auxiliary: Tensor | None = NOT_GIVEN,
             again: Callable[[], Mapping[str, Tensor]] | None = None) -> dict[str, float]:
        """One update (of `accumulate` calls the last one) from `{task: loss}`; returns its losses as numbers.

        losses: numbers with a graph, or one a sample, `(n,)`, which are averaged. Tasks may be missing.
        auxiliary: a further loss, which is added as it is: a penalty, a loss of the model's own.
        again: a function that computes the losses of the same batch anew, for a strategy that looks at them after the
            update (famo).
        Raises `NonFiniteLoss`, `NonFiniteGradient`, ValueError and KeyError for losses that cannot be used,
        RuntimeError where the loop leaves out what the strategy needs. After an error nothing has been updated.
        """
        self._check(losses, auxiliary, again)
        extra = None if auxiliary is NOT_GIVEN else auxiliary
        try:
            if self.network is not None and frozenset(losses) not in self._looked_at:
                self._look(losses)
            weights = (self._parts.add if self._parts else self._step.backward)(losses, extra)
            if weights is not None:
                self.weights = weights
                values = self._update(again)
        finally:
            if self.network is not None:
                self.network.outputs.clear()
        self._calls += 1
        for name, loss in losses.items():
            self._samples[name] = self._samples.get(name, 0) + (loss.numel() if loss.dim() else 1)
        if weights is None:
            return {}
        for name, value in values.items():
            count = self._samples.pop(name)
            self._sums[name] = self._sums.get(name, 0.0) + value * count
            self._counts[name] = self._counts.get(name, 0) + count
        return values

    def epoch_end(self) -> dict[str, float]:
        """Tell strategy, model and schedule that an epoch is over; returns its mean losses.

        Where losses came one a sample, the means are over samples, else over steps.
        Raises RuntimeError where no step came since the last end.
        """
        if not self._calls:
            raise RuntimeError("epoch_end() was called, and no step since the last one; call it once after an epoch's "
                               "batches.")
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._step.on_epoch_end(self.epoch + 1, means)
        for scheduler in self._schedulers:
            scheduler.step()
        self._calls, self._sums, self._counts = 0, {}, {}
        self._looked_at.clear()
        return means

    def _update(self, again: Callable | None) -> dict[str, float]:
        self._asked += 1
        if self._asked > self._warmup:
            return self._step.update(again)
        with warmed(self._step.optimizers, self._asked - 1, self._warmup):
            return self._step.update(again)

    # --- the state ---

    def state_dict(self) -> dict[str, Any]:
        """All but the network's weights: optimiser, strategy with its chance, schedule and counters, as plain data and
        tensors; `mtlcourse.files.save_state` writes them without pickling anything.

        Raises RuntimeError between the parts of an update.
        """
        if self._parts and self._parts.came:
            raise RuntimeError(f"{self._parts.came} of {self._parts.number} parts of an update have come, and their "
                               "gradients are in no state. Save after an update.")
        return {"strategy": described(self.strategy), "tasks": list(self.engine.tasks), "step": self._step.state_dict(),
                "schedulers": [scheduler.state_dict() for scheduler in self._schedulers], "calls": self._calls,
                "asked": self._asked, "sums": dict(self._sums), "counts": dict(self._counts),
                "known": None if self.network is None else self.network.known()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; the network's weights are loaded apart.

        Raises ValueError for the state of a loop with another strategy, other tasks or another optimiser.
        """
        for what, mine in (("strategy", described(self.strategy)), ("tasks", list(self.engine.tasks))):
            if list(state[what]) != list(mine):
                raise ValueError(f"This state is of a loop with the {what} {state[what]}, and this one has {mine}.")
        self._step.load_state_dict(state["step"])
        for scheduler, saved in zip(self._schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self._calls, self._sums, self._counts = state["calls"], dict(state["sums"]), dict(state["counts"])
        self._asked = state["asked"]
        self._looked_at.clear()
        if self._parts:
            self._parts.clear()
        if self.network is not None:
            self.network.know(state["known"])
            self.engine.ask_again()

    # --- what is looked at before ---

    def _check(self, losses: Any, auxiliary: Any, again: Callable | None) -> None:
        if not isinstance(losses, Mapping):
            raise TypeError(f"losses are {type(losses).__name__}; give a dict {{task: loss}} with some of the tasks "
                            f"{self.engine.tasks}.")
        for name, loss in losses.items():
            if not isinstance(loss, Tensor):
                raise TypeError(f"The loss of task {name!r} is {type(loss).__name__}, and must be a tensor with its "
                                "graph: leave .item() and .detach() out.")
        if auxiliary is NOT_GIVEN and "auxiliary_loss" in self._step.hooks:
            raise ValueError(f"{type(self.model).__name__} has a loss of its own: give "
                             "auxiliary=model.auxiliary_loss(batch, predictions).")
        last = self._parts is None or self._parts.came == self._parts.number - 1
        if last and self.strategy.looks_again and again is None:
            raise ValueError(f"{type(self.strategy).__name__} looks at the losses of the same batch once more after "
                             "the update: give step(losses, again=function), a function without arguments that "
                             "computes them" + ("." if self._parts is None else ", over all parts."))
        if self._steps_per_epoch is not None and self._calls >= self._steps_per_epoch:
            raise RuntimeError(f"{self._calls} calls of step() are an epoch (steps_per_epoch), and epoch_end() did not "
                               f"come. {self._hears} must hear of it: call it after the epoch's batches.")

    def _look(self, losses: Mapping[str, Tensor]) -> None:
        """In the first step of an epoch with these tasks: does the graph fit what is known?"""
        strange = set(losses) - set(self.engine.tasks)
        if not strange:  # of which the engine tells
            held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
            if self.network.look(losses, held):
                self.engine.ask_again()
            self._looked_at.add(frozenset(losses))

    def _who_hears(self, schedule: str | Callable | None) -> str | None:
        """Who needs to be told that an epoch is over, if anybody."""
        if self.strategy.hears_of_epochs:
            return type(self.strategy).__name__
        if schedule is not None:
            return "The schedule"
        return type(self.model).__name__ if "on_epoch_end" in self._step.hooks else None

    def _scheduled(self, schedule: str | Callable | None, epochs: int | None, steps_per_epoch: int | None,
                   accumulate: int) -> list:
        if check_schedule(schedule) == "cosine" and epochs is None:
            raise ValueError("schedule='cosine' needs to know how many epochs there will be: give epochs=6.")
        if epochs is not None and not is_whole(epochs, 1):
            raise ValueError(f"epochs is {epochs!r}; it is the number of epochs that there will be.")
        if steps_per_epoch is not None and not is_whole(steps_per_epoch, 1):
            raise ValueError(f"steps_per_epoch is {steps_per_epoch!r}; it is the number of batches in an epoch.")
        if self._hears and steps_per_epoch is None:
            raise ValueError(f"{self._hears} must hear of the end of each epoch: give steps_per_epoch=len(batches), "
                             "and call loop.epoch_end() after them.")
        return schedulers(schedule, self._step.optimizers, epochs or 1, (steps_per_epoch or 1) / accumulate)


def _tasks(tasks: Any) -> list[Any]:
    """Tasks with names and kinds, from what a user gives."""
    if tasks is None or isinstance(tasks, str) or not len(tasks):
        raise ValueError(f"tasks is {tasks!r}; give the names of the losses, as tasks=['depth', 'normals'].")
    if isinstance(tasks, Mapping):
        for name, kind in tasks.items():
            if kind not in KINDS:
                raise ValueError(f"Task {name!r} is of the kind {kind!r}; known are {' and '.join(KINDS)}.")
        return [Named(name, kind) for name, kind in tasks.items()]
    found = [Named(task) if isinstance(task, str) else task for task in tasks]
    names = [task.name for task in found]
    if len(set(names)) < len(names):
        raise ValueError(f"Two tasks have one name: {names}.")
    return found


def _tasks_of(model: Any, tasks: Any) -> list[Any]:
    """A model's tasks, in its order; those given must be the same."""
    own = {getattr(task, "name", task): task for task in getattr(model, "tasks", model.heads)}
    given = own if tasks is None else {task.name: task for task in _tasks(tasks)}
    if set(given) != set(model.heads):
        raise ValueError(f"The tasks given are {list(given)}, and those of the model {list(model.heads)}.")
    known = _tasks([own.get(name, given[name]) for name in model.heads])
    return list(given.values()) if isinstance(tasks, Mapping) else known


class Taken:
    """What takes an optimiser that is there for a loop's: it adds the groups of the strategy.

    Raises ValueError for an optimiser that does not hold what it should. Without a `__dict__`, so that describing a
    step stops here, and goes through no weights.
    """

    __slots__ = ("optimizer", "strategy")

    def __init__(self, optimizer: torch.optim.Optimizer, strategy: Strategy, network: Network | None):
        self.optimizer, self.strategy = optimizer, strategy
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if any(id(parameter) in held for parameter in strategy.parameters()):  # of an earlier `bind`
            raise ValueError(f"The optimiser holds parameters of this {type(strategy).__name__} already. The loop "
                             "makes them anew for its tasks and adds them itself: give the optimiser without them.")
        for name, parameter in network.by_name.items() if network is not None else ():
            if parameter.requires_grad and id(parameter) not in held:
                raise ValueError(f"The optimiser does not hold {name!r}, which learns. A loop drives one optimiser for "
                                 "all: add it there, in a group of its own, or freeze it with requires_grad_(False).")

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        own = {id(parameter) for parameter in learned(self.strategy)}
        for group in groups:
            if any(id(parameter) in own for parameter in group["params"]):
                self.optimizer.add_param_group(group)
        return self.optimizer
