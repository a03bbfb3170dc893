"""Checks of notebook 02, safe multi-task learning. Imports `exercises`."""

from collections.abc import Callable

from . import exercise, expect


@exercise("02.1",
          "Gather the changes by task before you count anything; then count tasks, not metrics.",
          "A task is safe if the smallest of its changes is not negative. Return the share of such tasks, times 100.")
def whole_tasks(answer: Callable) -> None:
    """A task counts as safe only when all of its metrics are; equality is safe."""
    for changes, groups, expected in (
        ([0.1, -0.02, 0.0], ["left", "left", "right"], 50.0),
        ([0.1, 0.2, 0.3, -0.1], ["a", "b", "a", "c"], 200 / 3),
        ([-0.1, 0.5, 0.5], ["a", "a", "a"], 0.0),
        ([0.0], ["a"], 100.0),
    ):
        expect(expected, answer(changes, groups), f"for changes={changes} and groups={groups}")


@exercise("02.2",
          "Which change, compared with zero, is the same as this change compared with the margin?",
          "Take the margin away from every change (an array, not a list), and ask for the coefficient as before.")
def eta_with_margin(answer: Callable) -> None:
    """A metric counts as safe when its relative change reaches the margin, which may be negative."""
    changes, groups = [0.10, -0.02, 0.004], ["left", "left", "right"]
    for margin, expected in ((0.01, 25.0), (0.0, 75.0), (-0.02, 100.0), (0.2, 0.0), (0.004, 75.0)):
        expect(expected, answer(changes, groups, margin), f"for changes={changes}, groups={groups}, margin={margin}")


@exercise("02.3",
          "Subtract STL's loss from that of the shrunk predictor: what is left is a parabola in s that is zero at s "
          "= 0.",
          "With a = (1 - 1/m)/n, the variance falls by a (2s - s^2) and the squared bias costs s^2 b^2. Divide by s, "
          "solve for s, and do not go above 1.")
def largest_s(answer: Callable) -> None:
    """`s^2 b^2 + a s^2 - 2 a s <= 0` with `a = (1 - 1/m) / n`, so s is at most `2 a / (a + b^2)`."""
    for n, bias, m in ((5, 0.45, 4), (320, 0.45, 4), (5, 0.0, 4), (5, 0.1, 4), (20, -0.6, 2)):
        saved = (1 - 1 / m) / n
        expect(min(1.0, 2 * saved / (saved + bias**2)), answer(n, bias, m), f"for n={n}, bias={bias}, m={m}")
