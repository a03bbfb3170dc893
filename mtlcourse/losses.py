"""How far predictions are from their targets: the losses that tasks are trained with.

Ground floor: imports `void` only. Every loss is `(prediction, target) -> (batch,)`: one number a
sample, at least 0, the mean over that sample's labelled elements, and exactly 0, with zero gradient,
for a sample without any. Unlabelled elements are cleared before any arithmetic whose gradient could
multiply a NaN. Half-precision predictions, as autocast makes them, are judged in float32, and nothing
here asks the device for a value, so a training step never waits for a loss.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from .void import VOID, valid_mask

__all__ = ["SHORTEST", "binary_cross_entropy", "cosine", "cross_entropy", "l1", "mse"]

SHORTEST = 1e-3  # `cosine` divides shorter vectors by this length instead of their own


def cross_entropy(
    prediction: Float[Tensor, "batch classes *pixels"], target: Integer[Tensor, "batch *pixels"]
) -> Float[Tensor, "batch"]:
    """Negative log-probability of the labelled class, `-z_y + log sum_c exp(z_c)`, for two or more classes.

    prediction: logits z.  target: class index y, or `VOID`.
    Raises ValueError for a single channel (`binary_cross_entropy` takes that) or shapes that do not fit.

    >>> [round(x, 4) for x in cross_entropy(torch.zeros(2, 10), torch.tensor([3, VOID])).tolist()]
    [2.3026, 0.0]
    """
    if prediction.shape[1] == 1:
        raise ValueError("cross_entropy was given one channel, whose softmax is always 1; use binary_cross_entropy.")
    _require_shape(target, prediction.shape[:1] + prediction.shape[2:], prediction)
    losses = F.cross_entropy(_full_precision(prediction), target.long(), ignore_index=VOID, reduction="none")
    return losses if losses.dim() == 1 else _mean_over_valid(losses, valid_mask(target))


def binary_cross_entropy(
    prediction: Float[Tensor, "batch 1 *pixels"], target: Integer[Tensor, "batch *pixels"]
) -> Float[Tensor, "batch"]:
    """Negative log-probability of a binary label, `log(1 + exp(z)) - y z`.

    prediction: one logit z of class 1.  target: y = 0 or 1, or `VOID`.
    Raises ValueError for shapes that do not fit.

    >>> binary_cross_entropy(torch.tensor([[0.0], [9.0]]), torch.tensor([1, VOID])).tolist()
    [0.6931471824645996, 0.0]
    """
    _require_shape(prediction, target.shape[:1] + (1,) + target.shape[1:], target)
    logit = _full_precision(prediction).squeeze(1)
    valid = valid_mask(target)
    # Clearing afterwards is safe here: VOID is an ordinary number, and so are the loss and its gradient at it.
    losses = F.binary_cross_entropy_with_logits(logit, target.to(logit.dtype), reduction="none").masked_fill(~valid, 0)
    return losses if losses.dim() == 1 else _mean_over_valid(losses, valid)


def l1(
    prediction: Float[Tensor, "batch channels *pixels"], target: Float[Tensor, "batch channels *pixels"]
) -> Float[Tensor, "batch"]:
    """Mean absolute difference, in the target's unit; NaN marks unknown values of the target.

    Raises ValueError for shapes that differ.

    >>> l1(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, float("nan")]])).tolist()
    [2.0]
    """
    difference, valid = _difference(prediction, target)
    return _mean_over_valid(difference.abs(), valid)


def mse(
    prediction: Float[Tensor, "batch channels *pixels"], target: Float[Tensor, "batch channels *pixels"]
) -> Float[Tensor, "batch"]:
    """Mean squared difference, in the square of the target's unit; NaN marks unknown values of the target.

    Raises ValueError for shapes that differ.

    >>> mse(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, float("nan")]])).tolist()
    [4.0]
    """
    difference, valid = _difference(prediction, target)
    return _mean_over_valid(difference.square(), valid)


def cosine(
    prediction: Float[Tensor, "batch channels *pixels"], target: Float[Tensor, "batch channels *pixels"]
) -> Float[Tensor, "batch"]:
    """One minus the cosine between predicted and true direction, `1 - p.t / (|p| |t|)`, over the channel axis.

    prediction: vectors p of any length.  target: vectors t of any length (surface normals have 1); a
        pixel counts only if none of its channels is NaN.
    A vector shorter than `SHORTEST` is divided by `SHORTEST` instead of its own length. A prediction of
    length zero therefore loses 1, as one at right angles does, and its gradient is finite and points it
    at the target: at most `1 / SHORTEST`, where that of the bare formula grows without bound.
    Raises ValueError for shapes that differ.

    >>> cosine(torch.tensor([[0.0, 5.0], [0.0, 0.0], [-2.0, 0.0]]), torch.tensor([[1.0, 0.0]] * 3)).tolist()
    [1.0, 1.0, 2.0]
    """
    _require_shape(target, prediction.shape, prediction)
    prediction = _full_precision(prediction)
    valid = valid_mask(target).all(1)
    target = target.to(prediction.dtype).masked_fill(~valid.unsqueeze(1), 0)
    cosines = (prediction * target).sum(1) / (_length(prediction) * _length(target))
    losses = (1 - cosines).clamp(min=0).masked_fill(~valid, 0)  # rounding can push a cosine above 1
    return losses if losses.dim() == 1 else _mean_over_valid(losses, valid)


def _length(vectors: Float[Tensor, "batch channels *pixels"]) -> Float[Tensor, "batch *pixels"]:
    return vectors.square().sum(1).clamp(min=SHORTEST**2).sqrt()


def _difference(
    prediction: Float[Tensor, "batch *shape"], target: Float[Tensor, "batch *shape"]
) -> tuple[Float[Tensor, "batch *shape"], Bool[Tensor, "batch *shape"]]:
    """Prediction minus target, zero where the target is unknown, and where it is known."""
    _require_shape(target, prediction.shape, prediction)
    prediction = _full_precision(prediction)
    valid = valid_mask(target)
    return (prediction - target.to(prediction.dtype)).masked_fill(~valid, 0), valid


def _mean_over_valid(
    losses: Float[Tensor, "batch *elements"], valid: Bool[Tensor, "batch *elements"]
) -> Float[Tensor, "batch"]:
    """Each sample's mean over its valid elements; `losses` is zero at the others already."""
    return losses.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)


def _full_precision(prediction: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """At least float32: sums over many pixels lose their last digits in half precision."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))


def _require_shape(tensor: Tensor, expected: torch.Size, other: Tensor) -> None:
    if tensor.shape != expected:
        raise ValueError(
            f"Prediction and target do not fit: {tuple(tensor.shape)} goes with {tuple(other.shape)}, expected "
            f"{tuple(expected)}. Class targets have no channel axis; real targets have the prediction's shape."
        )
