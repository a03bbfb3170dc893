"""Parameter counts that are arithmetic on other printed counts.

Imports `intervals`, `findings`, `table`. With m tasks, E the size of an encoder and D that of all
decoders: single-task learning has m E + D, hard sharing E + D, DSMTL (m + 1) E + D, and a tree that
branches in between has E + D plus the private modules of every task. Gates are a handful of numbers.
Counts of real architectures are not used here; the printed ones must agree among themselves.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from .findings import Finding, finding
from .intervals import Interval
from .table import PrintedTable, load

# Tables with the same backbone, and the number of tasks in each.
BACKBONES = {"ResNet-50": {"dsmtl-1": 2, "dsmtl-2": 3}, "ResNet-18": {"dsmtl-3": 4, "dsmtl-4": 5}}
BRANCH_TABLE, MODULES = "dsmtl-5", 5
BRANCHES = {"dsmtl-1": "cityscapes/", "dsmtl-2": "nyuv2/", "dsmtl-3": "pascal-context/", "dsmtl-4": "taskonomy/"}


def within(table: PrintedTable) -> list[Finding]:
    """Hard sharing from the rows of STL and DSMTL-IL, `HPS = m STL - (m - 1) DSMTL`; both DSMTL variants alike."""
    stl, dsmtl = table.number(table.baseline, "parameters"), table.number("DSMTL-IL", "parameters")
    if stl is None or dsmtl is None:
        return []
    m = len(table.tasks)
    shared = stl * m - dsmtl * (m - 1)
    expected = {"HPS": shared, "MaxRoam": shared, "DSMTL-JL": dsmtl}
    return [
        finding(table, row, "parameters", follows, "unexplained", "encoders counted from the rows of STL and DSMTL-IL")
        for row, follows in expected.items()
        if (printed := table.number(row, "parameters")) and not printed.meets(follows)
    ]


# What a method adds to a reference row, as a function of m and one unknown size per backbone.
GROWTH: dict[str, tuple[str, Callable[[int], int], str]] = {
    "Cross-stitch": ("STL", lambda m: m - 1, "what it saves against STL grows with m - 1"),
    "NDDR-CNN": ("STL", lambda m: m * m, "what it adds to STL grows with the square of m"),
    "RotoGrad": ("HPS", lambda m: m, "what it adds to hard sharing, one rotation a task, grows with m"),
}


def across() -> list[Finding]:
    """Counts of two tables with one backbone that cannot both hold."""
    found = []
    for tables in BACKBONES.values():
        (first, m), (second, n) = ((load(name), m) for name, m in tables.items())
        for row, (reference, factor, reason) in GROWTH.items():
            unit_first = _added(first, row, reference) / factor(m)
            unit_second = _added(second, row, reference) / factor(n)
            if not unit_first.meets(unit_second):
                follows = first.number(reference, "parameters") + unit_second * factor(m)
                found.append(_misfit(first, row, follows, reason, second))
        found += _attention(first, second)
    return found


def _added(table: PrintedTable, row: str, reference: str) -> Interval:
    return table.number(row, "parameters") - table.number(reference, "parameters")


def _misfit(first: PrintedTable, row: str, follows: Interval | str, reason: str, second: PrintedTable) -> Finding:
    """A count that the second table contradicts; the second table's own number in its place is a misprint."""
    copied = first.text(row, "parameters") == second.text(row, "parameters")
    says = f"{reason}; so from {second.name}" + (", whose number is printed here" if copied else "")
    return finding(first, row, "parameters", follows, "misprint" if copied else "unexplained", says)


def _attention(first: PrintedTable, second: PrintedTable) -> list[Finding]:
    """MTAN adds attention modules for every task to hard sharing, so with fewer tasks it adds less."""
    if _added(first, "MTAN", "HPS").low < _added(second, "MTAN", "HPS").high:
        return []
    most = first.number("HPS", "parameters") + _added(second, "MTAN", "HPS")
    return [_misfit(first, "MTAN", f"below {float(most.high):.6g}", "with fewer tasks it adds less to HPS", second)]


