"""Alignment architecture search: one configuration an epoch, one network, no retraining.

Imports `data`, `encoders`, `files`, `tasks`, `training`, its folder's `controller`, `network`, `objectives`.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...data import DomainView
from ...encoders import size
from ...files import is_whole, unknown
from ...tasks import Batch
from ...training import AdaptationStep, Run, Setting, make_adaptation_step
from ...training.adaptation import Objective
from .controller import ByLot, Controller, Fixed, Reinforce
from .network import AlignmentNetwork
from .objectives import APART, objective

CONTROLLERS = ("reinforce", "random", "fixed")
REWARDS = ("epoch", "held-out", "classified")
HELD_OUT = 4  # batches, on which a reward is measured


class SearchStep(AdaptationStep):
    """Trains one configuration an epoch, and tells the controller its reward after it: algorithm 2.

    The loss of all configurations is the objective's, and the reward is minus that loss.
    controller: picks the configuration of each epoch.  model: stays in it until the next epoch begins, so that what is
        left at the end is the last one that was picked, with the weights it has.
    reward: "epoch", minus the mean loss over the epoch's steps; "held-out", minus the loss with the weights as they
        are after the epoch, on source samples and target inputs that nothing is trained on; "classified", the same with
        the distance on what the classifier takes, wherever the training aligns. So a configuration that aligns what
        the classifier does not look at gains nothing: the smallest repair, and not in the source.
    extra: further updates of the controller after each epoch, each with a configuration of its own, whose reward is
        measured with the same weights; none in the source.
    The printed algorithm takes the reward with the weights fixed, and does not say on what data; the losses that
    the epoch has anyway cost nothing.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, algorithm 2 (whose printed title is that of
    another method).
    Raises ValueError for less than two held out source samples, besides what other adaptation steps raise.
    """

    model: AlignmentNetwork

    def __init__(self, view: DomainView, model: AlignmentNetwork, objective: Objective, *, controller: Controller,
                 reward: str = "epoch", extra: int = 0, **options: Any):
        super().__init__(view, model, objective, **options)
        if len(view.source.val) < 2:
            raise ValueError(f"The source {view.task.name!r} has {len(view.source.val)} samples held out; a search "
                             "measures rewards on them, and compares: give two or more.")
        self.controller, self.kind, self.extra = controller, reward, extra
        self.view, self.batch_size = view, options["batch_size"]
        self.picks: list[int] | None = None
        self.reward = float("nan")

    def __call__(self, batch: Batch) -> dict[str, float]:
        if self.picks is None:
            self.picks = self.controller.pick()
            self.model.take(self.model.space.named(self.picks))
        return super().__call__(batch)

    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None:
        super().on_epoch_end(epoch, mean_losses)
        assert self.picks is not None
        self.reward = -_total(self.means()) if self.kind == "epoch" else self.measured(self.kind)
        self.controller.learn(self.picks, self.reward)
        for _ in range(self.extra):
            picks = self.controller.pick()
            self.model.take(self.model.space.named(picks))
            self.controller.learn(picks, self.measured(self.kind))
        if self.extra:
            self.model.take(self.model.space.named(self.picks))
        self.picks = None

    def measured(self, kind: str) -> float:
        """The reward "held-out" or "classified" of the model's configuration with the weights as they are.

        Always on the same samples, in batches as long as the training's: the distance depends on their length.
        """
        device = next(self.model.parameters()).device
        source, total = self.view.source.val.to(device), []
        self.model.align_at_classifier(kind == "classified")
        with torch.no_grad(), batch_statistics(self.model), self.autocast():
            for start in range(0, min(len(source), HELD_OUT * self.batch_size), self.batch_size):
                rows = torch.arange(start, min(start + self.batch_size, len(source)))
                if len(rows) < 2:
                    break  # nothing can be compared in it
                batch = next(source.subset(rows).batches(len(rows)))
                targets = {} if not self.streams else {
                    domain: split.inputs[rows % len(split)].to(device) for domain, split in self.view.held_out.items()}
                total.append(_total(self.objective(self.model, batch, targets)))
        self.model.align_at_classifier(False)
        return -torch.stack(total).mean().item()

    def seen_so_far(self) -> dict[str, dict[str, float]]:
        configuration = self.model.configuration
        return {**super().seen_so_far(), "search": {
            "reward": self.reward, "entropy": self.controller.entropy,
            "configuration": float(self.model.space.number(configuration)),
            "beside": float(self.model.space.beside(configuration))}}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "controller": self.controller.state_dict(), "reward": self.reward}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.controller.load_state_dict(state["controller"])
        self.reward = state["reward"]


def _total(losses: Mapping[str, Any]) -> Any:
    """The objective: all losses but those of an opponent, which learns beside it."""
    return sum(loss for name, loss in losses.items() if name != APART)


@contextlib.contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, no dropout, and batch norms take the statistics of their batch and keep none.

    The running statistics of a shared batch norm are those of the configurations that passed it last.
    """
    modes = {module: module.training for module in model.modules()}
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    model.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for norm in norms:
            norm.track_running_stats = True


# --- the methods ------------------------------------------------------------------------------------------

