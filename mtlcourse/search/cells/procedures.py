"""`darts`, `e2rnas` and random cells: a search in a supernet, then a network of what was found, trained afresh.

Imports `batches`, `files`, `strategies`, `tasks`, `training`, `search.bilevel`, `search.searching` and its folder.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ...batches import steps_of_epoch
from ...files import derived_seed, is_number, is_whole, seed_everything, unknown
from ...strategies import make
from ...tasks import Problem
from ...training import Run
from ...training.procedures import Setting, in_stages
from ...training.updates import StrategyStep
from ..bilevel import BilevelStep, halves, summed
from ..searching import flags, lower_step, not_negative, settings_of, with_test_scores
from .genotype import Genotype
from .objectives import LOWER, OBJECTIVES, Attack, Foreign, Objectives, in_units
from .resources import Resources, size_conflict
from .sizes import CellSearch
from .step import E2RNASStep, combination, include_outside

EPSILON = 2 / 255  # printed
PATH = 3e-4 * 50 * 390  # printed: learning rate of the architecture times steps: how far Adam can take an alpha
SHARE = 0.3  # of the way from the least to the most parameters, where the printed L = 2.5 million lies
SKIPS = 2  # in the normal cell, at most, by P-DARTS
WARM_UP = {"darts": 0.0, "p-darts": 0.4, "pc-darts": 0.3}  # shares of the epochs: 10 of 25, 15 of 50
Step = Callable[[StrategyStep, CellSearch, Any, dict[str, Any]], BilevelStep]


def darts(problem: Problem, build: Callable[[Problem], CellSearch], strategy: Any, setting: Setting, *,
          order: str = "second", architecture_lr: float | int | None = None, retrain: float | int = 4,
          weights_first: Any = False) -> Run:
    """DARTS: search on the validation loss alone, then train the network of the genotype that was found.

    "search": weights on one half of the training split, the architecture on the other.  "retrain": the derived network
        on the whole of it. In the history the first has the supernet's scores.
    order: see `BilevelStep`; "second" as printed.  weights_first: see there.
    architecture_lr: of Adam, beta (0.5, 0.999), weight decay 1e-3. By default what makes the printed path: 3e-4 times
        the 19,500 steps of the printed search, over the steps of this one.
    retrain: epochs of the second stage, as a multiple of the budget's; twelve are printed (600 after 50).
    Weights learn by SGD with momentum 0.9, weight decay 3e-4, and a cosine schedule, from 25 times the setting's
    learning rate, which is meant for Adam: 0.025 for 1e-3, as printed. Batches that are not full are left out, for
    batch norm, where there are full ones. Samples of probes are for the derived network alone.
    `learned`: "genotype"; "alphas"; "derived" and, of the search, "expected" parameters and multiply-adds; "reachable".
    Raises ValueError for what is no number of epochs or rate, and an unknown order.
    Source: H. Liu, K. Simonyan, Y. Yang, DARTS: Differentiable Architecture Search, ICLR 2019; on P-DARTS and PC-DARTS
    see `CellSearch`.
    """
    flags(weights_first=weights_first)

    def step(lower: StrategyStep, model: CellSearch, above: Any, keywords: dict[str, Any]) -> BilevelStep:
        return BilevelStep(lower, model.architecture_parameters(), summed(lower), above, order=order,
                           lower_objective=summed(lower), weights_first=weights_first, **keywords)

    return searched(problem, build(problem), strategy, setting, step, architecture_lr, retrain)[0]


def e2rnas(problem: Problem, build: Callable[[Problem], CellSearch], strategy: Any, setting: Setting, *,
           L: float | int | None = None, F: float | int | None = None, units: Any = "relative",
           combine: str = "frank-wolfe", normalise: str = "none", lower: str = "ood", attack: str = "fgsm",
           epsilon: float | int | None = None, order: str = "second", weights_first: Any = True,
           architecture_lr: float | int | None = None, retrain: float | int = 4) -> Run:
    """E2RNAS: search on five objectives at once, then train the network of the genotype that was found.

    As `darts`, with the step of `E2RNASStep` in the search. Retraining is on the labels alone, as printed: what was
    asked of the search beyond accuracy reaches the network through its architecture only.

    L, F: wanted parameters and multiply-adds of the derived network. By default L lies at 0.3 of the way from the least
        to the most that the space has, as the printed 2.5 million does (1,370,134 to 5,144,086), and F, which is not
        printed, at the same share of its own way.
    units: of the two objectives of size, see `Objectives`; "relative" by default.
    combine, normalise: see `E2RNASStep`.
    lower: "ood" (3.7); the ablations "none", on the labels alone, and "adversarial", where the weights' batches are
        attacked too.
    attack: "fgsm" as in 3.3.2.2, or "pgd".  epsilon: its radius; by default the problem's option of that name, or the
        printed 2 / 255.
    `learned` has besides "wanted" L and F; "upper_loss" and "upper_weight", of each objective in the "first" step, in
    the "last", and the "mean" over all; and "size_conflict", the cosine of the gradients of both sizes at the start.
    Raises ValueError for a problem without samples from elsewhere or without a task that names a class, for L and F out
    of reach, and for options that are not known.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, chapter 3.
    """
    if lower not in LOWER:
        raise ValueError(unknown("loss of the lower level", str(lower), LOWER))
    flags(weights_first=weights_first)
    combination(combine, normalise)
    model = build(problem)
    resources = model.resources(problem)
    wanted = wanted_sizes(resources, L, F)
    in_units(units, wanted)
    radius = problem.options.get("epsilon", EPSILON) if epsilon is None else epsilon
    levels = ["upper", *([] if lower == "none" else ["lower"])]
    foreign = Foreign(problem, settings_of(setting)["batch_size"], setting.seed, levels)
    attacking = Attack(attack, radius)
    conflict = size_conflict(resources, model.alphas(), *wanted)

    def step(below: StrategyStep, model: CellSearch, above: Any, keywords: dict[str, Any]) -> BilevelStep:
        foreign.to(next(model.parameters()).device)
        if lower != "none":
            include_outside(below, foreign)
        return E2RNASStep(Objectives(below, foreign, attacking, resources, wanted, units), above, order=order,
                          combine=combine, normalise=normalise, attack_below=lower == "adversarial",
                          weights_first=weights_first, **keywords)

    run, steps = searched(problem, model, strategy, setting, step, architecture_lr, retrain)
    seen = torch.tensor([row for step in steps for row in step.seen], dtype=torch.float64)
    for name, columns in zip(("upper_loss", "upper_weight"), seen.split(len(OBJECTIVES), 1), strict=True):
        when = {"first": columns[0], "mean": columns.mean(0), "last": columns[-1]}
        run.learned[name] = {which: dict(zip(OBJECTIVES, row.tolist(), strict=True)) for which, row in when.items()}
    run.learned["wanted"] = dict(zip(("parameters", "multiply_adds"), wanted, strict=True))
    run.learned["size_conflict"] = conflict
    return run


def random_cells(problem: Problem, build: Callable[[Problem], CellSearch], strategy: Any, setting: Setting, *,
                 L: float | int | None = None, draws: int = 100, retrain: float | int = 4) -> Run:
    """The control: cells by lot, trained as `darts` and `e2rnas` train theirs.

    draws: so many genotypes are drawn, and the one whose network has nearest to L parameters is taken; 1 takes any.
    L: as for `e2rnas`.
    retrain: see `darts`. A search takes as many steps as half an epoch of retraining for each of its epochs: with
        `retrain=4.5` the whole has as many steps as a search with `retrain=4`.
    `learned`: "genotype", "derived", "wanted", "reachable".
    Source: asked for by L. Li, A. Talwalkar, Random Search and Reproducibility for Neural Architecture Search, UAI
    2019, where random search in the space of DARTS did as well as DARTS.
    """
    if not is_whole(draws, 1):
        raise ValueError(f"draws={draws!r} must be a whole number from 1 upwards.")
    epochs_of(retrain, setting)
    model = build(problem)
    resources = model.resources(problem)
    wanted = wanted_sizes(resources, L, None)
    generator = torch.Generator().manual_seed(derived_seed(setting.seed, "random cells"))
    drawn = [model.space.draw(generator) for _ in range(draws)]
    genotype = min(drawn, key=lambda one: abs(resources.counts(one).parameters - wanted[0]))
    run = retrained(problem, model, genotype, strategy, setting, retrain)
    run.learned = {**sizes_of(resources, genotype), "wanted": {"parameters": wanted[0]}}
    return run


# --- the stages ---------------------------------------------------------------------------------------------

def searched(problem: Problem, model: CellSearch, strategy: Any, setting: Setting, make_step: Step,
             architecture_lr: float | int | None, retrain: float | int) -> tuple[Run, list[Any]]:
    """Search with steps of `make_step`, retrain; the whole run, and the search's step objects."""
    epochs_of(retrain, setting)
    if architecture_lr is not None:
        not_negative(architecture_lr=architecture_lr)
    inside = replace(problem, probes={})
    resources, runs, steps = model.resources(problem), {}, []
    skips = SKIPS if model.on == "p-darts" else None
    for number in range(3 if model.on == "p-darts" else 1):
        if number:
            seed_everything(setting.seed)
            model = model.later(problem, number)
        name = f"search_{number + 1}" if model.on == "p-darts" else "search"
        run, step = _search(inside, model, setting, make_step, architecture_lr, name)
        runs[name] = with_test_scores(run)
        steps.append(step)
    genotype = model.genotype(skips)
    expected = [resources.parameters(model.alphas()).item(), resources.flops(model.alphas()).item()]
    alphas = [torch.softmax(alpha, -1).tolist() for alpha in model.alphas()]
    runs["retrain"] = retrained(problem, model, genotype, strategy, setting, retrain)
    run = in_stages(runs)
    run.learned = {**sizes_of(resources, genotype), "alphas": dict(zip(("normal", "reduction"), alphas, strict=True)),
                   "expected": dict(zip(("parameters", "multiply_adds"), expected, strict=True))}
    return run, steps


