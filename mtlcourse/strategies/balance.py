"""Gradient combination by balance: IMTL-G, Nash-MTL, FairGrad, Aligned-MTL, ConFIG.

Imports `strategies.algebra`, `strategies.base`. Each asks that the direction means the same to every
task, in some sense: the same projection, the same relative gain, the same fair share, the same length.
"""

import numpy as np

from .algebra import Matrix, NotConverged, Vector, minimum_norm, stationary, units
from .base import GramStrategy, Number, positive
from .gram import RESOLUTION


class MovingStrategy(GramStrategy):
    """Base of strategies whose equation has no solution with a zero gradient in it: such tasks get weight zero.

    A subclass defines `among`, for cosines C and lengths n > 0 of the tasks that have a gradient.
    """

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        C, n = units(K)
        moving = np.flatnonzero(n)
        weights = np.zeros_like(n)
        weights[moving] = self.among(C[np.ix_(moving, moving)], n[moving])
        return weights

    def among(self, C: Matrix, n: Vector) -> Vector:
        raise TypeError(f"{type(self).__name__} must define among(C, n).")


class EqualProjections(MovingStrategy):
    """IMTL-G: a direction with the same projection on every task gradient.

    `d = sum_t a_t g_t` with `d . g_t / |g_t|` equal for all t and sum a = 1: `a = K^-1 n / (1^T K^-1 n)`, n_t = |g_t|.
    Weights may be negative. Heads keep their own unweighted gradients.

    Scale: weights sum to m (number of tasks that have a gradient; one without gets zero).
    Source: Liu et al., Towards Impartial Multi-task Learning, 2021, equation 6. Solved as the linear system `K a = p
    n`, sum a = 1, in a and the common projection p, by least squares of smallest norm: for dependent gradients there
    are many solutions, and at a Pareto-stationary point p = 0 is one. Raises ArithmeticError when no weights with sum
    one give equal projections.
    """

    def among(self, C: Matrix, n: Vector) -> Vector:
        k, b = len(n), n.min() / n
        system = np.block([[C, -np.ones((k, 1))], [b[None], np.zeros((1, 1))]])
        right = np.append(np.zeros(k), 1.0)
        solution = np.linalg.lstsq(system, right, rcond=RESOLUTION * k)[0]
        if np.abs(system @ solution - right).max() > 1e-3:
            raise NotConverged("IMTL-G: no weights with sum one give all tasks the same projection.")
        a = solution[:k] / n
        return k * a / a.sum()


class FairShares(MovingStrategy):
    """FairGrad: the direction that is alpha-fair in how much each loss falls.

    `K a = a^(-1/alpha)`, a > 0: task t gains `(K a)_t`, and the sum of `gain^(1 - alpha) / (1 - alpha)` is greatest.
    Heads keep their own unweighted gradients.

    alpha: > 0; 1 is proportional fairness (Nash-MTL), large alpha looks after the task that gains least.
    Scale: as printed, so it does not follow the gradients' scale linearly: gradients c times as long give
    weights `c^(-2 alpha / (1 + alpha))` times as large. A task with zero gradient gets weight zero.
    Source: Ban and Ji, Fair Resource Allocation in Multi-Task Learning, 2024, equation 4. The solution is the minimum
    of a convex function, found by Newton's method. At a Pareto-stationary point there is none: the weights are those
    of MGDA, whose direction is zero. Raises ArithmeticError when the solution was not found: so far seen for alpha = 10
    and gradients that differ in length by five decades.
    """

    def __init__(self, alpha: Number = 2.0):
        super().__init__()
        self.alpha = positive("alpha", alpha)

    def among(self, C: Matrix, n: Vector) -> Vector:
        if stationary(C):
            return len(n) * minimum_norm(C * n[:, None] * n)
        return fair_weights(C, n, self.alpha)


class NashBargaining(FairShares):
    """Nash-MTL: the direction on which the tasks would agree as bargainers.

    `K a = 1 / a`, a > 0: the product of the gains `(K a)_t` is greatest among directions of that length; the
    direction has `|d|^2 = m` whatever the gradients' scale. Heads keep their own unweighted gradients.

    Scale: as printed; gradients c times as long give weights 1/c times as large. A task with zero gradient gets
    weight zero.
    Source: Navon et al., Multi-Task Learning as a Bargaining Game, 2022, claim 3.1. Departs from the authors' code,
    which keeps the weights of earlier steps between updates and stops its solver early; here each step is solved. At
    a Pareto-stationary point there is no solution: the weights are those of MGDA, whose direction is zero.
    """

    def __init__(self):
        super().__init__(alpha=1.0)


