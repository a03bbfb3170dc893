"""Is *this* network safe? A certificate for two trained networks, from what they did on the same new samples.

Imports `tasks`, `training`, and its folder's `betting`, `compared`, `disagreements`, `resampling`, `scope`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float64
from torch import nn

from ..tasks import Problem
from ..training.samples import Samples, per_sample
from . import betting, disagreements, resampling, scope
from .compared import Compared, compare, resample

BOUNDS = ("auto", "betting", "bernstein", "bootstrap")
COLUMNS = ["task", "measure", "n", "difference", "low", "high", "verdict", "method", "exact", "needed"]
FEWEST = 30  # samples (or groups) on which the networks differ, below which resampling decides nothing
Margin = float | Mapping[str, float]


@dataclass
class Certificate:
    """What is certain about a network against its baseline, two trained networks both.

    frame: one row a task and measure.
        task, measure; n: labelled samples.
        difference: network minus baseline, in the measure's unit, signed so that positive is better.
        low, high: it is at least `low`, "no worse than -low", with confidence 1 - delta; and at most `high`, with
            confidence 1 - delta / rows.
        verdict: "safe" if low > -margin: no worse than the margin. "unsafe" if high < -margin: worse by more than it.
            "undecided" otherwise. "unsafe" also where the network is not a number and its baseline is.
        method: "binomial", "betting", "bernstein", "bootstrap", "cluster bootstrap", or "not a number".
        exact: the confidence holds for any distribution and number of samples.
        needed: about how many samples would decide, if difference and spread stay.
    verdict: "safe" if every row is, "unsafe" if some row is, else "undecided". Wrong in at most a share delta of all
        certificates, as far as rows are exact: a network that is worse somewhere is called safe only if that row's
        `low` is wrong, which happens with probability delta, so no correction is needed; one that is worse nowhere is
        called unsafe if any of the rows' `high` is wrong, so each of them may be with probability delta / rows only.
    scope: what was sampled, and so what all this is about.
    """

    frame: pd.DataFrame
    verdict: str
    scope: str

    def __str__(self) -> str:
        table = self.frame.to_string(index=False, float_format=lambda value: f"{value:.4g}")
        return f"{self.verdict}\n\n{table}\n\n{self.scope}"


def certify(model: nn.Module, baseline: nn.Module, problem: Problem, *, split: str = "test", delta: float = 0.05,
            margin: Margin = 0.0, measures: Sequence[str] | None = None, clip: Mapping[str, float] | None = None,
            bound: str = "auto", over: str = "samples", draws: int = resampling.DRAWS, seed: int = 0) -> Certificate:
    """Certify that `model` is no worse than `baseline` on each task, or that it is worse on some (definition 4).

    Two *trained* networks are compared on samples that neither has seen. With probability 1 - delta what is said holds
    for the distribution that these samples were drawn from. It is nothing about the method that made them: other seeds
    make other networks, see `certify_method`.

    How sure what is, by measure (column `method`):
    - "binomial", exact: right or wrong on each sample, as accuracy, at margin 0: the binomial test on the samples where
      the networks disagree; `low` and `high` invert it, and so cannot contradict it (`disagreements.at_least`).
    - "betting", exact: means over samples whose values lie in a known interval, as the Brier score, pixel accuracy of
      fully labelled images, a clipped loss, or accuracy at another margin (`betting.at_least`).
    - "bootstrap", not exact: ratios (mIoU, F1, AUC), roots, medians, unbounded losses (`resampling.at_least`).
      Undecided where the networks differ on fewer than 30 samples.
    Equal networks are never safe at margin 0: `low` is then the certificate, "no worse than x".

    margin: how much worse still counts as safe, in the measure's unit, at least 0; `{measure: margin}` for several.
    measures: names of a task's metrics, "loss", and, for one class a sample, "brier" and "error"; by default the
        metrics of each task. Rows are more where measures are, and `high` is further away: name what you will judge by.
    clip: `{measure: value}`, what losses and errors are clipped at before the mean. The loss of a classification task
        is clipped at 2 log(classes), twice the loss of guessing, unless another value (or infinity) is given; the name
        of the measure says so. A clip is chosen before one looks at these samples.
    bound: "betting" or "bernstein" (simple, nearly twice as wide) for every measure, or "bootstrap"; "auto" as above.
    over: of what a new draw would be: "samples", or "groups": the sources that samples were made of, where the split
        knows them; all rows are then of a cluster bootstrap, and not exact.
    draws, seed: of the bootstrap; `seed` also orders the samples for betting. Choose no seed by its result.
    Raises ValueError for the training split, tasks without labels, a measure that has no bound of the kind that was
    asked for, unknown names, delta outside (0, 1/4] and margins below 0.
    Source: Deep Safe Multi-Task Learning, definition 4 asks for networks that are no worse on data that was not trained
    on. How to certify that is an addition.
    """
    return certificate_of(per_sample(model, problem, split), per_sample(baseline, problem, split), problem, delta=delta,
                          margin=margin, measures=measures, clip=clip, bound=bound, over=over, draws=draws, seed=seed)


def certificate_of(samples: Samples, baseline: Samples, problem: Problem, *, delta: float = 0.05, margin: Margin = 0.0,
                   measures: Sequence[str] | None = None, clip: Mapping[str, float] | None = None, bound: str = "auto",
                   over: str = "samples", draws: int = resampling.DRAWS, seed: int = 0) -> Certificate:
    """`certify` from what was stored of both networks (`per_sample`): neither model nor data are needed.

    problem: a description (`data.describe`) is enough, since only its tasks are asked what the rows mean.
    Everything else is as for `certify`. Raises also for networks that were not measured on the same samples, by the
    hash of their content, in the same order.
    """
    check(delta, bound, over, draws)
    rows = compare(samples, baseline, problem, measures, clip)
    margins = margins_of(margin, rows)
    methods = [_method(row, bound, over, allowed) for row, allowed in zip(rows, margins, strict=True)]
    sides = (delta, delta / len(rows))
    resampled = iter(resample([row for row, method in zip(rows, methods, strict=True) if "bootstrap" in method], over,
                              draws, seed))
    lines = []
    for row, method, allowed in zip(rows, methods, margins, strict=True):
        if method == "not a number":
            verdict = "unsafe" if row.broken == (True, False) else "undecided"
            difference = low = high = needed = math.nan
        else:
            difference = row.difference
            low, high = (_percentiles(row, over, next(resampled), sides) if "bootstrap" in method else
                         _exactly(row, method, sides, seed))
            verdict = "safe" if low > -allowed else "unsafe" if high < -allowed else "undecided"
            needed = needed_samples(row.n, difference, low, high, allowed)
        lines.append((row.task, row.shown, row.n, difference, low, high, verdict, method, "bootstrap" not in method,
                      needed))
    frame = pd.DataFrame(lines, columns=COLUMNS)
    said = scope.text(samples, rows, problem, frame, margins, delta, over)
    return Certificate(frame, overall(frame["verdict"]), said)


def overall(verdicts: Sequence[str] | pd.Series) -> str:
    """The verdict on a network from those on its tasks."""
    verdicts = set(verdicts)
    return "unsafe" if "unsafe" in verdicts else "safe" if verdicts == {"safe"} else "undecided"


def needed_samples(n: int, difference: float, low: float, high: float, margin: float) -> float:
    """About how many samples would decide, if difference and spread stay and bounds narrow like 1 / sqrt(n).

    `n (half / distance)^2`: half is how far the bound on the side of -margin lies from the difference, distance how
    far -margin does. For what is decided it is what would have sufficed. Infinite where the difference is -margin, NaN
    where there is no bound.

    >>> needed_samples(1000, 0.01, -0.01, 0.03, 0.0), needed_samples(1000, 0.0, -0.01, 0.03, 0.0)
    (4000.0, inf)
    """
    distance = difference + margin
    half = difference - low if distance > 0 else high - difference
    if not math.isfinite(half):
        return math.nan
    return float(math.ceil(n * (half / distance) ** 2 - 1e-9)) if distance else math.inf


def check(delta: float, bound: str, over: str, draws: int) -> None:
    """Raise ValueError for settings with which nothing could be certified."""
    if not 0 < delta <= 0.25:
        raise ValueError(f"delta={delta}: the share of wrong certificates lies between 0 and 0.25, such as 0.05.")
    for name, value, known in (("bound", bound, BOUNDS), ("over", over, ("samples", "groups"))):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known; use one of {', '.join(map(repr, known))}.")
    if over == "groups" and bound not in ("auto", "bootstrap"):
        raise ValueError(f"bound={bound!r} takes samples to be independent, and those of one group are not: with "
                         "over='groups' there is the bootstrap alone.")
    if draws < 100:
        raise ValueError(f"draws={draws}: fewer than 100 tell nothing about a quantile of 5 %.")


def margins_of(margin: Margin, rows: Sequence[Compared]) -> list[float]:
    """The margin of each row: one for all, or by measure, 0 for those not named."""
    names = [row.measure for row in rows]
    if isinstance(margin, Mapping):
        unknown = set(margin) - set(names)
        if unknown:
            raise ValueError(f"margin names {sorted(unknown)}, which are not certified; measures are "
                             f"{sorted(set(names))}.")
        margins = [float(margin.get(name, 0.0)) for name in names]
    else:
        margins = [float(margin)] * len(names)
    if not all(0 <= value < math.inf for value in margins):
        raise ValueError(f"margin={margin}: how much worse still counts as safe, a number of at least 0.")
    return margins


def _method(row: Compared, bound: str, over: str, margin: float) -> str:
    """How the row is decided; ValueError where it cannot be as asked."""
    if any(row.broken):
        return "not a number"
    if over == "groups":
        return "cluster bootstrap"
    if bound in ("betting", "bernstein") and not row.bounded:
        raise ValueError(f"{row.measure!r} of task {row.task!r} has no bound by {bound}: it is no mean over samples of "
                         "values in a known interval. Clip it if it is a loss or an error (clip={measure: value}), "
                         "name other measures, or take bound='auto', which resamples it.")
    if bound != "auto":
        return bound
    return "binomial" if row.binary and margin == 0 else "betting" if row.bounded else "bootstrap"


def _exactly(row: Compared, method: str, sides: tuple[float, float], seed: int) -> tuple[float, float]:
    """The bounds on both sides: the upper one is the lower one for the two networks exchanged."""
    differences = row.differences()
    if method == "binomial":
        gained, lost = (int((side * differences > 0).sum()) for side in (1, -1))
        return (disagreements.at_least(gained, lost, row.n, sides[0]),
                -disagreements.at_least(lost, gained, row.n, sides[1]))
    at_least = partial(betting.at_least, seed=seed) if method == "betting" else betting.at_least_by_variance
    return at_least(differences, row.range, sides[0]), -at_least(-differences, row.range, sides[1])


def _percentiles(row: Compared, over: str, drawn: Float64[np.ndarray, "draws"],
                 sides: tuple[float, float]) -> tuple[float, float]:
    """The approximate bounds on both sides; none where networks that hardly differ tell nothing of the spread."""
    if row.units(over, (row.own != row.other).any(1)) < FEWEST:
        return -math.inf, math.inf
    units = row.units(over)
    return (resampling.at_least(drawn, row.difference, units, sides[0]),
            -resampling.at_least(-drawn, -row.difference, units, sides[1]))
