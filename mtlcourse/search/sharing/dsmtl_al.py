"""DSMTL-AL: where to branch and how to weigh the tasks are learned, then a gated tree is trained from scratch.

Imports `files`, `models`, `procedures`, `strategies`, `tasks`, `training`, `updates`, `search.bilevel`,
`search.searching`.
"""

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ...files import seed_everything, unknown
from ...models.dsmtl import GATES
from ...strategies import Strategy
from ...strategies.weighting import LossStrategy
from ...tasks import Batch, Problem
from ...training import Run
from ...training.procedures import Build, Setting, in_stages
from ...training.updates import StrategyStep
from ..bilevel import Loss
from ..searching import flags, search


class LearnedWeighting(LossStrategy):
    """Learned weighting (LW): task weights that a search has learned, or is about to.

    `w = m softmax(v)` with logits v, zero at first. Training the model does not change them; they are for an
    upper level to learn. The same weights on shared parameters and heads.

    tasks: m, their number.
    Scale: weights sum to m (the source's sum to one).
    Source: Deep Safe Multi-Task Learning, equations 7 and 8.
    """

    def __init__(self, tasks: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(tasks, dtype=torch.float64))

    def weigh(self, losses: Float64[Tensor, "k"], here: Tensor) -> Float64[Tensor, "k"]:
        return self._of(here).detach()

    def _of(self, here: Tensor) -> Float64[Tensor, "k"]:
        return len(here) * torch.softmax(self.logits[here], 0)

    def objective(self, step: StrategyStep) -> Loss:
        """The weighted loss, differentiable in the weights too: what the upper level minimises."""
        def loss(batch: Batch) -> Tensor:
            losses, _ = step.losses(batch)
            here = torch.tensor([self.tasks.index(name) for name in losses])
            stacked = torch.stack(list(losses.values()))
            return (self._of(here).to(stacked) * stacked).sum()
        return loss

    def learned(self) -> dict[str, float]:
        """`{task: softmax(v)_t}`, as printed: they sum to one."""
        return dict(zip(self.tasks, torch.softmax(self.logits.detach(), 0).tolist(), strict=True))


def dsmtl_al(problem: Problem, build: Build, strategy: Strategy | None, setting: Setting, *, gate: Any = "projected",
             weighting: Any = True, single_level: Any = False, order: str = "first",
             architecture_lr: float | int | None = None) -> Run:
    """DSMTL with architecture learning, in two stages, each with the budget's epochs.

    "search": the supernet; branch probabilities and task weights w learn on one half of the training split,
        everything else on the other, with the w-weighted sum of losses on both levels (problem 8).
    "retrain": each task's most probable branch, between it and f_S a gate (equation 9), from scratch on the
        whole training split with the learned w (problem 10).

    gate: as in `DSMTL`; "fixed" is the ablation "without learnable gate", None leaves f_S out as CoNAL does.
    weighting: False is the ablation "without learnable task weighting": the search learns w all the same, as
        printed, but retraining weighs all tasks alike.
    single_level: no second level, all data for both.  order, architecture_lr: see `BilevelStep`, `search`.
    strategy: one that the method's name gives takes the place of the learned weights in retraining.
    `learned`: branch "points" (without pure modules "groups"), "weights" w (they sum to one), the kind of "gate", and
        the gates "alpha".
    First order leaves out that the weights of the net follow w, and what is left of the gradient moves w to the task
    with the smallest validation loss, whatever its unit; `order="second"` has the rest.
    Raises ValueError for an unknown gate or order, and for flags that are neither True nor False.
    Source: Deep Safe Multi-Task Learning, section 6.
    """
    flags(weighting=weighting)
    if gate is not None and gate not in GATES:
        raise ValueError(unknown("gate", str(gate), GATES))
    supernet, learning = build(problem), LearnedWeighting(len(problem.tasks))
    upper = [*supernet.architecture_parameters(), learning.logits]
    stages = {"search": search(problem, supernet, learning, setting, upper=upper, objective=learning.objective,
                               order=order, single_level=single_level, architecture_lr=architecture_lr)}
    learned = {**supernet.learned(), "weights": learning.learned(), "gate": gate}
    seed_everything(setting.seed)
    tree = supernet.tree(problem, gate)
    stages["retrain"] = setting.fit(problem, tree, strategy or (learning if weighting else "ew"), "retrain")
    run = in_stages(stages)
    run.learned = {**learned, "alpha": tree.alphas()}
    return run
