"""Solutions: those of scikit-learn, of a general convex solver and of linear algebra, to 1e-8."""

import itertools

import cvxpy
import numpy as np
import pytest
from sklearn.linear_model import Lasso, LogisticRegression, MultiTaskLasso, Ridge

from mtlcourse.models.shallow import Losses, grid, learned_covariance, path, solve
from mtlcourse.models.shallow.penalties import Entries, LearnedTrace, LowRankAndOutliers, Penalty, Rows, Trace
from mtlcourse.strategies.algebra import NotConverged
from tests.models.shallow.problems import KINDS, covariance, losses

PENALTIES = {"entries": Entries(), "rows": Rows(), "parts": LowRankAndOutliers(0.75), "learned": LearnedTrace(),
             "tasks": Trace(covariance(3), "tasks"), "features": Trace(covariance(5), "features")}
CASES = list(itertools.product(KINDS, PENALTIES))


def middle(found: Losses, penalty: Penalty) -> float:
    """A strength with which some weights are zero and others are not."""
    return grid(found, penalty)[4]


# --- optimality ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_optimality_conditions_hold(kind, name):
    """W = prox(W - gradient), the gradient taken from the losses themselves; biases have none."""
    found, penalty = losses(kind), PENALTIES[name]
    strength = middle(found, penalty)
    solution, _ = solve(found, penalty, strength)
    assert solution.residual <= 1e-8 and solution.weights.any()
    by_W, by_b = found.gradient(solution.weights, solution.bias)
    start = np.linalg.norm(found.gradient(np.zeros(found.shape), found.level)[0])
    step = 1 / (penalty.parts * found.lipschitz)
    moved = penalty.prox(solution.parts - step * by_W, step * strength)
    assert np.linalg.norm(moved - solution.parts) / step <= 1e-7 * start
    assert np.linalg.norm(by_b) <= 1e-7 * start
    assert solution.objective == pytest.approx(
        found.value(solution.weights, solution.bias) + strength * penalty.value(solution.parts))


@pytest.mark.parametrize(("kind", "name"), [("mixed", "entries"), ("own", "rows"), ("shared", "parts")])
def test_no_other_point_is_better(kind, name):
    found, penalty = losses(kind), PENALTIES[name]
    strength = middle(found, penalty)
    solution, _ = solve(found, penalty, strength)
    random = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(50):
            parts = solution.parts + size * random.normal(size=solution.parts.shape)
            bias = solution.bias + size * random.normal(size=3)
            assert found.value(parts.sum(0), bias) + strength * penalty.value(parts) >= solution.objective


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_of_inputs_and_targets_do_not_matter(name, scale):
    """Targets of another unit: with the strength in theirs, weights are as many times larger."""
    found, penalty = losses("own"), PENALTIES[name]
    strength = middle(found, penalty)
    other = Losses(found.inputs, scale * found.targets, found.share, found.binary)
    once = {"entries", "rows", "parts"}  # penalties that grow as W, where squared losses grow as its square
    rescaled, _ = solve(other, penalty, strength * (scale if name in once else 1))
    np.testing.assert_allclose(rescaled.weights / scale, solve(found, penalty, strength)[0].weights, atol=1e-6)
    longer = Losses(found.inputs * scale, found.targets, found.share, found.binary)
    strengths = grid(longer, penalty)
    assert solve(longer, penalty, strengths[4])[0].residual <= 1e-8


# --- against others -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["shared", "few"])
def test_rows_are_scikit_learns_multi_task_lasso(kind):
    found = losses(kind)
    strength = middle(found, Rows())
    other = MultiTaskLasso(strength / 2, tol=1e-12, max_iter=100_000).fit(found.inputs, found.targets)
    solution, _ = solve(found, Rows(), strength)
    np.testing.assert_allclose(solution.weights, other.coef_.T, atol=1e-6)
    np.testing.assert_allclose(solution.bias, other.intercept_, atol=1e-6)
    assert (solution.weights.any(1) == other.coef_.any(0)).all()


@pytest.mark.parametrize("kind", ["shared", "own", "void", "few"])
def test_entries_are_one_lasso_a_task(kind):
    found = losses(kind)
    strength = middle(found, Entries())
    solution, _ = solve(found, Entries(), strength)
    for t in range(3):
        here = found.share[:, t] > 0
        x = (found.inputs if found.inputs.ndim == 2 else found.inputs[t])[here]
        other = Lasso(strength / 2, tol=1e-12, max_iter=100_000).fit(x, found.targets[here, t])
        np.testing.assert_allclose(solution.weights[:, t], other.coef_, atol=1e-6)
        assert solution.bias[t] == pytest.approx(other.intercept_, abs=1e-6)


