"""Checks of notebook 21, twin tasks. Imports `data` and `exercises`."""

from collections.abc import Callable

import torch

from ... import data
from . import exercise, expect


@exercise("21.1",
          "Twins differ in signs only. What is equal in both of them?",
          "Take absolute values of W before you take distances.")
def a_distance_for_twins(answer: Callable) -> None:
    """The nearest other task is the twin for every task, also where more signs are flipped."""
    for flips in (0.1, 0.3):
        for seed in range(20):
            W = data.twin_weights(seed=seed, flips=flips)
            D = torch.as_tensor(answer(W.clone()), dtype=torch.float64).clone()
            expect([12, 12], list(D.shape), "the shape of what comes for 12 tasks")
            D.fill_diagonal_(torch.inf)
            others = D.clone()
            others[torch.arange(12), torch.arange(12) ^ 1] = torch.inf
            first = (D.min(1).values < others.min(1).values - 1e-9).sum()
            expect(12, first, f"tasks of 12 with their twin nearest, and it alone, for flips={flips}, seed={seed}")


@exercise("21.2",
          "Forbid the diagonal, find the k nearest of each row, and let each of them receive the same.",
          "Put infinity on the diagonal; topk(k, largest=False) gives places; scatter 1/(m k) there; add the "
          "transpose.")
def nearest_only(answer: Callable) -> None:
    """Each task gives 1 / m, in equal parts to its k nearest; a pair has what both give it."""
    for m, k in ((3, 1), (5, 2), (12, 1)):
        D = _distances(m)
        gives = torch.zeros(m, m, dtype=torch.float64)
        nearest = D.clone().fill_diagonal_(torch.inf).topk(k, largest=False).indices
        gives.scatter_(1, nearest, 1 / (m * k))
        expect(gives + gives.T, answer(D.clone(), k), f"for {m} tasks and k={k}")


@exercise("21.3",
          "One more logit goes into the softmax, and its share is thrown away.",
          "Concatenate -d/tau of the pairs with -c/tau, take the softmax, and leave out the last entry.")
def or_nobody(answer: Callable) -> None:
    """A softmax over the pairs and one more, of distance c; its share is lost."""
    for m, tau, c in ((3, 1.0, 1.0), (4, 0.5, 2.0), (4, 0.5, -50.0)):
        D = _distances(m)
        i, j = torch.triu_indices(m, m, 1)
        weights = torch.softmax(torch.cat([-D[i, j] / tau, torch.tensor([-c / tau]).to(D)]), 0)[:-1]
        P = torch.zeros(m, m, dtype=torch.float64)
        P[i, j] = P[j, i] = weights
        expect(P, answer(D.clone(), tau, c), f"for {m} tasks, tau={tau} and c={c}")


def _distances(m: int) -> torch.Tensor:
    """Symmetric, positive, zero on the diagonal, no two alike."""
    points = torch.sin(torch.arange(1, 2 * m + 1, dtype=torch.float64) ** 2).view(m, 2)
    return torch.cdist(points, points)
