"""One step of E2RNAS: the weights, five gradients in the architecture, and their combination.

Imports `strategies`, `tasks`, `search.bilevel`, `search.cells.objectives`.
"""

from typing import Any

import torch
from torch import Tensor

from ...files import unknown
from ...strategies import Strategy, make
from ...tasks import Batch
from ...training.updates import StrategyStep
from ..bilevel import BilevelStep, gradients, summed
from .objectives import OBJECTIVES, Foreign, Objectives

COMBINE = ("frank-wolfe", "exact", "equal")


class E2RNASStep(BilevelStep):
    """Two levels: the weights on data and foreign samples, the architecture on five objectives at once.

    w <- w - lr_w d(L_tr + L_ood)/dw                                                              (3.7)
    g_i = the gradient in alpha of objective i, for the three that depend on the weights through one more step of
        them (3.8, see `BilevelStep`: order), for the two of size alone
    Gamma = combination of the five from their 5 x 5 Gram matrix;  alpha <- alpha - lr_a sum_i Gamma_i g_i    (3.9)

    The step looked ahead in 3.8 prints L_tr alone and a rate xi that stands nowhere; here it is the lower level's whole
    loss and the lower optimiser's rate, as 3.7 has it. Algorithm 1 takes the weights first; `weights_first=False` is
    the order of DARTS.

    On nets with kinks order="second" is far from what 3.8 says, see `central_difference`; "exact" is that.

    objectives: with the lower step, whose loss has L_ood in it if `include_outside` has been called.
    combine: "frank-wolfe", MGDA as printed; "exact", MGDA with an exact solver; "equal", one fifth each (the ablation
        without MGDA).  normalise: by which lengths MGDA divides the gradients to find Gamma, see `strategies`.
    attack_below: the ablation with adversarial training: the weights' batch is attacked first.
    `seen`: for each step five losses, then five weights Gamma, which sum to one.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 3.2.4 and algorithm 1.
    """

    def __init__(self, objectives: Objectives, split: Any, *, combine: str = "frank-wolfe", normalise: str = "none",
                 attack_below: bool = False, weights_first: bool = True, **keywords: Any):
        lower = objectives.lower
        super().__init__(lower, lower.model.architecture_parameters(), objectives.validation, split,
                         lower_objective=summed(lower), weights_first=weights_first, **keywords)
        self.objectives, self.attack_below = objectives, attack_below
        self.strategy = combination(combine, normalise).bind(OBJECTIVES)
        self.seen: list[list[float]] = []
        self.shown = 0  # of `seen`, in the history already
        attack = objectives.attack
        self.settings["upper"] |= {
            "objectives": list(OBJECTIVES), "combine": combine, "normalise": normalise, "attack": attack.kind,
            "epsilon": attack.epsilon, "attack_below": attack_below, "wanted": list(objectives.wanted),
            "units": list(objectives.units), "outside_below": "lower" in objectives.foreign.inputs}

    def __call__(self, batch: Batch) -> dict[str, float]:
        self.objectives.foreign.draw()
        return super().__call__(self.objectives.attack(self.lower, batch) if self.attack_below else batch)

    def upper_gradient(self, above: Batch, below: Batch) -> list[Tensor]:
        """`sum_i Gamma_i g_i`, one tensor a parameter."""
        rows, losses = self.five(above, below)
        flat = torch.stack([torch.cat([part.flatten().double() for part in row]) for row in rows])
        weights = self.strategy.weights(losses, (flat @ flat.T).cpu()).shared / len(OBJECTIVES)
        self.seen.append([*losses.tolist(), *weights.tolist()])
        combined = (weights.to(flat) @ flat).split([parameter.numel() for parameter in self.upper])
        return [part.reshape(parameter.shape).to(parameter)
                for part, parameter in zip(combined, self.upper, strict=True)]

    def five(self, above: Batch, below: Batch) -> tuple[list[list[Tensor]], Tensor]:
        """The gradient of each objective, one tensor a parameter, and the five losses (5,), in the order of
        `OBJECTIVES`."""
        found: list[Tensor] = []

        def noted(objective):
            def loss(batch: Batch) -> Tensor:
                value = objective(batch)
                found.append(value.detach())
                return value
            return loss

        of = self.objectives
        rows = self.hypergradients([noted(loss) for loss in (of.validation, of.outside, of.adversarial)], above, below)
        for size in of.sizes():
            found.append(size.detach())
            rows.append(gradients(size, self.upper))
        return rows, torch.stack([value.double() for value in found]).cpu()

    # --- what `fit` needs besides ---

    def seen_so_far(self) -> dict[str, dict[str, float]]:
        """Means since the last call: "upper_loss" and "upper_weight" of each objective; and "expected" sizes now."""
        rows, self.shown = self.seen[self.shown :], len(self.seen)
        means = torch.tensor(rows).mean(0).tolist() if rows else []
        five = len(OBJECTIVES)
        expected = dict(zip(("parameters", "multiply_adds"),
                            (value.item() for value in self.objectives.expected()), strict=True))
        return {**super().seen_so_far(), "upper_loss": dict(zip(OBJECTIVES, means[:five], strict=bool(means))),
                "upper_weight": dict(zip(OBJECTIVES, means[five:], strict=bool(means))), "expected": expected}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "outside": self.objectives.foreign.generator.get_state(),
                "seen": torch.tensor(self.seen, dtype=torch.float64), "shown": self.shown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.objectives.foreign.generator.set_state(state["outside"])
        self.seen, self.shown = state["seen"].tolist(), state["shown"]


def include_outside(lower: StrategyStep, foreign: Foreign) -> None:
    """Have the lower step minimise `L_tr + L_ood` (3.7), on the foreign samples that are drawn for each step."""
    own = lower.hooks.get("auxiliary_loss")

    def auxiliary(batch: Batch, predictions: Any) -> Tensor:
        strange = foreign.loss(lower, "lower")
        return strange if own is None else own(batch, predictions) + strange

    lower.hooks["auxiliary_loss"] = auxiliary


def combination(combine: str, normalise: str) -> Strategy:
    """From the five gradients to their weights, see `E2RNASStep`. Raises ValueError for what is not known."""
    if combine not in COMBINE:
        raise ValueError(unknown("way to combine", str(combine), COMBINE))
    if combine == "equal":
        if normalise != "none":
            raise ValueError(f"normalise={normalise!r} is for MGDA's weights, and combine='equal' has one fifth each.")
        return make("ew")
    return make("mgda", normalise=normalise, solver=combine)
