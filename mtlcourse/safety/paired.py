"""Runs of several methods, paired seed by seed with those of single-task learning.

Imports `metrics`, `training`. What cannot be compared honestly is refused here, with the reason.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from .. import __version__
from ..metrics import without_rounding
from ..training import Run
from .measures import exact_mean
from .trained import falling, trained

VERSION = ".".join(__version__.split(".")[:2])
NEEDED = ["seed", "task", "metric", "value", "higher_is_better"]
COSTS = ["parameters", "seconds", "steps", "samples", "epochs"]
KNOWN = {**dict.fromkeys([*COSTS, "train_loss", "falling", "lr"], math.nan), "test_data": None, "problem": None,
         "budget": None, "version": None}

Runs: TypeAlias = Run | Sequence[Run] | pd.DataFrame


@dataclass
class Pairs:
    """Everything measured, in arrays with one row a method (the baseline first) and one column a seed.

    metrics: (task, metric), the last axis of values.  sign: +1 where higher is better, -1 where lower is.
    values: NaN also for what is infinite: neither is a result.
    train_losses: by method, seed and task, NaN where they are not known.
    costs: by method, the columns COSTS: parameters, seconds of training, update steps, samples seen and epochs, as
        means over seeds; NaN where they are not known.
    falling: of the baseline, by seed and task: see `trained.falling`; NaN where it is not known.
    problem, budget: what was trained on, and how much, if known.
    """

    methods: list[str]
    seeds: list[int]
    metrics: list[tuple[str, str]]
    sign: Float64[np.ndarray, "metrics"]
    values: Float64[np.ndarray, "methods seeds metrics"]
    train_losses: Float64[np.ndarray, "methods seeds tasks"]
    costs: Float64[np.ndarray, "methods costs"]
    falling: Float64[np.ndarray, "seeds tasks"]
    problem: str | None
    budget: str | None

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for task, _ in self.metrics))

    @property
    def groups(self) -> list[str]:
        """The task of each metric."""
        return [task for task, _ in self.metrics]

    def differences(self) -> Float64[np.ndarray, "methods seeds metrics"]:
        """Method minus baseline on the same seed, positive where the method is better, 0 where they are equal."""
        size = np.maximum(np.abs(self.values), np.abs(self.values[:1]))
        return self.sign * without_rounding(self.values - self.values[:1], size)

    def size(self) -> Float64[np.ndarray, "methods metrics"]:
        """How large the numbers are, on all seeds, of which `differences` are made: their rounding goes by it."""
        return np.maximum(np.abs(self.values), np.abs(self.values[:1])).max(axis=1)

    def mean_differences(self) -> Float64[np.ndarray, "methods metrics"]:
        """The mean of `differences` over seeds, from exact sums of the values; 0 where the means are equal."""
        both = np.concatenate([self.values, np.broadcast_to(-self.values[:1], self.values.shape)], axis=1)
        return 2 * self.sign * np.apply_along_axis(exact_mean, 1, both)

    def changes(self) -> Float64[np.ndarray, "methods seeds metrics"]:
        """`relative_change` of every value against the baseline's on the same seed; NaN where that is 0."""
        size = np.abs(self.values[:1])
        return self.differences() / np.where(size == 0, math.nan, size)

    def known(self) -> Bool[np.ndarray, "metrics"]:
        """Where the baseline is a number with every seed; where it is not, nothing can be compared with it."""
        return ~np.isnan(self.values[0]).any(axis=0)

    def broken(self) -> Bool[np.ndarray, "methods metrics"]:
        """Where a method's value is not a number with some seed, and the baseline's is."""
        return (np.isnan(self.values) & ~np.isnan(self.values[:1])).any(axis=1)


def half_width(values: Iterable[float] | np.ndarray, axis: int = 0) -> Any:
    """Half the width of the 95% t-interval of the mean of `values` along `axis`; NaN for fewer than two.

    values: numbers, or an array of any shape; the result has that shape without `axis`, and the values' unit.

    >>> round(float(half_width([1.0, 2.0, 3.0])), 4)
    2.4841
    """
    from scipy.special import stdtrit

    values = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    n = values.shape[axis]
    if n < 2:
        return np.full(np.delete(values.shape, axis), math.nan)[()]
    return stdtrit(n - 1, 0.975) * values.std(axis, ddof=1) / math.sqrt(n)


