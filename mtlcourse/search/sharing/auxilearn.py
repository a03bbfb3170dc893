"""AuxiLearn: how task losses are combined is learned from validation losses, by implicit differentiation.

Imports `files`, `procedures`, `strategies`, `tasks`, `training`, `updates`, `search.bilevel`, `search.searching`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from ...files import unknown
from ...strategies import Chain, Strategy, TaskWeights
from ...strategies.base import all_present
from ...tasks import Batch, Problem
from ...training import Run
from ...training.identity import described
from ...training.procedures import Build, Setting
from ...training.updates import StrategyStep
from ..bilevel import BilevelStep, Loss, gradients, halves, summed_over
from ..searching import lower_step, not_negative, settings_of

COMBINATIONS = ("linear", "monotone")


class LearnedCombination(Strategy):
    """A combination g of the task losses that an upper level learns, used through its derivatives.

    combination: "linear": `g(L) = sum_t phi_t L_t` with phi_t >= 0, all 1 at first.
        "monotone": `g(L) = mean_t L_t + sum_k b_k softplus(sum_t a_kt L_t + c_k)`, a, b >= 0, a small net that grows
        with every loss; a and b start uniform between 0 and 1, c at 0.
    Weights of the tasks are `dg / dL_t`, on shared parameters and heads: the gradient of the net's weights is that of
    g(L). Of tasks that are absent the loss counts as 0.

    hidden: k, of the small net.  Scale: as learned; at first m (linear).
    """

    def __init__(self, combination: str = "linear", hidden: int = 3):
        super().__init__()
        if combination not in COMBINATIONS:
            raise ValueError(unknown("combination", str(combination), COMBINATIONS))
        self.combination, self.hidden = combination, hidden

    def bind(self, tasks: Sequence[Any], generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.register_buffer("last", torch.ones(self.m, dtype=torch.float64))  # the last weights
        if self.combination == "linear":
            self.phi = nn.Parameter(torch.ones(self.m, dtype=torch.float64))
        else:
            def uniform(*shape: int) -> nn.Parameter:
                return nn.Parameter(torch.rand(shape, generator=self.generator, dtype=torch.float64))
            self.a, self.b = uniform(self.hidden, self.m), uniform(self.hidden)
            self.c = nn.Parameter(torch.zeros(self.hidden, dtype=torch.float64))
        return self

    def combine(self, losses: Float[Tensor, "m"]) -> Float64[Tensor, ""]:
        """g(L), differentiable in L and in what is learned."""
        losses = losses.double()
        if self.combination == "linear":
            return self.phi.to(losses.device) @ losses
        a, b, c = (parameter.to(losses.device) for parameter in (self.a, self.b, self.c))
        return losses.mean() + b @ nn.functional.softplus(a @ losses + c)

    def used(self) -> dict[str, float]:
        """The last step's weights: `{task: dg / dL_t}`."""
        return dict(zip(self.tasks, self.last.tolist(), strict=True))

    def project(self) -> None:
        """Clamp at zero what must not be negative."""
        for parameter in [self.phi] if self.combination == "linear" else [self.a, self.b]:
            parameter.data.clamp_(min=0)

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        here = all_present(losses, present)
        known = losses.masked_fill(~here, 0.0).requires_grad_()
        with torch.enable_grad():
            slopes = torch.autograd.grad(self.combine(known), known)[0] * here
        self.last = slopes
        return TaskWeights(shared=slopes, heads=slopes)


class ImplicitStep(BilevelStep):
    """`BilevelStep` whose hypergradient differentiates the optimum of the lower level.

    At `dL(w, u)/dw = 0`, `dF/du = -d2L/dudw H^-1 v` with `v = dF/dw` and the Hessian H of L in w. The inverse is a
    Neumann series, cut after `terms`: `H^-1 v = xi sum_(k = 0)^terms (I - xi H)^k v`, which converges for positive
    definite H and `xi < 2 / |H|`; xi is by default the weights' learning rate, one for all, and only Hessian-vector
    products are computed. The direct part of dF/du is added (AuxiLearn's is zero: validation losses do not depend on
    how training losses are combined).

    combination: what is learned; it is projected after each of its steps.  terms: of the series, after the first.
    Source: J. Lorraine, P. Vicol, D. Duvenaud, Optimizing Millions of Hyperparameters by Implicit Differentiation,
    AISTATS 2020, as AuxiLearn uses it.
    """

    def __init__(self, *arguments: Any, combination: LearnedCombination, terms: int = 3, **options: Any):
        super().__init__(*arguments, order="exact", **options)
        if combination.combination != "linear" and self.total.size > 1:
            raise ValueError("A monotone combination of the losses of a share is no share of that of the batch's; use "
                             "combination=linear, or one process.")
        self.terms, self.combination = terms, combination
        self.settings["upper"] |= {"combination": described(combination), "terms": terms}
        self.optimizer.register_step_post_hook(lambda *_: combination.project())

    def hypergradients(self, objectives: Sequence[Loss], above: Batch, below: Batch) -> list[list[Tensor]]:
        if not self._labelled(below):  # the combination weighs nothing
            return [self._of(objective, above, self.upper) for objective in objectives]
        weights = [weight for weight, _ in self._weights()]
        rates = [group["lr"] if self.xi is None else self.xi for _, group in self._weights()]
        slopes = gradients(self.lower_objective(below), weights, keep=True)
        found = []
        for objective in objectives:
            both = self._of(objective, above, [*self.upper, *weights])
            direct, term = both[: len(self.upper)], both[len(self.upper) :]
            total = term
            for _ in range(self.terms):
                bent = self._product(slopes, weights, term)
                term = [v - rate * part for v, rate, part in zip(term, rates, bent, strict=True)]
                total = [sofar + part for sofar, part in zip(total, term, strict=True)]
            solved = [rate * part for rate, part in zip(rates, total, strict=True)]
            mixed = self._product(slopes, self.upper, solved)
            found.append([a - b for a, b in zip(direct, mixed, strict=True)])
        return found

    def _product(self, slopes: Sequence[Tensor], parameters: Sequence[Tensor], v: Sequence[Tensor]) -> list[Tensor]:
        """The gradient in `parameters` of `<slopes, v>`: with the weights themselves, H v."""
        bent = [(slope, part) for slope, part in zip(slopes, v, strict=True) if slope.requires_grad]  # others are zero
        found = torch.autograd.grad([slope for slope, _ in bent], parameters, [part for _, part in bent],
                                    retain_graph=True, allow_unused=True, materialize_grads=True)
        return summed_over(found, self.total)

    def seen_so_far(self) -> dict[str, dict[str, float]]:
        """For the history, after each epoch: every task's last "weight", and what the engine has seen."""
        weights = {task: {"weight": weight} for task, weight in self.combination.used().items()}
        return {**super().seen_so_far(), **weights}


