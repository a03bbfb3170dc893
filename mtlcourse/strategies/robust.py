"""Robust means, from learning with workers of whom some lie: Krum, trimmed mean. Imports `files`, `strategies.base`.

There the rows are gradients of one loss, and what is far from the others is suspicious. Of several tasks it may just as
well be the one that would need the step most: these are baselines, and not remedies.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..files import is_whole
from .algebra import Matrix, Vector
from .base import DirectionStrategy, GramStrategy
from .gram import RESOLUTION


def count(option: str, value: int, least: int) -> int:
    """`value`, if it is a whole number of at least `least`; ValueError if not."""
    if not is_whole(value, least):
        raise ValueError(f"{option} is {value!r}; it must be a whole number of {least} or more.")
    return value


class Krum(GramStrategy):
    """Krum: take the gradients that have the others nearest to them.

    Of m gradients, of which f may be anything: the score of g_t is the sum of the squared distances to the m - f - 2
    gradients nearest to it; the `selected` gradients with the smallest scores count alike (Krum for one, Multi-Krum for
    more), and those that tie share what is left. Heads keep their own unweighted gradients.

    byzantine: f.  selected: how many gradients count; at most all of the step.
    Scale: mean direction multiplied by m. With fewer than f + 3 tasks nobody has a neighbour to be measured by: all
    tie, and this is equal weighting.
    Source: Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, 2017, section 4.
    Scores that differ by less than products of float32 gradients can tell count as ties. Departs from TorchJD 0.18,
    which adds up distances where the paper has their squares.

    >>> Krum().solve(np.diag([1.0, 1.0, 4.0]) + 1, np.ones(3), np.arange(3)).tolist()
    [1.5, 1.5, 0.0]
    """

    def __init__(self, byzantine: int = 0, selected: int = 1):
        super().__init__()
        self.byzantine, self.selected = count("byzantine", byzantine, 0), count("selected", selected, 1)

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        k, squares = len(K), np.diagonal(K)
        distances = np.clip(squares[:, None] + squares - 2 * K, 0, None)
        np.fill_diagonal(distances, np.inf)
        scores = np.sort(distances, 1)[:, : max(k - self.byzantine - 2, 0)].sum(1)
        selected, rounding = min(self.selected, k), k * RESOLUTION * squares.max()
        last = np.sort(scores)[selected - 1]
        taken = (scores < last - rounding).astype(float)
        tied = (scores <= last + rounding) & (taken == 0)
        return k * (taken + tied * (selected - taken.sum()) / tied.sum()) / selected


class TrimmedMean(DirectionStrategy):
    """Trimmed mean: at each coordinate, leave out the largest and the smallest entries, and average the others.

    With the m entries of a coordinate in order: the mean of those from number trim + 1 to m - trim. Heads keep their
    own unweighted gradients.

    trim: how many entries are left out at either end; in a step with 2 trim tasks or fewer, as many as leave one or
    two.
    Scale: mean direction multiplied by m; equal weighting's for identical gradients, and for one or two tasks.
    Source: Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, 2018, definition 2.
    Needs all m gradients in one matrix, which takes as much memory again.

    >>> TrimmedMean().bind("abc").direction(torch.tensor([[1.0, 5.0], [2.0, 6.0], [9.0, -7.0]])).tolist()
    [6.0, 15.0]
    """

    def __init__(self, trim: int = 1):
        super().__init__()
        self.trim = count("trim", trim, 0)

    def direction(self, gradients: Float[Tensor, "m n"],
                  losses: Float64[Tensor, "m"] | None = None) -> Float[Tensor, "n"]:
        rows = [row for row, here in zip(gradients, self.here.tolist(), strict=True) if here]
        k = len(rows)
        for _ in range(min(self.trim, (k - 1) // 2)):
            rows = without_extremes(rows)
        return k * torch.stack(rows).mean(0)


def without_extremes(rows: list[Tensor]) -> list[Tensor]:
    """The rows without the largest and the smallest entry of each coordinate, which wander to the ends.

    Neighbours change places: ten times as fast as sorting all of it.
    """
    rows = list(rows)
    for up in (*range(1, len(rows)), *reversed(range(1, len(rows) - 1))):
        rows[up - 1], rows[up] = torch.minimum(rows[up - 1], rows[up]), torch.maximum(rows[up - 1], rows[up])
    return rows[1:-1]
