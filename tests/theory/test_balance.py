"""BMTL's bounds against their formulas and by brute force, and the steps of our own proofs."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from mtlcourse import theory
from mtlcourse.strategies.difficulty import check_transform
from mtlcourse.theory import balance_instances as tries

GIVEN = {"rho": 0.5, "T": 2.0, "m": 3, "n": 7, "delta": 0.1}
NU = math.exp(0.5) / 2


# --- the bounds -------------------------------------------------------------------------------------------

def test_theorem_3_is_its_formula():
    bound = theory.bmtl(1.3, 0.2, **GIVEN)
    eta = 2 / 3 * math.exp(1 / 2) * (math.exp(1 / 14) - 1)
    assert list(bound.terms) == ["empirical", "complexity", "confidence"]
    assert bound.terms["complexity"] == pytest.approx(8 * 0.5 * NU * 0.2)
    assert bound.terms["confidence"] == pytest.approx(math.sqrt(eta ** 2 * 21 / 2 * math.log(10)))
    assert bound == pytest.approx(1.3 + bound.terms["complexity"] + bound.terms["confidence"])


@pytest.mark.parametrize(("form", "factor", "confidence"), [
    ("printed", 8, 1), ("repaired", 7.5, 1), ("sharp", 2.5, math.exp(-1 / 14) / 2)])
def test_the_forms_differ_in_their_constants(form, factor, confidence):
    printed, other = theory.bmtl(1.3, 0.2, **GIVEN), theory.bmtl(1.3, 0.2, **GIVEN, form=form)
    assert other.terms["complexity"] == pytest.approx(printed.terms["complexity"] * factor / 8)
    assert other.terms["confidence"] == pytest.approx(printed.terms["confidence"] * confidence)


@pytest.mark.parametrize(("T", "proved"), [(0.5, False), (1.4, False), (1.5, True), (50.0, True)])
def test_the_printed_constant_is_proved_from_a_temperature_on(T, proved):
    given = GIVEN | {"T": T}
    assert (theory.bmtl(1.0, 1.0, **given, form="repaired") <= theory.bmtl(1.0, 1.0, **given) + 1e-12) is proved


@pytest.mark.parametrize("form", ["repaired", "sharp"])
def test_theorem_4_takes_the_logarithm_of_all_three_terms(form):
    inner, bound = theory.bmtl(1.3, 0.2, **GIVEN, form=form), theory.bmtl_mean(1.3, 0.2, **GIVEN, form=form)
    assert bound == pytest.approx(2 * math.log(inner))
    assert bound.terms["empirical"] == pytest.approx(2 * math.log(1.3))
    assert min(bound.terms.values()) > 0


def test_theorem_4_as_printed_takes_that_of_one():
    inner, bound = theory.bmtl(1.3, 0.2, **GIVEN), theory.bmtl_mean(1.3, 0.2, **GIVEN)
    assert bound == pytest.approx(2 * math.log(inner.terms["complexity"]) + 1.3 + inner.terms["confidence"])
    assert theory.bmtl_mean(1.3, 0.0, **GIVEN) == -math.inf


def test_theorem_5_is_theorem_3_with_inputs_of_length_one():
    X = np.ones((3, 7, 1))  # whose means are as long as they can be
    by_3 = theory.bmtl(1.3, theory.ball_complexity(X, 0.4), **GIVEN)
    by_5 = theory.bmtl_linear(1.3, beta=0.4, **GIVEN)
    assert by_5.terms == pytest.approx(by_3.terms)
    longer = theory.bmtl_linear(1.3, beta=0.4, radius=5.0, form="repaired", **GIVEN)
    assert longer.terms["complexity"] == pytest.approx(5 * by_5.terms["complexity"])


def test_the_sharp_bound_of_linear_functions_falls_with_the_samples():
    complexities = [theory.bmtl_linear(1.0, beta=1.0, form="sharp", **GIVEN | {"n": n}).terms["complexity"]
                    for n in (1, 4, 16, 64)]
    assert complexities[0] == pytest.approx(2 * 0.5 * NU / math.sqrt(3))  # one sample a task: 2, not 2 (1 + 1 / (2 T))
    assert complexities[2] / complexities[3] == pytest.approx(2)
    assert np.all(np.diff(complexities) < 0)


@pytest.mark.parametrize(("change", "words"), [
    ({"rho": 0.0}, "rho"), ({"T": -1.0}, "T"), ({"m": 0}, "m"), ({"n": 0}, "n"), ({"delta": 1.0}, "delta"),
    ({"delta": 0.0}, "delta"), ({"empirical": 0.3}, "mean loss"), ({"complexity": -0.1}, "complexity"),
    ({"form": "neat"}, "neat"), ({"rho": math.nan}, "rho"), ({"empirical": math.nan}, "empirical")])
def test_numbers_out_of_range_are_refused(change, words):
    given = {"empirical": 1.0, "complexity": 0.1, **GIVEN, **change}
    for bound in (theory.bmtl, theory.bmtl_mean):
        with pytest.raises(ValueError, match=words):
            bound(**given)


def test_bad_arguments_of_linear_functions_are_refused():
    with pytest.raises(ValueError, match="beta"):
        theory.bmtl_linear(1.0, beta=0.0, **GIVEN)
    with pytest.raises(ValueError, match="radius"):
        theory.bmtl_linear(1.0, beta=1.0, radius=-1.0, **GIVEN)
    with pytest.raises(ValueError, match="signs"):
        theory.ball_complexity(np.ones((1, 1, 1)), 1.0, "letters")
    with pytest.raises(OverflowError, match="1 / 700"):
        theory.bmtl(1.0, 0.1, **GIVEN | {"T": 1e-3})


@pytest.mark.parametrize("seed", range(3))
def test_the_complexity_of_a_ball_by_all_signs(seed):
    X = np.random.default_rng(seed).normal(size=(2, 3, 2))
    signs = np.array(list(itertools.product((-1, 1), repeat=2)))
    by_task = [np.linalg.norm(s[:, None] * X.mean(1)) for s in signs]  # the best theta lies along this
    assert theory.ball_complexity(X, 0.7) == pytest.approx(0.7 / 2 * np.mean(by_task))
    signs = np.array(list(itertools.product((-1, 1), repeat=6))).reshape(-1, 2, 3, 1)
    by_sample = np.linalg.norm((signs * X).sum(2), axis=(1, 2)).mean() * 0.7 / 6
    assert by_sample <= theory.ball_complexity(X, 0.7, "sample") < 1.3 * by_sample


# --- expectations and suprema -----------------------------------------------------------------------------

def each_sample(m, n):
    """All choices of n out of two points for m tasks, as (choices, m, n) of 0 and 1."""
    return np.array(list(itertools.product((0, 1), repeat=m * n))).reshape(-1, m, n)


def chosen(values, choice):
    """(functions, m, n) of values (functions, m, 2)."""
    return np.take_along_axis(values, np.broadcast_to(choice, (len(values), *choice.shape)), axis=2)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 3), (2, 2), (2, 3)])
def test_expected_suprema_by_brute_force(m, n):
    values = np.random.default_rng(n).normal(size=(3, m, 2))
    for signs_of, mine in (((m, 1), tries.expected_supremum), ((m, n), tries.sample_supremum)):
        signs = np.array(list(itertools.product((-1, 1), repeat=math.prod(signs_of)))).reshape(-1, *signs_of)
        suprema = [(chosen(values, choice) * s).sum((1, 2)).max() / (m * n)
                   for choice in each_sample(m, n) for s in signs]
        assert mine(values, n) == pytest.approx(np.mean(suprema))


@pytest.mark.parametrize("T", [0.3, 1.0, 50.0])
@pytest.mark.parametrize("seed", range(20))
def test_the_steps_of_our_proof_of_theorem_3(seed, T):
    """E sup (R_h - Rhat_h), exactly, is at most 2 rho nu (1 + 1 / (2 T)) R, and at most that of one sample a task."""
    random = np.random.default_rng(seed)
    m, n = int(random.integers(1, 3)), int(random.integers(1, 4))
    outputs = random.uniform(-1, 1, size=(3, m, 2))
    losses = (1 - outputs * [1, -1]) / 2
    true = np.exp(losses.mean(2) / T).mean(1)
    gaps = [(true - np.exp(chosen(losses, choice).mean(2) / T).mean(1)).max() for choice in each_sample(m, n)]
    scale = 2 * tries.HALF * math.exp(1 / T) / T
    assert np.mean(gaps) <= scale * (1 + 0.5 / T) * tries.sample_supremum(outputs, n) + 1e-12
    assert np.mean(gaps) <= scale * tries.expected_supremum(outputs, 1) + 1e-12
    assert np.mean(gaps) <= scale / 2 * 6 * (1 + 0.5 / T) * tries.expected_supremum(outputs, n) + 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_ascent_finds_what_many_tries_do_not_beat(seed):
    random = np.random.default_rng(seed)
    expected, seen = random.uniform(-1, 1, size=(2, 3))
    T = float(10 ** random.uniform(-0.5, 2))
    found, _ = tries.worst_gap(expected, seen, T)
    thetas = random.normal(size=(5000, 3))
    thetas /= np.linalg.norm(thetas, axis=1, keepdims=True)
    gaps = (np.exp((1 - thetas * expected) / (2 * T)) - np.exp((1 - thetas * seen) / (2 * T))).mean(1)
    assert found >= gaps.max() - 1e-9 * np.exp(1 / T)


def test_the_simulated_gap_is_not_covered_by_the_empirical_term_alone():
    random = np.random.default_rng(0)
    gaps = [tries.worst_gap(one["expected"], one["seen"], one["T"])[0]
            for one in (tries.tasks_of_signs(random) for _ in range(200))]
    assert np.mean(np.array(gaps) > 0) > 0.9


# --- statements -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", [
    ("theorem-2", "negative losses"), ("theorem-2", "network"), ("theorem-3", "shared samples")], ids="/".join)
def test_an_assumption_that_is_dropped_is_missed(form):
    found = theory.check(f"bmtl-{form[0]}", form[1])
    assert not found.holds and found.share > 0.1


@pytest.mark.parametrize(("id", "form"), [("soft-maximum", "same direction"), ("eta", "half"),
                                          ("contraction", "signs"), ("theorem-5", "sharp")])
def test_what_we_say_besides_holds(id, form):
    assert theory.check(f"bmtl-{id}", form, seed=1).holds


@pytest.mark.parametrize("h", [lambda z: z ** 3, lambda z: z + 1 / (1 + z)])
def test_the_package_takes_what_meets_the_conditions_without_strong_convexity(h):
    check_transform(h)


def test_the_identity_does_not_meet_them():
    with pytest.raises(ValueError, match="equal weighting"):
        check_transform(lambda z: z)


@pytest.mark.parametrize("mu", [Fraction(1, 10 ** 9), Fraction(1, 2), Fraction(100)])
def test_no_constant_of_strong_convexity_fits_the_cube(mu):
    assert tries.curvature_missing(mu) > 0


def test_the_exact_counter_example_of_contraction_is_the_computed_one():
    outputs = np.array([[[1.0, -1.0]], [[-1.0, 1.0]]])
    for n in (2, 4, 7):
        assert tries.contraction_excess(outputs, n) == pytest.approx(float(tries.contraction_fails(n)))
    assert [tries.contraction_fails(n) for n in (2, 4)] == [0, Fraction(1, 8)]


def test_half_of_eta_is_reached():
    assert tries.change_over_half(np.array([0.0, 1.0, 1.0]), 1.0, m=2, T=0.7) == pytest.approx(0)


def test_remark_1_misses_the_order_by_the_root_of_the_samples():
    terms = [theory.bmtl(1.0, 0.0, **GIVEN | {"n": n}).terms["confidence"] for n in (10 ** 4, 10 ** 6)]
    assert terms[0] / terms[1] == pytest.approx(10, rel=1e-3)
