"""Checks of notebook 02, safe multi-task learning. Imports `exercises`."""

from collections.abc import Callable

from . import exercise, expect


@exercise("02.1")
def whole_tasks(answer: Callable) -> None:
    """A task counts as safe only when all of its metrics are; equality is safe."""
    for changes, groups, expected in (
        ([0.1, -0.02, 0.0], ["left", "left", "right"], 50.0),
        ([0.1, 0.2, 0.3, -0.1], ["a", "b", "a", "c"], 200 / 3),
        ([-0.1, 0.5, 0.5], ["a", "a", "a"], 0.0),
        ([0.0], ["a"], 100.0),
    ):
        expect(expected, answer(changes, groups), f"for changes={changes} and groups={groups}")


@exercise("02.2")
def interval(answer: Callable) -> None:
    """Half a unit of the last printed digit to either side."""
    for text, expected in (("4.80", (4.795, 4.805)), ("67", (66.5, 67.5)), ("-0.0003", (-0.00035, -0.00025)),
                           ("+0.5", (0.45, 0.55))):
        expect(expected, answer(text), f"for {text!r}", tolerance=1e-9)


@exercise("02.3")
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


@exercise("02.4")
def baseline_cell(answer: Callable) -> None:
    """`Delta_I = rest + weight * improvement / STL`, solved for STL over several rows."""
    for stl, weight, improvements, rest in ((24.8, 1 / 6, [0.62, -1.29, 0.71, 0.02], [0.01, -0.02, 0.0, 0.03]),
                                            (0.0072, 0.1, [0.0011, -0.0019], [0.02, 0.02])):
        printed = [r + weight * d / stl for r, d in zip(rest, improvements, strict=True)]
        what = f"for {len(rest)} rows made with STL={stl}"
        expect(stl, answer(weight, improvements, rest, printed), what, tolerance=1e-3 * stl)
