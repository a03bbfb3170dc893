"""How good predictions are: the per-task measures, as sums over samples.

Ground floor: imports `void` only. A measure is split in two: `statistics` turns each sample into a row
of k numbers, and `value` turns the *sum* of rows into the measure. Because only sums are needed, batches
and processes can be merged, and a certificate can resample rows instead of images.

Every labelled element (a sample, or a pixel of a dense task) counts the same; `VOID` and NaN targets do
not count. Values are fractions in [0, 1], degrees, or in the target's unit, never percent. A measure of
nothing, and one that is not defined (AUC without a positive label, say), is NaN.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float64, Int64, Integer, Shaped
from torch import Tensor

from .void import valid_mask

__all__ = [
    "AUC", "F1", "MAE", "MSE", "R2", "RMSE", "AbsError", "Accuracy", "AngleWithin", "DepthWithin", "MaxF", "MeanAngle",
    "MeanIoU", "MedianAngle", "Metric", "PixelAccuracy", "PixelError", "Precision", "RMSEAngle", "Recall", "RelError",
    "relative_change",
]

Elements = tuple[Shaped[Tensor, "batch *elements"], Bool[Tensor, "batch *elements"]]


def relative_change(value: int | float, baseline: int | float, higher_is_better: bool) -> float:
    """How much better `value` is than `baseline`, as a fraction of the baseline; positive is better.

    `(-1)^p (M - STL) / |STL|`, with M the value, STL the baseline, and p = 1 where lower is better: one
    term of Delta_I (Deep Safe Multi-Task Learning, section 7.1). The paper divides by STL itself. For its
    own measures, all positive, that is the same; where a measure can be negative, as R2 can, the absolute
    value keeps the sign right. NaN when the baseline is 0, since nothing is a fraction of it.

    >>> relative_change(0.75, 0.5, higher_is_better=True), relative_change(0.75, 0.5, higher_is_better=False)
    (0.5, -0.5)
    """
    if baseline == 0:
        return math.nan
    return (1 if higher_is_better else -1) * (value - baseline) / abs(baseline)


class Metric(ABC):
    """One measure of one task: collects sums over samples with `update`, tells its value with `compute`.

    A new measure names its `kind` and `k`, and implements `rows` and `value`.

    kind: "classification" (integer targets) or "regression" (real ones), as of the task.
    higher_is_better: which way improvement goes.
    k: how many numbers a sample contributes.
    total: their sums over all samples seen, float64, on the device of the predictions.
    """

    kind: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    k: int
    total: Float64[Tensor, "k"]

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        """`statistics` of a prediction and a target that are known to fit each other."""

    @abstractmethod
    def value(self, total: Float64[Tensor, "k"]) -> float:
        """The measure of the samples whose statistics add up to `total`; NaN where it is not defined."""

    def statistics(
        self, prediction: Float[Tensor, "batch channels *pixels"], target: Shaped[Tensor, "batch *rest"]
    ) -> Float64[Tensor, "batch k"]:
        """One row of k additive numbers for each sample.

        prediction: logits or values.  target: classes, without channel axis, or real values of the
            prediction's shape.
        A sample with NaN anywhere in its prediction has a row of NaN: a broken model has no value, and is
        not taken for one that is merely bad.
        Raises TypeError for targets of the other kind, ValueError for shapes that do not fit.
        """
        real = self.kind == "regression"
        if target.is_floating_point() != real:
            raise TypeError(f"{self!r} needs {'real' if real else 'integer'} targets, but was given {target.dtype}.")
        expected = prediction.shape if real else prediction.shape[:1] + prediction.shape[2:]
        _require(target.shape == expected, f"{self!r}: a prediction of shape {tuple(prediction.shape)} goes with a "
                                           f"target of shape {tuple(expected)}, but was given {tuple(target.shape)}.")
        prediction = prediction.detach()
        broken = prediction.isnan().flatten(1).any(1, keepdim=True)
        return self.rows(prediction, target).masked_fill(broken, math.nan)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch; arguments and errors are those of `statistics`."""
        batch = self.statistics(prediction, target).sum(0)
        self.total = self.total.to(batch.device) + batch

    def compute(self) -> float:
        """The measure of everything since the last `reset`; NaN before any labelled element."""
        return self.value(self.total.cpu())

    def merge(self, other: "Metric") -> None:
        """Add what `other` has collected. Raises ValueError unless it is the same measure with the same options."""
        same = type(self) is type(other) and self._options() == other._options()
        _require(same, f"Cannot merge {other!r} into {self!r}: both must be the same measure with the same options.")
        self.total = self.total + other.total.to(self.total.device)

    def reset(self) -> None:
        """Forget all samples."""
        self.total = torch.zeros(self.k, dtype=torch.float64)

    def _options(self) -> dict:
        return {name: option for name, option in vars(self).items() if name not in ("k", "total")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={option}' for name, option in self._options().items())})"


class _Mean(Metric):
    """Mean of one number an element; k = 2: the sum of the numbers, how many they are."""

    kind = "regression"
    k = 2

    @abstractmethod
    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        """The number of each element, and whether it counts."""

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch 2"]:
        numbers, counts = self.elements(prediction, target)
        numbers = numbers.double().masked_fill(~counts, 0)
        return torch.stack([_per_sample(numbers).sum(1), _per_sample(counts).sum(1).double()], dim=1)

    def value(self, total: Float64[Tensor, "2"]) -> float:
        return (total[0] / total[1]).item()


class _MeanError(_Mean):
    """A mean that is better when lower."""

    higher_is_better = False


class Accuracy(_Mean):
    """Share of labelled elements predicted right; the prediction is the largest logit, or a single one's sign.

    k = 2: hits, labelled elements.

    >>> metric = Accuracy()
    >>> metric.update(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]), torch.tensor([0, 0, -1]))
    >>> metric.compute()
    0.5
    """

    kind = "classification"

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return _decide(prediction) == target, valid_mask(target)


class PixelAccuracy(Accuracy):
    """`Accuracy` under the name it has for dense tasks: the share of labelled pixels predicted right; k = 2."""


class PixelError(Accuracy):
    """Share of labelled pixels predicted wrong, 1 - pixel accuracy; k = 2: hits, labelled pixels."""

    higher_is_better = False

    def value(self, total: Float64[Tensor, "2"]) -> float:
        return 1 - super().value(total)


class MSE(_MeanError):
    """Mean squared error over all known values, in the square of the target's unit; k = 2: sum, count."""

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return (prediction.double() - target.double()).square(), valid_mask(target)


class RMSE(MSE):
    """Square root of the `MSE`, in the target's unit; k = 2: sum of squares, count."""

    def value(self, total: Float64[Tensor, "2"]) -> float:
        return math.sqrt(super().value(total))


class MAE(_MeanError):
    """Mean absolute error over all known values, in the target's unit; k = 2: sum, count."""

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return (prediction.double() - target.double()).abs(), valid_mask(target)


class AbsError(MAE):
    """`MAE` under its name in depth, keypoint and edge benchmarks, "Abs Err"; k = 2: sum, count.

    Zero is a value like any other, as keypoint and edge maps need it; depth that was not measured must
    therefore be NaN in the target.
    """


class RelError(_MeanError):
    """Mean of `|p - t| / t` over pixels of known depth t > 0, a fraction; k = 2: sum, count.

    Depth 0, for which there is no relative error, is read as "not measured", as depth cameras write it.
    """

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return (prediction.double() - target.double()).abs() / target.double(), target > 0


class DepthWithin(_Mean):
    """Share of pixels with `max(p / t, t / p) < 1.25^power`; k = 2: pixels within, pixels of known depth t > 0.

    Depth 0 does not count, as for `RelError`; a prediction p <= 0 is never within.
    Raises ValueError unless power > 0.
    """

    def __init__(self, power: int | float = 1):
        _require(power > 0, f"DepthWithin needs power > 0, but was given {power}.")
        self.power = power
        super().__init__()

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        p, t, ratio = prediction.double(), target.double(), 1.25**self.power
        return (p < ratio * t) & (t < ratio * p), target > 0


class MeanAngle(_MeanError):
    """Mean angle between predicted and true direction, in degrees; k = 2: sum, count.

    Directions lie along the channel axis, lengths do not matter. A pixel counts if none of its channels is
    NaN. A vector of length zero has no direction: its angle is taken as 90 degrees.
    """

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return _angles(prediction, target), valid_mask(target).all(1)


class RMSEAngle(MeanAngle):
    """Root of the mean squared angle, in degrees, with the conventions of `MeanAngle`; k = 2: sum of squares, count."""

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        angles, valid = super().elements(prediction, target)
        return angles.square(), valid

    def value(self, total: Float64[Tensor, "2"]) -> float:
        return math.sqrt(super().value(total))


class AngleWithin(_Mean):
    """Share of pixels whose angle is below `degrees`, with the conventions of `MeanAngle`; k = 2: within, count.

    Raises ValueError unless 0 < degrees <= 180.
    """

    def __init__(self, degrees: int | float):
        _require(0 < degrees <= 180, f"AngleWithin needs 0 < degrees <= 180, but was given {degrees}.")
        self.degrees = degrees
        super().__init__()

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return _angles(prediction, target) < self.degrees, valid_mask(target).all(1)


class MedianAngle(Metric):
    """Median angle between predicted and true direction, in degrees, with the conventions of `MeanAngle`.

    k = 1800: a histogram with bins 0.1 degrees wide. Within a bin the angles are taken as evenly spread, so
    the value is at most 0.1 degrees off, and far less where many pixels share the bin.
    """

    kind = "regression"
    higher_is_better = False
    k = 1800
    width: ClassVar[float] = 180 / k

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        cells = (_angles(prediction, target) / self.width).nan_to_num().long().clamp(0, self.k - 1)
        return _count(cells, valid_mask(target).all(1), self.k)

    def value(self, total: Float64[Tensor, "k"]) -> float:
        reached = total.cumsum(0)
        half = reached[-1:] / 2
        if not half > 0:
            return math.nan
        # The bins of the lower and the upper median: one and the same, unless exactly half lies below a gap.
        cells = torch.cat([torch.searchsorted(reached, half), torch.searchsorted(reached, half, right=True)])
        inside = (half - reached[cells] + total[cells]) / total[cells]
        return (self.width * (cells + inside)).mean().item()


class R2(Metric):
    """Coefficient of determination, `1 - sum (t - p)^2 / sum (t - mean t)^2`, averaged over channels.

    k = 4 * channels: squared errors, targets, squared targets, count. The spread comes from those sums, so
    a target that varies by less than about a millionth of its size is taken as constant, and R2 is NaN.
    Raises ValueError for channels < 1, or predictions with another number of channels.
    """

    kind = "regression"

    def __init__(self, channels: int = 1):
        _require(channels >= 1, f"R2 needs channels >= 1, but was given {channels}.")
        self.channels = channels
        self.k = 4 * channels
        super().__init__()

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        given = prediction.shape[1]
        _require(given == self.channels, f"{self!r} was given predictions with {given} channels.")
        known = valid_mask(target)
        t = target.double().masked_fill(~known, 0)
        errors = (prediction.double() - t).masked_fill(~known, 0)
        sums = [x.unsqueeze(-1).flatten(2).sum(2) for x in (errors.square(), t, t.square(), known.double())]
        return torch.cat(sums, dim=1)

    def value(self, total: Float64[Tensor, "k"]) -> float:
        errors, targets, squares, count = total.reshape(4, self.channels)
        spread = squares - targets.square() / count
        spread = spread.masked_fill(spread <= 1e-12 * squares, math.nan)  # all that is left is rounding
        return (1 - errors / spread).mean().item()


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
        _require(classes >= 2, f"{type(self).__name__} needs classes >= 2, but was given {classes}.")
        self.classes = classes
        self.k = 3 * classes
        super().__init__()

    @abstractmethod
    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "classes"]:
        """Each class's measure."""

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        channels = prediction.shape[1]
        _require(max(channels, 2) == self.classes, f"{self!r} was given predictions with {channels} channels.")
        decided, valid = _decide(prediction), valid_mask(target)
        hits = _count(decided, valid & (decided == target), self.classes)
        return torch.cat([hits, _count(decided, valid, self.classes), _count(target, valid, self.classes)], dim=1)

    def value(self, total: Float64[Tensor, "k"]) -> float:
        hits, predicted, labelled = total.reshape(3, self.classes)
        ratios = self.ratios(hits, predicted, labelled)
        if self.classes == 2 and self.positive_only:
            return ratios[1].item() if total.sum() != 0 else math.nan
        return ratios[predicted + labelled > 0].mean().item()


