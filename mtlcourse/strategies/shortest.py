"""Gradient combination by a shortest vector: MGDA, CAGrad, SDMGrad, UPGrad, DualProj.

Imports `strategies.algebra`, `strategies.base`. Each asks for the point of some convex set that lies
closest to another, a small quadratic problem that non-negative least squares solves exactly.
"""

import numpy as np
import torch

from .algebra import Matrix, NotConverged, Vector, least_squares, minimum_norm, root, shortest_of, units
from .base import GramStrategy, Number, check_not_negative, one_of


class MultipleGradientDescent(GramStrategy):
    """Multiple-gradient descent algorithm (MGDA): the shortest convex combination of the task gradients.

    `min_w |sum_t w_t g_t|^2 = w^T K w`, w >= 0, sum w = 1. The result makes no smaller angle with one gradient than
    with another that has weight, so all losses fall, or it is zero and the point Pareto stationary. Heads keep
    their own unweighted gradients.

    normalise: lengths by which gradients are divided to *find* the weights, which then act on the raw gradients:
        "none"; "l2", |g_t|; "loss", L_t; "loss+", L_t |g_t|. A length of zero does not divide.
    solver: "exact", non-negative least squares; "frank-wolfe", as taught: `steps` times towards the best single
        task, with the best step for two, until nothing is gained. Frank-Wolfe ends where it is after `steps`; for
        many tasks that can be far from the shortest vector.
    Scale: weights sum to m. A task with zero gradient gets all the weight: no shared parameter moves. (That is for a
    task that reaches shared parameters and is solved there; one that reaches none is no party.)
    Raises ValueError for a loss below zero where losses normalise.
    Source: Desideri, Multiple-gradient descent algorithm, 2012; Sener and Koltun, Multi-Task Learning as
    Multi-Objective Optimization, 2018, equation 3 and algorithm 2; A Simple General Approach to Balance Task
    Difficulty, equation 6. Departs from known code, which keeps two-task weights off 0 and 1 by 0.001.
    With at="features" this is MGDA-UB.
    """

    def __init__(self, normalise: str = "none", solver: str = "exact", steps: int = 250):
        super().__init__()
        self.normalise = one_of("normalise", normalise, ("none", "l2", "loss", "loss+"))
        self.solver = one_of("solver", solver, ("exact", "frank-wolfe"))
        if steps < 1:
            raise ValueError(f"steps is {steps}; at least one is needed.")
        self.steps = steps

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        n = units(K)[1]
        if self.normalise.startswith("loss"):
            check_not_negative(self, torch.from_numpy(losses), [self.tasks[t] for t in here])
        length = {"none": np.ones_like(n), "l2": n, "loss": losses, "loss+": losses * n}[self.normalise]
        divided = np.where(length > 0, length, 1.0)
        K = K / divided[:, None] / divided
        return len(K) * (minimum_norm(K) if self.solver == "exact" else frank_wolfe(K, self.steps))


def frank_wolfe(K: Matrix, steps: int = 250) -> Vector:
    """Frank-Wolfe on `w^T K w` over the simplex, from equal weights; see `MultipleGradientDescent`.

    >>> frank_wolfe(np.array([[1.0, 0.0], [0.0, 3.0]])).round(6).tolist()
    [0.75, 0.25]
    """
    w = np.full(len(K), 1 / len(K))
    for _ in range(steps):
        Kw = K @ w
        t = int(Kw.argmin())
        a, b, c = w @ Kw, Kw[t], K[t, t]  # squared lengths and product of the present vector and g_t
        if a - b <= 1e-12 * a:
            break
        step = 1.0 if b >= c else (a - b) / (a - 2 * b + c)  # the shortest point between the two
        w = (1 - step) * w
        w[t] += step
    return w


class ConflictAverse(GramStrategy):
    """Conflict-averse gradient descent (CAGrad): near the mean gradient, the best for the worst-off task.

    `max_d min_t g_t . d` with `|d - g0| <= c |g0|`, g0 the mean gradient. With g_w the convex combination that
    minimises `g_w . g0 + sqrt(phi) |g_w|`, `phi = c^2 |g0|^2`:  `d = g0 + sqrt(phi) / |g_w| g_w`. Heads keep their
    own unweighted gradients.

    c: >= 0, ValueError for others; 0 is equal weighting, large c goes towards MGDA's direction.
    rescale: "none", "1/(1+c)", or "1/(1+c^2)" as the authors' runs do: factors on d.
    Scale: mean direction multiplied by m, so (1 + c) times equal weighting for identical gradients.
    Source: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, 2021, equations 3-4, algorithm 1.
    The minimiser g_w is, for some number s, that of the shortest convex combination of the vectors `g_t + s g0`
    (set the derivatives of both equal), so a search in s over MGDA problems finds it exactly. Departs from code
    that hands the problem to a solver with an absolute tolerance, which returns equal weights for small gradients.
    At a Pareto-stationary point, where g_w can be zero, d is of all best directions the one nearest to g0; it is
    zero for c >= 1 if the gradients leave no other.
    """

    def __init__(self, c: Number = 0.4, rescale: str = "none"):
        super().__init__()
        if not 0 <= c < float("inf"):
            raise ValueError(f"c is {c}; it must be a number of zero or more.")
        self.c = float(c)
        self.rescale = one_of("rescale", rescale, ("none", "1/(1+c)", "1/(1+c^2)"))

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        factor = {"none": 1.0, "1/(1+c)": 1 / (1 + self.c), "1/(1+c^2)": 1 / (1 + self.c**2)}[self.rescale]
        return len(K) * factor * conflict_averse(K, self.c)


