"""Losses and gradients of linear tasks: those of the tasks themselves, on the labelled samples alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtlcourse import data, losses, metrics
from mtlcourse.models.shallow import collect
from mtlcourse.models.shallow.losses import check_tasks, check_varies
from mtlcourse.tasks import Problem, Task, TensorSplit, mean_losses
from tests.models.shallow import problems
from tests.models.shallow.problems import KINDS, problem


def point(d: int = 5, m: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.normal(size=(d, m)), random.normal(size=m)


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_tasks_losses(kind):
    """Batch by batch as one would train, summed over tasks, differentiated by autograd."""
    made = problem(kind)
    found = collect(made.train, made.tasks, lambda x: x)
    W, b = point()
    tensors = torch.from_numpy(W).requires_grad_(), torch.from_numpy(b).requires_grad_()
    batch = next(made.train.batches(1000))
    predictions = {}
    for t, name in enumerate(made.task_names):
        x = batch.inputs if isinstance(batch.inputs, torch.Tensor) else batch.inputs[name]
        predictions[name] = (x.double() @ tensors[0][:, t] + tensors[1][t])[:, None]
    each = mean_losses(made.tasks, predictions, batch)
    sum(each.values()).backward()
    np.testing.assert_allclose(found.each(W, b), [value.item() for value in each.values()], rtol=1e-12)
    assert found.value(W, b) == pytest.approx(found.each(W, b).sum())
    for mine, tensor in zip(found.gradient(W, b), tensors, strict=True):
        np.testing.assert_allclose(mine, tensor.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_solver_sees_is_the_same_function_about_the_mean_inputs(kind):
    found = problems.losses(kind)
    W, v = point()
    v = np.where(found.binary, v, found.level)
    by_W, by_b = found.gradient(W, v - (found.centre * W).sum(0))
    slope_W, slope_v = found.slope(W, v)
    np.testing.assert_allclose(slope_W, by_W - found.centre * by_b, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(slope_v, by_b, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_the_level_is_the_best_constant(kind):
    found = problems.losses(kind)
    zero = np.zeros(found.shape)
    np.testing.assert_allclose(found.gradient(zero, found.level)[1], 0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_changes_faster_than_the_lipschitz_constant_says(kind):
    found, random = problems.losses(kind), np.random.default_rng(2)
    ratios = []
    for _ in range(50):
        one, step = random.normal(size=(2, *found.shape))
        first, second = (found.slope(W, found.level)[0] for W in (one, one + 1e-3 * step))
        ratios.append(np.linalg.norm(first - second) / np.linalg.norm(1e-3 * step))
    assert max(ratios) <= found.lipschitz * (1 + 1e-6)
    t = int(np.argmax(found.curvature * np.linalg.eigvalsh(found.spread)[:, -1]))
    if not found.binary[t]:  # in its steepest direction a square reaches it
        spread = found.spread[t if len(found.spread) > 1 else 0]
        steep = np.zeros(found.shape)
        steep[:, t] = np.linalg.eigh(spread)[1][:, -1]
        reached = found.slope(steep, found.level)[0] - found.slope(0 * steep, found.level)[0]
        assert np.linalg.norm(reached) == pytest.approx(found.lipschitz)


@pytest.mark.parametrize("size", [1, 7, 512])
def test_a_split_is_collected_whole_whatever_its_batches(size, monkeypatch):
    made = problem("mixed")
    expected = collect(made.train, made.tasks, lambda x: x)
    original = TensorSplit.batches
    monkeypatch.setattr(TensorSplit, "batches", lambda self, _: original(self, size))
    found = collect(made.train, made.tasks, lambda x: x)
    W, b = point()
    np.testing.assert_array_equal(found.each(W, b), expected.each(W, b))


def test_inputs_nobody_looks_at_may_be_anything():
    made = problem("void")
    for target in made.train.targets.values():
        target[3] = float("nan")
    expected = collect(TensorSplit(made.train.inputs.clone(), made.train.targets), made.tasks, lambda x: x)
    made.train.inputs[3] = float("nan")
    found = collect(TensorSplit(made.train.inputs, made.train.targets), made.tasks, lambda x: x)
    W, b = point()
    np.testing.assert_array_equal(found.each(W, b), expected.each(W, b))


# --- refusals ------------------------------------------------------------------------------------------------------

L1 = Task("far", losses.l1, {"mse": metrics.MSE}, 1, kind="regression")


@pytest.mark.parametrize(("task", "message"), [
    (data.classification("kind", 3), "'kind' has 3 classes.*Make it one binary task a class"),
    (data.classification("kind", 2), "'kind' has 2 classes.*data.binary"),
    (data.regression("size", 2), "'size' has 2 numbers a sample.*one task a number, with data.regression"),
    (data.segmentation("map", 3), "'map' predicts every pixel"), (data.depth("depth"), "'depth' predicts every pixel"),
    (data.binary("mask", dense=True), "'mask' predicts every pixel"), (L1, "'far', regression, is trained with l1"),
])
def test_tasks_that_are_not_linear_ones_are_refused(task, message):
    with pytest.raises(ValueError, match=message):
        check_tasks(Problem("other", [task], None, None, None, (3, 4, 4), {"name": "conv"}))


@pytest.mark.parametrize(("kind", "value"), [("shared", 3.0), ("binary", 0), ("binary", 1), ("void", -1.5)])
def test_constant_targets_are_refused(kind, value):
    made = problem(kind)
    target = made.train.targets["t1"]
    labelled = ~torch.isnan(target) if target.is_floating_point() else target >= 0
    target[labelled] = value
    with pytest.raises(ValueError, match=f"training targets of task 't1' are {value:g}: there is nothing to learn"):
        check_varies(collect(made.train, made.tasks, lambda x: x), made.task_names)


def test_constant_features_are_refused():
    made = problem()
    with pytest.raises(ValueError, match="features are the same for all training samples"):
        check_varies(collect(made.train, made.tasks, torch.zeros_like), made.task_names)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["shared", "own", "mixed"])
def test_features_that_are_not_finite_are_refused(kind, bad):
    made = problem(kind)
    x = made.train.inputs["t2"] if kind == "own" else made.train.inputs
    x[~torch.isnan(made.train.targets["t2"].flatten()), 1] = bad
    with pytest.raises(ValueError, match="The features of task 't[02]' in the train split are not all finite"):
        collect(made.train, made.tasks, lambda x: x, "train split")


def test_infinite_targets_are_refused():
    made = problem()
    made.train.targets["t1"][4] = float("inf")
    with pytest.raises(ValueError, match="The targets of task 't1'"):
        collect(made.train, made.tasks, lambda x: x)


def test_one_task_is_as_good_as_many():
    made = problem()
    one = replace(made, tasks=made.tasks[:1], train=TensorSplit(made.train.inputs, {"t0": made.train.targets["t0"]}))
    W, b = point()
    found = collect(one.train, one.tasks, lambda x: x)
    assert found.each(W[:, :1], b[:1])[0] == pytest.approx(problems.losses().each(W, b)[0])
