"""`twins`: what is printed of its weights, and its samples against them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlcourse import data


def signs(**options):
    """The signs of the weights of either half's tasks, at the ten features that it looks at."""
    weights = data.twin_weights(**options).sign()
    half = weights.shape[1] // 2
    return weights[:10, :half], weights[10:, half:]


def nearest_is_twin(distance):
    """How often a task's nearest is its twin; nearest ones share the hit."""
    distance = distance.round(9) + np.diag(np.full(len(distance), np.inf))
    nearest = distance == distance.min(1, keepdims=True)
    tasks = np.arange(len(distance))
    return (nearest[tasks, tasks ^ 1] / nearest.sum(1)).mean()


def test_weights_without_flips_are_the_printed_ones():
    ones, zeros = torch.ones(10, dtype=torch.float64), torch.zeros(10, dtype=torch.float64)
    expected = [torch.cat([k * ones, zeros]) for k in (1, 1, 2, 2, 3, 3)]
    expected += [torch.cat([zeros, k * ones]) for k in (1, 1, 2, 2, 3, 3)]
    assert torch.equal(data.twin_weights(flips=0), torch.stack(expected, dim=1))


@pytest.mark.parametrize("flips, flipped", [(None, 1), (0.1, 1), (0.34, 3), (1, 10), (0, 0)])
def test_as_many_signs_are_flipped_as_asked_for_at_places_by_lot(flips, flipped):
    for half in signs(flips=flips, seed=3):
        assert ((half == -1).sum(0) == flipped).all() and ((half == 1).sum(0) == 10 - flipped).all()
    assert torch.equal(data.twin_weights(flips=flips, seed=3).abs(), data.twin_weights(flips=0))


def test_flips_fall_everywhere_and_on_each_task_for_itself():
    drawn = torch.stack([torch.cat(signs(seed=seed), 1) for seed in range(200)]) == -1  # seed, feature, task
    places = drawn.double().mean((0, 2))
    assert (places - 0.1).abs().max() < 0.03
    assert not torch.equal(*signs(seed=0)) and not torch.equal(*signs(seed=0, contradicting=True))  # each half by lot
    twins_agree = (drawn[:, :, ::2] & drawn[:, :, 1::2]).any(1).double().mean()
    assert twins_agree.item() == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("order, share", [(1, 0.94), (2, 0.41)])
def test_how_far_true_weights_tell_the_twin(order, share):
    found = [nearest_is_twin(np.linalg.norm(w[:, None] - w[None], ord=order, axis=2))
             for w in (data.twin_weights(seed=seed).numpy().T for seed in range(100))]
    assert np.mean(found) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_contradicting_tasks_disagree_in_every_pair(seed):
    for half in signs(contradicting=True, seed=seed):
        products = half.T @ half
        assert products.equal(12 * torch.eye(6, dtype=torch.float64) - 2)
        assert len({tuple(row) for row in half.abs().tolist()}) == 1 and not half.sum(1).any()
    weights = data.twin_weights(contradicting=True, seed=seed)
    assert torch.equal(weights.abs(), data.twin_weights(flips=0))
    assert not torch.equal(weights, data.twin_weights(contradicting=True, seed=seed + 1))
    flipped = data.twin_weights(contradicting=True, seed=seed, flips=0.2)
    assert ((flipped != weights).sum(0) == 2).all()


