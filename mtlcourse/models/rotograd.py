"""RotoGrad's rotations: one for each task between shared encoder and head, so that the tasks' gradients agree.

This is the rotation half of RotoGrad, which the authors' code calls RotateOnly; its scaling of gradients is the
strategy `rotograd-scale`.
Imports `tasks`, `models.base`, `models.hps`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from ..tasks import Problem
from .base import Encoder
from .hps import HPS


class Rotation(nn.Module):
    """A rotation R of d dimensions that is free to learn: `R = (I - A)^-1 (I + A)` with `A = M - M^T` (Cayley).

    Whatever the parameter M is, A is skew-symmetric, and so R is orthogonal with determinant one; it starts as
    R = I. Computed from M each time and in float64, it stays a rotation however long M has been learning.
    (Half a turn in some plane is the limit, which no finite M reaches.) M is a whole d x d matrix, as the
    tables count it, though its diagonal does nothing.
    """

    def __init__(self, d: int):
        super().__init__()
        self.M = nn.Parameter(torch.zeros(d, d))

    def forward(self) -> Float64[Tensor, "d d"]:
        M = self.M.double()
        A, eye = M - M.T, torch.eye(len(M), dtype=M.dtype, device=M.device)
        return torch.linalg.solve(eye - A, eye + A)


class RotoGrad(HPS):
    """The rotation half of RotoGrad (RotateOnly in the authors' code): hard sharing, where each task looks at the
    shared representation from an angle of its own.

    prediction of task t: `h_t(R_t z)`, where z = f_S(x) and R_t is a rotation that the head takes as it is: no
    task loss trains it, and it is in no task's route. With g_t the gradient of task t's loss at `R_t z`, divided
    by its norm over the batch, and `v = mean_t R_t^T g_t` the mean of what arrives at z, the rotations maximise
        `sum_t <R_t^T g_t, v>`, where g and v are constants:
    each turns the gradient of its task towards what all tasks want. On a map, channels are rotated, in the
    same way at each pixel. Tasks with inputs of their own have no samples in common; for them g_t is first
    summed over samples and pixels.

    rotate: rotate only the first so many features; by default, and at most, all. Rotations of d features have
        m d^2 parameters.
    speed: learning rate of the rotations, as a fraction of the model's. They lead a game in which the network
        follows, and it settles if the leader is the slower one. They are a group of parameters of their
        own, without weight decay. Since the optimisers here keep a state for each number, that is an optimiser
        of its own, which is scheduled and checkpointed with everything else.
    The source's other half, the scaling of gradients to one norm, is not in it: weighing gradients is what a strategy
    does and no architecture can. "rotograd+rotograd-scale" is both halves; with "rotograd+gradnorm" one has what the
    authors' code calls RotoGradNorm.
    That code minimises `|R_t v - g_t|^2`, which is the same up to a factor for each task, because a rotation keeps
    lengths; and it takes the exponential map where `Rotation` has Cayley's.
    Raises ValueError for options that cannot be.
    Source: RotoGrad: Gradient Homogenization in Multitask Learning, and the authors' public code.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, rotate: int | None = None, speed: float = 0.1):
        if not (rotate is None or rotate >= 2) or not speed > 0:
            raise ValueError(f"rotate={rotate!r} must be None (all) or at least 2 features, and speed={speed!r} "
                             "positive.")
        super().__init__(problem, encoder)
        features = self.shared.out_shape[0]
        self.speed, self.size = speed, features if rotate is None else min(rotate, features)
        self.rotations = nn.ModuleDict({name: Rotation(self.size) for name in self.task_names})
        self._gradients: dict[str, Tensor] = {}  # of the last backward pass, at R_t z
        self._same_samples = True

    def forward(self, inputs: Tensor | Mapping[str, Tensor], tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        self._gradients, self._same_samples = {}, isinstance(inputs, Tensor)
        return super().forward(inputs, tasks)

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.shared(x)
        return {name: self.rotated(name, self.leave(name, z)) for name in tasks}

    @torch.compiler.disable  # gradients are caught as they pass, which a compiled graph would hide
    def rotated(self, task: str, z: Float[Tensor, "batch features *pixels"]) -> Float[Tensor, "batch features *pixels"]:
        """R_t z, without a gradient for R_t; notes the gradient that comes back."""
        with torch.no_grad():
            R = self.rotations[task]().to(z.dtype)
        r = turn(R, z)
        if r.requires_grad:
            r.register_hook(lambda gradient: self._caught(task, gradient))
        return r

    def _caught(self, task: str, gradient: Tensor) -> None:
        # Added, for it may come in parts: a compiled graph also sends zeros back for every other task's loss.
        self._gradients[task] = self._gradients.get(task, 0) + gradient

    # --- learning ---

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The network, and the slower rotations without weight decay."""
        rotations = list(self.rotations.parameters())
        return [{"params": self.learning(without=rotations), "lr": lr, "weight_decay": weight_decay},
                {"params": rotations, "lr": self.speed * lr, "weight_decay": 0.0}]

    def passed(self) -> tuple[dict[str, Tensor], bool]:
        """What the last pass has left for `after_backward`, where a batch takes several."""
        return self._gradients, self._same_samples

    def after_backward(self, losses: Mapping[str, Tensor], weights: Any, passes: Sequence[Any] | None = None,
                       total: Any = None) -> None:
        """Give the rotations their gradient, from the task gradients that the backward pass has left.

        Some strategies differentiate one loss after the other, others a weighted sum; since g_t is divided by its
        norm, both leave the same where weights are positive. In a sum, a negative weight would turn g_t around (no
        strategy here that looks at losses only has one), and a task with weight zero has no say, and no gradient.
        passes: what `passed` said of each share of the batch, None for the last pass.  total: sums over processes.
        """
        rows, rotations, turned = {}, {}, {}
        several, passes = total is not None and total.size > 1, passes or [self.passed()]
        present = dict.fromkeys(name for caught, _ in passes for name in caught)
        for name in sorted(present, key=self.task_names.index) if several else present:
            gradients = [caught[name] for caught, _ in passes if name in caught]
            gradient = gradients[0] if len(gradients) == 1 else torch.cat(gradients)
            g = gradient.movedim(1, -1).flatten(0, -2)  # a row a sample, or a pixel of one
            g = g.to(torch.promote_types(g.dtype, torch.float32))
            g = g if self._same_samples else g.sum(0, keepdim=True)
            norm = torch.linalg.vector_norm(g)
            if several and not self._same_samples:
                total([g])
                norm = torch.linalg.vector_norm(g)
            elif several:
                norm = norm.square()
                total([norm])
                norm = norm.sqrt()
            if norm > 0:
                rows[name], rotations[name] = g[:, : self.size] / norm, self.rotations[name]()
                turned[name] = rows[name] @ rotations[name].detach().to(g.dtype)
        self._gradients = {}
        if rows:
            v = torch.stack(list(turned.values())).mean(0)
            agreement = sum((rotations[name] * (g.T @ v)).sum() for name, g in rows.items())  # sum of <R^T g, v>
            (-agreement).backward()
            if several and self._same_samples:
                total([self.rotations[name].M.grad for name in rows])


def turn(R: Float[Tensor, "d d"],
         z: Float[Tensor, "batch features *pixels"]) -> Float[Tensor, "batch features *pixels"]:
    """R applied to the first d features of each sample, or of each pixel of it."""
    d = len(R)
    turned = torch.einsum("ij,bj...->bi...", R, z[:, :d])
    return turned if d == z.shape[1] else torch.cat([turned, z[:, d:]], 1)
