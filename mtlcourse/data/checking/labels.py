"""What the labels of each task say: which are there, how many, and what would be right without looking.

Imports `losses`, `tasks`, its folder's `report`, `seen`.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ... import losses
from ...tasks import Task
from .report import Finding, first
from .seen import Seen, Targets

FEW = 20  # labelled samples, below which hardly anything is learned or measured
MAJORITY = 0.8
RATIO = 30  # of two losses, from which on equal weights are weights of one task
OTHERWISE = 0.25  # total variation between the labels of two splits
FLAT = 0.2


def present(seen: Seen) -> Iterator[Finding]:
    """How much of each task is labelled in one part."""
    for name, targets in seen.targets.items():
        if not targets.samples:
            continue
        if not targets.labelled:
            yield Finding("error", "few-labels", f"None of {targets.samples:,} samples has a label: the task cannot be "
                          f"{'learned' if seen.part.name == 'train' else 'measured'}.", seen.part.name, name)
            continue
        if targets.labelled < FEW:
            yield Finding("warning", "few-labels", f"Only {targets.labelled} of {targets.samples:,} samples have a "
                          f"label to be {'learned' if seen.part.name == 'train' else 'measured'}: chance decides.",
                          seen.part.name, name)
        share = 1 - targets.known / targets.elements if targets.task.dense and targets.elements else 0
        if share > 0.5:
            yield Finding("warning", "void", f"{share:.0%} of the pixels are without label: losses and measures are "
                          "about the rest. Is `no label` really so common, or has a class its number?",
                          seen.part.name, name)
        unlabelled = 1 - targets.labelled / targets.samples
        if unlabelled > 0.5 and seen.part.name == "train":
            yield Finding("note", "void", f"{unlabelled:.0%} of the training samples have no label of it: it has a say "
                          "in few batches, and strategies that compare tasks in a step see it there only.", "train",
                          name)
        if targets.infinite:
            yield Finding("error", "not-finite", "Targets are infinite: the loss is, and then every weight is NaN. "
                          "Unknown values are NaN.", seen.part.name, name, first(targets.infinite))


def classes(train: Targets, others: Mapping[str, Targets]) -> Iterator[Finding]:
    """What is labelled in one part and not in another."""
    task, everywhere = train.task, train.counts > 0
    for split, other in others.items():
        new = ((other.counts > 0) & (train.counts == 0)).nonzero().flatten().tolist()
        everywhere = everywhere | (other.counts > 0)
        if new and train.labelled:
            yield Finding("warning", "unseen-class", f"Class {new[0]} is never the label in training, and is here"
                          f"{f', and so are {len(new) - 1} more' if len(new) > 1 else ''}: no method can learn it, and "
                          "its samples are errors whatever is done. Were classes numbered alike in both?", split,
                          task.name, first([other.first[label] for label in new]))
    never = (~everywhere).nonzero().flatten().tolist()
    if never and int(everywhere.sum()) > 1:
        start = " Do labels begin at 1?" if never == [0] else ""
        yield Finding("note", "empty-class", f"{len(never)} of {task.classes} classes have no sample anywhere, the "
                      f"first is {never[0]}: the head has outputs that nothing trains, and means over classes such as "
                      f"mIoU leave them out.{start}", "", task.name)


def answers(train: Targets, splits: Mapping[str, Targets]) -> Iterator[Finding]:
    """Targets that never vary, and answers that are right without looking."""
    task = train.task
    if train.labelled and train.constant:
        hint = ""
        if not train.regression and train.known < train.elements and task.classes == 2:
            hint = " If the set writes -1 for no, map it to 0: -1 means `no label` here."
        value = f"class {int(train.counts.argmax())}" if not train.regression else "one value"
        yield Finding("error", "constant-target", f"All training targets are {value}: there is nothing to learn, and "
                      f"whoever always answers that is right.{hint}", "train", task.name)
        return
    for split, targets in splits.items():
        if split == "train" or not targets.labelled:
            continue
        if targets.constant:
            yield Finding("warning", "constant-target", f"All targets are the same: a net that ignores its inputs may "
                          f"be perfect{', R2 has no value' if targets.regression else ''}, and methods cannot be told "
                          "apart.", split, task.name)
        elif not targets.regression and split == "test" and targets.shares.max() >= MAJORITY:
            most = int(targets.shares.argmax())
            blind = set(task.metrics) <= {"accuracy", "pixel_accuracy"}
            advice = ("Give measures that are not blind to it, such as data.binary(measures=('auc', 'f1'))" if blind
                      else "Hold accuracies against that, and look at the other measures")
            yield Finding("warning" if blind else "note", "majority", f"Always answering class {most} has an accuracy "
                          f"of {targets.shares[most]:.3f}. {advice}.", split, task.name)
        yield from _otherwise(train, targets, split)


def _otherwise(train: Targets, targets: Targets, split: str) -> Iterator[Finding]:
    task = train.task
    if min(train.labelled, targets.labelled) < (30 if train.regression else max(50, 30 * task.classes)):
        return
    if not train.regression:
        distance = np.abs(train.shares - targets.shares).sum() / 2
        if distance > OTHERWISE:
            most = int(np.abs(train.shares - targets.shares).argmax())
            yield Finding("warning", "label-shift", f"Classes have other shares than in training, class {most} "
                          f"{targets.shares[most]:.1%} in place of {train.shares[most]:.1%} (total variation "
                          f"{distance:.2f}): was the set sorted when it was split?", split, task.name)
        return
    here, there = train.moments, targets.moments
    moving = here.deviation > 0
    off = ((there.mean - here.mean).abs() / here.deviation.clamp(min=1e-300))[moving]
    ratio = (there.deviation / here.deviation.clamp(min=1e-300))[moving]
    if bool(((off > 1) | (ratio > 3) | (ratio < 1 / 3)).any()):
        yield Finding("warning", "label-shift", f"Targets have mean {_first(there.mean)} and standard deviation "
                      f"{_first(there.deviation)}, in training {_first(here.mean)} and {_first(here.deviation)}: in "
                      "the same unit, scaled by the same statistics? Then the net is asked about what it has not seen.",
                      split, task.name)


def _first(values) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist()[:3])


def flat(seen: Seen) -> Iterator[Finding]:
    """Maps of one class."""
    for name, targets in seen.targets.items():
        if targets.maps >= FEW and len(targets.flat) > FLAT * targets.maps and not targets.constant:
            yield Finding("note", "flat-maps", f"In {len(targets.flat) / targets.maps:.0%} of the images all labelled "
                          "pixels have one class. If that means that nobody looked (a set of human parts, where no "
                          "person is), they should be without label.", seen.part.name, name, first(targets.flat))


def names_of(tasks: Sequence[Task], names: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Whether a list of names fits the classes, and names each once. Raises ValueError for names of no task."""
    known = {task.name: task for task in tasks}
    for name, given in names.items():
        if name not in known or known[name].kind != "classification":
            raise ValueError(f"names has {name!r}, which is no classification of this problem: there are "
                             f"{[task.name for task in tasks if task.kind == 'classification']}.")
        if len(given) != known[name].classes:
            yield Finding("error", "class-names", f"There are {len(given)} names for {known[name].classes} classes: "
                          "from the first one that is missing or too many on, tables name the wrong class.", "", name)
        seen: dict[str, str] = {}
        for one in given:
            plain = "".join(character for character in one.casefold() if character.isalnum())
            if plain in seen:
                yield Finding("warning", "class-names", f"{seen[plain]!r} and {one!r} name one class twice: its "
                              "samples are shared out between two, and a right answer counts as wrong.", "", name)
            seen.setdefault(plain, one)


