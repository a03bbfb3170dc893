"""Two networks on the same samples, measure by measure: what a certificate is made of.

Imports `metrics`, `tasks`, `training`, and its folder's `resampling`. What cannot be compared honestly is refused here,
with the reason.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from ..metrics import Share, without_rounding
from ..tasks import Problem, Task
from ..training.samples import Samples, measures
from . import resampling

LOSS = "loss"


@dataclass
class Compared:
    """One measure of one task, for a network and its baseline.

    measure: its name; shown: the same with the clip, if there is one.
    own, other: rows of each sample of the split that has the task.
    metric: what the rows mean; None for losses and what was clipped, whose rows are (value, 1).
    interval: in which one sample's value lies, where the measure is a mean over elements.
    mean: it is the mean of the samples' own values, as all samples have as many elements.
    binary: every sample is right or wrong, by the meaning of the measure.
    groups: which groups each of the samples was made of.
    """

    task: str
    measure: str
    shown: str
    own: Float64[np.ndarray, "n k"]
    other: Float64[np.ndarray, "n k"]
    metric: Any
    higher_is_better: bool
    interval: tuple[float, float] | None
    groups: Int64[np.ndarray, "n ids"] | None
    mean: bool = False
    binary: bool = False

    @property
    def n(self) -> int:
        return len(self.own)

    @property
    def sign(self) -> float:
        return 1.0 if self.higher_is_better else -1.0

    @property
    def bounded(self) -> bool:
        """Whether it is a mean over samples whose values lie in a known interval."""
        return self.mean and math.isfinite(self.interval[1] - self.interval[0])

    @property
    def range(self) -> tuple[float, float]:
        """In which interval a sample's difference lies."""
        width = self.interval[1] - self.interval[0]
        return -width, width

    def values(self, rows: Float64[np.ndarray, "some k"]) -> Float64[np.ndarray, "some"]:
        """The measure of each row, or of each sum of rows."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.metric is None:
                return rows[:, 0] / rows[:, 1]
            if self.interval is not None:  # linear in sum / count
                at_0, at_1 = (self.metric.value(torch.tensor([part, 1.0], dtype=torch.float64)) for part in (0.0, 1.0))
                return at_0 + (at_1 - at_0) * (rows[:, 0] / rows[:, 1])
        return self.metric.values(torch.from_numpy(rows)).numpy()

    def value(self, rows: Float64[np.ndarray, "n k"]) -> float:
        return float(self.values(rows.sum(0, keepdims=True))[0])

    def differences(self) -> Float64[np.ndarray, "n"]:
        """Each sample's own difference, positive where the network is better than its baseline."""
        own, other = self.values(self.own), self.values(self.other)
        return self.sign * without_rounding(own - other, np.maximum(np.abs(own), np.abs(other)))

    @property
    def difference(self) -> float:
        """The difference of the measure, positive where the network is better; 0 where both are equal to rounding."""
        own, other = self.value(self.own), self.value(self.other)
        return self.sign * float(without_rounding(own - other, max(abs(own), abs(other)))) + 0.0  # no -0

    def units(self, over: str, among: Bool[np.ndarray, "n"] | slice = slice(None)) -> int:
        """How many samples, or groups that samples were made of, there are `among` those chosen."""
        return len(self.own[among]) if over == "samples" else len(np.unique(self.groups[among]))

    @property
    def broken(self) -> tuple[bool, bool]:
        """Whether the network, and its baseline, is not a number somewhere, or infinite."""
        own, other = (not (np.isfinite(rows).all() and math.isfinite(self.value(rows)))
                      for rows in (self.own, self.other))
        return own, other


