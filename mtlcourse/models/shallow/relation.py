"""Which shallow methods are saliency-regularised ones: trace penalties as sums over pairs of tasks.

Imports `files`. With linear tasks on the inputs themselves, the saliency of task t is w_t, its weights, for every
sample. The regulariser is then `sum_{i<j} omega_ij dist(w_i, w_j)`, omega >= 0, and shallow methods have
`tr(W P W^T) / 2 = sum_ij P_ij <w_i, w_j> / 2`, P = Sigma^-1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from ...files import unknown

DISTANCES = ("inner", "squared l2")


@dataclass(frozen=True)
class Pairs:
    """omega, symmetric, whose regulariser equals the trace penalty for all W; None where there is none, and why."""

    omega: Float64[np.ndarray, "tasks tasks"] | None
    reason: str

    def __bool__(self) -> bool:
        return self.omega is not None


def as_pairs(precision: Any, distance: str = "inner", own: bool = False, rounding: float = 1e-9) -> Pairs:
    """omega >= 0 with `sum_{i<j} omega_ij dist(w_i, w_j) = tr(W P W^T) / 2` for all W, if there is one.

    Two quadratic forms agree for all W only if their matrices do. On the left these are, of
    - distance="inner", `<w_i, w_j>`: omega / 2 with a zero diagonal, against P / 2. So it needs P with a zero diagonal
      and nothing negative. Such a P is not positive definite, nor even semidefinite unless zero: **no** inverse
      covariance is one. The penalty would have no least value, either: w_1 = -w_2 makes it as low as one likes.
    - distance="squared l2", `|w_i - w_j|^2`: the graph Laplacian, with -omega off the diagonal and rows that sum to
      zero, against P / 2. So it needs P off the diagonal not positive and with rows that sum to zero. Such a P is
      positive semidefinite and singular: equal weights cost nothing. It is no inverse of a covariance, but the
      limit of some, as the variance of what all tasks have in common grows without bound.

    precision: P = Sigma^-1, (tasks, tasks), symmetric.
    own: also the pairs i = i, which the proof in the source counts and its equations 3 and 4 do not, as
        `sum_{i <= j}`: for "inner" the diagonal of P is then free to be positive, P = I is ridge regression, and
        what fails is any P_ij < 0 -- every inverse covariance, not diagonal, of tasks of which none go against each
        other (Sigma_ij >= 0). For "squared l2" those pairs are zero.
    rounding: entries up to this share of the largest one count as zero.
    A covariance of features, `tr(W^T Theta^-1 W)`, is no case of its own: for W with one task's weights alone the left
    side is zero or a multiple of |w_1|^2, so Theta^-1 = c I, which is P = c I. Nor can the proof's omega, of (tasks,
    tasks), be Theta^-1, of (features, features).
    Raises ValueError for another distance, and for a precision that is no symmetric matrix.
    Source: Saliency-Regularized Deep Multi-Task Learning, section 4.2 and appendix A.3, which claim it of all.

    >>> bool(as_pairs([[2, -1], [-1, 2]])), bool(as_pairs([[1, 0], [0, 1]], own=True))
    (False, True)
    >>> as_pairs([[2, -2], [-2, 2]], "squared l2").omega.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if distance not in DISTANCES:
        raise ValueError(unknown("distance", str(distance), DISTANCES))
    P = np.asarray(precision, np.float64)
    if P.ndim != 2 or P.shape[0] != P.shape[1] or not np.isfinite(P).all() or not np.allclose(P, P.T):
        raise ValueError(f"The precision must be a finite, symmetric matrix of tasks; it has shape {P.shape}.")
    P = np.where(np.abs(P) <= rounding * np.abs(P).max(), 0, P)
    off = P - np.diag(np.diag(P))
    if distance == "inner":
        if off.min() < 0:
            return Pairs(None, f"P_ij = {off.min():g} < 0 for some pair, and omega_ij would be P_ij.")
        if not own and np.diag(P).any():
            return Pairs(None, f"P_ii = {np.abs(np.diag(P)).max():g} for some task, and no pair i < j has <w_i, w_i>.")
        if own and np.diag(P).min() < 0:
            return Pairs(None, f"P_ii = {np.diag(P).min():g} < 0 for some task, and omega_ii would be P_ii / 2.")
        return Pairs(off + np.diag(np.diag(P)) / 2, "omega_ij = P_ij" + (", omega_ii = P_ii / 2." if own else "."))
    if off.max() > 0:
        return Pairs(None, f"P_ij = {off.max():g} > 0 for some pair, and omega_ij would be -P_ij / 2.")
    sums = P.sum(1)
    worst = sums[np.abs(sums).argmax()]
    if abs(worst) > rounding * len(P) * np.abs(P).max():
        return Pairs(None, f"A row of P sums to {worst:g}: equal weights have a cost, but no distance.")
    return Pairs(np.abs(off) / 2, "omega_ij = -P_ij / 2: P is a graph's Laplacian, twice.")