def aas(view: DomainView, build: Callable[[DomainView], AlignmentNetwork], strategy: Any, setting: Setting, *,
        distance: str | None = None, weight: Any = 1.0, controller: str = "reinforce", configuration: Any = None,
        keep: str = "last", reward: str = "epoch", extra: Any = 0, controller_lr: float | int = 0.01) -> Run:
    """Search for the cells behind the backbone while their shared weights are trained, one stage, no retraining.

    distance: what aligns the domains on the output that the configuration says: "pc" (minus population correlation:
        the method aaspc) or another of `objectives.NAMES`; None: nothing, only the source's loss is minimised.
    weight: lambda, what the distance counts.
    controller: "reinforce"; "random", the control that draws each epoch's configuration by lot; "fixed", the control
        that trains one `configuration` and searches nothing.
    configuration: of "fixed", a table of choices or a number, see `AlignmentSpace.check`; the first by default.
    keep: "last", the last configuration with its weights, as printed; "best", that of the epoch with the highest reward
        with the weights it had then.
    reward, extra: see `SearchStep`.  controller_lr: of the controller's Adam.
    When a configuration takes over weights that others have moved, its first gradients can be large: at the printed
    learning rate 0.1, 11 of 34 searches on digits of 8 x 8 diverged, and none of 120 configurations that were trained
    alone. The option of training `clip` bounds them, as in aas(clip=1).
    learned: "configuration", its "number" in the enumeration, whether what is aligned lies "beside" the classifier's
        way, "parameters" it uses, its rewards "measured" as "held_out" and "classified", and by epoch "picked"
        (numbers), "rewards", and "entropy" of the policy in nats.
    Raises ValueError for options that are not known or do not fit together.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.3.2, algorithm 2 and, for other
    distances, section 4.4.5; the controls are ours.
    """
    for name, value, known in (("controller", controller, CONTROLLERS), ("reward", reward, REWARDS),
                               ("keep", keep, ("last", "best"))):
        if value not in known:
            raise ValueError(unknown(name, str(value), known))
    if configuration is not None and controller != "fixed":
        raise ValueError(f"A configuration is given, and controller={controller!r} picks its own: add "
                         "controller=fixed.")
    if not is_whole(extra, 0):
        raise ValueError(f"extra={extra!r} is no number of updates; give a whole number from 0 upwards.")
    if extra and reward == "epoch":
        raise ValueError(f"extra={extra} asks for rewards of configurations that no epoch has trained; they can only "
                         "be measured: add reward=held-out or reward=classified.")
    model = build(view)
    options = [len(found) for found in model.space.choices.values()]
    if controller == "reinforce":
        picker: Controller = Reinforce(options, setting.seed, lr=controller_lr)
    elif controller == "random":
        picker = ByLot(options, setting.seed)
    else:
        picker = Fixed(model.space.picks(model.space.check(0 if configuration is None else configuration)))
    settings = {"distance": distance, "weight": weight, "controller": controller, "configuration": configuration,
                "reward": reward, "extra": extra, "lr": controller_lr, "cells": model.space.cells,
                "tied": model.space.tied}
    step = cast(SearchStep, make_adaptation_step(
        view, model, objective(distance, weight, view, model), setting, SearchStep, controller=picker, reward=reward,
        extra=extra, settings={"search": settings}))
    run = setting.fit(view.source, model, "ew", step=step, **_keeping(keep, setting, step))
    run.learned = {**found(model),
                   "measured": {kind.replace("-", "_"): step.measured(kind) for kind in REWARDS[1:]},
                   **histories(run)}
    return run


def _keeping(keep: str, setting: Setting, step: SearchStep) -> dict[str, Any]:
    """Arguments of `fit` by which the epoch with the best reward is kept."""
    if keep == "last":
        return {}
    if setting.arguments.get("select", "last") != "last":
        raise ValueError("keep=best selects by the reward, and select by something else; give one of them.")
    watch = setting.arguments.get("watch")

    def with_reward(model: AlignmentNetwork) -> dict[str, Any]:
        seen = watch(model) if watch else {}
        return {**seen, "val": {**seen.get("val", {}), "search": {"reward": step.reward}}}
    return {"select": rewarded, "watch": with_reward}


def rewarded(scores: Mapping[str, Mapping[str, float]]) -> float:
    """The reward of an epoch, to select by."""
    return scores["search"]["reward"]


def found(model: AlignmentNetwork) -> dict[str, Any]:
    """What a search's `learned` says of the configuration that the model runs in."""
    space, configuration = model.space, model.configuration
    return {"configuration": configuration, "number": space.number(configuration),
            "beside": space.beside(configuration), "parameters": sum(map(size, model.running()))}


def histories(run: Run) -> dict[str, list[Any]]:
    """What a search's `learned` says of its epochs, in order."""
    rows = run.history[(run.history["task"] == "search") & (run.history["split"] == "train")]
    table = rows.pivot(index="epoch", columns="name", values="value")
    return {"picked": table["configuration"].astype(int).tolist(), "rewards": table["reward"].tolist(),
            "entropy": table["entropy"].tolist()}
