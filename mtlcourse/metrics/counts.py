"""Measures that count: hits per class, and histograms of scores. Imports `metrics.base` and `void`."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from ..void import valid_mask
from .base import Metric, decide, divide, histogram, require


class _PerClass(Metric):
    """Ratios of counts per class: of class 1 if there are two, else the mean over the classes that occur.

    A class occurs if it is labelled or predicted at least once, and its 0 / 0 is 0: these are scikit-learn's
    `average="binary"` and `"macro"` with `zero_division=0`.
    k = 3 * classes: for each class its hits, the elements predicted as it, the elements labelled as it:
    the diagonal and the two margins of the confusion matrix, all that these measures use of it.
    Raises ValueError for classes < 2, or predictions with another number of channels.
    """

    kind = "classification"
    positive_only: ClassVar[bool] = True  # of two classes, judge class 1 alone

    def __init__(self, classes: int = 2):
        require(classes >= 2, f"{type(self).__name__} needs classes >= 2, but was given {classes}.")
        self.classes = classes
        self.k = 3 * classes
        super().__init__()

    @abstractmethod
    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "many classes"]:
        """Each class's measure."""

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        channels = prediction.shape[1]
        require(max(channels, 2) == self.classes, f"{self!r} was given predictions with {channels} channels.")
        decided, valid = decide(prediction), valid_mask(target)
        hits = histogram(decided, decided == target, self.classes)
        return torch.cat([hits, histogram(decided, valid, self.classes), histogram(target, valid, self.classes)], dim=1)

    def value(self, total: Float64[Tensor, "k"]) -> float:
        return _PerClass.values(self, total[None]).item()

    def values(self, totals: Float64[Tensor, "many k"]) -> Float64[Tensor, "many"]:
        hits, predicted, labelled = totals.reshape(-1, 3, self.classes).unbind(1)
        ratios = self.ratios(hits, predicted, labelled)
        if self.classes == 2 and self.positive_only:
            return ratios[:, 1].masked_fill(totals.sum(1) == 0, math.nan)
        occurs = predicted + labelled > 0
        return ratios.masked_fill(~occurs, 0).sum(1) / occurs.sum(1)


class Precision(_PerClass):
    """Of the elements predicted as a class, the share that are of it; k = 3 * classes: hits, predicted, labelled.

    Two classes: for class 1; more: the mean over the classes that occur, as a label or as a prediction.
    A class that was never predicted has precision 0.
    No source: common.
    """

    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "many classes"]:
        return divide(hits, predicted)


class Recall(_PerClass):
    """Of the elements labelled as a class, the share predicted as it; k = 3 * classes: hits, predicted, labelled.

    Two classes: for class 1; more: the mean over the classes that occur, as a label or as a prediction.
    A class that was never labelled has recall 0.
    No source: common.
    """

    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "many classes"]:
        return divide(hits, labelled)


class F1(_PerClass):
    """Harmonic mean of precision and recall, `2 hits / (predicted + labelled)`; k = 3 * classes, as for those.

    Two classes: for class 1, 0 if it never occurs; more: the mean over the classes that occur, as a label
    or as a prediction.
    No source: common.
    """

    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "many classes"]:
        return divide(2 * hits, predicted + labelled)


class MeanIoU(_PerClass):
    """Mean intersection over union, `hits / (predicted + labelled - hits)`; k = 3 * classes, as for `Precision`.

    Pixels of all images are counted together, then averaged over the classes that occur, as a label or as
    a prediction; with two classes over both, background included.
    Source: Everingham et al., The Pascal Visual Object Classes (VOC) Challenge, 2010.
    """

    positive_only = False

    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "many classes"]:
        return divide(hits, predicted + labelled - hits)


class _ScoreHistogram(Metric):
    """Measures over all thresholds of a binary score: the log-odds of class 1, a logit or the difference of two.

    k = 2 * bins: a histogram of the scores of class 0, then one of class 1.
    Raises ValueError for predictions with more than two channels.
    """

    kind = "classification"
    bins: ClassVar[int]

    @abstractmethod
    def place(self, score: Float64[Tensor, "batch *pixels"]) -> Float64[Tensor, "batch *pixels"]:
        """Where a score lies, from 0 at the start of the first bin to 1 at the end of the last."""

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        channels = prediction.shape[1]
        require(channels <= 2, f"{self!r} is for binary tasks, one logit or two, but was given {channels} channels.")
        score = prediction.double().diff(dim=1).squeeze(1) if channels == 2 else prediction.double().squeeze(1)
        cells = (self.place(score) * self.bins).nan_to_num().long().clamp(0, self.bins - 1)
        return histogram(cells + self.bins * target.long(), valid_mask(target), self.k)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """As everywhere, but with the batch as the elements of one sample: one histogram for all, not one for each."""
        self.check(prediction, target)
        super().update(prediction.transpose(0, 1).unsqueeze(0), target.unsqueeze(0))


class AUC(_ScoreHistogram):
    """Probability that an element of class 1 is scored above one of class 0: the area under the ROC curve.

    k = 2000: scores of either class in 1000 bins, even in the arctangent of the log-odds, so that they are
    0.003 wide at log-odds 0, 0.08 at 5, and never end. A pair in one bin counts half, as ties do: the exact
    area is at most half the share of such pairs away.
    Binary tasks only; NaN unless both classes are there.
    Source: Hanley and McNeil, The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve,
    1982; the bins are ours.

    >>> metric = AUC()
    >>> metric.update(torch.tensor([[0.1], [0.9], [0.5], [-2.0]]), torch.tensor([0, 1, 0, 1]))
    >>> metric.compute()
    0.5
    """

    bins = 1000
    k = 2 * bins

    def place(self, score: Float64[Tensor, "batch *pixels"]) -> Float64[Tensor, "batch *pixels"]:
        return 0.5 + score.atan() / math.pi

    def value(self, total: Float64[Tensor, "k"]) -> float:
        negatives, positives = total.reshape(2, self.bins)
        below = negatives.cumsum(0) - negatives / 2
        return ((positives * below).sum() / (positives.sum() * negatives.sum())).item()


class MaxF(_ScoreHistogram):
    """Largest F-measure, `(1 + b) P R / (b P + R)`, over the thresholds j / 256 on the probability of class 1.

    P and R are precision and recall, "positive" being a probability of at least the threshold, j = 0 ... 255,
    of all elements together (some saliency code averages P and R over images first); 0 / 0 is 0.
    beta_squared: b, the weight of recall; 0.3 is usual for saliency, 1 gives the largest F1.
    k = 512: scores of either class in 256 bins of probability.
    Binary tasks only. Raises ValueError unless beta_squared > 0.
    Source: Achanta et al., Frequency-tuned Salient Region Detection, 2009, for the measure and 0.3.
    """

    bins = 256
    k = 2 * bins

    def __init__(self, beta_squared: int | float = 0.3):
        require(beta_squared > 0, f"MaxF needs beta_squared > 0, but was given {beta_squared}.")
        self.beta_squared = beta_squared
        super().__init__()

    def place(self, score: Float64[Tensor, "batch *pixels"]) -> Float64[Tensor, "batch *pixels"]:
        return score.sigmoid()

    def value(self, total: Float64[Tensor, "k"]) -> float:
        if total.sum() == 0:
            return math.nan
        # Counts at or above each threshold, the highest first; the last hits are all of class 1.
        false_alarms, hits = total.reshape(2, self.bins).flip(1).cumsum(1)
        b = self.beta_squared
        return divide((1 + b) * hits, hits + false_alarms + b * hits[-1]).max().item()
