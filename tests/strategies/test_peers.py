"""The strategies that other libraries had first: against one of these, closed forms, and what holds for all of them."""


import cvxpy
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchjd import aggregation, scalarization

from mtlcourse.strategies import Chain, combine, make
from mtlcourse.strategies.tracking import onto_simplex
from tests.strategies.vectors import (
    bound,
    close,
    gradients,
    longest,
    random_gradients,
    spread,
    step,
    vector,
)

few = settings(max_examples=25)


# --- fixed weights -----------------------------------------------------------------------------------------------

def test_fixed_weights_are_those_given_by_name_and_one_for_the_others():
    strategy = make("fixed", right=0.5, middle=0).bind(["left", "middle", "right"])
    found = strategy.weights(vector(9.0, 1.0, 4.0))
    assert found.shared.tolist() == found.heads.tolist() == [1.0, 0.0, 0.5]
    absent = strategy.weights(vector(9.0, 1.0, float("nan")), None, torch.tensor([True, True, False]))
    assert absent.shared.tolist() == [1.0, 0.0, 0.0]
    assert make("fixed").bind(["a", "b"]).weights(vector(1.0, 2.0)).shared.tolist() == [1, 1]


@pytest.mark.parametrize("options, words", [
    ({"lft": 2}, "no task of these. Unknown task 'lft'. Known: left, right"),
    ({"left": 0, "right": 0}, "All fixed weights are zero"), ({"left": 1, "up": 3}, "'up'")])
def test_fixed_weights_of_no_task_and_of_zero_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make("fixed", **options).bind(["left", "right"])
    with pytest.raises(ValueError, match=words):
        Chain(make("fixed", **options), make("pcgrad")).bind(["left", "right"])


def test_a_primary_task_must_be_there():
    with pytest.raises(ValueError, match="PCD is not there. Unknown task 'lft'. Known: left, right"):
        make("pcd", primary="lft").bind(["left", "right"])


# --- losses: against another library's autograd ------------------------------------------------------------------