def retrained(problem: Problem, model: CellSearch, genotype: Genotype, strategy: Any, setting: Setting,
              retrain: float | int) -> Run:
    """The derived network, trained from scratch on the whole training split."""
    seed_everything(setting.seed)
    network = model.derive(problem, genotype)
    epochs = epochs_of(retrain, setting)
    network.prepare(epochs)
    return by_sgd(setting, problem).fit(problem, network, strategy, "retrain", epochs=epochs, schedule="cosine")


def _search(problem: Problem, model: CellSearch, setting: Setting, make_step: Step,
            architecture_lr: float | int | None, name: str) -> tuple[Run, Any]:
    epochs = settings_of(setting)["epochs"]
    if model.on == "p-darts":
        epochs = max(1, round(epochs / 2))  # 25 in each stage, where DARTS has 50
    warm_up = min(round(WARM_UP[model.on] * epochs), epochs - 1)
    model.prepare(epochs, warm_up)
    below, above = halves(problem, setting.seed)
    setting = by_sgd(setting, below)
    settings = settings_of(setting)
    lower = lower_step(problem, model, make("ew"), setting)
    batch = settings["batch_size"]
    steps = (epochs - warm_up) * max(1, steps_of_epoch(len(below.train), batch, settings["drop_last"]))
    step = make_step(lower, model, above, {
        "batch_size": batch, "seed": setting.seed, "lr": PATH / steps if architecture_lr is None else architecture_lr,
        "weight_decay": 1e-3, "optimizer": architecture_adam, "warm_up": warm_up, "drop_last": settings["drop_last"]})
    schedule = cosine_of_weights(epochs)
    run = setting.fit(below, model, "ew", name, step=step, epochs=epochs, schedule=schedule, select="last",
                      patience=None)
    return run, step


