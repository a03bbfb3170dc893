"""What an audit says: one value, what is printed, what follows, and how sure we are.

Imports `intervals` and `table`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pandas as pd

from .intervals import Interval
from .table import PrintedTable

VERDICTS = {
    "misprint": "the numbers around it agree with each other and not with it",
    "rounding": "off by less than a unit of the last printed digit",
    "different definition": "right under another definition, or against another baseline, than the one that is printed",
    "unexplained": "cannot follow, and no single correction is singled out",
}


@dataclass(frozen=True)
class Finding:
    """One printed value that does not follow from its neighbours.

    table, row, column: where.  printed: the cell as it stands.  follows: what the other printed cells
    allow.  verdict: a key of `VERDICTS`, ValueError for others.  says: the reason, in a sentence.
    """

    table: str
    row: str
    column: str
    printed: str
    follows: str
    verdict: str
    says: str

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict={self.verdict!r} is unknown; choose from {', '.join(VERDICTS)}.")


def finding(
    table: PrintedTable, row: str, header: str, follows: Interval | str | None, verdict: str, says: str
) -> Finding:
    """The finding that one cell of `table` is not what follows."""
    return Finding(table.name, row, header, str(table.text(row, header)), str(follows), verdict, says)


def to_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """The findings as a data frame, one row each."""
    return pd.DataFrame([asdict(finding) for finding in findings], columns=list(Finding.__dataclass_fields__))


def to_markdown(findings: Iterable[Finding]) -> str:
    """The findings as a Markdown table; a reason that repeats is said once."""
    lines, before = ["| table | row | column | printed | follows | verdict | why |", "| --- " * 7 + "|"], None
    for f in findings:
        says = "as above" if (f.verdict, f.says) == before else f.says
        before = (f.verdict, f.says)
        lines.append(f"| {f.table} | {f.row} | {f.column} | {f.printed} | {f.follows} | {f.verdict} | {says} |")
    return "\n".join(lines)
