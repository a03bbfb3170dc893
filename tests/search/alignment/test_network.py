"""Every configuration runs in one network, uses just its own modules, and computes what the cells' formula says."""

import copy

import pytest
import torch

from mtlcourse.encoders import size
from mtlcourse.search.alignment import AlignmentNetwork, AlignmentSpace
from mtlcourse.search.alignment.network import Cell, widths
from tests.domains import problem

X = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))


def network(**options) -> AlignmentNetwork:
    torch.manual_seed(0)
    return AlignmentNetwork(problem().view, **options)


def reached(net: AlignmentNetwork, value: torch.Tensor) -> set[int]:
    """The parameters on which `value` depends."""
    net.zero_grad(set_to_none=True)
    value.sum().backward()
    return {id(p) for p in net.parameters() if p.grad is not None}


@pytest.mark.parametrize("tied", [False, True])
def test_every_configuration_runs_and_uses_just_its_own(tied: bool):
    net = network(cells=2, tied=tied)
    for configuration in net.space:
        net.take(configuration)
        seen, wide = net.look(X), widths(net.space, configuration, net.width)
        assert seen.features.shape == (6, wide[f"cell_{net.space.aligned(configuration)}"])
        assert seen.logits.shape == (6, 3)
        used = {id(p) for module in net.running() for p in module.parameters()}
        unused = {id(p) for cell in net.running() if isinstance(cell, Cell) for p in cell.project.parameters()}
        assert used >= reached(net, seen.features.sum() + seen.logits.sum()) >= used - unused


def test_what_is_aligned_beside_the_classifier_shares_the_backbone_alone():
    net = network(cells=2)
    net.take(net.space[0] | {"input_1": "backbone", "align": "cell_0", "classify": "cell_1"})
    assert net.space.beside(net.configuration)
    aligned, classified = (reached(net, getattr(net.look(X), name)) for name in ("features", "logits"))
    assert aligned & classified == {id(p) for p in net.backbone.parameters()}


@pytest.mark.parametrize("skip", ["input", "linear", "norm"])
@pytest.mark.parametrize("outputs", [6, 3])
def test_a_cell_is_its_formula(skip: str, outputs: int):
    torch.manual_seed(0)
    cell = Cell(6, outputs, 0.0)
    linear = X @ cell.linear.weight.T + cell.linear.bias
    norm = (linear - linear.mean(0)) / (linear.var(0, unbiased=False) + 1e-5).sqrt()
    start = {"input": X if outputs == 6 else X @ cell.project.weight.T, "linear": linear, "norm": norm}[skip]
    torch.testing.assert_close(cell(X, skip), norm.clamp(min=0) + start)


def test_equal_widths_are_equal_weights():
    net = network(cells=2)
    net.take({"size_0": "same", "skip_0": "input", "input_1": "backbone", "size_1": "half", "skip_1": "norm",
              "align": "cell_1", "classify": "cell_1"})
    first = net.wiring()["cell_1"][1]
    net.take({"size_0": "same", "skip_0": "norm", "input_1": "cell_0", "size_1": "half", "skip_1": "linear",
              "align": "cell_0", "classify": "cell_1"})
    assert net.wiring()["cell_1"][1] is first


def test_a_part_begins_alike_in_every_network():
    two, three = network(cells=2), network(cells=3, tied=True)
    for name, parameter in two.named_parameters():
        torch.testing.assert_close(parameter, dict(three.named_parameters())[name])


@pytest.mark.parametrize("carry", [copy.deepcopy, lambda net: loaded(net)])
def test_the_configuration_goes_with_the_weights(carry):
    net = network()
    net.take(4321)
    again = carry(net)
    assert again.configuration == net.configuration == net.space[4321]
    torch.testing.assert_close(again.eval()(X)["here"], net.eval()(X)["here"])


def loaded(net: AlignmentNetwork) -> AlignmentNetwork:
    other = AlignmentNetwork(problem().view)
    other.load_state_dict(net.state_dict())
    return other


def test_running_is_less_than_all():
    net = network()
    net.take(net.space[0])
    assert sum(map(size, net.running())) < size(net)


@pytest.mark.parametrize(("options", "message"), [
    ({"cells": 0}, "whole number from 1"), ({"cells": 4}, "halve"), ({"dropout": 1.0}, "dropout"),
    ({"dropout": -0.1}, "dropout"), ({"tied": 1}, "neither True nor False")])
def test_what_cannot_be_is_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_what_is_no_configuration_is_not_taken():
    net = network(cells=1)
    with pytest.raises(ValueError, match="from 0 to 5"):
        net.take(len(AlignmentSpace(1)))
