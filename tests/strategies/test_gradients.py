"""Gradient strategies: against the same written on vectors, closed forms, another library, and their promises."""

import copy

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchjd import aggregation

from mtlcourse import strategies
from mtlcourse.strategies import NonFiniteGradient, combine, make
from mtlcourse.strategies.algebra import NotConverged
from mtlcourse.strategies.gram import cosines
from mtlcourse.strategies.shortest import frank_wolfe
from tests.strategies.vectors import gradients, random_gradients, stationary_gradients

SHORTEST, SURGERY = ("mgda", "cagrad", "upgrad"), ("pcgrad", "mamg", "gradvac")
BALANCE = ("imtl-g", "nash", "fairgrad", "aligned")
GRAM = (*SHORTEST, *SURGERY, *BALANCE)
ORDERED = (*SHORTEST, *BALANCE)  # no random order in them
few = settings(max_examples=30)
M_TIMES_MEAN = {"mamg": 1.0, "upgrad": 1.0, "cagrad": 1.4, "mgda": 1.0, "imtl-g": 1.0}  # on identical gradients


def bound(name: str, m: int, **options) -> strategies.Strategy:
    return make(name, **options).bind([f"t{t}" for t in range(m)], torch.Generator().manual_seed(0))


def weights(strategy, rows, losses=None, present=None):
    losses = torch.ones(len(rows), dtype=torch.float64) if losses is None else losses
    return strategy.weights(losses, rows @ rows.T, present).shared


def close(found, expected, scale, rtol=1e-6):
    assert (found - expected).norm() <= rtol * scale, (found, expected)


def longest(rows) -> float:
    return rows.norm(dim=1).max().item()


# --- surgery, on vectors ---------------------------------------------------------------------------------------

def on_vectors(change, rows, strategy):
    """g_i' = change(i, j, g_i', rows) over j in the orders that `strategy` is about to draw."""
    orders = copy.deepcopy(strategy).orders(np.arange(len(rows)))
    changed = []
    for i, order in enumerate(orders):
        g = rows[i].clone()
        for j in order:
            g = change(i, j, g)
        changed.append(g)
    return torch.stack(changed)


@few
@given(random_gradients(uneven=2))
def test_pcgrad_equals_projections_of_vectors(rows):
    def project(i, j, g):
        dot = g @ rows[j]
        return g - dot / rows[j].square().sum() * rows[j] if dot < 0 else g

    strategy = bound("pcgrad", len(rows))
    expected = on_vectors(project, rows, strategy).sum(0)
    close(combine(strategy, rows), expected, longest(rows))


def clip(g, g_j, delta):
    P = g - g_j
    length = P.norm()
    part = [v * (v @ P) / (v.norm() * length) for v in (g, g_j)]
    size = {"vector": (part[0] - part[1]).norm(), "scalar": abs((g @ P - g_j @ P) / length),
            "leftover": abs((g @ P - g_j @ -P) / length)}[delta]
    return size * P / length


@few
@given(random_gradients(uneven=1), st.sampled_from(["running", "last", "sum", "one", "longer"]),
       st.sampled_from(["vector", "scalar", "leftover"]))
def test_mamg_equals_clipping_of_vectors_in_all_readings(rows, reading, delta):
    clips = [torch.zeros_like(rows[0]) for _ in rows]

    def change(i, j, g):
        start = g if reading in ("running", "one", "longer") else rows[i]
        if start @ rows[j] >= 0 or (reading == "one" and i > 0):
            return g
        if reading == "longer" and start.norm() <= rows[j].norm():
            return g
        if reading == "sum":
            clips[i] += clip(rows[i], rows[j], delta)
            return rows[i] - clips[i]
        return start - clip(start, rows[j], delta)

    strategy = bound("mamg", len(rows), reading=reading, delta=delta)
    expected = on_vectors(change, rows, strategy).sum(0)
    # A product at rounding's distance from zero may count as conflict in one computation and not in the other.
    K = cosines(rows @ rows.T)
    assume((K.abs() > 1e-9).all())
    close(combine(strategy, rows), expected, longest(rows) * len(rows), rtol=1e-5)


