"""What was measured beside what is printed, for those who have the data and trained the methods of a table.

Imports its folder's `counted`, `table`.
"""

import math
from typing import NamedTuple

import pandas as pd

from .counted import METHODS, SEARCHES, TABLES
from .table import Column, PrintedTable, catalogue, load, names


class Measure(NamedTuple):
    """How a printed measure follows from one of the package: `factor` times it, or times 1 minus it."""

    metric: str
    factor: int = 1
    complement: bool = False


MEASURES = {
    "mIoU": Measure("miou", 100), "pixel accuracy": Measure("pixel_accuracy", 100),
    "pixel error": Measure("pixel_accuracy", 100, complement=True), "max F": Measure("max_f", 100),
    "absolute error": Measure("abs_error"), "relative error": Measure("rel_error"),
    "mean angle": Measure("mean_angle"), "median angle": Measure("median_angle"), "RMSE angle": Measure("rmse_angle"),
    "within 11.25": Measure("within_11.25", 100), "within 22.5": Measure("within_22.5", 100),
    "within 30": Measure("within_30", 100),
}


def problem_of(name: str) -> str:
    """The problem whose measures a published table prints.

    Raises ValueError for an unknown table, and for one that prints no measures of tasks.
    """
    table = load(name)
    first = {about["again"]: first for first, about in catalogue()["tables"].items() if "again" in about}
    for problem, tables in TABLES.items():
        if first.get(name, name) in tables and table.columns:
            return problem
    able = [other for other in names() if load(other).columns]
    raise ValueError(f"Table {name!r} prints no measures of tasks; those that do are {', '.join(able)}.")


def method_named(row: str) -> str | None:
    """The method, without options, that a row's name means; None for one that is not here."""
    searches = {printed: method for method, printed in SEARCHES.items()}
    return searches.get(row) or (METHODS[row].partition("(")[0] if row in METHODS else None)


def beside(name: str, measured: pd.DataFrame) -> pd.DataFrame:
    """A published table with what was measured: under each row "printed" one for each kind of run of that method.

    name: the table's.
    measured: as `runs.summary` gives it: problem, budget, lr, method, task, metric, mean, half_width, seeds. Other
        problems, and methods that are in no row, are left out.
    Index: the row's name; "printed", or the method with its options, budget and seeds. Columns: those of the table that
    are measures, in its units. Cells: printed values, differences added to the single-task row; means over seeds, with
    the half width of their interval if there is one; "" where nothing was measured.
    Raises ValueError as `problem_of` does.
    """
    problem, table = problem_of(name), load(name)
    own = measured[measured["problem"].map(lambda given: given.partition("(")[0] == problem).astype(bool)]
    lines = {}
    for row in table.cells.index:
        lines[row, "printed"] = [_printed(table, row, column) for column in table.columns]
        method = method_named(row)
        if method is None:
            continue
        alike = own[own["method"].map(lambda run, method=method: _means(run, method)).astype(bool)]  # also of none
        for (run, budget, lr, of), group in alike.groupby(["method", "budget", "lr", "problem"], sort=False,
                                                          dropna=False):
            lines[row, _title(run, budget, lr, of, int(group["seeds"].max()))] = [
                _measured(group, column) for column in table.columns]
    index = pd.MultiIndex.from_tuples(list(lines), names=["row", "what"])
    return pd.DataFrame(list(lines.values()), index=index, columns=[column.header for column in table.columns])


def missing(frame: pd.DataFrame) -> list[str]:
    """What was not measured of a frame that `beside` made, a sentence each."""
    said = []
    kinds = frame.index.to_frame(index=False).groupby("row", sort=False)["what"].agg(list)
    alone = [row for row, whats in kinds.items() if whats == ["printed"]]
    known = [f"{row} ({method_named(row)})" for row in alone if method_named(row)]
    if known:
        said.append(f"No run of {', '.join(known)}.")
    if unknown := [row for row in alone if not method_named(row)]:
        said.append(f"No method here is {', '.join(unknown)}.")
    runs = frame[frame.index.get_level_values("what") != "printed"]
    for (_, what), cells in runs.iterrows():
        without = [header for header, cell in cells.items() if cell == ""]
        if without:
            said.append(f"{what}: no {', '.join(without)}.")
    return said


def show(name: str, measured: pd.DataFrame) -> str:
    """The table as text: printed and measured values, what both are, and what is missing; no verdict."""
    frame = beside(name, measured)
    about = load(name).about
    rows = frame.reset_index()
    rows["row"] = rows["row"].where(~rows["row"].duplicated(), "")
    lines = [f"{about['source']}, table {about['table']}: {about['data']}.", "", rows.to_string(index=False), ""]
    lines += ["Printed: where a row prints differences, the row STL is added.",
              f"Measured: mean over seeds, +- half of its 95% interval, on {problem_of(name)}'s test split. Whether "
              "nets and settings are the paper's depends on the budget: `paper` takes those that are printed.",
              *missing(frame)]
    return "\n".join(lines)


def _means(run: str, method: str) -> bool:
    """Whether a run's method is this one, with whatever options, trained with equal weights.

    >>> [_means(run, "hps") for run in ("hps(guard=True)+ew", "hps(guard=True)+cagrad(c=0.5)", "hps-wide")]
    [True, False, False]
    """
    depth, plain = 0, ""
    for character in run:
        depth -= character in ")]}"
        plain += character if depth == 0 and character not in "([{)]}" else ""
        depth += character in "([{"
    return plain in (method, f"{method}+ew")


def _title(run: str, budget: str, lr: float, problem: str, seeds: int) -> str:
    rate = "" if pd.isna(lr) else f", lr {lr:g}"
    options = "" if "(" not in problem else f", {problem}"
    return f"{run}, {budget}{rate}{options}, {seeds} seed{'s' * (seeds != 1)}"


def _printed(table: PrintedTable, row: str, column: Column) -> str:
    if table.text(row, column.header) is None:
        return ""
    value, digits = table.value(row, column), table.digits(row, column.header) or 0
    return f"{float(value.low + value.high) / 2:.{digits}f}"


def _measured(group: pd.DataFrame, column: Column) -> str:
    measure = MEASURES[column.metric]
    found = group[(group["task"] == column.task.replace(" ", "_")) & (group["metric"] == measure.metric)]
    if found.empty:
        return ""
    mean, half = found["mean"].iloc[0], found["half_width"].iloc[0] * measure.factor
    mean = measure.factor * (1 - mean if measure.complement else mean)
    return f"{mean:.4g}" + ("" if math.isnan(half) else f" +- {half:.2g}")
