"""The training loop and the evaluation loop.

Imports the floors below: `files`, `metrics`, `tasks`, `strategies`, `updates`. `fit` knows no method by
name: what is special about one sits behind the hooks of its model, its strategy, or its step object.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from ..encoders import size
from ..files import content_hash, derived_seed, load_state, save_state, seed_everything
from ..metrics import relative_change
from ..strategies import NonFinite, Strategy
from ..tasks import Batch, Problem, Task
from .updates import Step, make_step

Scores = dict[str, dict[str, float]]


class TrainingDiverged(ArithmeticError):
    """A loss became NaN or infinite; the message names task, step and the last good checkpoint."""


@dataclass
class Run:
    """What one training leaves behind.

    history: tidy table with columns stage, epoch, split, task, name, value.
    metrics: `{task: {metric: value, "loss": value}}` on the test split.
    model: the trained model, None for a run that was read from disk without it.
    config: all that was asked for, as plain data.
    learned: what a search found.  cost: parameters, update steps, seconds of training.
    stages: names of the stages, in order.
    train_losses: `{task: mean loss over the whole training split}` of the trained model, in evaluation
        mode, which is what empirical safety compares; filled in by `methods.run`.
    higher_is_better: `{task: {metric: True or False}}`.  test_data: content hash of the test split, None
        if it does not lie in memory.
    """

    history: pd.DataFrame
    metrics: Scores
    model: nn.Module | None
    config: dict[str, Any]
    learned: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, int | float] = field(default_factory=dict)
    stages: list[str] = field(default_factory=lambda: ["train"])
    train_losses: dict[str, float] = field(default_factory=dict)
    higher_is_better: dict[str, dict[str, bool]] = field(default_factory=dict)
    test_data: str | None = None


def fit(problem: Problem, model: nn.Module, strategy: Strategy | str = "ew", *, at: str = "parameters", epochs: int = 4,
        batch_size: int = 128, lr: float = 1e-3, weight_decay: float = 0.0, optimizer: str | Callable = "adam",
        schedule: str | Callable | None = None, step: Step | None = None, device: str | torch.device = "auto",
        precision: str = "auto", compile: bool | str = False, seed: int = 0, select: str = "last",
        diagnostics: bool = False, checkpoint: str | Path | None = None, resume: bool = True,
        progress: bool = True, method: str | None = None) -> Run:
    """Train `model` on `problem` with `strategy`, validate after each epoch, test at the end.

    at: where gradient strategies measure, see `Engine`.
    optimizer: "adam", "adamw", "sgd", or a function from parameter groups to an optimiser.
    schedule: None, "cosine" (to zero over the epochs), or a function from an optimiser to a learning-rate
        scheduler, which is stepped after each epoch.
    step: an object that makes one update from one batch, in place of the usual forward pass, strategy
        and optimiser; see `updates.Step`.
    device: "auto" takes a CUDA device if there is one.  precision: "float32", "bfloat16" (autocast) or
        "auto": bfloat16 on CUDA devices that have it.  compile: True, or a `torch.compile` backend.
    seed: order of the data and all chance of model and strategy while training.
    select: "last" epoch, or "best-val", the one with the best mean relative change on validation.
    diagnostics: add to the history, each epoch, the means of what `Engine.seen` measures: cosine,
        conflict_rate, magnitude_similarity and condition_number, for "shared" parameters and each "module_1",
        "module_2", ... in the column task. A step object of its own decides that itself.
    checkpoint: a path without ending; after each epoch one JSON and one safetensors file are written
        there, atomically. With `resume`, a training that was cut off goes on from them and ends bit for
        bit as if nothing had happened. A checkpoint of another training is refused.
    method: what the training is called in its configuration, for what cannot be seen in the model's class.
    Raises `TrainingDiverged` for NaN and infinite losses, ValueError for settings that do not fit.
    """
    _check(problem, epochs, batch_size, select, schedule)
    device = pick_device(device)
    model.to(device)
    problem = on_device(problem, device)
    seed_everything(seed)
    if step is None:
        step = make_step(problem.tasks, model, strategy, at=at, lr=lr, weight_decay=weight_decay, optimizer=optimizer,
                         precision=precision, compile=compile, seed=seed, diagnostics=diagnostics)
    config = {"problem": problem.name, "options": problem.options, "samples": len(problem.train), "method": method,
              "model": type(model).__name__, "strategy": _name(strategy), "at": at, "epochs": epochs,
              "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "optimizer": _name(optimizer),
              "schedule": _name(schedule), "precision": precision, "seed": seed, "select": select}
    state = _State(problem, model, step, config, checkpoint, _schedulers(schedule, step, epochs))
    if resume:
        state.restore()

    with _bar(problem, state.epoch, epochs, batch_size, progress) as bar:
        while state.epoch < epochs:
            model.train()
            state.begin_epoch()
            for batch in problem.train.batches(batch_size, shuffle=True, generator=state.order):
                state.add(batch, step)
                bar.update()
            state.end_epoch()
            state.validated(evaluate(model, problem, "val"))
            state.save()
    return state.result()


def evaluate(model: nn.Module, problem: Problem, split: str = "test", batch_size: int = 512,
             losses_only: bool = False) -> Scores:
    """Each task's metrics and mean loss on a whole split: `{task: {metric: value, ..., "loss": value}}`.

    Runs in float32 and evaluation mode, and leaves the model in the mode it was in. The loss is the mean
    over the samples that have the task. On the test split the problem's probes are added.
    losses_only: leave out metrics and probes, which take longer than the losses.
    Raises ValueError for an unknown split, and for a problem without data.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"split={split!r} is not known; use 'train', 'val' or 'test'.")
    _check_data(problem)
    metrics = {task.name: {name: factory() for name, factory in task.metrics.items() if not losses_only}
               for task in problem.tasks}
    sums = {task.name: 0.0 for task in problem.tasks}
    counts = dict.fromkeys(sums, 0)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            for batch in getattr(problem, split).to(_device_of(model)).batches(batch_size):
                predictions = model(batch.inputs)
                for task in problem.tasks:
                    if task.name in batch.targets:
                        prediction, target = predictions[task.name], batch.targets[task.name]
                        sums[task.name] += task.loss(prediction, target).double().sum().item()
                        counts[task.name] += batch.count(task.name)
                        for metric in metrics[task.name].values():
                            metric.update(prediction, target)
        scores = {name: {**{key: metric.compute() for key, metric in metrics[name].items()},
                         "loss": sums[name] / counts[name] if counts[name] else float("nan")} for name in sums}
        for probe in problem.probes.values() if split == "test" and not losses_only else ():
            for name, values in probe(model, problem).items():
                scores[name].update(values)
    finally:
        for module, training in modes.items():
            module.training = training
    return scores