def conflicting_pairs(count, seed=0):
    """Random pairs with a negative product, in 2 to 6 dimensions, lengths spread over two decades."""
    generator, found = torch.Generator().manual_seed(seed), []
    while len(found) < count:
        n = 2 + len(found) % 5
        rows = torch.randn(2, n, generator=generator, dtype=torch.float64)
        rows *= 10 ** (2 * torch.rand(2, 1, generator=generator, dtype=torch.float64) - 1)
        if rows[0] @ rows[1] < 0:
            found.append(rows)
    return found


def shares(pairs, **options):
    """Share of pairs in which lemma 1 holds (no longer than the sum), and in which the step harms a task."""
    held, harmed, strategy = 0, 0, make("mamg", **options)
    for rows in pairs:
        d = combine(strategy, rows)
        held += bool(d.norm() <= rows.sum(0).norm() * (1 + 1e-9))
        harmed += bool((rows @ d).min() < -1e-9 * d.norm() * rows.norm(dim=1).max())
    return held / len(pairs), harmed / len(pairs)


def test_with_leftover_lengths_lemma_1_holds_and_no_task_is_harmed():
    pairs = conflicting_pairs(2100)
    assert shares(pairs, delta="leftover", reading="longer") == (1.0, 0.0)
    for rows in pairs:
        d, mgda = combine(make("mamg", delta="leftover", reading="longer"), rows), combine("mgda", rows)
        close(d, mgda, longest(rows), 1e-9)
    # As printed, and with the scalar reading, neither is so; on pairs in which the longer one is clipped too.
    for delta in ("vector", "scalar"):
        for reading in ("one", "longer"):
            held, harmed = shares(pairs, delta=delta, reading=reading)
            assert held < 0.9 and harmed > 0.3, (delta, reading, held, harmed)


@pytest.mark.parametrize("delta", ["vector", "scalar", "leftover"])
@pytest.mark.parametrize("reading", ["running", "last", "sum"])
def test_for_two_tasks_mamg_with_both_changed_is_equal_weighting(reading, delta):
    for rows in conflicting_pairs(100, seed=1):
        close(combine(make("mamg", reading=reading, delta=delta), rows), rows.sum(0), longest(rows))


@few
@given(random_gradients(uneven=2), st.sampled_from(["vector", "scalar", "leftover"]))
def test_the_sum_of_all_clips_is_equal_weighting_for_any_number_of_tasks(rows, delta):
    close(combine(make("mamg", reading="sum", delta=delta), rows), rows.sum(0), longest(rows) * len(rows))


