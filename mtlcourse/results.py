"""Stored results: sweeps too long for a notebook's minute, kept as tables beside the notebooks.

Imports `bench`, `files`, `runs`. `sweeps.toml` in the folder of the tables defines each of them; a table's
rows carry the hashes of their configurations, so that a table which no longer belongs to the current
settings gives itself away.
"""

import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from . import runs
from .bench import sweep
from .files import unknown, write_text

FOLDER = "results"  # as a notebook sees it


def definitions(folder: str | Path = FOLDER) -> dict[str, list[dict[str, Any]]]:
    """`{table: [sweep, ...]}`: each sweep has problems, methods, seeds and a budget."""
    with open(Path(folder) / "sweeps.toml", "rb") as file:
        return tomllib.load(file)


def stored(name: str, folder: str | Path = FOLDER) -> pd.DataFrame:
    """The stored table `name`, with the columns of `runs.table`. Raises ValueError for an unknown one."""
    path = Path(folder) / f"{name}.csv"
    if not path.exists():
        raise ValueError(unknown("stored table", name, (file.stem for file in Path(folder).glob("*.csv"))))
    return pd.read_csv(path)


def expected(name: str, folder: str | Path = FOLDER) -> set[str]:
    """Hashes of the configurations that table `name` must have today."""
    return {runs.config_hash(runs.configuration(problem, method, seed, part["budget"]))
            for part in definitions(folder)[name]
            for problem in part["problems"] for method in part["methods"] for seed in part["seeds"]}


def stale(name: str, folder: str | Path = FOLDER) -> bool:
    """True if the stored table is missing or does not hold exactly the runs that its definition asks for."""
    if not (Path(folder) / f"{name}.csv").exists():
        return True
    return set(stored(name, folder)["configuration"]) != expected(name, folder)


def refresh(name: str, folder: str | Path = FOLDER, runs_folder: str | Path = "runs", workers: int = 2,
            progress: bool = True) -> pd.DataFrame:
    """Run what table `name` asks for and is not in `runs_folder` yet, and write the table.

    Raises RuntimeError, with the reasons, when a run fails; the stored table then stays as it was.
    """
    known = definitions(folder)
    if name not in known:
        raise ValueError(unknown("stored table", name, known))
    tables = []
    for part in known[name]:
        done = sweep(part["problems"], part["methods"], part["seeds"], budget=part["budget"], folder=runs_folder,
                     workers=workers, progress=progress)
        if done.failures:
            reasons = "; ".join(why for _, why in done.failures)
            raise RuntimeError(f"{len(done.failures)} runs of {name} failed: {reasons}")
        tables.append(done.table)
    table = pd.concat(tables, ignore_index=True)
    table["seconds"] = table["seconds"].round(2)
    write_text(Path(folder) / f"{name}.csv", table.to_csv(index=False))
    return table
