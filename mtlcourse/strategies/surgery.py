"""Gradient surgery: PCGrad, MAMG, GradVac.

Imports `strategies.algebra`, `strategies.base`. All three change each gradient against the others, one
after the other in random order, and then add up. Row i of a matrix V holds the changed gradient of task
i as coefficients of the original ones, so every product it takes part in is one of V and K:
`g_i' . g_j = (V K)_ij`, `|g_i'|^2 = (V K V^T)_ii`. No gradient is touched.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int

from .algebra import Matrix, Vector
from .base import GramStrategy, Number, Strategy, one_of

Rows = Float64[np.ndarray, "k k"]
Others = Int[np.ndarray, "k"]


class Surgery(GramStrategy):
    """Base of gradient surgery: a subclass defines `operate` on all k gradients at once, against one other each."""

    def solve(self, K: Matrix, losses: Vector, here: np.ndarray) -> Vector:
        return self.operate_in_turn(K, here).sum(0)

    def operate_in_turn(self, K: Matrix, here: np.ndarray) -> Rows:
        """V after each gradient has met all others, in an order of its own."""
        k = len(K)
        V = np.eye(k)
        for others in self.orders(here).T:
            V = V + self.operate(V, K, others, here)
        return V

    def orders(self, here: np.ndarray) -> Int[np.ndarray, "k others"]:
        """For each task of the step all the others, in random order."""
        # m x m numbers whatever the step has, so that the stream does not depend on which tasks are there.
        keys = torch.rand(self.m, self.m, generator=self.generator, dtype=torch.float64).numpy()[np.ix_(here, here)]
        np.fill_diagonal(keys, 2.0)  # oneself comes last and is cut off
        return keys.argsort(1)[:, :-1]

    def operate(self, V: Rows, K: Matrix, others: Others, here: np.ndarray) -> Rows:
        """What is added to row i of V when task i meets task `others[i]`."""
        raise TypeError(f"{type(self).__name__} must define operate(V, K, others, here).")


def against(V: Rows, K: Matrix, others: Others) -> Vector:
    """`g_i' . g_j` for each task i and its other j."""
    return np.einsum("ik,ik->i", V, K[others])


def square(V: Rows, K: Matrix) -> Vector:
    """`|V_i|^2`, the squared length of each combination of gradients."""
    return np.clip(np.einsum("ik,ik->i", V @ K, V), 0, None)


def ratio(a: Vector, b: Vector) -> Vector:
    """a / b, zero where b is zero: nothing is done along a vector without length."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


class ProjectConflicting(Surgery):
    """PCGrad: where two gradients conflict, take away from one what points against the other.

    For each i, from `g_i' = g_i`, over the other tasks j in random order: if `g_i' . g_j < 0`, then `g_i' -= (g_i' .
    g_j / |g_j|^2) g_j`, with the running g_i' and the original g_j. Direction: the sum of all g_i'. Heads keep their
    own unweighted gradients.

    Scale: a sum, as printed; equal weighting's where nothing conflicts.
    Source: Yu et al., Gradient Surgery for Multi-Task Learning, 2020, algorithm 1. Departs from code that projects
    on already projected gradients (a different method), and has no epsilon in the denominator, which would change
    the result for small gradients.
    """

    def operate(self, V: Rows, K: Matrix, others: Others, here: np.ndarray) -> Rows:
        dots = against(V, K, others)
        step = np.where(dots < 0, -ratio(dots, np.diagonal(K)[others]), 0.0)
        return step[:, None] * np.eye(len(K))[others]