def test_leftover_by_hand_in_the_plane():
    """g_1 = (3, 0), g_2 = (-1, 1): P = (4, -1), lengths along P 12 and 5 over sqrt 17; 7/17 of P goes."""
    rows = torch.tensor([[3.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    clip = torch.tensor([4.0, -1.0], dtype=torch.float64) * 7 / 17
    found = combine(make("mamg", delta="leftover", reading="longer"), rows)
    torch.testing.assert_close(found, rows.sum(0) - clip)
    torch.testing.assert_close(combine(make("mamg", delta="leftover", reading="longer"), rows.flip(0)), found)
    torch.testing.assert_close(combine(make("mamg", delta="leftover", reading="one"), rows), found)


def test_mamg_by_hand_in_the_plane():
    """At 120 degrees: P = (1.5, -s), cos phi = +-s; Delta = s |g_1 + g_2| = s; g_1' = g_1 - s P / |P|."""
    s = 3**0.5 / 2
    rows = torch.tensor([[1.0, 0.0], [-0.5, s]], dtype=torch.float64)
    P = torch.tensor([1.5, -s], dtype=torch.float64)
    shift = s * P / 3**0.5
    assert combine("mamg", rows).tolist() == pytest.approx((rows[0] - shift + rows[1] + shift).tolist())
    assert combine(make("mamg", reading="one"), rows).tolist() == pytest.approx((rows.sum(0) - shift).tolist())
    swapped = combine(make("mamg", delta="scalar"), rows)  # each takes the other's place
    assert swapped.tolist() == pytest.approx(rows.sum(0).tolist())


@few
@given(random_gradients(uneven=2))
def test_gradvac_equals_turning_of_vectors_over_several_steps(rows):
    beta = 0.3
    targets = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    strategy = bound("gradvac", len(rows), beta=beta)
    for factor in (1.0, 2.0, 0.5):
        now = rows * factor + rows.roll(1, 0)
        assume(torch.linalg.svdvals(now)[-1] > 1e-3 * longest(now))

        def turn(i, j, g, now=now):
            c, T = torch.cosine_similarity(g, now[j], dim=0, eps=0), targets[i, j].clone()
            targets[i, j] = (1 - beta) * T + beta * c
            if c >= T:
                return g
            root_c, root_T = (1 - c**2).sqrt(), (1 - T**2).sqrt()
            new = g + g.norm() * (T * root_c - c * root_T) / (now[j].norm() * root_T) * now[j]
            assert torch.cosine_similarity(new, now[j], dim=0, eps=0).item() == pytest.approx(T.item(), abs=1e-5)
            return new

        expected = on_vectors(turn, now, strategy).sum(0)
        close(combine(strategy, now), expected, longest(now) * len(rows), rtol=1e-4)
    torch.testing.assert_close(strategy.targets, targets, rtol=1e-4, atol=1e-5)


def test_gradvac_learns_nothing_from_a_gradient_without_angle():
    strategy, rows = bound("gradvac", 2), gradients(2, seed=1)
    combine(strategy, rows)
    before = strategy.targets.clone()
    combine(strategy, rows * torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    assert before.any() and torch.equal(strategy.targets, before)


@pytest.mark.parametrize("name", SURGERY)
def test_orders_are_random_fair_and_a_strategys_own(name):
    strategy = bound(name, 3)
    orders = np.stack([strategy.orders(np.arange(3)) for _ in range(600)])
    assert {tuple(sorted(order)) for draw in orders for order in draw[:1]} == {(1, 2)}
    assert np.mean(orders[:, 0, 0] == 1) == pytest.approx(0.5, abs=0.08)
    assert np.mean(orders[:, 0, 0] == 1) != np.mean(orders[:, 1, 0] == 0)
    torch.manual_seed(7)
    again = bound(name, 3)
    assert (again.orders(np.arange(3)) == orders[0]).all()


# --- against another library -------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name, other", [
    ("imtl-g", aggregation.IMTLG), ("aligned", aggregation.AlignedMTL),
    ("fairgrad", lambda: aggregation.FairGrad(alpha=2.0)),
    ("cagrad", lambda: aggregation.CAGrad(c=0.4, norm_eps=1e-12)),
])
def test_directions_equal_those_of_another_library(name, other, seed):
    rows = gradients(5, n=12, seed=seed, uneven=0.5)
    found, expected = combine(name, rows), other()(rows)
    close(found / found.norm(), expected / expected.norm(), 1.0, rtol=1e-4)


def upgrad_by_a_general_solver(rows):
    L = np.linalg.cholesky((rows @ rows.T).numpy()).T
    total = 0
    for i in range(len(rows)):
        v = cvxpy.Variable(len(rows))
        cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(L @ v)), [v >= np.eye(len(rows))[i]]).solve(cvxpy.CLARABEL)
        total = total + torch.from_numpy(v.value) @ rows
    return total


@pytest.mark.parametrize("seed", range(4))
def test_directions_equal_those_of_a_general_solver(seed):
    rows = gradients(5, n=12, seed=seed, uneven=0.5)
    close(combine("upgrad", rows), upgrad_by_a_general_solver(rows), longest(rows), rtol=1e-5)
    close(combine("nash", rows), nash_by_a_general_solver(rows), 5**0.5, rtol=1e-4)
    close(combine("mgda", rows), mgda_by_a_general_solver(rows), longest(rows), rtol=1e-5)
    # There MGDA is Frank-Wolfe, which is still on its way after so many steps.
    assert combine("mgda", rows).norm() / 5 <= aggregation.MGDA(epsilon=1e-12, max_iters=300)(rows).norm()


