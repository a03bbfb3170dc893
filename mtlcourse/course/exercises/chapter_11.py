"""Checks of notebook 11, gradient combination. Imports `exercises`."""

import math
from collections.abc import Callable

import numpy as np

from . import exercise, expect

# Gram matrices of two gradients in conflict: equal weighting harms a task behind the first and the second.
PAIRS = (np.array([[4.0, -2.0], [-2.0, 1.5]]), np.array([[1.0, -1.5], [-1.5, 9.0]]),
         np.array([[2.0, -1.0], [-1.0, 2.0]]))
TRIPLE = np.array([[2.0, -1.0, -0.5], [-1.0, 3.0, -1.0], [-0.5, -1.0, 1.0]])


@exercise("11.1",
          "Find the lowest point of the parabola |d|^2 in the first weight; then move it into the allowed interval.",
          "Without the floor the first weight is (K22 - K12) / (K11 + K22 - 2 K12); keep it between floor and 1 - "
          "floor.")
def mgda_with_floor(answer: Callable) -> None:
    """The foot of the perpendicular onto the segment, kept away from its ends."""
    agreeing = np.array([[9.0, 2.0], [2.0, 1.0]])
    for K, floor in ((PAIRS[0], 0.2), (PAIRS[1], 0.2), (agreeing, 0.1), (PAIRS[1], 0.1)):
        x = (K[1, 1] - K[0, 1]) / (K[0, 0] + K[1, 1] - 2 * K[0, 1])
        x = min(max(x, floor), 1 - floor)
        expect([x, 1 - x], answer(K, floor), f"for K={K.tolist()} and floor={floor}")


@exercise("11.2",
          "Write all equations as one: K w is a number times the vector of the lengths.",
          "Lengths are roots of the diagonal of K. np.linalg.solve gives w up to a factor; the sum fixes that "
          "factor.")
def equal_projections(answer: Callable) -> None:
    """K w proportional to the lengths, sum of w one."""
    for K in (*PAIRS[:2], TRIPLE):
        w = np.linalg.solve(K, np.sqrt(np.diag(K)))
        expect(w / w.sum(), answer(K), f"for K={K.tolist()}")


@exercise("11.3",
          "All is in K: with b = (1/2, 1/2), K b holds the products of the mean with both gradients.",
          "Of the harmed task, minus its entry of K b over the length of its gradient is the distance; divide it by "
          "|g_0| = sqrt(b K b). If the smaller entry is not negative, return 0.")
def smallest_c(answer: Callable) -> None:
    """Distance from the mean gradient to the plane g_t . d = 0 of the task it harms, over its length."""
    for K in PAIRS:
        gains = K.mean(1)
        t = gains.argmin()
        distance = max(-gains[t], 0.0) / math.sqrt(K[t, t])
        expect(distance / math.sqrt(K.mean()), answer(K), f"for K={K.tolist()}")


@exercise("11.4",
          "Begin with the identity: row i says that task i's gradient is itself. A projection changes one "
          "coefficient.",
          "If (K v)_j is negative, subtract (K v)_j / K_jj from the j-th coefficient of v. In the end add up all "
          "rows.")
def pcgrad_in_order(answer: Callable) -> None:
    """Running rows of coefficients against the original gradients, then the sum of the rows."""
    cases = [(PAIRS[0], [[1], [0]]), (TRIPLE, [[1, 2], [0, 2], [0, 1]]), (TRIPLE, [[2, 1], [2, 0], [1, 0]])]
    for K, orders in cases:
        V = np.eye(len(K))
        for i, others in enumerate(orders):
            for j in others:
                V[i, j] -= min(K[j] @ V[i], 0.0) / K[j, j]
        expect(V.sum(0), answer(K, orders), f"for K={K.tolist()} and orders={orders}")
