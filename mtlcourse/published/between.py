"""The audit of tables against each other: second prints, the same runs against another baseline, repeated rows.

Imports `intervals`, `findings`, `measures`, `table`. Deep Safe Multi-Task Learning and chapter 5 of the
thesis report largely the same models, but against different single-task runs. A model's own value,
baseline plus difference, must then come out the same from both tables, which checks every difference.
"""

from itertools import compress

from . import measures
from .findings import Finding, finding
from .intervals import Interval, slips, total
from .table import Column, PrintedTable, load

ZERO = Interval.exactly(0)

SAME_RUNS = (
    ("dsmtl-1", "thesis-5.2"), ("dsmtl-2", "thesis-5.3"), ("dsmtl-3", "thesis-5.9"), ("dsmtl-4", "thesis-5.10"),
)

# Rows that report one model in several tables, on NYUv2.
REPEATED = (
    (("dsmtl-2", "HPS"), ("dsmtl-7", "HPS+ew")),
    (("dsmtl-2", "DSMTL-IL"), ("dsmtl-6", "DSMTL-IL"), ("dsmtl-7", "DSMTL-IL+ew")),
    (("dsmtl-2", "DSMTL-JL"), ("dsmtl-6", "DSMTL-JL"), ("dsmtl-7", "DSMTL-JL+ew")),
    (("dsmtl-2", "DSMTL-AL"), ("dsmtl-6", "DSMTL-AL"), ("dsmtl-7", "DSMTL-AL+lw")),
    (("dsmtl-6", "DSMTL-AL w/o learnable task weighting"), ("dsmtl-7", "DSMTL-AL+ew")),
    (("thesis-5.3", "STL"), ("thesis-5.11", "STL")),
    (("thesis-5.3", "HPS"), ("thesis-5.4", "HPS")),
    (("thesis-5.3", "CoNAL"), ("thesis-5.4", "CoNAL"), ("thesis-5.5", "CoNAL"), ("thesis-5.11", "CoNAL")),
)


def second_print(table: PrintedTable, again: PrintedTable) -> list[Finding]:
    """Each cell that differs between two prints of one table."""
    return [
        finding(again, row, header, table.text(row, header), "unexplained", f"printed otherwise in {table.name}")
        for row in table.cells.index for header in table.cells.columns
        if table.text(row, header) != again.text(row, header)
    ]


def repeated_rows() -> list[Finding]:
    """Each cell of a row that another table prints for the same model, and differently."""
    found = []
    for (first, row), *others in REPEATED:
        for name, other_row in others:
            table, other = load(first), load(name)
            for header in ("delta_i", "eta", "parameters"):
                printed, expected = other.number(other_row, header), table.number(row, header)
                if printed and expected and not printed.meets(expected):
                    found.append(finding(other, other_row, header, table.text(row, header), "misprint",
                                         f"{first}, row {row}, is the same model; one of the two is wrong"))
    return found


def other_baseline(table: PrintedTable, other: PrintedTable) -> list[Finding]:
    """What two tables of the same runs, against different single-task runs, disagree about.

    Values M = baseline + difference are compared cell by cell. A row that differs in most columns is
    another run; what all other rows of a column share is the fault of the first table's baseline; the rest
    is listed one by one.
    """
    pairs = list(zip(table.columns, other.columns, strict=True))
    rows = [row for row in other.methods if row in table.methods]
    gaps = {row: [_value(other, row, theirs, mine) - table.value(row, mine) for mine, theirs in pairs] for row in rows}
    same = [row for row in rows if 2 * sum(gap.meets(ZERO) for gap in gaps[row]) >= len(pairs)]
    shifts = [_shared([gaps[row][i] for row in same]) for i in range(len(pairs))]
    found = [_shifted(table, other, mine, shift) for (mine, _), shift in zip(pairs, shifts, strict=True) if shift]
    for row in rows:
        if row in same:
            off = [not gap.meets(shift or ZERO) for gap, shift in zip(gaps[row], shifts, strict=True)]
            found += _cells(table, other, row, list(compress(pairs, off))) + _flipped(table, other, row)
        else:
            found.append(Finding(other.name, row, "all metrics", "", f"{table.name}'s values", "unexplained",
                                 f"another run than in {table.name}: most values differ"))
        found += _size(table, other, row)
    return found + _baselines(table, other, pairs, shifts)


