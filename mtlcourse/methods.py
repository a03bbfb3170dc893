"""Methods by name: "hps+ew" is an architecture, a strategy, a procedure and the defaults of all three.

Imports `batches`, `data`, `files`, `grammar`, `models`, `search`, `strategies`, `training`. A name is `part ("+"
part)*`, see `grammar`: first an architecture, then at most one loss and one gradient strategy. Every architecture takes
the options of training in `TRAINING`: `stl(epochs=2)` trains twice as long as the budget says, each stage of a method
in stages, so that a baseline can be given as many steps as what it is compared with. Every architecture takes `guard`
too, as in `hps(guard=individual)`: single-task networks are trained besides, and tasks that are better off with these
go back to them, see `procedures.guard`; `guard_split=val` compares on the validation split.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import data, models, strategies
from .batches import steps_of_epoch
from .data import DomainProblem
from .encoders import size
from .files import is_number, is_whole, same_source, seed_everything, unknown
from .grammar import Part, parse_part, parse_parts
from .search.alignment import AlignmentNetwork, aas
from .search.cells.procedures import darts, e2rnas, random_cells
from .search.cells.sizes import CellSearch, PartialSearch, ProgressiveSearch
from .search.sharing.adashare import AdaShare, adashare
from .search.sharing.auxilearn import auxilearn
from .search.sharing.bmtas import BMTAS, bmtas
from .search.sharing.branches import Supernet
from .search.sharing.conal import conal
from .search.sharing.conal_pro import ProgressiveSupernet, conal_pro
from .search.sharing.dsmtl_al import dsmtl_al
from .search.sharing.ltb import LTB, ltb
from .search.sharing.mtl_nas import MTLNAS, mtl_nas
from .tasks import Problem
from .training import Run, adversaries, aligning, criterion, judged, oracle, train_losses, watching
from .training.distributed import ALONE, Total
from .training.loop import UNUSUAL, check_unusual
from .training.procedures import Setting, dsmtl_il, dsmtl_jl, guard_asked, srdml, train_once, with_guard
from .training.shallow import shallow

BATCH_SIZE = 128
# What a budget means for a problem that does not say it itself (`Problem.training`): at least so many epochs and at
# least so many steps, for six epochs of a few hundred samples teach a network nothing.
BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {"epochs": 1, "samples": 2 * BATCH_SIZE, "evaluate": 2 * BATCH_SIZE},
    "fast": {"epochs": 6, "steps": 280, "samples": 6_000},
    "full": {"epochs": 20, "steps": 2_800},
    "paper": {},
}

OF_BUDGETS = ("epochs", "batch_size", *UNUSUAL)  # settings that a budget's name may change: "fast(epochs=50)"
# Options of every architecture's name: arguments of `training.fit`, but for epochs, a multiple of the budget's.
TRAINING = ("epochs", "select", "patience", "drop_last", *UNUSUAL)
# Others, with their defaults: of a guard around the architecture's procedure, see `procedures.with_guard`.
GUARD: dict[str, Any] = {"guard": False, "guard_split": "train"}


# --- names ----------------------------------------------------------------------------------------------

def parse(name: str) -> list[Part]:
    """The parts of a method's name, checked: a known architecture, then known strategies of different kinds.

    Raises ValueError for anything else, naming what is known.

    >>> [str(part) for part in parse("hps + ew")]
    ['hps', 'ew']
    """
    first, *others = parse_parts(name)
    if _method(first.name).domains and others:
        raise ValueError(f"{name!r} names a strategy, and {first.name!r} has one task: there is nothing to weigh. "
                         f"Options stand in parentheses, as in '{first.name}(weight=0.1)'.")
    for other in others:
        if other.name in _METHODS and other.name not in strategies.names():
            raise ValueError(f"{other.name!r} in {name!r} is an architecture, and a name has one, at its beginning; "
                             f"behind a plus stands a strategy: {', '.join(strategies.names())}.")
    kinds = [strategies.make(other.name, **other.options).kind for other in others]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"{name!r} names {len(others)} strategies; at most one for losses and one for gradients "
                         "can be combined.")
    return [first, *others]


def canonical(name: str) -> str:
    """The one spelling of equal names: no spaces around "+", options sorted."""
    return "+".join(str(part) for part in parse(name))


# --- the registry -----------------------------------------------------------------------------------------

@dataclass
class Method:
    """An architecture and the procedure that trains it.

    build(problem, **options): the model, untrained; it must not look at the data.
    procedure(problem, build, strategy, setting, *, ...): trains and returns a `Run`, see `procedures`.
    strategy: name of the strategy used when the method's name gives none; None: the procedure has its own.
    domains: whether it adapts to domains without labels: it trains on a `DomainProblem`, of which `build` and
        `procedure` get the `DomainView` in place of a problem, and takes no strategy.
    Options of the method's name go to the procedure if it has a keyword-only argument of that name, and
    to `build` otherwise; those in `TRAINING` to neither, but to `training.fit`, for every method. Those in `GUARD` make
    a guard around the procedure, unless it has them itself.
    """

    build: Callable[..., nn.Module]
    procedure: Callable[..., Run]
    strategy: str | None = "ew"
    domains: bool = False

    def of_procedure(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of `options` that are the procedure's."""
        kinds = {name: parameter.kind for name, parameter in inspect.signature(self.procedure).parameters.items()}
        return {key: value for key, value in options.items() if kinds.get(key) is inspect.Parameter.KEYWORD_ONLY}