def fair_weights(C: Matrix, n: Vector, alpha: float) -> Vector:
    """a > 0 with `K a = a^(-1/alpha)`, K = diag(n) C diag(n), by Newton's method on a convex function.

    For b_t = n_t a_t, the weights of unit vectors, row t reads `(C b)_t = r_t b_t^(-1/alpha)` with `r_t =
    n_t^(1/alpha - 1)`: the minimum of the convex function that has the difference as its slope.
    """
    typical = np.exp(np.log(n).mean())
    n = n / typical
    r = n ** (1 / alpha - 1)
    b = r ** (alpha / (1 + alpha))  # the solution for orthogonal gradients

    def slope(b: Vector) -> Vector:
        return C @ b - r * b ** (-1 / alpha)

    for _ in range(500):
        wanted = r * b ** (-1 / alpha)
        if (np.abs(slope(b)) <= 1e-10 * wanted + 1e-15 * (np.abs(C) @ b)).all():  # the second: what rounding leaves
            return typical ** (-2 * alpha / (1 + alpha)) * b / n
        # In relative steps, b (1 + z): the matrix is then well scaled however different the tasks are.
        H = C * b[:, None] * b + np.diag(wanted * b / alpha)
        z = np.linalg.solve(H, -slope(b) * b)
        step = min(1.0, 0.9 / max(-z.min(), 1e-300))
        downhill = slope(b) * b @ z
        while slope(b * (1 + step * z)) * b @ z > -0.5 * downhill:  # too far: uphill again, and steeply
            step /= 2
        b = b * (1 + step * z)
    raise NotConverged(f"K a = a^(-1/{alpha:g}) was not solved within 500 Newton steps; the lengths of the gradients "
                       f"differ by a factor {n.max() / n.min():.3g}. Use a smaller alpha.")


class Aligned(GramStrategy):
    """Aligned-MTL: make the gradients orthogonal and equally long, changing them as little as possible, and add up.

    `K = V L V^T`, `a = sqrt(l_min) V L^(-1/2) V^T 1`, over the eigenvalues above the rank tolerance, l_min the smallest
    of these. Heads keep their own unweighted gradients.

    Scale: as printed; for orthogonal gradients of one length this is equal weighting.
    Source: Senushkin et al., Independent Component Alignment for Multi-Task Learning, 2023, equation 9. Rank tolerance:
    m times the precision of float32 times the largest eigenvalue, since products come from float32 gradients; a task
    whose gradient is smaller than that beside the others counts as one without gradient.
    """

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        values, V = np.linalg.eigh(K)
        kept = values > len(K) * RESOLUTION * values[-1]
        values, V = values[kept], V[:, kept]
        return np.sqrt(values[0]) * V @ (V.sum(0) / np.sqrt(values))


class ConflictFree(MovingStrategy):
    """ConFIG: a direction that makes the same angle with every gradient, as long as all their shadows on it together.

    With unit gradients `u_t = g_t / |g_t|`, the unit vector e along `U^+ 1` has the same product with every u_t; `d =
    (sum_t g_t . e) e`. As U^+ = U^T C^+ for their cosines C, `b = C^+ 1` are weights of unit gradients and `d = (n^T C
    b / b^T C b) sum_t b_t u_t`, n_t = |g_t|. Weights may be negative. Heads keep their own unweighted gradients.

    Scale: as printed; equal weighting's for identical gradients. A task with zero gradient gets weight zero.
    Source: Liu, Chu and Thuerey, ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks, 2024,
    equation 2. The pseudo-inverse takes eigenvalues of C above m times the precision of float32. If no direction has
    the same positive product with all (two opposite gradients), nothing moves.

    >>> ConflictFree().among(np.eye(2), np.array([3.0, 1.0])).round(6).tolist()  # |d| = 4 / sqrt 2, along u_1 + u_2
    [0.666667, 2.0]
    """

    def among(self, C: Matrix, n: Vector) -> Vector:
        b = np.linalg.pinv(C, rcond=len(n) * RESOLUTION, hermitian=True).sum(1)
        square = b @ C @ b
        return np.zeros_like(n) if square <= len(n) * RESOLUTION else (n @ C @ b) / square * b / n
