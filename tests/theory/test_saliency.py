"""Saliency regularisation: its bounds, and what the statements' checks compute, against brute force."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial import ConvexHull

from mtlcourse import data, models, theory
from mtlcourse.encoders import StagedEncoder
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.theory import connectivity, heads_cost, linear_heads_bound, saliency, saliency_bound, saliency_risk

RANDOM = np.random.default_rng(6)


def relation(tasks, random=RANDOM):
    omega = np.triu(random.uniform(0.1, 2, size=(tasks, tasks)), 1)
    return omega + omega.T


# --- bounds -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_connectivity_of_known_graphs(tasks):
    complete = np.ones((tasks, tasks))
    path = np.diag(np.ones(tasks - 1), 1)
    for form in ("printed", "repaired"):
        assert connectivity(complete, form) == pytest.approx(tasks)
        assert connectivity(3 * (path + path.T), form) == pytest.approx(6 - 6 * math.cos(math.pi / tasks))


def test_connectivity_is_the_least_cost_of_differing():
    omega = relation(4)
    W = RANDOM.normal(size=(5000, 3, 4))
    W -= W.mean(2, keepdims=True)
    cost = sum(omega[i, j] * ((W[:, :, i] - W[:, :, j]) ** 2).sum(1) for i in range(4) for j in range(i))
    ratios = cost / (W**2).sum((1, 2))
    assert ratios.min() >= connectivity(omega)
    assert ratios.min() == pytest.approx(connectivity(omega), rel=0.1)


def test_a_graph_that_falls_apart_has_no_second_eigenvalue():
    omega = np.zeros((3, 3))
    omega[0, 1] = omega[1, 0] = 0.5
    assert connectivity(omega) == pytest.approx(1.0) and connectivity(omega, "repaired") == 0
    assert heads_cost(omega, B=0.0, L=2.0) == pytest.approx(2 * math.sqrt(3))
    assert connectivity(np.zeros((3, 3)), "repaired") == 0


def member(random, omega, B, L):
    """Heads (features, tasks) of the class, on its boundary."""
    W = random.normal(size=(3, 1)) + random.exponential() * random.normal(size=(3, len(omega)))
    apart = math.sqrt(sum(omega[i, j] * ((W[:, i] - W[:, j]) ** 2).sum() for i in range(len(omega))
                          for j in range(len(omega))))
    return W * min(L / np.linalg.norm(W, axis=0).max(), B / apart)


@pytest.mark.parametrize(("B", "L"), [(0.1, 1.0), (1.0, 1.0), (5.0, 0.5), (100.0, 1.0)])
def test_heads_cost_bounds_how_fast_heads_fit_noise(B, L):
    """The supremum over heads of the class, averaged over noise: of random members, which only gives less, no more."""
    omega, random = relation(3), np.random.default_rng(7)
    features = random.normal(size=(3, 4, 3))  # tasks, samples, features
    heads = np.array([member(random, omega, B, L) for _ in range(2000)])
    noise = random.normal(size=(500, 3, 4))
    fitted = np.einsum("gti,tik,hkt->gh", noise, features, heads).max(1).mean()
    assert 0.3 < fitted / (heads_cost(omega, B, L) * np.linalg.norm(features)) <= 1


def test_what_is_common_is_paid_for_in_full():
    """Equal heads on orthogonal features: `E L |sum_t v_t|` comes to `L |y|`, and the printed cost would be zero."""
    noise = np.random.default_rng(8).normal(size=(2000, 2 * 100))  # 100 samples of two tasks, a feature each
    fitted = 1.5 * np.linalg.norm(noise, axis=1).mean()
    cost = heads_cost([[0, 1], [1, 0]], B=0.0, L=1.5) * math.sqrt(200)
    assert 0.99 < fitted / cost <= 1.0


@pytest.mark.parametrize(("B", "L", "expected"), [(0.0, 1.0, 1.0), (1.0, 1.0, 1.5), (100.0, 1.0, math.sqrt(2))])
def test_heads_cost_in_numbers(B, L, expected):
    assert heads_cost([[0, 1], [1, 0]], B, L) == pytest.approx(min(math.sqrt(2), expected))


def test_the_bounds_are_their_formulas():
    omega, n, m, delta, G, size, B, L = [[0, 2], [2, 0]], 50, 2, 0.1, 3.0, 7.0, 0.5, 1.5
    bound = saliency_bound(n, delta, G, size, omega, B, L, c1=2.0, c2=5.0)
    assert bound.terms == pytest.approx({"representation": 2 * L * G / (n * m),
                                         "heads": 5 * B / 2 * size / (n * math.sqrt(n * m)),
                                         "confidence": math.sqrt(8 * math.log(40) / 100)})
    assert bound == pytest.approx(sum(bound.terms.values()))
    repaired = saliency_bound(n, delta, G, size, omega, B, L, c1=2.0, c2=5.0, form="repaired")
    assert repaired.terms["heads"] == pytest.approx(5 * (L + B / math.sqrt(8)) * size / (n * m))
    fixed = linear_heads_bound(n, delta, size, omega, B, L)
    assert fixed.terms == pytest.approx({"heads": math.sqrt(2 * math.pi) * repaired.terms["heads"] / 5,
                                         "confidence": bound.terms["confidence"]})


@pytest.mark.parametrize("form", ["printed", "repaired"])
def test_the_unit_of_omega_does_not_matter(form):
    omega = relation(4)
    one, other = (saliency_bound(50, 0.1, 1.0, 2.0, scale * omega, math.sqrt(scale) * 0.3, 1.0, 1.0, 1.0, form)
                  for scale in (1, 100))
    assert one == pytest.approx(other)


def test_unrelated_tasks_cost_what_they_do_without_the_regulariser():
    """Maurer, Pontil and Romera-Paredes: `c2 L size / (n sqrt(m))` for independent linear heads."""
    found = saliency_bound(50, 0.1, 0.0, 2.0, relation(4), 1e9, 1.0, 1.0, 1.0, "repaired")
    assert found.terms["heads"] == pytest.approx(2.0 / (50 * math.sqrt(4)))


@pytest.mark.parametrize(("wrong", "words"), [
    ({"delta": 0.0}, "between 0 and 1"), ({"delta": 1}, "between 0 and 1"), ({"n": 0}, "at least one"),
    ({"B": -1.0}, "not negative"), ({"size": math.nan}, "not negative"), ({"c1": math.inf}, "finite"),
    ({"omega": [[0, 1]]}, "shape"), ({"omega": [[0]]}, "two tasks"), ({"omega": [[0, 1], [2, 0]]}, "symmetric"),
    ({"omega": [[0, -1], [-1, 0]]}, "not negative"), ({"omega": np.zeros((2, 2))}, "without edges"),
    ({"form": "neat"}, "neat")])
def test_a_bound_of_nonsense_is_refused(wrong, words):
    arguments = {"n": 10, "delta": 0.1, "G": 1.0, "size": 1.0, "omega": [[0, 1], [1, 0]], "B": 1.0, "L": 1.0,
                 "c1": 1.0, "c2": 1.0}
    with pytest.raises(ValueError, match=words):
        saliency_bound(**{**arguments, **wrong})


# --- statements -------------------------------------------------------------------------------------------

def step(x, known):
    """1 at known places, 0 at other whole numbers and at zero, continuously differentiable."""
    left = np.floor(x)
    low, high = (np.isin(place, known).astype(float) for place in (left, left + 1))
    u = x - left
    return low + (high - low) * (3 * u**2 - 2 * u**3)


def test_a_network_that_learns_by_heart_is_in_the_class_and_as_bad_as_the_check_says():
    x = np.random.default_rng(9).integers(400, size=(2, 80))  # places 1 to 400 in the picture of the proof
    places = np.arange(400)
    fine = np.linspace(-1, 401, 40201)
    slopes = np.diff(step(fine, x)) / np.diff(fine)
    assert np.abs(slopes).max() <= 1.5 and np.abs(np.diff(slopes)).max() < 0.1  # L, and no corner
    assert (1 - step(x, x)).sum() == 0
    risk = (1 - step(places, x)).mean()
    bound = math.sqrt(8 * math.log(80) / 160)
    assert saliency_risk._excess_by_heart(x, 400, 0.05) == pytest.approx(risk - 1 / 8 - bound)


def test_opposed_heads_by_brute_force():
    n, c2 = 30, 2.0
    known = np.arange(2 * n)
    heads = np.zeros((200 * n + 1, 2))
    heads[1 + known, 0], heads[1 + known, 1] = 1, -1
    features = np.hstack([np.ones((2 * n, 1)), np.eye(200 * n)[known]])
    B = math.sqrt(2 * ((heads[:, 0] - heads[:, 1]) ** 2).sum())
    bound = saliency_bound(n, 0.05, 0.0, np.linalg.norm(features), [[0, 1], [1, 0]], B, 1.0, 1.0, c2)
    assert np.abs(features @ heads - [1, -1]).max() == 0  # they know all
    assert bound.terms["heads"] == pytest.approx(4 * c2 / math.sqrt(n))
    assert saliency_risk._excess_opposed(c2, n, 0.05) == pytest.approx(1 - 1 / 100 - 1 / 8 - bound)


@pytest.mark.parametrize(("L", "width"), [(2.0, 0.5), (1.5, 0.2), (3.0, 0.6)])
def test_the_risk_of_a_rounded_ramp(L, width):
    start, end = 1 / L - width / 2, 1 / L + width / 2

    def ramp(x):
        return L * x if x < start else 1 - L * (end - x) ** 2 / (2 * width) if x < end else 1.0

    assert ramp(start + 1e-12) == pytest.approx(ramp(start - 1e-12))
    risk = quad(lambda x: 1 - ramp(x), 0, 1, points=[start, end])[0]
    assert saliency_risk._ramp(L, width) == pytest.approx(risk)


def test_planar_averages():
    V = RANDOM.normal(size=(30, 2))
    assert saliency_risk._planar_average(V) == pytest.approx(ConvexHull(V).area / math.sqrt(8 * math.pi), rel=1e-3)
    apart = np.linalg.norm(V[0] - V[1])
    assert saliency_risk._planar_average(V[:2]) == pytest.approx(apart / math.sqrt(2 * math.pi), rel=1e-3)
    noise = RANDOM.normal(size=(200_000, 2))
    assert saliency_risk._planar_average(V) == pytest.approx((noise @ V.T).max(1).mean(), rel=0.01)


def test_floors_share_as_the_model_does():
    """The best shares that keep a floor, which `_floor_improves` takes for granted, by trying many."""
    d = np.array([0.5, 1.0, 2.0])
    tries = 0.5 / 3 + 0.5 * RANDOM.dirichlet(np.full(3, 0.2), size=5000)
    best = 0.5 / 3 * d.sum() + 0.5 * d.min()
    assert best <= (tries @ d).min() < best + 0.01


def linear_problem():
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    splits = {name: TensorSplit(x, {task: x[:, :1] for task in "abc"}) for name in ("train", "val", "test")}
    return Problem("linear", [data.regression(task) for task in "abc"], **splits, input_shape=(3,),
                   encoder=StagedEncoder([torch.nn.Flatten()], (3,)))


def test_linear_tasks_on_inputs_make_the_regulariser_a_sum_over_weights():
    """Section 4.2's setting: no trunk, linear heads, inner products, pairs i < j."""
    problem = linear_problem()
    model = models.SRDML(problem, strength=2.0, distance="inner", relation="uniform", leave_after=0).double()
    batch = next(problem.train.batches(6))
    inputs = batch.inputs.double()
    found = model.auxiliary_loss(batch, model(inputs))
    W = torch.stack([head.weight[0] for head in model.heads.values()])
    expected = 2.0 / 3 * sum(W[i] @ W[j] for i in range(3) for j in range(i))
    assert found.item() == pytest.approx(expected.item())