@given(magnitudes=st.lists(st.floats(0.1, 9), min_size=1, max_size=5), seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_contradictions_add_up_to_nothing_for_any_number_of_tasks(magnitudes, seed):
    for half in signs(magnitudes=magnitudes, contradicting=True, seed=seed):
        assert half.shape == (10, 2 * len(magnitudes)) and not half.sum(1).any()


@pytest.mark.parametrize("options", [{}, {"contradicting": True}, {"magnitudes": [4], "flips": 0.5, "seed": 2}])
@pytest.mark.parametrize("spread, deviation", [("variance", 0.1**0.5), ("deviation", 0.1)])
def test_targets_are_those_of_the_weights_but_for_the_noise(options, spread, deviation):
    problem = data.load("twins", train=2_000, spread=spread, **options)
    weights = data.twin_weights(**problem.options)
    assert weights.shape == (20, len(problem.tasks))
    for split in (problem.train, problem.val, problem.test):
        noise = [split.targets[task][:, 0] - split.inputs[task] @ w.float()
                 for task, w in zip(problem.task_names, weights.T, strict=True)]
        assert torch.cat(noise).std().item() == pytest.approx(deviation, rel=0.1)
        assert abs(torch.cat(noise).mean().item()) < deviation / 5
    covariance = torch.cov(torch.stack(noise)) / deviation**2
    torch.testing.assert_close(covariance, torch.eye(len(noise)), atol=0.3, rtol=0)  # each task's noise is its own


@pytest.mark.parametrize("shift", [0, 1, 3.0])
def test_inputs_have_means_of_their_own(shift):
    problem = data.load("twins", train=2_000, shift=shift)
    inputs = [problem.train.inputs[task] for task in problem.task_names]
    means = torch.stack([x.mean(0) for x in inputs])
    assert means.std().item() == pytest.approx(max(shift, 2_000**-0.5), rel=0.15)
    held_out = torch.stack([problem.test.inputs[task].mean(0) for task in problem.task_names])
    torch.testing.assert_close(held_out, means, atol=0.25, rtol=0)  # one mean for all splits
    torch.testing.assert_close(torch.cov(inputs[0].T), torch.eye(20), atol=0.15, rtol=0)
    assert len({tuple(x[0].tolist()) for x in inputs}) == 12


def test_an_option_changes_what_it_is_about_and_no_more():
    plain, other = data.load("twins"), data.load("twins", contradicting=True, spread="deviation", test=9)
    for task in plain.task_names:
        assert torch.equal(plain.train.inputs[task], other.train.inputs[task])
        assert not torch.equal(plain.train.targets[task], other.train.targets[task])
    shifted = data.load("twins", shift=0)
    moved = plain.train.inputs["task_5"] - shifted.train.inputs["task_5"]
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), atol=1e-5, rtol=0)


def test_as_printed():
    problem = data.load("twins")
    assert problem.task_names == [f"task_{number}" for number in range(1, 13)] and problem.input_shape == (20,)
    assert {len(x) for x in problem.train.inputs.values()} == {100}
    assert all(list(task.metrics) == ["rmse", "mae"] and task.out_channels == 1 for task in problem.tasks)
    assert problem.train.inputs["task_1"].dtype == problem.train.targets["task_1"].dtype == torch.float32
    assert len(data.describe("twins", magnitudes=(1, 2)).tasks) == 8


@pytest.mark.parametrize("options, words", [
    ({"magnitudes": []}, "magnitudes=.*at least one number"),
    ({"magnitudes": "123"}, "magnitudes='123'"),
    ({"magnitudes": [1, 0]}, "A magnitude is 0"),
    ({"magnitudes": [1, True]}, "A magnitude is True"),
    ({"magnitudes": [float("inf")]}, "A magnitude is inf"),
    ({"flips": 1.1}, "flips=1.1"),
    ({"flips": -0.1}, "flips=-0.1"),
    ({"shift": -1}, "shift=-1"),
    ({"shift": float("nan")}, "shift=nan"),
    ({"spread": "std"}, "Unknown spread 'std'. Known: "),
    ({"contradicting": 1}, "contradicting=1 is neither"),
])
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        data.describe("twins", **options)
    with pytest.raises(ValueError, match=words):
        data.twin_weights(**options)


def test_weights_take_no_option_that_the_problem_has_not():
    with pytest.raises(TypeError, match="Unknown option of problem 'twins' 'flip'. Known: flips,"):
        data.twin_weights(flip=0.1)