def _shifted(table: PrintedTable, other: PrintedTable, column: Column, shift: Interval) -> Finding:
    follows = table.number(table.baseline, column.header) + shift
    readings = slips(table.text(table.baseline, column.header), follows)
    says = f"what every row that {other.name} shares says about it"
    says += f"; one slip away: {' or '.join(readings)}" if readings else ""
    return finding(table, table.baseline, column.header, follows, "misprint", says)


def _value(table: PrintedTable, row: str, column: Column, like: Column) -> Interval:
    """M in the terms of another table's column: an accuracy in percent is 100 minus the error."""
    value = table.value(row, column)
    return value if column.higher_is_better == like.higher_is_better else 100 - value


def _shared(gaps: list[Interval]) -> Interval | None:
    """A difference that all rows share and that is not zero."""
    shared: Interval | None = gaps[0]
    for gap in gaps[1:]:
        shared = shared and shared.common(gap)
    return shared if shared and not shared.meets(ZERO) else None


def _cells(table: PrintedTable, other: PrintedTable, row: str, off: list[tuple[Column, Column]]) -> list[Finding]:
    """The single cells of a row that differ, and what correcting them does to its Delta_I."""
    found, corrected = [], {}
    for mine, theirs in off:
        stl, printed = _value(other, other.baseline, theirs, mine), other.number(row, theirs.header)
        follows = table.value(row, mine) - stl
        verdict, reason = "unexplained", f"its value is {printed - follows} above the one in {table.name}"
        # The same value, had the first table's difference the other sign.
        if (table.number(table.baseline, mine.header) * 2 - table.value(row, mine) - stl).meets(printed):
            verdict, reason = "misprint", f"{table.name}'s difference was taken with the wrong sign"
            corrected[theirs] = follows if theirs.higher_is_better else -follows
        found.append(finding(other, row, theirs.header, follows, verdict, reason))
    if corrected:
        terms = measures.terms(other, row)
        for column, improvement in corrected.items():
            terms[column] = improvement / other.number(other.baseline, column.header) * measures.weight(other, column)
        found.append(finding(other, row, "delta_i", total(terms.values()), "misprint",
                             f"once the {len(corrected)} wrong signs of the row are corrected"))
    return found


def _size(table: PrintedTable, other: PrintedTable, row: str) -> list[Finding]:
    mine, theirs = table.number(row, "parameters"), other.number(row, "parameters")
    if mine is None or theirs is None or mine.meets(theirs):
        return []
    return [finding(other, row, "parameters", table.text(row, "parameters"), "misprint",
                    f"{table.name} prints another size for the same architecture")]


def _baselines(table: PrintedTable, other: PrintedTable, pairs: list, shifts: list) -> list[Finding]:
    """The baseline's cells that differ although the methods' values agree: another single-task run."""
    found = []
    for (mine, theirs), shift in zip(pairs, shifts, strict=True):
        ours = table.number(table.baseline, mine.header) + (shift or 0)
        if not ours.meets(_value(other, other.baseline, theirs, mine)):
            expected = ours if mine.higher_is_better == theirs.higher_is_better else 100 - ours
            found.append(finding(other, other.baseline, theirs.header, expected, "different definition",
                                 f"another single-task run than in {table.name}"))
    return found


def _flipped(table: PrintedTable, other: PrintedTable, row: str) -> list[Finding]:
    """A model that is safe on every metric against the first baseline, and not against the other."""
    before, after = measures.eta(table, row), measures.eta(other, row)
    if before.low < 100 or after.high == 100:
        return []
    worse = ", ".join(column.header for column in other.columns if other.improvement(row, column).high < 0)
    return [Finding(other.name, row, "eta", str(after), str(before), "different definition",
                    f"safe in {table.name}; the same model against another single-task run is worse on {worse}")]