def auxilearn(problem: Problem, build: Build, strategy: Strategy | None, setting: Setting, *,
              combination: str = "linear", hidden: int = 3, main: str | None = None, held_out: float = 0.1,
              terms: int = 3) -> Run:
    """AuxiLearn on an architecture: one stage, in which the combination of the losses learns along.

    Each step first moves the combination by the implicit hypergradient of a validation loss, then the weights by the
    gradient of the combined training losses. AuxiLearn has one main task, whose validation loss counts, and auxiliary
    ones; where all tasks matter, as here by default, it is the mean of all tasks' validation losses.

    combination, hidden: see `LearnedCombination`.  main: the main task, None for all.
    held_out: share of the training split that only the combination sees. In the authors' runs it is 2.5% and the
        combination moves every 50 steps; here it is 10% of much smaller sets, in every step, at ten times the
        weights' learning rate, as theirs.
    terms: of the Neumann series, see `ImplicitStep`.
    strategy: a gradient strategy sees the losses as weighted by the combination; a loss strategy is refused.
    `learned["weights"]`: what the last step weighed the tasks by; "parameters": of the combination.
    Raises ValueError for an unknown combination or main task, for negative terms, and for a loss strategy.
    Source: A. Navon, I. Achituve, H. Maron, G. Chechik, E. Fetaya, Auxiliary Learning by Implicit Differentiation,
    ICLR 2021, reconstructed from its idea and from what the authors' public code does (combinations, series,
    settings). There the small net sees each sample's losses; here it sees a batch's means, because samples may lack
    tasks. There the series has no factor xi, which an optimiser such as Adam does not notice.
    """
    if main is not None and main not in problem.task_names:
        raise ValueError(unknown("main task", str(main), problem.task_names))
    not_negative(terms=terms)
    learning = LearnedCombination(combination, hidden)
    if strategy is not None:
        if strategy.kind == "loss" or isinstance(strategy, Chain):
            raise ValueError("AuxiLearn learns how losses are weighted; another loss strategy cannot be added, a "
                             "gradient strategy can, as in 'auxilearn+pcgrad'.")
        strategy = Chain(learning, strategy)
    settings, model = settings_of(setting), build(problem)
    below, above = halves(problem, setting.seed, held_out)
    lower = lower_step(problem, model, strategy or learning, setting)
    step = ImplicitStep(lower, list(learning.parameters()), validation(lower, main), above, lr=10 * settings["lr"],
                        optimizer=settings["optimizer"], batch_size=settings["batch_size"], seed=setting.seed,
                        lower_objective=combined(lower, learning), terms=terms, combination=learning,
                        drop_last=settings["drop_last"])
    run = setting.fit(below, model, strategy or learning, step=step)
    run.learned = {"weights": learning.used(),
                   "parameters": {name: values.tolist() for name, values in learning.named_parameters()}}
    return run


def validation(step: StrategyStep, main: str | None) -> Loss:
    """The upper level's loss: the mean of all tasks' losses, or that of the main task (zero for a batch without it)."""
    def loss(batch: Batch) -> Tensor:
        losses, _ = step.losses(batch)
        if main is not None:
            losses = {main: losses.get(main, 0 * sum(losses.values()))}
        return torch.stack(list(losses.values())).mean()
    return loss


def combined(step: StrategyStep, combination: LearnedCombination) -> Loss:
    """The lower level's loss g(L_1, ..., L_m), and the model's auxiliary loss if it has one."""
    def loss(batch: Batch) -> Tensor:
        losses, auxiliary = step.losses(batch)
        known = next(iter(losses.values()))
        total = combination.combine(torch.stack([losses.get(name, torch.zeros_like(known))
                                                 for name in combination.tasks]))
        return total if auxiliary is None else total + auxiliary
    return loss
