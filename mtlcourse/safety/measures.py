"""Is multi-task learning (MTL) safe here? The measures Delta_I and eta, and the definitions behind them.

Imports `metrics`. "Safe" always means: measured against single-task learning (STL), one model per task.
A *change* is one metric's relative change against STL, positive where MTL is better; a *group* is the
task that the metric belongs to.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from ..metrics import RESOLUTION, relative_change

__all__ = [
    "EmpiricalSafety", "delta_i", "empirically_safe", "negative_sharing", "relative_change", "safeness_coefficient",
]


def delta_i(changes: Iterable, groups: Iterable[Hashable]) -> float:
    """Overall relative improvement over single-task learning, a fraction (0.02 is two percent better).

    `Delta_I = 1/m sum_t 1/m_t sum_j Delta_tj / STL_tj`: the mean over a task's m_t metrics, then the mean
    over the m tasks, so that a task with many metrics counts no more than one with a single metric.

    changes: one signed relative change per metric (see `relative_change`), positive is better.
    groups: for each change the task it belongs to, in the same order.
    A NaN change (undefined: its baseline is 0) makes the result NaN. Leave such a metric out if that is
    what you mean.
    Raises ValueError when there are no changes, or not one group for each change.
    Source: Deep Safe Multi-Task Learning, section 7.1. The thesis Learning Architecture for Multiple
    Tasks in Transfer Learning prints 100 times this number in its chapter 5.

    >>> round(delta_i([0.10, -0.02, 0.01], ["left", "left", "right"]), 6)
    0.025
    """
    tasks = _by_task(changes, groups)
    return exact_mean([exact_mean(values) for values in tasks.values()])


def safeness_coefficient(changes: Iterable, groups: Iterable[Hashable]) -> float:
    """The share of metrics, averaged within and then over tasks, on which MTL is no worse than STL, in percent.

    `eta = 100/m sum_t 1/m_t sum_j [Delta_tj >= 0]`: equality counts as safe, and 100 means that no metric
    of any task got worse. Only the signs matter, so differences serve as well as relative changes.

    changes, groups, NaN and errors: as for `delta_i`.
    Source: Deep Safe Multi-Task Learning, section 7.1.

    >>> safeness_coefficient([0.10, -0.02, 0.0], ["left", "left", "right"])
    75.0
    """
    tasks = _by_task(changes, groups)
    return 100 * exact_mean([exact_mean([v if math.isnan(v) else float(v >= 0) for v in values])
                             for values in tasks.values()])


def negative_sharing(changes: Iterable, groups: Iterable[Hashable]) -> list:
    """The tasks on which MTL generalises worse than STL, in order; an empty list means safe multi-task learning.

    Definitions 1 and 2 speak of a task's performance. A task with several metrics counts as worse here
    when any of them is, which is what `safeness_coefficient == 100` demands; a NaN change decides nothing.

    changes: signed changes on data that was not trained on.  groups, errors: as for `delta_i`.
    Source: Deep Safe Multi-Task Learning, definitions 1 and 2.

    >>> negative_sharing([0.10, -0.02, 0.0], ["left", "left", "right"])
    ['left']
    """
    return [task for task, values in _by_task(changes, groups).items() if any(v < 0 for v in values)]


class EmpiricalSafety(NamedTuple):
    """What `empirically_safe` found: definition 3 (1), `individual`, and (2), `average`."""

    individual: bool
    average: bool


def empirically_safe(losses: Mapping[str, float], stl_losses: Mapping[str, float]) -> EmpiricalSafety:
    """Whether the *training* losses are no larger than those of STL: on each task, and on average.

    `individual`: L_t <= L_t^STL for every task t.  `average`: mean_t L_t <= mean_t L_t^STL.
    The first implies the second; neither says anything about data that was not trained on.

    losses, stl_losses: `{task: mean loss over the whole training split}`, both models in evaluation mode.
    Raises ValueError when the tasks differ, or when there are none. A NaN loss is not safe.
    Source: Deep Safe Multi-Task Learning, definition 3.

    >>> empirically_safe({"left": 0.30, "right": 0.11}, {"left": 0.40, "right": 0.10})
    EmpiricalSafety(individual=False, average=True)
    """
    if not losses or set(losses) != set(stl_losses):
        raise ValueError(
            f"Losses are given for {sorted(losses)}, single-task losses for {sorted(stl_losses)}; "
            "both need the same tasks."
        )
    individual = all(losses[task] <= stl_losses[task] for task in losses)
    average = exact_mean([*losses.values(), *(-stl_losses[task] for task in losses)]) <= 0
    # Individual safety implies average safety, and a difference that only rounding makes may not undo that.
    return EmpiricalSafety(individual, individual or average)


def _by_task(changes: Iterable, groups: Iterable[Hashable]) -> dict[Hashable, list[float]]:
    values, names = [float(change) for change in changes], list(groups)
    if len(values) != len(names) or not values:
        raise ValueError(
            f"There are {len(values)} changes and {len(names)} groups; "
            "give one task name for each change, and at least one change."
        )
    tasks: dict[Hashable, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        tasks.setdefault(name, []).append(value)
    return tasks


def exact_mean(values: Iterable[float]) -> float:
    """The mean, summed exactly; 0 where it differs from zero by no more than the rounding of the values.

    >>> exact_mean([0.9, 0.7, -0.8, -0.8]), exact_mean([0.1, 0.2, -0.3])
    (0.0, 0.0)
    """
    values = list(values)
    total = math.fsum(values) if all(map(math.isfinite, values)) else sum(values)  # fsum refuses inf - inf
    mean = total / len(values)
    return 0.0 if abs(mean) < RESOLUTION * max(map(abs, values)) else mean
