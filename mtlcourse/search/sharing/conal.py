"""CoNAL: an architecture that is learned while conflicts are noticed.

Imports `files`, `models`, `procedures`, `strategies`, `tasks`, `training`, `search.searching`.
"""

from typing import Any

from ...files import seed_everything
from ...models import Tree
from ...strategies import Chain, Strategy, make
from ...tasks import Problem
from ...training import Run
from ...training.procedures import Build, Setting, in_stages
from ..searching import flags, search


def conal(problem: Problem, build: Build, strategy: Strategy | None, setting: Setting, *, notice: Any = True,
          random_weights: Any = True, single_level: Any = False, order: str = "first",
          architecture_lr: float | int | None = None) -> Run:
    """Conflict-noticed architecture learning, in two stages, each with the budget's epochs.

    "search": the supernet; branch probabilities learn on one half of the training split, everything else on the
        other, tasks weighted equally, with conflict noticing on the shared modules (algorithm 3).
    "retrain": each task's most probable branch, from scratch on the whole training split with random
        weights of the losses, new in each step (equation 5.5).

    notice, random_weights: False are the ablations "without conflict-notice" and "without random loss weighting"
        of table 5.5; those of the supernet are `pure` and `splitting`, see `Supernet`. Noticing needs pure
        modules: without them a conflict would leave nothing but heads to learn.
    single_level: the ablation of section 5.4.8.  order, architecture_lr: see `BilevelStep`, `search`.
    strategy: of retraining; a gradient strategy sees the randomly weighted losses, a loss strategy takes the
        place of the random weights.
    `learned`: branch "points" (without pure modules: "groups", stage by stage).
    The history has, epoch by epoch, the share of steps in which two tasks conflicted on a module.
    Raises ValueError for notice=True without pure modules, and for flags that are neither True nor False.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, sections 5.2.2, 5.2.3, 5.4.3 and 5.4.8.
    Random weights are scaled to sum to m, not to one, so that learning rates mean the same in all methods.
    """
    flags(notice=notice, random_weights=random_weights)
    supernet = build(problem)
    if notice and not supernet.pure:
        raise ValueError("Conflict noticing needs purely-specific modules, which pure=False takes away: write "
                         "conal(pure=False, notice=False).")
    stages = {"search": search(problem, supernet, make("notice" if notice else "ew"), setting,
                               upper=supernet.architecture_parameters(), order=order, single_level=single_level,
                               architecture_lr=architecture_lr, diagnostics=notice)}
    seed_everything(setting.seed)
    tree = supernet.tree(problem)
    stages["retrain"] = retrain(problem, tree, strategy, setting, random_weights)
    run = in_stages(stages)
    run.learned = supernet.learned()
    return run


def retrain(problem: Problem, tree: Tree, strategy: Strategy | None, setting: Setting, random_weights: bool) -> Run:
    """The learned architecture from scratch on the whole training split, with random weights if asked for."""
    if random_weights:
        weights = make("rlw", distribution="uniform")
        if strategy is None:
            strategy = weights
        elif strategy.kind == "gradient" and not isinstance(strategy, Chain):
            strategy = Chain(weights, strategy)
    return setting.fit(problem, tree, strategy or "ew", "retrain")
