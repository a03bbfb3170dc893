"""Which epoch's model is kept, and when to stop: by validation scores, never by the test split.

Imports `files` and `tasks`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..files import imported, is_whole, unknown
from ..tasks import Task

Scores = Mapping[str, Mapping[str, float]]
Select = str | Sequence[str] | Callable[[Scores], float]


class Selection:
    """The best epoch so far, by a rule that is defined for every metric.

    select: "last", the last epoch;
        "best-val", by all metrics of all tasks, see `better`;
        ("task", "metric"), by this one, "loss" included, in the direction that is good for it;
        a function from the validation scores `{task: {metric: value, "loss": value}}` to a number, more is better,
        or its address `package.module:function`.
    patience: stop after so many epochs without a better one; None: never.
    Of equal epochs the first is the best. An undefined value (NaN, or infinite) is worse than any number.
    state: the best epoch and its model, and the values of all epochs; what a checkpoint keeps.
    Raises ValueError for another rule, naming the known tasks and metrics, and for patience without a rule.
    """

    def __init__(self, select: Select, patience: int | None, tasks: Sequence[Task]):
        self.select, self.patience = select, patience
        self.best: dict[str, Any] = {}  # epoch, model
        self.past: list[list[float]] = []  # the values of each epoch, turned so that more is better
        if patience is not None and not is_whole(patience, 1):
            raise ValueError(f"patience={patience!r} is no number of epochs; give a whole number from 1 upwards.")
        if patience is not None and select == "last":
            raise ValueError("patience counts epochs without a better one, so it needs to know what is better: give "
                             "select='best-val' too, or a task and its metric, or a function.")
        if isinstance(select, str) and ":" in select:
            select = imported(select, "select", "a function from validation scores to a number")
        self._score = select if callable(select) else None
        self._counted = [] if callable(select) or select == "last" else _counted(select, tasks)

    @property
    def active(self) -> bool:
        """Whether there is a best epoch to look for."""
        return bool(self._score or self._counted)

    def note(self, epoch: int, scores: Scores, model: Callable[[], dict[str, Any]]) -> None:
        """Hear of an epoch's validation scores; `model()` is what to keep if it is the best so far."""
        if not self.active:
            return
        values = [self._number(epoch, scores)] if self._score else [
            sign * value if math.isfinite(value := scores[task][name]) else -math.inf
            for task, name, sign, _ in self._counted]
        self.past.append(values)
        if not self.best or self.better(values, self.past[self.best["epoch"] - 1]):
            self.best = {"epoch": epoch, "model": model()}

    def better(self, new: Sequence[float], old: Sequence[float]) -> bool:
        """Whether `new` is better than `old`, two epochs' values, each turned so that more is better.

        The mean over tasks of the mean over their metrics of `(new - old) / range` is positive, where the range of a
        metric is that between its worst and its best value so far; and no earlier epoch is at least as good in all
        and better in one. So scales, units and zeros do not matter, with one metric this is its maximum, and no
        epoch of the training is better in one metric and worse in none than the one that is kept.
        """
        gain = 0.0
        shares = [share for *_, share in self._counted] or [1.0]
        for place, share in enumerate(shares):
            seen = [values[place] for values in self.past if math.isfinite(values[place])]
            if math.isinf(new[place]) or math.isinf(old[place]):
                gain += share * ((new[place] > old[place]) - (new[place] < old[place]))
            elif max(seen) > min(seen):
                gain += share * (new[place] - old[place]) / (max(seen) - min(seen))
        beaten = any(values != new and all(a >= b for a, b in zip(values, new, strict=True)) for values in self.past)
        return gain > 0 and not beaten

    def is_over(self, epoch: int) -> bool:
        """Whether the patience is at its end."""
        return self.patience is not None and bool(self.best) and epoch - self.best["epoch"] >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "past": self.past}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.past = state["best"], state["past"]

    def _number(self, epoch: int, scores: Scores) -> float:
        value = float(self._score(scores))
        if math.isnan(value):
            raise ValueError(f"select returned NaN for epoch {epoch}. A function of the validation scores must return "
                             "a number for each epoch, more being better; return -math.inf where nothing is known.")
        return value


def _counted(select: Any, tasks: Sequence[Task]) -> list[tuple[str, str, float, float]]:
    """What counts: task, metric, 1 or -1 as more or less is better, and its share."""
    known = {task.name: task for task in tasks}
    if select == "best-val":
        return [(task.name, name, 1.0 if factory().higher_is_better else -1.0, 1 / len(tasks) / len(task.metrics))
                for task in tasks for name, factory in task.metrics.items()]
    if isinstance(select, str) or len(select) != 2:
        raise ValueError(f"select={select!r} is not known; use 'last', 'best-val', a pair such as "
                         f"{(tasks[0].name, next(iter(tasks[0].metrics)))}, or a function of the validation scores.")
    task, name = select
    if task not in known:
        raise ValueError(unknown("task to select by", str(task), known))
    if name not in (*known[task].metrics, "loss"):
        raise ValueError(unknown(f"metric of task {task!r}", str(name), [*known[task].metrics, "loss"]))
    higher = name != "loss" and known[task].metrics[name]().higher_is_better
    return [(task, name, 1.0 if higher else -1.0, 1.0)]
