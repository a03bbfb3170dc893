"""The losses against PyTorch's own, their masks, and their gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import config

from mtlcourse import losses
from mtlcourse.void import VOID, valid_mask

NAN = float("nan")
CLASS_LOSSES = ("cross_entropy", "binary_cross_entropy")
REAL_LOSSES = ("l1", "mse", "cosine")
NAMES = CLASS_LOSSES + REAL_LOSSES


def make(name, pixels=(), seed=0, batch=6, void=True, dtype=torch.float32):
    """Random prediction and target; with `void` the last sample has no label, others lack some."""
    generator = torch.Generator().manual_seed(seed)
    channels = {"cross_entropy": 4, "binary_cross_entropy": 1}.get(name, 3)
    prediction = 3 * torch.randn(batch, channels, *pixels, generator=generator, dtype=torch.float64).to(dtype)
    if name in CLASS_LOSSES:
        target = torch.randint(max(channels, 2), (batch, *pixels), generator=generator)
    else:
        target = torch.randn(batch, channels, *pixels, generator=generator, dtype=torch.float64).to(dtype)
    if void:
        unknown = VOID if name in CLASS_LOSSES else NAN
        target[torch.rand(target.shape, generator=generator) < 0.3] = unknown
        target[-1] = unknown
    return prediction, target


@pytest.fixture
def without_type_checks():
    """As users run it: the annotations of shapes are not checked, so that our own errors are seen."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def elementwise(name, prediction, target):
    """PyTorch's losses of single elements; NaN or void elements are the caller's to leave out."""
    if name == "cross_entropy":
        return F.cross_entropy(prediction, target.clamp(min=0), reduction="none")
    if name == "binary_cross_entropy":
        return F.binary_cross_entropy(prediction.sigmoid().squeeze(1), target.clamp(min=0).to(prediction.dtype),
                                      reduction="none")
    if name == "cosine":
        return 1 - F.cosine_similarity(prediction, target, dim=1)
    return {"l1": F.l1_loss, "mse": F.mse_loss}[name](prediction, target, reduction="none")