_METHODS: dict[str, Method] = {}


def register(name: str, build: Callable[..., nn.Module], procedure: Callable[..., Run] = train_once,
             strategy: str | None = "ew", domains: bool = False) -> None:
    """Make an architecture known as `name`; see `Method`.

    Raises ValueError if another function or class has the name or if it cannot be part of a method's name.
    """
    if name in _METHODS and not same_source(_METHODS[name].build, build):
        raise ValueError(f"A method named {name!r} is there already; choose another name.")
    if parse_part(name) != Part(name):
        raise ValueError(f"{name!r} cannot be a method's name; use letters, digits and hyphens.")
    _METHODS[name] = Method(build, procedure, None if domains else strategy, domains)


def names(domains: bool = False) -> list[str]:
    """Names of all architectures; "+" and a strategy may follow each.

    domains: those that adapt to domains without labels instead, after which no strategy may come.
    """
    return [name for name, method in _METHODS.items() if method.domains == domains]


def procedure(name: str) -> Callable[..., Run]:
    """What trains the architecture called `name`. Raises ValueError for an unknown one."""
    return _method(name).procedure


def _method(name: str) -> Method:
    """The architecture called `name`. Raises ValueError for an unknown one."""
    if name not in _METHODS and name in strategies.names():
        raise ValueError(f"{name!r} is a strategy, which stands behind an architecture and a plus, as in 'hps+{name}'.")
    if name not in _METHODS:
        raise ValueError(unknown("architecture", name, _METHODS))
    return _METHODS[name]


