"""The derived network: the reference counts, what its training adds, and other images."""

import copy
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mtlcourse.encoders import size
from mtlcourse.search.cells import DARTS_V2, P_DARTS, PC_DARTS, CellNetwork, CellSpace
from mtlcourse.search.cells.network import auxiliary_head, cutout, drop_path
from mtlcourse.tasks import Batch
from mtlcourse.training import fit
from mtlcourse.training.updates import make_step
from tests.search.cells.bands import images

TINY = {"cells": 3, "channels": 4}


def flops(model: CellNetwork) -> float:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, *model.input_shape))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(("genotype", "parameters", "with_auxiliary", "multiply_adds"), [
    (DARTS_V2, 3_349_342, 3_825_768, 528.35), (P_DARTS, 3_433_798, 3_910_224, 532.17),
    (PC_DARTS, 3_634_678, 4_111_104, 556.66)])
def test_networks_of_the_papers_have_their_reference_counts(genotype, parameters, with_auxiliary, multiply_adds):
    """The first line is counted in the authors' code; the others are theirs to two digits: 3.43 M and 532 M, 3.63 M."""
    problem = images((3, 32, 32), classes=10)
    with torch.device("meta"):
        network, bare = CellNetwork(problem, genotype), CellNetwork(problem, genotype, auxiliary=False)
    assert (size(bare), size(network)) == (parameters, with_auxiliary)
    assert (flops(bare) - 576 * 10) / 1e6 == pytest.approx(multiply_adds, abs=0.005)  # the classifier's left out
    assert bare.counts() == (parameters, flops(bare))
    assert network.counts() == bare.counts()


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 14, 14), (3, 9, 7), (2, 64, 48), (1, 4, 4)])
@pytest.mark.parametrize("genotype", [DARTS_V2, CellSpace(2).draw(torch.Generator().manual_seed(1))], ids=["4", "2"])
def test_other_images_work_and_are_counted(shape, genotype):
    problem = images(shape)
    network = CellNetwork(problem, genotype, **TINY)
    bare = CellNetwork(problem, genotype, auxiliary=False, **TINY)
    assert network(torch.rand(2, *shape))["task_0"].shape == network.auxiliaries["task_0"].shape == (2, 3)
    assert bare.counts() == (size(bare), flops(copy.deepcopy(bare).to("meta")))
    pooled = next(network.auxiliary_heads.children())[:2](torch.rand(2, 4, *network.places[2].out))
    assert pooled.shape[2:] == (2, 2)
    same = CellNetwork(images(), genotype, **TINY)
    assert size(network.auxiliary_heads) == size(same.auxiliary_heads), "the same on all images"


@pytest.mark.parametrize("cells", [1, 2, 3, 5])
def test_any_depth(cells):
    network = CellNetwork(images(), DARTS_V2, cells=cells, channels=2)
    assert network(torch.rand(2, 1, 8, 8))["task_0"].shape == (2, 3)
    assert network.counts().parameters == size(network) - size(network.auxiliary_heads)


@pytest.mark.parametrize("size", range(1, 14))
def test_an_auxiliary_head_pools_as_printed_where_that_gives_two_by_two(size):
    head, x = auxiliary_head(2, (size, size), 3), torch.rand(2, 2, size, size)
    assert head[1](x).shape[2:] == (2, 2)
    assert isinstance(head[1], torch.nn.AvgPool2d) == (8 <= size <= 10)
    assert head(x).shape == (2, 3)


def test_the_auxiliary_loss_is_of_training_and_weighted():
    problem = images()
    batch = Batch(problem.train.inputs, problem.train.targets)
    network = CellNetwork(problem, DARTS_V2, **TINY, drop_path=0.0, cutout=0.0)
    predictions = network(batch.inputs)
    expected = problem.tasks[0].loss(network.auxiliaries["task_0"], batch.targets["task_0"]).mean()
    assert network.auxiliary_loss(batch, predictions).item() == pytest.approx(0.4 * expected.item())
    network.eval()
    assert network.auxiliary_loss(batch, network(batch.inputs)).item() == 0.0
    bare = CellNetwork(problem, DARTS_V2, **TINY, auxiliary=False)
    assert bare.auxiliary_loss(batch, bare(batch.inputs)).item() == 0.0


@pytest.mark.parametrize("tasks", [1, 2])
def test_every_parameter_learns(tasks):
    problem = images(tasks=tasks)
    network = CellNetwork(problem, DARTS_V2, **TINY)
    step = make_step(problem.tasks, network, "ew")
    step.backward(*step.losses(Batch(problem.train.inputs, problem.train.targets)))
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    own = {id(p) for name in network.task_names for p in network.task_parameters(name)}
    shared = {id(p) for p in network.shared_parameters()}
    assert own | shared == {id(p) for p in network.parameters()} and not own & shared
    assert bool(shared) == (tasks == 2)


