"""The supernet: batched against a loop over operations, its parts against the derived network, its variants."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mtlcourse.files import seed_everything
from mtlcourse.search.bilevel import BilevelStep, summed
from mtlcourse.search.cells import CellSpace, CellSupernet
from mtlcourse.search.cells.genotype import KINDS
from mtlcourse.search.cells.layout import layout
from mtlcourse.tasks import Batch
from mtlcourse.training.updates import make_step
from tests.problems import small
from tests.search.cells.bands import images
from tests.search.cells.loop import looped, settled

SMALL = {"cells": 3, "channels": 4, "nodes": 2}


def made(shape=(1, 8, 8), tasks: int = 1, **options) -> CellSupernet:
    seed_everything(0)
    net = CellSupernet(images(shape, tasks=tasks), **SMALL | options)
    settled(net)
    return net


def some_allowed(nodes: int = 2, keep: int = 3) -> list[torch.Tensor]:
    space = CellSpace(nodes)
    generator = torch.Generator().manual_seed(3)
    return space.strongest([torch.randn(space.shape, generator=generator) for _ in KINDS], keep)


VARIANTS = {
    "plain": {}, "deeper": {"cells": 4, "nodes": 3}, "one cell": {"cells": 1, "nodes": 1}, "odd": {"shape": (2, 7, 5)},
    "odd channels": {"channels": 3}, "partial": {"partial": 2}, "partial, odd": {"partial": 4, "shape": (1, 7, 7)},
    "three a edge": {"allowed": some_allowed()}, "two a edge": {"allowed": some_allowed(keep=2), "partial": 2},
    "few operations": {"operations": ("none", "skip_connect", "dil_conv_3x3")},
    "no convolution": {"operations": ("avg_pool_3x3", "skip_connect")},
    "one convolution": {"operations": ("sep_conv_5x5",)},
    "normalised": {"mean": [0.4], "std": [0.3]},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_batched_operations_are_those_of_a_loop(options):
    """Predictions, gradients in weights and architecture, running statistics, predictions in evaluation: float64."""
    net = made(**options).double()
    other, x = looped(net), torch.rand(4, *net.input_shape, dtype=torch.float64)
    for _ in range(2):
        found, expected = net(x)["task_0"], other(x)["task_0"]
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    for one, two in zip(net.architecture_parameters(), other.architecture_parameters(), strict=True):
        if one is net.alpha[0] and len(net.cells) == 1:  # which is a reduction cell
            assert one.grad is two.grad is None
            continue
        torch.testing.assert_close(one.grad, two.grad)
        assert one.grad.any() or one.shape[-1] == 1
    torch.testing.assert_close(net.stem[-2].weight.grad, other.stem[-2].weight.grad)
    assert sum(p.grad.square().sum() for p in net.weights()).item() == pytest.approx(
        sum(p.grad.square().sum() for p in other.weights()).item())
    torch.testing.assert_close(net.eval()(x)["task_0"], other.eval()(x)["task_0"])


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_weights_and_architecture_share_out_all_that_learns(options):
    net = made(**options)
    both = [*net.weights(), *net.architecture_parameters()]
    assert {id(p) for p in both} == {id(p) for p in net.parameters()} and len({id(p) for p in both}) == len(both)
    assert [p.shape for p in net.architecture_parameters()[:2]] == [net.space.shape] * 2
    assert all(not m.affine for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    net.space.check(net.genotype())


def test_one_task_shares_nothing_and_two_share_everything_but_heads():
    alone, both = made(), made(tasks=2)
    assert not alone.shared_parameters()
    assert {id(p) for p in alone.task_parameters("task_0")} == {id(p) for p in alone.weights()}
    assert len(both.shared_parameters()) == len(both.weights()) - 4
    assert len(both.task_parameters("task_1")) == 2
    both(torch.rand(2, 1, 8, 8))
    assert all(len(exits) == 1 for exits in both.exits.values())


def test_cells_stand_where_they_must():
    places = layout(8, 16, 4, 3, (3, 32, 32))
    assert [place.reduction for place in places] == [number in (2, 5) for number in range(8)]
    assert [place.channels for place in places] == [16, 16, 32, 32, 32, 64, 64, 64]
    assert [place.incoming for place in places][:4] == [(48, 48), (48, 64), (64, 64), (64, 128)]
    assert [place.follows_reduction for place in places] == [number in (3, 6) for number in range(8)]
    assert places[-1].out == (8, 8)
    net = made((1, 9, 9), cells=6)
    shapes = []
    for cell in net.cells:
        cell.register_forward_hook(lambda module, given, out: shapes.append(tuple(out.shape[1:])))
    net(torch.rand(2, 1, 9, 9))
    assert shapes == [(2 * place.channels, *place.out) for place in net.places]


def test_equal_seeds_and_names_give_equal_weights_whatever_the_depth():
    deep, short = made(cells=6), made(cells=3)
    assert torch.equal(deep.stem[0].weight, short.stem[0].weight)
    assert torch.equal(deep.cells[0].last[1].weight, short.cells[0].last[1].weight)


def test_partial_channels_pass_only_a_part_and_shuffle():
    """With none alone, what passes the operations is zero: every K-th channel of a node, the others are the sum."""
    net = made(partial=2, operations=("none", "skip_connect"))
    for alpha in net.alpha:
        alpha.data = torch.tensor([60.0, -60.0]).repeat(len(alpha), 1)
    nodes = []
    net.cells[0].register_forward_hook(lambda module, given, out: nodes.append(out))
    net(torch.rand(2, 1, 8, 8))
    assert net.places[0].reduction is False
    assert not nodes[0][:, 0:4:2].any() and nodes[0][:, 1:4:2].any()
    assert len(net.betas()) == 2 and made().betas() is None


def test_dropped_operations_are_not_made_and_get_no_gradient():
    allowed = some_allowed()
    net = made(allowed=allowed)
    net(torch.rand(2, 1, 8, 8))["task_0"].sum().backward()
    for alpha, masked, mask in zip(net.alpha, net.alphas(), allowed, strict=True):
        assert (masked[~mask] == -math.inf).all() and torch.equal(masked[mask], alpha[mask])
        assert not alpha.grad[~mask].any() and alpha.grad[mask].any()
    assert sum(p.numel() for p in net.weights()) < sum(p.numel() for p in made().weights())


def test_dropout_on_skips_falls_with_the_epochs_and_is_for_training_alone():
    net = made(skip_dropout=0.5)
    net.prepare(25, warm_up=10)
    rates = []
    for epoch in range(25):
        net.on_epoch_end(epoch, {})
        rates.append(net.dropout)
    assert rates[:10] == pytest.approx([0.5 * (24 - epoch) / 25 for epoch in range(10)])
    assert rates[10:] == pytest.approx([0.5 * math.exp(-0.2 * epoch) for epoch in range(15)])
    net.on_epoch_end(10, {})
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert not torch.equal(net(x)["task_0"], net(x)["task_0"])
        assert torch.equal(net.eval()(x)["task_0"], net(x)["task_0"])
    plain = made()
    with torch.no_grad():
        assert torch.equal(plain(x)["task_0"], plain(x)["task_0"])


def test_the_report_names_every_weight():
    net = made()
    report = net.report()
    assert set(report) == set(KINDS) and len(report["normal"]) == 5 * 8
    assert report["normal"]["1-3 sep_conv_5x5"] == pytest.approx(
        torch.softmax(net.alpha[0], -1)[net.space.edges.index((1, 3)), 5].item())
    assert sum(report["reduction"].values()) == pytest.approx(5)


@pytest.mark.parametrize("order", ["first", "second", "exact"])
@pytest.mark.parametrize("options", [{}, {"partial": 2}, {"allowed": some_allowed()}], ids=["plain", "partial", "few"])
def test_a_bilevel_step_moves_weights_and_architecture(order, options):
    problem, net = images(), made(**options)
    before = copy.deepcopy(net.state_dict())
    lower = make_step(problem.tasks, net, lr=0.01, optimizer="sgd")
    step = BilevelStep(lower, net.architecture_parameters(), summed(lower), problem.val, lr=0.1, batch_size=6,
                       order=order, lower_objective=summed(lower))
    step(Batch(problem.train.inputs, problem.train.targets))
    moved = [name for name, value in net.named_parameters() if not torch.equal(value, before[name])]
    assert set(moved) == {name for name, _ in net.named_parameters()}


def test_bfloat16():
    net = made(partial=2)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.rand(4, 1, 8, 8))["task_0"]
    y.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_shapes_are_known_without_data():
    problem = images((3, 32, 32))
    with torch.device("meta"):
        net = CellSupernet(problem)
        assert net(torch.empty(2, 3, 32, 32))["task_0"].shape == (2, 3)


@pytest.mark.parametrize(("shape", "options", "words"), [
    ((1, 8, 8), {"partial": 3}, "divides channels=4"),
    ((1, 8, 8), {"partial": 0}, "divides"),
    ((1, 8, 8), {"skip_dropout": 1.0}, "skip_dropout"),
    ((1, 8, 8), {"skip_dropout": -0.1}, "skip_dropout"),
    ((1, 8, 8), {"cells": 0}, "cells=0"),
    ((1, 8, 8), {"channels": -4}, "channels=-4"),
    ((1, 8, 8), {"stem": 0}, "stem=0"),
    ((1, 8, 8), {"nodes": 0}, "nodes=0"),
    ((1, 8, 8), {"operations": ("none",)}, "besides"),
    ((1, 8, 8), {"allowed": some_allowed(nodes=3)}, r"\(5, 8\)"),
    ((1, 8, 8), {"allowed": [torch.eye(5, 8).bool()] * 2}, r"edge \(0, 2\) of the normal cell \['none'\]"),
    ((1, 1, 1), {}, "too small"),
    ((1, 2, 1), {}, "too small"),
])
def test_what_cannot_be_is_refused(shape, options, words):
    with pytest.raises(ValueError, match=words):
        CellSupernet(replace(images(), train=None, val=None, test=None, input_shape=shape), **SMALL | options)


def test_inputs_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match="images"):
        CellSupernet(small())
