"""Delta_I and eta, recomputed from a row's printed cells, and the search for what would repair them.

Imports `intervals` and `table`. The definitions are those of Deep Safe Multi-Task Learning, section 7.1
(`mtlcourse.safety` has them for numbers); here every printed cell is an interval.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from .intervals import Interval, slips, total
from .table import Column, PrintedTable

WIDEST = 1000  # a repaired baseline is looked for within this factor of the printed one


def weight(table: PrintedTable, column: Column) -> Fraction:
    """What the column counts in Delta_I, `1 / (m m_t)`, times 100 where Delta_I is printed in percent."""
    return Fraction(100 if table.percent else 1, len(table.tasks) * len(table.tasks[column.task]))


def terms(table: PrintedTable, row: str) -> dict[Column, Interval]:
    """Each metric's contribution to the row's Delta_I."""
    return {column: table.change(row, column) * weight(table, column) for column in table.columns}


def delta_i(table: PrintedTable, row: str) -> Interval:
    """Every Delta_I that the row's cells allow, in the unit that the table prints."""
    return total(terms(table, row).values())


def eta(table: PrintedTable, row: str, whole_tasks: bool = False) -> Interval:
    """Every eta that the row's cells allow, in percent; a cell that may be either side of zero makes it wide.

    whole_tasks: count a task only when all its metrics are safe. This is not the printed formula, but what
        its description in words, "the proportion of tasks", can be read as.
    """
    def share(safe: dict[Column, bool]) -> Fraction:
        by_task = [Fraction(sum(safe[c] for c in columns), len(columns)) for columns in table.tasks.values()]
        by_task = [Fraction(share == 1) for share in by_task] if whole_tasks else by_task
        return 100 * sum(by_task, Fraction(0)) / len(by_task)

    improvements = {column: table.improvement(row, column) for column in table.columns}
    return Interval(share({c: i.low >= 0 for c, i in improvements.items()}),
                    share({c: i.high >= 0 for c, i in improvements.items()}))


def follows(table: PrintedTable, row: str) -> bool:
    """Whether the row's printed Delta_I is one that its cells allow."""
    return delta_i(table, row).meets(table.number(row, "delta_i"))


def repair_baseline(table: PrintedTable, column: Column, rows: Sequence[str]) -> Interval | None:
    """All values of the baseline's cell in `column` with which Delta_I follows in every one of `rows`.

    With q = 1/STL, a row's Delta_I is `rest + slope q`, so each row leaves an interval of q: no search is
    needed. None when no value within a factor of 1000 of the printed one serves all rows.
    """
    stl = table.number(table.baseline, column.header)
    low, high = 1 / (stl.high * WIDEST), WIDEST / stl.low
    for row in rows:
        slope, rest = _linear(table, row, column)
        printed = table.number(row, "delta_i")
        # rest + slope q meets the printed interval: slope.low q <= a, and -slope.high q <= b
        for factor, bound in ((slope.low, printed.high - rest.low), (-slope.high, rest.high - printed.low)):
            if factor > 0:
                high = min(high, bound / factor)
            elif factor < 0:
                low = max(low, bound / factor)
            elif bound < 0:
                return None
        if low > high:
            return None
    return Interval(1 / high, 1 / low)


def _linear(table: PrintedTable, row: str, column: Column) -> tuple[Interval, Interval]:
    """slope and rest with `Delta_I = rest + slope / STL`."""
    w = weight(table, column)
    rest = total(term for other, term in terms(table, row).items() if other != column)
    if table.sign != "value":
        return table.improvement(row, column) * w, rest
    toward = w if column.higher_is_better else -w
    return table.value(row, column) * toward, rest - toward


def repair_direction(table: PrintedTable, column: Column, rows: Sequence[str]) -> bool:
    """Whether Delta_I follows in every one of `rows` when the column's arrow is turned."""
    def turned(row: str) -> Interval:
        return total(-term if other == column else term for other, term in terms(table, row).items())

    return all(turned(row).meets(table.number(row, "delta_i")) for row in rows)


def repair_cell(table: PrintedTable, row: str, column: Column) -> list[str]:
    """Readings of one cell, a single slip away from the printed one, with which the row's Delta_I follows."""
    rest = total(term for other, term in terms(table, row).items() if other != column)
    stl = table.number(table.baseline, column.header)
    needed = (table.number(row, "delta_i") - rest) * stl * (1 / weight(table, column))
    if table.sign != "improvement" and not column.higher_is_better:
        needed = -needed
    return slips(table.text(row, column.header), stl + needed if table.sign == "value" else needed)


def repair_weights(table: PrintedTable, rows: Sequence[str]) -> dict[str, tuple[float, float]] | None:
    """The smallest and largest weight of each task with which Delta_I follows in every one of `rows`.

    Asks whether the tasks were averaged with other weights than 1/m (any that are not negative). A linear
    program, so its bounds are rounded. None when no weights serve all rows.
    """
    scale = Fraction(len(table.tasks), 100 if table.percent else 1)
    low, high, upper, lower = [], [], [], []
    for row in rows:
        term = terms(table, row)
        means = [total(term[c] for c in columns) * scale for columns in table.tasks.values()]
        printed = table.number(row, "delta_i") * Fraction(1, 100 if table.percent else 1)
        low.append([float(mean.low) for mean in means])
        high.append([-float(mean.high) for mean in means])
        upper.append(float(printed.high))
        lower.append(-float(printed.low))
    found = {}
    for index, task in enumerate(table.tasks):
        ends = []
        for sign in (1, -1):
            answer = linprog(sign * np.eye(len(table.tasks))[index], A_ub=low + high, b_ub=upper + lower)
            if answer.status != 0:
                return None
            ends.append(float(answer.x[index]))
        found[task] = (ends[0], ends[1])
    return found
