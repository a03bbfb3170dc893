"""What depth, normals and other maps of real numbers say about where they come from.

Imports `losses`, `tasks`, its folder's `report`, `seen`. Most sets write zero where a sensor saw nothing.
"""

from collections.abc import Iterator

import numpy as np

from ... import losses
from ...tasks import Task
from .report import Finding, first
from .seen import Seen, Targets

BYTES = 256  # different values of eight bits
DOWNWARDS = 0.5  # mean correlation of a map with its row, from which on it grows towards the bottom
SENSED = 32  # samples without any void, from which on no sensor was at work


def is_depth(task: Task) -> bool:
    """Whether a task is a distance, or its inverse, for each pixel: by its name, or by a relative error."""
    known = any(word in task.name.lower() for word in ("depth", "dispar", "distance")) or "rel_error" in task.metrics
    return known and task.kind == "regression" and task.dense and task.out_channels == 1


def is_normals(task: Task) -> bool:
    """Whether a task is a direction for each pixel."""
    return task.dense and task.out_channels == 3 and (task.loss is losses.cosine or "normal" in task.name.lower())


def examine(seen: Seen) -> Iterator[Finding]:
    """All findings about maps of real numbers, and vectors that look like soft labels, in one part."""
    for name, targets in seen.targets.items():
        if not targets.regression or not targets.known or targets.constant:
            continue
        task, part = targets.task, seen.part.name
        if targets.zeros and is_depth(task):
            yield Finding("error", "zero-depth", f"{targets.zeros / targets.known:.1%} of the labelled pixels have a "
                          "depth of zero. Most sets write that where nothing is known: it would be learned and "
                          "measured, and relative errors divide by it. Make it NaN (data.benchmarks.zero_is_void).",
                          part, name, first(targets.zero))
        if targets.zeros and is_normals(task):
            yield Finding("error", "zero-normals", f"{targets.zeros / targets.known:.1%} of the labelled pixels have "
                          "normals of length zero, which point nowhere: they are unknown, and angles to them mean "
                          "nothing. Make them NaN (data.benchmarks.zero_is_void), by length, not by the sum.", part,
                          name, first(targets.zero))
        if targets.off_length:
            yield Finding("warning", "not-unit", "Some normals are not of length one. The cosine does not mind, a "
                          "squared or absolute error does; if eight bits are the reason, angles are off by up to half "
                          "a degree.", part, name, first(targets.off_length))
        if part == "train":
            yield from _values(targets, part)
            if is_depth(task):
                yield from _disparity(targets)


def _values(targets: Targets, part: str) -> Iterator[Finding]:
    task, values = targets.task, targets.values
    if task.out_channels > 1 and targets.summing:
        yield Finding("note", "distilled", "In every sample the channels are at least 0 and sum to one: soft labels, "
                      "the output of a teacher. What is measured is agreement with that, errors included.", part,
                      task.name)
    different = len(np.unique(values[:, 0]))
    if task.out_channels == 1 and different > 20 and targets.at_most > max(5, 0.02 * targets.known):
        yield Finding("warning", "spike", f"{targets.at_most / targets.known:.1%} of the values are exactly the "
                      f"largest, {targets.moments.most.item():.6g}: a code for `no label`, or cut off there? A code "
                      "must be NaN; what is cut off is learned as if it were measured.", part, task.name)
    if task.dense and len(values) > 10 * BYTES and 2 < different <= BYTES:
        yield Finding("note", "coarse", f"Among {len(values):,} values {different} are different, as eight bits hold: "
                      "if the files have sixteen, the reader squeezed them, and errors below a step mean nothing.",
                      part, task.name)


def _disparity(targets: Targets) -> Iterator[Finding]:
    task, (total, images) = targets.task, targets.rows
    zoom = "Zooming by s multiplies a disparity by s, and divides a depth by s."
    if "dispar" in task.name.lower() or "inverse" in task.name.lower():
        yield Finding("note", "disparity", f"By its name this is an inverse depth: far is small, and an absolute error "
                      f"is about near things above all. {zoom}", "train", task.name)
    elif images >= 20 and total / images > DOWNWARDS:
        low = targets.moments.most.item() <= 1
        yield Finding("warning" if low else "note", "disparity", f"Values grow towards the bottom of images (mean "
                      f"correlation with the row {total / images:.2f}), where things are near"
                      f"{f', and none is above {targets.moments.most.item():.3g}' if low else ''}: this behaves as a "
                      f"disparity, an inverse depth. Then the error is in no metres, far is small, and relative errors "
                      f"are not those of a depth. {zoom}", "train", task.name)


def without_void(parts: list[Seen]) -> Iterator[Finding]:
    """Depth and normals that are known in every pixel of every sample, as no sensor knows them."""
    for name, targets in parts[0].targets.items():
        all_parts = [seen.targets[name] for seen in parts if name in seen.targets]
        samples = sum(own.samples for own in all_parts)
        if (is_depth(targets.task) or is_normals(targets.task)) and samples >= SENSED and all(
                own.elements == own.known for own in all_parts) and sum(own.zeros for own in all_parts) == 0:
            yield Finding("note", "distilled", "Every pixel of every sample has a value, and sensors leave holes: this "
                          "was rendered, filled in, or predicted by a net, and then what is measured is agreement with "
                          "that net.", "", name)
