"""A table as it is printed: strings, the direction of every metric, and the sign convention of the rows.

Imports `intervals`. The published tables lie beside this file, in `tables/`; `read` takes anybody's own.
"""

import difflib
import re
import tomllib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from os import PathLike
from typing import NamedTuple

import numpy as np
import pandas as pd

from .intervals import Interval, decimals, printed

SIGNS = ("value", "difference", "improvement")
HEADER = re.compile(r"(?P<task>[^/]+)/(?P<metric>.+?) ?(?P<arrow>[↑↓])")
MISSING = ("", "-")


class Column(NamedTuple):
    """One metric of one task, and the header it has in the table."""

    header: str
    task: str
    metric: str
    higher_is_better: bool


@dataclass(frozen=True)
class PrintedTable:
    """A printed table: what is written, and what each cell can stand for.

    name: how findings call it.  cells: printed strings, one row a method.
    sign: what rows other than the baseline print: "value" their own value M, "difference" M - STL,
        "improvement" the same with its sign turned where less is better.
    percent: Delta_I is printed in percent, not as a fraction.
    baseline: the single-task row; it always prints values.  about: where the table is from.
    """

    name: str
    cells: pd.DataFrame
    sign: str
    percent: bool = False
    baseline: str = "STL"
    about: dict = field(default_factory=dict)

    @cached_property
    def columns(self) -> list[Column]:
        """The columns that are metrics; others, such as "delta_i", "eta" and "parameters", are not listed."""
        matches = [HEADER.fullmatch(header) for header in self.cells.columns]
        return [Column(m.string, m["task"], m["metric"], m["arrow"] == "↑") for m in matches if m]

    @cached_property
    def tasks(self) -> dict[str, list[Column]]:
        """Each task with its metrics, in printed order."""
        tasks: dict[str, list[Column]] = {}
        for column in self.columns:
            tasks.setdefault(column.task, []).append(column)
        return tasks

    @property
    def methods(self) -> list[str]:
        """All rows but the baseline."""
        return [row for row in self.cells.index if row != self.baseline]

    def text(self, row: str, header: str) -> str | None:
        """The cell as printed; None when there is no such row or column, or nothing in it."""
        if row not in self.cells.index or header not in self.cells.columns:
            return None
        text = self.cells.at[row, header]
        return None if text in MISSING else text

    def number(self, row: str, header: str) -> Interval | None:
        """All values that the cell can stand for, None as for `text`. Raises ValueError for what is no number."""
        text = self.text(row, header)
        try:
            return None if text is None else printed(text)
        except ValueError as error:
            raise ValueError(f"Table {self.name!r}, row {row!r}, column {header!r}: {error}") from None

    def digits(self, row: str, header: str) -> int | None:
        """How many digits the cell prints behind the point, None as for `text`."""
        text = self.text(row, header)
        return None if text is None else decimals(text)

    def improvement(self, row: str, column: Column) -> Interval:
        """`(-1)^p (M - STL)`: positive is better than the baseline, whatever sign the table prints."""
        cell = self._metric(row, column)
        if self.sign == "improvement":
            return cell
        difference = cell - self._metric(self.baseline, column) if self.sign == "value" else cell
        return difference if column.higher_is_better else -difference

    def change(self, row: str, column: Column) -> Interval:
        """`(-1)^p (M - STL) / STL`, each printed cell used once, so that the bounds are attained.

        Raises ValueError for a baseline that is not above zero.
        """
        stl = self._metric(self.baseline, column)
        if stl.low <= 0:
            raise ValueError(
                f"Table {self.name!r}: {self.baseline} prints {self.text(self.baseline, column.header)} for "
                f"{column.header!r}. A relative change needs a positive baseline; leave this column out."
            )
        if self.sign != "value":
            return self.improvement(row, column) / stl
        change = self._metric(row, column) / stl - 1
        return change if column.higher_is_better else -change

    def value(self, row: str, column: Column) -> Interval:
        """M itself, for differences added to the baseline."""
        cell = self._metric(row, column)
        if row == self.baseline or self.sign == "value":
            return cell
        up = column.higher_is_better or self.sign == "difference"
        return self._metric(self.baseline, column) + (cell if up else -cell)

    def _metric(self, row: str, column: Column) -> Interval:
        cell = self.number(row, column.header)
        if cell is None:
            raise ValueError(f"Table {self.name!r}: row {row!r} has no number in column {column.header!r}.")
        return cell


@lru_cache
def catalogue() -> dict:
    """What `tables.toml` says: `units`, `documents`, `tables`."""
    return tomllib.loads((files(__package__) / "tables" / "tables.toml").read_text(encoding="utf-8"))


def names() -> list[str]:
    """The published tables: `dsmtl-1` is table 1 of Deep Safe Multi-Task Learning, `thesis-5.2` one of the thesis."""
    return list(catalogue()["tables"])


def load(name: str) -> PrintedTable:
    """The published table `name`, its cells as printed.

    Raises ValueError for a name that is not in `names()`.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=len(names()), cutoff=0.5)
        known = ", ".join(near + [other for other in names() if other not in near])
        raise ValueError(f"Unknown published table {name!r}. Known: {known}. A file of your own ends in .csv.")
    about = catalogue()["tables"][name]
    about = {"source": catalogue()["documents"][name.partition("-")[0]], "table": name.partition("-")[2], **about}
    with (files(__package__) / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        cells = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=0)
    return PrintedTable(name, cells, about.get("sign", "value"), about.get("delta_i") == "percent", about=about)


def read(
    source: pd.DataFrame | PathLike | str, sign: str = "value", percent: bool = False, baseline: str = "STL"
) -> PrintedTable:
    """Anybody's table, ready to be audited.

    source: a data frame whose index names the methods, or the path of a CSV file whose first column does.
        A metric's column is headed `task/metric ↑` (more is better) or `task/metric ↓` (less is better);
        columns `delta_i`, `eta` and `parameters` are recomputed where they are there. Give cells as
        strings: of the number 4.8 nobody knows whether 4.80 was printed. Numbers are taken at the digits
        Python shows.
    sign, percent, baseline: see `PrintedTable`.
    Raises ValueError for an unknown sign, a missing or repeated row, or a table without metrics.
    """
    if sign not in SIGNS:
        raise ValueError(f"sign={sign!r} is unknown; rows print one of {', '.join(SIGNS)}.")
    if isinstance(source, pd.DataFrame):
        name, cells = "your table", source.copy()
    else:
        name, cells = str(source), pd.read_csv(source, dtype=str, keep_default_na=False, index_col=0)
    cells.index, cells.columns = cells.index.map(str), cells.columns.map(str)
    cells = cells.map(_as_printed)
    table = PrintedTable(name, cells, sign, percent, baseline)
    if baseline not in cells.index:
        raise ValueError(f"{name} has no row {baseline!r}; rows are {', '.join(cells.index)}. Name yours: baseline=...")
    repeated = cells.index[cells.index.duplicated()].tolist() + cells.columns[cells.columns.duplicated()].tolist()
    if repeated:
        raise ValueError(f"{name} has more than one row or column called {repeated[0]!r}; each needs its own name.")
    if not table.columns:
        raise ValueError(
            f"{name} has no column that is a metric. Head it 'task/metric ↑' or 'task/metric ↓'; "
            f"columns are {', '.join(map(str, cells.columns))}."
        )
    return table


def _as_printed(cell: object) -> str:
    if isinstance(cell, float | np.floating):
        return "-" if np.isnan(cell) else np.format_float_positional(cell, trim="0")
    return str(cell).strip().replace("−", "-")  # the typographic minus sign
