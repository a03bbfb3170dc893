"""Checks of notebook 01, two tasks and one network. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import exercise, expect


@exercise("01.1")
def hps_size(answer: Callable) -> None:
    """One encoder, m heads."""
    for m, encoder, head in ((2, 16400, 330), (5, 100, 7)):
        expect(encoder + m * head, answer(m, encoder, head), f"for m={m}, encoder={encoder}, head={head}")


@exercise("01.2")
def shared_optimum(answer: Callable) -> None:
    """a (theta - 1) + (theta + 1) = 0."""
    for a in (1.0, 3.0, 0.5):
        expect((a - 1) / (a + 1), answer(a), f"for a={a}")


@exercise("01.3")
def cosine(answer: Callable) -> None:
    """g.h / (|g| |h|), zero where a norm is zero."""
    cases = [([1.0, 0.0], [1.0, 1.0], 0.5**0.5), ([2.0, 0.0], [-3.0, 0.0], -1.0), ([0.0, 0.0], [1.0, 2.0], 0.0)]
    for g, h, expected in cases:
        given = torch.tensor(g, dtype=torch.float64), torch.tensor(h, dtype=torch.float64)
        expect(expected, answer(*given), f"for g={g} and h={h}")
