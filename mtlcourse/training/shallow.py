"""How shallow methods come to their weights: solved for a path of strengths, one of which validation picks.

Imports `encoders`, `files`, `models`, `tasks`, and this folder's `evaluation`, `loop`, `procedures`, `samples`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from ..encoders import size
from ..files import is_number, seed_everything
from ..models.shallow import Losses, Shallow, Solution, collect, grid, path
from ..models.shallow.losses import check_varies
from ..tasks import Problem
from .evaluation import check_data, directions, evaluate
from .loop import Run, on_device, pick_device
from .procedures import Setting
from .samples import scores_and_samples

CHOSEN = "chosen"  # the last stage: the model that validation picked, without iterations
PATIENCE = 4  # strengths of the grid, a decade, without a better one, after which weaker ones are not solved for


def shallow(problem: Problem, build: Callable[[Problem], Shallow], strategy: Any, setting: Setting, *,
            strength: Any = None, tolerance: Any = 1e-8) -> Run:
    """Solve for the weights on the whole training split, at each strength of a path; validation picks one.

    What is picked has the least mean over tasks of `L_t / L_t^0` on the validation split, L_t the task's mean loss and
    L_t^0 that of the best constant on the training split: so that no task counts more for its unit. Of equal ones
    the stronger penalty is taken.

    strength: None (default) for a grid of 17 over four decades, from the least that makes all weights zero, where there
        is one, see `Penalty.largest`; it ends where a decade has brought no better one, for weak penalties take
        longest. Or a number, or several, which are all solved for.
    tolerance: of the KKT residual, relative; see `solver.solve`. Solutions are in float64, the model in float32.
    Epochs, batches and learning rates play no part, nor does chance: every seed gives the same. `cost["steps"]` counts
    iterations, each over all training samples.
    History: a stage "strength=..." for each, with losses on both splits and the strength itself, and the stage
    "chosen". `learned["strength"]`, and what `Shallow.learned` says.
    A run that was cut off begins anew: there is no checkpoint.
    Raises ValueError for a strategy, for options of training, for strengths that are negative; `NotConverged` from the
    solver.
    Source: Saliency-Regularized Deep Multi-Task Learning, section 5.1, which searches a grid from 0.001 to 1 and does
    not say how losses are scaled.
    """
    if strategy is not None:
        raise ValueError(f"{_called(setting)} is one convex problem, solved as a whole: it takes no steps in which "
                         f"{type(strategy).__name__} could weigh losses or combine gradients. Leave the strategy out.")
    if setting.asked:
        raise ValueError(f"{_called(setting)} is solved, not trained: {', '.join(setting.asked)} would do nothing. "
                         "Leave it out; validation picks the strength of the penalty.")
    if not is_number(tolerance) or not 0 < tolerance < 1:
        raise ValueError(f"tolerance={tolerance!r} is no number between 0 and 1.")
    check_data(problem)
    given = _strengths(strength)
    device = pick_device(setting.arguments.get("device", "auto"))
    seed_everything(setting.seed)  # for probes that draw
    model = build(problem).to(device)
    problem = on_device(problem, device)
    started = time.perf_counter()
    train, val = (collect(getattr(problem, split), problem.tasks, model.features, f"{split} split")
                  for split in ("train", "val"))
    check_varies(train, problem.task_names)
    strengths = given or grid(train, model.penalty)
    solutions: list[Solution] = []
    scores: list[float] = []
    for solution in _shown(path(train, model.penalty, strengths, float(tolerance)), len(strengths), problem, setting):
        solutions.append(solution)
        scores.append(score(solution, train, val))
        if not given and len(scores) - 1 - scores.index(min(scores)) >= PATIENCE:
            break
    best = solutions[scores.index(min(scores))]
    model.load(best)
    cost = {"parameters": size(model), "steps": sum(s.iterations for s in solutions),
            "samples": sum(s.iterations for s in solutions) * _samples(problem), "seconds":
            time.perf_counter() - started}
    config = {"problem": problem.name, "options": problem.options, "samples": len(problem.train),
              "method": setting.arguments.get("method"), "model": type(model).__name__, "strategy": None,
              "strengths": strengths, "tolerance": tolerance, "seed": setting.seed, "selected_epoch": 1}
    history = _history(solutions, train, val, evaluate(model, problem, "val"), problem.task_names)
    metrics, samples = scores_and_samples(model, problem)
    return Run(history, metrics, model, config, {"strength": best.strength, **model.learned()}, cost,
               list(dict.fromkeys(history["stage"])), higher_is_better=directions(problem), test_data=samples.data,
               samples=samples)


def score(solution: Solution, train: Losses, val: Losses) -> float:
    """The mean over tasks of `L_t / L_t^0` on `val`, L_t^0 the loss of the best constant on `train`; less is better.

    A task whose validation targets all equal that constant has nothing that can be divided by, and counts 0.
    """
    constant = val.each(np.zeros(val.shape), train.level)
    loss = val.each(solution.weights, solution.bias)
    return float(np.where(constant > 0, loss / np.where(constant > 0, constant, 1), 0).mean())


def _strengths(strength: Any) -> list[float]:
    """Strongest first, each once; empty for None. Raises ValueError."""
    if strength is None:
        return []
    values = strength if isinstance(strength, list | tuple) else [strength]
    for value in values:
        if not is_number(value) or not 0 <= value < math.inf:
            raise ValueError(f"strength={value!r} is no number from 0 upwards.")
    if not values:
        raise ValueError("strength is an empty list; give a number, several, or None for a grid.")
    return sorted({float(value) for value in values}, reverse=True)


def _shown(solutions: Any, count: int, problem: Problem, setting: Setting) -> Any:
    from tqdm.auto import tqdm

    return tqdm(solutions, total=count, desc=problem.name, unit="strength", leave=False,
                disable=not setting.arguments.get("progress", True))


def _samples(problem: Problem) -> int:
    """What one pass over the training split sees."""
    return sum(batch.samples for batch in problem.train.batches(512))


def _history(solutions: Sequence[Solution], train: Losses, val: Losses, chosen: Mapping[str, Mapping[str, float]],
             names: Sequence[str]) -> pd.DataFrame:
    rows: list[tuple] = []
    for solution in solutions:
        stage = f"strength={solution.strength:.6g}"
        rows.append((stage, "train", "shared", "strength", solution.strength))
        for split, losses in (("train", train), ("val", val)):
            each: Float64[np.ndarray, "tasks"] = losses.each(solution.weights, solution.bias)
            rows += [(stage, split, name, "loss", float(loss)) for name, loss in zip(names, each, strict=True)]
    rows += [(CHOSEN, "val", task, name, value) for task, scores in chosen.items() for name, value in scores.items()]
    frame = pd.DataFrame(rows, columns=["stage", "split", "task", "name", "value"])
    frame.insert(1, "epoch", 1)
    return frame


def _called(setting: Setting) -> str:
    return str(setting.arguments.get("method") or "A shallow method")
