"""Distances between domains, against double loops, at their ends, and by finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlcourse.metrics import distances

DIFFERENTIABLE = {"pc": distances.population_correlation, "kl": distances.kl, "mmd": distances.mmd,
                  "coral": distances.coral, "cmd": distances.cmd}
SYMMETRIC = ("pc", "mmd", "coral", "cmd")


def clouds(n: int = 7, m: int = 5, d: int = 4, seed: int = 0, shift: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(size, d, generator=generator, dtype=torch.float64) + by
                 for size, by in ((n, 0.0), (m, shift)))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


# --- population correlation -----------------------------------------------------------------------------

@given(n=st.integers(1, 9), m=st.integers(1, 9), d=st.integers(1, 6), seed=st.integers(0, 99))
def test_population_correlation_is_a_double_loop(n, m, d, seed):
    s, t = clouds(n, m, d, seed)
    total = 0.0
    for i in range(n):
        total += max(cosine(s[i], t[j]) for j in range(m)) / n
    for j in range(m):
        total += max(cosine(s[i], t[j]) for i in range(n)) / m
    found = distances.population_correlation(s, t).item()
    assert found == pytest.approx(total, abs=1e-12)
    assert -2 - 1e-12 <= found <= 2 + 1e-12
    assert found == pytest.approx(distances.population_correlation(t, s).item(), abs=1e-12)
    assert found == pytest.approx(distances.population_correlation(1e-3 * s, 1e4 * t).item(), abs=1e-9)


def test_population_correlation_at_its_ends():
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    assert distances.population_correlation(x, 3 * x).item() == pytest.approx(2)
    assert distances.population_correlation(x[:1], -x[:1]).item() == pytest.approx(-2)
    assert distances.population_correlation(x, torch.zeros(3, 2)).item() == 0  # without a direction


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_by_finite_differences(name):
    s, t = (x.requires_grad_() for x in clouds(5, 4, 3))
    if name == "mmd":  # its median is a constant for the gradient: with that of these samples held, as in training
        squares = torch.cat([s, t]).detach()
        squares = torch.pdist(squares).square()
        median = squares[squares.argsort()][(len(squares) - 1) // 2]

        def found(a, b):
            pooled = torch.cat([a, b])
            apart = (pooled[:, None] - pooled).square().sum(-1)
            kernel = sum(torch.exp(-apart / (w * median)) for w in distances.WIDTHS) / len(distances.WIDTHS)
            return distances.discrepancy(kernel, len(a))

        assert torch.autograd.gradcheck(found, (s, t))
        ours = torch.autograd.grad(distances.mmd(s, t), (s, t))
        for a, b in zip(ours, torch.autograd.grad(found(s, t), (s, t)), strict=True):
            assert torch.allclose(a, b, atol=1e-9)
    else:
        assert torch.autograd.gradcheck(DIFFERENTIABLE[name], (s, t))


@pytest.mark.parametrize("name", SYMMETRIC)
def test_what_is_symmetric(name):
    s, t = clouds()
    assert DIFFERENTIABLE[name](s, t).item() == pytest.approx(DIFFERENTIABLE[name](t, s).item(), abs=1e-12)
    assert abs(distances.kl(s, t).item() - distances.kl(t, s).item()) > 1e-5  # and this one is not


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_stay_finite(name):
    for s, t in ((torch.zeros(4, 3),) * 2, (torch.ones(4, 3),) * 2, (1e4 * torch.eye(3),) * 2):
        s, t = s.clone().requires_grad_(), t.clone().requires_grad_()
        value = DIFFERENTIABLE[name](s, t)
        value.backward()
        assert value.isfinite() and s.grad.isfinite().all() and t.grad.isfinite().all()


# --- MMD ------------------------------------------------------------------------------------------------

@given(n=st.integers(2, 7), m=st.integers(2, 7), seed=st.integers(0, 99))
def test_mmd_is_the_unbiased_estimate_by_brute_force(n, m, seed):
    s, t = clouds(n, m, 3, seed)
    both = torch.cat([s, t])
    squares = [((both[i] - both[j]) ** 2).sum().item() for i in range(n + m) for j in range(n + m) if i != j]
    median = sorted(squares)[(len(squares) - 1) // 2]

    def kernel(a, b):
        return sum(math.exp(-((a - b) ** 2).sum().item() / (w * median)) for w in (0.25, 0.5, 1, 2, 4)) / 5

    within = [sum(kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1))
              for x in (s, t)]
    across = sum(kernel(a, b) for a in s for b in t) / (n * m)
    assert distances.mmd(s, t).item() == pytest.approx(within[0] + within[1] - 2 * across, abs=1e-12)


def test_mmd_is_zero_on_average_for_equal_domains_and_not_for_moved_ones():
    generator = torch.Generator().manual_seed(0)
    same, moved = ([distances.mmd(torch.randn(20, 2, generator=generator),
                                  torch.randn(20, 2, generator=generator) + shift).item() for _ in range(400)]
                   for shift in (0.0, 1.0))
    assert abs(sum(same) / 400) < 0.004 and min(same) < 0
    assert sum(moved) / 400 > 0.1


# --- CORAL, CMD, KL -------------------------------------------------------------------------------------

def test_coral_is_a_double_loop_over_covariances():
    s, t = clouds(9, 6, 3)

    def covariance(x, a, b):
        return sum((row[a] - x[:, a].mean()) * (row[b] - x[:, b].mean()) for row in x) / (len(x) - 1)

    total = sum((covariance(s, a, b) - covariance(t, a, b)) ** 2 for a in range(3) for b in range(3)) / (4 * 9)
    assert distances.coral(s, t).item() == pytest.approx(total.item())


@pytest.mark.parametrize("name", ["coral", "cmd", "kl"])
def test_zero_on_equal_statistics(name):
    s, _ = clouds()
    assert DIFFERENTIABLE[name](s, s[torch.randperm(len(s))]).item() == pytest.approx(0, abs=1e-12)
    assert DIFFERENTIABLE[name](s, torch.cat([s, s])).item() == pytest.approx(0, abs=1e-12) or name == "coral"
    assert DIFFERENTIABLE[name](s, s * torch.arange(1.0, 5.0)).item() > 1e-4


def test_coral_does_not_see_means_and_cmd_does():
    s, _ = clouds()
    assert distances.coral(s, s + 3).item() == pytest.approx(0, abs=1e-12)
    assert distances.cmd(s, s + 3).item() == pytest.approx(3 * 2)  # four features moved by 3


def test_cmd_to_the_fifth_moment():
    s = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # central moments 1, 0, 1, 0
    t = torch.tensor([[-2.0], [0.0], [2.0]], dtype=torch.float64)  # 8/3, 0, 32/3, 0
    expected = (8 / 3 - 1) / 2**2 + (32 / 3 - 1) / 2**4
    assert distances.cmd(s, t, interval=2.0).item() == pytest.approx(expected)
    assert distances.cmd(s, t, moments=2, interval=2.0).item() == pytest.approx((8 / 3 - 1) / 4)
    skewed = torch.tensor([[0.0], [0.0], [0.0], [0.0], [5.0]], dtype=torch.float64)
    mirrored = 2 * skewed.mean() - skewed  # the same mean, and odd moments of the other sign
    third, fifth = (((skewed - 1) ** k).mean().item() for k in (3, 5))
    assert distances.cmd(skewed, mirrored).item() == pytest.approx(2 * third + 2 * fifth)


def test_kl_is_that_of_the_mean_probabilities():
    s, t = clouds()
    p, q = s.softmax(1).mean(0), t.softmax(1).mean(0)
    assert distances.kl(s, t).item() == pytest.approx((p * (p / q).log()).sum().item())
    assert distances.kl(torch.tensor([[60.0, -60.0]]), torch.tensor([[-60.0, 60.0]])).item() == pytest.approx(120)


# --- the proxy A-distance -------------------------------------------------------------------------------

def test_a_distance_is_near_0_for_equal_domains_and_near_2_for_others():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2_000, 3, generator=generator)
    assert abs(distances.proxy_a_distance(x[0], x[1])) < 0.15
    assert distances.proxy_a_distance(x[0], x[1] + 8) == 2
    halfway = distances.proxy_a_distance(x[0, :, :1], x[1, :, :1] + 2)  # the best error is Phi(-1) = 0.159
    assert halfway == pytest.approx(2 * (1 - 2 * 0.1587), abs=0.08)
    assert distances.proxy_a_distance(x[0, :200, :1], x[1, :, :1] + 2) == pytest.approx(halfway, abs=0.15)


def test_a_distance_is_measured_on_held_out_samples():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 60, 200, generator=generator)  # more features than samples: any labels can be learned
    assert distances.proxy_a_distance(noise[0], noise[1]) < 1


def test_the_logistic_surrogate_bounds_the_distance_from_below():
    guess, sure = torch.zeros(5), torch.full((3,), 40.0)
    assert distances.logistic_a_distance(guess, guess).item() == pytest.approx(0, abs=1e-6)
    assert distances.logistic_a_distance(-sure, sure).item() == pytest.approx(2)
    generator = torch.Generator().manual_seed(0)
    s, t = torch.randn(50, generator=generator) - 1, torch.randn(40, generator=generator) + 1
    error = ((s > 0).double().mean() + (t < 0).double().mean()) / 2
    assert distances.logistic_a_distance(s, t).item() <= 2 * (1 - 2 * error.item())


# --- too few samples ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("function", "least"), [
    (distances.population_correlation, 1), (distances.kl, 1), (distances.mmd, 2), (distances.coral, 2),
    (distances.cmd, 1), (distances.proxy_a_distance, 4)])
def test_too_few_samples_are_refused(function, least):
    few, enough = torch.randn(least - 1, 3), torch.randn(8, 3)
    for pair in ((few, enough), (enough, few)):
        with pytest.raises(ValueError, match=f"Batches of {len(pair[0])} and {len(pair[1])} samples"):
            function(*pair)
