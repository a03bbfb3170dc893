"""Small solvers behind the gradient strategies: all in float64, on m x m matrices.

Imports `strategies.gram`. Tasks' gradients differ in length by any factor, so everything is solved for
unit vectors: `C[s, t] = cos(g_s, g_t)` and lengths n; a weight on g_t is then a weight on a unit vector
over n_t. A solver that does not converge raises.
"""

import numpy as np
from jaxtyping import Float64

from .gram import RESOLUTION

Matrix = Float64[np.ndarray, "k k"]
Vector = Float64[np.ndarray, "k"]


class NotConverged(ArithmeticError):
    """A solver did not reach its solution; the message says which."""


def units(K: Matrix) -> tuple[Matrix, Vector]:
    """`(C, n)`: cosines and lengths of the gradients behind K; a zero gradient has cosine zero with all others."""
    n = np.sqrt(np.clip(np.diagonal(K), 0, None))
    inverse = np.divide(1.0, n, out=np.zeros_like(n), where=n > 0)
    C = np.clip(K * inverse[:, None] * inverse, -1, 1)
    np.fill_diagonal(C, 1.0)
    return C, n


def root(C: Matrix) -> Matrix:
    """L with `L^T L = C`: its columns are m vectors in m dimensions with the Gram matrix C."""
    values, vectors = np.linalg.eigh(C)
    return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T


def least_squares(A: Float64[np.ndarray, "rows k"], b: Float64[np.ndarray, "rows"]) -> Vector:
    """`argmin |A x - b|` over x >= 0, by active sets (`scipy.optimize.nnls`). Raises `NotConverged`."""
    from scipy.optimize import nnls  # here, for it takes longer to import than the rest of this package

    try:
        return nnls(A, b, maxiter=50 * A.shape[1])[0]
    except RuntimeError as error:
        raise NotConverged(f"Non-negative least squares for {A.shape[1]} tasks did not end ({error}).") from error


def shortest_of(V: Float64[np.ndarray, "d k"]) -> Vector:
    """Weights w >= 0, sum one, of the shortest convex combination of the columns of V: `argmin |V w|`, exact.

    With x_t = w_t n_t and unit columns L_t = V_t / n_t, minimise `|L x|` where `sum x_t / n_t = 1`. For b_t = 1 /
    n_t, scaled to maximum one, the non-negative least squares problem `[L; b^T] x = [0; 1]` has the solution up to a
    factor: among the x with the same b^T x, it takes the one with the shortest L x. If columns are zero, all weight
    is on them. Raises `NotConverged` if a column could be exchanged for a shorter result (the optimality conditions).
    """
    n = np.linalg.norm(V, axis=0)
    if not n.all():
        return (n == 0) / (n == 0).sum()
    L, b = V / n, n.min() / n
    x = least_squares(np.vstack([L, b]), np.append(np.zeros(len(L)), 1.0))
    x /= b @ x
    image = L @ x
    if (L.T @ image - (image @ image) * b).min() < -1e-8:
        raise NotConverged("The shortest combination of gradients was not found: it is not optimal.")
    w = x / n
    return w / w.sum()


def minimum_norm(K: Matrix) -> Vector:
    """`argmin w^T K w` over w >= 0, sum one: exact."""
    C, n = units(K)
    return shortest_of(root(C) * n)


def stationary(C: Matrix) -> bool:
    """True if some convex combination of unit gradients with cosines C is zero, as far as float32 products can tell.

    Then no direction makes all losses fall: the point is Pareto stationary.
    """
    x = minimum_norm(C)
    return bool(x @ C @ x <= len(C) * RESOLUTION)
