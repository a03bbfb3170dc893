"""Certificates of a method: the chance of seeds and of samples together, neither forgotten nor counted twice."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import stdtrit

from mtlcourse import data, models
from mtlcourse.safety import certify_method
from mtlcourse.safety.crossed import parts
from mtlcourse.training.samples import per_sample
from tests.problems import small
from tests.safety.stored import NAN, problem, samples

ONE = problem(data.classification("left", 10))


def drawn(random, seeds=5, n=150, of_seeds=0.0, of_samples=0.0, rest=0.1, mean=0.0, groups=None):
    """Errors of both networks of each seed: the baseline's are 0.5, and the method's differ by the model's parts."""
    own = (0.5 - mean + of_seeds * random.normal(size=(seeds, 1)) + of_samples * random.normal(size=n)
           + rest * random.normal(size=(seeds, n))).clip(0, 1)
    return [[samples({"left": {"brier": values}}, groups=groups) for values in rows]
            for rows in (own, np.full((seeds, n), 0.5))]


def of(own, other, **options):
    return certify_method(own, other, ONE, measures=["brier"], **{"draws": 200, **options}).frame.iloc[0]


@pytest.mark.parametrize("spreads", [(0.05, 0.0, 0.1), (0.0, 0.15, 0.1)], ids=str)
def test_it_is_wrong_about_as_often_as_it_says(spreads):
    """On either side, in about 5 of 100 methods that are as good as their baseline, and not in twice as many.

    A bound from the spread over seeds alone is wrong in a quarter of those where all seeds owe much to their samples.
    """
    random, wrong, naively = np.random.default_rng(0), np.zeros(2), 0
    for _ in range(100):
        own, other = drawn(random, 5, 100, *spreads)
        found = of(own, other, draws=100)
        wrong += (found["low"] > 0, found["high"] < 0)
        means = np.array([0.5 - kept.rows["left"]["brier"][:, 0].mean() for kept in own])
        naively += means.mean() > stdtrit(4, 0.95) * means.std(ddof=1) / math.sqrt(5)
    assert (wrong <= 10).all() and (naively > 20) == (spreads[1] > 0)


def test_its_parts_are_those_of_the_model():
    """Mean over many data sets: A = a/R + e/(Rn), B = b/n + e/(Rn), E = e/(Rn)."""
    random, seeds, n = np.random.default_rng(0), 6, 80
    a, b, e = 0.1**2, 0.5**2, 0.3**2
    sums = np.zeros(3)
    for _ in range(300):
        d = 0.1 * random.normal(size=(seeds, 1)) + 0.5 * random.normal(size=n) + 0.3 * random.normal(size=(seeds, n))
        weights = random.multinomial(n, np.full(n, 1 / n), size=200)
        sums += np.array(parts(d.mean(1), weights @ d.T / n)) / 300
    expected = [a / seeds + e / seeds / n, b / n + e / seeds / n, e / seeds / n]
    assert sums == pytest.approx(expected, rel=0.12)


def test_more_seeds_narrow_only_their_own_part():
    random = np.random.default_rng(0)
    widths = {}
    for seeds in (4, 40):
        found = of(*drawn(random, seeds, 300, 0.001, 0.2, 0.01))
        widths[seeds] = found["high"] - found["low"]
        assert found["needed"] == math.inf or found["verdict"] != "undecided"
    assert widths[40] > 0.8 * 2 * 1.645 * 0.2 / math.sqrt(300) and widths[40] == pytest.approx(widths[4], rel=0.3)
    owed_to_seeds = of(*drawn(np.random.default_rng(2), 5, 300, 0.05, 0.0, 0.01, mean=0.02))
    assert owed_to_seeds["verdict"] == "undecided" and 5 < owed_to_seeds["needed"] < 500


