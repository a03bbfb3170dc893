"""A checkpoint is gone on with by the same training only: every option of every strategy tells two apart."""

import functools
import inspect
import re

import pytest
import torch

from mtlcourse import models, strategies
from mtlcourse.files import seed_everything
from mtlcourse.search import BilevelStep, summed
from mtlcourse.strategies import Chain, make
from mtlcourse.training import fit, make_step
from mtlcourse.training.identity import described
from tests.problems import small
from tests.training.test_loop import Countdown

# Those of "fixed" are named after tasks, see TWO.
OPTIONS = [(name, option) for name in strategies.names() if name != "fixed"
           for option in inspect.signature(strategies.make(name).__class__).parameters]


def go(checkpoint, strategy="ew", **changes):
    seed_everything(0)
    problem = small()
    model = models.HPS(problem)
    if "step" in changes:
        changes["step"] = changes["step"](problem, model)
    settings = {"epochs": 1, "progress": False, **changes}
    return fit(problem, model, strategy, checkpoint=checkpoint, **settings)


def refused(checkpoint, first, second, **changes):
    go(checkpoint, first(), **changes)
    go(checkpoint, first(), **changes)  # the same is gone on with
    with pytest.raises(ValueError, match="belongs to another training"):
        go(checkpoint, second(), **changes)


def another(name: str, option: str):
    """A value of this option that is not its default, whatever the option is."""
    default = make(name).options[option]
    known = []
    try:
        make(name, **{option: "?"})
    except Exception as error:  # whatever it says: perhaps it names what is known
        known = re.findall(r"[\w\-/()^+]+(?=[,.])", str(error).partition("Known: ")[2])
    numbers = [default * 0.5, default + 1] if isinstance(default, int | float) and not isinstance(default, bool) else []
    for value in [*known, *numbers, not default, 0.3, [0.3, 0.7], (0.0, 1.0, 0.25), "size"]:
        try:
            if value != default and described(make(name, **{option: value}).bind(["kind", "size"])):
                return value
        except Exception:  # a value that this option does not take
            continue
    raise AssertionError(f"no other value found for {option} of {name}")


@pytest.mark.parametrize("name, option", OPTIONS)
def test_every_option_of_every_strategy_is_part_of_the_identity(name, option, tmp_path):
    value = another(name, option)
    assert described(make(name)) != described(make(name, **{option: value}))
    assert described(make(name, **{option: value})) == described(make(name, **{option: value}))
    refused(tmp_path / "state", lambda: make(name), lambda: make(name, **{option: value}))


TWO = {
    "coefficients": (lambda: make("bmtl", h="poly", coefficients=(0.0, 1.0, 0.5)),
                     lambda: make("bmtl", h="poly", coefficients=(0.0, 1.0, 5.0))),
    "preferences": (lambda: make("stch", preferences=[0.5, 0.5]), lambda: make("stch", preferences=[0.9, 0.1])),
    "fixed weights": (lambda: make("fixed", kind=2), lambda: make("fixed", kind=3)),
    "a fixed weight of another task": (lambda: make("fixed", kind=2), lambda: make("fixed", size=2)),
    "a transform": (lambda: make("bmtl", h=lambda z: z**2), lambda: make("bmtl", h=lambda z: z**3)),
    "what a transform encloses": (lambda: make("bmtl", h=power(2)), lambda: make("bmtl", h=power(3))),
    "a partial": (lambda: make("bmtl", h=functools.partial(torch.pow, exponent=2)),
                  lambda: make("bmtl", h=functools.partial(torch.pow, exponent=3))),
    "first of a chain": (lambda: Chain(make("dwa", T=2), make("pcgrad")),
                         lambda: Chain(make("dwa", T=50), make("pcgrad"))),
    "second of a chain": (lambda: Chain(make("dwa"), make("cagrad", c=0.1)),
                          lambda: Chain(make("dwa"), make("cagrad", c=0.9))),
    "a part of a chain": (lambda: Chain(make("dwa"), make("mgda")), lambda: Chain(make("dwa"), make("pcgrad"))),
    "changed afterwards": (lambda: make("dwa"), lambda: changed(make("dwa"), T=9.0)),
}


def power(exponent):
    return lambda z: z**exponent


def changed(strategy, **values):
    vars(strategy).update(values)
    return strategy


@pytest.mark.parametrize("pair", TWO.values(), ids=TWO)
def test_options_that_are_no_scalars_and_parts_of_a_chain_count(pair, tmp_path):
    refused(tmp_path / "state", *pair)


