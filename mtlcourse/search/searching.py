"""One search: a model and its architecture learn on two halves of the training data.

Imports `procedures`, `strategies`, `tasks`, `training`, `updates`, `search.bilevel`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from torch import nn

from ..strategies import Strategy
from ..tasks import Problem
from ..training import Run, fit, pick_device
from ..training.procedures import Setting
from ..training.updates import StrategyStep, make_step
from .bilevel import BilevelStep, Loss, halves, summed


def search(problem: Problem, model: nn.Module, strategy: Strategy, setting: Setting, stage: str = "search", *,
           upper: Sequence[nn.Parameter], objective: Callable[[StrategyStep], Loss] = summed, order: str = "first",
           single_level: Any = False, architecture_lr: float | int | None = None, share: float = 0.5, warm_up: int = 0,
           diagnostics: bool = False) -> Run:
    """Learn the weights of `model` on one half of the training split and `upper` on the other, in turn.

    strategy: of the weights' level.  objective: from the weights' step to the upper loss; by default the sum of
        all task losses.
    order, single_level: see `BilevelStep`; a single level has both learn from both halves.
    architecture_lr: learning rate of `upper`; by default half of the weights', as printed for scenes and languages
        (for faces a twentieth, for the synthetic tasks and the robot the same).
        Weight decay and kind of optimiser are those of the weights.
    share: of the training split, for `upper`.  warm_up: so many epochs in which only the weights learn.
    A rule for the best epoch is for the stages that train what was found: a search goes on to its last epoch.
    The run's history also has the relaxed model's scores on the test split, at the last epoch.
    """
    flags(single_level=single_level)
    if architecture_lr is not None:
        not_negative(architecture_lr=architecture_lr)
    settings = settings_of(setting)
    below, above = halves(problem, setting.seed, share)
    lower = lower_step(problem, model, strategy, setting, diagnostics)
    step = BilevelStep(lower, upper, objective(lower), above, batch_size=settings["batch_size"], seed=setting.seed,
                       lr=settings["lr"] / 2 if architecture_lr is None else architecture_lr,
                       weight_decay=settings["weight_decay"], optimizer=settings["optimizer"],
                       order="single" if single_level else order, lower_objective=objective(lower), warm_up=warm_up,
                       drop_last=settings["drop_last"])
    # What a search has found is its last epoch's: the schedules of many searches decide only towards the end.
    return with_test_scores(setting.fit(below, model, strategy, stage, step=step, select="last", patience=None))


def settings_of(setting: Setting) -> dict[str, Any]:
    """All that `fit` will be called with: the setting's arguments, and `fit`'s own defaults for the others."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(fit).parameters.items()}
    return defaults | setting.arguments


def lower_step(problem: Problem, model: nn.Module, strategy: Strategy, setting: Setting,
               diagnostics: bool = False) -> StrategyStep:
    """The step of the weights, as `fit` would make it with this setting; moves the model to its device."""
    settings = settings_of(setting)
    model.to(pick_device(settings["device"]))
    return make_step(problem.tasks, model, strategy, diagnostics=diagnostics, seed=setting.seed, **{
        name: settings[name] for name in ("lr", "weight_decay", "optimizer", "precision", "accumulate", "total", "clip",
                                          "lr_of")})


def with_test_scores(run: Run) -> Run:
    """The run with its test scores in the history too, where those of later stages will not replace them."""
    rows = [{"stage": "train", "epoch": run.config["selected_epoch"], "split": "test", "task": task, "name": name,
             "value": value} for task, scores in run.metrics.items() for name, value in scores.items()]
    run.history = pd.concat([run.history, pd.DataFrame(rows)], ignore_index=True)
    return run


def flags(**given: Any) -> None:
    """Raise ValueError for an option that is neither True nor False."""
    for name, value in given.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} is neither True nor False.")


def not_negative(**given: Any) -> None:
    """Raise ValueError for an option that is no number, or a negative one."""
    for name, value in given.items():
        if not isinstance(value, int | float) or not value >= 0:
            raise ValueError(f"{name}={value!r} is not a number from 0 upwards.")
