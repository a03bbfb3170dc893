"""Measures that are a mean over elements, or a function of a few means. Imports `metrics.base` and `void`."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from ..void import valid_mask
from .base import Elements, MeanError, Metric, Share, decide, require


class Accuracy(Share):
    """Share of labelled elements predicted right; the prediction is the largest logit, or a single one's sign.

    k = 2: hits, labelled elements.
    No source: common.

    >>> metric = Accuracy()
    >>> metric.update(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]), torch.tensor([0, 0, -1]))
    >>> metric.compute()
    0.5
    """

    kind = "classification"

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return decide(prediction) == target, valid_mask(target)


class PixelAccuracy(Accuracy):
    """`Accuracy` under the name it has for dense tasks: the share of labelled pixels predicted right; k = 2.

    No source: common.
    """


class ErrorRate(Accuracy):
    """Share of labelled elements predicted wrong, 1 - accuracy; k = 2: hits, labelled elements.

    No source: common.
    """

    higher_is_better = False

    def value(self, total: Float64[Tensor, "2"]) -> float:
        return 1 - super().value(total)

    def values(self, totals: Float64[Tensor, "many 2"]) -> Float64[Tensor, "many"]:
        return 1 - super().values(totals)


class PixelError(ErrorRate):
    """`ErrorRate` under the name it has for dense tasks: the share of labelled pixels predicted wrong; k = 2.

    No source: common.
    """


class Brier(MeanError):
    """Brier score: half the squared distance of predicted probabilities from the label, in [0, 1]; k = 2: sum, count.

    `1/2 sum_c (p_c - [c = y])^2` with p the softmax of the logits, or the sigmoid of a single one. For two classes that
    is `(p_1 - y)^2`; Brier's own sum, without the half, runs to 2. Lowest in expectation for the true probabilities, as
    cross-entropy is, but bounded, so that a mean over samples can be certified without a clip.
    Source: Brier, Verification of Forecasts Expressed in Terms of Probability, 1950.

    >>> metric = Brier()
    >>> metric.update(torch.tensor([[0.0, 0.0], [-50.0, 50.0]]), torch.tensor([0, 0]))
    >>> metric.compute()
    0.625
    """

    kind = "classification"
    interval = (0.0, 1.0)

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        logits = prediction.double()
        if logits.shape[1] == 1:  # the same as logits 0 and z
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        p, valid = logits.softmax(1), valid_mask(target)
        label = target.long().masked_fill(~valid, 0).unsqueeze(1)
        of_label = p.gather(1, label)
        scores = (p.square().sum(1, keepdim=True) - 2 * of_label + 1).squeeze(1) / 2
        return scores.clamp(0, 1), valid  # rounding can leave the interval


class MSE(MeanError):
    """Mean squared error over all known values, in the square of the target's unit; k = 2: sum, count.

    No source: common.
    """

    interval = (0.0, math.inf)

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return (prediction.double() - target.double()).square(), valid_mask(target)


class RMSE(MSE):
    """Square root of the `MSE`, in the target's unit; k = 2: sum of squares, count.

    No source: common.
    """

    interval = None

    def value(self, total: Float64[Tensor, "2"]) -> float:
        return math.sqrt(super().value(total))

    def values(self, totals: Float64[Tensor, "many 2"]) -> Float64[Tensor, "many"]:
        return super().values(totals).sqrt()


class MAE(MeanError):
    """Mean absolute error over all known values, in the target's unit; k = 2: sum, count.

    No source: common.
    """

    interval = (0.0, math.inf)

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return (prediction.double() - target.double()).abs(), valid_mask(target)


class AbsError(MAE):
    """`MAE` under its name in depth, keypoint and edge benchmarks, "Abs Err"; k = 2: sum, count.

    Zero is a value like any other, as keypoint and edge maps need it; depth that was not measured must
    therefore be NaN in the target.
    Source: Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, 2019, for depth.
    """


class RelError(MeanError):
    """Mean of `|p - t| / t` over pixels of known depth t > 0, a fraction; k = 2: sum, count.

    Depth 0, for which there is no relative error, is read as "not measured", as depth cameras write it.
    Source: Eigen, Puhrsch and Fergus, Depth Map Prediction from a Single Image using a Multi-Scale Deep Network, 2014.
    """

    interval = (0.0, math.inf)

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return (prediction.double() - target.double()).abs() / target.double(), target > 0


class DepthWithin(Share):
    """Share of pixels with `max(p / t, t / p) < 1.25^power`; k = 2: pixels within, pixels of known depth t > 0.

    Depth 0 does not count, as for `RelError`; a prediction p <= 0 is never within.
    Raises ValueError unless power > 0.
    Source: Eigen, Puhrsch and Fergus, Depth Map Prediction from a Single Image using a Multi-Scale Deep Network, 2014,
    with powers 1, 2 and 3.
    """

    def __init__(self, power: int | float = 1):
        require(power > 0, f"DepthWithin needs power > 0, but was given {power}.")
        self.power = power
        super().__init__()

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        p, t, ratio = prediction.double(), target.double(), 1.25**self.power
        return (p < ratio * t) & (t < ratio * p), target > 0


class R2(Metric):
    """Coefficient of determination, `1 - sum (t - p)^2 / sum (t - mean t)^2`, averaged over channels.

    k = 4 * channels: squared errors, targets, squared targets, count. The spread comes from those sums, so
    a target that varies by less than about a millionth of its size is taken as constant, and R2 is NaN.
    Raises ValueError for channels < 1, or predictions with another number of channels.
    No source: common.
    """

    kind = "regression"

    def __init__(self, channels: int = 1):
        require(channels >= 1, f"R2 needs channels >= 1, but was given {channels}.")
        self.channels = channels
        self.k = 4 * channels
        super().__init__()

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        given = prediction.shape[1]
        require(given == self.channels, f"{self!r} was given predictions with {given} channels.")
        known = valid_mask(target)
        t = target.double().masked_fill(~known, 0)
        errors = (prediction.double() - t).masked_fill(~known, 0)
        sums = [x.unsqueeze(-1).flatten(2).sum(2) for x in (errors.square(), t, t.square(), known.double())]
        return torch.cat(sums, dim=1)

    def value(self, total: Float64[Tensor, "k"]) -> float:
        return R2.values(self, total[None]).item()

    def values(self, totals: Float64[Tensor, "many k"]) -> Float64[Tensor, "many"]:
        errors, targets, squares, count = totals.reshape(-1, 4, self.channels).unbind(1)
        spread = squares - targets.square() / count
        spread = spread.masked_fill(spread <= 1e-12 * squares, math.nan)  # all that is left is rounding
        return (1 - errors / spread).mean(1)
