"""Tasks of the usual kinds: the loss and the measures that the field uses for each.

Imports `files`, `losses`, `metrics` and `tasks`. Each function returns a `Task`; a task of another kind is written
with `Task(...)` itself.
"""

from collections.abc import Callable, Sequence
from functools import partial

from .. import losses, metrics
from ..files import unknown
from ..tasks import Task

Measures = dict[str, Callable[[], metrics.Metric]]


def classification(name: str, classes: int, dense: bool = False) -> Task:
    """One of several classes for a sample, or for each pixel if `dense`: cross-entropy; accuracy.

    Raises ValueError for fewer than two classes.

    >>> task = classification("digit", 10)
    >>> task.out_channels, list(task.metrics)
    (10, ['accuracy'])
    """
    if classes < 2:
        raise ValueError(f"Task {name!r} has classes={classes}; give at least 2, or use binary({name!r}).")
    return Task(name, losses.cross_entropy, {"accuracy": metrics.Accuracy}, classes, dense)


def binary(name: str, dense: bool = False, measures: Sequence[str] = ("accuracy", "f1")) -> Task:
    """Yes or no, from one logit: binary cross-entropy; accuracy and the F1 of yes.

    measures: which ones, of "accuracy", "auc", and of yes "precision", "recall" and "f1". Where yes is rare, accuracy
        says little: always no has 0.9 of it where one in ten is yes, a recall of 0, and an AUC of 0.5.
    Raises ValueError for others, and for none.

    >>> list(binary("cat", measures=("auc", "recall")).metrics)
    ['auc', 'recall']
    """
    known: Measures = {"accuracy": metrics.Accuracy, "auc": metrics.AUC, "precision": metrics.Precision,
                       "recall": metrics.Recall, "f1": metrics.F1}
    return Task(name, losses.binary_cross_entropy, _chosen(name, measures, known), 1, dense)


def regression(name: str, channels: int = 1, measures: Sequence[str] = ("mse", "r2")) -> Task:
    """So many real numbers a sample, targets (samples, channels): mean squared error; the same and R2.

    measures: which ones, of "mse", "rmse", "mae" and "r2".
    Raises ValueError for others, and for none.
    """
    known: Measures = {"mse": metrics.MSE, "rmse": metrics.RMSE, "mae": metrics.MAE,
                       "r2": partial(metrics.R2, channels)}
    return Task(name, losses.mse, _chosen(name, measures, known), channels, kind="regression")


def segmentation(name: str, classes: int) -> Task:
    """A class for each pixel, targets (samples, height, width): cross-entropy; mIoU and pixel accuracy."""
    measures: Measures = {"miou": partial(metrics.MeanIoU, classes), "pixel_accuracy": metrics.PixelAccuracy}
    return Task(name, losses.cross_entropy, measures, classes, dense=True)


def tagging(name: str, tags: Sequence[str], scheme: str = "plain") -> Task:
    """One of several tags for each place of a sentence, targets (samples, places): cross-entropy; accuracy, `chunk_f1`.

    tags, scheme: as of `metrics.ChunkF1`, with its errors.

    >>> task = tagging("names", ["O", "B-PER", "I-PER"], "bio")
    >>> task.out_channels, list(task.metrics)
    (3, ['accuracy', 'chunk_f1'])
    """
    metrics.ChunkF1(tags, scheme)  # refuses what are no tags of it
    measures: Measures = {"accuracy": metrics.Accuracy, "chunk_f1": partial(metrics.ChunkF1, tuple(tags), scheme)}
    return Task(name, losses.cross_entropy, measures, len(tags), dense=True)


def depth(name: str) -> Task:
    """A distance for each pixel, targets (samples, 1, height, width): L1; mean absolute and relative error."""
    measures: Measures = {"abs_error": metrics.AbsError, "rel_error": metrics.RelError}
    return Task(name, losses.l1, measures, 1, dense=True, kind="regression")


def normals(name: str) -> Task:
    """A direction for each pixel, targets (samples, 3, height, width): 1 - cosine; angles between the two.

    Measures: mean and median in degrees, and the shares of pixels within 11.25, 22.5 and 30 degrees.
    """
    within: Measures = {f"within_{degrees}": partial(metrics.AngleWithin, degrees) for degrees in (11.25, 22.5, 30)}
    measures: Measures = {"mean_angle": metrics.MeanAngle, "median_angle": metrics.MedianAngle, **within}
    return Task(name, losses.cosine, measures, 3, dense=True, kind="regression")


def _chosen(name: str, measures: Sequence[str], known: Measures) -> Measures:
    """Those of `known` that are named in `measures`, in that order; ValueError for a name that is not there."""
    for measure in measures:
        if measure not in known:
            raise ValueError(unknown(f"measure of task {name!r}", str(measure), known))
    return {measure: known[measure] for measure in measures}
