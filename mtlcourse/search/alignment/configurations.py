"""Every configuration's reward and accuracy: whether a search looks for what it should.

Imports `data`, `files`, `training`, its folder's `controller`, `network`, `search`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch

from ...data import DomainProblem
from ...files import derived_seed, seed_everything
from ...training import Setting, TrainingDiverged, judge
from .network import AlignmentNetwork
from .search import aas
from .space import AlignmentSpace


def every_configuration(problem: DomainProblem, *, cells: int = 1, tied: bool = False, distance: str | None = "pc",
                        weight: float | int = 1.0, sample: int | None = None, numbers: Sequence[int] | None = None,
                        seed: int = 0, **arguments: Any) -> pd.DataFrame:
    """One row a configuration, each trained alone from the same beginning: what a search could find.

    cells, tied: of the space, see `AlignmentSpace`; one cell has 6 configurations, two have 288.
    distance, weight: of the loss, see `aas`.
    sample: so many configurations drawn by lot, each once; by default all.  numbers: these ones instead.
    seed: of all trainings, and of the drawing.  arguments: of `training.fit`; those of the problem's budget "fast"
        where none are given.
    Columns: "number" and the choices; "beside", whether what is aligned is off the classifier's way; "reward", the
    printed one, and its parts "risk" and "alignment", means over the last epoch; "held_out" and "classified", the
    rewards of `SearchStep` that are measured on samples that nothing was trained on; "source", the accuracy on the
    source's test split; "accuracy", on the targets', their mean. A configuration whose training diverges has a row
    too, with rewards of minus infinity and accuracies NaN.
    The last column is for judging: a search that looked at it would look at target labels.
    Raises ValueError for a sample of more configurations than there are.
    """
    space = AlignmentSpace(cells, tied)
    if numbers is None:
        count = len(space) if sample is None else sample
        if not 1 <= count <= len(space):
            raise ValueError(f"sample={sample}: the space has {len(space)} configurations; draw from 1 to that many.")
        numbers = range(len(space))
        if sample is not None:
            generator = torch.Generator().manual_seed(derived_seed(seed, "configurations"))
            numbers = sorted(torch.randperm(len(space), generator=generator)[:count].tolist())
    settings = {**problem.training.get("fast", {}), "progress": False, **arguments}
    measure = next(iter(problem.task.metrics))
    rows = []
    for number in numbers:
        configuration = space[number]
        row = {"number": number, **configuration, "beside": space.beside(configuration)}
        seed_everything(seed)
        try:
            run = aas(problem.view, lambda view: AlignmentNetwork(view, cells=cells, tied=tied), None,
                      Setting(seed, None, settings), distance=distance, weight=weight, controller="fixed",
                      configuration=number)
        except TrainingDiverged:
            rows.append({**row, **dict.fromkeys(("reward", "held_out", "classified"), -math.inf)})
            continue
        last = run.history[run.history["epoch"] == run.history["epoch"].max()]
        parts = {name: float(value) for name, value in last[last["task"] == "objective"][["name", "value"]].to_numpy()}
        scores = judge(problem, run.model)[0]
        rows.append({**row, "reward": run.learned["rewards"][-1], **parts, **run.learned["measured"],
                     "source": run.metrics[problem.task.name][measure],
                     "accuracy": sum(values[measure] for values in scores.values()) / len(scores)})
    return pd.DataFrame(rows)


def agreement(rewards: Iterable[float | int], accuracies: Iterable[float | int]) -> tuple[float, float, float]:
    """The rank correlation of two columns, and the ends of its 95% interval, without pairs that are not both finite.

    Negative: what a search prefers is worse. The interval is Fisher's with the variance `(1 + r^2 / 2) / (n - 3)`.
    Raises ValueError for fewer than five pairs.
    Source: D. Bonett, T. Wright, Sample Size Requirements for Estimating Pearson, Kendall and Spearman Correlations,
    Psychometrika 2000.

    >>> agreement(range(100), range(100))[0], agreement(range(100), range(0, -100, -1))[0]
    (1.0, -1.0)
    """
    pairs = pd.DataFrame({"reward": list(rewards), "accuracy": list(accuracies)}, dtype=float)
    pairs = pairs[pairs.abs().lt(math.inf).all(axis=1)]
    if len(pairs) < 5:
        raise ValueError(f"{len(pairs)} pairs say nothing of a correlation; give five or more.")
    r = float(pairs["reward"].rank().corr(pairs["accuracy"].rank()))
    if abs(r) > 1 - 1e-12:
        return (round(r, 0),) * 3
    half = 1.96 * math.sqrt((1 + r**2 / 2) / (len(pairs) - 3))
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