@few
@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6), st.floats(0, 5), st.integers(0, 2**31))
def test_cosmos_is_m_times_the_derivative_of_its_objective(losses, lam, seed):
    r = torch.rand(len(losses), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    variable = vector(*losses).requires_grad_()
    expected, = torch.autograd.grad(scalarization.COSMOS(lam, r / r.sum())(variable), variable)
    found = bound("cosmos", len(losses), lam=lam, preferences=r.tolist()).weights(variable.detach())
    torch.testing.assert_close(found.shared, len(losses) * expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.shared, found.heads)


@few
@given(st.lists(st.floats(1e-1, 1e3), min_size=2, max_size=6), st.floats(0, 9), st.integers(0, 2**31))
def test_pbi_is_the_derivative_of_its_objective_but_for_its_scale(losses, theta, seed):
    generator = torch.Generator().manual_seed(seed)
    r, z = (torch.rand(len(losses), generator=generator, dtype=torch.float64) + 0.1 for _ in range(2))
    variable = vector(*losses).requires_grad_()
    above, e = variable.detach() - z, r / r.norm()
    assume((above - above @ e * e).norm() > 1e-2)  # there adds the other library a constant under the root
    expected, = torch.autograd.grad(scalarization.PBI(theta, r, z)(variable), variable)
    found = bound("pbi", len(losses), theta=theta, preferences=r.tolist(), ideal=z.tolist()).weights(variable.detach())
    torch.testing.assert_close(found.shared, len(losses) / e.sum() * expected, rtol=1e-6, atol=1e-6)


def test_preferences_make_a_loss_that_is_too_small_for_its_share_grow():
    for name in ("cosmos", "pbi"):
        found = bound(name, 2, **({"lam": 9} if name == "cosmos" else {})).weights(vector(0.1, 2.0)).shared
        assert found[0] < 0 < found[1]
        toward = bound(name, 2, preferences=[0.1, 2.0]).weights(vector(0.1, 2.0)).shared
        torch.testing.assert_close(toward, 2 * vector(0.1, 2.0) / 2.1)  # on the ray: the weighted sum alone
        assert torch.isfinite(bound(name, 2).weights(vector(0.0, 0.0)).shared).all()
    with pytest.raises(ValueError, match="preferences has 3 numbers for 2 tasks"):
        bound("pbi", 2, preferences=[1, 2, 3])


def test_imtl_l_learns_the_scales_of_another_library_and_ends_where_all_losses_are_one():
    strategy, other = bound("imtl-l", 3, lr=0.1), scalarization.IMTLL(3).double()
    ours, theirs = (torch.optim.SGD(p, lr=0.1) for p in (strategy.param_groups(), other.parameters()))
    losses = vector(0.5, 2.0, 1.0)
    for _ in range(300):
        variable = losses.clone().requires_grad_()
        theirs.zero_grad()
        other(variable).backward()
        torch.testing.assert_close(strategy.weights(losses).shared, variable.grad)
        ours.step()
        theirs.step()
    torch.testing.assert_close(strategy.weights(losses).shared * losses, torch.ones(3, dtype=torch.float64))
    assert strategy.param_groups()[0]["weight_decay"] == 0


@pytest.mark.parametrize("name", ["imtl-l", "db-mtl"])
def test_a_loss_below_zero_is_refused_where_it_means_nothing(name):
    with pytest.raises(ValueError, match="'t1' is -2"):
        bound(name, 2).weights(vector(1.0, -2.0))
    bound(name, 2).weights(vector(1.0, float("nan")), None, torch.tensor([True, False]))


def test_rgw_has_the_weights_of_rlw_on_shared_parameters_only():
    both = [bound(name, 3).weights(vector(1.0, 2.0, 3.0)) for name in ("rgw", "rlw")]
    assert torch.equal(both[0].shared, both[1].shared) and both[0].heads.tolist() == [1, 1, 1]


# --- gradients: against another library --------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(4))
def test_config_equals_that_of_another_library(seed):
    rows = gradients(5, n=12, seed=seed, uneven=1)
    close(combine("config", rows), aggregation.ConFIG()(rows), longest(rows))


@pytest.mark.parametrize("seed", range(4))
def test_dualproj_equals_that_of_a_general_solver(seed):
    rows = gradients(5, n=12, seed=seed, uneven=0.5)
    d = cvxpy.Variable(12)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(d - rows.mean(0).numpy())), [rows.numpy() @ d >= 0])
    problem.solve(cvxpy.CLARABEL)
    close(combine("dualproj", rows), 5 * torch.from_numpy(d.value), longest(rows), rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lam", [0.0, 0.3, 2.0])
def test_sdmgrad_is_where_another_library_goes_with_one_batch(seed, lam):
    rows = gradients(4, n=12, seed=seed, uneven=0.5)
    other = aggregation.SDMGradWeighting(lr=0.1, momentum=0.5, n_iter=20_000 if seed == 0 else 3_000, lambda_=lam)
    expected = 4 * other(rows @ rows.T) @ rows
    close(combine(make("sdmgrad", lam=lam), rows), expected, longest(rows), rtol=1e-3)
    if lam == 0:
        torch.testing.assert_close(combine(make("sdmgrad", lam=0), rows), combine("mgda", rows))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.5])
def test_pcd_equals_that_of_another_library_over_several_steps(seed, tau):
    strategy, other = bound("pcd", 5, tau=tau, beta=0.9), aggregation.PCD(tau=tau, beta=0.9, eps=0.0)
    for factor in (1.0, 0.3, 2.0):
        rows = gradients(5, n=12, seed=seed, uneven=1) * factor + gradients(5, n=12, seed=seed + 9)
        close(combine(strategy, rows), other(rows), longest(rows), rtol=1e-5)


def test_krum_equals_that_of_another_library_where_one_neighbour_counts():
    """With one neighbour, distances and their squares have one order; with more, the paper's squares count."""
    for seed in range(6):
        rows = gradients(6, n=12, seed=seed)
        close(combine(make("krum", byzantine=3, selected=2), rows), 6 * aggregation.Krum(3, 2)(rows), longest(rows))
        # Two who are nearest to each other have one score: they share, and there the first is taken.
        found = bound("krum", 6, byzantine=3).weights(torch.ones(6).double(), rows @ rows.T).shared
        assert sorted(found.tolist()) == [0, 0, 0, 0, 3, 3]
        assert found @ aggregation.KrumWeighting(3)(rows @ rows.T) == 3


def test_krum_adds_up_squares_and_shares_among_those_that_tie():
    places = vector(0.0, 3.0, 3.0, -4.3)[:, None]  # to all three others from 0: 36.49 squared; from 3: 62.29
    assert bound("krum", 4).weights(torch.ones(4).double(), 100 * places @ places.T).shared.tolist() == [0, 2, 2, 0]
    far = vector(0.0, 2.0, -2.0, 2.9, -2.9)[:, None]  # f = 0: three neighbours each, of 0: 4 + 4 + 8.41
    scores = [sum(sorted((a - b) ** 2 for b in far.flatten().tolist())[1:4]) for a in far.flatten().tolist()]
    found = bound("krum", 5).weights(torch.ones(5).double(), far @ far.T).shared
    least = [score < min(scores) + 1e-6 for score in scores]
    assert found.tolist() == pytest.approx([5 * tied / sum(least) for tied in least])
    assert bound("krum", 2).weights(torch.ones(2).double(), torch.diag(vector(1.0, 9.0))).shared.tolist() == [1, 1]