def test_the_check_of_hard_sharing_sees_a_price_and_a_difference(monkeypatch):
    srdml, hps, _ = saliency._two_networks()
    assert saliency._hard_sharing(3) == 0
    monkeypatch.setattr(srdml, "strength", 0.1)
    assert saliency._hard_sharing(3) == math.inf
    monkeypatch.undo()
    monkeypatch.setattr(hps.heads["a"], "forward", lambda z: z[:, :1])
    assert saliency._hard_sharing(3) > 0


def test_squared_distances_are_graphs():
    found = theory.check("srdml-shallow-tasks", "graph")
    assert found.holds and found.violations == 0


def test_the_printed_order_of_the_middle_term_is_refuted_apart():
    found = theory.check("srdml-theorem-2", "opposed")
    assert found.share == 1


@pytest.mark.parametrize(("id", "expected"), [
    ("srdml-theorem-1", 1), ("srdml-equation-3", 3), ("srdml-equation-4", 1), ("srdml-assumption-1", 1),
    ("srdml-definition-2", Fraction(1, 64)), ("srdml-remark-first-term", Fraction(3, 16)),
    ("srdml-remark-middle-term", Fraction(1, 4)), ("srdml-remark-guarantee", 1), ("srdml-shallow-tasks", 2)])
def test_counter_examples_in_numbers(id, expected):
    example = theory.STATEMENTS[id].counter_example
    assert example.excess(**example.values) == expected


def test_every_statement_of_the_document_is_here():
    places = " ".join(one.place for one in theory.STATEMENTS.values() if one.id.startswith("srdml-"))
    for named in ("theorem 1", "theorem 2", "lemma 1", "lemma 2", "section 4.2", "definition 1", "definition 2",
                  "definition 3", "definition 4", "assumption 1", "appendix E"):
        assert named in places
