"""Checks of notebook 13, deep safe multi-task learning. Imports `exercises`."""

import math
from collections.abc import Callable

import torch

from . import NotYet, exercise, expect


@exercise("13.1")
def dsmtl_size(answer: Callable) -> None:
    """m whole private encoders, the first p public modules, m decoders, m gates."""
    for sizes, head, m, p in (([80, 1168, 2320, 12832], 330, 2, 4), ([10, 20, 30], 5, 3, 1)):
        expected = m * (sum(sizes) + head + 1) + sum(sizes[:p])
        expect(expected, answer(sizes, head, m, p), f"for sizes={sizes}, head={head}, m={m}, p={p}")


@exercise("13.2")
def gate_step(answer: Callable) -> None:
    """alpha - lr <g, public - private>, then the nearest point of [0, 1]."""
    g, public, private = _features([[1.0, -2.0], [0.5, 0.0]], [[1.0, 0.0], [2.0, 2.0]], [[0.0, 1.0], [0.0, 1.0]])
    for alpha, lr, expected in ((0.5, 0.05, 0.3), (0.5, 0.2, 0.0), (0.7, -0.1, 1.0)):
        expect(expected, answer(alpha, g, public, private, lr), f"for alpha={alpha}, lr={lr}, <g, f_S - f_t>=4")


@exercise("13.3")
def best_gate(answer: Callable) -> None:
    """<y - f, s - f> / |s - f|^2, clamped."""
    s, f = _features([[1.0, 0.0], [2.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]])
    across = torch.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)  # orthogonal to s - f: must not matter
    for alpha in (0.25, -0.5, 1.5):
        expected = min(1.0, max(0.0, alpha))
        expect(expected, answer(s, f, f + alpha * (s - f) + across), f"for a target at {alpha} of the way from f to s")


@exercise("13.4")
def to_close(answer: Callable) -> None:
    """Those whose loss is not known to be at most the one alone."""
    cases = [({"left": 0.3, "right": 0.5}, {"left": 0.3, "right": 0.4}, ["right"]),
             ({"left": math.nan, "right": 0.1}, {"left": 0.3, "right": 0.4}, ["left"]),
             ({"left": 0.2, "right": 0.1}, {"left": 0.3, "right": 0.4}, [])]
    for together, alone, expected in cases:
        got = answer(together, alone)
        if list(got) != expected:
            raise NotYet(f"for together={together} and alone={alone}: expected {expected}, got {got}")


def _features(*rows: list[list[float]]) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64) for row in rows]
