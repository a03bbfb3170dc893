"""How a method trains its model: once, or in stages.

Imports `models`, `tasks`, `void`, and its folder's `evaluation`, `loop`, `samples`. A procedure is a function
`procedure(problem, build, strategy, setting, **options) -> Run`; its keyword-only arguments are options
of the method's name, as in "dsmtl-il(guard=True)".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from ..models import DSMTL
from ..tasks import Problem
from ..void import valid_mask
from .evaluation import evaluate, train_losses
from .loop import Run, fit
from .samples import scores_and_samples

Build = Callable[[Problem], nn.Module]


@dataclass
class Setting:
    """How a method is to be trained: everything but the method itself.

    `fit(problem, model, strategy, **changes)` is `training.fit` with these settings; with a `stage` it
    has a checkpoint of its own, so that a procedure that was cut off goes on in the stage it was in.
    asked: the options of training that the method's name gives. They are in `arguments` too; a procedure that cannot
        follow them refuses them.
    """

    seed: int = 0
    checkpoint: Path | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)

    def fit(self, problem: Problem, model: nn.Module, strategy: Any, stage: str = "", **changes: Any) -> Run:
        checkpoint = self.checkpoint
        if checkpoint is not None and stage:
            checkpoint = checkpoint.with_name(f"{checkpoint.name}-{stage}")
        settings = {"seed": self.seed, "checkpoint": checkpoint, **self.arguments, **changes}
        return fit(problem, model, strategy, **settings)


def train_once(problem: Problem, build: Build, strategy: Any, setting: Setting) -> Run:
    """The usual procedure: build the model, fit it once."""
    return setting.fit(problem, build(problem), strategy)


def in_stages(runs: Mapping[str, Run]) -> Run:
    """One run out of the runs of its stages, in order: the last one's model, and the cost of all."""
    *_, last = runs.values()
    histories = [run.history.assign(stage=name) for name, run in runs.items()]
    sums = {key: sum(run.cost[key] for run in runs.values()) for key in ("steps", "samples", "seconds")}
    cost = {**last.cost, **sums}
    return replace(last, history=pd.concat(histories, ignore_index=True), cost=cost, stages=list(runs))


# --- task relations ---------------------------------------------------------------------------------------

def srdml(problem: Problem, build: Build, strategy: Any, setting: Setting) -> Run:
    """Train once; learned are two tables `{task: {other: number}}`, each symmetric.

    "relation": the share that each pair has in the regulariser at the end.
    "distances": how far tasks' saliencies are apart on the validation split, on average.
    Raises ValueError for a task whose training targets are all the same: it needs no feature, so it has no saliency,
    and all that could be said of its relations would be chance.
    """
    refuse_constant_targets(problem)
    run = train_once(problem, build, strategy, setting)
    names = run.model.task_names
    run.model.eval()
    tables = {"relation": run.model.relation(), "distances": run.model.distances_over(problem.val)}
    run.learned = {key: dict(zip(names, (dict(zip(names, row, strict=True)) for row in table.tolist()), strict=True))
                   for key, table in tables.items()}
    return run


def refuse_constant_targets(problem: Problem) -> None:
    """Raise ValueError for a task with less than two different targets in the training split."""
    seen: dict[str, tuple[Tensor, bool]] = {}  # the first target, and whether there was another
    for batch in problem.train.batches(512):
        for name, target in batch.targets.items():
            values = target[valid_mask(target)]
            if len(values):
                first, differs = seen.get(name, (values[0], False))
                seen[name] = first, differs or bool((values != first).any())
    constant = [task.name for task in problem.tasks if not seen.get(task.name, (None, False))[1]]
    if constant:
        raise ValueError(f"The training targets of {constant} are all the same. A task that needs no input looks at no "
                         "feature; leave it out, or give samples with other answers.")


# --- deep safe multi-task learning ------------------------------------------------------------------------

def dsmtl_jl(problem: Problem, build: Build, strategy: Any, setting: Setting) -> Run:
    """Joint learning: all encoders, gates and decoders together (equation 4).

    Source: Deep Safe Multi-Task Learning, section 4.3.
    """
    run = train_once(problem, build, strategy, setting)
    run.learned = {"alpha": run.model.alphas()}
    return run


def dsmtl_il(problem: Problem, build: Callable[[Problem], DSMTL], strategy: Any, setting: Setting, *,
             guard: Any = False) -> Run:
    """Individual learning, in two stages.

    "private": all alpha_t = 0, private encoders and decoders learn, which is single-task learning
        (equation 5); always with equal weights, because nothing is shared that a strategy could balance.
    "public": these are frozen, statistics included; the public encoder and the gates learn, with the
        strategy. (One sentence of section 4.2 has the names of the two groups of parameters swapped; equation
        5 and the text after it settle the order.)

    guard: with True a third step, "guard", which is in no paper. Theorem 1 promises
        `L_t <= L_t^STL` at the optimum of both stages, and training does not reach optima. A task whose
        loss on the whole training split is above its single-task loss after stage 1 gets alpha_t = 0: its
        network is then its single-task network, and the inequality holds by construction. Equality
        keeps the gate. `learned["guarded"]` lists these tasks.
    Each stage takes the budget's epochs.
    Raises ValueError for a guard that is neither True nor False.
    Source: Deep Safe Multi-Task Learning, section 4.2.
    """
    if not isinstance(guard, bool):
        raise ValueError(f"guard={guard!r} is neither True nor False.")
    model = build(problem)
    alone = model.single_task(problem)
    stages = {"private": setting.fit(problem, alone, "ew", "private")}
    model.build_on(alone)
    stages["public"] = setting.fit(problem, model, strategy, "public")
    guarded = []
    if guard:
        guarded = close_harmful_gates(model, problem, train_losses(alone, problem))
        stages["guard"] = _measured(problem, stages["public"])
    run = in_stages(stages)
    run.learned = {"alpha": model.alphas(), **({"guarded": guarded} if guard else {})}
    return run


def close_harmful_gates(model: DSMTL, problem: Problem, alone: Mapping[str, float]) -> list[str]:
    """Set alpha_t = 0 for each task whose loss on the whole training split is above `alone[task]`; names them.

    alone: single-task losses, as `training.train_losses` gives them.
    """
    together = train_losses(model, problem)
    harmful = [task for task in model.task_names if not together[task] <= alone[task]]
    for task in harmful:
        model.gates[task].close()
    return harmful


def _measured(problem: Problem, run: Run) -> Run:
    """The run's model as it is now, as a stage without updates."""
    epoch = run.config["selected_epoch"]
    scores = {"train": run.model.report(), "val": evaluate(run.model, problem, "val")}
    rows = [{"epoch": epoch, "split": split, "task": task, "name": name, "value": value}
            for split, values in scores.items() for task, named in values.items() for name, value in named.items()]
    metrics, samples = scores_and_samples(run.model, problem)
    return Run(pd.DataFrame(rows), metrics, run.model, run.config,
               cost={**run.cost, "steps": 0, "samples": 0, "seconds": 0.0}, higher_is_better=run.higher_is_better,
               test_data=run.test_data, samples=samples)