class GradientClipping(Surgery):
    """MAMG: where two gradients conflict, clip one along their difference.

    If `g_i . g_j < 0`: `P = g_i - g_j`, `cos phi_i = g_i . P / (|g_i| |P|)`, the same for j, `Delta = |g_i cos phi_i -
    g_j cos phi_j|`, and `g_i' = g_i - Delta P / |P|`. Direction: the mean of all g_i'. Heads keep their own
    unweighted gradients.

    reading: algorithm 1 leaves open what happens with several conflicts.
        "running": each clip starts from the g_i' so far, against the original g_j, in random order (what the prose
        suggests); "last": from the original g_i, only the last conflict's clip counts (as literally printed);
        "sum": from the original g_i, all clips are added; "one": only the first task's gradient is changed, as lemma
        1 and the theorems do, running; "longer": of two gradients in conflict only the longer is changed, running.
    delta: equation 3 leaves open what is subtracted from what. "vector": as printed, the norm of a vector difference;
        "scalar": the difference of the scalar projections `|g_i| cos phi_i - |g_j| cos phi_j`, which is |P|, so that
        g_i' = g_j; "leftover": cos phi_j measured against -P, so that both projections are lengths along P and Delta is
        what the longer has left over, `(|g_i|^2 - |g_j|^2) / |P|` without its sign.
    With every gradient changed two tasks get equal weighting, whatever delta: it is the same for i and j, and P turns
    around. So do any number of tasks with reading="sum". With delta="leftover", reading="longer" the two gradients end
    at one length along P, and their sum is orthogonal to P: for two tasks in conflict it is MGDA's, and harms neither.
    Scale: mean direction multiplied by m; equal weighting's where nothing conflicts.
    Source: A Model-Agnostic Approach to Mitigate Gradient Interference, equations 1-4, algorithm 1, lemma 1. The
    authors' public code has the "leftover" cosines, but clips by `min(|Delta|, 0)`, which is zero: it changes nothing.
    """

    def __init__(self, reading: str = "running", delta: str = "vector"):
        super().__init__()
        self.reading = one_of("reading", reading, ("running", "last", "sum", "one", "longer"))
        self.delta = one_of("delta", delta, ("vector", "scalar", "leftover"))

    def operate_in_turn(self, K: Matrix, here: np.ndarray) -> Rows:
        V = E = np.eye(len(K))
        for others in self.orders(here).T:
            start = E if self.reading in ("last", "sum") else V
            clip = self.operate(start, K, others, here)
            V = np.where(clip.any(1)[:, None], E + clip, V) if self.reading == "last" else V + clip
        return np.vstack([V[:1], E[1:]]) if self.reading == "one" else V

    def operate(self, V: Rows, K: Matrix, others: Others, here: np.ndarray) -> Rows:
        g_j = np.eye(len(K))[others]
        P = V - g_j
        length = np.sqrt(square(P, K))
        if self.delta == "scalar":
            delta = length
        elif self.delta == "leftover":
            delta = np.abs(ratio(np.einsum("ik,ik->i", V @ K, P) + np.einsum("ik,ik->i", g_j @ K, P), length))
        else:
            VP, jP = np.einsum("ik,ik->i", V @ K, P), np.einsum("ik,ik->i", g_j @ K, P)
            cos_i = ratio(VP, np.sqrt(square(V, K)) * length)
            cos_j = ratio(jP, np.sqrt(square(g_j, K)) * length)
            delta = np.sqrt(square(cos_i[:, None] * V - cos_j[:, None] * g_j, K))
        clipped = against(V, K, others) < 0
        if self.reading == "longer":
            clipped &= square(V, K) > np.diagonal(K)[others]
        return np.where(clipped, -ratio(delta, length), 0.0)[:, None] * P


class GradientVaccine(Surgery):
    """GradVac: turn gradients until their cosines are what they have been on average.

    Over the other tasks j in random order, `c = cos(g_i', g_j)`: if c is below the target T_ij, then `g_i' += |g_i'| (T
    sqrt(1 - c^2) - c sqrt(1 - T^2)) / (|g_j| sqrt(1 - T^2)) g_j`, after which the cosine is T. Then `T_ij <- (1 - beta)
    T_ij + beta c`, from zero. Direction: the sum of all g_i'. Heads keep their own unweighted gradients.

    beta: in (0, 1], ValueError for others: how fast targets follow; with targets still zero this is PCGrad.
    Scale: a sum, as printed.
    Source: Wang et al., Gradient Vaccine, 2021, equations 3-4, algorithm 1. A zero gradient has no angle: it is left
    alone and teaches nothing. For T = 1, where no finite step reaches the target, nothing is added.
    """

    def __init__(self, beta: Number = 0.01):
        super().__init__()
        if not 0 < beta <= 1:
            raise ValueError(f"beta is {beta}; it must be above 0 and at most 1.")
        self.beta = beta

    def bind(self, tasks: Any, generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.register_buffer("targets", torch.zeros(self.m, self.m, dtype=torch.float64))
        return self

    def operate(self, V: Rows, K: Matrix, others: Others, here: np.ndarray) -> Rows:
        places = torch.from_numpy(here), torch.from_numpy(here[others])
        T = self.targets[places].numpy()
        length, of_other = np.sqrt(square(V, K)), np.sqrt(np.diagonal(K)[others])
        c = np.clip(ratio(against(V, K, others), length * of_other), -1, 1)
        sin_c, sin_T = np.sqrt(1 - c**2), np.sqrt(1 - T**2)
        step = np.where(c < T, ratio(length * (T * sin_c - c * sin_T), of_other * sin_T), 0.0)
        angle = length * of_other > 0
        self.targets[places] = torch.from_numpy(np.where(angle, (1 - self.beta) * T + self.beta * c, T))
        return np.where(angle, step, 0.0)[:, None] * np.eye(len(K))[others]
