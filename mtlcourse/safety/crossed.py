"""Is a *method* safe? Several seeds, each with its baseline, on the same samples: what both leave to chance.

Imports `tasks`, `training`, and its folder's `certificates`, `compared`, `evidence`, `scope`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from torch import nn

from ..tasks import Problem
from ..training.samples import Samples, per_sample
from . import scope
from .certificates import COLUMNS, Certificate, Margin, check, margins_of, overall
from .compared import Compared, check_alike, compare, resample
from .evidence import LEAST, differing

Trained = Samples | nn.Module | Any


def certify_method(runs: Sequence[Trained], baselines: Sequence[Trained], problem: Problem, *, split: str = "test",
                   delta: float = 0.05, margin: Margin = 0.0, measures: Sequence[str] | None = None,
                   clip: Mapping[str, float] | None = None, over: str = "samples", draws: int = 1000,
                   seed: int = 0) -> Certificate:
    """Certify a method from several seeds: what holds in the mean of new seeds and new samples, approximately.

    A certificate of two trained networks changes from seed to seed, since other seeds make other networks. Here seeds
    s and samples i are crossed, `d_si = mu + a_s + b_i + e_si`, all of mean zero, and mu is asked for. With R seeds

        Var(mean d) = A + B - E,   A = s^2(d_s.) / R,   B = Var*(mean_s d_s),   E = sum_s Var*(d_s - mean_s d_s) / (R (R
        - 1))

    with d_s. a seed's difference, s^2 its variance over seeds, and Var* variances over resampled test sets, that are
    the same for all seeds. A knows the chance of seeds, B that of samples, and both have the rest, e, which E takes
    out. More seeds narrow their own part only: what all of them owe to these samples stays. Bounds are those of
    Student's distribution with Satterthwaite's degrees of freedom. The mean over seeds being no worse does not make any
    one network safe, and these bounds take neither rare seeds nor rare samples into account: exact is False.

    runs, baselines: of a seed each, in the same order: `Run`s with their models or with what was stored of the samples,
        models, or `Samples`.
    Everything else is as for `certify`. In the frame `n` is the number of samples, `method` is "seeds x samples", and
    `needed` about how many *seeds* would decide with samples as many as these, infinite where no number would.
    Fewer than three seeds that differ decide nothing.
    Raises ValueError as `certificate_of`, and unless each run has its baseline.
    Source: the two-way random effects model without repetition, as in Searle, Casella and McCulloch, Variance
    Components, 1992; Satterthwaite, An Approximate Distribution of Estimates of Variance Components, 1946.
    """
    check(delta, "bootstrap", over, draws)
    if not runs or len(runs) != len(baselines):
        raise ValueError(f"There are {len(runs)} runs and {len(baselines)} baselines; each seed's run needs the "
                         "baseline of the same seed.")
    own, other = ([_samples(run, problem, split) for run in trained] for trained in (runs, baselines))
    for samples in own[1:]:
        check_alike(samples, own[0])
    seeds = [compare(*pair, problem, measures, clip) for pair in zip(own, other, strict=True)]
    rows, margins = seeds[0], margins_of(margin, seeds[0])
    sound = [column for column in zip(*seeds, strict=True) if not any(any(row.broken) for row in column)]
    drawn = iter(resample([row for column in sound for row in column], over, draws, seed))
    lines = []
    for column, allowed in zip(zip(*seeds, strict=True), margins, strict=True):
        row = column[0]
        if column in sound:
            line = _line(column, np.stack([next(drawn) for _ in column], 1), over, (delta, delta / len(rows)), allowed)
        else:
            lost = any(one.broken == (True, False) for one in column) and not any(one.broken[1] for one in column)
            line = (*[math.nan] * 3, "unsafe" if lost else "undecided", math.nan)
        difference, low, high, verdict, needed = line
        lines.append((row.task, row.shown, row.n, difference, low, high, verdict, "seeds x samples", False, needed))
    frame = pd.DataFrame(lines, columns=COLUMNS)
    return Certificate(frame, overall(frame["verdict"]), scope.of_method(own[0], rows, problem, margins, delta, over,
                                                                        len(seeds)))


def _line(column: Sequence[Compared], drawn: Float64[np.ndarray, "draws seeds"], over: str, sides: tuple[float, float],
          margin: float) -> tuple[float, float, float, str, float]:
    """Difference, low, high, verdict and needed seeds of one measure."""
    from scipy.special import stdtrit

    found = np.array([row.difference for row in column])
    mean, seeds, units = float(found.mean()), len(column), column[0].units(over)
    size = np.array([max(abs(row.value(rows)) for row in column for rows in (row.own, row.other))])
    if seeds < LEAST or differing(found[:, None], size)[0] < LEAST or np.isnan(drawn).any():
        return mean, -math.inf, math.inf, "undecided", math.nan
    of_seeds, of_samples, rest = parts(found, drawn)
    variance = max(of_seeds + of_samples - rest, of_seeds, of_samples)
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_samples**2 / (units - 1)
                             + rest**2 / ((seeds - 1) * (units - 1)))
    low, high = (mean + sign * stdtrit(freedom, 1 - level) * math.sqrt(variance)
                 for sign, level in zip((-1, 1), sides, strict=True))
    verdict = "safe" if low > -margin else "unsafe" if high < -margin else "undecided"
    level = sides[0] if mean > -margin else sides[1]
    left = (mean + margin) ** 2 / stdtrit(freedom, 1 - level) ** 2 - max(of_samples - rest, 0.0)
    needed = float(math.ceil(seeds * of_seeds / left)) if left > 0 else math.inf
    return mean, float(low), float(high), verdict, needed


def parts(found: Float64[np.ndarray, "seeds"],
          drawn: Float64[np.ndarray, "draws seeds"]) -> tuple[float, float, float]:
    """A, B and E of `certify_method`: variances of the mean by seeds, by samples, and of what both have in common.

    found: each seed's difference.  drawn: the same in resampled test sets.
    """
    seeds = len(found)
    mean = drawn.mean(1, keepdims=True)
    rest = (drawn - mean).var(0, ddof=1).sum() / (seeds * (seeds - 1))
    return float(found.var(ddof=1) / seeds), float(mean.var(ddof=1)), float(rest)


def _samples(run: Trained, problem: Problem, split: str) -> Samples:
    """What a run did on each sample of the split: as it is, as it was stored, or measured now."""
    if isinstance(run, Samples):
        if run.split != split:
            raise ValueError(f"Samples of split {run.split!r} were given, and split={split!r}.")
        return run
    stored = getattr(run, "samples", None)
    if isinstance(stored, Samples) and stored.split == split:
        return stored
    model = run if isinstance(run, nn.Module) else getattr(run, "model", None)
    if model is None:
        raise ValueError("A run has neither its model nor what it did on each sample; run it again, or load it with "
                         "its model.")
    return per_sample(model, problem, split)
