"""The contract: names, options, combine, what tasks tell a strategy."""

import pytest
import torch

from mtlcourse import strategies
from mtlcourse.strategies import Chain, combine, make
from tests.problems import TASKS


def test_names_begin_with_those_of_the_course_in_its_order():
    assert strategies.names()[:14] == ["ew", "uw", "dwa", "gls", "rlw", "gradnorm", "max", "smax", "cl", "bmtl", "mgda",
                                       "pcgrad", "cagrad", "mamg"]
    assert len(set(strategies.names())) == len(strategies.names()) == 40


def test_unknown_names_and_options_show_the_known_ones():
    with pytest.raises(ValueError, match="Unknown strategy 'pcgard'. Known: pcgrad,.*mgda"):
        make("pcgard")
    with pytest.raises(ValueError, match="'cc'. Known: c, rescale"):
        make("cagrad", cc=1)
    with pytest.raises(ValueError, match="'pcgrad' has no options; 'c' was given"):
        make("pcgrad", c=1)


@pytest.mark.parametrize("name, options, words", [
    ("cagrad", {"c": -0.1}, "c is -0.1"), ("cagrad", {"rescale": "c"}, "1/\\(1\\+c\\)"),
    ("bmtl", {"T": 0}, "T is 0"), ("bmtl", {"T": float("nan")}, "T is nan"), ("bmtl", {"h": "log"}, "Known: exp, poly"),
    ("dwa", {"T": -2}, "T is -2"), ("cl", {"T": 0}, "T is 0"), ("stch", {"mu": 0}, "mu is 0"),
    ("mgda", {"normalise": "l1"}, "Known: l2"), ("mgda", {"solver": "qp"}, "frank-wolfe"),
    ("mgda", {"steps": 0}, "steps is 0"), ("mamg", {"reading": "all"}, "running"),
    ("mamg", {"delta": "norm"}, "vector"), ("gradvac", {"beta": 0}, "beta is 0"),
    ("fairgrad", {"alpha": 0}, "alpha is 0"),
    ("gradnorm", {"alpha": -1}, "alpha is -1"), ("gradnorm", {"lr": 0}, "lr is 0"),
    ("uw", {"kind": "count"}, "regression"), ("famo", {"lr": -1}, "lr is -1"),
    ("fixed", {"left": -1}, "'left' is -1"), ("fixed", {"left": True}, "'left' is True"),
    ("fixed", {"left": float("nan")}, "'left' is nan"), ("fixed", {"left": float("inf")}, "'left' is inf"),
    ("imtl-l", {"lr": 0}, "lr is 0"), ("cosmos", {"lam": -1}, "lam is -1"), ("pbi", {"theta": -1}, "theta is -1"),
    ("pbi", {"preferences": [1, 0]}, "preference is 0"), ("cosmos", {"preferences": [-1, 1]}, "preference is -1"),
    ("sdmgrad", {"lam": float("inf")}, "lam is inf"), ("pcd", {"tau": 1.5}, "tau is 1.5"),
    ("pcd", {"beta": 1}, "beta is 1"), ("rgw", {"distribution": "beta"}, "uniform"),
    ("krum", {"byzantine": -1}, "byzantine is -1"), ("krum", {"selected": 0}, "selected is 0"),
    ("trimmed-mean", {"trim": True}, "trim is True"), ("cr-mogm", {"alpha": 1}, "alpha is 1"),
    ("cr-mogm", {"of": "mgad"}, "Known: mgda"), ("cr-mogm", {"of": "uw"}, "'losses'"),
    ("moco", {"beta": 0}, "beta is 0"), ("moco", {"rho": -1}, "rho is -1"), ("moco", {"normalise": "l2"}, "loss"),
    ("moco", {"gamma_power": -1}, "gamma_power is -1"), ("db-mtl", {"beta": 1}, "beta is 1"),
    ("db-mtl", {"power": -1}, "power is -1"), ("excess-mtl", {"eta": 0}, "eta is 0"),
    ("excess-mtl", {"warm_up": 0}, "warm_up is 0"), ("excess-mtl", {"warm_up": True}, "warm_up is True"),
    ("stch", {"warm_up": True}, "warm_up is True"), ("rotograd-scale", {"burn_in": -1}, "burn_in is -1"),
    ("rotograd-scale", {"burn_in": False}, "burn_in is False"),
    ("notice", {"first": True}, "first=True"),
])
def test_options_that_make_no_sense_are_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        make(name, **options)


