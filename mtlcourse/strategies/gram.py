"""What a Gram matrix says about the task gradients behind it.

Imports nothing of this package. `K[s, t] = g_s . g_t`, so lengths, angles and conflicts of any number
of gradients, however long, are in m x m numbers. All functions take one matrix or a stack of them.
"""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

# Products of float32 gradients carry errors of this relative size; what is smaller is not told from zero.
RESOLUTION = 2.0**-23


def norms(gram: Float64[Tensor, "*modules m m"]) -> Float64[Tensor, "*modules m"]:
    """|g_t|, the length of each gradient."""
    return gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()


def cosines(gram: Float64[Tensor, "*modules m m"]) -> Float64[Tensor, "*modules m m"]:
    """`cos(g_s, g_t) = g_s . g_t / (|g_s| |g_t|)`; zero, so no conflict, where a gradient is zero.

    >>> cosines(torch.tensor([[4.0, -3.0], [-3.0, 9.0]], dtype=torch.float64))[0, 1].item()
    -0.5
    """
    n = norms(gram)
    inverse = torch.where(n > 0, 1 / n, 0.0)
    return (gram * inverse[..., :, None] * inverse[..., None, :]).clamp(-1, 1)


def among(gram: Float64[Tensor, "m m"], tasks: Bool[Tensor, "m"]) -> Float64[Tensor, "k k"]:
    """The rows and columns of `tasks`."""
    return gram[tasks][:, tasks]


def _pairs(m: int) -> Bool[Tensor, "m m"]:
    return torch.ones(m, m, dtype=torch.bool).triu(1)


def conflict_rate(gram: Float64[Tensor, "*modules m m"]) -> Float64[Tensor, "*modules"]:
    """Share of the m (m - 1) / 2 pairs with `g_s . g_t < 0`; zero for a single task.

    >>> conflict_rate(torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)).item()
    1.0
    """
    return _over_pairs((gram < 0).double())


def mean_cosine(gram: Float64[Tensor, "*modules m m"]) -> Float64[Tensor, "*modules"]:
    """Mean of the cosines over all pairs; zero for a single task."""
    return _over_pairs(cosines(gram))


def magnitude_similarity(gram: Float64[Tensor, "*modules m m"]) -> Float64[Tensor, "*modules"]:
    """Mean over pairs of `2 |g_s| |g_t| / (|g_s|^2 + |g_t|^2)`: 1 for equal lengths, near 0 for very unequal ones.

    A pair of zero gradients counts as 1. Source: Yu et al., Gradient Surgery for Multi-Task Learning,
    2020, definition 3.
    """
    n = norms(gram)
    product, total = n[..., :, None] * n[..., None, :], n.square()[..., :, None] + n.square()[..., None, :]
    return _over_pairs(torch.where(total > 0, 2 * product / total, 1.0))


def condition_number(gram: Float64[Tensor, "*modules m m"]) -> Float64[Tensor, "*modules"]:
    """Largest over smallest singular value of the matrix of gradients; infinite when they are dependent.

    A ratio whose square is beyond the resolution of the products counts as infinite; without any gradient it is NaN.
    Source: Senushkin et al., Independent Component Alignment for Multi-Task Learning, 2023, section 3.
    """
    if gram.shape[-1] == 0:
        return gram.new_full(gram.shape[:-2], float("nan"))
    values = torch.linalg.eigvalsh(gram)
    smallest, largest = values[..., 0], values[..., -1]
    dependent = smallest <= gram.shape[-1] * RESOLUTION * largest
    return torch.where(dependent, float("inf"), (largest / smallest).sqrt())


def _over_pairs(values: Tensor) -> Tensor:
    m = values.shape[-1]
    return values[..., _pairs(m)].mean(-1) if m > 1 else values.new_zeros(values.shape[:-2])


MEASURES = {"cosine": mean_cosine, "conflict_rate": conflict_rate, "magnitude_similarity": magnitude_similarity,
            "condition_number": condition_number}


def average(seen: Sequence[Mapping[str, Any]], tasks: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Means over steps of what `Engine.seen` measured: `{"shared": {measure: mean}, "module_1": ..., ...}`.

    The mean of condition numbers is the geometric one.
    tasks: with their names also "conflict left-right" for each pair: in what share of the steps the cosine
        of its gradients was negative.
    """
    means: dict[str, dict[str, float]] = {}
    for name in MEASURES if seen else ():
        # Steps may differ in modules: a head that two tasks use is one only in steps that have both.
        values = pad_sequence([torch.cat([step[name][None], step[f"module_{name}"]]) for step in seen], True, nan)
        mean = values.log().nanmean(0).exp() if name == "condition_number" else values.nanmean(0)
        for module, value in enumerate(mean.tolist()):
            place = means.setdefault(f"module_{module}" if module else "shared", {})
            if value == value:  # NaN: in no step was there a gradient to measure
                place[name] = value
    if seen and tasks:
        signs = pad_sequence([torch.cat([step["gram"][None], step["module_grams"]]) for step in seen], True) < 0
        for place, shares in zip(means.values(), signs.double().mean(0), strict=True):
            place.update({f"conflict {tasks[s]}-{tasks[t]}": shares[s, t].item()
                          for s, t in _pairs(len(tasks)).nonzero().tolist()})
    return means