def test_it_decides_where_there_is_something_to_decide():
    random = np.random.default_rng(0)
    own, other = drawn(random, 5, 400, 0.01, 0.1, 0.1, mean=0.06)
    found = certify_method(own, other, ONE, measures=["brier"])
    assert found.verdict == "safe" and "5 seeds" in found.scope and "new seeds and new samples" in found.scope
    first = found.frame.iloc[0]
    assert (first["method"], first["exact"], first["n"]) == ("seeds x samples", False, 400) and first["needed"] <= 5
    assert certify_method(other, own, ONE, measures=["brier"]).verdict == "unsafe"
    assert certify_method(own, other, ONE, measures=["brier"]).frame.equals(found.frame)


def test_too_few_seeds_decide_nothing():
    own, other = drawn(np.random.default_rng(0), 5, 400, 0.0, 0.0, 0.01, mean=0.2)
    for seeds in (1, 2):
        found = certify_method(own[:seeds], other[:seeds], ONE, measures=["brier"])
        assert found.verdict == "undecided" and found.frame["low"][0] == -math.inf
        assert found.frame["difference"][0] == pytest.approx(0.2, abs=0.01) and "at least" in found.scope
    copies = certify_method([own[0]] * 5, [other[0]] * 5, ONE, measures=["brier"])  # the same run five times
    assert copies.verdict == "undecided"
    assert certify_method(own, own, ONE, measures=["brier"]).verdict == "undecided"


def test_what_is_not_a_number_with_some_seed_is_not_safe():
    own, other = drawn(np.random.default_rng(0), 4, 100, mean=0.2)
    own[2].rows["left"]["brier"][7, 0] = NAN
    assert of(own, other)["verdict"] == "unsafe" and math.isnan(of(own, other)["low"])
    assert of(other, own)["verdict"] == "undecided"


def test_new_sources_are_less_sure_than_new_samples():
    random = np.random.default_rng(0)
    sources = random.integers(40, size=(800, 1))
    effect = random.normal(size=40)[sources[:, 0]] * 0.1
    own, other = drawn(random, 5, 800, 0.001, 0.0, 0.01, groups={"*": sources})
    for kept in own:
        kept.rows["left"]["brier"][:, 0] = (kept.rows["left"]["brier"][:, 0] + effect).clip(0, 1)
    widths = [found["high"] - found["low"] for over in ("samples", "groups") for found in [of(own, other, over=over)]]
    assert widths[1] > 3 * widths[0]


def test_runs_models_and_what_was_stored_say_the_same():
    where = small(("kind", "size"))
    nets = [[build(where) for _ in range(3)] for build in (models.HPS, models.STL)]
    stored = [[per_sample(net, where) for net in own] for own in nets]
    runs = [[SimpleNamespace(model=net) for net in own] for own in nets]
    kept = [[SimpleNamespace(model=None, samples=one) for one in own] for own in stored]
    frames = [certify_method(*both, where, draws=100).frame for both in (nets, stored, runs, kept)]
    assert all(frame.equals(frames[0]) for frame in frames)
    with pytest.raises(ValueError, match="neither its model nor what it did"):
        certify_method([SimpleNamespace(model=None)] * 3, nets[1], where)
    with pytest.raises(ValueError, match="split 'test' were given"):
        certify_method(*stored, where, split="val")


def test_what_cannot_be_compared_is_refused():
    own, other = drawn(np.random.default_rng(0))
    with pytest.raises(ValueError, match="5 runs and 4 baselines"):
        of(own, other[:4])
    with pytest.raises(ValueError, match="0 runs"):
        of([], [])
    elsewhere = [[samples({"left": {"brier": kept.rows["left"]["brier"]}}, content="other") for kept in side]
                 for side in (own, other)]
    with pytest.raises(ValueError, match="hash of its data"):
        of([*own[:3], *elsewhere[0][:2]], [*other[:3], *elsewhere[1][:2]])
    with pytest.raises(ValueError, match="does not know from which sources"):
        of(own, other, over="groups")
