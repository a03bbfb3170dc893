"""GradDrop: signs by chance, at each coordinate. Imports `strategies.base`."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from .base import DirectionStrategy


class GradientSignDropout(DirectionStrategy):
    """Gradient sign dropout (GradDrop): let chance decide, at each coordinate, whether ups or downs count.

    At each coordinate `P = (1 + sum_t g_t / sum_t |g_t|) / 2`, the positive share; with U uniform on [0, 1], fresh for
    each coordinate, keep the positive entries where U < P and the negative ones elsewhere, and add them up. Heads keep
    their own unweighted gradients.

    Scale: a sum, as printed; equal weighting's where all signs agree. Zero where all entries are.
    Source: Chen et al., Just Pick a Sign, 2020, algorithm 1, with leak 0. There it acts on the representation: use
    at="features"; on parameters it is a variant of ours. Needs all m gradients in one matrix, which takes as much
    memory again.
    """

    def direction(self, gradients: Float[Tensor, "m n"],
                  losses: Float64[Tensor, "m"] | None = None) -> Float[Tensor, "n"]:
        total, size = gradients.sum(0), torch.linalg.vector_norm(gradients, 1, dim=0)
        positive, negative = (size + total) / 2, (total - size) / 2  # the sums over entries of one sign
        chance = torch.rand(len(total), generator=self.generator).to(gradients)
        return torch.where(chance * size < positive, positive, negative)
