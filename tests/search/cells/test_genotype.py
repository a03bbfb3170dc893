"""Cells as data: the rule that chooses them, against brute force; plain data; what is refused."""

import itertools
import json

import pytest
import torch
from hypothesis import given, strategies

from mtlcourse.search.cells import OPERATIONS, PUBLISHED, CellSpace, Genotype
from mtlcourse.search.cells.genotype import KINDS

SPACES = [CellSpace(), CellSpace(2), CellSpace(3, ("skip_connect", "none", "sep_conv_3x3")),
          CellSpace(1, ("max_pool_3x3", "avg_pool_3x3"))]


def drawn(space: CellSpace, seed: int, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(space.shape, generator=generator) for _ in KINDS]


def by_brute_force(space: CellSpace, weights: torch.Tensor) -> tuple:
    """For each node, of all pairs of edges with all operations besides none, the pair with the largest sum."""
    cell = []
    for node in range(space.nodes):
        edges = [n for n, (_, end) in enumerate(space.edges) if end == 2 + node]
        best, choice = -1.0, None
        for pair in itertools.combinations(edges, 2):
            for names in itertools.product(space.choices, repeat=2):
                value = sum(weights[edge, space.operations.index(name)].item()
                            for edge, name in zip(pair, names, strict=True))
                if value > best:
                    best, choice = value, tuple((name, space.edges[edge][0])
                                                for edge, name in zip(pair, names, strict=True))
        cell.append(choice)
    return tuple(cell)


def test_edges_are_all_pairs_of_a_node_and_a_state_before_it():
    space = CellSpace()
    assert space.edges == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4), (0, 5), (1, 5),
                           (2, 5), (3, 5), (4, 5))
    assert [[space.edges[n] for n in space.incoming(node)] for node in range(4)] == [
        [edge for edge in space.edges if edge[1] == 2 + node] for node in range(4)]
    assert space.shape == (14, 8)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 5.0])
def test_the_rule_is_brute_force_on_softmax_weights(space, scale):
    for seed in range(5):
        alphas = drawn(space, seed, scale)
        found = space.genotype(alphas)
        for kind, alpha in zip(KINDS, alphas, strict=True):
            assert getattr(found, kind) == by_brute_force(space, torch.softmax(alpha, -1))


def test_ranking_raw_parameters_would_choose_other_edges():
    """On edges with different sums a larger parameter can be a smaller weight."""
    space, differ = CellSpace(), 0
    for seed in range(20):
        alphas = drawn(space, seed)
        differ += by_brute_force(space, torch.softmax(alphas[0], -1)) != by_brute_force(space, alphas[0])
    assert differ >= 10


def test_edge_weights_take_part():
    space = CellSpace(1)
    alphas, betas = [torch.zeros(space.shape) for _ in KINDS], [torch.zeros(2) for _ in KINDS]
    weights = space.weights(alphas, betas)
    assert torch.allclose(weights[0], torch.full(space.shape, 1 / 16))
    space = CellSpace(2)
    alphas, betas = drawn(space, 0), [torch.randn(5) for _ in KINDS]
    shares = torch.cat([torch.softmax(betas[0][:2], 0), torch.softmax(betas[0][2:], 0)])
    assert torch.allclose(space.weights(alphas, betas)[0], torch.softmax(alphas[0], -1) * shares[:, None])
    betas[0][3] = -50.0  # the edge from state 1 to the second node
    chosen = space.genotype(alphas, betas)
    assert [state for _, state in chosen.normal[1]] == [0, 2]
    assert chosen.normal == by_brute_force(space, space.weights(alphas, betas)[0])


@given(strategies.integers(0, 10_000), strategies.integers(0, 8))
def test_no_more_skips_than_asked_for_and_no_other_change_where_there_are_none_too_many(seed, skips):
    space = CellSpace()
    alphas = drawn(space, seed)
    alphas[0][:, OPERATIONS.index("skip_connect")] += 2.0
    free, limited = space.genotype(alphas), space.genotype(alphas, skips=skips)
    count = [sum(name == "skip_connect" for node in genotype.normal for name, _ in node)
             for genotype in (free, limited)]
    assert count[1] <= skips
    assert (free == limited) == (count[0] <= skips)
    assert limited.reduction == free.reduction
    space.check(limited)


def test_operations_that_an_edge_cannot_have_are_never_chosen():
    space = CellSpace()
    alphas = drawn(space, 0)
    alphas[0][:, 1:7] = -torch.inf
    assert {name for node in space.genotype(alphas).normal for name, _ in node} == {"dil_conv_5x5"}


