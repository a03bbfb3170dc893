"""Penalties: values, proximal operators against a general solver, and the covariance that makes a trace least."""

import cvxpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlcourse.models.shallow.penalties import (
    Entries,
    LearnedTrace,
    LowRankAndOutliers,
    Rows,
    Trace,
    learned_covariance,
)
from tests.models.shallow.problems import covariance

D, M = 4, 3
TASKS, FEATURES = covariance(M), covariance(D)
# Each with its value as cvxpy writes it, for a list of parts.
PENALTIES = {
    "entries": (Entries(), lambda V: cvxpy.sum(cvxpy.abs(V))),
    "rows": (Rows(), lambda V: cvxpy.sum(cvxpy.norm(V, axis=1))),
    "parts": (LowRankAndOutliers(0.7), lambda L, S: cvxpy.normNuc(L) + 0.7 * cvxpy.sum(cvxpy.norm(S, axis=0))),
    "tasks": (Trace(TASKS, "tasks"), lambda V: sum(cvxpy.quad_form(V[j], np.linalg.inv(TASKS)) for j in range(D)) / 2),
    "features": (Trace(FEATURES, "features"),
                 lambda V: sum(cvxpy.quad_form(V[:, t], np.linalg.inv(FEATURES)) for t in range(M)) / 2),
    "learned": (LearnedTrace(), lambda V: cvxpy.square(cvxpy.normNuc(V)) / 2),
}


def parts(name: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(PENALTIES[name][0].parts, D, M))


@pytest.mark.parametrize("name", PENALTIES)
def test_values_are_the_formulas(name):
    penalty, formula = PENALTIES[name]
    V = parts(name)
    assert penalty.value(V) == pytest.approx(formula(*map(cvxpy.Constant, V)).value, rel=1e-6)


@pytest.mark.parametrize("tau", [0.05, 0.4, 1.5])
@pytest.mark.parametrize("name", PENALTIES)
def test_a_proximal_operator_is_the_point_of_its_definition(name, tau):
    penalty, formula = PENALTIES[name]
    A = parts(name)
    V = [cvxpy.Variable((D, M)) for _ in A]
    distance = sum(cvxpy.sum_squares(v - a) for v, a in zip(V, A, strict=True)) / 2
    cvxpy.Problem(cvxpy.Minimize(distance + tau * formula(*V))).solve(solver="CLARABEL")
    np.testing.assert_allclose(penalty.prox(A, tau), [v.value for v in V], atol=2e-5)


@given(st.sampled_from(sorted(PENALTIES)), st.floats(1e-3, 1e3), st.floats(1e-6, 1e6), st.integers(0, 99))
def test_nothing_near_a_proximal_point_is_better(name, tau, scale, seed):
    """On all scales of A, and for weak and strong penalties."""
    penalty = PENALTIES[name][0]
    A = scale * parts(name, seed)
    V = penalty.prox(A, tau)

    def objective(V: np.ndarray) -> float:
        return ((V - A) ** 2).sum() / 2 + tau * penalty.value(V)

    best = objective(V)
    for step in np.random.default_rng(seed).normal(size=(5, *A.shape)):
        assert objective(V + 1e-3 * scale * step) >= best - 1e-12 * abs(best)
    assert objective(V * (1 - 1e-6)) >= best - 1e-12 * abs(best)


@pytest.mark.parametrize("name", PENALTIES)
def test_zero_stays_zero(name):
    assert not PENALTIES[name][0].prox(np.zeros((PENALTIES[name][0].parts, D, M)), 0.3).any()


@pytest.mark.parametrize("name", ["entries", "rows", "parts"])
def test_from_the_largest_strength_on_weights_are_zero(name):
    """At W = 0 with gradient G: a proximal step from there, `prox(-G)`, stays there."""
    penalty = PENALTIES[name][0]
    G = parts(name)[0]
    largest = penalty.largest(G, 1.0)
    assert not penalty.prox(np.stack([-G] * penalty.parts), largest * (1 + 1e-9)).any()
    assert penalty.prox(np.stack([-G] * penalty.parts), largest * (1 - 1e-6)).any()


# --- what a balance means -----------------------------------------------------------------------------------------

@given(st.integers(0, 999))
def test_between_one_over_root_m_and_one_each_part_costs_less_on_some_weights(seed):
    """|W|_* <= sum |w_t| <= sqrt(m) |W|_*: outside, one part takes all over from the other."""
    W = np.random.default_rng(seed).normal(size=(D, M))
    low_rank = np.linalg.svd(W, compute_uv=False).sum()
    columns = np.linalg.norm(W, axis=0).sum()
    assert low_rank <= columns * (1 + 1e-12) and columns <= np.sqrt(M) * low_rank * (1 + 1e-12)


# --- covariances that are learned -------------------------------------------------------------------------------

def trace(W: np.ndarray, C: np.ndarray, of: str) -> float:
    P = np.linalg.inv(C)
    return float(np.trace(W @ P @ W.T if of == "tasks" else W.T @ P @ W))


@pytest.mark.parametrize(("of", "shape"), [("tasks", (D, M)), ("features", (M, D))])
@given(seed=st.integers(0, 99), scale=st.floats(1e-6, 1e6))
def test_a_learned_covariance_has_trace_one_and_the_least_penalty_of_all(of, shape, seed, scale):
    random = np.random.default_rng(seed)
    W = scale * random.normal(size=shape)
    C = learned_covariance(W, of)
    size = min(shape)
    assert C.shape == (size, size) and np.trace(C) == pytest.approx(1)
    least = trace(W, C, of)
    assert least == pytest.approx(2 * LearnedTrace().value(W[None]), rel=1e-6)
    for _ in range(5):
        A = random.normal(size=(size, size))
        other = A @ A.T
        assert trace(W, other / np.trace(other), of) >= least * (1 - 1e-9)
        near = C + 0.01 * (other / np.trace(other) - np.eye(size) / size) * np.linalg.eigvalsh(C)[0]
        assert trace(W, near / np.trace(near), of) >= least * (1 - 1e-9)


def test_without_weights_no_covariance_is_better_than_another():
    np.testing.assert_array_equal(learned_covariance(np.zeros((D, M)), "tasks"), np.eye(M) / M)
    np.testing.assert_array_equal(learned_covariance(np.zeros((D, M)), "features"), np.eye(D) / D)


def test_the_covariance_of_twins_says_so():
    w = np.arange(1.0, 5.0)
    C = learned_covariance(np.stack([w, w, -w], 1), "tasks")
    np.testing.assert_allclose(C, np.outer([1, 1, -1], [1, 1, -1]) / 3, atol=1e-12)
