"""What a certificate is about, in words: what was sampled, and what was not.

Imports `files`, `tasks`, `training`, and its folder's `compared`, `evidence`.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..files import printed
from ..tasks import Problem
from ..training.samples import Samples
from .compared import Compared
from .evidence import LEAST


def text(samples: Samples, rows: Sequence[Compared], problem: Problem, frame: pd.DataFrame, margins: Sequence[float],
         delta: float, over: str) -> str:
    """The scope of a certificate, one sentence after another."""
    said = [f"Two trained networks, compared on {_samples(samples, rows, problem)}. Verdicts are about all samples of "
            f"the kind that these were drawn from: {_claim(rows, margins, delta)}.",
            "The networks are given. Trained again from another seed they are others, and nothing is said of those; "
            "certify_method asks about the method."]
    approximate = frame.loc[frame["method"].str.contains("bootstrap"), "measure"].unique()
    if len(approximate):
        said.append(f"Not exact: {', '.join(approximate)}. Resampling is approximate, and blind to rare large losses "
                    "that no sample here has.")
    return " ".join([*said, *_warnings(samples, problem), *_sources(rows, over)])


def of_method(samples: Samples, rows: Sequence[Compared], problem: Problem, margins: Sequence[float], delta: float,
              over: str, seeds: int) -> str:
    """The scope of a certificate of a method."""
    said = [f"{seeds} seeds of a method and of its baseline, in pairs, compared on {_samples(samples, rows, problem)}. "
            f"Verdicts are about the mean over new seeds and new samples: {_claim(rows, margins, delta)}. Not exact: "
            "variances of seeds and of samples are estimated, and the bounds are those of Student's distribution.",
            "A single network of this method may be worse than its baseline all the same; certify judges one."]
    if seeds < LEAST:
        said.append(f"{seeds} of {LEAST} seeds at least: nothing is decided.")
    return " ".join([*said, *_warnings(samples, problem), *_sources(rows, over)])


def _samples(samples: Samples, rows: Sequence[Compared], problem: Problem) -> str:
    counts = sorted({row.n for row in rows})
    many = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    which = f" (data {samples.data[:8]})" if samples.data else ""
    return f"{many} samples of split {samples.split!r} of {problem.name}{which}"


def _warnings(samples: Samples, problem: Problem) -> list[str]:
    said = []
    if not samples.data:
        said.append("These data do not lie in memory, so whether both networks saw the same samples in the same order "
                    "was not checked.")
    if samples.split == "val":
        said.append("If this split chose an epoch or a setting of either network, its samples are no new ones for it.")
    left_out = [f"{name} of {task.name}" for task in problem.tasks for name in task.metrics
                if name not in samples.rows[task.name]]
    if left_out:
        said.append(f"Not among what was kept, so not judged: {', '.join(left_out)}.")
    return said


def _claim(rows: Sequence[Compared], margins: Sequence[float], delta: float) -> str:
    together = f" for the {len(rows)} rows together" if len(rows) > 1 else ""
    sure = f"with confidence {printed('{:.4g}', 100 * (1 - delta))} %{together}"
    if not any(margins):
        return f"safe is no worse than the baseline, unsafe is worse, {sure}"
    by_measure = {row.measure: f"{margin:g} ({row.measure})" for row, margin in zip(rows, margins, strict=True)}
    allowed = f"{margins[0]:g}" if len(set(margins)) == 1 else ", ".join(by_measure.values())
    return f"safe is worse than the baseline by at most {allowed}, unsafe is worse by more, {sure}"


def _sources(rows: Sequence[Compared], over: str) -> list[str]:
    """How many sources the samples were made of, and how much less sure one is of new sources than of new samples."""
    grouped = [row for row in rows if row.groups is not None]
    if not grouped:
        return []
    number = max(len(np.unique(row.groups)) for row in grouped)
    if over == "groups":
        return [f"The samples were made of {number:,} sources; here these count as drawn, and so verdicts are about "
                "new sources."]
    factors = [factor for row in grouped if row.mean and not any(row.broken)
               for factor in [inflation(row.differences(), row.groups)] if not math.isnan(factor)]
    times = f" For new sources the standard error is {max(factors):.1f} times as large." if factors else ""
    return [f"The samples were made of {number:,} sources, and verdicts are about new samples made of the same ones."
            f"{times} For verdicts on those: over='groups'."]


def inflation(differences: np.ndarray, groups: np.ndarray) -> float:
    """How many times as large the standard error of a mean is if groups are drawn, not samples; NaN without a spread.

    Two samples are dependent if they share an id. With r the differences from their mean, one id a sample:
    `sum_g (sum of r in g)^2`; two ids: that over all ids of either column, less the sum over pairs of ids, in which it
    counted twice; each over `sum r^2`, and the root of it.

    Source: Cameron, Gelbach and Miller, Robust Inference With Multiway Clustering, 2011.

    >>> round(inflation(np.array([1.0, 1.0, -1.0, -1.0]), np.array([[0], [0], [1], [1]])) ** 2, 6)
    2.0
    """
    r = differences - differences.mean()
    if not r.any():
        return math.nan
    ids = np.unique(groups, return_inverse=True)[1].reshape(groups.shape)
    total = (sum(np.bincount(column, r, ids.max() + 1) for column in ids.T) ** 2).sum()
    if ids.shape[1] == 2:
        pairs = np.unique(np.sort(ids, axis=1), axis=0, return_inverse=True)[1].ravel()
        total -= (np.bincount(pairs, r) ** 2).sum()
    return math.sqrt(max(total, 0.0) / (r**2).sum())