def test_paths_are_dropped_by_sample_and_the_mean_stays():
    torch.manual_seed(0)
    y = drop_path(torch.ones(4000, 2, 3, 3), 0.25)
    kept = y[:, 0, 0, 0] > 0
    assert ((y == 0) | (y == 1 / 0.75)).all() and (y.flatten(1).amax(1) == y.flatten(1).amin(1)).all()
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.03)


def test_the_rate_of_dropped_paths_rises_to_its_end():
    network = CellNetwork(images(), DARTS_V2, **TINY)
    assert network.drop == 0.2
    network.prepare(4)
    rates = []
    for epoch in range(4):
        network.on_epoch_end(epoch, {})
        rates.append(network.drop)
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_skips_are_never_dropped():
    """Of a cell of skips alone nothing changes, whatever the rate."""
    space = CellSpace(1, ("skip_connect",))
    genotype = space.draw(torch.Generator().manual_seed(0))
    network = CellNetwork(images(), genotype, cells=3, channels=2, auxiliary=False, cutout=0.0, drop_path=0.99)
    cell, x = network.cells[0].train(), torch.rand(2, 6, 8, 8)
    assert not network.places[0].reduction
    assert torch.equal(cell(x, x, 0.99), cell(x, x, 0.0))


def test_a_cutout_is_one_square_in_each_image():
    torch.manual_seed(0)
    x = torch.ones(500, 3, 10, 12)
    y = cutout(x, 4, torch.tensor([0.25, 0.5, 0.75]))
    blank = y[:, 0] == 0.25
    assert torch.equal(y[:, 2] == 0.75, blank) and torch.equal(y[:, 0] == 1.0, ~blank)
    rows, columns = blank.any(2), blank.any(1)
    assert torch.equal(blank, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(1).max() == columns.sum(1).max() == 4 and rows.sum(1).min() == 2  # it may stick out by half
    assert rows.sum(0).min() > 0 and columns.sum(0).min() > 0


def test_training_blanks_and_evaluation_does_not():
    network = CellNetwork(images(), DARTS_V2, **TINY, drop_path=0.0)
    seen = []
    network.stem.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    x = torch.rand(4, 1, 8, 8) + 1
    network(x)
    network.eval()(x)
    assert 0 < (seen[0] == 0).float().mean() <= 16 / 64 and torch.equal(seen[1], x)
    shifted = CellNetwork(images(), DARTS_V2, **TINY, mean=[0.5], std=[2.0])
    assert shifted.fill.tolist() == [0.5] and shifted.length == 4


def test_a_copy_leaves_the_graph_behind_and_a_genotype_may_be_plain():
    network = CellNetwork(images(), DARTS_V2.to_dict(), **TINY)
    network(torch.rand(2, 1, 8, 8))
    assert copy.deepcopy(network).auxiliaries == {}
    assert network.genotype == DARTS_V2


def test_it_trains():
    problem = images(samples=60)
    network = CellNetwork(problem, CellSpace(2).draw(torch.Generator().manual_seed(0)), **TINY, auxiliary=False)
    network.prepare(6)
    run = fit(problem, network, epochs=6, batch_size=20, lr=0.02, progress=False)
    losses = run.history.query("split == 'train' and name == 'loss'")["value"]
    assert math.isfinite(losses.iloc[-1]) and losses.iloc[-1] < losses.iloc[0]


def test_bfloat16():
    problem = images()
    network = CellNetwork(problem, DARTS_V2, **TINY)
    step = make_step(problem.tasks, network, precision="bfloat16")
    assert math.isfinite(step(Batch(problem.train.inputs, problem.train.targets))["task_0"])


@pytest.mark.parametrize(("options", "words"), [
    ({"drop_path": 1.0}, "drop_path"), ({"drop_path": -0.1}, "drop_path"), ({"cutout": -0.5}, "cutout"),
    ({"cutout": 2.0}, "cutout"), ({"cells": 0}, "cells"), ({"operations": ("skip_connect", "none")}, "sep_conv_3x3"),
    ({"mean": [0.5]}, "one a channel"),
])
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CellNetwork(images(), DARTS_V2, **TINY | options)
    with pytest.raises(ValueError, match="genotype as plain data"):
        CellNetwork(images(), {"normal": 1}, **TINY)