@pytest.mark.parametrize("trim", [0, 1, 2])
def test_the_trimmed_mean_equals_that_of_another_library(trim):
    rows = gradients(5, n=12, seed=trim)
    close(combine(make("trimmed-mean", trim=trim), rows), 5 * aggregation.TrimmedMean(trim)(rows), longest(rows))
    assert torch.equal(combine(make("trimmed-mean", trim=9), rows), 5 * rows.median(0).values)


@pytest.mark.parametrize("inner", ["mgda", "imtl-g", "config", "upgrad"])
def test_cr_mogm_smooths_the_weights_as_another_library_does(inner):
    class Ours(aggregation.Weighting):
        def forward(self, stat):
            return bound(inner, len(stat)).weights(torch.ones(len(stat)).double(), stat).shared

    strategy, other = bound("cr-mogm", 4, of=inner, alpha=0.7), aggregation.CRMOGMWeighting(Ours(), alpha=0.7)
    for seed in range(4):
        rows = gradients(4, n=12, seed=seed)
        torch.testing.assert_close(strategy.weights(torch.ones(4).double(), rows @ rows.T).shared, other(rows @ rows.T))


def test_cr_mogm_keeps_what_its_inner_strategy_keeps():
    strategy = bound("cr-mogm", 2, of="pcd")
    assert {"smoothed", "inner.squares", "inner.steps"} == set(strategy.state_dict()) and strategy.remembers
    assert make("cr-mogm", of="gradvac").bind(["a", "b"]).inner.generator.initial_seed() is not None


def test_excess_mtl_has_the_weights_of_another_library_after_its_warm_up():
    for warm_up in (1, 3):
        strategy = bound("excess-mtl", 4, eta=0.5, warm_up=warm_up)
        other = aggregation.ExcessMTLWeighting(0.5, n_warmup_steps=warm_up)
        for seed in range(6):
            rows = 10 * gradients(4, n=12, seed=seed, uneven=1)
            close(combine(strategy, rows), 4 * other(rows) @ rows, longest(rows), rtol=1e-3)


# --- gradients: closed forms -------------------------------------------------------------------------------------

@few
@given(random_gradients(uneven=2))
def test_config_makes_one_angle_with_all_and_is_as_long_as_all_shadows(rows):
    assume(spread(rows))
    d = combine("config", rows)
    products = rows @ d / rows.norm(dim=1)
    close(products, products.mean().expand(len(rows)), d.norm().item())
    assert d.norm().item() == pytest.approx((rows @ d).sum().item() / d.norm().item())


@few
@given(random_gradients(uneven=3))
def test_dualproj_is_the_nearest_to_the_mean_that_harms_no_task(rows):
    """Optimality: no conflict, and what was added is along gradients that are now orthogonal."""
    assume((rows.norm(dim=1) > 0).all())
    d = combine("dualproj", rows) / len(rows)
    units = rows / rows.norm(dim=1, keepdim=True)
    assert (units @ d >= -1e-6 * longest(rows)).all()
    assert abs((d - rows.mean(0)) @ d) <= 1e-6 * longest(rows) ** 2
    free = bound("dualproj", len(rows)).weights(torch.ones(len(rows)).double(), rows @ rows.T).shared
    assert (free >= 1 - 1e-6).all()


@few
@given(random_gradients(uneven=2), st.sampled_from([0.1, 0.3, 3.0]))
def test_sdmgrad_meets_its_optimality_conditions(rows, lam):
    m = len(rows)
    w = bound("sdmgrad", m, lam=lam).weights(torch.ones(m).double(), rows @ rows.T).shared
    w = (w * (1 + lam) - lam) / m
    assert (w >= -1e-9).all() and w.sum().item() == pytest.approx(1)
    drawn = rows + lam * rows.mean(0)
    nearest = w @ drawn
    assert ((drawn @ nearest) >= nearest @ nearest - 1e-6 * longest(drawn) ** 2).all()