class Precision(_PerClass):
    """Of the elements predicted as a class, the share that are of it; k = 3 * classes: hits, predicted, labelled.

    Two classes: for class 1; more: the mean over the classes that occur, as a label or as a prediction.
    A class that was never predicted has precision 0.
    """

    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "classes"]:
        return _ratio(hits, predicted)


class Recall(_PerClass):
    """Of the elements labelled as a class, the share predicted as it; k = 3 * classes: hits, predicted, labelled.

    Two classes: for class 1; more: the mean over the classes that occur, as a label or as a prediction.
    A class that was never labelled has recall 0.
    """

    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "classes"]:
        return _ratio(hits, labelled)


class F1(_PerClass):
    """Harmonic mean of precision and recall, `2 hits / (predicted + labelled)`; k = 3 * classes, as for those.

    Two classes: for class 1, 0 if it never occurs; more: the mean over the classes that occur, as a label
    or as a prediction.
    """

    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "classes"]:
        return _ratio(2 * hits, predicted + labelled)


class MeanIoU(_PerClass):
    """Mean intersection over union, `hits / (predicted + labelled - hits)`; k = 3 * classes, as for `Precision`.

    Pixels of all images are counted together, then averaged over the classes that occur, as a label or as
    a prediction; with two classes over both, background included.
    """

    positive_only = False

    def ratios(self, hits: Tensor, predicted: Tensor, labelled: Tensor) -> Float64[Tensor, "classes"]:
        return _ratio(hits, predicted + labelled - hits)


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
        _require(channels <= 2, f"{self!r} is for binary tasks, one logit or two, but was given {channels} channels.")
        score = prediction.double().diff(dim=1).squeeze(1) if channels == 2 else prediction.double().squeeze(1)
        cells = (self.place(score) * self.bins).nan_to_num().long().clamp(0, self.bins - 1)
        return _count(cells + self.bins * target.long(), valid_mask(target), self.k)