register("stl", models.STL)
register("hps", models.HPS)
register("hps-wide", models.WideHPS)
register("stl-wide", models.WideSTL)
register("dsmtl-il", models.DSMTL, dsmtl_il)
register("dsmtl-jl", models.DSMTL, dsmtl_jl)
register("cross-stitch", models.CrossStitch)
register("nddr", models.NDDR)
register("mtan", models.MTAN)
register("afa", models.AFA)
register("mmoe", models.MMoE)
register("cgc", models.CGC)
register("ple", models.PLE)
register("dmtrl", models.DMTRL)
register("tnrmtl", models.TNRMTL)
register("mrn", models.MRN)
register("rotograd", models.RotoGrad)
register("srdml", models.SRDML, srdml)
register("maxroam", models.MaxRoam)
register("tsn", models.TSN)
register("tree", models.Tree)
register("dsmtl-al", Supernet, dsmtl_al, strategy=None)
register("conal", Supernet, conal, strategy=None)
register("conal-pro", ProgressiveSupernet, conal_pro, strategy=None)
register("ltb", LTB, ltb)
register("bmtas", BMTAS, bmtas)
register("mtl-nas", MTLNAS, mtl_nas)
register("adashare", AdaShare, adashare)
register("auxilearn", models.HPS, auxilearn, strategy=None)
register("darts", CellSearch, darts)
register("p-darts", ProgressiveSearch, darts)
register("pc-darts", PartialSearch, darts)
register("e2rnas", CellSearch, e2rnas)
register("random-cells", CellSearch, random_cells)
register("lasso", models.Lasso, shallow, strategy=None)
register("l21", models.L21, shallow, strategy=None)
register("rmtl", models.RMTL, shallow, strategy=None)
register("mtrl", models.MTRL, shallow, strategy=None)
register("theta", models.FeatureCovariance, shallow, strategy=None)
register("source-only", models.Aligned, aligning.source_only, domains=True)
register("pc", models.Aligned, aligning.pc, domains=True)
register("a-distance", models.Aligned, adversaries.a_distance, domains=True)
register("kl", models.Aligned, aligning.by_kl, domains=True)
register("mmd", models.Aligned, aligning.by_mmd, domains=True)
register("coral", models.Aligned, aligning.by_coral, domains=True)
register("cmd", models.Aligned, aligning.by_cmd, domains=True)
register("dan", models.Aligned, aligning.dan, domains=True)
register("dann", models.Aligned, adversaries.dann, domains=True)
register("jan", models.Aligned, aligning.jan, domains=True)
register("cdan", models.Aligned, adversaries.cdan, domains=True)
register("mcd", models.Aligned, adversaries.mcd, domains=True)
register("aas", AlignmentNetwork, aas, domains=True)
register("aaspc", AlignmentNetwork, functools.partial(aas, distance="pc"), domains=True)


class UnknownOption(ValueError):
    """A method's name has an option that the method does not have."""


# --- running -----------------------------------------------------------------------------------------------

def run(name: str, problem: Problem | DomainProblem | str, *, seed: int = 0, budget: str = "fast",
        checkpoint: str | Path | None = None, device: str = "auto", precision: str = "auto", progress: bool = True,
        lr: float | None = None, accumulate: int = 1, save_every: int | None = None, total: Total = ALONE) -> Run:
    """Train the method called `name` on `problem` from scratch and return its `Run`.

    problem: a `Problem`, or what `data.load` takes, options in parentheses: "rooms(train=400)". For a method that
        adapts a `DomainProblem`, or what `data.domains` takes: "digit_domains(source=mnist, target=optdigits)".
    budget: "smoke" (two batches), "fast" (seconds), "full" (about ten times that), "paper" (as printed);
        it sets epochs and the number of samples, never what defines a method. "fast(epochs=50, batch_size=32)"
        changes one of its settings.
    lr: learning rate in place of the problem's.
    accumulate, save_every, total: see `training.fit`.
    Raises ValueError for unknown names, options and budgets, naming the known ones, for a method and a problem of
    different kinds, and for a negative seed.
    """
    if not is_whole(seed, 0):
        raise ValueError(f"seed={seed!r} is no whole number from 0 upwards.")
    if isinstance(problem, str):
        data.introduce(problem)
    architecture, *others = parse(name)
    training, guard, own = taken_apart(architecture)
    problem = load_problem(problem) if isinstance(problem, str) else problem
    check_kind(own.name, problem)
    arguments = budget_arguments(problem, budget)
    problem = problem.sized(arguments.pop("samples", None), arguments.pop("evaluate", None))
    if lr is not None:
        arguments["lr"] = lr
    if isinstance(problem, DomainProblem):
        arguments.setdefault("drop_last", len(problem.train) >= arguments["batch_size"])
    a_pass = steps_of_epoch(len(problem.train), arguments["batch_size"],
                            training.get("drop_last", arguments.get("drop_last", False)))
    least = max(arguments["epochs"], math.ceil(arguments.pop("steps", 0) / max(1, a_pass)))
    arguments |= training | {"epochs": max(1, round(training.get("epochs", 1) * least))}
    arguments |= {"device": device, "precision": precision, "progress": progress, "method": canonical(name)}
    arguments |= {"accumulate": accumulate, "save_every": save_every, "total": total}
    method = _METHODS[own.name]
    seed_everything(seed)
    strategy = _strategy(others or ([Part(method.strategy)] if method.strategy else []))
    setting = Setting(seed, None if checkpoint is None else Path(checkpoint), arguments, training)
    procedure = method.procedure
    if isinstance(problem, DomainProblem):
        return _adapted(own, problem, setting, budget, guard)
    if guard:
        procedure = with_guard(procedure, lambda p: models.STL(p, own.options.get("encoder")), **guard)
    result = procedure(problem, lambda p: _build(own, p), strategy, setting, **method.of_procedure(own.options))
    result.train_losses = train_losses(result.model, problem, total)
    result.config["budget"] = str(parse_part(budget))
    return result


