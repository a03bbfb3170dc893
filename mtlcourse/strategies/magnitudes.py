"""Gradients of one length, that of who falls least: the scaling half of RotoGrad.

Imports `files`, `strategies.base`.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..files import is_whole
from .base import GramStrategy, Strategy


class EqualMagnitudes(GramStrategy):
    """RotoGrad's scaling: all gradients get one length, at which tasks count more whose gradients have fallen less.

    `w_t = C / |g_t|` with `C = sum_t alpha_t |g_t|`, `alpha_t = r_t / sum_s r_s` and `r_t = |g_t| / |g_t^0|`, the part
    of its first length that a gradient still has. g_t^0 is the gradient of the task's first step, and from step
    `burn_in` on that of step `burn_in`, because the first ones change quickly.

    burn_in: steps of a task, zero or more, ValueError for others; 0 keeps the first.
    Scale: all weighted gradients have the length C, a mean of their lengths; weights sum to m where these are equal.
    Source: A. Javaloy, I. Valera, RotoGrad: Gradient Homogenization in Multitask Learning, ICLR 2022, as
    the authors' public code has it, burn-in included. There lengths are those at the shared representation: with
    `fit(at="features")` they are here too; by default they are those on shared parameters. With the architecture
    `rotograd`, whose rotations are the other half, it is the whole method: "rotograd+rotograd-scale".
    A gradient of zero has weight one, which changes nothing; a first one of zero is no length to compare with, and
    until there is another the task counts as one whose gradient has not fallen.

    >>> scaling = EqualMagnitudes().bind(["left", "right"])
    >>> for squares in ([1.0, 9.0], [1.0, 1.0]):
    ...     K = torch.diag(torch.tensor(squares)).double()
    ...     print([round(w, 3) for w in scaling.weights(torch.ones(2).double(), K).shared.tolist()])
    [2.0, 0.667]
    [1.0, 1.0]
    """

    def __init__(self, burn_in: int = 20):
        super().__init__()
        if not is_whole(burn_in, 0):
            raise ValueError(f"burn_in is {burn_in!r}; it is a number of steps, zero or more.")
        self.burn_in = burn_in

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.first: Tensor
        self.steps: Tensor
        self.register_buffer("first", torch.full((self.m,), float("nan"), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(self.m, dtype=torch.int64))
        return self

    def solve(self, K: Float64[np.ndarray, "k k"], losses: Float64[np.ndarray, "k"],
              here: Int[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
        lengths, first, steps = np.sqrt(K.diagonal()), self.first[here].numpy(), self.steps[here].numpy()
        anew = (lengths > 0) & (np.isnan(first) | ((steps == self.burn_in) & (steps > 0)))
        first = np.where(anew, lengths, first)
        self.first[here], self.steps[here] = torch.from_numpy(first), torch.from_numpy(steps + 1)
        left = np.where(np.isnan(first), 1.0, lengths / first)
        C = left @ lengths / left.sum()
        return np.divide(C, lengths, out=np.ones_like(lengths), where=lengths > 0)