def train_losses(model: nn.Module, problem: Problem) -> dict[str, float]:
    """Each task's mean loss over the whole training split, in evaluation mode: the L_t of definition 3.

    Source: Deep Safe Multi-Task Learning, section 3.
    """
    return {task: values["loss"] for task, values in evaluate(model, problem, "train", losses_only=True).items()}


def directions(problem: Problem) -> dict[str, dict[str, bool]]:
    """`{task: {metric: True where higher is better}}`."""
    return {task.name: {name: bool(factory().higher_is_better) for name, factory in task.metrics.items()}
            for task in problem.tasks}


def hash_test_data(problem: Problem) -> str | None:
    """Which test data these are: runs on different data cannot be compared. None if they do not lie in memory."""
    if not hasattr(problem.test, "targets"):
        return None
    inputs, targets = problem.test.inputs, problem.test.targets
    return content_hash([*([inputs] if not isinstance(inputs, dict) else [inputs[name] for name in sorted(inputs)]),
                         *(targets[name] for name in sorted(targets))])


def mean_relative_change(tasks: Sequence[Task], scores: Scores, baseline: Scores) -> float:
    """Mean over tasks of the mean over metrics of the relative change against `baseline`; positive is better.

    Metrics whose baseline is zero have no relative change and are left out.
    """
    changes = []
    for task in tasks:
        values = [relative_change(scores[task.name][name], baseline[task.name][name], factory().higher_is_better)
                  for name, factory in task.metrics.items()]
        defined = [value for value in values if value == value]
        if defined:
            changes.append(sum(defined) / len(defined))
    return sum(changes) / len(changes) if changes else 0.0


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """`device` itself, or for "auto" a CUDA device if torch sees one and the CPU if not."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def on_device(problem: Problem, device: torch.device) -> Problem:
    """The problem with its splits on `device`."""
    return replace(problem, train=problem.train.to(device), val=problem.val.to(device), test=problem.test.to(device))


class _State:
    """All that changes during a training and must survive a crash, with the means to write and read it."""

    def __init__(self, problem: Problem, model: nn.Module, step: Step, config: dict[str, Any],
                 checkpoint: str | Path | None, schedulers: list):
        self.problem, self.model, self.step, self.config = problem, model, step, config
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.schedulers = schedulers
        self.order = torch.Generator().manual_seed(derived_seed(config["seed"], "order"))
        self.epoch = self.saved_epoch = self.updates = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.first: Scores = {}  # the first epoch's validation, with which "best-val" compares
        self.best: dict[str, Any] = {}

    # --- one epoch ---

    def begin_epoch(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.began, self.first_update = time.perf_counter(), self.updates

    def add(self, batch: Batch, step: Step) -> None:
        if self.updates == 0:
            self.problem.check(batch, "first training batch")
        where = f"in step {self.updates - self.first_update + 1} of epoch {self.epoch + 1}"
        try:
            losses = step(batch)
        except NonFinite as error:
            raise self.diverged(error.task, error.value, where, error.what) from error
        self.updates += 1
        for name, value in losses.items():
            if not math.isfinite(value):  # of a step object that does not check it itself
                raise self.diverged(name, value, where)
            count = batch.count(name)
            self.sums[name] = self.sums.get(name, 0.0) + value * count
            self.counts[name] = self.counts.get(name, 0) + count

    def end_epoch(self) -> None:
        self.epoch += 1
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.step.on_epoch_end(self.epoch, means)
        for scheduler in self.schedulers:
            scheduler.step()
        self.seconds += time.perf_counter() - self.began
        self.note("train", {name: {"loss": value} for name, value in means.items()})
        if hasattr(self.model, "report"):
            self.note("train", self.model.report())
        if hasattr(self.step, "seen_so_far"):
            self.note("train", self.step.seen_so_far())

    def validated(self, scores: Scores) -> None:
        for name, values in scores.items():
            if not math.isfinite(values["loss"]):
                raise self.diverged(name, values["loss"], f"in the validation after epoch {self.epoch}")
        self.note("val", scores)
        if self.config["select"] == "best-val":
            self.first = self.first or scores
            change = mean_relative_change(self.problem.tasks, scores, self.first)
            if not self.best or change > self.best["change"]:
                model = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
                self.best = {"change": change, "epoch": self.epoch, "model": model}

    def note(self, split: str, scores: Mapping[str, Mapping[str, float]]) -> None:
        row = {"stage": "train", "epoch": self.epoch, "split": split}
        self.history += [{**row, "task": task, "name": name, "value": value}
                         for task, values in scores.items() for name, value in values.items()]

    def diverged(self, task: str, value: float, where: str, what: str = "loss") -> TrainingDiverged:
        kept = f"{self.checkpoint}.json, after epoch {self.saved_epoch}" if self.saved_epoch else "none"
        return TrainingDiverged(f"The {what} of task {task!r} is {value} {where}. Try a smaller learning rate (it is "
                                f"{self.config['lr']}) or check the task's targets. Last good checkpoint: {kept}.")

    # --- the checkpoint ---

    def save(self) -> None:
        if self.checkpoint is None:
            return
        save_state(self.checkpoint, {
            "config": self.config, "epoch": self.epoch, "updates": self.updates, "seconds": self.seconds,
            "history": self.history, "first": self.first, "best": self.best, "model": dict(self.model.state_dict()),
            "step": self.step.state_dict(), "schedulers": [_plain(s.state_dict()) for s in self.schedulers],
            "order": self.order.get_state(), "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []})
        self.saved_epoch = self.epoch

    def restore(self) -> None:
        state = load_state(self.checkpoint) if self.checkpoint else None
        if state is None:
            return
        # A training may be made longer, unless a schedule, or a model that anneals, was told when it ends.
        free = set() if self.schedulers or hasattr(self.model, "prepare") else {"epochs"}
        differing = {key: state["config"].get(key) for key, value in self.config.items()
                     if key not in free and _plain(value) != state["config"].get(key)}
        if differing:
            raise ValueError(f"The checkpoint {self.checkpoint}.json belongs to another training, with {differing}. "
                             "Use another path, or resume=False to start afresh.")
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ValueError(f"The checkpoint {self.checkpoint}.json belongs to a model of another form. Use another "
                             f"path, or resume=False to start afresh. {error}") from error
        self.step.load_state_dict(state["step"])
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
        self.epoch = self.saved_epoch = state["epoch"]
        self.updates, self.seconds, self.history = state["updates"], state["seconds"], state["history"]
        self.first, self.best = state["first"], state["best"]

    def result(self) -> Run:
        if self.best:
            self.model.load_state_dict(self.best["model"])
        return Run(pd.DataFrame(self.history), evaluate(self.model, self.problem, "test"), self.model,
                   {**self.config, "selected_epoch": self.best.get("epoch", self.epoch)},
                   cost={"parameters": size(self.model), "steps": self.updates,
                         "seconds": self.seconds},
                   higher_is_better=directions(self.problem), test_data=hash_test_data(self.problem))


def _check(problem: Problem, epochs: int, batch_size: int, select: str, schedule: str | Callable | None) -> None:
    _check_data(problem)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    if select not in ("last", "best-val"):
        raise ValueError(f"select={select!r} is not known; use 'last' or 'best-val'.")
    if not (schedule is None or schedule == "cosine" or callable(schedule)):
        raise ValueError(f"schedule={schedule!r} is not known; use None, 'cosine', or a function of an optimiser.")


def _check_data(problem: Problem) -> None:
    if any(split is None for split in (problem.train, problem.val, problem.test)):
        raise ValueError(f"Problem {problem.name!r} is a description without data; "
                         f"load it with data.load({problem.name!r}).")


def _schedulers(schedule: str | Callable | None, step: Step, epochs: int) -> list:
    if schedule is None:
        return []
    if schedule == "cosine":
        return [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs) for optimizer in step.optimizers]
    return [schedule(optimizer) for optimizer in step.optimizers]


def _bar(problem: Problem, done: int, epochs: int, batch_size: int, progress: bool) -> Any:
    from tqdm.auto import tqdm

    steps = -(-len(problem.train) // batch_size)
    return tqdm(total=epochs * steps, initial=done * steps, desc=problem.name, unit="step", leave=False,
                disable=not progress)


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))


def _name(choice: Any) -> str | None:
    """How a choice is written down: a strategy with its options, so that a checkpoint tells T=5 from T=50."""
    if choice is None or isinstance(choice, str):
        return choice
    if isinstance(choice, Strategy):
        options = {key: value for key, value in vars(choice).items()
                   if isinstance(value, (bool, int, float, str)) and not key.startswith("_") and key != "training"}
        return f"{type(choice).__name__}({', '.join(f'{key}={options[key]!r}' for key in sorted(options))})"
    return getattr(choice, "__name__", type(choice).__name__)


def _plain(value: Any) -> Any:
    """As it comes back from a checkpoint: tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
