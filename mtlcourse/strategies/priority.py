"""Gradient combination by rank: PCD, where one task goes first. Imports `files`, `strategies.algebra`,
`strategies.base`."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from ..files import unknown
from .algebra import Matrix, Vector, least_squares, root, units
from .base import GramStrategy, Number, Strategy
from .gram import RESOLUTION


class PriorityConstrained(GramStrategy):
    """Priority-constrained descent (PCD): follow one task's gradient, as far as each other task gains its share.

    `min_d |d - s_p g_p|^2` subject to `s_j g_j . d >= tau |s_j g_j|^2` for all other tasks j, and then d is brought to
    the length of g_p; p is the primary task, and `s_t = 1 / sqrt(v_t)` with v_t the exponential mean of |g_t|^2 over
    the steps, corrected for its start at zero. Heads keep their own unweighted gradients.

    primary: name of the primary task (default: the first).  tau: in [0, 1], the part of the gain that a step along a
        task's own gradient would bring, which it is sure to have.  beta: in [0, 1), how slowly v follows.
    Scale: as printed, the length of the primary task's gradient. Where that is zero, or in a step without that task, no
    shared parameter moves. If not all can have their share, d = g_p.
    Source: Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical Multi-Objective
    Optimization, 2026, as the documentation of TorchJD 0.18 states it. Solved exactly as a least-distance problem by
    non-negative least squares (Lawson and Hanson, Solving Least Squares Problems, chapter 23). Departs from it in that
    v has no constant added, which would change the result for small gradients.
    Raises ValueError for a primary task that is not there.

    >>> first = PriorityConstrained(tau=1.0).bind(["left", "right"])
    >>> first.weights(torch.ones(2).double(), torch.eye(2).double()).shared.mul(2**0.5).round(decimals=6).tolist()
    [1.0, 1.0]
    """

    def __init__(self, primary: str | None = None, tau: Number = 0.02, beta: Number = 0.999):
        super().__init__()
        if not 0 <= tau <= 1:
            raise ValueError(f"tau is {tau}; it must be from 0 to 1.")
        if not 0 <= beta < 1:
            raise ValueError(f"beta is {beta}; it must be from 0 to below 1.")
        self.primary, self.tau, self.beta = primary, float(tau), float(beta)

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        if self.primary is not None and self.primary not in self.tasks:
            raise ValueError(f"The primary task of PCD is not there. {unknown('task', str(self.primary), self.tasks)}")
        self.first = 0 if self.primary is None else self.tasks.index(self.primary)
        self.squares: torch.Tensor
        for name in ("squares", "steps"):
            self.register_buffer(name, torch.zeros(self.m, dtype=torch.float64))
        return self

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        C, n = units(K)
        self.steps[here] += 1
        self.squares[here] = self.beta * self.squares[here] + (1 - self.beta) * torch.from_numpy(n**2)
        v = (self.squares[here] / (1 - self.beta ** self.steps[here])).numpy()
        length = np.divide(n, np.sqrt(v), out=np.zeros_like(n), where=n > 0)  # of the s_t g_t
        p = here.tolist().index(self.first) if self.first in here else -1
        if p < 0 or n[p] == 0:
            return np.zeros_like(n)
        b = nearest_with_gains(C, p, self.tau * length / length[p], n > 0)
        square = b @ C @ b
        if square <= len(n) * RESOLUTION * (b @ b):  # d is zero, as far as float32 products can tell
            return np.zeros_like(n)
        return np.divide(n[p] / np.sqrt(square) * b, n, out=np.zeros_like(n), where=n > 0)


def nearest_with_gains(C: Matrix, p: int, gains: Vector, moving: Bool[np.ndarray, "k"]) -> Vector:
    """Weights b of the unit vectors u, with cosines C, of the `d = sum_t b_t u_t` nearest to u_p with `u_j . d >=
    gains_j` for all other j that are `moving`; u_p alone where no d has all that.

    `x = d - u_p` is the shortest with `u_j . x >= h_j = gains_j - u_j . u_p`: with y the non-negative least squares
    solution of `[U; h^T] y = [0; 1]`, `x = sum_j y_j u_j / (1 - h . y)`, and `1 - h . y = 1 / (1 + |x|^2)`, zero if
    there is none.
    """
    b = np.eye(len(C))[p]
    others = np.flatnonzero(moving & (b == 0))
    h = (gains - C[p])[others]
    y = least_squares(np.vstack([root(C)[:, others], h]), np.append(np.zeros(len(C)), 1.0)) if len(others) else h
    room = 1 - h @ y
    if room > len(C) * RESOLUTION:
        b[others] = y / room
    return b