@pytest.mark.parametrize(("of", "size"), [("tasks", 3), ("features", 5)])
@pytest.mark.parametrize("kind", ["shared", "own", "void"])
def test_the_identity_as_covariance_is_ridge_regression(kind, of, size):
    found = losses(kind)
    solution, _ = solve(found, Trace(np.eye(size), of), 0.3)
    for t in range(3):
        here = found.share[:, t] > 0
        x = (found.inputs if found.inputs.ndim == 2 else found.inputs[t])[here]
        other = Ridge(0.3 / 2 * here.sum()).fit(x, found.targets[here, t])
        np.testing.assert_allclose(solution.weights[:, t], other.coef_, atol=1e-6)
        assert solution.bias[t] == pytest.approx(other.intercept_, abs=1e-6)


@pytest.mark.parametrize("penalty", [Entries(), Trace(np.eye(3), "tasks")], ids=["l1", "l2"])
def test_logistic_tasks_are_scikit_learns(penalty):
    found = losses("binary", samples=60)
    strength = 0.02
    solution, _ = solve(found, penalty, strength)
    for t in range(3):
        settings = {"solver": "newton-cholesky"}
        if isinstance(penalty, Entries):
            settings = {"solver": "saga", "l1_ratio": 1.0}
        other = LogisticRegression(C=1 / (strength * len(found.inputs)), tol=1e-10, max_iter=200_000, **settings)
        other.fit(found.inputs, found.targets[:, t])
        np.testing.assert_allclose(solution.weights[:, t], other.coef_[0], atol=1e-5)
        assert solution.bias[t] == pytest.approx(other.intercept_[0], abs=1e-5)


@pytest.mark.parametrize("kind", ["shared", "own", "void"])
def test_a_given_covariance_is_one_linear_system(kind):
    """By W column by column: `2 (S_t w_t - c_t) + strength * (W P)_t = 0`."""
    found, C = losses(kind), covariance(3)
    d, m = found.shape
    solution, _ = solve(found, Trace(C, "tasks"), 0.2)
    spread = np.broadcast_to(found.spread, (m, d, d))
    A = 0.2 * np.kron(np.linalg.inv(C), np.eye(d))
    for t in range(m):
        A[t * d : (t + 1) * d, t * d : (t + 1) * d] += 2 * spread[t]
    c = -found.gradient(np.zeros((d, m)), found.level)[0]
    expected = np.linalg.solve(A, c.T.ravel()).reshape(m, d).T
    np.testing.assert_allclose(solution.weights, expected, atol=1e-7)


@pytest.mark.parametrize("kind", ["shared", "own", "binary", "mixed"])
@pytest.mark.parametrize("name", ["parts", "tasks", "learned"])
def test_objectives_are_those_of_a_general_convex_solver(kind, name):
    found, penalty = losses(kind), PENALTIES[name]
    strength = middle(found, penalty)
    d, m = found.shape
    W, S, b = cvxpy.Variable((d, m)), cvxpy.Variable((d, m)), cvxpy.Variable(m)
    terms = {"parts": cvxpy.normNuc(W) + 0.75 * cvxpy.sum(cvxpy.norm(S, axis=0)),
             "tasks": sum(cvxpy.quad_form(W[j], np.linalg.inv(covariance(3))) for j in range(d)) / 2,
             "learned": cvxpy.square(cvxpy.normNuc(W)) / 2}
    total = strength * terms[name]
    for t in range(m):
        here = found.share[:, t] > 0
        x = (found.inputs if found.inputs.ndim == 2 else found.inputs[t])[here]
        p, y = x @ (W + S if name == "parts" else W)[:, t] + b[t], found.targets[here, t]
        loss = cvxpy.sum(cvxpy.logistic(p) - cvxpy.multiply(y, p)) if found.binary[t] else cvxpy.sum_squares(p - y)
        total += loss / here.sum()
    least = cvxpy.Problem(cvxpy.Minimize(total)).solve(solver="CLARABEL")
    assert solve(found, penalty, strength)[0].objective == pytest.approx(least, rel=1e-6)


def test_one_weight_is_what_brute_force_finds():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 1)), random.normal(size=(20, 1))
    found = Losses(x, y + x, np.full((20, 1), 1 / 20), np.array([False]))
    weights = np.linspace(-1, 2, 300_001)
    x, y = x - x.mean(), found.targets - found.targets.mean()
    objectives = (y**2).mean() - 2 * weights * (x * y).mean() + weights**2 * (x**2).mean()
    for name, term in {"entries": np.abs(weights), "rows": np.abs(weights), "learned": weights**2 / 2}.items():
        solution, _ = solve(found, PENALTIES[name], 0.5)
        assert solution.weights[0, 0] == pytest.approx(weights[(objectives + 0.5 * term).argmin()], abs=2e-5)
        assert solution.objective == pytest.approx((objectives + 0.5 * term).min(), rel=1e-8)


