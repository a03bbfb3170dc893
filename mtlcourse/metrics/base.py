"""What every measure is: a row of numbers for each sample, and a value of their sum. Imports `void`."""

import math
import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, Integer, Shaped
from torch import Tensor

Elements = tuple[Shaped[Tensor, "batch *elements"], Bool[Tensor, "batch *elements"]]


RESOLUTION = 16 * sys.float_info.epsilon  # a few roundings: 3.6e-15 of a number


def without_rounding(difference: Any, size: Any) -> Any:
    """A difference of numbers as large as `size`, with 0 in place of what is no more than their rounding.

    For everything that asks on which side of zero a difference lies: 0.1 + 0.2 and 0.3 are equal. Numbers or arrays.
    No source: ours.

    >>> float(without_rounding(0.1 + 0.2 - 0.3, 0.3)), float(without_rounding(0.31 - 0.3, 0.3)) > 0
    (0.0, True)
    """
    return np.where(np.abs(difference) < RESOLUTION * np.abs(size), 0.0, difference)[()]


def relative_change(value: int | float, baseline: int | float, higher_is_better: bool) -> float:
    """How much better `value` is than `baseline`, as a fraction of the baseline; positive is better.

    `(-1)^p (M - STL) / |STL|`, with M the value, STL the baseline, and p = 1 where lower is better: one
    term of Delta_I. NaN when the baseline is 0, since nothing is a fraction of it; 0 when the two differ by
    rounding only.
    Source: Deep Safe Multi-Task Learning, section 7.1. The paper divides by STL itself. For its own measures,
    all positive, that is the same; where a measure can be negative, as R2 can, the absolute value keeps the
    sign right.

    >>> relative_change(0.75, 0.5, higher_is_better=True), relative_change(0.75, 0.5, higher_is_better=False)
    (0.5, -0.5)
    """
    if baseline == 0:
        return math.nan
    difference = float(without_rounding(value - baseline, max(abs(value), abs(baseline))))
    return (1 if higher_is_better else -1) * difference / abs(baseline)


class Metric(ABC):
    """One measure of one task: collects sums over samples with `update`, tells its value with `compute`.

    A new measure names its `kind` and `k`, and implements `rows` and `value`.

    kind: "classification" (integer targets) or "regression" (real ones), as of the task.
    higher_is_better: which way improvement goes.
    interval: where one sample's own value lies, for measures whose value is the mean over elements: rows are (sum,
        count), and the value is a linear function of sum / count; an end may be infinite. None for all others: ratios,
        roots, medians, of which the mean over samples is another number. Certificates rely on it.
    k: how many numbers a sample contributes.
    total: their sums over all samples seen, float64, on the device of the predictions.
    """

    kind: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    interval: ClassVar[tuple[float, float] | None] = None
    k: int
    total: Float64[Tensor, "k"]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "value" in vars(cls) and "values" not in vars(cls):  # or those of another measure would be inherited
            cls.values = Metric.values

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        """`statistics` of a prediction and a target that are known to fit each other."""

    @abstractmethod
    def value(self, total: Float64[Tensor, "k"]) -> float:
        """The measure of the samples whose statistics add up to `total`; NaN where it is not defined."""

    def values(self, totals: Float64[Tensor, "many k"]) -> Float64[Tensor, "many"]:
        """`value` of each of many totals, as resampling asks for thousands: one by one, unless one knows better."""
        return torch.tensor([self.value(total) for total in totals], dtype=torch.float64)

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
        self.check(prediction, target)
        prediction = prediction.detach()
        broken = prediction.isnan().flatten(1).any(1, keepdim=True)
        return self.rows(prediction, target).masked_fill(broken, math.nan)

    def check(self, prediction: Tensor, target: Tensor) -> None:
        """Raise as `statistics` does, unless the two fit this measure and each other."""
        real = self.kind == "regression"
        if target.is_floating_point() != real:
            raise TypeError(f"{self!r} needs {'real' if real else 'integer'} targets, but was given {target.dtype}.")
        expected = prediction.shape if real else prediction.shape[:1] + prediction.shape[2:]
        require(target.shape == expected, f"{self!r}: a prediction of shape {tuple(prediction.shape)} goes with a "
                                           f"target of shape {tuple(expected)}, but was given {tuple(target.shape)}.")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch; arguments and errors are those of `statistics`."""
        self.add(self.statistics(prediction, target))

    def add(self, rows: Float64[Tensor, "batch k"]) -> None:
        """Add samples whose `statistics` are known."""
        self.total = self.total.to(rows.device) + rows.sum(0)

    def compute(self) -> float:
        """The measure of everything since the last `reset`; NaN before any labelled element."""
        return self.value(self.total.cpu())

    def merge(self, other: "Metric") -> None:
        """Add what `other` has collected. Raises ValueError unless it is the same measure with the same options."""
        same = type(self) is type(other) and self._options() == other._options()
        require(same, f"Cannot merge {other!r} into {self!r}: both must be the same measure with the same options.")
        self.total = self.total + other.total.to(self.total.device)

    def reset(self) -> None:
        """Forget all samples."""
        self.total = torch.zeros(self.k, dtype=torch.float64)

    def _options(self) -> dict:
        return {name: option for name, option in vars(self).items() if name not in ("k", "total")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={option}' for name, option in self._options().items())})"


class Mean(Metric):
    """Mean of one number an element; k = 2: the sum of the numbers, how many they are."""

    kind = "regression"
    k = 2

    @abstractmethod
    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        """The number of each element, and whether it counts."""

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch 2"]:
        numbers, counts = self.elements(prediction, target)
        numbers = numbers.double().masked_fill(~counts, 0)
        return torch.stack([per_sample(numbers).sum(1), per_sample(counts).sum(1).double()], dim=1)

    def value(self, total: Float64[Tensor, "2"]) -> float:
        return (total[0] / total[1]).item()

    def values(self, totals: Float64[Tensor, "many 2"]) -> Float64[Tensor, "many"]:
        return totals[:, 0] / totals[:, 1]


class MeanError(Mean):
    """A mean that is better when lower."""

    higher_is_better = False


class Share(Mean):
    """Share of the elements that have a property: `elements` gives booleans; k = 2: how many have it, how many are."""

    interval = (0.0, 1.0)


def divide(part: Float64[Tensor, "*shape"], whole: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """`part / whole`, where 0 / 0 is 0."""
    return part / whole.masked_fill(whole == 0, 1)


def histogram(
    cells: Integer[Tensor, "batch *pixels"], counted: Bool[Tensor, "batch *pixels"], k: int
) -> Float64[Tensor, "batch k"]:
    """How many counted elements of each sample fall into each of k cells."""
    cells, counted = per_sample(cells.long().masked_fill(~counted, 0)), per_sample(counted).double()
    return torch.zeros(len(cells), k, dtype=torch.float64, device=cells.device).scatter_add_(1, cells, counted)


def per_sample(elements: Shaped[Tensor, "batch *pixels"]) -> Shaped[Tensor, "batch elements"]:
    return elements.unsqueeze(-1).flatten(1)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def decide(prediction: Float[Tensor, "batch channels *pixels"]) -> Int64[Tensor, "batch *pixels"]:
    """The predicted class: the largest of several logits, or whether a single one is positive."""
    if prediction.shape[1] == 1:
        return (prediction.squeeze(1) > 0).long()
    return prediction.max(1).indices  # on a CPU about six times as fast as argmax over the channels of an image
