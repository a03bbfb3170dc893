"""The audit of one table: does each printed summary follow from the cells beside it?

Imports `intervals`, `findings`, `measures`, `sizes`, `table`.
"""

from fractions import Fraction

from . import measures, sizes
from .findings import Finding, finding
from .intervals import Interval
from .table import Column, PrintedTable


def check(table: PrintedTable) -> list[Finding]:
    """All findings within one table: Delta_I, eta, the order that Delta_I gives, medians, parameter counts."""
    if not table.columns:
        return []
    return delta_i(table) + eta(table) + best(table) + medians(table) + sizes.within(table)


def delta_i(table: PrintedTable) -> list[Finding]:
    """Each printed Delta_I that the row's cells do not allow, and what would repair it."""
    rows = [row for row in table.methods if table.number(row, "delta_i")]
    wrong = [row for row in rows if not measures.follows(table, row)]
    systematic, cause = (), []
    if len(wrong) >= 3 and 2 * len(wrong) > len(rows):
        *systematic, cause = _whole_column(table, rows)
    return cause + [finding(table, row, "delta_i", measures.delta_i(table, row), *(systematic or _one_row(table, row)))
                    for row in wrong]


def _whole_column(table: PrintedTable, rows: list[str]) -> tuple[str, str, list[Finding]]:
    """Most rows are wrong: verdict and reason for each of them, and a finding on the one cell that is to blame."""
    repairs = {column: measures.repair_baseline(table, column, rows) for column in table.columns}
    repairs = {column: values for column, values in repairs.items() if values}
    turned = [column for column in table.columns if measures.repair_direction(table, column, rows)]
    if len(repairs) == 1 and not turned:
        (column, values), = repairs.items()
        cause = finding(table, table.baseline, column.header, values, "misprint",
                        f"the only single cell whose correction lets Delta_I follow in all {len(rows)} rows")
        return "misprint", f"follows once {table.baseline}'s {column.header} is corrected", [cause]
    if len(turned) == 1 and not repairs:
        header = turned[0].header
        cause = Finding(table.name, "header", header, header[-1], "the other arrow", "misprint",
                        f"turning this one arrow lets Delta_I follow in all {len(rows)} rows")
        return "misprint", f"follows once the arrow of {header} is turned", [cause]
    if repairs or turned:
        headers = ", ".join(column.header for column in [*repairs, *turned])
        return "unexplained", f"a correction of any of these columns would let all rows follow: {headers}", []
    reason = f"no single cell of {table.baseline} and no single arrow, corrected, lets all rows follow"
    weights = measures.repair_weights(table, rows)
    if weights:
        ranges = ", ".join(f"{task} {low:.2f}-{high:.2f}" for task, (low, high) in weights.items())
        reason += f"; a mean with unequal task weights would ({ranges}), but none is defined"
    else:
        reason += ", nor does a mean with unequal task weights"
    return "unexplained", reason, []


def _one_row(table: PrintedTable, row: str) -> tuple[str, str]:
    if _nearly(table.number(row, "delta_i"), measures.delta_i(table, row), table.digits(row, "delta_i")):
        return "rounding", "within one unit of the last digit"
    repairs = {column: measures.repair_cell(table, row, column) for column in table.columns}
    repairs = {column: readings for column, readings in repairs.items() if readings}
    if len(repairs) == 1:
        (column, readings), = repairs.items()
        return "misprint", f"follows if {column.header} reads {' or '.join(readings)}"
    if not repairs:
        return "unexplained", "no slip in a single cell of the row explains it"
    return "unexplained", f"a slip in any one of {len(repairs)} cells of the row would explain it"


def _nearly(printed: Interval, follows: Interval, digits: int) -> bool:
    unit = Fraction(1, 10**digits)
    return not printed.meets(follows) and Interval(printed.low - unit / 2, printed.high + unit / 2).meets(follows)


def eta(table: PrintedTable) -> list[Finding]:
    """Each printed eta that the signs of the row's cells do not allow."""
    found = []
    for row in table.methods:
        printed = table.number(row, "eta")
        if printed is None or printed.meets(measures.eta(table, row)):
            continue
        follows = measures.eta(table, row)
        if _nearly(printed, follows, table.digits(row, "eta")):
            verdict, reason = "rounding", "within one unit of the last digit"
        elif printed.meets(measures.eta(table, row, whole_tasks=True)):
            verdict, reason = "different definition", "follows if a task counts only when all of its metrics are safe"
        elif table.number(row, "delta_i") and measures.follows(table, row):
            verdict, reason = "misprint", "the same cells do give the printed Delta_I"
        else:
            verdict, reason = "unexplained", "the signs of the row's cells give another share"
        found.append(finding(table, row, "eta", follows, verdict, reason))
    return found


def best(table: PrintedTable) -> list[Finding]:
    """Whether the method with the best printed Delta_I is still the best when Delta_I is recomputed."""
    rows = [row for row in table.methods if table.number(row, "delta_i")]
    if not rows:
        return []
    winner = max(rows, key=lambda row: table.number(row, "delta_i").low)
    follows = {row: measures.delta_i(table, row) for row in rows}
    ahead = [row for row in rows if follows[row].low > follows[winner].high]
    if not ahead:
        return []
    better = ", ".join(f"{row} {follows[row]}" for row in ahead)
    return [finding(table, winner, "delta_i", follows[winner], "unexplained",
                    f"printed as the best; recomputed from the cells, better is {better}")]


def medians(table: PrintedTable) -> list[Finding]:
    """Angles: when more than half of the pixels lie within t degrees, the median angle is below t, and conversely."""
    found = []
    for columns in table.tasks.values():
        median = next((column for column in columns if column.metric == "median angle"), None)
        bounds = {Fraction(c.metric.removeprefix("within ")): c for c in columns if c.metric.startswith("within ")}
        wrong = {row: bound for row in table.cells.index if median and (bound := _broken(table, row, median, bounds))}
        if wrong:
            row, bound = next(iter(wrong.items()))
            rows = "all rows" if len(wrong) == len(table.cells) else ", ".join(wrong)
            found.append(finding(table, row, median.header, bound, "different definition",
                                 f"the shares within an angle put the median there; so in {rows}"))
    return found


def _broken(table: PrintedTable, row: str, median: Column, bounds: dict[Fraction, Column]) -> str | None:
    angle = table.value(row, median)
    for bound, column in bounds.items():
        share = table.value(row, column)
        if share.low > 50 and angle.low > bound:
            return f"below {float(bound):g}"
        if share.high < 50 and angle.high < bound:
            return f"above {float(bound):g}"
    return None