def mgda_by_a_general_solver(rows):
    w = cvxpy.Variable(len(rows), nonneg=True)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(rows.T.numpy() @ w)), [cvxpy.sum(w) == 1])
    problem.solve(cvxpy.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
    return len(rows) * torch.from_numpy(w.value) @ rows


def nash_by_a_general_solver(rows):
    L = np.linalg.cholesky((rows @ rows.T).numpy()).T
    a = cvxpy.Variable(len(rows))
    objective = cvxpy.sum_squares(L @ a) / 2 - cvxpy.sum(cvxpy.log(a))
    cvxpy.Problem(cvxpy.Minimize(objective)).solve(cvxpy.CLARABEL)
    return torch.from_numpy(a.value) @ rows


@pytest.mark.parametrize("name, other", [("pcgrad", aggregation.PCGrad),
                                         ("gradvac", lambda: aggregation.GradVac(beta=0.01, eps=0))])
def test_random_orders_do_not_matter_for_two_tasks(name, other):
    rows = torch.tensor([[1.0, 0.0, 0.2], [-2.0, 1.0, 0.0]], dtype=torch.float64)
    strategy, other = bound(name, 2), other()
    for factor in (1.0, 0.3, -1.0):
        now = rows * torch.tensor([[1.0], [factor]], dtype=torch.float64)
        torch.testing.assert_close(combine(strategy, now), other(now))


# --- promises --------------------------------------------------------------------------------------------------------

@few
@given(random_gradients(uneven=4))
def test_mgda_meets_its_optimality_conditions(rows):
    K = rows @ rows.T
    for normalise in ("none", "l2"):
        w = weights(bound("mgda", len(rows), normalise=normalise), rows) / len(rows)
        assert (w >= 0).all() and w.sum().item() == pytest.approx(1)
        scaled = K if normalise == "none" else cosines(K)
        value = w @ scaled @ w
        assert (scaled @ w).min() >= value * (1 - 1e-8) - 1e-9 * scaled.diagonal().min()


@few
@given(random_gradients(least=2, full_rank=True))
def test_frank_wolfe_goes_where_the_exact_solver_is(rows):
    K = (rows @ rows.T).numpy()
    exact = weights(bound("mgda", len(K)), rows).numpy() / len(K)
    values = [w @ K @ w for w in (frank_wolfe(K, 1), frank_wolfe(K, 30), frank_wolfe(K, 20_000), exact)]
    assert values[0] >= values[1] * (1 - 1e-12) and values[1] >= values[2] * (1 - 1e-12)
    assert values[2] >= values[3] * (1 - 1e-9)
    assert values[2] <= values[3] + 1e-3 * K.diagonal().min()


def test_frank_wolfe_is_exact_for_two_tasks_and_an_option():
    for rows in (gradients(2, seed=seed, uneven=2) for seed in range(20)):
        taught = weights(bound("mgda", 2, solver="frank-wolfe"), rows)
        torch.testing.assert_close(taught, weights(bound("mgda", 2), rows), rtol=1e-6, atol=1e-9)


def test_mgda_finds_weights_for_normalised_gradients_and_applies_them_to_raw_ones():
    rows = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))
    losses = torch.tensor([4.0, 1.0], dtype=torch.float64)
    inverse_square = {"none": (1, 1 / 4), "l2": (1, 1), "loss": (16, 1 / 4), "loss+": (16, 1)}
    for normalise, (a, b) in inverse_square.items():  # orthogonal: weights go with one over the squared length
        found = weights(bound("mgda", 2, normalise=normalise), rows, losses)
        assert found.tolist() == pytest.approx([2 * a / (a + b), 2 * b / (a + b)])


@few
@given(random_gradients(uneven=4), st.sampled_from([0.0, 0.1, 0.4, 1.0, 3.0]))
def test_cagrad_leaves_the_worst_off_task_no_better_direction(rows, c):
    """The optimum of `max_d min_t g_t . d` equals that of its dual over convex weights: no gap is proof."""
    assume((rows.norm(dim=1) > 0).all())
    d = combine(make("cagrad", c=c), rows) / len(rows)
    g0 = rows.mean(0)
    size = g0.norm()
    assert (d - g0).norm() <= c * size * (1 + 1e-6) + 1e-9 * longest(rows)
    worst = (rows @ d).min()
    L = (rows / longest(rows)).numpy()
    w = cvxpy.Variable(len(rows), nonneg=True)
    g = g0.numpy() / longest(rows)
    objective = (L @ g) @ w + c * np.linalg.norm(g) * cvxpy.norm(L.T @ w)
    problem = cvxpy.Problem(cvxpy.Minimize(objective), [cvxpy.sum(w) == 1])
    problem.solve(cvxpy.CLARABEL)
    assert worst.item() / longest(rows) ** 2 >= problem.value - 1e-6