def compare(samples: Samples, baseline: Samples, problem: Problem, wanted: Sequence[str] | None = None,
            clip: Mapping[str, float] | None = None) -> list[Compared]:
    """Every wanted measure of every task; without `wanted`, the tasks' own measures, as far as their rows were kept.

    clip: `{measure: largest value}`. The loss of a classification task is clipped at 2 log(classes), unless something
        else, such as infinity, is given here.
    Raises ValueError for other data, another order, another split, samples that were trained on, tasks without labels,
    and measures that are not there.
    """
    check_alike(samples, baseline)
    if isinstance(wanted, str):
        raise ValueError(f"measures={wanted!r}: give a list, such as [{wanted!r}].")
    known = {task.name: _known(task, samples) for task in problem.tasks}
    for name in (*(wanted or ()), *(clip or ())):
        if not any(name in own for own in known.values()):
            raise ValueError(f"No task has a measure {name!r}; there are {sorted(set().union(*known.values()))}.")
    found = []
    for task in problem.tasks:
        labelled = samples.labelled.get(task.name, np.zeros(0, bool))
        if not labelled.any():
            raise ValueError(f"Task {task.name!r} has no labelled sample in split {samples.split!r}: nothing can be "
                             "certified there.")
        asked = list(task.metrics if wanted is None else wanted)
        names = [name for name in asked if name in known[task.name]]
        if not names:
            raise ValueError(f"Task {task.name!r} has none of the measures {asked} among those that were kept, "
                             f"{list(known[task.name])}: name one of its own, for what is said of all tasks must hold "
                             "for this one too.")
        found += [_compared(task, name, known[task.name][name], samples, baseline, labelled, clip or {})
                  for name in names]
    return found


def resample(rows: Sequence[Compared], over: str, draws: int, seed: int) -> list[Float64[np.ndarray, "draws"]]:
    """The difference of each row in so many resampled data sets; rows of the same samples share the draws.

    over: what is drawn, "samples" or "groups"; ValueError where the groups are not known.
    """
    found: dict[int, np.ndarray] = {}
    together: dict[tuple, list[int]] = {}
    for place, row in enumerate(rows):
        if over == "groups" and row.groups is None:
            raise ValueError("over='groups': the split does not know from which sources the samples of task "
                             f"{row.task!r} were made; give it `groups`, or certify over='samples'.")
        together.setdefault((row.n, row.groups.tobytes() if over == "groups" else None), []).append(place)
    for places in together.values():
        same = [rows[place] for place in places]
        groups = same[0].groups if over == "groups" else None
        drawn = _drawn(same, resampling.weights(same[0].n, draws, seed, groups))
        if groups is not None and groups.shape[1] == 2:
            drawn = map(resampling.without_excess, drawn, _drawn(same, resampling.weights(same[0].n, draws, seed)))
        found |= zip(places, drawn, strict=True)
    return [found[place] for place in range(len(rows))]


def _drawn(rows: Sequence[Compared], weights: Iterator[Float64[np.ndarray, "some n"]]) -> list[np.ndarray]:
    """Each row's difference in each draw."""
    sums = resampling.totals([array for row in rows for array in (row.own, row.other)], weights)
    return [row.sign * (row.values(own) - row.values(other))
            for row, own, other in zip(rows, sums[::2], sums[1::2], strict=True)]


def check_alike(samples: Samples, baseline: Samples) -> None:
    """Raise ValueError, saying how they differ, unless both are about the same samples in the same order."""
    def refuse(reason: str) -> None:
        raise ValueError(f"The two networks cannot be compared: {reason}. Differences are taken sample by sample, so "
                         "both have to be measured on the same data in the same order.")

    if samples.split != baseline.split:
        refuse(f"one was measured on split {samples.split!r}, its baseline on {baseline.split!r}")
    if samples.split == "train":
        refuse("both were trained on split 'train', whose samples are no new ones for them; take 'test'")
    if samples.data != baseline.data:
        refuse(f"the hash of its data is {samples.data}, that of its baseline {baseline.data}")
    for task, labelled in samples.labelled.items():
        if not np.array_equal(labelled, baseline.labelled.get(task)):
            refuse(f"task {task!r} has other labelled samples in the two")
        for name, rows in samples.rows[task].items():
            if name in baseline.rows[task] and rows.shape != baseline.rows[task][name].shape:
                refuse(f"{name!r} of task {task!r} has rows of shape {rows.shape} in one, "
                       f"{baseline.rows[task][name].shape} in the other")