class Weighted(strategies.EqualWeighting):
    """A strategy of one's own, with an option of a kind that the project's have not."""

    def __init__(self, prior=None):
        super().__init__()
        self._prior = prior


@pytest.mark.parametrize("first, second", [
    ({"kind": 1.0}, {"kind": 2.0}), (torch.ones(100), torch.cat([torch.ones(99), torch.zeros(1)])),
    (torch.ones(3), torch.ones(4)), ([[1], [2]], [[1], [3]]), ({1, 2}, {1, 3}), (None, 0.0), (True, 1), ("1", 1),
])
def test_options_of_a_strategy_of_ones_own_count(first, second):
    assert described(Weighted(first)) != described(Weighted(second))
    assert described(Weighted(first)) == described(Weighted(first))


def test_one_value_written_in_two_ways_is_one_training(tmp_path):
    for one, other in (({"T": 5}, {"T": 5.0}), ({"coefficients": [0, 1, 2]}, {"coefficients": (0.0, 1.0, 2.0)}),
                       ({}, {"T": 50.0, "h": "exp"})):
        assert described(make("bmtl", **one)) == described(make("bmtl", **other))


@pytest.mark.parametrize("first, second", [
    ({"optimizer": functools.partial(torch.optim.SGD, lr=0.1)},
     {"optimizer": functools.partial(torch.optim.SGD, lr=1)}),
    ({"optimizer": lambda groups: torch.optim.SGD(groups, momentum=0.1)},
     {"optimizer": lambda groups: torch.optim.SGD(groups, momentum=0.9)}),
    ({"schedule": lambda o: torch.optim.lr_scheduler.StepLR(o, 1)},
     {"schedule": lambda o: torch.optim.lr_scheduler.StepLR(o, 2)}),
    ({"diagnostics": False}, {"diagnostics": True}), ({"drop_last": False}, {"drop_last": True, "batch_size": 16}),
])
def test_other_choices_count(first, second, tmp_path):
    go(tmp_path / "state", **first)
    go(tmp_path / "state", **first)
    with pytest.raises(ValueError, match="belongs to another training"):
        go(tmp_path / "state", **second)


class Fixed(Countdown):
    """A step of one's own, with this optimiser."""

    def __init__(self, model, optimizer):
        super().__init__(model)
        self.optimizers = [optimizer(model.parameters())]


STEPS = {
    "learning rate": (lambda p: torch.optim.SGD(p, lr=1.0), lambda p: torch.optim.SGD(p, lr=0.5)),
    "kind": (lambda p: torch.optim.SGD(p, lr=1.0), lambda p: torch.optim.Adam(p, lr=1.0)),
    "momentum": (lambda p: torch.optim.SGD(p, lr=1.0), lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.5)),
    "groups": (lambda p: torch.optim.SGD(p, lr=1.0), lambda p: torch.optim.SGD([{"params": [q]} for q in p], lr=1.0)),
}


@pytest.mark.parametrize("pair", STEPS.values(), ids=STEPS)
def test_the_optimiser_of_a_step_of_ones_own_counts(pair, tmp_path):
    first, second = pair
    run = go(tmp_path / "state", step=lambda problem, model: Fixed(model, first))
    assert (run.config["optimizer"], run.config["lr"], run.config["strategy"]) == ("sgd", 1.0, None)
    go(tmp_path / "state", step=lambda problem, model: Fixed(model, first))
    with pytest.raises(ValueError, match="belongs to another training"):
        go(tmp_path / "state", step=lambda problem, model: Fixed(model, second))


def bilevel(order):
    def make_one(problem, model):
        lower = make_step(problem.tasks, model, "dwa", optimizer="sgd", lr=0.3)
        upper = torch.nn.Parameter(torch.zeros(1))
        return BilevelStep(lower, [upper], summed(lower), problem.train, lr=0.7, batch_size=20, order=order,
                           lower_objective=summed(lower))
    return make_one


def test_a_search_says_what_it_is_and_counts_what_it_saw(tmp_path):
    run = go(tmp_path / "state", step=bilevel("first"), batch_size=20)
    assert (run.config["strategy"], run.config["optimizer"], run.config["lr"]) == ("dwa", "sgd", 0.3)
    assert run.config["upper"]["lr"] == 0.7 and run.config["upper"]["order"] == "first"
    assert run.cost["steps"] == 2 and run.cost["samples"] == 40 + 40
    again = go(tmp_path / "state", step=bilevel("first"), batch_size=20)
    assert again.cost == run.cost
    with pytest.raises(ValueError, match="belongs to another training"):
        go(tmp_path / "state", step=bilevel("exact"), batch_size=20)