@few
@given(random_gradients(uneven=6))
def test_upgrad_projects_each_gradient_to_the_nearest_that_harms_no_task(rows):
    """Optimality: v >= e_i, K v >= 0, and no entry has both room below and a gain."""
    K = cosines(rows @ rows.T).numpy()
    total, scale = combine("upgrad", rows), rows.norm(dim=1)
    from mtlcourse.strategies.algebra import least_squares, root
    L = root(K)
    for i in range(len(K)):
        x = least_squares(L, -L[:, i])
        gain = K @ (np.eye(len(K))[i] + x)
        assert (gain >= -1e-7).all() and np.abs(x * gain).max() <= 1e-6 * (1 + x.max())
    assert ((rows @ total) / scale >= -1e-6 * longest(rows) * len(rows)).all()


@few
@given(random_gradients(uneven=2))
def test_balanced_directions_satisfy_their_equations(rows):
    K = rows @ rows.T
    C = cosines(K)
    assume(torch.linalg.eigvalsh(C)[0] > 1e-6)
    m = len(rows)
    for name, alpha in (("nash", 1.0), ("fairgrad", 2.0), ("fairgrad", 0.5), ("fairgrad", 5.0)):
        a = weights(bound(name, m, **({} if name == "nash" else {"alpha": alpha})), rows)
        assert (a > 0).all()
        torch.testing.assert_close(K @ a, a ** (-1 / alpha), rtol=1e-6, atol=0)
    a = weights(bound("imtl-g", m), rows)
    projections = rows @ (a @ rows) / rows.norm(dim=1)
    assert a.sum().item() == pytest.approx(m, rel=1e-6)
    close(projections, projections.mean().expand(m), a.abs().max() * longest(rows), rtol=1e-6)
    expected = torch.linalg.solve(K / K.max(), rows.norm(dim=1))
    torch.testing.assert_close(a, m * expected / expected.sum(), rtol=1e-4, atol=1e-6 * a.abs().max().item())


@few
@given(random_gradients(least=2))
def test_aligned_gradients_are_orthogonal_and_equally_long(rows):
    """The aligned gradients are rows of `sqrt(l_min) (G G^T)^(-1/2) G`; the direction is their sum."""
    U, s, Vt = torch.linalg.svd(rows, full_matrices=False)
    kept = s**2 > len(rows) * 2**-23 * s[0] ** 2
    assume(not ((s**2 > 1e-9 * s[0] ** 2) & ~kept).any())
    expected = s[kept].min() * (U[:, kept] @ Vt[kept]).sum(0)
    close(combine("aligned", rows), expected, s[kept].min(), rtol=1e-5)


@few
@given(random_gradients(uneven=2))
def test_directions_conflict_with_no_task_where_that_is_promised(rows):
    assume((rows.norm(dim=1) > 0).all())
    for strategy in (make("mgda"), make("upgrad"), make("nash"), make("fairgrad"), make("cagrad", c=1)):
        d = combine(strategy, rows)
        assert (rows @ d / rows.norm(dim=1) >= -1e-6 * max(d.norm().item(), longest(rows))).all(), strategy


@few
@given(random_gradients(most=2, least=2, uneven=2))
def test_surgery_on_two_tasks_leaves_no_conflict(rows):
    for name in ("pcgrad", "gradvac"):
        d = combine(name, rows)
        assert (rows @ d / rows.norm(dim=1) >= -1e-8 * longest(rows)).all()