def pair(methods: Mapping[str, Runs] | pd.DataFrame, baseline: Runs | str) -> Pairs:
    """Arrange runs in arrays; see `report` for arguments and errors."""
    tables, name = _tables(methods, baseline)
    for method, table in tables.items():
        _check_seeds(method, table, name, tables[name])
        _check_metrics(method, table, name, tables[name])
    everything = pd.concat([table.assign(method=method) for method, table in tables.items()], ignore_index=True)
    problem, budget = (_the_one(everything, column, name) for column in ("problem", "budget"))
    _the_one(everything, "test_data", name)
    return _arrange(everything, list(tables), tables[name], problem, budget)


def _tables(methods: Mapping[str, Runs] | pd.DataFrame, baseline: Runs | str) -> tuple[dict[str, pd.DataFrame], str]:
    """`{method: table}`, the baseline first, and the baseline's name."""
    if isinstance(methods, pd.DataFrame):
        for column in ("problem", "budget"):
            if column in methods and methods[column].nunique() > 1:
                raise ValueError(f"The table has several of {column}: {', '.join(map(str, methods[column].unique()))}. "
                                 f"A report is about one; select it, as in table[table[{column!r}] == ...].")
        if "method" not in methods:
            raise ValueError(f"The table has no column 'method'; it has {', '.join(map(str, methods.columns))}.")
        methods = {str(method): rows for method, rows in methods.groupby("method", sort=False)}
    if not isinstance(baseline, str):
        first = _tidy("the baseline", baseline)
        name = str(first["method"].iloc[0])
    else:
        name = baseline
        if name not in methods:
            raise ValueError(f"There is no baseline {name!r} among {', '.join(methods) or 'no methods at all'}. Safety "
                             "is measured against single-task learning: run the method 'stl' with the same seeds.")
        first = _tidy(name, methods[name])
    others = {method: _tidy(method, runs) for method, runs in methods.items() if method != name}
    if not others:
        raise ValueError(f"There is nothing to compare with {name!r}; give the runs of at least one other method.")
    return {name: first, **others}, name


def _tidy(method: str, runs: Runs) -> pd.DataFrame:
    """One row a seed, task and metric, checked on its own."""
    table = runs if isinstance(runs, pd.DataFrame) else _rows([runs] if isinstance(runs, Run) else list(runs))
    missing = [column for column in NEEDED if column not in table]
    if len(table) and missing:
        raise ValueError(f"The table of {method!r} lacks the columns {', '.join(missing)}; `runs.table` makes them.")
    if not len(table):
        raise ValueError(f"There are no runs of {method!r}. Safety is measured against single-task learning, seed by "
                         "seed: run every method, 'stl' among them, with the same seeds.")
    table = table[table["metric"] != "loss"]
    table = table.assign(**{column: default for column, default in {"method": method, **KNOWN}.items()
                            if column not in table})
    if table["lr"].nunique(dropna=False) > 1:
        raise ValueError(f"{method!r} has runs with several learning rates; choose one on validation, never on the "
                         "test split: runs.selected(table).")
    foreign = [str(version) for version in table["version"].dropna().unique() if str(version) != VERSION]
    if foreign:
        raise ValueError(f"The results of {method!r} were written by mtlcourse {foreign[0]}, and this is {VERSION}: "
                         "results of different versions are not compared. Run them again, or install that version.")
    return table


