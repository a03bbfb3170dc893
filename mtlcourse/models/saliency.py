"""How much each feature counts for each task, and how far tasks are apart in that.

Imports `void`. The saliency of a task on a sample is the gradient of its score with respect to the
features A that all tasks look at. Samples do not look at each other, so the gradient of a sum over samples holds the
gradients of all; tasks have an alias of A each, so one call gives those of all tasks too.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..void import VOID

Saliency = Float[Tensor, "batch tasks features"]
Distances = Float[Tensor, "batch tasks tasks"]
DISTANCES = ("l1", "l2", "cosine", "inner")
NOISE = 1e-12  # of a squared distance, relative to the squared lengths: below it two vectors are the same


def scores(predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor], tasks: Sequence[str]
           ) -> list[Float[Tensor, "batch"]]:
    """What each of `tasks` says about each sample, as one number: its only output, or the logit of the true class.

    Zero where a sample has no label to say which class is the true one.
    """
    found = []
    for name in tasks:
        prediction = predictions[name]
        if prediction.shape[1] > 1:
            labels = targets[name][:, None]
            prediction = prediction.gather(1, labels.clamp_min(0)) * (labels != VOID)
        found.append(prediction.flatten())
    return found


def saliencies(scores: Sequence[Float[Tensor, "batch"]], places: Sequence[Tensor], tasks: Sequence[str]) -> Saliency:
    """The gradients of each task's scores at its own alias of A, in one call; they can be differentiated again.

    places: the aliases, `(batch, ...)`, one a task.
    Raises ValueError where there is no gradient: without a graph, and for a head that does not look at A.
    """
    for name, score in zip(tasks, scores, strict=True):
        if not score.requires_grad:
            raise ValueError(f"The prediction of task {name!r} has no graph behind it, so it has no saliency: predict "
                             "outside torch.no_grad(), and do not detach predictions.")
    gradients = torch.autograd.grad([score.sum() for score in scores], places, create_graph=True, allow_unused=True)
    for name, gradient in zip(tasks, gradients, strict=True):
        if gradient is None:
            raise ValueError(f"The prediction of task {name!r} does not depend on the features that all tasks share, "
                             "so it has no saliency there. Its head must look at them, and predictions must be those "
                             "of the model's last forward pass.")
    return torch.stack([gradient.flatten(1) for gradient in gradients], 1)


def between(saliency: Saliency, distance: str) -> Distances:
    """How far each two tasks are apart on each sample; symmetric.

    distance: "l1", `sum_k |a_k - b_k|`; "l2", `|a - b|`; "cosine", `1 - cos(a, b)`, where a zero vector has cosine 0
        with all; "inner", `<a, b>`, which is no distance: it can be negative, and least where tasks oppose each other.
    All but l1 are functions of the Gram matrix of each sample, in float64; no difference of two tasks' vectors is
    ever kept. Where two tasks agree, and where one does not look at A at all, gradients are zero, not infinite.
    """
    if distance == "l1":
        precise = saliency.to(torch.promote_types(saliency.dtype, torch.float32))
        return torch.cdist(precise, precise, p=1.0)
    gram = _Gram.apply(saliency)
    if distance == "inner":
        return gram
    squares = gram.diagonal(dim1=-2, dim2=-1)
    if distance == "cosine":
        length = torch.where(squares > 0, _root(squares, squares > 0), 1.0)
        return 1 - gram / (length[..., :, None] * length[..., None, :])
    both = squares[..., :, None] + squares[..., None, :]
    apart = both - 2 * gram
    return _root(apart, apart > NOISE * both)


def lengths(saliency: Saliency, distance: str) -> Float[Tensor, "batch tasks"]:
    """How far each task is from no saliency at all: the l1 norm for "l1", else the Euclidean one."""
    if distance == "l1":
        return saliency.abs().sum(-1)
    squares = saliency.double().square().sum(-1)
    return _root(squares, squares > 0)


def normalised(saliency: Saliency) -> Saliency:
    """Each task's saliency on each sample, divided by its Euclidean length; zero stays zero."""
    return saliency / lengths(saliency, "l2").masked_fill(~saliency.any(-1), 1.0).to(saliency)[..., None]


class _Gram(torch.autograd.Function):
    """`S S^T` of each sample in float64; `(G + G^T) S`, the backward pass, is one product where autograd has two."""

    @staticmethod
    def forward(ctx, saliency: Saliency) -> Distances:
        precise = saliency.double()
        ctx.save_for_backward(precise)
        ctx.dtype = saliency.dtype
        return precise @ precise.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g: Distances) -> Saliency:
        (precise,) = ctx.saved_tensors
        return ((g + g.mT) @ precise).to(ctx.dtype)


def _root(x: Tensor, positive: Bool[Tensor, "..."]) -> Tensor:
    """The square root where x is `positive`, else zero with a zero gradient, where autograd would say 0 / 0."""
    return torch.where(positive, x, 1.0).sqrt() * positive
