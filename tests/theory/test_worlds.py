"""Worlds in which everything is known: against trying every network, one after another."""

import itertools

import numpy as np
import pytest

from mtlcourse.theory.gaussian import gaussian_average
from mtlcourse.theory.worlds import Tables, drawn_tables, gated_losses, optima


def test_gated_losses_are_those_of_every_network():
    random = np.random.default_rng(0)
    encoders, labels = random.normal(size=(3, 2, 4)), random.random((2, 4))
    decoders, gates = [-1.0, 0.5], [0.0, 0.3, 1.0]
    losses = gated_losses(encoders, decoders, labels, gates)
    assert losses.shape == (2, 3, 3, 2, 3)
    for t, s, f, h, a in np.ndindex(losses.shape):
        total = 0.0
        for i in range(4):
            mixed = gates[a] * encoders[s, t, i] + (1 - gates[a]) * encoders[f, t, i]
            total += min(1.0, abs(labels[t, i] - decoders[h] * mixed))
        assert losses[t, s, f, h, a] == pytest.approx(total / 4)


def test_optima_are_all_that_tie():
    random = np.random.default_rng(1)
    for m in (1, 2, 3):
        losses = random.integers(0, 3, size=(m, 2, 4)).astype(float)
        tried = {(tuple(losses[t, s, own[t]] for t in range(m)))
                 for s in range(2) for own in itertools.product(range(4), repeat=m)}
        least = min(map(sum, tried))
        assert {tuple(row) for row in optima(losses)} == {one for one in tried if sum(one) == least}


def small_world(seed, m=2, n=4, points=5, free=3):
    return drawn_tables(np.random.default_rng(seed), m, n, points, free)


def labels_at(world, t, point):
    """`[(label, its probability at the point, how often it is in the sample)]`"""
    one, count, hit = world.ones[t, point], world.counts[t, point], world.hits[t, point]
    return [(0.5, 1.0, count)] if np.isnan(one) else [(1.0, one, hit), (0.0, 1 - one, count - hit)]


def losses_of(world, t, predictions):
    """Expected and sample loss of task t, label by label."""
    expected = sample = 0.0
    for point, v in enumerate(predictions):
        for label, probability, seen in labels_at(world, t, point):
            expected += world.chance[t, point] * probability * abs(label - v)
            sample += seen / world.n * abs(label - v)
    return expected, sample


def every_network(world, t, gates):
    """Losses of task t under all public and private tables and gates; points are the task's own."""
    for public, private in itertools.product(itertools.product((0, 1), repeat=world.free), repeat=2):
        for a in gates:
            mixed = [a * s + (1 - a) * f for s, f in zip(public, private, strict=True)]
            yield losses_of(world, t, [*mixed, *[0.0] * (world.chance.shape[1] - world.free)])


@pytest.mark.parametrize("seed", range(6))
def test_tables_know_what_trying_every_network_finds(seed):
    world = small_world(seed)
    gated = [list(every_network(world, t, (0.0, 0.2, 0.5, 0.7, 1.0))) for t in range(2)]
    plain = [list(every_network(world, t, (0.0,))) for t in range(2)]

    def mean(value, networks):
        return np.mean([value(task) for task in networks])

    def at_optimum(task, worst):
        least = min(sample for _, sample in task)
        return (max if worst else min)(expected for expected, sample in task if sample <= least + 1e-12)

    assert world.deviation() == pytest.approx(mean(lambda task: max(e - s for e, s in task), gated))
    assert world.deviation(gated=False) == pytest.approx(mean(lambda task: max(e - s for e, s in task), plain))
    assert world.deviation(opposite=True) == pytest.approx(mean(lambda task: max(s - e for e, s in task), gated))
    assert world.best == pytest.approx(mean(lambda task: min(e for e, _ in task), gated))
    assert world.stl == pytest.approx((mean(lambda task: min(s for _, s in task), plain),
                                       mean(lambda task: at_optimum(task, False), plain)))
    assert world.dsmtl == pytest.approx((mean(lambda task: min(s for _, s in task), gated),
                                         mean(lambda task: at_optimum(task, True), gated)))


def test_these_worlds_differ():
    worlds = [small_world(seed) for seed in range(6)]
    assert any(np.isnan(world.ones[:, :3]).any() for world in worlds)
    assert any(world.dsmtl[0] < world.stl[0] for world in worlds)  # a gain on the sample
    assert any(world.dsmtl[1] > world.stl[1] for world in worlds)  # a harm on new data


@pytest.mark.parametrize("seed", range(3))
def test_the_gaussian_averages_are_those_of_the_enumerated_sets(seed):
    world = small_world(seed, m=1, n=6)
    outputs, costs = [], []
    for table in itertools.product((0.0, 1.0), repeat=world.free):
        predictions = [*table, *[0.0] * (world.chance.shape[1] - world.free)]
        sample = [(label, v) for point, v in enumerate(predictions)
                  for label, _, seen in labels_at(world, 0, point) for _ in range(seen)]
        outputs.append([v for _, v in sample])
        costs.append([abs(label - v) for label, v in sample])
    for mine, points in ((world.gaussian, outputs), (world.gaussian_of_losses, costs)):
        average = gaussian_average(points, draws=40_000)
        assert abs(mine - average) <= 4 * average.error + 1e-12


def test_a_draw_is_a_sample_of_its_distribution():
    world = drawn_tables(np.random.default_rng(0), m=2, n=4000, points=20, free=12)
    half = np.isnan(world.ones)
    assert world.chance.sum(axis=1) == pytest.approx([1, 1]) and world.chance.shape == (2, 13)
    assert (world.counts.sum(axis=1) == 4000).all() and (world.hits <= world.counts).all()
    assert half.any() and not world.hits[half].any()
    seen = (world.hits / world.counts)[~half]
    assert np.abs(seen - world.ones[~half]).max() < 0.1
    assert world.counts[:, -1] / 4000 == pytest.approx([0.4, 0.4], abs=0.03)


def test_tables_of_no_choice_have_no_gaussian_average_and_no_harm():
    world = Tables(2, 0, np.ones((1, 1)), np.full((1, 1), 0.5), np.full((1, 1), 2), np.ones((1, 1)))
    assert world.gaussian == 0 and world.dsmtl == world.stl == (0.5, 0.5) and world.best == 0.5
