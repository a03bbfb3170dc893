"""Expected sizes: equal to derived ones at one-hot, differentiable, and what can be reached."""

import itertools

import pytest
import torch

from mtlcourse.encoders import size
from mtlcourse.search.cells import DARTS_V2, PUBLISHED, CellNetwork, CellSpace, CellSupernet, Genotype, Resources
from mtlcourse.search.cells.genotype import KINDS
from mtlcourse.search.cells.resources import size_conflict
from tests.problems import pixels
from tests.search.cells.bands import images

TINY = CellSpace(1, ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"))


def every(space: CellSpace) -> list[tuple]:
    """All cells of a space, as `Genotype` takes them."""
    nodes = [[tuple(zip(names, pair, strict=True)) for pair in itertools.combinations(range(node + 2), 2)
              for names in itertools.product(space.choices, repeat=2)] for node in range(space.nodes)]
    return list(itertools.product(*nodes))


@pytest.mark.parametrize("counting", ["multiply-adds", "printed"])
@pytest.mark.parametrize(("shape", "cells", "channels", "classes", "stem"), [
    ((3, 32, 32), 20, 36, 10, 3), ((1, 28, 28), 3, 4, 10, 3), ((1, 14, 14), 6, 5, 2, 1), ((2, 9, 7), 1, 3, [4, 2], 2)])
def test_expected_sizes_are_derived_sizes_at_one_hot(shape, cells, channels, classes, stem, counting):
    space = CellSpace()
    resources = Resources(space, cells, channels, shape, classes, stem, counting)
    genotypes = [*PUBLISHED.values(), *(space.draw(torch.Generator().manual_seed(seed)) for seed in range(3))]
    for genotype in genotypes:
        alphas = [torch.log(table) for table in space.one_hot(genotype)]
        assert (resources.parameters(alphas).item(), resources.flops(alphas).item()) == resources.counts(genotype)


def test_they_are_the_expectation_over_operations():
    """Linear in each edge's weights: the mean over all ways to choose one operation an edge, by their probabilities."""
    resources = Resources(TINY, 3, 4, (1, 8, 8), 3)
    alphas = [torch.randn(TINY.shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    probabilities = [torch.softmax(alpha.double(), -1) for alpha in alphas]
    expected = torch.zeros(2, dtype=torch.float64)
    for choice in itertools.product(range(4), repeat=4):
        logits = torch.full((2, *TINY.shape), -torch.inf)
        chance = 1.0
        for (cell, edge), operation in zip(itertools.product(range(2), repeat=2), choice, strict=True):
            logits[cell, edge, operation] = 0.0
            chance *= probabilities[cell][edge, operation]
        sizes = [resources.parameters(list(logits)), resources.flops(list(logits))]
        expected += chance * torch.stack(sizes)
    assert torch.allclose(torch.stack([resources.parameters(alphas), resources.flops(alphas)]), expected)


def test_their_gradient_is_that_of_differences():
    space = CellSpace(2)
    resources = Resources(space, 3, 4, (1, 8, 8), 3)
    alphas = [torch.randn(space.shape, dtype=torch.float64, requires_grad=True) for _ in KINDS]
    for function in (resources.parameters, resources.flops):
        torch.autograd.gradcheck(lambda *given, function=function: function(given), alphas)


def test_operations_that_an_edge_cannot_have_cost_nothing():
    problem, space = images(), CellSpace(2)
    allowed = [torch.zeros(space.shape, dtype=torch.bool) for _ in KINDS]
    for table in allowed:
        table[:, 3] = True  # skips alone
    supernet = CellSupernet(problem, cells=3, channels=4, nodes=2, allowed=allowed)
    resources = Resources.of(problem, space, 3, 4)
    value = resources.parameters(supernet.alphas())
    value.backward()
    # Two reduction cells, of the widths 8 and 16: in each of them four edges leave the inputs.
    assert value.item() - resources.fixed.parameters == 4 * (8 * 8 + 2 * 8) + 4 * (16 * 16 + 2 * 16)
    assert all(not alpha.grad.any() for alpha in supernet.alpha)


@pytest.mark.parametrize("space", [TINY, CellSpace(1), CellSpace(2, ("none", "avg_pool_3x3", "sep_conv_3x3"))])
def test_what_can_be_reached_is_the_least_and_the_most_over_all_genotypes(space):
    resources = Resources(space, 3, 4, (1, 9, 9), 3)
    cells = every(space)
    found = [resources.counts(Genotype(cell, cells[0])) for cell in cells]
    found += [resources.counts(Genotype(cells[0], cell)) for cell in cells]
    base = resources.counts(Genotype(cells[0], cells[0]))
    half = len(cells)
    for which, (least, most) in enumerate(resources.reachable()):
        for extreme, end in ((min, least), (max, most)):
            normal, reduction = (extreme(counts[which] for counts in part) for part in (found[:half], found[half:]))
            assert normal + reduction - base[which] == end  # the two cells cost apart from each other


def test_sizes_out_of_reach_are_refused_with_the_interval():
    resources = Resources(CellSpace(), 20, 36, (3, 32, 32), 10)
    (least, most), (few, many) = resources.reachable()
    for fine in ({"parameters": least}, {"parameters": most, "flops": many}, {"flops": few}, {}):
        resources.check(**fine)
    for wrong, words in (({"parameters": least - 1}, f"{least:,} to {most:,}"), ({"parameters": 2.5}, "L=2.5 "),
                         ({"flops": many + 1}, f"{few:,} to {many:,}"), ({"parameters": float("nan")}, "L=nan")):
        with pytest.raises(ValueError, match=words):
            resources.check(**wrong)


@pytest.mark.parametrize("tasks", [1, 2])
def test_they_are_the_network_s(tasks):
    problem = images(tasks=tasks)
    network = CellNetwork(problem, DARTS_V2, cells=3, channels=4, auxiliary=False)
    assert Resources.of(problem, CellSpace(), 3, 4).counts(DARTS_V2) == network.counts()
    assert network.counts().parameters == size(network)


def test_a_conflict_of_sizes_is_a_cosine():
    """Both too small, or both too large: the same operations are wanted; one of each: the opposite."""
    space = CellSpace(2)
    resources = Resources(space, 3, 4, (1, 8, 8), 3)
    alphas = [torch.zeros(space.shape) for _ in KINDS]
    n, f = resources.parameters(alphas).item(), resources.flops(alphas).item()
    same, other = size_conflict(resources, alphas, n / 2, f / 2), size_conflict(resources, alphas, n / 2, f * 2)
    assert 0.3 < same <= 1 and other == pytest.approx(-same)
    assert size_conflict(resources, alphas, n * 2, f * 2) == pytest.approx(same)


def test_other_spaces_and_dense_tasks_are_refused():
    resources = Resources(CellSpace(2), 3, 4, (1, 8, 8), 3)
    with pytest.raises(ValueError, match="4 nodes"):
        resources.counts(DARTS_V2)
    with pytest.raises(ValueError, match="shapes"):
        resources.parameters([torch.zeros(14, 8)] * 2)
    with pytest.raises(ValueError, match="bright"):
        Resources.of(pixels(), CellSpace(2), 3, 4)
    with pytest.raises(ValueError, match="counting"):
        Resources(CellSpace(2), 3, 4, (1, 8, 8), 3, counting="macs")
