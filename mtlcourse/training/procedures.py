"""How a method trains its model: once, or in stages.

Imports `encoders`, `files`, `models`, `tasks`, `void`, and its folder's `evaluation`, `loop`, `samples`. A procedure
is a function `procedure(problem, build, strategy, setting, **options) -> Run`; its keyword-only arguments are options
of the method's name, as in "dsmtl-il(guard=True)".
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from ..encoders import size
from ..files import seed_everything
from ..models import DSMTL, Fallback
from ..tasks import Problem
from ..void import valid_mask
from .evaluation import evaluate, split_losses
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
    """One run out of the runs of its stages, in order: the last one's model, and the cost of all.

    A run that has stages itself keeps their names.
    """
    *_, last = runs.values()
    stages, histories = [], []
    for name, run in runs.items():
        single = len(run.stages) == 1
        stages += [name] if single else run.stages
        histories.append(run.history.assign(stage=name) if single else run.history)
    sums = {key: sum(run.cost[key] for run in runs.values()) for key in ("steps", "samples", "seconds")}
    cost = {**last.cost, **sums}
    return replace(last, history=pd.concat(histories, ignore_index=True), cost=cost, stages=stages)


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

    A guard (`with_guard`) falls back on networks that are trained besides: closing a gate would be none, see `guard`.
    Source: Deep Safe Multi-Task Learning, section 4.3.
    """
    run = train_once(problem, build, strategy, setting)
    run.learned = {"alpha": run.model.alphas()}
    return run


def dsmtl_il(problem: Problem, build: Callable[[Problem], DSMTL], strategy: Any, setting: Setting, *,
             guard: Any = False, guard_split: str = "train") -> Run:
    """Individual learning, in two stages.

    "private": all alpha_t = 0, private encoders and decoders learn, which is single-task learning
        (equation 5); always with equal weights, because nothing is shared that a strategy could balance.
    "public": these are frozen, statistics included; the public encoder and the gates learn, with the
        strategy. (One sentence of section 4.2 has the names of the two groups of parameters swapped; equation
        5 and the text after it settle the order.)

    guard: with "individual" or "average" a third step, "guard", which is in no paper. Theorem 1 promises
        `L_t <= L_t^STL` at the optimum of both stages, and training does not reach optima. A task that `harmed` names
        gets alpha_t = 0: its network is then its single-task network of stage 1, so that this guard, unlike that of
        other methods (`with_guard`), needs no further training. True is "individual", False no guard.
        `learned["guarded"]` lists these tasks.
    guard_split: where the losses are measured, see `guard`.
    Each stage takes the budget's epochs.
    Raises ValueError for another guard or split.
    Source: Deep Safe Multi-Task Learning, section 4.2.
    """
    by = guard_asked("individual" if guard is True else guard, guard_split)
    model = build(problem)
    alone = model.single_task(problem)
    stages = {"private": setting.fit(problem, alone, "ew", "private")}
    model.build_on(alone)
    stages["public"] = setting.fit(problem, model, strategy, "public")
    guarded = []
    if by:
        guarded = close_harmful_gates(model, problem, split_losses(alone, problem, guard_split), by, guard_split)
        stages["guard"] = _measured(problem, stages["public"], model)
    run = in_stages(stages)
    run.learned = {"alpha": model.alphas(), **({"guarded": guarded} if by else {})}
    return run


# --- the guard --------------------------------------------------------------------------------------------

RULES = ("individual", "average")


def guard(model: nn.Module, alone: nn.Module, problem: Problem, *, by: str = "individual",
          split: str = "train") -> Fallback:
    """`model`, with the fewest tasks answered by their single-task networks that make it empirically safe.

    by: "individual": L_t <= L_t^STL for each task, with mean losses over the whole split in evaluation mode.
        "average": the mean over tasks of L_t is at most that of L_t^STL. See `harmed`; `Fallback.guarded` lists the
        tasks. Equality keeps the model.
    split: "train": definition 3 then holds of the result by construction, for each of its losses is one of the two
        that were compared. "val" compares on the validation split, and is a promise about that split alone: neither
        about training losses, of which definition 3 speaks, nor about new data, for which tasks chosen by validation
        losses look better on the validation split than they are.
    model, alone: trained; both are copied, see `Fallback`, which raises what does not fit.

    Why not close a gate, where a model has gates? At alpha_t = 0 a task is answered by its private network, which is
    its single-task network in DSMTL-IL only: there it was trained alone and then frozen (`close_harmful_gates`). In
    DSMTL-JL private networks learned with the gates open, for one share of a mixture, and nothing holds their
    losses at most at L_t^STL; in DSMTL-AL a task with branch point P has no private network, and no gate.
    Raises ValueError for another rule or split, and for single-task losses that are no finite numbers.
    Source: Deep Safe Multi-Task Learning, definition 3; the guard is ours.
    """
    check_guard(by, split)
    together, apart = (split_losses(network, problem, split) for network in (model, alone))
    return Fallback(model, alone, harmed(together, apart, by))