@pytest.mark.parametrize("keep", range(1, 9))
def test_an_edge_keeps_its_most_probable_operations(keep):
    space = CellSpace(2)
    alphas = drawn(space, keep)
    alphas[0][0, 0] = 9.0  # none
    for alpha, mask in zip(alphas, space.strongest(alphas, keep), strict=True):
        assert (mask.sum(1) == keep).all()
        assert mask[:, 1:].any(1).all()
        for row, kept in zip(alpha[1:], mask[1:], strict=True):
            if keep > 1:
                assert row[kept].min() >= row[~kept].max() if keep < 8 else kept.all()
    with pytest.raises(ValueError, match="at least one"):
        space.strongest(alphas, 0)


def test_what_was_dropped_stays_dropped():
    space = CellSpace(2)
    alphas = drawn(space, 0)
    first = space.strongest(alphas, 5)
    masked = [alpha.masked_fill(~mask, -torch.inf) for alpha, mask in zip(drawn(space, 1), first, strict=True)]
    assert all((second <= mask).all() for second, mask in zip(space.strongest(masked, 3), first, strict=True))


@pytest.mark.parametrize("genotype", PUBLISHED.values(), ids=PUBLISHED)
def test_published_genotypes_are_of_the_space_and_come_back_from_plain_data(genotype):
    CellSpace().check(genotype)
    assert Genotype.from_dict(json.loads(json.dumps(genotype.to_dict()))) == genotype
    weights = CellSpace().one_hot(genotype)
    assert CellSpace().genotype([torch.log(table) for table in weights]) == genotype
    assert all((table.sum(1) == 1).all() for table in weights)


@pytest.mark.parametrize("space", SPACES)
def test_genotypes_by_lot_are_of_the_space_and_reproducible(space):
    many = [space.draw(torch.Generator().manual_seed(seed)) for seed in range(30)]
    for genotype in many:
        space.check(genotype)
    assert space.draw(torch.Generator().manual_seed(7)) == many[7]
    assert {name for genotype in many for node in genotype.normal for name, _ in node} == set(space.choices)
    assert len({state for genotype in many for _, state in genotype.normal[-1]}) == space.nodes + 1


NODE = [("skip_connect", 0), ("skip_connect", 1)]


@pytest.mark.parametrize(("cell", "words"), [
    ([NODE], "1 nodes"),
    ([NODE] * 3, "3 nodes"),
    ([NODE, [("skip_connect", 0), ("skip_connect", 0)]], "two different"),
    ([NODE, [("skip_connect", 0), ("skip_connect", 3)]], "of 0 to 2"),
    ([NODE, [("skip_connect", -1), ("skip_connect", 1)]], "of 0 to 2"),
    ([NODE, [("skip_connect", 0)]], "two different"),
    ([NODE, [*NODE, ("skip_connect", 2)]], "two different"),
    ([NODE, [("none", 0), ("skip_connect", 1)]], "'none'"),
    ([NODE, [("conv_7x7", 0), ("skip_connect", 1)]], "'conv_7x7'"),
])
def test_a_genotype_of_another_space_is_refused(cell, words):
    space, good = CellSpace(2), [NODE, NODE]
    for genotype in (Genotype(cell, good), Genotype(good, cell)):
        with pytest.raises(ValueError, match=words):
            space.check(genotype)
        with pytest.raises(ValueError, match=words):
            space.one_hot(genotype)


@pytest.mark.parametrize("plain", [{}, {"normal": []}, {"normal": 3, "reduction": 4}, [1, 2], None,
                                   {"normal": [["skip"]], "reduction": []}])
def test_plain_data_that_are_no_genotype_are_refused(plain):
    with pytest.raises(ValueError, match="genotype as plain data"):
        Genotype.from_dict(plain)


@pytest.mark.parametrize(("options", "words"), [
    ({"nodes": 0}, "nodes"), ({"nodes": -1}, "nodes"), ({"operations": ("none",)}, "besides"),
    ({"operations": ()}, "besides"), ({"operations": ("skip_connect", "skip_connect")}, "once"),
    ({"operations": ("skip_connct",)}, "skip_connect"),
])
def test_spaces_that_cannot_be_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CellSpace(**options)


def test_parameters_of_another_space_and_numbers_that_are_none_are_refused():
    space = CellSpace()
    for alphas in (drawn(CellSpace(2), 0), drawn(space, 0)[:1], [alpha.T for alpha in drawn(space, 0)]):
        with pytest.raises(ValueError, match=r"\(14, 8\)"):
            space.genotype(alphas)
    alphas = drawn(space, 0)
    for bad in (torch.nan, -torch.inf):
        alphas[1][3] = bad
        with pytest.raises(ValueError, match="NaN"):
            space.genotype(alphas)
    with pytest.raises(ValueError, match="lacks"):
        CellSpace(1, ("skip_connect",)).one_hot(Genotype([NODE], [NODE]))
