"""What shallow methods ask of the weights W (features, tasks): values and proximal operators.

Imports nothing of this package. A penalty P sees W as a sum of parts, an array (parts, features, tasks), for one of
them takes W apart; the others have one part. `prox(A, tau)` is `argmin_V |V - A|^2 / 2 + tau P(V)`.
"""

import numpy as np
from jaxtyping import Float64

Parts = Float64[np.ndarray, "parts features tasks"]
Weights = Float64[np.ndarray, "features tasks"]
Covariance = Float64[np.ndarray, "size size"]


class Penalty:
    """A convex penalty. `parts`: how many matrices W is the sum of."""

    parts = 1

    def value(self, V: Parts) -> float:
        raise TypeError(f"{type(self).__name__} must define value(V).")

    def prox(self, A: Parts, tau: float) -> Parts:
        raise TypeError(f"{type(self).__name__} must define prox(A, tau).")

    def largest(self, G: Weights, lipschitz: float) -> float:
        """The strength at which a path begins: the least that makes W zero, or where no strength does, a heavy one.

        G: the gradient of the losses at W = 0.  lipschitz: that of the losses' gradient.
        """
        raise TypeError(f"{type(self).__name__} must define largest(G, lipschitz).")


class Entries(Penalty):
    """`|W|_1`, the sum of all absolute values: each weight for itself is zero or not."""

    def value(self, V: Parts) -> float:
        return float(np.abs(V).sum())

    def prox(self, A: Parts, tau: float) -> Parts:
        return np.sign(A) * np.maximum(np.abs(A) - tau, 0)

    def largest(self, G: Weights, lipschitz: float) -> float:
        return float(np.abs(G).max())


class Rows(Penalty):
    """`|W|_2,1 = sum_j |row j|_2`: a feature is used by all tasks or by none."""

    def value(self, V: Parts) -> float:
        return float(np.linalg.norm(V, axis=2).sum())

    def prox(self, A: Parts, tau: float) -> Parts:
        return _shrunk(A, tau, axis=2)

    def largest(self, G: Weights, lipschitz: float) -> float:
        return float(np.linalg.norm(G, axis=1).max())


class LowRankAndOutliers(Penalty):
    """`|L|_* + balance sum_t |column t of S|_2` with W = L + S: tasks that lie in few dimensions, and outliers.

    |L|_*: the trace norm, the sum of singular values.
    balance: for m tasks, only between `1 / sqrt(m)` and 1 do both parts matter. Above, S is zero: for
        `|S|_* <= sum_t |s_t|`, L takes a column over at less cost. Below, L is zero: for
        `sum_t |l_t| <= sqrt(m) |L|_*`.
    """

    parts = 2

    def __init__(self, balance: float):
        self.balance = balance

    def value(self, V: Parts) -> float:
        L, S = V
        return float(np.linalg.svd(L, compute_uv=False).sum() + self.balance * np.linalg.norm(S, axis=0).sum())

    def prox(self, A: Parts, tau: float) -> Parts:
        U, s, Vt = np.linalg.svd(A[0], full_matrices=False)
        return np.stack([(U * np.maximum(s - tau, 0)) @ Vt, _shrunk(A[1], tau * self.balance, axis=0)])

    def largest(self, G: Weights, lipschitz: float) -> float:
        return float(max(np.linalg.norm(G, 2), np.linalg.norm(G, axis=0).max() / self.balance))


class Trace(Penalty):
    """`tr(W C^-1 W^T) / 2` for a covariance C of the tasks, `tr(W^T C^-1 W) / 2` for one of the features.

    of: "tasks" or "features".  covariance: positive definite.
    """

    def __init__(self, covariance: Covariance, of: str):
        self.of = of
        self.variances, self.vectors = np.linalg.eigh(covariance)

    def _seen(self, V: Parts) -> Float64[np.ndarray, "parts others size"]:
        """Weights in the eigenvectors of C, which stand last."""
        return (V if self.of == "tasks" else V.transpose(0, 2, 1)) @ self.vectors

    def value(self, V: Parts) -> float:
        return float((self._seen(V) ** 2 / self.variances).sum() / 2)

    def prox(self, A: Parts, tau: float) -> Parts:
        shrunk = self._seen(A) * (self.variances / (self.variances + tau)) @ self.vectors.T
        return shrunk if self.of == "tasks" else shrunk.transpose(0, 2, 1)

    def largest(self, G: Weights, lipschitz: float) -> float:
        return 10 * lipschitz * float(self.variances[-1])


class LearnedTrace(Penalty):
    """`min_C tr(W C^-1 W^T) / 2` over covariances C of trace 1, which is `|W|_*^2 / 2`, half the squared trace norm.

    The least is at `C = (W^T W)^(1/2) / tr (W^T W)^(1/2)` (`learned_covariance`); with it the term is
    `(tr (W^T W)^(1/2))^2`. A covariance of features gives the same, for W and W^T have the same singular values: to
    learn how tasks go together and to learn how features do is one and the same problem in W. It is convex, and is
    solved in W at once, where the sources alternate between W and C. Each round of that lowers the objective, and for
    tasks, if there are no more of them than features, it comes to the same. For features it stops short: after one
    round C has the rank of W, and no later W leaves its span.
    """

    def value(self, V: Parts) -> float:
        return float(np.linalg.svd(V[0], compute_uv=False).sum() ** 2 / 2)

    def prox(self, A: Parts, tau: float) -> Parts:
        U, s, Vt = np.linalg.svd(A[0], full_matrices=False)
        # With k singular values left, their sum is T_k = sum_{i <= k} s_i / (1 + k tau), and each has lost tau T_k.
        sums = np.cumsum(s) / (1 + tau * np.arange(1, len(s) + 1))
        kept = max(1, int((s > tau * sums).sum()))
        return ((U * np.maximum(s - tau * sums[kept - 1], 0)) @ Vt)[None]

    def largest(self, G: Weights, lipschitz: float) -> float:
        return 10 * lipschitz / min(G.shape)  # as with C = I / m, where no more than so many dimensions have weights


def learned_covariance(W: Weights, of: str) -> Covariance:
    """The covariance of trace 1 for which `tr(W C^-1 W^T)` (of="tasks") or `tr(W^T C^-1 W)` ("features") is least.

    `C = (W^T W)^(1/2) / tr (W^T W)^(1/2)`, (tasks, tasks); of features with `W W^T`, (features, features). With zero
    weights all are equally good, and it is I / size. Of rank r at most it has no inverse beyond W's own r directions,
    where the term is to be taken.
    Source: Zhang and Yeung, A Convex Formulation for Learning Task Relationships in Multi-Task Learning, 2010;
    Argyriou, Evgeniou and Pontil, Convex Multi-Task Feature Learning, 2008. That it is the least is checked by tests.

    >>> learned_covariance(np.array([[3.0, 0.0], [0.0, 1.0]]), "tasks").tolist()
    [[0.75, 0.0], [0.0, 0.25]]
    """
    _, s, vectors = np.linalg.svd(W if of == "tasks" else W.T, full_matrices=False)
    if not s.any():
        size = W.shape[1 if of == "tasks" else 0]
        return np.eye(size) / size
    return (vectors.T * (s / s.sum())) @ vectors


def _shrunk(A: Float64[np.ndarray, "*shape"], tau: float, axis: int) -> Float64[np.ndarray, "*shape"]:
    """A with each vector along `axis` shorter by tau, or zero."""
    lengths = np.linalg.norm(A, axis=axis, keepdims=True)
    return A * np.maximum(1 - tau / np.where(lengths > 0, lengths, 1), 0)
