"""Maximum Roaming: each task uses a changing part of the shared units, and gets to know all of them.

Imports `files`, `tasks`, `models.base`, `models.hps`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..files import derived_seed
from ..tasks import Problem
from .base import Encoder
from .hps import HPS


class MaxRoam(HPS):
    """Maximum Roaming: hard sharing through masks, one a task and stage, that wander over the units.

    prediction of task t: `h_t(m_tP * f_P(... m_t1 * f_1(x)))`, where m_tp in {0, 1} masks the units behind stage p
    (channels of a map, entries of a vector) and has a fixed share of ones. All stages f_p are shared. Every
    `interval` steps each mask gives up one of its units at random for one that the task has never had, until the
    task has had all.

    share: of the units that a task uses at a time, in (0, 1]; with 1 it is hard parameter sharing. Of n units behind
        a stage these are k = share * n, rounded to a whole number (a half to the even one), and at least 1. The first
        masks together use every unit if and only if m * k >= n; where k is rounded down, share = 1 / m may not do.
    interval: steps from swap to swap.
    Behind the first mask each task passes the stages on its own, so a step costs nearly that of m nets, at
    hard sharing's number of parameters. Masks are buffers, and a swap depends on the seed, the step, the stage and
    the task alone, so that a training that goes on from a checkpoint makes the same ones. (The source masks every
    convolution; here it is every stage.)
    Raises ValueError for options that cannot be.
    Source: Maximum Roaming Multi-Task Learning, and the authors' public code.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, share: float = 0.8, interval: int = 10):
        if not 0 < share <= 1 or interval < 1:
            raise ValueError(f"share={share!r} must be in (0, 1], and interval={interval!r} at least 1 step.")
        super().__init__(problem, encoder)
        self.interval = interval
        self.register_buffer("seed", torch.tensor(derived_seed(torch.initial_seed(), "roaming")))
        self.masks = nn.ModuleList(
            Masks(len(self.tasks), shape[0], share, derived_seed(torch.initial_seed(), f"mask.{p}"))
            for p, shape in enumerate(self.shared.shapes[1:], start=1))

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        first, representations = self.shared(x, last=1), {}
        for name in tasks:
            t, z = self.task_names.index(name), first
            for p, masks in enumerate(self.masks, start=1):
                z = masks(z if p == 1 else self.shared(z, first=p, last=p), t)
            representations[name] = self.leave(name, z)
        return representations

    def after_step(self, step: int) -> None:
        """Swap, if it is time."""
        if step % self.interval == 0:
            seed = int(self.seed)
            for p, masks in enumerate(self.masks, start=1):
                for t, name in enumerate(self.task_names):
                    masks.swap(t, torch.Generator().manual_seed(derived_seed(seed, f"{step}/{p}/{name}")))

    def report(self) -> dict[str, dict[str, float]]:
        """For the history, after each epoch: the share of all units that each task has had."""
        visited = torch.cat([masks.visited for masks in self.masks], 1).float().mean(1)
        return {name: {"visited": share} for name, share in zip(self.task_names, visited.tolist(), strict=True)}


class Masks(nn.Module):
    """The m tasks' masks over the units behind one stage, each with the same number of ones.

    active: which units each task uses.  visited: which it has used.
    share: of ones, rounded to whole units, at least one.
    """

    active: Bool[Tensor, "tasks units"]
    visited: Bool[Tensor, "tasks units"]

    def __init__(self, tasks: int, units: int, share: float, seed: int):
        super().__init__()
        used = max(1, round(share * units))
        order = torch.randperm(units, generator=torch.Generator().manual_seed(seed), device="cpu")
        active = torch.zeros(tasks, units, dtype=torch.bool)
        for t in range(tasks):  # each task goes on where the one before ended, so that no unit is left out
            active[t, order[torch.arange(t * used, (t + 1) * used, device="cpu") % units]] = True
        self.register_buffer("active", active)
        self.register_buffer("visited", active.clone())

    def forward(self, z: Float[Tensor, "batch units *pixels"], task: int) -> Float[Tensor, "batch units *pixels"]:
        return z * self.active[task].view(-1, *[1] * (z.dim() - 2)).to(z.dtype)

    def swap(self, task: int, generator: torch.Generator) -> None:
        """Give up one unit of `task` for one that it has never had; nothing, if it has had all."""
        new = (~self.visited[task]).nonzero().flatten()
        if len(new):
            old = self.active[task].nonzero().flatten()
            leaving, coming = (int(units[torch.randint(len(units), (), generator=generator)]) for units in (old, new))
            self.active[task, leaving] = False
            self.active[task, coming] = self.visited[task, coming] = True