def levels(train: Seen) -> dict[str, float]:
    """`{task: about the loss of the best answer that does not look at the input}`, of tasks whose loss is known.

    Entropy for cross-entropies, the variance for squared errors, 0.8 standard deviations (of a Gaussian) for absolute
    ones.
    """
    found = {}
    for name, targets in train.targets.items():
        task = targets.task
        if not targets.known or targets.constant:
            continue
        if not targets.regression and task.loss in (losses.cross_entropy, losses.binary_cross_entropy):
            shares = targets.shares[targets.shares > 0]
            found[name] = float(-(shares * np.log(shares)).sum())
        elif task.loss is losses.mse:
            found[name] = targets.moments.deviation.square().mean().item()
        elif task.loss is losses.l1:
            found[name] = 0.8 * targets.moments.deviation.mean().item()
    return found


def unequal(train: Seen) -> Iterator[Finding]:
    """Losses of which one is a multiple of another, for one of them is in small or large units."""
    found = levels(train)
    units = {name for name in found if train.targets[name].regression}
    compared = {name: level for name, level in found.items() if name in units or level >= 0.1}
    if len(compared) < 2 or not units:
        return
    low, high = min(compared, key=lambda name: compared[name]), max(compared, key=lambda name: compared[name])
    if compared[high] > RATIO * compared[low] and units & {low, high}:
        odd = max(units & {low, high}, key=lambda name: abs(np.log(compared[name])))
        deviation = train.targets[odd].moments.deviation.mean().item()
        yield Finding("warning", "unequal-losses", f"The best answer without looking has a loss of about "
                      f"{compared[high]:.3g} in {high!r}, and of {compared[low]:.3g} in {low!r}: under equal weights "
                      f"the first decides {compared[high] / compared[low]:.0f} times as much. Divide the targets of "
                      f"{odd!r} by their standard deviation in training, {deviation:.3g}, or choose weights knowingly.",
                      "train", odd)
