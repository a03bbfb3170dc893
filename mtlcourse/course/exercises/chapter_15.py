"""Checks of notebook 15, conflict noticed. Imports `exercises`."""

from collections.abc import Callable, Collection

import torch

from . import NotYet, exercise, expect


@exercise("15.1",
          "The product of g_i with the sum of all gradients can be read from K: it is a sum along a row.",
          "Replace K < 0 by 'the row sums of K are negative', any of them in the module; the cumulative sum stays.")
def gentle(answer: Callable) -> None:
    """Up to the first module in which the sum of the gradients harms a task."""
    for K in _grams():
        expected = ((K.sum(2) < 0).any(1).cumsum(0) == 0).tolist()
        expect(expected, answer(K), f"for the Gram matrices {K.tolist()}")


@exercise("15.2",
          "Each module judges for itself: nothing is carried over from those before.",
          "Ask for each module whether any entry of K is negative, and return the opposite, without the cumulative "
          "sum.")
def local(answer: Callable) -> None:
    """Each module for itself."""
    for K in _grams():
        expect((~(K < 0).flatten(1).any(1)).tolist(), answer(K), f"for the Gram matrices {K.tolist()}")


def _grams() -> list[torch.Tensor]:
    """Three modules of two tasks: in agreement, in conflicts that harm nobody and in ones that harm somebody."""
    agree, slight, harm = ([[2.0, 1.0], [1.0, 1.0]], [[1.0, -0.1], [-0.1, 1.0]], [[4.0, -2.0], [-2.0, 1.5]])
    orders = ([agree, slight, agree], [slight, harm, agree], [agree, agree, agree], [harm, agree, slight])
    return [torch.tensor(order, dtype=torch.float64) for order in orders]


@exercise("15.3",
          "Begin with everybody at point 1. In each stage ask about those who are left, and settle who keeps the "
          "module.",
          "Stages k = 1 to P - 1: whoever is kept gets the point P - k + 1 and leaves the list; stop when it is "
          "empty.")
def progressive_points(answer: Callable) -> None:
    """In stage k who keeps module P - k has point P - k + 1; the others go on, and at last stand alone."""
    for P, keeps in ((4, ["ab", "c", ""]), (4, ["", "", ""]), (5, ["a", "", "bc", "d"]), (4, ["abcd"])):
        expected, left, asked = dict.fromkeys("abcd", 1), list("abcd"), []
        for k, keep in enumerate(keeps, start=1):
            expected |= dict.fromkeys(keep, P - k + 1)
            asked.append((k, list(left)))
            left = [task for task in left if task not in keep]
        heard: list[tuple[int, list[str]]] = []
        what = f"for P={P} and tasks that keep their module {dict(enumerate(keeps, start=1))}"
        points = answer(list("abcd"), P, _asking(keeps, heard))
        if not isinstance(points, dict) or points.keys() != expected.keys():
            raise NotYet(f"{what}: expected a point for each of {list(expected)}, got {points!r}")
        expect(list(expected.values()), [points[task] for task in expected], what)
        if heard != asked:
            raise NotYet(f"{what}: expected the questions {asked}, got {heard}")


def _asking(keeps: list[str], heard: list[tuple[int, list[str]]]) -> Callable:
    def ask(k: int, tasks: Collection[str]) -> list[str]:
        heard.append((k, list(tasks)))
        return [task for task in tasks if k <= len(keeps) and task in keeps[k - 1]]
    return ask


@exercise("15.4",
          "Tasks with the same branch point above 1 share what lies behind it; those at 1 are alone.",
          "Trunk: the largest point minus 1. Add P - p once for each different p > 1, and P - 1 for every task with "
          "p = 1.")
def tree_modules(answer: Callable) -> None:
    """Distinct modules, counted by what passes them."""
    for P, points in ((4, {"a": 4, "b": 4, "c": 3, "d": 3}), (4, {"a": 4, "b": 2, "c": 1, "d": 1}),
                      (5, {"a": 1, "b": 1}), (6, {"a": 5, "b": 3, "c": 3, "d": 6})):
        modules = {(stage, "trunk" if stage < p else (task if p == 1 else p))
                   for task, p in points.items() for stage in range(1, P)}
        expect(len(modules), answer(points, P), f"for P={P} and points {points}")
