"""Stored results: sweeps too long for a notebook's minute, kept as tables beside the notebooks.

Imports `bench`, `files`, `methods`, `runs`. `sweeps.toml` in the folder of the tables defines each of them; a table's
rows carry the hashes of their configurations, so that a table which no longer belongs to the current
settings gives itself away. What the runs of searches learned lies in `learned/`, one row a run. A sweep with
`tune = "weights"` tries its methods with the weights of `bench.weightings`, as `bench.sweep` does.
"""

import json
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from .. import runs
from ..bench import complete, weightings
from ..files import unknown, write_text
from ..methods import canonical

FOLDER = "results"  # as a notebook sees it
KEYS = ["problem", "method", "seed", "budget", "configuration"]  # of a run
FOUND = ["learned", "relaxed", "conflicts"]


def definitions(folder: str | Path = FOLDER) -> dict[str, list[dict[str, Any]]]:
    """`{table: [sweep, ...]}`: each sweep has problems, methods, seeds and a budget, and may tune weights."""
    with open(Path(folder) / "sweeps.toml", "rb") as file:
        return tomllib.load(file)


def stored(name: str, folder: str | Path = FOLDER) -> pd.DataFrame:
    """The stored table `name`, with the columns of `runs.table`. Raises ValueError for an unknown one."""
    path = Path(folder) / f"{name}.csv"
    if not path.exists():
        raise ValueError(unknown("stored table", name, (file.stem for file in Path(folder).glob("*.csv"))))
    table = pd.read_csv(path)
    return table.fillna({"tuned": ""}) if "tuned" in table else table


def learned(name: str, folder: str | Path = FOLDER) -> pd.DataFrame:
    """What the runs of the stored table `name` found, one row a run that learned something.

    Columns: problem, method, seed, budget, configuration (its hash), and as plain data
    learned: the run's `learned`.
    relaxed: `{stage: {task: {metric: value}}}`, test scores of the relaxed model at the end of each search stage.
    conflicts: `{stage: {module: rate}}`, the mean over epochs of the share of steps in which two tasks conflicted
        on a shared module; empty where nobody looked.
    Raises ValueError if no run of this table learned anything, or the table is unknown.
    """
    path = Path(folder) / "learned" / f"{name}.csv"
    if not path.exists():
        raise ValueError(unknown("table of what was learned", name, (file.stem for file in path.parent.glob("*.csv"))))
    return pd.read_csv(path, converters=dict.fromkeys(FOUND, json.loads))


def wanted(name: str, folder: str | Path = FOLDER) -> list[dict[str, Any]]:
    """The configurations of the runs that table `name` must have today. Raises ValueError for an unknown table."""
    return [config for config, _ in _tries(name, folder)]


def _tries(name: str, folder: str | Path) -> list[tuple[dict[str, Any], str]]:
    """Each configuration of table `name`, and the method that it is a try for where weights are tuned, else ""."""
    known = definitions(folder)
    if name not in known:
        raise ValueError(unknown("stored table", name, known))
    found = []
    for part in known[name]:
        if part.get("tune", "weights") != "weights":
            raise ValueError(unknown(f"thing to tune in {name}", str(part["tune"]), ["weights"]))
        for problem in part["problems"]:
            for method in part["methods"]:
                tried = weightings(method, problem) if "tune" in part else [method]
                found += [(runs.configuration(problem, one, seed, part["budget"]),
                           canonical(method) if "tune" in part else "") for one in tried for seed in part["seeds"]]
    return found


def expected(name: str, folder: str | Path = FOLDER) -> set[str]:
    """Hashes of the configurations that table `name` must have today."""
    return {runs.config_hash(config) for config in wanted(name, folder)}


def stale(name: str, folder: str | Path = FOLDER) -> bool:
    """True if the stored table is missing or does not hold exactly the runs that its definition asks for.

    On which machine they ran is not asked: their column `capability` says it.
    """
    if not (Path(folder) / f"{name}.csv").exists():
        return True
    return set(stored(name, folder)["configuration"]) != expected(name, folder)