def _rows(runs: Sequence[Run]) -> pd.DataFrame:
    rows = []
    for run in runs:
        about = {key: run.config.get(key) for key in ("problem", "budget", "version", "seed")}
        about |= {"method": run.config.get("method", run.config.get("model")), "test_data": run.test_data,
                  "parameters": run.cost.get("parameters"), "seconds": run.cost.get("seconds"), **trained(run)}
        still = falling(run)
        for task, values in run.metrics.items():
            for metric, value in values.items():
                if metric != "loss" and metric not in run.higher_is_better.get(task, {}):
                    raise ValueError(f"A run does not say whether more or less of {metric!r} of task {task!r} is "
                                     "better: its `higher_is_better` lacks it.")
                rows.append({**about, "task": task, "metric": metric, "value": value,
                             "higher_is_better": run.higher_is_better.get(task, {}).get(metric, False),
                             "train_loss": run.train_losses.get(task, math.nan),
                             "falling": still.get(task, math.nan)})
    return pd.DataFrame(rows)


def _check_seeds(method: str, table: pd.DataFrame, baseline: str, first: pd.DataFrame) -> None:
    seeds, wanted = (sorted(t["seed"].unique().tolist()) for t in (table, first))
    if seeds != wanted:
        lacking = {method: set(wanted) - set(seeds), baseline: set(seeds) - set(wanted)}
        missing = [f"{name!r} with {_list(those)}" for name, those in lacking.items() if those]
        raise ValueError(f"{method!r} has the seeds {_list(seeds)}, {baseline!r} has {_list(wanted)}: differences are "
                         f"paired by seed. Run {' and '.join(missing)}, or leave these seeds out of both.")
    twice = table[table.duplicated(["seed", "task", "metric"])]
    if len(twice):
        raise ValueError(f"{method!r} has two runs with seed {twice['seed'].iloc[0]}; give one a seed.")


def _list(seeds: Iterable[int]) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))


def _check_metrics(method: str, table: pd.DataFrame, baseline: str, first: pd.DataFrame) -> None:
    found, wanted = ({*zip(t["seed"], t["task"], t["metric"], strict=True)} for t in (table, first))
    if found != wanted:
        seed, task, metric = sorted(found ^ wanted, key=str)[0]
        raise ValueError(f"{method!r} and {baseline!r} were not measured alike: only one of them has {metric!r} of "
                         f"task {task!r} with seed {seed}.")


def _the_one(table: pd.DataFrame, column: str, baseline: str) -> Any:
    """What all rows have in `column`, where it is known; None if it is nowhere."""
    known = table.dropna(subset=[column])
    values = known[column].unique()
    if len(values) > 1:
        first = known[known["method"] == baseline][column].unique()
        own = first[0] if len(first) else values[0]
        other = known[known[column] != own].iloc[0]
        raise ValueError(f"{other['method']!r} and {baseline!r} cannot be compared, because {column.replace('_', ' ')} "
                         f"is not the same: {other[column]} and {own}. Run both alike.")
    return values[0] if len(values) else None


def _arrange(table: pd.DataFrame, methods: list[str], first: pd.DataFrame, problem: str | None,
             budget: str | None) -> Pairs:
    seeds = sorted(first["seed"].unique().tolist())
    about = first.drop_duplicates(["task", "metric"])
    metrics = list(zip(about["task"], about["metric"], strict=True))
    tasks = list(dict.fromkeys(task for task, _ in metrics))

    def array(rows: pd.DataFrame, column: str, keys: list[str], last: list) -> np.ndarray:
        wide = rows.set_index(["method", "seed", *keys])[column].unstack(keys)
        index = pd.MultiIndex.from_product([methods, seeds])
        return wide.reindex(index)[last].to_numpy(np.float64).reshape(len(methods), len(seeds), len(last))

    by_task = table.drop_duplicates(["method", "seed", "task"])
    runs = table.drop_duplicates(["method", "seed"]).groupby("method", sort=False)[COSTS]
    costs = runs.agg("mean").reindex(methods).to_numpy(np.float64)
    sign = np.where(about["higher_is_better"].to_numpy(bool), 1.0, -1.0)
    values = array(table, "value", ["task", "metric"], metrics)
    return Pairs(methods, seeds, metrics, sign, np.where(np.isfinite(values), values, math.nan),
                 array(by_task, "train_loss", ["task"], tasks), costs, array(by_task, "falling", ["task"], tasks)[0],
                 problem, budget)
