"""Checks of notebook 15, conflict noticed. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import exercise, expect


@exercise("15.1")
def moves_from(answer: Callable) -> None:
    """No conflict from module `first` up to the module itself."""
    signs = [[1, 1, 1, 1], [1, -1, 1, 1], [-1, 1, -1, 1], [-1, 1, 1, -1]]
    for row in signs:
        K = torch.tensor([[[2.0, s], [s, 1.0]] for s in row], dtype=torch.float64)
        for first in (1, 2, 4):
            expected = [all(s > 0 for s in row[first - 1 : p]) for p in range(1, 5)]
            expect(expected, answer(K, first), f"for signs {row} of the products and first={first}")


@exercise("15.2")
def learning_shares(answer: Callable) -> None:
    """Products of 1 - c."""
    for c in ([0.2, 0.5, 0.1], [0.0, 0.3], [1.0, 0.0, 0.0]):
        expected = torch.cumprod(1 - torch.tensor(c, dtype=torch.float64), 0)
        expect(expected, answer(c), f"for c={c}")


@exercise("15.3")
def most_modules(answer: Callable) -> None:
    """The largest of P - 1 + k r, r the tasks still there in stage k."""
    for P, m, leaves in ((4, 9, [6, 3]), (6, 9, [0, 0, 0, 0, 0]), (5, 4, [1, 1, 1]), (4, 9, [9])):
        held, stay = [], m
        for k, done in enumerate(leaves, start=1):
            held.append(P - 1 + k * stay)
            stay -= done
        expect(max(held), answer(P, m, leaves), f"for P={P}, m={m}, leaves={leaves}")


@exercise("15.4")
def tree_modules(answer: Callable) -> None:
    """Distinct modules, counted by what passes them."""
    for P, points in ((4, {"a": 4, "b": 4, "c": 3, "d": 3}), (4, {"a": 4, "b": 2, "c": 1, "d": 1}),
                      (5, {"a": 1, "b": 1}), (6, {"a": 5, "b": 3, "c": 3, "d": 6})):
        modules = {(stage, "trunk" if stage < p else (task if p == 1 else p))
                   for task, p in points.items() for stage in range(1, P)}
        expect(len(modules), answer(points, P), f"for P={P} and points {points}")