@pytest.mark.parametrize("pixels", [(), (5,), (3, 4)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_equals_torch_on_the_valid_elements_of_each_sample(name, pixels):
    prediction, target = make(name, pixels, dtype=torch.float64)
    known = valid_mask(target).all(1) if name == "cosine" else valid_mask(target)
    elements = elementwise(name, prediction, target)
    expected = [row[mask].mean().item() if mask.any() else 0.0 for row, mask in zip(elements, known, strict=True)]
    result = getattr(losses, name)(prediction, target)
    assert result.shape == (len(target),) and (result >= 0).all()
    assert result.tolist() == pytest.approx(expected, rel=1e-9)
    assert result[-1] == 0 and result[:-1].max() > 0


@pytest.mark.parametrize("pixels", [(), (2, 3)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_and_zero_where_nothing_is_known(name, pixels):
    prediction, target = make(name, pixels)
    prediction.requires_grad_()
    getattr(losses, name)(prediction, target).sum().backward()
    known = valid_mask(target)
    if name in CLASS_LOSSES:
        known = known.unsqueeze(1)
    elif name == "cosine":
        known = known.all(1, keepdim=True)
    known = known.expand_as(prediction)
    assert prediction.grad.isfinite().all()
    assert (prediction.grad[~known] == 0).all() and (prediction.grad[known] != 0).all()


@pytest.mark.parametrize("name", REAL_LOSSES)
def test_a_broken_prediction_at_an_unknown_value_does_no_harm(name):
    prediction, target = make(name, (2, 2), void=False)
    target[1, :, 0, 0] = NAN
    expected = getattr(losses, name)(prediction, target)
    prediction[1, :, 0, 0] = NAN
    assert torch.equal(getattr(losses, name)(prediction, target), expected)


@pytest.mark.parametrize("pixels", [(), (2, 2)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name, pixels):
    prediction, target = make(name, pixels, batch=3, dtype=torch.float64)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: getattr(losses, name)(p, target), (prediction,))
    assert torch.autograd.gradgradcheck(lambda p: getattr(losses, name)(p, target), (prediction,))


@pytest.mark.parametrize("pixels", [(), (3, 4)], ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_predictions_are_judged_in_float32(name, pixels, half):
    prediction, target = make(name, pixels, dtype=half)
    if name in REAL_LOSSES:
        target = target.float()
    loss = getattr(losses, name)(prediction, target)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, getattr(losses, name)(prediction.float(), target))


@pytest.mark.parametrize("pixels", [(), (3, 4)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_no_loss_waits_for_the_device(name, pixels):
    """Tensors without data cannot answer a question, so a loss that asks one fails on them."""
    prediction, target = (tensor.to("meta") for tensor in make(name, pixels))
    assert getattr(losses, name)(prediction.requires_grad_(), target).shape == (6,)


@pytest.mark.parametrize("name", CLASS_LOSSES)
@pytest.mark.parametrize("dtype", [torch.int8, torch.int32], ids=str)
def test_class_targets_may_be_short_integers(name, dtype):
    prediction, target = make(name, (2, 3))
    loss = getattr(losses, name)
    assert torch.equal(loss(prediction, target.to(dtype)), loss(prediction, target))


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-6, 1.0, 1e6]), name=st.sampled_from(NAMES))
@settings(max_examples=40, deadline=None)
def test_each_sample_stands_alone(seed, scale, name):
    prediction, target = make(name, (2, 2), seed=seed)
    prediction = prediction * scale
    loss = getattr(losses, name)
    together = loss(prediction, target)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    assert together.isfinite().all() and (together >= 0).all()
    torch.testing.assert_close(loss(prediction[order], target[order]), together[order])
    halves = [loss(prediction[part], target[part]) for part in (slice(0, 2), slice(2, None))]
    torch.testing.assert_close(torch.cat(halves), together)


def test_cosine_of_parallel_vectors_is_never_negative():
    vectors = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1))
    assert (losses.cosine(2 * vectors, vectors) >= 0).all()
    assert losses.cosine(-vectors, vectors).tolist() == pytest.approx([2.0] * 2000)


def test_cosine_does_not_depend_on_length():
    prediction, target = make("cosine", (3, 3))
    torch.testing.assert_close(losses.cosine(7 * prediction, 0.2 * target), losses.cosine(prediction, target))


@pytest.mark.parametrize("length", [0.0, 1e-30, 1e-8, losses.SHORTEST])
def test_short_predictions_have_a_bounded_gradient_towards_the_target(length):
    target = torch.tensor([[0.6, 0.0, 0.8]])
    prediction = (length * torch.tensor([[0.0, 1.0, 0.0]])).requires_grad_()
    loss = losses.cosine(prediction, target)
    (gradient,) = torch.autograd.grad(loss.sum(), prediction)
    assert loss.item() == 1
    assert gradient.norm().item() <= 1 / losses.SHORTEST * (1 + 1e-6)
    torch.testing.assert_close(-gradient / gradient.norm(), target)


@pytest.mark.parametrize(("name", "prediction", "target", "words"), [
    ("cross_entropy", torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), "use binary_cross_entropy"),
    ("l1", torch.zeros(4, 1), torch.zeros(1, 1), "do not fit"),
    ("mse", torch.zeros(4, 1), torch.zeros(4, 4), "do not fit"),
    ("cosine", torch.zeros(4, 3), torch.zeros(4, 1), "do not fit"),
])
def test_shapes_that_do_not_fit_are_refused(name, prediction, target, words, without_type_checks):
    with pytest.raises(ValueError, match=words):
        getattr(losses, name)(prediction, target)


def test_a_uniform_guess_loses_the_logarithm_of_the_classes():
    target = torch.tensor([0, 1])
    assert losses.cross_entropy(torch.zeros(2, 10), target).tolist() == pytest.approx([math.log(10)] * 2)
    assert losses.binary_cross_entropy(torch.zeros(2, 1), target).tolist() == pytest.approx([math.log(2)] * 2)