def refresh(name: str, folder: str | Path = FOLDER, runs_folder: str | Path = "runs", workers: int = 2,
            again: Collection[str] = (), progress: bool = True) -> pd.DataFrame:
    """Run what table `name` asks for and neither a stored table nor `runs_folder` has, and write the table.

    again: methods whose stored rows do not count, because what these methods do has changed.
    Raises RuntimeError, with the reasons, when a run fails; the stored table then stays as it was.
    """
    anew = {canonical(method) for method in again}
    configs = {runs.config_hash(config): config for config in wanted(name, folder)}
    kept, found = _kept(name, folder, {key for key, config in configs.items() if config["method"] not in anew})
    done = complete([config for key, config in configs.items() if key not in set(kept["configuration"])],
                    folder=runs_folder, workers=workers, progress=progress)
    if done.failures:
        reasons = "; ".join(dict.fromkeys(why for _, why in done.failures))  # an extra that lacks is said once
        raise RuntimeError(f"{len(done.failures)} runs of {name} failed: {reasons}")
    new = done.table.reindex(columns=runs.COLUMNS).assign(seconds=done.table["seconds"].round(2))
    table = _in_order(configs, kept, new)
    families = {runs.config_hash(config): family for config, family in _tries(name, folder) if family}
    if families:
        table["tuned"] = table["configuration"].map(families).fillna("")
    found = _in_order(configs, found, _found(new, Path(runs_folder)))
    if len(found):
        (Path(folder) / "learned").mkdir(exist_ok=True)
        write_text(Path(folder) / "learned" / f"{name}.csv", found.to_csv(index=False))
    write_text(Path(folder) / f"{name}.csv", table.to_csv(index=False))
    return table


def _kept(name: str, folder: str | Path, keys: Collection[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that are stored already, in this table or another, of the runs with these hashes, and what they learned.

    A run that several tables hold is taken whole from the first, this table before the others.
    """
    tables = []
    for place, columns in ((Path(folder), runs.COLUMNS), (Path(folder) / "learned", [*KEYS, *FOUND])):
        kept = pd.DataFrame(columns=columns)
        for path in sorted(place.glob("*.csv"), key=lambda path: (path.stem != name, path.stem)):
            rows = pd.read_csv(path)
            rows = rows[rows["configuration"].isin(set(keys) - set(kept["configuration"]))].reindex(columns=columns)
            kept = pd.concat([kept, rows]) if len(kept) else rows
        tables.append(kept)
    return tables[0], tables[1]


def _in_order(configs: Iterable[str], *tables: pd.DataFrame) -> pd.DataFrame:
    """The rows of all tables, run after run in the order of the definition."""
    place = {key: number for number, key in enumerate(configs)}
    both = pd.concat([table for table in tables if len(table)] or list(tables[:1]), ignore_index=True)
    return both.sort_values("configuration", key=lambda keys: keys.map(place), kind="stable", ignore_index=True)


def _found(table: pd.DataFrame, runs_folder: Path) -> pd.DataFrame:
    """The rows of `learned`, with plain data as JSON."""
    rows = []
    for _, of_run in table[KEYS].drop_duplicates().iterrows():
        run = runs.load(runs_folder / of_run["configuration"], model=False)
        if run.learned:
            history = run.history[run.history["stage"] != run.stages[-1]]
            relaxed = history[history["split"] == "test"]
            conflicts = history[history["name"] == "conflict_rate"].rename(columns={"task": "module"})
            found = (run.learned, _nested(relaxed, ["stage", "task", "name"]), _nested(conflicts, ["stage", "module"]))
            rows.append({**of_run, **{key: json.dumps(_rounded(what)) for key, what in zip(FOUND, found, strict=True)}})
    return pd.DataFrame(rows, columns=[*KEYS, *FOUND])


def _nested(rows: pd.DataFrame, keys: list[str]) -> Any:
    """Mean values as dictionaries within dictionaries, one level a key, in the order of the rows."""
    if not keys:
        return rows["value"].mean()
    return {name: _nested(group, keys[1:]) for name, group in rows.groupby(keys[0], sort=False)}


def _rounded(value: Any) -> Any:
    """Numbers with five significant digits, which is more than any of them means."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
