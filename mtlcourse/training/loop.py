"""The training loop.

Imports the floors below: `encoders`, `files`, `strategies`, `tasks`, and its folder's `evaluation`, `samples`, `state`,
`updates`. `fit` knows no method by name: what is special about one sits behind the hooks of its model, its strategy, or
its step object.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from ..encoders import size
from ..files import seed_everything
from ..strategies import Strategy
from ..tasks import Problem, epoch_of
from .evaluation import Scores, check_data, directions, evaluate
from .identity import described, settings_of
from .samples import Samples, scores_and_samples
from .selection import Select, Selection
from .state import State
from .updates import Step, make_step


@dataclass
class Run:
    """What one training leaves behind.

    history: tidy table with columns stage, epoch, split, task, name, value.
    metrics: `{task: {metric: value, "loss": value}}` on the test split.
    model: the trained model, None for a run that was read from disk without it.
    config: all that was asked for, as plain data.
    learned: what a search found.
    cost: "parameters"; "steps": updates; "samples": training samples seen, each as often as it was, those of an upper
        level too; "seconds" of training.
    stages: names of the stages, in order.
    train_losses: `{task: mean loss over the whole training split}` of the trained model, in evaluation
        mode, which is what empirical safety compares; filled in by `methods.run`.
    higher_is_better: `{task: {metric: True or False}}`.  test_data: content hash of the test split, None
        if it does not lie in memory.
    samples: what the trained model did on every sample of the test split, made in the same pass as the metrics, without
        the widest (see `samples.WIDE`); None for a run that was made without.
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
    samples: Samples | None = None


def fit(problem: Problem, model: nn.Module, strategy: Strategy | str = "ew", *, at: str = "parameters", epochs: int = 4,
        batch_size: int = 128, lr: float = 1e-3, weight_decay: float = 0.0, optimizer: str | Callable = "adam",
        schedule: str | Callable | None = None, step: Step | None = None, device: str | torch.device = "auto",
        precision: str = "auto", compile: bool | str = False, seed: int = 0, select: Select = "last",
        patience: int | None = None, drop_last: bool = False, diagnostics: bool = False,
        checkpoint: str | Path | None = None, resume: bool = True, progress: bool = True,
        method: str | None = None) -> Run:
    """Train `model` on `problem` with `strategy`, validate after each epoch, test at the end.

    at: where gradient strategies measure, see `Engine`.
    optimizer: "adam", "adamw", "sgd", or a function from parameter groups to an optimiser.
    schedule: None, "cosine" (to zero over the epochs), or a function from an optimiser to a learning-rate
        scheduler, which is stepped after each epoch.
    step: an object that makes one update from one batch, in place of the usual forward pass, strategy
        and optimiser; see `updates.Step`. `Run.config` then tells of that step's own strategy and optimiser.
    device: "auto" takes a CUDA device if there is one.  precision: "float32", "bfloat16" (autocast) or
        "auto": bfloat16 on CUDA devices that have it.  compile: True, or a `torch.compile` backend.
    seed: order of the data and all chance of model and strategy while training.
    select: which epoch's model is kept: "last", or by validation "best-val", all metrics of all tasks; or a pair
        ("task", "metric"); or a function of the validation scores. See `Selection`.
    patience: with a rule other than "last", stop after so many epochs without a better one.
    drop_last: leave out the last batch of an epoch where it is not full; for batch norm, which refuses one sample.
    diagnostics: add to the history, each epoch, the means of what `Engine.seen` measures: cosine,
        conflict_rate, magnitude_similarity and condition_number, for "shared" parameters and each "module_1",
        "module_2", ... in the column task. A step object of its own decides that itself.
    checkpoint: a path without ending; after each epoch one JSON and one safetensors file are written
        there, atomically. With `resume`, a training that was cut off goes on from them and ends bit for
        bit as if nothing had happened. A checkpoint of another training is refused: one with another setting,
        another option of the strategy, or another optimiser, down to the groups. Data and model count by their
        names, the problem's options, the number of samples and the shapes of parameters.
    method: what the training is called in its configuration, for what cannot be seen in the model's class.
    Raises `TrainingDiverged` for NaN and infinite losses, ValueError for settings that do not fit.
    """
    _check(problem, epochs, batch_size, schedule)
    selection = Selection(select, patience, problem.tasks)
    device = pick_device(device)
    model.to(device)
    problem = on_device(problem, device)
    seed_everything(seed)
    asked = {"strategy": described(strategy), "at": at, "optimizer": described(optimizer), "lr": lr,
             "weight_decay": weight_decay, "precision": precision, "compile": compile, "diagnostics": diagnostics}
    if step is None:
        step = make_step(problem.tasks, model, strategy, at=at, lr=lr, weight_decay=weight_decay, optimizer=optimizer,
                         precision=precision, compile=compile, seed=seed, diagnostics=diagnostics)
    else:
        asked |= {**dict.fromkeys(asked), **settings_of(step.optimizers), **getattr(step, "settings", {})}
    config = {"problem": problem.name, "options": problem.options, "samples": len(problem.train), "method": method,
              "model": type(model).__name__, **asked, "epochs": epochs, "batch_size": batch_size,
              "drop_last": drop_last, "schedule": described(schedule), "seed": seed,
              "select": list(select) if isinstance(select, tuple | list) else described(select), "patience": patience}
    state = State(problem, model, step, config, selection, checkpoint)
    state.schedulers = _schedulers(schedule, step, epochs)
    if resume:
        state.restore()

    with _bar(problem, state.epoch, epochs, batch_size, drop_last, progress) as bar:
        while state.epoch < epochs and not selection.is_over(state.epoch):
            model.train()
            state.begin_epoch()
            for batch in epoch_of(problem.train, batch_size, state.order, drop_last):
                state.add(batch, step)
                bar.update()
            state.end_epoch()
            state.validated(evaluate(model, problem, "val"))
            state.save()
    if selection.best:
        model.load_state_dict(selection.best["model"])
    cost = {"parameters": size(model), "steps": state.updates, "samples": state.samples + getattr(
        step, "samples_above", 0), "seconds": state.seconds}
    scores, samples = scores_and_samples(model, problem)
    return Run(pd.DataFrame(state.history), scores, model,
               {**config, "selected_epoch": selection.best.get("epoch", state.epoch)}, cost=cost,
               higher_is_better=directions(problem), test_data=samples.data, samples=samples)


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """`device` itself, or for "auto" a CUDA device if torch sees one and the CPU if not."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def on_device(problem: Problem, device: torch.device) -> Problem:
    """The problem with its splits on `device`."""
    return replace(problem, train=problem.train.to(device), val=problem.val.to(device), test=problem.test.to(device))


def _check(problem: Problem, epochs: int, batch_size: int, schedule: str | Callable | None) -> None:
    check_data(problem)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    if not (schedule is None or schedule == "cosine" or callable(schedule)):
        raise ValueError(f"schedule={schedule!r} is not known; use None, 'cosine', or a function of an optimiser.")


def _schedulers(schedule: str | Callable | None, step: Step, epochs: int) -> list:
    if schedule is None:
        return []
    if schedule == "cosine":
        return [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs) for optimizer in step.optimizers]
    return [schedule(optimizer) for optimizer in step.optimizers]


def _bar(problem: Problem, done: int, epochs: int, batch_size: int, drop_last: bool, progress: bool) -> Any:
    from tqdm.auto import tqdm

    steps = len(problem.train) // batch_size if drop_last else -(-len(problem.train) // batch_size)
    return tqdm(total=epochs * steps, initial=done * steps, desc=problem.name, unit="step", leave=False,
                disable=not progress)