def by_sgd(setting: Setting, problem: Problem) -> Setting:
    """The setting with the optimiser of cells, see `darts`."""
    settings = settings_of(setting)
    full = settings["drop_last"] or len(problem.train) >= 2 * settings["batch_size"]
    return replace(setting, arguments={**setting.arguments, "optimizer": momentum_sgd, "lr": 25 * settings["lr"],
                                       "weight_decay": 3e-4, "drop_last": full})


def momentum_sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9)


def architecture_adam(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, betas=(0.5, 0.999))


def cosine_of_weights(epochs: int) -> Callable[[torch.optim.Optimizer], Any]:
    """A cosine schedule for the weights, and none for the architecture."""
    def schedule(optimizer: torch.optim.Optimizer) -> Any:
        if isinstance(optimizer, torch.optim.SGD):
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        return Constant()
    return schedule


class Constant:
    """A schedule that leaves the rate as it is, also of an optimiser that does not step while the weights warm up."""

    def step(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


# --- sizes --------------------------------------------------------------------------------------------------

def wanted_sizes(resources: Resources, L: float | int | None, F: float | int | None) -> tuple[float, float]:
    """L and F, see `e2rnas`. Raises ValueError for what is out of reach, or no number."""
    (least, most), (fewest, largest) = resources.reachable()
    for name, value in (("L", L), ("F", F)):
        if value is not None:
            not_negative(**{name: value})
    resources.check(L, F)
    L = least + SHARE * (most - least) if L is None else float(L)
    share = (L - least) / max(most - least, 1)
    return L, fewest + share * (largest - fewest) if F is None else float(F)


def sizes_of(resources: Resources, genotype: Genotype) -> dict[str, Any]:
    """What `learned` says of a genotype."""
    names = ("parameters", "multiply_adds")
    return {"genotype": genotype.to_dict(), "derived": dict(zip(names, resources.counts(genotype), strict=True)),
            "reachable": {name: list(interval) for name, interval in zip(names, resources.reachable(), strict=True)}}


def epochs_of(retrain: float | int, setting: Setting) -> int:
    """Epochs of retraining. Raises ValueError for a multiple that is none."""
    if not is_number(retrain) or not 0 < retrain < math.inf:
        raise ValueError(f"retrain={retrain!r} is no multiple of the budget's epochs; 4 retrains four times as long as "
                         "the search.")
    return max(1, round(retrain * settings_of(setting)["epochs"]))