@few
@given(random_gradients(uneven=2, least=2), st.sampled_from([0.0, 0.1, 0.5]))
def test_pcd_gives_each_task_its_share_and_is_the_nearest_to_do_so(rows, tau):
    assume(spread(rows, 1e-3))
    d = combine(make("pcd", tau=tau), rows)
    units = rows / rows.norm(dim=1, keepdim=True)  # in the first step all scaled gradients have length one
    assert d.norm().item() == pytest.approx(rows[0].norm().item())
    a = bound("pcd", len(rows), tau=tau).weights(torch.ones(len(rows)).double(), rows @ rows.T).shared
    factor = a[0].item()  # what the rescaling has done
    gains = units[1:] @ d / (factor * rows[0].norm())
    assert (gains >= tau - 1e-6).all()
    assert ((a[1:] * (gains - tau)).abs() <= 1e-5 * a.abs().max()).all()  # who has more than that is not looked after


def test_pcd_follows_the_task_that_it_is_told_and_nobody_without_it():
    rows = gradients(3, seed=1)
    found = combine(make("pcd", primary="task_2"), rows)
    torch.testing.assert_close(found, combine("pcd", rows[[2, 0, 1]]))
    here = torch.tensor([False, True, True])
    assert not step(bound("pcd", 3), rows, present=here)[0].any()
    assert not step(bound("pcd", 3), rows * vector(0.0, 1.0, 1.0)[:, None])[0].any()
    opposite = torch.stack([rows[0], rows[1], -rows[1]])
    close(combine(make("pcd", tau=0.5), opposite), opposite[0], longest(rows))  # nobody can have both


@few
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=7))
def test_onto_the_simplex_goes_the_shortest_way(values):
    v = vector(*values)
    x = onto_simplex(v)
    assert (x >= 0).all() and x.sum().item() == pytest.approx(1)
    for t in range(len(v)):  # the difference to v makes no sharp angle with the way to any corner
        corner = torch.eye(len(v), dtype=torch.float64)[t]
        assert ((v - x) @ (corner - x)).item() <= 1e-9


def test_moco_tracks_gradients_and_descends_on_weights_by_hand():
    strategy = bound("moco", 2, beta=0.5, gamma=0.2, rho=0.1)
    y, w = torch.zeros(2, 6, dtype=torch.float64), vector(0.5, 0.5)
    for k in range(1, 6):
        rows = gradients(2, n=6, seed=k)
        y = y - 0.5 / k**0.5 * (y - rows)
        w = onto_simplex(w - 0.2 / k**0.5 * (y @ y.T + 0.1 * torch.eye(2).double()) @ w)
        torch.testing.assert_close(combine(strategy, rows), 2 * w @ y)


def test_moco_with_all_of_each_gradient_ends_with_mgda():
    rows = gradients(4, n=12, seed=3)
    strategy = bound("moco", 4, beta=1.0, beta_power=0.0, gamma=0.1, gamma_power=0.0)
    for _ in range(2000):
        found = combine(strategy, rows)
    close(found, combine("mgda", rows), longest(rows), rtol=1e-4)
    losses = vector(2.0, 1.0, 3.0, 0.5)
    with_length = rows / rows.norm(dim=1, keepdim=True) * losses[:, None]
    both = [combine(bound("moco", 4, normalise=n), r, losses) for n, r in (("loss", rows), ("none", with_length))]
    torch.testing.assert_close(*both)


def test_db_mtl_makes_the_gradients_of_logarithms_as_long_as_the_longest():
    rows, losses = gradients(3, n=8, seed=2), vector(0.5, 2.0, 4.0)
    strategy, y = bound("db-mtl", 3, beta=0.8, power=0.5), torch.zeros(3, 8, dtype=torch.float64)
    for k in range(1, 5):
        of_logs = rows * k / losses[:, None]
        y = of_logs + 0.8 / k**0.5 * (y - of_logs)
        expected = (y * (y.norm(dim=1).max() / y.norm(dim=1))[:, None]).sum(0)
        torch.testing.assert_close(combine(strategy, rows * k, losses), expected)
    assert strategy.weights(losses).heads.tolist() == [2, 0.5, 0.25]
    assert torch.isfinite(combine(bound("db-mtl", 3), rows * 0, losses)).all()


def test_excess_mtl_turns_to_the_task_whose_gradients_stay_large():
    strategy, rows = bound("excess-mtl", 2), torch.eye(2, 6, dtype=torch.float64)
    for k in range(5):
        found = combine(strategy, rows * vector(1.0, 0.5**k)[:, None])
    assert found[0] > 1 > found[1] / 0.5**4