class AUC(_ScoreHistogram):
    """Probability that an element of class 1 is scored above one of class 0: the area under the ROC curve.

    k = 2000: scores of either class in 1000 bins, even in the arctangent of the log-odds, so that they are
    0.003 wide at log-odds 0, 0.08 at 5, and never end. A pair in one bin counts half, as ties do: the exact
    area is at most half the share of such pairs away.
    Binary tasks only; NaN unless both classes are there.

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
    """

    bins = 256
    k = 2 * bins

    def __init__(self, beta_squared: int | float = 0.3):
        _require(beta_squared > 0, f"MaxF needs beta_squared > 0, but was given {beta_squared}.")
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
        return _ratio((1 + b) * hits, hits + false_alarms + b * hits[-1]).max().item()


def _decide(prediction: Float[Tensor, "batch channels *pixels"]) -> Int64[Tensor, "batch *pixels"]:
    """The predicted class: the largest of several logits, or whether a single one is positive."""
    return prediction.argmax(1) if prediction.shape[1] > 1 else (prediction.squeeze(1) > 0).long()


def _angles(
    prediction: Float[Tensor, "batch channels *pixels"], target: Float[Tensor, "batch channels *pixels"]
) -> Float64[Tensor, "batch *pixels"]:
    """Angle between two vectors, in degrees; 90 if one of them has length zero, NaN if one is unknown."""
    p, t = prediction.double(), target.double()
    lengths = p.square().sum(1).sqrt() * t.square().sum(1).sqrt()
    return _ratio((p * t).sum(1), lengths).clamp(-1, 1).acos().rad2deg()


def _ratio(part: Float64[Tensor, "*shape"], whole: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """`part / whole`, where 0 / 0 is 0."""
    return part / whole.masked_fill(whole == 0, 1)


def _count(
    cells: Integer[Tensor, "batch *pixels"], counted: Bool[Tensor, "batch *pixels"], k: int
) -> Float64[Tensor, "batch k"]:
    """How many counted elements of each sample fall into each of k cells."""
    cells, counted = _per_sample(cells.long().masked_fill(~counted, 0)), _per_sample(counted).double()
    return torch.zeros(len(cells), k, dtype=torch.float64, device=cells.device).scatter_add_(1, cells, counted)


def _per_sample(elements: Shaped[Tensor, "batch *pixels"]) -> Shaped[Tensor, "batch elements"]:
    return elements.unsqueeze(-1).flatten(1)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
