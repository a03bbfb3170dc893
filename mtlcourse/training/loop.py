"""The training loop.

Imports the floors below: `batches`, `encoders`, `files`, `strategies`, `tasks`, and its folder's `distributed`,
`evaluation`, `identity`, `rates`, `samples`, `selection`, `state`, `updates`. `fit` knows no method by name: what is
special about one sits behind the hooks of its model, its strategy, or its step object.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from ..batches import check_sampled, check_sampling, steps_of_epoch
from ..encoders import size
from ..files import canonical, content_hash, is_whole, seed_everything
from ..strategies import Strategy
from ..tasks import Problem, epoch_of
from .distributed import ALONE, Total, check_same
from .evaluation import Scores, check_data, directions, evaluate
from .identity import described, settings_of
from .rates import check_rates, check_schedule, check_warmup, schedulers, warmed
from .samples import Samples, hash_data, scores_and_samples
from .selection import Select, Selection
from .state import State
from .updates import Step, check_clip, make_step

# Settings that a configuration mentions only where they are not the default, so that configurations from before there
# were any stay what they are: that default, and what raises ValueError for a value that is none.
UNUSUAL: dict[str, tuple[Any, Callable]] = {"clip": (None, check_clip), "lr_of": (None, check_rates),
                                            "warmup": (0, check_warmup), "sampling": ("cycle", check_sampling)}
Watch = Callable[[nn.Module], dict[str, Scores]]  # what a model scores after an epoch, by split


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
        method: str | None = None, watch: Watch | None = None, accumulate: int = 1, save_every: int | None = None,
        total: Total = ALONE, clip: float | int | None = None, lr_of: Mapping[str, float | int] | None = None,
        warmup: int = 0, sampling: str | float | int = "cycle") -> Run:
    """Train `model` on `problem` with `strategy`, validate after each epoch, test at the end.

    at: where gradient strategies measure, see `Engine`.
    optimizer: "adam", "adamw", "sgd", "nesterov" (SGD with Nesterov momentum 0.9), or a function from parameter groups
        to an optimiser.
    schedule: None, "cosine" (to zero over the epochs), "inverse" (see `rates.inverse`), or a function from an optimiser
        to a learning-rate scheduler, which is stepped after each epoch.
    step: an object that makes one update from one batch, in place of the usual forward pass, strategy
        and optimiser; see `updates.Step`. `Run.config` then tells of that step's own strategy and optimiser.
    device: "auto" takes a CUDA device if there is one.  precision: "float32", "bfloat16" (autocast), "float16"
        (autocast, and losses scaled, see `StrategyStep`) or "auto": bfloat16 on CUDA devices that have it.
    compile: True, or a `torch.compile` backend.
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
        another option of the strategy, or another optimiser, down to the groups. Data and model count by their names,
        the problem's options, the number of samples and the shapes of parameters, what is outside by its content.
    save_every: write the checkpoint after so many steps, too, and not only after each epoch.
    accumulate: compute each step in so many parts of its batch, one after the other: the same step, up to rounding, in
        less memory. (Batches of a search's upper level stay whole.)
    total: sums over processes, see `training.distributed`: each takes its share of every batch, of which `batch_size`
        is the whole. All see the same orders and the same chance, so dropout repeats its masks in each share. The first
        process writes the checkpoint, all read it.
    Neither of the two changes the configuration: a training may go on with other numbers of parts and processes.
    clip: the largest norm of a step's gradient, as `StrategyStep` has it; a longer one is scaled down.
    lr_of: learning rates of some parts of the model, as {"encoder": 1e-4, "heads": 1e-3}, see `rates.by_part`; `lr` is
        that of all others.
    warmup: so many steps at the beginning take a share of the learning rates that grows evenly, see `rates.warmed`. In
        steps, because what they guard, an optimiser's first estimates, grow better with steps and not with epochs. It
        multiplies what a schedule says, and must end before the training does.
    sampling: how often each task comes where tasks have inputs of their own, see `tasks.epoch_of`.
    A step object of one's own has to know of `clip` and `lr_of` itself.
    method: what the training is called in its configuration, for what cannot be seen in the model's class.
    watch: a function that looks at the model after each epoch and returns `{split: {task: {name: value}}}`. Those of
        "val" join the validation scores, by which an epoch may be selected; others go into the history only.
    Raises `TrainingDiverged` for NaN and infinite losses, ValueError for settings that do not fit.
    """
    _check(problem, epochs, batch_size, schedule, sampling)
    steps = steps_of_epoch(len(problem.train), batch_size, drop_last)
    check_warmup(warmup, epochs * steps)
    if save_every is not None and not is_whole(save_every, 1):
        raise ValueError(f"save_every is {save_every!r}, and must be at least 1, a whole number of steps.")
    for what, shares in (("accumulate", accumulate), ("The number of processes", total.size)):
        if not is_whole(shares, 1) or shares > batch_size:
            raise ValueError(f"{what} is {shares!r}, and must be at least 1 and no more than the samples of a batch "
                             f"({batch_size}).")
    selection = Selection(select, patience, problem.tasks)
    device = pick_device(device)
    model.to(device)
    outside = {"outside": {name: content_hash([x]) for name, x in problem.outside.items()}} if problem.outside else {}
    problem = on_device(problem, device)
    seed_everything(seed)
    asked = {"strategy": described(strategy), "at": at, "optimizer": described(optimizer), "lr": lr,
             "weight_decay": weight_decay, "precision": precision, "compile": compile, "diagnostics": diagnostics}
    if step is None:
        step = make_step(problem.tasks, model, strategy, at=at, lr=lr, weight_decay=weight_decay, optimizer=optimizer,
                         precision=precision, compile=compile, seed=seed, diagnostics=diagnostics,
                         accumulate=accumulate, total=total, clip=clip, lr_of=lr_of)
        asked |= {name: value for name, value in getattr(step, "settings", {}).items() if name in UNUSUAL}
    else:
        if getattr(step, "total", ALONE).size != total.size or getattr(step, "accumulate", 1) != accumulate:
            raise ValueError(f"accumulate={accumulate} and {total.size} processes need a step that knows of them: give "
                             "both to make_step, too.")
        settings = getattr(step, "settings", {})
        for what, value in (("clip", clip), ("lr_of", lr_of)):
            if value is not None and settings.get(what) != value:
                raise ValueError(f"{what}={value!r} needs a step that knows of it, and the settings of this one do not "
                                 "say so: give it to make_step, too.")
        asked |= {**dict.fromkeys(asked), **settings_of(step.optimizers), **settings}
    config = {"problem": problem.name, "options": problem.options, "samples": len(problem.train), "method": method,
              "model": type(model).__name__, **outside, **asked, "epochs": epochs, "batch_size": batch_size,
              "drop_last": drop_last, "schedule": described(schedule), "seed": seed,
              "select": list(select) if isinstance(select, tuple | list) else described(select), "patience": patience,
              **{name: value for name, value in (("warmup", warmup), ("sampling", sampling))
                 if value != UNUSUAL[name][0]}}
    state = State(problem, model, step, config, selection, checkpoint, total)
    state.schedulers = schedulers(schedule, step.optimizers, epochs, steps)
    if resume:
        state.restore()
    if total.size > 1:
        check_same(total, settings=canonical(config), model=content_hash(model.state_dict().values()),
                   data=str([hash_data(problem, split) for split in ("train", "val", "test")]),
                   checkpoint=f"{state.epoch}, {state.updates}")

    with _bar(problem, state.epoch, epochs, steps, progress and total.rank == 0) as bar:
        while state.epoch < epochs and not selection.is_over(state.epoch):
            model.train()
            state.begin_epoch()
            batches = epoch_of(problem.train, batch_size, state.order, drop_last, (total.rank, total.size), sampling)
            for batch in islice(batches, state.done, None):
                with warmed(step.optimizers, state.updates, warmup):
                    state.add(batch, step)
                bar.update()
                if save_every and state.updates % save_every == 0:
                    state.save()
            state.end_epoch()
            state.validated(evaluate(model, problem, "val", total=total), watch(model) if watch else {})
            state.save()
    if selection.best:
        model.load_state_dict(selection.best["model"])
    cost = {"parameters": size(model), "steps": state.updates, "samples": state.samples + getattr(
        step, "samples_above", 0), "seconds": state.seconds}
    scores, samples = scores_and_samples(model, problem, total)
    return Run(pd.DataFrame(state.history), scores, model,
               {**config, "selected_epoch": selection.best.get("epoch", state.epoch)}, cost=cost,
               higher_is_better=directions(problem), test_data=samples.data, samples=samples)


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """`device` itself, or for "auto" a CUDA device if torch sees one and the CPU if not."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def on_device(problem: Problem, device: torch.device) -> Problem:
    """The problem with its splits on `device`, and what is outside."""
    return replace(problem, train=problem.train.to(device), val=problem.val.to(device), test=problem.test.to(device),
                   outside={name: inputs.to(device) for name, inputs in problem.outside.items()})


def _check(problem: Problem, epochs: int, batch_size: int, schedule: str | Callable | None, sampling: Any) -> None:
    check_data(problem)
    check_sampled(problem.train, sampling)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not is_whole(value, 1):
            raise ValueError(f"{name} is {value!r}; it must be at least 1, a whole number.")
    check_schedule(schedule)


def check_unusual(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for a value of those of the settings in `UNUSUAL` that is none; the others are not looked at."""
    for name in settings.keys() & UNUSUAL.keys():
        UNUSUAL[name][1](settings[name])


def _bar(problem: Problem, done: int, epochs: int, steps: int, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=epochs * steps, initial=done * steps, desc=problem.name, unit="step", leave=False,
                disable=not progress)
