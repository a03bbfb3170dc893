"""A loop of one's own that leaves out what a strategy needs is told so at the second step, and no other loop is."""

import copy

import pytest
import torch
from torch import nn

from mtlcourse import models
from mtlcourse.strategies import (
    Chain,
    Engine,
    FastAdaptiveWeighting,
    SmoothedWeights,
    UncertaintyWeighting,
    make,
    names,
)
from mtlcourse.training import make_step
from tests.problems import small
from tests.strategies.nets import NAMES, Plain, model_and_batch

LEARN = ["uw", "imtl-l", "gradnorm"]  # those with numbers of their own
CHAINS = [("uw", "pcgrad"), ("gradnorm", "mgda"), ("imtl-l", "imtl-g")]


def strategy_of(name):
    return Chain(make(name[0]), make(name[1])) if isinstance(name, tuple) else make(name)


def loop(engine, model, losses, groups=(), steps=3, optimizer=torch.optim.SGD, between=lambda: None, **options):
    optimizer = optimizer([{"params": list(model.parameters())}, *groups], **{"lr": 0.05, **options})
    for _ in range(steps):
        optimizer.zero_grad()
        engine.backward(losses())
        optimizer.step()
        between()


@pytest.mark.parametrize("name", [*LEARN, *CHAINS])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{}, {"fused": True}, {"foreach": True}])
def test_numbers_that_nobody_optimises_are_an_error_at_the_second_step(name, optimizer, options):
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, strategy_of(name))
    with pytest.raises(RuntimeError, match="learns numbers of its own, and nobody optimises them(.|\n)*training.Loop"):
        loop(engine, model, losses, steps=2, optimizer=optimizer, **options)
    loop(Engine(model, strategy_of(name)), model, losses, steps=1)


@pytest.mark.parametrize("name", [*LEARN, *CHAINS])
@pytest.mark.parametrize("options", [{}, {"fused": True}, {"foreach": True}, {"lr": 0.0}, {"lr": 0.0, "fused": True}])
def test_numbers_that_an_optimiser_holds_are_none(name, options):
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, strategy_of(name))
    loop(engine, model, losses, engine.strategy.param_groups(), **options)


@pytest.mark.parametrize("build", [Plain, models.STL, models.HPS])
def test_it_does_not_matter_what_the_model_is(build):
    model, losses = model_and_batch(build)
    with pytest.raises(RuntimeError, match="UncertaintyWeighting learns numbers of its own"):
        loop(Engine(model, "uw"), model, losses, steps=2)


@pytest.mark.parametrize("name", [*LEARN, "famo"])
def test_who_measures_without_training_or_adds_up_is_not_disturbed(name):
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, name)
    for _ in range(3):
        engine.backward(losses())
    groups = engine.strategy.param_groups()
    optimizer = torch.optim.SGD([{"params": list(model.parameters())}, *groups], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(2):
            engine.backward(losses())
        optimizer.step()
        if engine.strategy.looks_again:
            engine.look_again(losses())


def test_sparse_gradients_are_looked_at_too():
    class Words(nn.Module):
        exits, heads = None, {"a": None, "b": None}

        def __init__(self):
            super().__init__()
            self.rows = nn.Embedding(5, 2, sparse=True)

        def shared_modules(self):
            return [list(self.rows.parameters())]

        def task_parameters(self, task):
            return []

    model = Words()
    engine = Engine(model, "uw")
    with pytest.raises(RuntimeError, match="nobody optimises"):
        loop(engine, model, lambda: {name: model.rows(torch.tensor([t])).square().sum() for t, name in enumerate("ab")})


def test_an_optimiser_of_its_own_will_do():
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, "uw")
    own = torch.optim.Adam(engine.strategy.param_groups(), lr=0.1)
    loop(engine, model, losses, between=own.step)
    assert engine.strategy.log_variances[0].item() != 0


def test_gradients_of_zero_move_nothing_and_need_not():
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, UncertaintyWeighting("classification"))

    def at_rest():  # e^-v L = 1/2 for v = 0: where a learned variance has settled
        return {name: loss - loss.detach() + 0.5 for name, loss in losses().items()}

    loop(engine, model, at_rest)
    with pytest.raises(RuntimeError, match="nobody optimises"):
        loop(engine, model, losses, steps=2)


def test_a_step_that_was_left_out_for_both_is_none():
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, "uw")
    optimizer = torch.optim.SGD([*model.parameters(), *engine.strategy.parameters()], lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        engine.backward(losses())
        if step % 2:
            optimizer.step()


def test_a_strategy_that_was_bound_anew_begins_anew():
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, "uw")
    loop(engine, model, losses, steps=1)
    engine.strategy.bind(list(NAMES))
    loop(engine, model, losses, steps=1)


class Twice(FastAdaptiveWeighting):
    """Another strategy that looks again."""


@pytest.mark.parametrize("strategy", [lambda: make("famo"), Twice, lambda: Chain(make("famo"), make("pcgrad"))])
def test_a_second_look_that_does_not_come_is_an_error(strategy):
    model, losses = model_and_batch(models.HPS)
    with pytest.raises(RuntimeError, match="was not shown them. Call engine.look_again\\(losses\\)"):
        loop(Engine(model, strategy()), model, losses, steps=2)
    engine = Engine(model, strategy())
    loop(engine, model, losses, between=lambda: engine.look_again(losses()))


@pytest.mark.parametrize("name", names())
def test_all_others_need_nothing(name):
    model, losses = model_and_batch(models.HPS)
    if not (name in LEARN or name == "famo"):
        loop(Engine(model, name), model, losses)


def test_the_error_leaves_gradients_as_they_were():
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, "uw")
    loop(engine, model, losses, steps=1)
    before = copy.deepcopy([p.grad for p in model.parameters()])
    with pytest.raises(RuntimeError):
        engine.backward(losses())
    assert all(map(torch.equal, before, [p.grad for p in model.parameters()]))


def test_a_step_object_holds_what_the_strategy_learns_or_is_not_made():
    problem = small()
    with pytest.raises(ValueError, match="UncertaintyWeighting learns numbers of its own, and the optimiser does not"):
        model = models.HPS(problem)
        make_step(problem.tasks, model, "uw", optimizer=lambda groups: torch.optim.SGD(model.parameters(), lr=0.1))

def test_numbers_that_no_group_names_are_for_somebody_else():
    """Those that an upper level learns, in its own time."""
    class Above(UncertaintyWeighting):
        def param_groups(self):
            return []

    problem = small()
    step = make_step(problem.tasks, models.HPS(problem), Above())
    for batch in problem.train.batches(10):
        step(batch)


def test_who_hears_of_epochs():
    hear = {name for name in names() if make(name).bind(["a", "b"]).hears_of_epochs}
    assert hear == {"dwa"}
    assert make("stch", warm_up=2).hears_of_epochs and Chain(make("dwa"), make("mgda")).hears_of_epochs
    assert not SmoothedWeights("mgda").hears_of_epochs and not Chain(make("uw"), make("mgda")).hears_of_epochs


def test_asking_again_finds_what_is_frozen_since():
    problem = small()
    model = models.HPS(problem)
    engine = Engine(model, "ew", diagnostics=True)
    batch = next(problem.train.batches(8))

    def losses():
        return {t.name: t.loss(model(batch.inputs)[t.name], batch.targets[t.name]) for t in problem.tasks}

    engine.backward(losses())
    before = len(engine.seen["module_grams"])
    nn.Module.requires_grad_(model.shared.stages[0], False)
    engine.ask_again()
    engine.backward(losses())
    assert len(engine.seen["module_grams"]) == before - 1