def conflict_averse(K: Matrix, c: float) -> Vector:
    """The weights of CAGrad's d; see `ConflictAverse`."""
    from scipy.optimize import brentq

    C, n = units(K)
    n = n / n.max()
    G = root(C) * n  # vectors with the Gram matrix K, but for a common factor
    mean = np.full(len(K), 1 / len(K))
    g0 = G @ mean
    radius = c * np.linalg.norm(g0)
    if radius <= 1e-14:
        return mean

    def excess(log_s: float) -> float:
        """log of `|g_w| / s` over the radius: zero at the number s that is sought."""
        g_w = G @ shortest_of(G + np.exp(log_s) * g0[:, None])
        return float(np.log(max(np.linalg.norm(g_w), 1e-300) / radius) - log_s)

    low, high = np.log(1e-7 * n[n > 0].min()), np.log(2 * (1 + c) / radius)
    if excess(low) <= 0:
        # g_w goes to zero with s, so the point is stationary; the nearest d with no g_t . d < 0 is within reach.
        return mean + least_squares(G, -g0)
    w = shortest_of(G + np.exp(brentq(excess, low, high, xtol=1e-13, rtol=1e-14))[None] * g0[:, None])
    factor = radius / np.linalg.norm(G @ w)
    gain = G.T @ (g0 + factor * (G @ w))
    if w @ gain - gain.min() > 1e-6 * np.linalg.norm(g0):
        raise NotConverged(f"CAGrad (c = {c:g}) did not find its combination: the worst-off task could have more.")
    return mean + factor * w


class DirectionOriented(GramStrategy):
    """SDMGrad's problem: MGDA's best direction, drawn towards the mean gradient.

    `max_d min_t g_t . d - |d|^2 / 2 + lam g0 . d`, g0 the mean gradient. With w the minimiser of `|g_w + lam g0|` over
    convex weights: `d = (g_w + lam g0) / (1 + lam)`. As w sums to one, that is the shortest convex combination of the
    vectors `g_t + lam g0`. Heads keep their own unweighted gradients.

    lam: >= 0, ValueError for others; 0 is MGDA, large lam goes towards equal weighting.
    Scale: weights sum to m.
    Source: Xiao, Ban and Ji, Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms,
    2023, its direction-oriented problem, solved exactly on the batch of the step; lam = 0.3 as in the authors' runs.
    Their stochastic algorithm approaches the same w by projected gradient steps, each from two batches drawn
    independently, which a step here does not have.

    >>> weights = DirectionOriented(lam=2.0).solve(np.diag([1.0, 3.0]), np.ones(2), np.arange(2))
    >>> weights.round(6).tolist()  # MGDA has [1.5, 0.5], equal weighting [1, 1]
    [1.333333, 0.666667]
    """

    def __init__(self, lam: Number = 0.3):
        super().__init__()
        if not 0 <= lam < float("inf"):
            raise ValueError(f"lam is {lam}; it must be a number of zero or more.")
        self.lam = float(lam)

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        C, n = units(K)
        G = root(C) * (n / n.max())
        w = shortest_of(G + self.lam * G.mean(1, keepdims=True))
        return (len(K) * w + self.lam) / (1 + self.lam)


class UnconflictingProjection(GramStrategy):
    """UPGrad: project each gradient to where it harms no task, and take the mean.

    `mean_i G^T v_i`, `v_i = argmin v^T K v` over `v >= e_i`: the vector nearest to g_i whose product with no g_t is
    negative. So the direction conflicts with no task. Heads keep their own unweighted gradients.

    Scale: mean direction multiplied by m; equal weighting's where nothing conflicts.
    Source: Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, 2024, section 3.
    """

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        C, n = units(K)
        L = root(C)
        moving = np.flatnonzero(n)
        # For unit vectors: v_i = e_i + x, x >= 0 and |L (e_i + x)| least; then lengths are put back.
        steps = sum(n[i] * (np.eye(len(K))[i] + least_squares(L, -L[:, i])) for i in moving)
        return np.divide(steps, n, out=np.zeros_like(n), where=n > 0)


class DualProjection(GramStrategy):
    """DualProj: project the mean gradient to where it harms no task.

    The d nearest to g0, the mean gradient, with `g_t . d >= 0` for all t: `d = G^T v`, `v = argmin v^T K v` over `v >=
    1/m`. UPGrad projects each gradient, and then takes the mean. Heads keep their own unweighted gradients.

    Scale: mean direction multiplied by m; equal weighting's where the mean harms no task.
    Source: Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, 2017, equation 11, for the mean of
    all gradients, as TorchJD has it.

    >>> DualProjection().solve(np.array([[4.0, -1.0], [-1.0, 1.0]]), np.ones(2), np.arange(2)).round(6).tolist()
    [1.0, 1.0]
    """

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        C, n = units(K)
        L, u = root(C), n / n.max()
        v = u + least_squares(L, -L @ u)
        return np.divide(v, u, out=np.zeros_like(n), where=n > 0)