def _adapted(own: Part, problem: DomainProblem, setting: Setting, budget: str, guard: Any) -> Run:
    """The rest of `run` for a method that adapts: the procedure sees the view, and the result is judged outside."""
    if guard:
        raise ValueError(f"{own.name!r} takes no guard: that falls back on single-task networks where a task's "
                         "training loss is higher, and a target domain has no such loss.")
    method, select = _METHODS[own.name], setting.arguments.get("select", "last")
    arguments = {**setting.arguments, "select": criterion(select, problem), "watch": watching(problem, select)}
    result = method.procedure(problem.view, lambda view: _build(own, view), None,
                              replace(setting, arguments=arguments), **method.of_procedure(own.options))
    result.train_losses = train_losses(result.model, problem.view.source)
    result = judged(result, problem)
    result.learned = {**result.learned, "oracle": oracle(result)}
    result.config["budget"] = str(parse_part(budget))
    return result


def check_kind(name: str, problem: Problem | DomainProblem) -> None:
    """Raise ValueError for an unknown method, for one that adapts to domains the problem has not, and the reverse."""
    domains = isinstance(problem, DomainProblem)
    if _method(name).domains != domains:
        kinds = ("a multi-task problem", "a problem of several domains")
        raise ValueError(f"{name!r} is a method for {kinds[not domains]}, and {problem.name!r} is {kinds[domains]}. "
                         f"For it there are {', '.join(names(domains))}; for {name!r} there are "
                         f"{', '.join(data.names(not domains))}.")


def taken_apart(part: Part) -> tuple[dict[str, Any], dict[str, Any], Part]:
    """The options of training in `part`, what `with_guard` is to know (nothing without a guard), and the other options.

    Raises ValueError for what the first two cannot be, and for an unknown architecture.
    """
    training = {key: value for key, value in part.options.items() if key in TRAINING}
    epochs = training.get("epochs", 1)
    if not is_number(epochs) or not 0 < epochs < math.inf:
        raise ValueError(f"epochs={epochs!r} of {part.name!r} is no multiple of the budget's epochs; 2 trains twice as "
                         "long, 0.5 half as long.")
    check_unusual(training)
    inside = _method(part.name).of_procedure(part.options)
    around = {key: value for key, value in part.options.items() if key in GUARD and key not in inside}
    options = GUARD | around
    by = guard_asked(options["guard"], options["guard_split"])
    own = {key: value for key, value in part.options.items() if key not in training and key not in around}
    return training, {"by": by, "split": options["guard_split"]} if by else {}, Part(part.name, own)


