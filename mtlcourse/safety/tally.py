"""Certificates of all networks of a report: one for every method and seed, from what the runs kept of each sample.

Imports `tasks`, `training`, and its folder's `certificates`, `crossed`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ..tasks import Problem
from ..training import Samples
from .certificates import Certificate, Margin, certificate_of
from .crossed import certify_method

VERDICTS = ("safe", "unsafe", "undecided")


@dataclass
class Tally:
    """How many networks of each method are certainly safe against the baseline's of the same seed.

    frame: one row a method, task and measure. `seeds`: how many networks were certified; of these are `safe`, `unsafe`
        and `undecided` so many; `difference`: the mean over seeds, positive is better; `low`: the lowest of the bounds
        "at least"; `bound`, `exact`: where these come from, see `Certificate`. `mean_low`, `mean_high`, `mean_verdict`:
        of the mean over new seeds and new samples, by `certify_method`.
    networks: one row a method (index): the same numbers for whole networks, and the method's `verdict`.
    scope: what the first certificate is about; None if there is none.
    notes: for whom there is none, and why.
    delta: the share of certificates that may be wrong, as far as they are exact.
    """

    frame: pd.DataFrame
    networks: pd.DataFrame
    scope: str | None
    notes: list[str]
    delta: float


def tally(methods: Mapping[str, Mapping[int, Samples | None]], baseline: str, problem: Problem, *, delta: float = 0.05,
          margin: Margin = 0.0, over: str = "samples") -> Tally:
    """Certify each method's network of each seed against the baseline's of that seed, and the method itself.

    methods: `{method: {seed: what its network did on each sample}}`, the baseline among them; None where a run has not
        kept it: such seeds are left out, and a note says so.
    problem: a description is enough.  delta, margin, over: as for `certify`; a measure in `margin` that this problem
        does not have is left out. The measures are the tasks' own.
    A method that cannot be certified is left out with the reason, so that one does not hide the others.
    """
    if isinstance(margin, Mapping):
        own = {name for task in problem.tasks for name in task.metrics}
        margin = {name: value for name, value in margin.items() if name in own}
    options = {"delta": delta, "margin": margin, "over": over}
    frames, networks, notes, scope = [], {}, [], None
    lacking: dict[str, list[int]] = {}
    for method in [name for name in methods if name != baseline]:
        pairs = {seed: (samples, methods[baseline].get(seed)) for seed, samples in methods[method].items()}
        kept = {seed: pair for seed, pair in pairs.items() if None not in pair}
        if len(kept) < len(pairs):
            lacking[method] = sorted(set(pairs) - set(kept))
        if not kept:
            continue
        trained, alone = zip(*kept.values(), strict=True)
        try:
            certificates = [certificate_of(*pair, problem, **options) for pair in kept.values()]
            mean = certify_method(trained, alone, problem, **options)
        except ValueError as error:
            notes.append(f"No certificates for {method}: {error}")
            continue
        frames.append(_frame(method, certificates, mean))
        networks[method] = {**_counted([certificate.verdict for certificate in certificates]), "verdict": mean.verdict}
        scope = scope or certificates[0].scope
    if lacking:
        where = "; ".join(f"{method} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})"
                          for method, seeds in lacking.items())
        notes.append(f"No certificates for {where}: these runs, or those of {baseline} with the same seeds, were "
                     "stored without what the networks did on each sample. Run them again in a new folder.")
    columns = ["method", "task", "metric"]
    return Tally(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns),
                 pd.DataFrame.from_dict(networks, orient="index"), scope, notes, delta)


def _frame(method: str, certificates: Sequence[Certificate], mean: Certificate) -> pd.DataFrame:
    rows = []
    for number, row in enumerate(mean.frame.itertuples()):
        own = pd.DataFrame([certificate.frame.iloc[number] for certificate in certificates])
        rows.append({"method": method, "task": row.task, "metric": row.measure, **_counted(own["verdict"].tolist()),
                     "difference": row.difference, "low": own["low"].min(skipna=False),
                     "bound": ", ".join(own["method"].unique()), "exact": bool(own["exact"].all()),
                     "mean_low": row.low, "mean_high": row.high, "mean_verdict": row.verdict})
    return pd.DataFrame(rows)


def _counted(verdicts: Sequence[str]) -> dict[str, int]:
    return {"seeds": len(verdicts), **{verdict: verdicts.count(verdict) for verdict in VERDICTS}}
