"""Gaussian averages and Q against brute force: quadrature, the plane, plain sampling, other decoders."""

import copy
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.spatial import ConvexHull
from scipy.special import gamma as gamma_function
from scipy.stats import norm

from mtlcourse.theory import gaussian_average, gaussian_average_linear, linear_q
from mtlcourse.theory.gaussian import mean_root


def by_perimeter(points):
    """In the plane the Gaussian average is the length around the points over 2 sqrt(2 pi): the mean width, scaled."""
    return ConvexHull(points).area / (2 * math.sqrt(2 * math.pi))


def sampled_roots(weights, repeats, draws=200_000):
    """Mean and standard error of sqrt(Q), by drawing Q."""
    chi = np.random.default_rng(5).chisquare(repeats, size=(draws, len(weights)))
    roots = np.sqrt(chi @ np.asarray(weights))
    return roots.mean(), roots.std() / math.sqrt(draws)


# --- finite sets -----------------------------------------------------------------------------------------

def test_one_point_and_two_points_are_exact():
    assert gaussian_average([[3.0, -4.0]]) == 0.0 and gaussian_average([[3.0, -4.0]]).exact
    two = gaussian_average([[1.0, 1.0, 0.0], [1.0, 4.0, 4.0]])
    by_quadrature = quad(lambda g: max(5 * g, 0) * norm.pdf(g), -40, 40, points=[0])[0]
    assert two == pytest.approx(by_quadrature, rel=1e-9) and two.exact and two.error == 0
    repeated = gaussian_average([[1.0, 1.0, 0.0], [1.0, 4.0, 4.0], [1.0, 1.0, 0.0]])
    assert repeated == two and repeated.exact


@pytest.mark.parametrize("points", [
    [[0.0], [1.0], [3.0]],
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]],
    [[5.0, 5.0], [6.0, 5.0], [5.5, 5.2]],
])
def test_three_points_against_quadrature(points):
    points, grid = np.array(points), np.linspace(-9, 9, 601)  # equal steps: exact where a density ends in nothing
    g = np.stack(np.meshgrid(*[grid] * points.shape[1]), axis=-1)
    truth = ((g @ points.T).max(-1) * norm.pdf(g).prod(-1)).sum() * (grid[1] - grid[0]) ** points.shape[1]
    average = gaussian_average(points, draws=40_000)
    assert abs(average - truth) < 4 * average.error + 1e-4 and not average.exact
    assert average.error < 0.02 * truth


def test_many_points_of_the_plane_against_their_perimeter():
    points = np.random.default_rng(0).normal(size=(40, 2))
    average = gaussian_average(points, draws=40_000)
    assert abs(average - by_perimeter(points)) < 4 * average.error


def test_corners_of_cubes_and_simplices_have_closed_forms():
    corners = gaussian_average(list(itertools.product([-1.0, 1.0], repeat=6)), draws=20_000)
    assert abs(corners - 6 * math.sqrt(2 / math.pi)) < 4 * corners.error
    vertices = gaussian_average(np.eye(4), draws=40_000)  # the mean of the largest of four normal numbers
    assert abs(vertices - 1.0293753730) < 4 * vertices.error


def test_the_standard_error_is_one():
    truth = by_perimeter(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))
    runs = [gaussian_average([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]], draws=200, seed=seed) for seed in range(300)]
    off = np.array([(run - truth) / run.error for run in runs])
    assert 0.85 < off.std() < 1.15 and abs(off.mean()) < 0.25


def test_fewer_points_than_dimensions_are_turned_into_few():
    points = np.random.default_rng(1).normal(size=(3, 500))
    edges = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1)  # three points lie in a plane
    average = gaussian_average(points, draws=40_000)
    assert abs(average - edges.sum() / (2 * math.sqrt(2 * math.pi))) < 4 * average.error


@given(st.floats(1e-150, 1e150), st.floats(-100, 100))
def test_it_scales_and_does_not_feel_a_translation(scale, shift):
    points = np.array([[0.0, 0.0], [1.0, 2.0], [-3.0, 1.0], [0.5, 0.5]])
    base = gaussian_average(points, draws=200)
    scaled = gaussian_average(points * scale, draws=200)
    assert scaled == pytest.approx(scale * base, rel=1e-9) and scaled.error == pytest.approx(scale * base.error)
    assert gaussian_average(points + shift, draws=200) == pytest.approx(base, rel=1e-9)


