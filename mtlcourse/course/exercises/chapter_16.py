"""Checks of notebook 16, saliency-regularised learning. Imports `exercises`."""

from collections.abc import Callable

import numpy as np
import torch

from . import NotYet, exercise, expect


@exercise("16.1",
          "The cosine of opposite saliencies is -1. What must be done to it so that the sign no longer matters?",
          "torch.cosine_similarity over the features of both; square, subtract from 1, average over the samples.")
def signless(answer: Callable) -> None:
    """Two tasks that look at the same features with opposite signs are the same."""
    two = torch.tensor([[[1.0, 0.0], [-2.0, 0.0], [1.0, 1.0]]], dtype=torch.float64)
    random = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(16), dtype=torch.float64)
    for S, what in ((two, "for the saliencies (1, 0), (-2, 0) and (1, 1) of one sample"),
                    (random, "for random saliencies of five samples and four tasks")):
        m = S.shape[1]
        expected = [(1 - torch.cosine_similarity(S[:, i], S[:, j]) ** 2).mean() for i in range(m)
                    for j in range(i + 1, m)]
        expect(expected, answer(S), what)


@exercise("16.2",
          "Split the whole: a part that all pairs share equally, and the rest, which is learned.",
          "Equal parts of `least`, plus 1 - least times the softmax.")
def floored(answer: Callable) -> None:
    """A share of what all pairs have for certain, the rest as learned."""
    d = torch.tensor([1.0, 2.0, 3.0])
    cases = (([0.0, 0.0, 0.0], 0.5), ([20.0, 0.0, 0.0], 0.5), ([1.0, 2.0, 4.0], 0.2), ([3.0, 1.0, 0.0], 1.0))
    for logits, least in cases:
        shares = torch.tensor(logits).softmax(0)
        expect(least / 3 + (1 - least) * shares, answer(torch.tensor(logits), d, least),
               f"for log omega = {logits} and least = {least}")


@exercise("16.3",
          "Set the derivative of the objective to a constant, for the shares sum to one. Which function of d is p?",
          "p is the softmax of -d / tau, with tau a tenth of the mean distance; use d without its gradient.")
def by_entropy(answer: Callable) -> None:
    """The minimiser is a softmax, and follows distances without pushing them."""
    for values in ([1.0, 2.0, 3.0], [0.3, 0.3, 0.6], [2.0, 2.0, 2.0]):
        d = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        p = answer(torch.zeros(3, dtype=torch.float64), d)
        expect((-d.detach() / (0.1 * d.detach().mean())).softmax(0),
               p.detach() if isinstance(p, torch.Tensor) else p, f"for the distances {values}")
        if isinstance(p, torch.Tensor) and p.requires_grad:
            raise NotYet("the shares have a gradient by the distances; they are to follow them only: d.detach()")


@exercise("16.4",
          "Multiply the squared distance out: which part stands on the diagonal of P, which off it, with what sign?",
          "Sums of rows on the diagonal, minus omega off it; the half before the trace asks for a factor.")
def laplacian(answer: Callable) -> None:
    """Twice the Laplacian of the graph."""
    for weights in ([[0, 1], [1, 0]], [[0, 1, 0], [1, 0, 3], [0, 3, 0]], [[0, 2, 1], [2, 0, 0.5], [1, 0.5, 0]]):
        omega = np.array(weights, dtype=float)
        expect(2 * (np.diag(omega.sum(1)) - omega), answer(omega), f"for omega = {omega.tolist()}")
