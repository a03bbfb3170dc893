"""The tables printed in the papers, as data, and their audit.

Imports nothing of the project: `audit` needs printed digits, no network.

    published.names(), published.load("dsmtl-2").cells          # the tables as printed
    published.audit("dsmtl-2")                                  # what in it does not follow
    published.audit("my_table.csv"), published.audit(frame)     # the same for a table of your own
    print(published.report())                                   # everything about the published ones
    print(published.show("dsmtl-2", runs.summary(runs.table("runs"))))  # what you measured beside what is printed

Each printed number stands for an interval (`intervals`). Delta_I, eta and the differences are recomputed
from a row's own cells (`measures`, `inside`), tables are held against each other (`between`), parameter
counts against those of the architectures (`sizes`, `counted`), sentences against cells (`claims`). What cannot
follow is a `Finding`. `beside` and `show` (`measured`) put your own runs beside a table.
The tables were transcribed from scans, and every cell was read twice by different programs.
"""

from collections import Counter
from functools import lru_cache
from os import PathLike

import pandas as pd

from . import between, claims, inside, sizes
from .findings import VERDICTS, Finding, to_frame, to_markdown
from .intervals import Interval, printed
from .measured import beside, problem_of, show
from .measures import delta_i, eta
from .table import Column, PrintedTable, catalogue, load, names, read

__all__ = [
    "VERDICTS", "Column", "Finding", "Interval", "PrintedTable", "all_findings", "audit", "beside", "catalogue",
    "delta_i", "eta", "load", "names", "printed", "problem_of", "read", "report", "show", "to_frame", "to_markdown",
]


def audit(
    table: PrintedTable | pd.DataFrame | PathLike | str,
    sign: str = "value",
    percent: bool = False,
    baseline: str = "STL",
) -> list[Finding]:
    """What in one table cannot follow from its own cells.

    Recomputes Delta_I and eta of every row (Deep Safe Multi-Task Learning, section 7.1), the order of the
    methods, medians against shares within an angle, and, where rows are called STL, HPS and DSMTL-IL,
    parameter counts.

    table: the name of a published table, a data frame, or the path of a CSV file; `table.read` says how
        their columns are headed.
    sign, percent, baseline: for a table of your own, as in `table.read`.
    Raises ValueError for an unknown name and for a table that cannot be read.

    >>> rows = {"a/acc ↑": ["0.50", "0.55", "0.45"], "b/err ↓": ["0.20", "0.18", "0.20"],
    ...         "delta_i": ["0", "0.10", "-0.05"], "eta": ["-", "100", "100"]}
    >>> [(f.row, f.column, f.printed, f.follows) for f in audit(pd.DataFrame(rows, index=["STL", "A", "B"]))]
    [('B', 'eta', '100', '[0, 50]')]
    """
    if isinstance(table, str) and not table.lower().endswith(".csv"):
        table = load(table)
    if not isinstance(table, PrintedTable):
        table = read(table, sign, percent, baseline)
    return inside.check(table)


@lru_cache
def _chapters() -> dict[str, list[Finding]]:
    """All findings, under the headings of the report; remembered, for they take seconds and the tables are fixed."""
    tables = {name: load(name) for name in names()}
    again = {name: table.about["again"] for name, table in tables.items() if "again" in table.about}
    first_prints = [name for name in tables if name not in again.values()]
    chapters = {f"{name}: {tables[name].about['data']}": inside.check(tables[name]) for name in first_prints}
    for name, second in again.items():
        chapters[f"{second}: second print of {name}"] = between.second_print(tables[name], tables[second])
    for first, other in between.SAME_RUNS:
        chapters[f"{first} and {other}: the same models"] = between.other_baseline(tables[first], tables[other])
    chapters["Rows that stand in several tables"] = between.repeated_rows()
    chapters["Parameter counts of the architectures"] = [*sizes.against_counts(), *sizes.added_blocks()]
    chapters["Sentences about the tables"] = claims.check()
    return chapters


def all_findings() -> list[Finding]:
    """Every finding about the published tables, in the order of the report."""
    return [finding for findings in _chapters().values() for finding in findings]


def report() -> str:
    """The whole audit of the published tables, as Markdown text."""
    chapters = _chapters()
    counts = Counter(finding.verdict for findings in chapters.values() for finding in findings)
    lines = ["# The published tables, recomputed", ""]
    lines += [f"- `{key}-`: {title}" for key, title in catalogue()["documents"].items()]
    lines += ["", "What follows is given as [low, high]: all values that the printed digits allow.", ""]
    lines += [f"- {verdict} ({counts[verdict]}): {meaning}" for verdict, meaning in VERDICTS.items()]
    for heading, findings in chapters.items():
        if findings:
            lines += ["", f"## {heading}", "", to_markdown(findings)]
    clean = [f"- {heading}" for heading, findings in chapters.items() if not findings]
    notes = [f"- {name}: {note}" for name, about in catalogue()["tables"].items() for note in about.get("notes", [])]
    return "\n".join([*lines, "", "## Nothing to report", "", *clean, "", "## Headers and captions", "", *notes, ""])
