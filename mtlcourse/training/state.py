"""All that changes during a training and must survive a crash.

Imports `files`, `strategies`, `tasks`, and its folder's `distributed`, `identity`, `selection`, `updates`.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import canonical, derived_seed, load_state, save_state
from ..strategies import NonFinite
from ..tasks import Batch, Problem
from .distributed import ALONE, Total
from .identity import groups_of
from .selection import Selection
from .updates import Step


class OtherTraining(ValueError):
    """A checkpoint belongs to another training than the one that was to go on; the message says in what it differs."""


class TrainingDiverged(ArithmeticError):
    """A loss became NaN or infinite; the message names task, step and the last good checkpoint."""


class State:
    """All that changes during a training and must survive a crash, with the means to write and read it.

    config: what tells this training from others.  selection: what keeps the best epoch.
    total: the processes of the training, of which the first writes.  done: how many steps of an epoch are.
    """

    def __init__(self, problem: Problem, model: nn.Module, step: Step, config: dict[str, Any],
                 selection: Selection, checkpoint: str | Path | None, total: Total = ALONE):
        self.total, self.done = total, 0
        self.problem, self.model, self.step, self.config = problem, model, step, config
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.selection, self.schedulers = selection, []
        self.groups = groups_of(step.optimizers)  # before a schedule has touched them
        self.order = torch.Generator().manual_seed(derived_seed(config["seed"], "order"))
        self.epoch = self.updates = self.samples = 0
        self.saved = ""
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []

    # --- one epoch ---

    def begin_epoch(self) -> None:
        if not self.done:  # and not inside an epoch, to which a checkpoint has led
            self.sums: dict[str, float] = {}
            self.counts: dict[str, int] = {}
            self.epoch_began = self.order.get_state()
        if self.total.size > 1:  # dropout may have taken more numbers from one process than from another
            chance = torch.get_rng_state()
            self.total.same([chance])
            torch.set_rng_state(chance)
        self.began = time.perf_counter()

    def add(self, batch: Batch, step: Step) -> None:
        if self.updates == 0:
            self.problem.check(batch, "first training batch")
        where = f"in step {self.done + 1} of epoch {self.epoch + 1}"
        try:
            losses = step(batch)
        except NonFinite as error:
            raise self.diverged(error.task, error.value, where, error.what) from error
        self.updates, self.done = self.updates + 1, self.done + 1
        self.samples += batch.samples
        for name, value in losses.items():
            if not math.isfinite(value):  # of a step object that does not check it itself
                raise self.diverged(name, value, where)
            count = batch.count(name)
            self.sums[name] = self.sums.get(name, 0.0) + value * count
            self.counts[name] = self.counts.get(name, 0) + count

    def end_epoch(self) -> None:
        self.epoch, self.done = self.epoch + 1, 0
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

    def validated(self, scores: Mapping[str, Mapping[str, float]],
                  watched: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        for name, values in scores.items():
            if not math.isfinite(values["loss"]):
                raise self.diverged(name, values["loss"], f"in the validation after epoch {self.epoch}")
        scores = {**scores, **watched.get("val", {})}
        for split, values in {**watched, "val": scores}.items():
            self.note(split, values)
        self.selection.note(self.epoch, scores, lambda: {
            key: value.detach().clone() for key, value in self.model.state_dict().items()})

    def note(self, split: str, scores: Mapping[str, Mapping[str, float]]) -> None:
        row = {"stage": "train", "epoch": self.epoch, "split": split}
        self.history += [{**row, "task": task, "name": name, "value": value}
                         for task, values in scores.items() for name, value in values.items()]

    def diverged(self, task: str, value: float, where: str, what: str = "loss") -> TrainingDiverged:
        kept = f"{self.checkpoint}.json, after {self.saved}" if self.saved else "none"
        return TrainingDiverged(f"The {what} of task {task!r} is {value} {where}. Try a smaller learning rate (it is "
                                f"{self.config['lr']}) or check the task's targets. Last good checkpoint: {kept}.")

    # --- the checkpoint ---

    def save(self) -> None:
        if self.checkpoint is None:
            return
        self.saved = f"step {self.done} of epoch {self.epoch + 1}" if self.done else f"epoch {self.epoch}"
        if self.total.rank:
            return
        inside = {"done": self.done, "sums": self.sums, "counts": self.counts} if self.done else {}
        save_state(self.checkpoint, {
            "config": self.config, "groups": self.groups, "epoch": self.epoch, "updates": self.updates,
            "samples": self.samples, "inside": inside,
            "seconds": self.seconds + (time.perf_counter() - self.began if self.done else 0.0),
            "history": json.dumps(self.history),  # as one text: many tasks and epochs make many rows, and all are saved
            "selection": self.selection.state_dict(), "model": dict(self.model.state_dict()),
            "step": self.step.state_dict(), "schedulers": [_plain(s.state_dict()) for s in self.schedulers],
            "order": self.epoch_began if self.done else self.order.get_state(), "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []})

    def restore(self) -> None:
        state = load_state(self.checkpoint) if self.checkpoint else None
        if state is None:
            return
        # A training may be made longer, unless a schedule, or a model that anneals, was told when it ends.
        free = set() if self.schedulers or hasattr(self.model, "prepare") else {"epochs"}
        differing = {key: state["config"].get(key) for key in {**self.config, **state["config"]} if key not in free
                     and canonical(self.config.get(key)) != canonical(state["config"].get(key))}
        if differing:
            raise self._of_another_training(differing)
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise OtherTraining(f"The checkpoint {self.checkpoint}.json belongs to a model of another form. Use "
                                f"another path, or resume=False to start afresh. {error}") from error
        if self.groups != state["groups"] or not isinstance(state["history"], str):  # once it was a list
            raise self._of_another_training({"optimizers": state["groups"]})
        self.step.load_state_dict(state["step"])
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
        self.epoch, inside = state["epoch"], state.get("inside", {})
        self.saved = f"step {inside['done']} of epoch {self.epoch + 1}" if inside else f"epoch {self.epoch}"
        if inside:
            self.done, self.sums, self.counts = inside["done"], inside["sums"], inside["counts"]
            self.epoch_began = self.order.get_state()
        self.updates, self.samples, self.seconds = state["updates"], state["samples"], state["seconds"]
        self.history = json.loads(state["history"])
        self.selection.load_state_dict(state["selection"])

    def _of_another_training(self, differing: dict[str, Any]) -> "OtherTraining":
        return OtherTraining(f"The checkpoint {self.checkpoint}.json belongs to another training, with {differing}. "
                             "Use another path, or resume=False to start afresh.")


def _plain(value: Any) -> Any:
    """As it comes back from a checkpoint: tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
