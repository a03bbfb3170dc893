"""Training on a source with labels and targets without: the step, and who judges.

Imports `batches`, `data`, `encoders`, `files`, `models`, `strategies`, `tasks`, and its folder's `evaluation`,
`identity`, `loop`, `procedures`, `rates`, `samples`, `updates`. Nothing that trains gets more than a
`DomainView`; `judge` is for those who hold the `DomainProblem`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import pandas as pd
import torch
from torch import Tensor, nn

from ..batches import steps_of_epoch
from ..data import DomainProblem, DomainView, Unlabelled
from ..files import derived_seed
from ..models import DomainModel
from ..strategies import NonFinite
from ..tasks import Batch
from .evaluation import Scores, directions
from .identity import described
from .loop import Run, fit, pick_device
from .procedures import Setting
from .rates import by_part, check_rates
from .samples import Samples, scores_and_samples
from .updates import autocast, check_clip, clip_gradient, explained, make_optimizer

Losses = dict[str, Tensor]
Phase = tuple[Callable[[DomainModel, Batch, Mapping[str, Tensor]], Losses], Sequence[nn.Parameter] | None]


@runtime_checkable
class Objective(Protocol):
    """What a method that adapts minimises: `objective(model, batch, targets) -> {name: loss}`, of which the sum counts.

    batch: of the source.  targets: `{domain: inputs}`, as many as the batch has, of each target domain.
    An objective that is an `nn.Module` has parameters of its own, an adversary's say, which learn with the model's. It
    may have three attributes: `alone = True`, then no target inputs are drawn; `progress`, set to the share of the
    updates that are done; and `phases(model) -> [(objective, parameters), ...]`, the updates of one step in turn, each
    of these parameters (None: of all).
    """

    def __call__(self, model: DomainModel, batch: Batch, targets: Mapping[str, Tensor]) -> Losses: ...


class Stream:
    """Endless batches of unlabelled inputs: every one once, in an order by lot, then all again in a new order.

    A domain smaller than a batch comes several times in it.
    """

    def __init__(self, split: Unlabelled, seed: int):
        self.inputs, self.generator = split.inputs, torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.long)

    def next(self, number: int) -> Tensor:
        """The next `number` inputs."""
        while len(self.order) < number:
            self.order = torch.cat([self.order, torch.randperm(len(self.inputs), generator=self.generator)])
        rows, self.order = self.order[:number], self.order[number:]
        return self.inputs.index_select(0, rows.to(self.inputs.device))

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order.clone(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order = state["order"].clone()
        self.generator.set_state(state["generator"])


class AdaptationStep:
    """One update from a source batch and as many inputs of each target: a step object for `training.fit`.

    objective: see `Objective`.  settings: plain data that tell it from others.
    lr, weight_decay, optimizer, precision, clip, lr_of: as of `fit`.
    updates: of the whole training, which `Objective.progress` is a share of.
    means(): the means over the present epoch of the objective's losses, by name; in the history they stand under the
        task "objective".
    The network of the model may change between epochs, as a search's does, so long as its parameters stay: those that
    a step does not reach are not moved.
    Raises ValueError for batches of one, in which nothing can be compared; when it is called, `NonFinite` for a loss
    that is NaN or infinite.
    """

    def __init__(self, view: DomainView, model: DomainModel, objective: Objective, *, batch_size: int, lr: float,
                 updates: int, weight_decay: float = 0.0, optimizer: str | Callable = "adam", precision: str = "auto",
                 seed: int = 0, settings: Mapping[str, Any] | None = None, clip: float | int | None = None,
                 lr_of: Mapping[str, float | int] | None = None):
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size}: a distance between domains, and a batch norm, compare samples "
                             "of a batch; take at least 2, and for population correlation many more.")
        device = next(model.parameters()).device
        self.model, self.objective, self.updates, self.done, self.seed = model, objective, updates, 0, seed
        self.own = objective.to(device) if isinstance(objective, nn.Module) else None
        learning = [p for module in (model, self.own) if module for p in module.parameters() if p.requires_grad]
        groups = [{"params": learning, "lr": lr, "weight_decay": weight_decay}]
        groups = groups if lr_of is None else by_part(model, groups, lr_of)
        self.optimizer, self.clip = make_optimizer(optimizer, groups, lr), check_clip(clip)
        self.optimizers = [self.optimizer]
        self.settings = {"strategy": None, "optimizer": described(optimizer), **(settings or {}),
                         **({} if clip is None else {"clip": self.clip}),
                         **({} if lr_of is None else {"lr_of": check_rates(lr_of)})}
        self.streams = {} if getattr(objective, "alone", False) else {
            domain: Stream(split.to(device), derived_seed(seed, f"target.{domain}"))
            for domain, split in view.targets.items()}
        self.autocast = autocast(device, precision)
        self.sums: dict[str, float] = {}
        self.steps = 0  # of this epoch

    def __call__(self, batch: Batch) -> dict[str, float]:
        targets = {domain: stream.next(len(batch.inputs)) for domain, stream in self.streams.items()}
        if self.own is not None:
            self.own.train()
        if hasattr(self.objective, "progress"):
            self.objective.progress = self.done / max(1, self.updates)
        phases: list[Phase] = (self.objective.phases(self.model) if hasattr(self.objective, "phases")
                               else [(self.objective, None)])
        first: dict[str, float] = {}
        for losses_of, members in phases:
            with self.autocast(), explained(self.model, batch):
                losses = losses_of(self.model, batch, targets)
            values = {name: loss.item() for name, loss in losses.items()}
            for name, value in values.items():
                if not abs(value) < float("inf"):
                    raise NonFinite(name, value)
                if name not in first:
                    first[name] = value
            self.optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()
            if members is not None:
                self._only(members)
            if self.clip is not None:
                clip_gradient((p for group in self.optimizer.param_groups for p in group["params"]), self.clip)
            self.optimizer.step()
        for name, value in first.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.done = self.steps + 1, self.done + 1
        return {self.model.task.name: first["risk"]}

    def means(self) -> dict[str, float]:
        """See the class."""
        return {name: total / self.steps for name, total in self.sums.items()}

    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None:
        """Nothing: what an epoch was is told by `seen_so_far`, with which the next one begins."""

    def seen_so_far(self) -> dict[str, dict[str, float]]:
        """The epoch's `means` for the history; they begin anew."""
        means = self.means()
        self.sums, self.steps = {}, 0
        return {"objective": means}

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "done": self.done,
                "own": dict(self.own.state_dict()) if self.own is not None else {},
                "streams": {domain: stream.state_dict() for domain, stream in self.streams.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = state["done"]
        if self.own is not None:
            self.own.load_state_dict(state["own"])
        for domain, stream in self.streams.items():
            stream.load_state_dict(state["streams"][domain])

    def _only(self, members: Sequence[nn.Parameter]) -> None:
        kept = {id(parameter) for parameter in members}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in kept:
                    parameter.grad = None


def make_adaptation_step(view: DomainView, model: DomainModel, objective: Objective, setting: Setting,
                         made: Callable[..., AdaptationStep] = AdaptationStep, **options: Any) -> AdaptationStep:
    """The step with the settings that `fit` will be called with; moves the model to its device.

    made: `AdaptationStep` or a class derived from it.  options: more arguments of it.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(fit).parameters.items()}
    settings = defaults | setting.arguments
    model.to(pick_device(settings["device"]))
    steps = steps_of_epoch(len(view.source.train), settings["batch_size"], settings["drop_last"])
    names = ("batch_size", "lr", "weight_decay", "optimizer", "precision", "clip", "lr_of")
    return made(view, model, objective, updates=settings["epochs"] * steps, seed=setting.seed,
                **{name: settings[name] for name in names}, **options)


def adapt(view: DomainView, model: DomainModel, objective: Objective, setting: Setting) -> Run:
    """Train `model` once on the source's task and whatever `objective` asks of the targets."""
    return setting.fit(view.source, model, "ew", step=make_adaptation_step(view, model, objective, setting))


# --- the judge ------------------------------------------------------------------------------------------

class Answering(nn.Module):
    """A model that answers for each target domain with its one head, as evaluation asks for a prediction a task."""

    def __init__(self, model: DomainModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {domain: self.model(x)[self.model.task.name] for domain, x in inputs.items()}


def judge(problem: DomainProblem, model: DomainModel) -> tuple[Scores, Samples]:
    """What `model` scores on the labelled test samples of each target, and what it does on each of these.

    The only use that is made of target labels, by those who hold the problem and train nothing.
    """
    return scores_and_samples(Answering(model), problem.sealed())


def judged(run: Run, problem: DomainProblem) -> Run:
    """A run that was trained on the view of `problem`, with the targets' scores as its metrics.

    Those on the source's test split stay in the history, as split "test" under the source's name.
    """
    source = problem.task.name
    rows = [{"stage": run.stages[-1], "epoch": run.config["selected_epoch"], "split": "test", "task": source,
             "name": name, "value": value} for name, value in run.metrics[source].items()]
    run.history = pd.concat([run.history, pd.DataFrame(rows)], ignore_index=True)
    run.metrics, run.samples = judge(problem, run.model)
    run.test_data, run.higher_is_better = run.samples.data, directions(problem)
    run.config["source"] = source
    return run