def test_register_refuses_a_name_twice():
    with pytest.raises(ValueError, match="there already"):
        strategies.register("ew")(strategies.RandomWeighting)


def test_a_cell_that_registers_may_run_twice():
    for _ in range(2):
        @strategies.register("mine")
        class Mine(strategies.EqualWeighting):
            pass
    assert type(make("mine")) is Mine


def test_tasks_tell_their_name_and_kind():
    strategy = make("ew").bind(TASKS)
    assert strategy.tasks == ["kind", "size", "big"]
    assert strategy.kinds == ["classification", "regression", "classification"]
    assert make("ew").bind(["a", "b"]).kinds == ["classification"] * 2


@pytest.mark.parametrize("name", strategies.names())
def test_combine_takes_any_precision_and_computes_in_float64(name):
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(3, 8, generator=generator)
    single = combine(name, rows, torch.tensor([1.0, 2.0, 3.0]), torch.Generator().manual_seed(0))
    double = combine(name, rows.double(), torch.tensor([1.0, 2.0, 3.0]), torch.Generator().manual_seed(0))
    assert single.dtype == torch.float64 and torch.equal(single, double)


@pytest.mark.parametrize("name", strategies.names())
def test_the_state_of_a_strategy_is_all_there_is(name):
    """A copy that loads the state goes on exactly as the original."""
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, second = make(name), make(name)
    losses = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    for strategy in (first, second):
        strategy.bind(["a", "b", "c"], torch.Generator().manual_seed(5))
    for number in range(3):
        combine(first, rows * (number + 1), losses / (number + 1))
        first.after_step(losses / (number + 2))
        first.on_epoch_end(losses / (number + 1))
    second.load_state_dict(first.state_dict())
    second.generator.set_state(first.generator.get_state())
    assert torch.equal(combine(first, rows, losses), combine(second, rows, losses))


def test_a_strategy_must_define_what_it_needs():
    with pytest.raises(TypeError, match="must define weights"):
        strategies.Strategy().weights(torch.ones(2, dtype=torch.float64))
    with pytest.raises(TypeError, match="only 'gradients'"):
        make("ew").direction(torch.ones(2, 2))
    with pytest.raises(TypeError, match="needs the Gram matrix"):
        make("mgda").bind(["a", "b"]).weights(torch.ones(2, dtype=torch.float64))


def test_a_chain_is_a_loss_strategy_and_a_gradient_strategy():
    with pytest.raises(ValueError, match="one loss strategy and one gradient strategy"):
        Chain(make("pcgrad"), make("uw"))
    with pytest.raises(ValueError, match="cannot go with GradientSignDropout"):
        Chain(make("gradnorm"), make("graddrop"))


@pytest.mark.parametrize("loss", ["ew", "cl", "gradnorm", "rlw"])
@pytest.mark.parametrize("gradient", ["pcgrad", "mgda", "aligned"])
def test_a_chain_combines_the_gradients_of_the_weighted_losses(loss, gradient):
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    losses = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    chain = Chain(make(loss), make(gradient))
    found = combine(chain, rows, losses, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    gram = rows @ rows.T
    v = make(loss).bind(["a", "b", "c"], generator).weights(losses, gram[None] if loss == "gradnorm" else None).shared
    expected = combine(make(gradient), v[:, None] * rows, v * losses, generator)
    torch.testing.assert_close(found, expected)


def test_a_chain_weighs_heads_as_its_loss_strategy_says():
    losses = torch.tensor([1.0, 2.0], dtype=torch.float64)
    chain = Chain(make("smax"), make("mgda")).bind(["a", "b"])
    weights = chain.weights(losses, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(weights.heads, 2 * torch.softmax(losses, 0))


def test_a_chain_with_graddrop_drops_signs_of_weighted_gradients():
    rows = torch.tensor([[1.0, -2.0], [3.0, -1.0]], dtype=torch.float64)  # signs agree: nothing is dropped
    losses = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = combine(Chain(make("smax"), make("graddrop")), rows, losses)
    torch.testing.assert_close(found, 2 * torch.softmax(losses, 0) @ rows)