def test_blocks_of_draws_change_nothing(monkeypatch):
    points = np.random.default_rng(2).normal(size=(7, 3))
    whole = gaussian_average(points, draws=1000)
    monkeypatch.setattr("mtlcourse.theory.gaussian.BLOCK", 7 * 64)
    blocks = gaussian_average(points, draws=1000)
    assert blocks == pytest.approx(whole, rel=1e-12) and blocks.error == pytest.approx(whole.error, rel=1e-12)
    assert gaussian_average(points, seed=1) != gaussian_average(points, seed=2)


def test_an_average_survives_copies_and_says_what_it_is():
    average = gaussian_average(np.eye(3), draws=100)
    for other in (copy.deepcopy(average), copy.copy(average)):
        assert (other, other.error, other.exact) == (average, average.error, False)
    assert "+-" in repr(average) and repr(gaussian_average([[0.0], [1.0]])) == "0.3989"


@pytest.mark.parametrize(("points", "draws", "words"), [
    ([], 10, "shape"), (np.zeros((0, 3)), 10, "at least one"), ([1.0, 2.0], 10, "matrix"),
    ([[np.nan, 0.0]], 10, "finite"), ([[np.inf], [0.0]], 10, "finite"), ([[0.0], [1.0]], 1, "at least 2")])
def test_what_has_no_average_is_refused(points, draws, words):
    with pytest.raises(ValueError, match=words):
        gaussian_average(points, draws=draws)


# --- linear maps -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("repeats", [1, 2, 3, 10, 1000, 10**6])
@pytest.mark.parametrize("weight", [1.0, 1e-200, 1e200])
def test_one_eigenvalue_has_a_closed_form(weight, repeats):
    closed = math.sqrt(2 * weight) * math.exp(math.lgamma((repeats + 1) / 2) - math.lgamma(repeats / 2))
    assert mean_root([weight], repeats) == pytest.approx(closed, rel=1e-13 if repeats < 2000 else 1e-8)


@pytest.mark.parametrize("r", [2, 5, 64, 1000])
def test_equal_eigenvalues_are_one_with_more_repeats(r):
    assert mean_root([0.5] * r, 3) == pytest.approx(mean_root([0.5], 3 * r), rel=1e-13)


@pytest.mark.parametrize(("weights", "repeats"), [
    ([1.0, 1e-3, 1e-6], 1), ([5.0, 1.0, 1.0, 0.0], 2), ([1.0, 1e-14], 1), (np.geomspace(1, 1e-8, 30), 4)])
def test_any_eigenvalues_against_sampling(weights, repeats):
    mean, error = sampled_roots(weights, repeats)
    assert abs(mean_root(weights, repeats) - mean) < 4 * error


def test_two_eigenvalues_against_the_elliptic_integral():
    """sqrt(a g1^2 + b g2^2): the mean radius sqrt(pi / 2) times the mean of sqrt(a cos^2 + b sin^2)."""
    a, b = 3.0, 1e-5
    turn = quad(lambda angle: math.hypot(math.sqrt(a) * math.cos(angle), math.sqrt(b) * math.sin(angle)), 0,
                math.pi / 2, epsabs=0, epsrel=1e-12, points=[math.pi / 2 - 1e-3], limit=200)[0]
    assert mean_root([a, b]) == pytest.approx(math.sqrt(math.pi / 2) * turn * 2 / math.pi, rel=1e-10)


@pytest.mark.parametrize(("n", "d", "outputs"), [(1, 1, 1), (5, 3, 1), (3, 5, 2), (40, 4, 6)])
def test_linear_maps_against_the_supremum_itself(n, d, outputs):
    """The best W for a draw of gamma is known, so the supremum can be taken draw by draw."""
    random = np.random.default_rng(3)
    X, bound = random.normal(size=(n, d)), 1.7
    noise = random.normal(size=(20_000, outputs, n)) @ X
    best = bound * noise / np.linalg.norm(noise, axis=(1, 2), keepdims=True)  # |W|_F = bound, along the noise
    values = (best * noise).sum(axis=(1, 2))
    average = gaussian_average_linear(X, bound, outputs)
    assert abs(average - values.mean()) < 4 * values.std() / math.sqrt(len(values))
    assert average.exact and average <= bound * math.sqrt(outputs) * np.linalg.norm(X) * (1 + 1e-12)