def _strategy(parts: list[Part]) -> strategies.Strategy | None:
    """The strategy of these parts: one, or a loss strategy and a gradient strategy at once; None for no part."""
    made = [strategies.make(part.name, **part.options) for part in parts]
    if len(made) < 2:
        return made[0] if made else None
    return strategies.Chain(*sorted(made, key=lambda strategy: strategy.kind, reverse=True))


def bind_strategy(name: str, problem_name: str) -> strategies.Strategy | None:
    """The strategy of the method called `name` for the tasks of a problem, without data; None if it names none.

    Raises ValueError where the two do not go together, as for the fixed weight of a task that is not there.
    """
    data.introduce(problem_name)
    part, strategy = parse_part(problem_name), _strategy(parse(name)[1:])
    return strategy and strategy.bind(data.describe(part.name, **part.options).tasks)


def budget_arguments(problem: Problem | DomainProblem, budget: str) -> dict[str, Any]:
    """What `budget` means for `problem`: arguments of `fit`, and `samples` and `evaluate`, its data sizes.

    A least number of `steps` is there where nobody has fixed the epochs: neither the problem, nor the budget's name.
    Raises ValueError for an unknown budget or setting, for a value that is none, and where no paper prints settings.
    """
    part = parse_part(budget)
    if part.name not in BUDGETS:
        raise ValueError(unknown("budget", part.name, BUDGETS))
    if part.name == "paper" and "paper" not in problem.training:
        raise ValueError(f"No paper prints settings for problem {problem.name!r}; "
                         "use one of the budgets smoke, fast, full.")
    for key, value in part.options.items():
        if key not in OF_BUDGETS:
            raise ValueError(unknown(f"setting of budget {part.name!r}", key, OF_BUDGETS))
        if key not in UNUSUAL and not is_whole(value, 1):
            raise ValueError(f"{key}={value!r} of budget {part.name!r} must be a whole number from 1 upwards.")
    check_unusual(part.options)
    usual, own = BUDGETS[part.name], {**problem.training.get(part.name, {}), **part.options}
    return {"batch_size": BATCH_SIZE, **{key: value for key, value in usual.items()
                                         if key != "steps" or "epochs" not in own}, **own}


def load_problem(name: str) -> Problem | DomainProblem:
    """Load a problem by name, by "package.module:function", or with options: "rooms(train=400)"."""
    part = parse_part(name)
    return data.registry.load_any(part.name, part.options)


def build(name: str, problem: Problem | DomainProblem) -> nn.Module:
    """The untrained model of the method called `name`. Raises ValueError for a problem of the other kind."""
    part = taken_apart(parse(name)[0])[-1]
    check_kind(part.name, problem)
    return _build(part, problem.view if isinstance(problem, DomainProblem) else problem)


def _build(part: Part, problem: Problem | data.DomainView) -> nn.Module:
    method = _METHODS[part.name]
    elsewhere = method.of_procedure(part.options)
    try:
        return method.build(problem, **{key: value for key, value in part.options.items() if key not in elsewhere})
    except TypeError as error:
        if not any(said in str(error) for said in ("unexpected keyword argument", "multiple values for")):
            raise
        known = ["**" * (one.kind is one.VAR_KEYWORD) + one.name for function in (method.build, method.procedure)
                 for one in inspect.signature(function).parameters.values()
                 if one.default is not one.empty or one.kind is one.VAR_KEYWORD]
        raise UnknownOption(f"Method {part.name!r} does not take these options ({part.options}): {error}. Its own are "
                            f"{', '.join(known) or 'none'}; all take {', '.join((*TRAINING, *GUARD))}.") from error


def count_parameters(name: str, problem_name: str) -> int:
    """Number of parameters of a method's model on a problem, counted on the meta device without data.

    A guard is not counted: what falls back is known after training only (`Run.cost`); at most that is all of "stl".
    """
    part = parse_part(problem_name)
    description = data.describe(part.name, **part.options)  # outside: a problem may make its data all the same
    with torch.device("meta"):
        model = build(name, description)
    return size(model)
