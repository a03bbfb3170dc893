"""The five objectives of E2RNAS, as functions of the step's batches.

Imports `metrics`, `tasks`, `training`, `search.cells.resources`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...files import derived_seed, unknown
from ...metrics import fgsm, from_uniform, pgd
from ...metrics.robustness import check_ball
from ...tasks import Batch, Problem
from ...training.updates import StrategyStep
from .resources import Resources

OBJECTIVES = ("validation", "outside", "adversarial", "parameters", "flops")
ATTACKS = ("fgsm", "pgd")
LOWER = ("ood", "none", "adversarial")
UNITS = ("relative", "millions", "thousands")


class Foreign:
    """The samples from elsewhere that the two levels train on, and what is asked of a net there.

    L_ood is the mean over a batch of `KL(U || softmax(z(x)))`, summed over tasks that name a class (equation 3.2).

    outside: `Problem.outside`; "lower" and "upper" are used, if a level asks for them.  batch_size: samples a step.
    seed: of the draws; a step's samples are drawn without replacement, those of different steps independently.
    """

    def __init__(self, problem: Problem, batch_size: int, seed: int, levels: Sequence[str]):
        missing = [level for level in levels if level not in problem.outside]
        if missing:
            raise ValueError(f"Problem {problem.name!r} has no samples from elsewhere for {missing}, of which E2RNAS "
                             "has its nets be unsure. Give Problem(outside={'lower': ..., 'upper': ..., 'test': ...}), "
                             "inputs without labels that share no sample; 'robust_digits' has them.")
        self.inputs = {level: problem.outside[level] for level in levels}
        self.tasks, self.batch_size = judged(problem), batch_size
        self.generator = torch.Generator().manual_seed(derived_seed(seed, "outside"))
        self.drawn: dict[str, Tensor] = {}

    def draw(self) -> None:
        """Draw this step's samples, which are the same for all that the step computes."""
        self.drawn = {level: self.inputs[level][torch.randperm(len(self.inputs[level]), generator=self.generator)
                                                [: self.batch_size].to(self.inputs[level].device)]
                      for level in self.inputs}

    def loss(self, lower: StrategyStep, level: str) -> Float[Tensor, ""]:
        """L_ood on this step's samples of a level."""
        model = lower.model
        exits = getattr(model, "exits", None)  # those of the batch with labels, which the engine will cut at
        with lower.autocast():
            predictions = lower.forward(self.drawn[level])
        model.exits = exits
        return torch.stack([from_uniform(predictions[task]).mean() for task in self.tasks]).sum()

    def to(self, device: torch.device) -> None:
        self.inputs = {level: inputs.to(device) for level, inputs in self.inputs.items()}


class Attack:
    """Adversarial examples for the present net: the loss is raised in a ball of radius epsilon around each input.

    kind: "fgsm" or "pgd" (ten steps from a random start), see `metrics`.
    Raises ValueError for another kind, and for an epsilon below 0.
    """

    def __init__(self, kind: str, epsilon: float | int):
        if kind not in ATTACKS:
            raise ValueError(unknown("attack", str(kind), ATTACKS))
        check_ball(epsilon)
        self.kind, self.epsilon = kind, epsilon

    def __call__(self, lower: StrategyStep, batch: Batch) -> Batch:
        """The batch with other inputs; the weights get no gradients, and the examples hold no graph."""
        def loss(inputs: Tensor) -> Tensor:
            losses = lower.task_losses(replace(batch, inputs=inputs))
            return torch.stack(list(losses.values())).sum()

        make = fgsm if self.kind == "fgsm" else pgd
        return replace(batch, inputs=make(loss, batch.inputs, self.epsilon))


class Objectives:
    """The upper level's five losses, each differentiable in the architecture parameters.

    "validation": L_val, the sum of the task losses on a batch of the upper level's half.
    "outside": L_ood on foreign samples of the upper level (equation 3.2).
    "adversarial": L_val where the batch's inputs are attacked (equation 3.3), with the weights at which it is asked:
        in second order those looked ahead to.
    "parameters": `|N(alpha) - L| / u` (3.4).  "flops": `|F(alpha) - F| / v` (3.5), in multiply-adds. These two do not
        depend on the weights.

    wanted: (L, F).  units: u and v. The printed objectives have none, and which one is used decides what MGDA does:
        "relative" (default): u = L, v = F, so that the size of a network does not matter; "millions": 10^6 for both, as
        L = 2.5 is printed; "thousands": 10^3 and 10^4; or a pair of numbers.
    Raises ValueError for units that are none, and for L or F that no network of the space has, saying which it has.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, sections 3.2.2 and 3.2.3.
    """

    def __init__(self, lower: StrategyStep, foreign: Foreign, attack: Attack, resources: Resources,
                 wanted: tuple[float, float], units: Any = "relative"):
        self.lower, self.foreign, self.attack, self.resources = lower, foreign, attack, resources
        resources.check(*wanted)
        self.wanted, self.units = wanted, in_units(units, wanted)

    def validation(self, batch: Batch) -> Float[Tensor, ""]:
        return torch.stack(list(self.lower.task_losses(batch).values())).sum()

    def outside(self, batch: Batch) -> Float[Tensor, ""]:
        return self.foreign.loss(self.lower, "upper")

    def adversarial(self, batch: Batch) -> Float[Tensor, ""]:
        return self.validation(self.attack(self.lower, batch))

    def sizes(self) -> list[Float[Tensor, ""]]:
        """Both losses of size."""
        return [(value - wanted).abs() / unit for value, wanted, unit in
                zip(self.expected(), self.wanted, self.units, strict=True)]

    def expected(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Expected parameters and multiply-adds of the derived network."""
        alphas = self.lower.model.alphas  # anew for each: graphs of their own
        return self.resources.parameters(alphas()), self.resources.flops(alphas())


def in_units(units: Any, wanted: tuple[float, float]) -> tuple[float, float]:
    """u and v, see `Objectives`. Raises ValueError."""
    named: Mapping[str, tuple[float, float]] = {"relative": wanted, "millions": (1e6, 1e6), "thousands": (1e3, 1e4)}
    if isinstance(units, str):
        if units not in named:
            raise ValueError(f"{unknown('unit', units, UNITS)} Or give a pair, of parameters and of multiply-adds.")
        return named[units]
    pair = tuple(units) if isinstance(units, list | tuple) else ()
    if len(pair) != 2 or not all(isinstance(u, int | float) and 0 < u < float("inf") for u in pair):
        raise ValueError(f"units={units!r}: give one of {', '.join(UNITS)}, or two positive numbers, of parameters and "
                         "of multiply-adds.")
    return float(pair[0]), float(pair[1])


def judged(problem: Problem) -> list[str]:
    """The tasks that name one of several classes for a sample. Raises ValueError where there is none."""
    found = [task.name for task in problem.tasks
             if task.kind == "classification" and not task.dense and task.out_channels > 1]
    if not found or not getattr(problem.train, "shared", True):
        raise ValueError(f"Problem {problem.name!r} has no task that names one of several classes, for an image that "
                         "all tasks share; robustness, as E2RNAS has it, is about those.")
    return found
