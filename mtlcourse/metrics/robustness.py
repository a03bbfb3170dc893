"""Robustness: attacks within a ball, and how well a classifier tells what it was not made for.

Ground floor: imports `void` only. An attack sees the inputs as a model gets them, in [0, 1]; what normalises them is
the model's. It needs nothing but a function from inputs to losses.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from ..files import is_number, is_whole
from ..void import VOID

STARTS = ("random", "centre")
Images = Shaped[Tensor, "batch *shape"]


def fgsm(loss: Callable[[Tensor], Tensor], x: Images, epsilon: Any) -> Images:
    """Fast gradient sign method: `x + epsilon sign(d loss / dx)`, cut to [0, 1].

    One step of `pgd` from the middle of the ball, as long as the ball's radius.
    loss, x, epsilon: see `pgd`, which raises what this raises.
    Source: I. J. Goodfellow, J. Shlens, C. Szegedy, Explaining and Harnessing Adversarial Examples, ICLR 2015.

    >>> x = torch.tensor([[0.5, 0.02]])
    >>> fgsm(lambda x: (x * torch.tensor([1.0, -1.0])).sum(1), x, 0.1).tolist()
    [[0.6000000238418579, 0.0]]
    """
    check_ball(epsilon)
    return x.clone() if epsilon == 0 else pgd(loss, x, epsilon, steps=1, step_size=epsilon, start="centre")


def pgd(loss: Callable[[Tensor], Tensor], x: Images, epsilon: Any, steps: Any = 10,
        step_size: float | int | None = None, start: str = "random",
        generator: torch.Generator | None = None) -> Images:
    """Projected gradient descent: inputs at most `epsilon` away from x, and in [0, 1], on which the loss is high.

    From a start in the ball, so many steps `z <- z + a sign(d loss / dz)`, each cut to the ball and to [0, 1].

    loss: `loss(z)`, a loss for each sample, or their sum; a mean does too, as only signs count.
    x: in [0, 1].  epsilon: radius of the ball, in the inputs' unit; 0 gives x.
    step_size: a; by default `2.5 epsilon / steps`, with which the far side of the ball can be reached from every start.
        That is what the cited source has; Learning Architecture for Multiple Tasks in Transfer Learning, 3.3.2.4, cites
        it and prints "2.5 epsilon", a step that is longer than the ball is wide: every pixel with a gradient then jumps
        from one face of the ball to the other. Say step_size=2.5 * epsilon for that.
    start: "random", uniform in the ball, or "centre", x itself.  generator: of the start (on the CPU); by default
        torch's own.
    Parameters get no gradients. Raises ValueError for a negative or infinite epsilon, for less than one step, a step
    that is not positive, an unknown start, and inputs outside [0, 1].
    Source: A. Madry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu, Towards Deep Learning Models Resistant to
    Adversarial Attacks, ICLR 2018.
    """
    check_ball(epsilon)
    if not is_whole(steps, 1):
        raise ValueError(f"steps={steps!r}: an attack takes a whole number of steps, at least 1.")
    step_size = 2.5 * epsilon / steps if step_size is None else step_size
    if start not in STARTS:
        raise ValueError(f"start={start!r} is not known; an attack starts at 'random' in the ball, or in its 'centre'.")
    if epsilon and not 0 < step_size < float("inf"):
        raise ValueError(f"step_size={step_size!r}: give a positive number, or None for 2.5 epsilon / steps.")
    check_pixels(x)
    low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    z = x.detach()
    if start == "random" and epsilon:
        place = generator.device if generator else x.device
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=place).to(x.device)
        z = (z + epsilon * (2 * noise - 1)).clamp(low, high)
    for _ in range(steps if epsilon else 0):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            slope, = torch.autograd.grad(loss(z).sum(), z)
        z = (z.detach() + step_size * slope.sign()).clamp(low, high)
    return z.detach()


def check_ball(epsilon: Any) -> None:
    """Raise ValueError unless `epsilon` can be a radius."""
    if not is_number(epsilon) or not 0 <= epsilon < float("inf"):
        raise ValueError(f"epsilon={epsilon!r} is the radius of a ball around each input: give a number from 0 "
                         "upwards, such as 2 / 255.")


def check_pixels(x: Tensor) -> None:
    """Raise ValueError for inputs outside [0, 1], where clamping an attack would move what it did not attack."""
    if not x.is_floating_point():
        raise ValueError(f"Attacks move inputs by small real numbers, and these are {x.dtype}: convert with .float().")
    low, high = x.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"Attacks stay in [0, 1], and the inputs run from {low:.4g} to {high:.4g}: scale them to "
                         "[0, 1], and normalise inside the model.")


def pgd_accuracy(logits: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]], epsilon: Any,
                 steps: Any = 10, step_size: float | int | None = None, start: str = "random", seed: int = 0) -> float:
    """Share of samples that are still classified rightly when `pgd` raises their cross-entropy.

    logits: from inputs (batch, ...) to (batch, classes), in evaluation mode.
    batches: pairs of inputs and class targets (batch,); samples without a label (`VOID`) do not count.
    seed: of the starts, so that two models are attacked from the same places.
    NaN without a sample. Raises as `pgd` does.
    Source: that of `pgd`, Towards Deep Learning Models Resistant to Adversarial Attacks, 2018.
    """
    generator = torch.Generator().manual_seed(seed)
    right = total = 0
    for x, y in batches:
        def loss(z: Tensor, y: Tensor = y) -> Tensor:
            return F.cross_entropy(logits(z), y, ignore_index=VOID, reduction="none")

        attacked = pgd(loss, x, epsilon, steps, step_size, start, generator)
        with torch.no_grad():
            right += int((logits(attacked).argmax(1) == y).sum())
        total += int((y != VOID).sum())
    return right / total if total else float("nan")


# --- out of distribution ----------------------------------------------------------------------------------

def from_uniform(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch"]:
    """`KL(U || softmax(z))` of each sample, U uniform over the k classes: `-log k - (1/k) sum_c log softmax(z)_c`.

    0 where nothing is preferred, and not bounded above. Half precision is judged in float32.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, equation 3.2 (a term of its mean).

    >>> from_uniform(torch.tensor([[1.0, 1.0], [0.0, 2.0]]).double()).round(decimals=4).tolist()
    [0.0, 0.4338]
    """
    z = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    return -np.log(z.shape[1]) - F.log_softmax(z, 1).mean(1)


def strangeness(logits: Float[Tensor, "batch classes"]) -> Float64[Tensor, "batch"]:
    """How little a classifier trusts its answer: minus the largest softmax probability; high for what is strange.

    logits: (batch, classes).
    Source: Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
    Networks, 2017.
    """
    return -F.softmax(logits.double(), 1).amax(1)


def aupr(outside: Float64[Tensor, "n"], inside: Float64[Tensor, "m"]) -> float:
    """Area under the precision-recall curve of telling `outside` samples, the positive ones, from `inside` ones.

    outside, inside: scores, high for what is taken to be outside, such as `strangeness`.
    The curve's points are joined by straight lines (trapezoid), from recall 0 with precision 1. That is not
    `average_precision`, which joins them by steps: printed numbers that do not say which cannot be compared. A score
    that tells nothing has the share of outside samples, n / (n + m).
    Raises ValueError without a sample of either kind, and for scores that are no numbers.
    Source: Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
    Networks, 2017, which does not say how points are joined.

    >>> aupr(torch.tensor([0.9, 0.4]).double(), torch.tensor([0.5, 0.1]).double()).__round__(4)
    0.7917
    """
    precision, recall = precision_recall(outside, inside)
    return float(np.trapezoid(precision, recall))


def average_precision(outside: Float64[Tensor, "n"], inside: Float64[Tensor, "m"]) -> float:
    """`sum_i (R_i - R_(i-1)) P_i` over the points of the curve whose area `aupr` takes; arguments as there.

    No source: common, from the retrieval of documents.
    """
    precision, recall = precision_recall(outside, inside)
    return float((np.diff(recall) * precision[1:]).sum())


def precision_recall(outside: Float64[Tensor, "n"], inside: Float64[Tensor, "m"]
                     ) -> tuple[Float64[np.ndarray, "points"], Float64[np.ndarray, "points"]]:
    """Precision and recall of "outside from this score on", one point a distinct score, from (1, 0) on."""
    if not (len(outside) and len(inside)):
        raise ValueError(f"A precision-recall curve needs samples of both kinds; there are {len(outside)} outside and "
                         f"{len(inside)} inside.")
    scores = torch.cat([outside.detach(), inside.detach().to(outside.device)]).cpu().numpy()
    if np.isnan(scores).any():
        raise ValueError("Some scores are NaN, which cannot be put in order.")
    positive = np.arange(len(scores)) < len(outside)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of its score: equal scores are one point
    found = np.cumsum(positive[order])[last]
    called = np.flatnonzero(last) + 1
    return np.append(1.0, found / called), np.append(0.0, found / len(outside))
