"""Which trace penalties are sums over pairs of tasks: by the answer, and by trying."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from mtlcourse.models.shallow import as_pairs
from tests.models.shallow.problems import covariance

RELATED = np.array([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1.0]])  # Sigma: two tasks go together
OPPOSED = np.array([[1, -0.8, 0], [-0.8, 1, 0], [0, 0, 1.0]])
LAPLACIAN = np.array([[3, -1, -2], [-1, 1, 0], [-2, 0, 2.0]])


def regulariser(W: np.ndarray, omega: np.ndarray, distance: str) -> float:
    """`sum_{i <= j} omega_ij dist(w_i, w_j)`."""
    total = 0.0
    for i, j in itertools.combinations_with_replacement(range(W.shape[1]), 2):
        pair = W[:, i] @ W[:, j] if distance == "inner" else ((W[:, i] - W[:, j]) ** 2).sum()
        total += omega[i, j] * pair
    return total


def penalty(W: np.ndarray, P: np.ndarray) -> float:
    return float(np.trace(W @ P @ W.T) / 2)


def some_weights(m: int, count: int = 30) -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(count, 4, m)))


def least_misfit(P: np.ndarray, distance: str, own: bool) -> float:
    """How far the best omega >= 0 stays from the penalty, over weights drawn at random; relative."""
    m, weights = len(P), some_weights(len(P))
    pairs = list(itertools.combinations_with_replacement(range(m), 2) if own else itertools.combinations(range(m), 2))
    A = np.zeros((len(weights), len(pairs)))
    for column, (i, j) in enumerate(pairs):
        omega = np.zeros((m, m))
        omega[i, j] = 1
        A[:, column] = [regulariser(W, omega, distance) for W in weights]
    y = np.array([penalty(W, P) for W in weights])
    return nnls(A, y)[1] / np.linalg.norm(y)


CASES = {
    "related": (np.linalg.inv(RELATED), {}), "opposed": (np.linalg.inv(OPPOSED), {"inner own"}),
    "ridge": (np.eye(3), {"inner own"}), "laplacian": (LAPLACIAN, {"squared l2"}),
    "laplacian and a ridge": (LAPLACIAN + 0.1 * np.eye(3), {}), "random": (np.linalg.inv(covariance(3)), {}),
    "no diagonal": (np.ones((3, 3)) - np.eye(3), {"inner", "inner own"}),
    "mean regularised": (np.eye(3) - np.ones((3, 3)) / 3, {"squared l2"}),
}


@pytest.mark.parametrize("way", ["inner", "inner own", "squared l2"])
@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_what_trying_finds(name, way):
    P, expressed = CASES[name]
    distance, own = way.removesuffix(" own"), way.endswith(" own")
    found = as_pairs(P, distance, own)
    assert bool(found) == (way in expressed)
    assert found.reason and (least_misfit(P, distance, own) < 1e-8) == bool(found)
    for W in some_weights(3) if found else ():
        assert (found.omega >= 0).all() and (found.omega == found.omega.T).all()
        assert regulariser(W, found.omega, distance) == pytest.approx(penalty(W, P))


@given(st.integers(0, 999), st.integers(2, 6))
def test_no_inverse_covariance_is_a_sum_over_pairs_of_different_tasks(seed, m):
    """Neither distance: the source's claim fails for every covariance under its own constraints."""
    P = np.linalg.inv(covariance(m, seed))
    assert not as_pairs(P, "inner") and not as_pairs(P, "squared l2")


@given(st.integers(0, 999), st.integers(2, 5))
def test_of_tasks_of_which_none_go_against_each_other_only_unrelated_ones_are_inner_products(seed, m):
    random = np.random.default_rng(seed)
    A = random.random((m, m))
    assert not as_pairs(np.linalg.inv(A @ A.T + 0.1 * np.eye(m)), "inner", own=True)
    assert as_pairs(np.diag(1 / (0.1 + random.random(m))), "inner", own=True)


@given(st.integers(0, 999), st.integers(2, 6), st.floats(1e-6, 1e6))
def test_every_graph_is_found_again(seed, m, scale):
    omega = np.triu(scale * np.random.default_rng(seed).random((m, m)), 1)
    omega += omega.T
    found = as_pairs(2 * (np.diag(omega.sum(1)) - omega), "squared l2")
    np.testing.assert_allclose(found.omega, omega, rtol=1e-9)


def test_inner_products_of_pairs_have_no_least_value():
    """Along w_1 = -w_2 the regulariser falls without bound, and faster than the losses rise."""
    omega = np.array([[0, 1.0], [1.0, 0]])
    values = [regulariser(np.array([[c, -c]]), omega, "inner") for c in (1.0, 10.0, 100.0)]
    assert values == [-1.0, -100.0, -10_000.0]


@pytest.mark.parametrize(("precision", "distance", "message"), [
    (np.eye(3), "l2", "Unknown distance 'l2'. Known: inner, squared l2"),
    (np.ones((2, 3)), "inner", "symmetric matrix of tasks; it has shape"),
    (np.triu(np.ones((3, 3))), "inner", "symmetric"),
    (np.full((2, 2), np.nan), "inner", "finite"),
])
def test_what_is_no_precision_is_refused(precision, distance, message):
    with pytest.raises(ValueError, match=message):
        as_pairs(precision, distance)