def harmed(together: Mapping[str, float], alone: Mapping[str, float], by: str = "individual") -> list[str]:
    """The fewest tasks that have to go back to their single-task losses for definition 3 to hold.

    together, alone: L_t and L_t^STL by task.
    by: "individual": those with L_t > L_t^STL, no other set will do. "average": those with the largest excess
        L_t - L_t^STL, as many as it takes for the sum of the others' to be at most 0. No k tasks leave less of it
        than these k, so no fewer will do. Of equal excesses the first task in order is taken.
    An L_t that is no finite number counts as an infinite excess. Sums are exact, so that rounding decides nothing.
    Raises ValueError for another rule, for a single-task loss that is no finite number, and for a task without one.
    """
    check_guard(by)
    for task in together:
        if not math.isfinite(alone.get(task, math.nan)):
            raise ValueError(f"The single-task loss of {task!r} is {alone.get(task, 'missing')}, and a task can only "
                             "fall back on a network whose loss is known. Does the split have labels for it, and did "
                             "its training converge?")
    excess = {task: Fraction(loss) - Fraction(alone[task]) if math.isfinite(loss) else math.inf
              for task, loss in together.items()}
    if by == "individual":
        return [task for task in excess if excess[task] > 0]
    given_up: list[str] = []
    for task in sorted(excess, key=lambda task: -excess[task]):
        if sum(value for other, value in excess.items() if other not in given_up) <= 0:
            break
        given_up.append(task)
    return [task for task in excess if task in given_up]


def close_harmful_gates(model: DSMTL, problem: Problem, alone: Mapping[str, float], by: str = "individual",
                        split: str = "train") -> list[str]:
    """Set alpha_t = 0 for the tasks that are `harmed`, measured on `split`; names them.

    model: one that was built on the single-task networks (`DSMTL.build_on`), which is what a closed gate leaves.
    alone: their losses on that split, as `split_losses` gives them.
    """
    found = harmed(split_losses(model, problem, split), alone, by)
    for task in found:
        model.gates[task].close()
    return found


def with_guard(procedure: Callable[..., Run], single_task: Build, *, by: str, split: str) -> Callable[..., Run]:
    """`procedure`, any method's, with single-task networks trained besides, and a guard that chooses between the two.

    Stages: "alone", single-task learning with equal weights and the budget's epochs, which is what the method "stl"
    trains with the same seed; those of the procedure, which trains what it would without a guard; and "guard", the
    result as it is measured, without updates. The cost counts them all, and the parameters that are left.
    `learned` has what the procedure says, of its model before the guard, and "guarded", the tasks that fell back.
    single_task: makes the networks.  by, split: see `guard`.
    """
    def guarded(problem: Problem, build: Build, strategy: Any, setting: Setting, **options: Any) -> Run:
        build(problem)  # what cannot be built is refused before anything is trained
        alone = setting.fit(problem, single_task(problem), "ew", "alone")
        seed_everything(setting.seed)
        together = procedure(problem, build, strategy, setting, **options)
        fallback = guard(together.model, alone.model, problem, by=by, split=split)
        run = in_stages({"alone": alone, "train": together, "guard": _measured(problem, together, fallback)})
        run.learned = {**together.learned, "guarded": fallback.guarded}
        return run
    return guarded


def guard_asked(guard: Any, guard_split: Any) -> str | None:
    """The rule that options of a method's name ask for; None for guard=False. Raises ValueError as `guard` does."""
    if guard is not False:
        check_guard(guard, guard_split)
        return guard
    if guard_split != "train":
        raise ValueError(f"guard_split={guard_split!r} says where a guard compares losses, and there is none: add "
                         "guard=individual or guard=average.")
    return None


def check_guard(by: Any, split: Any = "train") -> None:
    """Raise ValueError for what is no rule, or no split to compare on."""
    if by not in RULES:
        raise ValueError(f"guard={by!r} is no rule: use 'individual', no task's loss above its single-task loss, or "
                         "'average', the mean of the losses not above that of the single-task losses.")
    if split not in ("train", "val"):
        raise ValueError(f"A guard compares losses on the split 'train' or 'val', not on {split!r}. The test split is "
                         "there to judge the result, and could not if tasks were chosen by it.")


def _measured(problem: Problem, run: Run, model: nn.Module) -> Run:
    """`model`, what a guard made of that of `run`, as a stage without updates."""
    epoch = run.config.get("selected_epoch", 1)
    scores = {"train": model.report() if hasattr(model, "report") else {}, "val": evaluate(model, problem, "val")}
    rows = [{"epoch": epoch, "split": split, "task": task, "name": name, "value": value}
            for split, values in scores.items() for task, named in values.items() for name, value in named.items()]
    metrics, samples = scores_and_samples(model, problem)
    cost = {**run.cost, "parameters": size(model), "steps": 0, "samples": 0, "seconds": 0.0}
    return Run(pd.DataFrame(rows), metrics, model, run.config, cost=cost, higher_is_better=run.higher_is_better,
               test_data=run.test_data, samples=samples)