def elsewhere() -> list[Finding]:
    """Counts in smaller tables of the thesis: hard sharing under other names, and one encoder more."""
    celeba, ablation, nyu, small = load("thesis-5.8"), load("thesis-5.5"), load("dsmtl-2"), "parameters"
    hps, encoder = celeba.number("HPS", small), (celeba.number("STL", small) - celeba.number("HPS", small)) / 8
    variant = "CoNAL w/o "
    expected = [(celeba, row, hps, "hard sharing's count") for row in ("UW", "PCGrad", "CAGrad")] + [
        (celeba, "TAG-2", hps + encoder, "two groups have one encoder more than hard sharing"),
        (ablation, variant + "conflict-notice and pure", nyu.number("HPS", small), "hard sharing's count"),
        (ablation, variant + "module splitting", nyu.number("HPS", small) + _added(nyu, "DSMTL-IL", "STL"),
         "one task with an encoder of its own"),
    ]
    return [finding(table, row, small, follows, "unexplained", reason)
            for table, row, follows, reason in expected if not table.number(row, small).meets(follows)]


def branches() -> list[Finding]:
    """The size of DSMTL-AL against the branch points that are printed for it.

    A task that branches at p has modules p to 5 of its own. The sizes of the five modules are unknown, but
    not negative, and they sum to E; the other table with the same backbone says more about them. What is
    left for the printed count are the two ends of a linear program.
    """
    found = []
    for tables in BACKBONES.values():
        pair = [_branch(load(name), load(other)) for name, other in (tables, list(tables)[::-1])]
        misprints = [f for f in pair if f and f.verdict == "misprint"]
        # A misprint in one table is all there is to say about the pair.
        found += misprints or [f for f in pair if f]
    return found


def _branch(table: PrintedTable, other: PrintedTable) -> Finding | None:
    follows, printed = _tree(table, other), table.text("DSMTL-AL", "parameters")
    if follows is None or table.number("DSMTL-AL", "parameters").meets(follows):
        return None
    twins = [row for row in table.methods if row != "DSMTL-AL" and table.text(row, "parameters") == printed]
    says = f"branch points {_points(table.name)} of {BRANCH_TABLE} and module sizes as in {other.name}"
    says += "".join(f"; {row} has the printed number in the same table" for row in twins)
    return finding(table, "DSMTL-AL", "parameters", follows, "misprint" if twins else "unexplained", says)


def _points(name: str) -> list[int]:
    table = load(BRANCH_TABLE)
    headers = [header for header in table.cells.columns if header.startswith(BRANCHES[name])]
    return [int(table.text("DSMTL-AL branch point", header)) for header in headers]


def _private(name: str) -> list[int]:
    """How many tasks have each of the modules 1 to 5 for themselves."""
    return [sum(point <= module for point in _points(name)) for module in range(1, MODULES + 1)]


def _tree(table: PrintedTable, other: PrintedTable) -> Interval | None:
    """The sizes that the branch points leave for DSMTL-AL, given the other table's."""
    encoder = _added(table, "DSMTL-IL", "STL").common(_added(other, "DSMTL-IL", "STL"))
    private = _added(other, "DSMTL-AL", "HPS")
    rows = [np.ones(MODULES), np.array(_private(other.name), float)]
    bounds_above = [float(encoder.high), float(private.high)]
    bounds_below = [float(encoder.low), float(private.low)]
    ends = []
    for sign in (1, -1):
        answer = linprog(sign * np.array(_private(table.name), float), A_ub=np.r_[rows, [-row for row in rows]],
                         b_ub=np.r_[bounds_above, [-low for low in bounds_below]])
        if answer.status != 0:
            return None
        ends.append(sign * answer.fun)
    # The program computes in floating point; a millionth of a million parameters is exact enough for printed counts.
    added = Interval(*(Fraction(end).limit_denominator(10**6) for end in ends))
    return table.number("HPS", "parameters") + added
