"""How good predictions are: the per-task measures, as sums over samples.

Ground floor: the folder imports `void` only. A measure is split in two: `statistics` turns each sample into a row
of k numbers, and `value` turns the *sum* of rows into the measure. Because only sums are needed, batches
and processes can be merged, and a certificate can resample rows instead of images.

Every labelled element (a sample, or a pixel of a dense task) counts the same; `VOID` and NaN targets do
not count. Values are fractions in [0, 1], degrees, or in the target's unit, never percent. A measure of
nothing, and one that is not defined (AUC without a positive label, say), is NaN. What no sum over samples can say,
such as the accuracy under an attack, is a `Probe` of the whole model; `robustness` has what such probes are made of.
"""

from .angles import AngleWithin, MeanAngle, MedianAngle, RMSEAngle
from .base import RESOLUTION, Metric, Share, relative_change, without_rounding
from .chunks import ChunkF1
from .counts import AUC, F1, MaxF, MeanIoU, Precision, Recall
from .means import (
    MAE,
    MSE,
    R2,
    RMSE,
    AbsError,
    Accuracy,
    Brier,
    DepthWithin,
    ErrorRate,
    PixelAccuracy,
    PixelError,
    RelError,
)
from .probes import Probe
from .robustness import aupr, average_precision, fgsm, from_uniform, pgd, pgd_accuracy, strangeness

__all__ = [
    "AUC", "F1", "MAE", "MSE", "R2", "RESOLUTION", "RMSE", "AbsError", "Accuracy", "AngleWithin", "Brier", "ChunkF1",
    "DepthWithin", "ErrorRate", "MaxF", "MeanAngle", "MeanIoU", "MedianAngle", "Metric", "PixelAccuracy", "PixelError",
    "Precision", "Probe", "RMSEAngle", "Recall", "RelError", "Share", "aupr", "average_precision", "fgsm",
    "from_uniform", "pgd", "pgd_accuracy", "relative_change", "strangeness", "without_rounding",
]