# --- learned covariances --------------------------------------------------------------------------------------------

def alternated(found: Losses, strength: float, of: str, C: np.ndarray, rounds: int) -> list[float]:
    """What the sources do: W for the covariance, then the covariance for W; the objectives on the way."""
    objectives = []
    for _ in range(rounds):
        values, vectors = np.linalg.eigh(C)
        given = Trace((vectors * np.maximum(values, 1e-9)) @ vectors.T, of)
        solution, _ = solve(found, given, strength, tolerance=1e-10)
        objectives.append(solution.objective)
        C = learned_covariance(solution.weights, of)
    return objectives


@pytest.mark.parametrize("of", ["tasks", "features"])
def test_alternating_lowers_the_objective_to_that_of_the_learned_covariance(of):
    found, strength = losses("own", samples=60), 0.3
    best, _ = solve(found, LearnedTrace(), strength)
    size = found.shape[of == "tasks"]
    objectives = alternated(found, strength, of, np.eye(size) / size, 20)
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(objectives))
    assert objectives[0] > 1.05 * best.objective and objectives[-1] >= best.objective * (1 - 1e-9)
    if of == "tasks":
        assert objectives[-1] == pytest.approx(best.objective, rel=1e-9)
    else:  # three tasks span three of five features' dimensions, after one round for good
        assert objectives[-1] > 1.001 * best.objective
    assert alternated(found, strength, of, learned_covariance(best.weights, of), 2) == pytest.approx(
        [best.objective] * 2, rel=1e-9)


# --- reductions --------------------------------------------------------------------------------------------------

def test_for_one_task_rows_are_entries_and_low_rank_is_a_ball():
    found = losses("shared", m=1)
    entries, _ = solve(found, Entries(), 0.2)
    rows, _ = solve(found, Rows(), 0.2)
    np.testing.assert_allclose(rows.weights, entries.weights, atol=1e-8)


@pytest.mark.parametrize(("balance", "zero"), [(0.3, 0), (1.2, 1)])
def test_outside_its_range_a_balance_leaves_one_part_zero(balance, zero):
    """With three tasks, below 0.577 there is no low rank, above 1 no outlier."""
    solution, _ = solve(losses(), LowRankAndOutliers(balance), 0.3)
    np.testing.assert_allclose(solution.parts[zero], 0, atol=1e-7)
    assert solution.parts[1 - zero].any()


def test_an_outlier_is_found():
    """Six tasks of rank one, and one that has nothing to do with them."""
    random = np.random.default_rng(0)
    W = np.outer(random.normal(size=8), 1 + random.random(7))
    W[:, 3] = 4 * random.normal(size=8)
    x = random.normal(size=(100, 8))
    found = Losses(x, x @ W, np.full((100, 7), 0.01), np.zeros(7, bool))
    solution, _ = solve(found, LowRankAndOutliers(7**-0.25), 0.5)
    L, S = solution.parts
    assert np.flatnonzero(np.linalg.norm(S, axis=0) > 1e-6).tolist() == [3]
    assert (np.linalg.svd(L, compute_uv=False) > 1e-6).sum() <= 2


@pytest.mark.parametrize("name", ["entries", "rows", "parts"])
def test_the_path_begins_where_weights_are_zero_and_each_solution_is_that_of_a_cold_start(name):
    found = losses("mixed")
    strengths = grid(found, PENALTIES[name])
    solutions = list(path(found, PENALTIES[name], strengths[:6]))
    assert not solutions[0].parts.any() and solutions[1].parts.any()
    for solution in solutions[1:]:
        cold, _ = solve(found, PENALTIES[name], solution.strength)
        np.testing.assert_allclose(solution.weights, cold.weights, atol=1e-5)
        assert solution.objective == pytest.approx(cold.objective, rel=1e-9)
    np.testing.assert_allclose(np.array(strengths[:-1]) / strengths[1:], 10**0.25)


def test_strength_zero_is_least_squares():
    found = losses()
    solution, _ = solve(found, Rows(), 0.0)
    expected, *_ = np.linalg.lstsq(np.column_stack([found.inputs, np.ones(len(found.inputs))]), found.targets)
    np.testing.assert_allclose(np.vstack([solution.weights, solution.bias]), expected, atol=1e-5)


def test_what_is_not_reached_is_told_with_advice():
    with pytest.raises(NotConverged, match=r"Strength 0.001 was not solved to 1e-08 within 5 iterations: the residual "
                                           r"is .*Bring the features to one scale.*or a tolerance of 1e-06"):
        solve(losses(), Entries(), 0.001, max_iterations=5)