@pytest.mark.parametrize("m", [2, 3, 6])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_stationary_point_gives_zero(m, scale):
    rows = stationary_gradients(m, scale, seed=m)
    for strategy in (make("mgda"), make("upgrad"), make("nash"), make("fairgrad"), make("cagrad", c=1), make("imtl-g")):
        d = combine(strategy, rows)
        assert d.norm() <= 1e-6 * longest(rows), strategy
    opposite = torch.stack([rows[0], -3 * rows[0]])
    for name in (*SHORTEST, "pcgrad", "gradvac", "nash", "fairgrad", "imtl-g"):
        options = {"c": 1} if name == "cagrad" else {}
        assert combine(make(name, **options), opposite).norm() <= 1e-6 * longest(rows), name


# --- what holds for all ---------------------------------------------------------------------------------------

@few
@given(random_gradients(uneven=1), st.randoms(use_true_random=False))
def test_tasks_may_come_in_any_order(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    for name in GRAM if len(rows) == 2 else ORDERED:
        found, mixed = combine(name, rows), combine(name, rows[order])
        if name in ("nash", "fairgrad", "imtl-g") and torch.linalg.eigvalsh(cosines(rows @ rows.T))[0] < 1e-4:
            continue  # near a stationary point or dependence, rounding decides how far they go
        close(found, mixed, max(found.norm().item(), longest(rows)), rtol=1e-4)


@few
@given(random_gradients(uneven=1), st.floats(-6, 6))
def test_weights_follow_the_scale_of_the_gradients_as_said(rows, decades):
    assume(torch.linalg.eigvalsh(cosines(rows @ rows.T))[0] > 1e-4)
    assume((cosines(rows @ rows.T).abs() > 1e-9).all())  # signs at rounding's distance from zero are not the subject
    factor = 10.0**decades
    for name in GRAM:
        power = {"nash": -1.0, "fairgrad": -4 / 3}.get(name, 0.0)
        found = weights(bound(name, len(rows)), factor * rows)
        expected = weights(bound(name, len(rows)), rows) * factor**power
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


@few
@given(random_gradients(uneven=4))
def test_weights_sum_to_m_where_that_is_the_scale(rows):
    assume((rows.norm(dim=1) > 0).all())
    for name in ("mgda", "imtl-g"):
        try:
            assert weights(bound(name, len(rows)), rows).sum().item() == pytest.approx(len(rows), rel=1e-6)
        except NotConverged:
            assert name == "imtl-g"


@pytest.mark.parametrize("name", GRAM)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_identical_gradients_give_equal_weightings_direction(name, scale, m):
    row = scale * gradients(1, seed=3)
    rows = row.repeat(m, 1)
    d = combine(name, rows)
    assert torch.cosine_similarity(d, row[0], dim=0).item() == pytest.approx(1)
    if name in M_TIMES_MEAN:
        close(d, M_TIMES_MEAN[name] * rows.sum(0), longest(rows) * m)
    elif name in SURGERY:
        close(d, rows.sum(0), longest(rows) * m)


@pytest.mark.parametrize("name", [*GRAM, "graddrop"])
def test_without_conflict_surgery_leaves_the_sum(name):
    rows = gradients(4, seed=1).abs()
    if name in (*SURGERY, "upgrad", "graddrop"):
        close(combine(name, rows), rows.sum(0), longest(rows))


@pytest.mark.parametrize("name", GRAM)
def test_orthogonal_gradients_of_one_length_have_equal_weights(name):
    rows = 0.3 * torch.eye(4, dtype=torch.float64)
    found = weights(bound(name, 4), rows)
    torch.testing.assert_close(found, found.mean().expand(4))
    expected = {"nash": 1 / 0.3, "fairgrad": 0.3 ** (-4 / 3), "cagrad": 1.4}.get(name, 1.0)
    assert found.mean().item() == pytest.approx(expected)


@pytest.mark.parametrize("name", GRAM)
def test_duplicated_tasks_and_zero_gradients_are_no_trouble(name):
    rows = gradients(3, seed=2)
    for degenerate in (torch.cat([rows, rows[:1]]), torch.cat([rows, 0 * rows[:1]]), 0 * rows, rows[:1], 0 * rows[:1]):
        strategy = bound(name, len(degenerate))
        found = weights(strategy, degenerate)
        assert torch.isfinite(found).all()
        if not degenerate.any():
            assert (found == 1).all()
    with_zero = torch.cat([rows, 0 * rows[:1]])
    if name == "mgda":  # a task that cannot gain: no direction is better for all
        assert weights(bound(name, 4), with_zero).tolist() == [0, 0, 0, 4]
    elif name in ("imtl-g", "nash", "fairgrad", "upgrad", "aligned"):
        torch.testing.assert_close(weights(bound(name, 4), with_zero)[:3], weights(bound(name, 3), rows))
        assert weights(bound(name, 4), with_zero)[3].item() == pytest.approx(0, abs=1e-9)
    elif name in ("pcgrad", "gradvac"):
        assert weights(bound(name, 4), with_zero)[3] == 1


@pytest.mark.parametrize("name", GRAM)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_no_numbers_are_named(name, value):
    K = torch.eye(3, dtype=torch.float64)
    K[1, 1] = value
    strategy = make(name).bind(["left", "right", "middle"])
    with pytest.raises(NonFiniteGradient, match="'right'"):
        strategy.weights(torch.ones(3, dtype=torch.float64), K)
    K = torch.eye(3, dtype=torch.float64)
    K[0, 2] = K[2, 0] = value
    with pytest.raises(NonFiniteGradient, match="'left'"):
        strategy.weights(torch.ones(3, dtype=torch.float64), K)


@pytest.mark.parametrize("name", GRAM)
def test_absent_tasks_are_left_out_of_the_problem(name):
    rows = gradients(4, seed=5)
    present = torch.tensor([True, False, True, True])
    gram = (rows @ rows.T) * present[:, None] * present
    strategy = bound(name, 4)
    found = strategy.weights(torch.ones(4, dtype=torch.float64), gram, present)
    assert found.shared[1] == 0 and found.heads.tolist() == [1, 0, 1, 1]
    if name in ORDERED:
        torch.testing.assert_close(found.shared[present], weights(bound(name, 3), rows[present]))
    else:
        assert (found.shared[present] != 0).all()
    if name == "gradvac":
        assert not strategy.targets[1].any() and not strategy.targets[:, 1].any() and strategy.targets[0, 2] != 0


def test_heads_keep_their_own_gradients():
    rows = gradients(3)
    for name in (*GRAM, "graddrop"):
        strategy = bound(name, 3)
        gram = None if name == "graddrop" else rows @ rows.T
        assert strategy.weights(torch.ones(3, dtype=torch.float64), gram).heads.tolist() == [1, 1, 1]


def test_cagrad_scales():
    rows = gradients(3, seed=4)
    raw = combine(make("cagrad", c=0.5), rows)
    for rescale, factor in (("1/(1+c)", 1 / 1.5), ("1/(1+c^2)", 1 / 1.25)):
        torch.testing.assert_close(combine(make("cagrad", c=0.5, rescale=rescale), rows), factor * raw)
    torch.testing.assert_close(combine(make("cagrad", c=0), rows), rows.sum(0))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_solutions_do_not_depend_on_absolute_tolerances(scale):
    """Small gradients are where solvers with absolute tolerances return equal weights and say nothing."""
    rows = gradients(4, seed=8, uneven=2)
    for name in (*SHORTEST, "imtl-g", "aligned"):
        found, expected = weights(bound(name, 4), scale * rows), weights(bound(name, 4), rows)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
        assert found.std() > 1e-3


# --- GradDrop --------------------------------------------------------------------------------------------------

def test_graddrop_keeps_one_sign_at_each_coordinate():
    rows = gradients(3, n=400, seed=1)
    d = combine("graddrop", rows)
    positive, negative = rows.clamp(min=0).sum(0), rows.clamp(max=0).sum(0)
    ups, downs = torch.isclose(d, positive, rtol=1e-12), torch.isclose(d, negative, rtol=1e-12)
    assert (ups | downs).all() and ups.any() and downs.any()


def test_graddrop_decides_with_the_probability_of_the_sign():
    rows = torch.tensor([[3.0], [-1.0]], dtype=torch.float64).repeat(1, 20_000)
    d = combine("graddrop", rows)
    assert set(d.tolist()) == {3.0, -1.0}
    assert (d > 0).double().mean().item() == pytest.approx((1 + 2 / 4) / 2, abs=0.02)
    assert combine("graddrop", torch.zeros(2, 3)).tolist() == [0, 0, 0]
