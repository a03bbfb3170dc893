"""Deep Safe Multi-Task Learning: the pieces of its statements, and forms beside the printed ones."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from mtlcourse import safety, theory
from mtlcourse.theory import deep_safe, deep_safe_bounds
from mtlcourse.theory.gaussian import gaussian_average

FAIL = {("definition-4", "same delta"), ("remark-3", "converse"), ("remark-4-average", "same delta"),
        ("theorem-1", "one gate for all tasks"), ("theorem-1", "gates held at one half"),
        ("theorem-3", "gates held at one half"), ("assumption-1", "without (iv)"), ("remark-5", "assumption 1 alone"),
        *itertools.product(("theorem-2", "theorem-4", "theorem-5", "theorem-6", "theorem-7", "remark-8"),
                           ("without the Gaussian term", "without the confidence term"))}
HOLD = {("theorem-1", "two stages"), ("theorem-3", "each task"), ("theorem-3", "HPS never below STL"),
        ("theorem-7", "gates add nothing")}
NAMED = {"definition-1", "definition-2", "definition-3", "definition-4", "assumption-1", "equation-3", "remark-3",
         "remark-4", "remark-4-average", "remark-5", "remark-6", "remark-7", "remark-8", "theorem-5-orders",
         *(f"theorem-{number}" for number in range(1, 8))}


def test_everything_of_the_paper_has_a_verdict():
    assert {name.removeprefix("dsmtl-") for name in theory.STATEMENTS if name.startswith("dsmtl-")} == NAMED


def test_every_form_beside_the_printed_one_is_expected():
    beside = {(name.removeprefix("dsmtl-"), form) for name, one in theory.STATEMENTS.items() for form in one.forms
              if name.startswith("dsmtl-") and form not in ("printed", "repaired")}
    assert beside == FAIL | HOLD


@pytest.mark.parametrize(("name", "form"), sorted(FAIL | HOLD))
def test_a_form_beside_the_printed_one_fails_where_something_is_left_out(name, form):
    found = theory.check(f"dsmtl-{name}", form, instances=400, seed=1)
    assert found.instances > 200 and found.holds == ((name, form) in HOLD), found


def test_definition_3_is_what_the_package_computes():
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        losses, stl = deep_safe._two_losses(random).values()
        found = safety.empirically_safe(*({f"task {t}": float(v) for t, v in enumerate(values)}
                                          for values in (losses, stl)))
        assert found == ((losses <= stl).all(), (losses <= stl).all() or losses.mean() <= stl.mean())
        assert (safety.negative_sharing(stl - losses, range(len(stl))) == []) == found.individual
        seen.add(found)
    assert len(seen) == 3  # all but individual without average


def test_quantiles_leave_as_many_outcomes_above_as_they_may():
    harm = np.arange(20.0).reshape(10, 2)[::-1]
    assert deep_safe._quantiles(harm, 4, share=False).tolist() == [10, 11]  # of 18, 16, ... four are above
    assert deep_safe._quantiles(harm, 4, share=True).tolist() == [14, 15]  # two for each of both tasks
    apart = np.zeros((10, 2))
    apart[0, 0] = apart[1, 1] = 1.0
    assert deep_safe._at_once(apart, 1, share=False) == pytest.approx(0.1)  # two of ten, where one may
    assert deep_safe._on_average(apart, 1, share=False) == pytest.approx(0.1)
    assert deep_safe._at_once(apart, 2, share=True) == 0  # one for each task is two of ten, where two may


def test_two_stages_can_end_above_the_joint_optimum():
    encoders, labels = [[0, 0], [2, 0], [0, 2], [0.5, 0.5]], [1, 1]
    a = np.linspace(0, 1, 3001)[:, None]

    def least(private, public):
        return np.abs(np.array(labels) - a * public - (1 - a) * private).mean(axis=1).min()

    f = np.array(encoders, dtype=float)
    first = f[np.argmin([least(one, one) for one in f])]
    gap = min(least(first, public) for public in f) - min(least(one, public) for one in f for public in f)
    example = theory.STATEMENTS["dsmtl-equation-3"].counter_example
    assert example.excess(**example.values) == Fraction(1, 3) and gap == pytest.approx(1 / 3, abs=1e-3)


def small_losses(seed=0, m=2):
    random = np.random.default_rng(seed)
    return random.random((m, 2, 3, 2, 3))


@pytest.mark.parametrize("seed", range(20))
def test_optima_of_each_kind_against_trying_all(seed):
    L = small_losses(seed)  # task, public, private, decoder, gate: the losses need no network behind them

    def tried(gates, privates=None):
        own = list(itertools.product(range(3), range(2)))
        options = itertools.product(range(2), privates[0] if privates else own, privates[1] if privates else own, gates)
        return min(((L[0, s, *p, a], L[1, s, *q, b]) for s, p, q, (a, b) in options), key=sum)

    free = list(itertools.product(range(3), repeat=2))
    assert np.allclose(deep_safe.joint(L), tried(free))
    assert np.allclose(deep_safe.one_gate(L), tried([(a, a) for a in range(3)]))
    assert np.allclose(deep_safe.half_open(L), tried([(1, 1)]))
    best = [[np.unravel_index(L[t, 0, :, :, 0].argmin(), (3, 2))] for t in range(2)]
    assert np.allclose(deep_safe.staged(L), tried(free, best))
    assert np.allclose(deep_safe.alone(L), [L[t, 0, *best[t][0], 0] for t in range(2)])
    assert np.allclose(deep_safe.hard(L), min(((L[0, s, 0, g, 2], L[1, s, 0, h, 2]) for s, g, h in
                                               itertools.product(range(2), repeat=3)), key=sum))


def test_each_first_stage_that_ties_is_tried():
    L = np.ones((1, 1, 2, 1, 2))
    L[0, 0, :, 0, 1] = 0.2, 0.7  # both are best alone; behind a gate they differ
    assert deep_safe.staged(L).tolist() == [[0.2], [0.7]]


def test_the_gaussian_average_of_private_encoders_is_a_sum():
    """What remark 7 and the text after theorem 5 miss: the class of m tasks is a product."""
    random = np.random.default_rng(0)
    classes = random.normal(size=(3, 4, 5))  # task, encoder, output on the task's sample
    product = [np.concatenate(choice) for choice in itertools.product(*classes)]
    together = gaussian_average(product, draws=100_000)
    parts = [gaussian_average(one, draws=100_000, seed=1 + t) for t, one in enumerate(classes)]
    error = np.sqrt(together.error**2 + sum(part.error**2 for part in parts))
    assert abs(together - sum(parts)) < 4 * error < 0.05 * together


def test_harm_counts_the_gain_on_the_sample():
    """One point, label 1/2, seen: the gain of 1/2 on the sample is the gain on new data, so nothing is left over."""
    one = np.ones((1, 1))
    world = theory.worlds.Tables(1, 1, one, np.full((1, 1), np.nan), one, 0 * one)
    assert world.stl == (0.5, 0.5) and world.dsmtl == (0.0, 0.0) and deep_safe_bounds.harm(world) == 0
    unseen = theory.worlds.Tables(1, 1, np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]), np.array([[0, 1]]),
                                  np.zeros((1, 2)))
    assert deep_safe_bounds.harm(unseen) == 0.5  # STL happens to say 1 at the point nobody has seen, DSMTL says 0
