"""Gaussian averages: how well the richest member of a class can follow noise. Imports nothing of the house.

`G(S) = E sup over s in S of <gamma, s>`, where gamma has independent standard normal entries: for the outputs of a
class of functions on a sample it is what the bounds of this package pay for the choice among them.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

BLOCK = 2**22  # products of gamma with points that are held at once
STEP, REACH = 0.25, 76.0  # of the sum in `mean_root`: what they leave out is below the rounding of a float


class GaussianAverage(float):
    """A Gaussian average as a number that knows how far off it may be.

    error: its standard error; 0 where it is exact.
    exact: False where it is the mean over random draws.

    >>> average = gaussian_average([[0.0, 0.0], [3.0, 4.0]])
    >>> average, average / 2 < 1
    (1.995, True)
    """

    error: float
    exact: bool

    def __new__(cls, value: float, error: float = 0.0, exact: bool = True) -> "GaussianAverage":
        average = super().__new__(cls, value)
        average.error, average.exact = float(error), exact
        return average

    def __repr__(self) -> str:
        return f"{float(self):.4g}" if self.exact else f"{float(self):.4g} +- {self.error:.2g}"

    def __reduce__(self) -> tuple:
        return GaussianAverage, (float(self), self.error, self.exact)


def gaussian_average(points: ArrayLike, draws: int = 10_000, seed: int = 0) -> GaussianAverage:
    """`G(S) = E sup over s in S of <gamma, s>` of a finite set S of points; gamma is standard normal.

    One point: 0. Two points a, b: `|a - b| / sqrt(2 pi)`. More: the mean over `draws` of half the width of S along
    gamma, `(max - min of <gamma, s>) / 2`, which has the same expectation as the maximum and varies less.

    points: (k, d), one a row; repeated ones count once.
    draws, seed: of gamma; the same seed gives the same number.
    Raises ValueError for no points, a shape that is not (k, d), numbers that are not finite, or fewer than 2 draws.
    Source: Deep Safe Multi-Task Learning, theorem 6; it takes the definition from Bartlett and Mendelson (2002), who
    print a factor 2 / n and absolute values, which are not here.

    >>> gaussian_average([[1.0], [1.0]]), gaussian_average([[0.0], [1.0]])
    (0, 0.3989)
    >>> gaussian_average([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).exact
    False
    """
    S = _matrix(points, "points")
    if draws < 2:
        raise ValueError(f"draws is {draws}; a standard error needs at least 2.")
    S = S - S[0]  # <gamma, a> has mean 0 for every fixed a, so a translation changes nothing
    scale = np.abs(S).max(initial=0.0)
    if scale == 0:
        return GaussianAverage(0.0)
    S /= scale
    other = S[S.any(axis=1)][0]
    if ((S == other).all(axis=1) | ~S.any(axis=1)).all():
        return GaussianAverage(scale * float(np.linalg.norm(other)) / math.sqrt(2 * math.pi))
    if len(S) < S.shape[1]:
        S = np.transpose(np.linalg.qr(S.T, mode="r"))  # the same inner products in fewer dimensions
    random, rows = np.random.default_rng(seed), max(1, BLOCK // len(S))
    halves = np.concatenate([np.ptp(random.standard_normal((min(rows, draws - start), S.shape[1])) @ S.T, axis=1)
                             for start in range(0, draws, rows)]) / 2
    return GaussianAverage(scale * halves.mean(), scale * halves.std(ddof=1) / math.sqrt(draws), exact=False)


def gaussian_average_linear(X: ArrayLike, bound: float, outputs: int = 1) -> GaussianAverage:
    """The Gaussian average of the linear maps `x -> W x` with `|W|_F <= bound` on the sample X; exact.

    The supremum over W of `sum_i <gamma_i, W x_i> = <W, sum_i gamma_i x_i^T>` is `bound` times a Frobenius norm, so
    `G = bound * E sqrt(sum over outputs of gamma_o^T X X^T gamma_o)`: the mean root of a sum of squares of normal
    numbers, weighted by the eigenvalues of `X X^T`, each of them once an output (see `mean_root`). It is at most
    `bound * sqrt(outputs) * |X|_F`, which is `O(sqrt(n))` for inputs of bounded length.

    X: (n, d), one input a row.  outputs: rows of W.
    Raises ValueError for an empty X, numbers that are not finite, a negative bound, or less than one output.

    >>> gaussian_average_linear([[3.0, 4.0]], bound=1.0)  # one input: its length times E |gamma| = sqrt(2 / pi)
    3.989
    """
    X = _matrix(X, "X")
    if not 0 <= bound < math.inf:
        raise ValueError(f"bound is {bound}; the largest norm of W is a number of at least 0.")
    if outputs < 1:
        raise ValueError(f"outputs is {outputs}; W has at least 1 row.")
    scale = np.abs(X).max()  # so that no square leaves the range of a float
    if scale == 0:
        return GaussianAverage(0.0)
    return GaussianAverage(bound * (scale * mean_root(np.linalg.svd(X / scale, compute_uv=False) ** 2, outputs)))


def mean_root(weights: ArrayLike, repeats: int = 1) -> float:
    """`E sqrt(Q)` for `Q = sum_i weights_i (gamma_i1^2 + ... + gamma_ik^2)`, k = `repeats`, exact to rounding.

    From `sqrt(Q) = 1/(2 sqrt(pi)) int_0^inf (1 - e^(-s Q)) s^(-3/2) ds` and `E e^(-s Q) = prod_i (1 + 2 s
    weights_i)^(-k/2)`. With s = e^u the integrand falls like `e^(-|u|/2)` to both sides and is analytic for |Im u| <
    pi, where a plain sum over equal steps of u is exact up to a term that vanishes exponentially in 1 / step.

    weights: (r,), not negative.

    >>> round(mean_root([1.0]), 12) == round(math.sqrt(2 / math.pi), 12)
    True
    """
    weights = np.asarray(weights, dtype=float)
    mean = repeats * weights.sum()  # of Q: the sum runs over Q / mean, whose root has a mean between 0.79 and 1
    if mean == 0:
        return 0.0
    u = np.arange(-REACH, REACH + STEP, STEP)
    transform = -0.5 * repeats * np.log1p(2 * np.exp(u)[:, None] * (weights / mean)).sum(axis=1)
    return float(math.sqrt(mean) * STEP * (-np.expm1(transform) * np.exp(-u / 2)).sum() / (2 * math.sqrt(math.pi)))


def linear_q(bound: float, features: int, outputs: int = 1, n: int | None = None) -> float:
    """Q of the linear decoders `z -> W z` with `|W|_F <= bound`, in closed form.

    `Q = sup over z != z' of E sup over h of <gamma, h(z) - h(z')> / |z - z'|`: how much more than its distance the
    class can make of two samples z, z' of n features each. With r = min(n, features) and k = outputs
    `Q = bound * sqrt(2 / r) * Gamma((r k + 1) / 2) / Gamma(r k / 2)`, at most `bound * sqrt(outputs)` for all n.

    Proof. Let V (n, features) be z - z'. The supremum over W is `bound * |sum_i gamma_i v_i^T|_F`, and its mean, as
    in `gaussian_average_linear`, is `bound * E sqrt(sum_i l_i c_i)` with the eigenvalues l of `V V^T`, whose sum is
    `|V|^2`, and independent chi-squared c with k degrees of freedom. At most r of the eigenvalues are not 0. For
    |V| = 1 the mean is a concave and symmetric function of (l_1, ..., l_r) on the simplex, so it is largest where all
    are 1 / r; there it is the mean length of r k normal numbers over sqrt(r). V with orthonormal columns (or rows)
    attains it.

    features: of the encoder, the paper's q.  n: samples; None: at least as many as features.
    Raises ValueError for a negative or infinite bound, and counts below 1.
    Source: Deep Safe Multi-Task Learning, theorem 2, which defines Q for any class of decoders.

    >>> round(linear_q(1.0, features=1), 4), round(linear_q(1.0, features=32), 4)
    (0.7979, 0.9922)
    """
    from scipy.special import poch  # Gamma(a + 1/2) / Gamma(a) without overflow

    counts = {"features": features, "outputs": outputs, "n": features if n is None else n}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; it must be at least 1.")
    if not 0 <= bound < math.inf:
        raise ValueError(f"bound is {bound}; the largest norm of W is a number of at least 0.")
    r = min(features, counts["n"])
    return bound * math.sqrt(2 / r) * float(poch(r * outputs / 2, 0.5))


def _matrix(values: ArrayLike, name: str) -> np.ndarray:
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} has shape {matrix.shape}; it must be a matrix, one point a row, at least one.")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} holds NaN or infinite numbers; a Gaussian average needs finite ones.")
    return matrix
