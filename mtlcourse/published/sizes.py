"""Printed parameter counts against those of the architectures, and against one another.

Imports `counted`, `findings`, `intervals`, `table`. With m tasks, E the size of an encoder and D that of all
decoders, single-task learning has m E + D parameters, hard sharing E + D, DSMTL (m + 1) E + D, and a tree, which
tasks leave at branch points, E + D plus the modules that it has in several copies.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement

from .counted import LAST, SEARCHES, TABLES, branch_points, cells, counted_methods, method_of, parameters
from .findings import Finding, finding
from .intervals import Interval, decimals
from .table import PrintedTable, load

MILLION = 1_000_000
CHANNEL = 257  # parameters of one more output of a decoder: 256 weights and a bias
UNKNOWN = "no reading of the architecture that was tried has this size"
# Models that are trees, where it is not printed which one.
TREES = ("BMTAS", "LTB", "CoNAL", "CoNAL-Pro", "TAG-2", "CoNAL w/o conflict-notice", "CoNAL w/o module splitting")


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


# --- against the architectures -----------------------------------------------------------------------

@cache
def against_counts() -> tuple[Finding, ...]:
    """Every printed count that is not the architecture's."""
    judged = [_judge(problem, table, row) for problem in TABLES for table, row in cells(problem)]
    return tuple(finding for finding in judged if finding)


def printed_for(problem: str, method: str) -> list[tuple[str, str]]:
    """What is printed for a method on a problem, in millions, and why it is not the architecture's ("" where it is).

    For a search the printed size of what it found; for an architecture that the papers have with other options,
    which ones. Empty where nothing is printed.
    """
    rows = [(table, row) for table, row in cells(problem)
            if method_of(problem, row) == method or row == SEARCHES.get(method)]
    said = {(f.table, f.row): f"{f.verdict}: {f.says}" for f in against_counts()}
    if method in SEARCHES:
        return [(table.text(row, "parameters"), "printed for what was found; counted is the net of the search")
                for table, row in rows]
    if rows:
        return [(table.text(row, "parameters"), said.get((table.name, row), "")) for table, row in rows]
    other = [name for name in counted_methods(problem) if name.startswith(f"{method}(")]
    return [("", f"the papers count {other[0]}")] if other and method != "tree" else []


def _judge(problem: str, table: PrintedTable, row: str) -> Finding | None:
    count = parameters(problem).get(method_of(problem, row))
    if count is None:
        if row not in TREES or any(_fits(table, row, size) for size in _trees(problem)):
            return None
        says = "no tree has this size, whichever modules it has in several copies"
        return finding(table, row, "parameters", "none", "unexplained", says)
    if _fits(table, row, count):
        return None
    verdict, says = _explain(problem, table, row, count)
    return finding(table, row, "parameters", f"{count / MILLION:.4f}", verdict, says)


def _fits(table: PrintedTable, row: str, count: int) -> bool:
    return table.number(row, "parameters").meets(Interval.exactly(Fraction(count, MILLION)))


def _explain(problem: str, table: PrintedTable, row: str, count: int) -> tuple[str, str]:
    """Verdict on a printed number that is not `count`, and the reason for it."""
    printed = table.text(row, "parameters")
    for other in TREES:
        searched = branch_points(problem, row) and not branch_points(problem, other)
        if searched and table.text(other, "parameters") == printed:
            return "misprint", f"{_leaving(problem, row)}; printed is the number of {other} in the same table"
    for other, (name, *_) in TABLES.items():
        count_there = parameters(other).get(method_of(other, row))
        copied = other != problem and load(name).text(row, "parameters") == printed
        if copied and count_there and _fits(table, row, count_there):
            return "misprint", f"it is the number of {name}, where it follows"
    if abs(Fraction(printed) - Fraction(count, MILLION)) < Fraction(1, 10 ** decimals(printed)):
        ends = table.number(row, "parameters")
        short = max(ends.low * MILLION - count, count - ends.high * MILLION)
        more = f"; one channel more in a decoder has {CHANNEL}" if _fits(table, row, count + CHANNEL) else ""
        return "rounding", f"off by {int(short)} parameters{more}"
    if branch_points(problem, row):
        verdict, says = _other_points(problem, table, row)
        return verdict, f"{_leaving(problem, row)}; {says}"
    if row == "RotoGrad":
        return "unexplained", _rotations(problem, table)
    if row == "TSN":
        return "unexplained", _switching(problem, table)
    return "unexplained", UNKNOWN