def _known(task: Task, samples: Samples) -> dict[str, Any]:
    """Measures of the task whose rows are there, with their metric; the loss has none."""
    rows = samples.rows.get(task.name, {})
    return {name: metric for name, metric in
            {**{name: factory() for name, factory in measures(task).items()}, LOSS: None}.items() if name in rows}


def _compared(task: Task, name: str, metric: Any, samples: Samples, baseline: Samples,
              labelled: Bool[np.ndarray, "samples"], clip: Mapping[str, float]) -> Compared:
    if name not in baseline.rows[task.name]:
        raise ValueError(f"The baseline has no rows of {name!r} of task {task.name!r}; measure both networks alike.")
    own, other = (kept.rows[task.name][name][labelled] for kept in (samples, baseline))
    groups = _groups(samples, task.name, labelled)
    if metric is None:
        ones = np.ones_like(own)
        own, other = np.concatenate([own, ones], 1), np.concatenate([other, ones], 1)
    found = Compared(task.name, name, name, own, other, metric, bool(metric and metric.higher_is_better),
                     (0.0, math.inf) if metric is None else metric.interval, groups, mean=metric is None)
    top = clip.get(name, 2 * math.log(task.classes) if metric is None and task.kind == "classification" else math.inf)
    if math.isfinite(top):
        return _clipped(found, top)
    if found.interval is not None and metric is not None:
        _check_mean(found)
        found.mean = bool((own[:, 1] == own[0, 1]).all())  # if not, samples count by their elements: a ratio of means
        found.binary = found.mean and isinstance(metric, Share) and own[0, 1] == 1
    return found


def _clipped(found: Compared, top: float) -> Compared:
    """The same with values of at most `top`; each sample counts as one."""
    if found.interval is None or found.interval[0] < 0 or found.higher_is_better or not top > 0:
        raise ValueError(f"clip={{{found.measure!r}: {top:g}}}: only a mean of errors or losses, none below 0, can be "
                         "clipped, and only above 0.")
    counted = ~(found.own[:, 1] == 0)
    own, other = (np.stack([np.minimum(found.values(rows), top), np.ones(len(rows))], 1)
                  for rows in (found.own[counted], found.other[counted]))
    return Compared(found.task, found.measure, f"{found.measure} (clipped at {top:.3g})", own, other, None, False,
                    (0.0, top), None if found.groups is None else found.groups[counted], mean=True)


def _check_mean(found: Compared) -> None:
    """Raise ValueError where a measure is not the mean, or does not lie in the interval, that it claims."""
    for rows in (found.own, found.other):
        if rows.shape[1] != 2:
            raise ValueError(f"{found.measure!r} of task {found.task!r} has an `interval`, so rows (sum, count), but "
                             f"was given rows of {rows.shape[1]} numbers. Set its interval to None.")
        if not np.isfinite(rows).all():
            continue
        values, whole = found.values(rows), found.metric.value(torch.from_numpy(rows.sum(0)))
        low, high = found.interval
        slack = 1e-9 * max(1.0, abs(whole))
        if abs(found.value(rows) - whole) > slack or values.min() < low - slack or values.max() > high + slack:
            raise ValueError(f"{found.measure!r} of task {found.task!r} is not a mean of values in [{low}, {high}], as "
                             "its `interval` says. Set that to None, and it is resampled.")


def _groups(samples: Samples, task: str, labelled: Bool[np.ndarray, "samples"]) -> np.ndarray | None:
    if samples.groups is None:
        return None
    groups = samples.groups.get(task, samples.groups.get("*"))
    return None if groups is None else groups[labelled]
