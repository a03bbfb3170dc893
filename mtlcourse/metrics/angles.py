"""Angles between predicted and true directions, for surface normals. Imports `metrics.base` and `void`."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..void import valid_mask
from .base import Elements, MeanError, Metric, Share, divide, histogram, require


class MeanAngle(MeanError):
    """Mean angle between predicted and true direction, in degrees; k = 2: sum, count.

    Directions lie along the channel axis, lengths do not matter. A pixel counts if none of its channels is
    NaN. A vector of length zero has no direction: its angle is taken as 90 degrees.
    Source: Fouhey, Gupta and Hebert, Data-Driven 3D Primitives for Single Image Understanding, 2013.
    """

    interval = (0.0, 180.0)

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return angles_between(prediction, target), valid_mask(target).all(1)


class RMSEAngle(MeanAngle):
    """Root of the mean squared angle, in degrees, with the conventions of `MeanAngle`; k = 2: sum of squares, count.

    Source: that of `MeanAngle`, Data-Driven 3D Primitives for Single Image Understanding.
    """

    interval = None

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        angles, valid = super().elements(prediction, target)
        return angles.square(), valid

    def value(self, total: Float64[Tensor, "2"]) -> float:
        return math.sqrt(super().value(total))

    def values(self, totals: Float64[Tensor, "many 2"]) -> Float64[Tensor, "many"]:
        return super().values(totals).sqrt()


class AngleWithin(Share):
    """Share of pixels whose angle is below `degrees`, with the conventions of `MeanAngle`; k = 2: within, count.

    Raises ValueError unless 0 < degrees <= 180.
    Source: Fouhey, Gupta and Hebert, Data-Driven 3D Primitives for Single Image Understanding, 2013,
    with 11.25, 22.5 and 30 degrees.
    """

    def __init__(self, degrees: int | float):
        require(0 < degrees <= 180, f"AngleWithin needs 0 < degrees <= 180, but was given {degrees}.")
        self.degrees = degrees
        super().__init__()

    def elements(self, prediction: Tensor, target: Tensor) -> Elements:
        return angles_between(prediction, target) < self.degrees, valid_mask(target).all(1)


class MedianAngle(Metric):
    """Median angle between predicted and true direction, in degrees, with the conventions of `MeanAngle`.

    k = 1800: a histogram with bins 0.1 degrees wide. Within a bin the angles are taken as evenly spread, so
    the value is at most 0.1 degrees off, and far less where many pixels share the bin.
    Source: Fouhey, Gupta and Hebert, Data-Driven 3D Primitives for Single Image Understanding, 2013;
    the histogram is ours.
    """

    kind = "regression"
    higher_is_better = False
    k = 1800
    width: ClassVar[float] = 180 / k

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch k"]:
        cells = (angles_between(prediction, target) / self.width).nan_to_num().long().clamp(0, self.k - 1)
        return histogram(cells, valid_mask(target).all(1), self.k)

    def value(self, total: Float64[Tensor, "k"]) -> float:
        reached = total.cumsum(0)
        half = reached[-1:] / 2
        if not half > 0:
            return math.nan
        # The bins of the lower and the upper median: one and the same, unless exactly half lies below a gap.
        cells = torch.cat([torch.searchsorted(reached, half), torch.searchsorted(reached, half, right=True)])
        inside = (half - reached[cells] + total[cells]) / total[cells]
        return (self.width * (cells + inside)).mean().item()


def angles_between(
    prediction: Float[Tensor, "batch channels *pixels"], target: Float[Tensor, "batch channels *pixels"]
) -> Float64[Tensor, "batch *pixels"]:
    """Angle between two vectors, in degrees; 90 if one of them has length zero, NaN if one is unknown."""
    p, t = prediction.double(), target.double()
    lengths = p.square().sum(1).sqrt() * t.square().sum(1).sqrt()
    return divide((p * t).sum(1), lengths).clamp(-1, 1).acos().rad2deg()