# --- reasons -----------------------------------------------------------------------------------------

def _trees(problem: str) -> Iterator[int]:
    """Sizes of all trees: none of the modules behind another has fewer copies."""
    modules, tasks = parameters(problem, "module").values(), len(parameters(problem, "head"))
    shared = parameters(problem)["hps"]
    for more in combinations_with_replacement(range(tasks), len(modules)):
        yield shared + sum(n * size for n, size in zip(more, modules, strict=True))


def _leaving(problem: str, row: str) -> str:
    points = branch_points(problem, row)
    return "with " + ", ".join(f"{task} leaving at {p}" for task, p in points.items() if p < LAST)


def _other_points(problem: str, table: PrintedTable, row: str) -> tuple[str, str]:
    """Whether one other branch point, or any others, would give the printed number."""
    points, modules = branch_points(problem, row), list(parameters(problem, "module").values())
    for task in points:
        for p in range(1, LAST + 1):
            own = [sum(modules[q - 1 :]) for q in (points | {task: p}).values()]
            if _fits(table, row, parameters(problem)["hps"] + sum(own)):
                return "misprint", f"it follows with {task} leaving at {p}"
    anything = any(_fits(table, row, size) for size in _trees(problem))
    return "unexplained", f"{'several' if anything else 'no'} other branch points give it"


def _rotations(problem: str, table: PrintedTable) -> str:
    tasks = len(parameters(problem, "head"))
    fitting = [k for k in range(2 * tasks)
               if _fits(table, "RotoGrad", parameters(problem)["hps"] + k * 1024**2)]
    return (f"it is hard sharing with {fitting[0]} matrices of 1024 x 1024, but there are {tasks} tasks, and the "
            "encoder has 512 features" if fitting else UNKNOWN)


def _switching(problem: str, table: PrintedTable) -> str:
    """Whether what is not the encoder and one usual decoder is the same everywhere."""
    rest = [load(name).number("TSN", "parameters")
            - Interval.exactly(Fraction(sum(parameters(other, "module").values()), MILLION))
            - Interval.exactly(Fraction(max(parameters(other, "head").values()), MILLION))
            for other, (name, *_) in TABLES.items() if load(name).text("TSN", "parameters")]
    common = rest[0]
    for one in rest[1:]:
        common = common and common.common(one)
    return (f"one encoder and one decoder of single-task learning leave {common} M, with either backbone: not the "
            "decoder of the source" if common else UNKNOWN)


def added_blocks() -> list[Finding]:
    """Table 5.11 of the thesis: the text adds three and four residual blocks after the fourth module."""
    table, found = load("thesis-5.11"), []
    block = 17 * 256**2 + 12 * 256  # convolutions 1 x 1, 3 x 3, 1 x 1 at width 256, and their norms
    counts = parameters("nyuv2")
    for row, without, said in (("HPS+", "HPS", 3), ("CoNAL+", "CoNAL", 4)):
        count = counts[method_of("nyuv2", without)]
        number = next((n for n in range(100) if _fits(table, row, count + n * block)), None)
        if number not in (None, said):
            found.append(finding(table, row, "parameters", f"{(count + said * block) / MILLION:.4f}",
                                 "different definition", f"{number} blocks of the fourth module, not {said}, have it"))
    return found