def test_a_net_of_linear_maps_is_below_and_close():
    """Two inputs, one output: W runs over a circle, and a hundred points of it are nearly all."""
    X = np.array([[1.0, 0.5], [-0.5, 2.0], [1.0, 1.0]])
    angles = np.linspace(0, 2 * math.pi, 100, endpoint=False)
    W = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    net, whole = gaussian_average(W @ X.T, draws=40_000), gaussian_average_linear(X, 1.0)
    assert 0.995 * whole - 4 * net.error < net < whole + 4 * net.error


@given(st.floats(1e-140, 1e140))
def test_linear_maps_scale_with_inputs_and_bound(scale):
    X = np.array([[1.0, 0.5], [-0.5, 2.0], [1.0, 1.0]])
    base = gaussian_average_linear(X, 2.0, 3)
    assert gaussian_average_linear(X * scale, 2.0, 3) == pytest.approx(scale * base, rel=1e-12)
    assert gaussian_average_linear(X, 2.0 * scale, 3) == pytest.approx(scale * base, rel=1e-12)


def test_linear_maps_of_nothing_are_nothing():
    assert gaussian_average_linear(np.zeros((4, 2)), 1.0) == 0.0 == gaussian_average_linear(np.ones((4, 2)), 0.0)


def test_the_order_is_the_root_of_n():
    inputs = np.random.default_rng(4).uniform(-1, 1, size=(6400, 5))
    ratio = gaussian_average_linear(inputs, 1.0) / gaussian_average_linear(inputs[:100], 1.0)
    assert 7.5 < ratio < 8.5


@pytest.mark.parametrize(("X", "bound", "outputs", "words"), [
    ([1.0], 1.0, 1, "matrix"), ([[np.nan]], 1.0, 1, "finite"), ([[1.0]], -1.0, 1, "bound"),
    ([[1.0]], math.nan, 1, "bound"), ([[1.0]], math.inf, 1, "bound"), ([[1.0]], 1.0, 0, "outputs")])
def test_what_is_no_class_of_linear_maps_is_refused(X, bound, outputs, words):
    with pytest.raises(ValueError, match=words):
        gaussian_average_linear(X, bound, outputs)


# --- Q ---------------------------------------------------------------------------------------------------

def quotient(V, bound, outputs):
    """E sup over h of <gamma, h(z) - h(z')> / |z - z'| for one difference V = z - z'."""
    return gaussian_average_linear(V, bound, outputs) / np.linalg.norm(V)


@pytest.mark.parametrize(("n", "q", "outputs"), [(1, 1, 1), (5, 3, 1), (2, 4, 1), (6, 3, 4), (3, 3, 2)])
def test_no_pair_of_samples_exceeds_q_and_one_attains_it(n, q, outputs):
    random = np.random.default_rng(6)
    Q = linear_q(1.5, q, outputs, n)
    found = max(quotient(random.normal(size=(n, q)) * np.geomspace(1, random.uniform(1e-3, 1), q), 1.5, outputs)
                for _ in range(300))
    assert found <= Q * (1 + 1e-12)
    r = min(n, q)
    attained = np.zeros((n, q))
    attained[:r, :r] = np.eye(r)
    assert quotient(attained, 1.5, outputs) == pytest.approx(Q, rel=1e-12)


def test_q_against_a_search_over_decoders():
    """For one sample of one feature, h(z) - h(z') = w (z - z') with |w| <= bound: bound E |gamma|."""
    w = np.linspace(-2, 2, 401)
    truth = quad(lambda g: (w * g).max() * norm.pdf(g), -12, 12, points=[0])[0]
    assert linear_q(2.0, 1) == pytest.approx(truth, rel=1e-8)


def test_q_grows_to_its_limit_and_not_with_n():
    values = [linear_q(1.0, q, 3) for q in (1, 2, 10, 1000)]
    assert values == sorted(values) and 0.999 * math.sqrt(3) < values[-1] < math.sqrt(3)
    assert linear_q(1.0, 8, n=10**6) == linear_q(1.0, 8) == linear_q(1.0, 8, n=8) > linear_q(1.0, 8, n=7)
    assert linear_q(1.0, 4) == pytest.approx(math.sqrt(1 / 2) * gamma_function(2.5) / gamma_function(2), rel=1e-14)


@pytest.mark.parametrize(("arguments", "words"), [
    ((-1.0, 3), "bound"), ((1.0, 0), "features"), ((1.0, 3, 0), "outputs"), ((1.0, 3, 1, 0), "n is 0")])
def test_what_is_no_class_of_decoders_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        linear_q(*arguments)
