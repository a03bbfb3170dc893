"""Checks of notebook 09, reading a results table. Imports `exercises`, `published`."""

from collections.abc import Callable

import pandas as pd

from ... import published
from . import NotYet, exercise, expect


@exercise("09.1",
          "What was cut off only made the number shorter: the true one is at least as far from zero.",
          "A unit is 10 to the minus number of digits behind the point. Add it above for positive numbers, below for "
          "those whose text begins with a minus; return the lower end first.")
def cut_off(answer: Callable) -> None:
    """A whole unit of the last printed digit, on the side away from zero."""
    for text, expected in (("4.80", (4.80, 4.81)), ("67", (67, 68)), ("-0.0003", (-0.0004, -0.0003)),
                           ("+0.5", (0.5, 0.6)), ("-12", (-13, -12))):
        expect(expected, answer(text), f"for {text!r}", tolerance=1e-9)


@exercise("09.2",
          "Each task contributes the share of its metrics that are safe; eta is the mean of the shares.",
          "itertools.product over range(m + 1), one for each task, gives all combinations. Average k / m, round, and "
          "drop what comes twice.")
def possible_etas(answer: Callable) -> None:
    """All shares of safe metrics, averaged within and over tasks, in whole percent."""
    for metrics, expected in (
        ([1], [0, 100]),
        ([2, 2], [0, 25, 50, 75, 100]),
        ([1, 5], [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
        ([2, 2, 5], [0, 7, 13, 17, 20, 23, 27, 30, 33, 37, 40, 43, 47, 50,
                     53, 57, 60, 63, 67, 70, 73, 77, 80, 83, 87, 93, 100]),
    ):
        expect(expected, list(answer(metrics)), f"for tasks with {metrics} metrics")


@exercise("09.3",
          "In q = 1/STL every row is a straight line through zero: weight times improvement times q is printed minus "
          "rest.",
          "Least squares through zero: q is the sum of d (printed - rest) over weight times the sum of d squared. "
          "Return 1/q.")
def baseline_cell(answer: Callable) -> None:
    """`Delta_I = rest + weight * improvement / STL`, solved for STL over several rows."""
    for stl, weight, improvements, rest in ((24.8, 1 / 6, [0.62, -1.29, 0.71, 0.02], [0.01, -0.02, 0.0, 0.03]),
                                            (0.0072, 0.1, [0.0011, -0.0019], [0.02, 0.02])):
        printed = [r + weight * d / stl for r, d in zip(rest, improvements, strict=True)]
        what = f"for {len(rest)} rows made with STL={stl}"
        expect(stl, answer(weight, improvements, rest, printed), what, tolerance=1e-3 * stl)


@exercise("09.4",
          "Both results are made from the cells: work out what the audit would compute from the new accuracy.",
          "Delta_I is the mean of 0.950/0.912 - 1 and 0.880/0.874 - 1, to four digits, and no metric is worse now: "
          "what is eta then?")
def invented(answer: pd.DataFrame) -> None:
    """STL as it was, an invented accuracy of MTAN, and nothing that the audit can find."""
    columns = ["left/accuracy ↑", "right/accuracy ↑", "delta_i", "eta"]
    if list(answer.index) != ["STL", "MTAN"] or list(answer.columns) != columns:
        raise NotYet(f"the table should keep its rows STL and MTAN and its columns {', '.join(columns)}")
    if list(answer.loc["STL"]) != ["0.912", "0.874", "0", "-"] or answer.at["MTAN", columns[0]] != "0.950":
        raise NotYet("STL should stay as it is, and MTAN's accuracy on left should read 0.950")
    for finding in published.audit(answer):
        raise NotYet(f"the audit still finds the {finding.column} of {finding.row}: printed {finding.printed}, "
                     f"while the cells allow {finding.follows}")
    if published.read(answer).text("MTAN", "delta_i") is None or published.read(answer).text("MTAN", "eta") is None:
        raise NotYet("MTAN should print both results, delta_i and eta")
