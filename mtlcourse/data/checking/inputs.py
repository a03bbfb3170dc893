"""What the inputs say: whether they can be read, are numbers, and are scaled as nets like them.

Imports its folder's `report`, `seen`.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from .report import Finding, first
from .seen import Inputs, Seen

SCALES = (0.02, 10.0)  # standard deviations of inputs that a net with the usual initial weights takes well
DROWNED = 30  # a channel's standard deviation in those of the median channel
ENOUGH = 30  # samples, from which on two splits' moments are compared


def readable(seen: Seen) -> Iterator[Finding]:
    """What could not be read, and inputs of another size."""
    part = seen.part
    if part.broken:
        numbers = sorted(part.broken)
        amount = f"At least {len(numbers)}" if part.given_up else f"{len(numbers)}"
        yield Finding("error", "unreadable", f"{amount} of {len(part):,} samples cannot be read or do not belong "
                      f"to these tasks, and training stops at the first: {part.broken[numbers[0]]}", part.name,
                      samples=first(numbers))
    sizes = sorted(part.shapes)
    if len(sizes) > 1:
        often = f"from {_size(sizes[0])} to {_size(sizes[-1])}, {len(sizes)} in all"
        yield Finding("error", "sizes", f"Inputs have several sizes ({often}), and a batch has one: give collate="
                      "data.resized((height, width)) or data.padded((height, width)).", part.name,
                      samples=first([part.shapes[size] for size in sizes]))
    elif sizes and sizes[0] != tuple(part.input_shape):
        yield Finding("error", "sizes", f"Inputs are {_size(sizes[0])}, the problem says {_size(part.input_shape)}, "
                      "by which nets are built: give the one that is true.", part.name, samples=(0,))
    for name, inputs in seen.inputs.items():
        if inputs.bad:
            yield Finding("error", "not-finite", f"{len(inputs.bad)} samples have NaN or infinity in their inputs: one "
                          "of them in a batch makes every weight NaN, and all answers after that.", part.name, name,
                          first(inputs.bad))


def ranges(train: Seen, others: Mapping[str, Seen]) -> Iterator[Finding]:
    """The scale of the training inputs, and whether the other splits have the same."""
    for name, inputs in train.inputs.items():
        if inputs.moments is None or not inputs.real:
            continue
        yield from _scale(inputs, name)
        for split, other in others.items():
            if name in other.inputs and other.inputs[name].moments is not None:
                yield from _shift(inputs, other.inputs[name], split, name)
        yield from _constant(inputs, others, name)


def _scale(inputs: Inputs, name: str) -> Iterator[Finding]:
    assert inputs.moments is not None
    mean, deviation = inputs.moments.whole
    least, most = inputs.moments.least.min().item(), inputs.moments.most.max().item()
    if deviation > 0 and (not SCALES[0] <= deviation <= SCALES[1] or abs(mean) > 10 * deviation):
        remedy = "divide them by 255" if least >= 0 and 100 < most <= 255 else "standardise them by training statistics"
        yield Finding("warning", "not-scaled", f"Inputs run from {least:.4g} to {most:.4g}, with mean {mean:.4g} and "
                      f"standard deviation {deviation:.4g}; usual initial weights and learning rates are for about 1, "
                      f"and with these training diverges or crawls: {remedy}.", "train", name)
    each = inputs.moments.deviation
    moving = each[each > 0]
    if len(moving) > 1:
        usual = moving.median().item()
        loud = (each > DROWNED * usual).nonzero().flatten().tolist()
        if loud:
            yield Finding("warning", "unequal-channels", f"Channel {loud[0]} has a standard deviation of "
                          f"{each[loud[0]].item():.4g}, the median channel {usual:.4g}: at first a net sees little "
                          f"else{_more(loud)}. Standardise each channel.", "train", name)


def _constant(inputs: Inputs, others: Mapping[str, Seen], name: str) -> Iterator[Finding]:
    assert inputs.moments is not None
    each = inputs.moments.deviation
    still = (each == 0).nonzero().flatten().tolist()
    if not still:
        return
    elsewhere = [split for split, other in others.items() if name in other.inputs and any(
        _deviation(other.inputs[name], channel, inputs.moments.mean[channel].item()) for channel in still)]
    says = f"Channel {still[0]} of {len(each)} is {inputs.moments.mean[still[0]].item():.4g} in every training sample"
    if elsewhere:
        yield Finding("warning", "constant-channel", f"{says}, and is not in {' and '.join(elsewhere)}{_more(still)}: "
                      "there untrained weights answer. Leave it out.", "train", name)
    else:
        yield Finding("note", "constant-channel", f"{says}{_more(still)}: it tells nothing, and dividing by its "
                      "deviation would give NaN.", "train", name)


def _deviation(inputs: Inputs, channel: int, value: float) -> bool:
    """Whether a channel is anything but `value` there."""
    moments = inputs.moments
    return moments is not None and channel < len(moments.mean) and not (
        moments.least[channel] == moments.most[channel] and abs(moments.mean[channel].item() - value) < 1e-6)


def _shift(inputs: Inputs, other: Inputs, split: str, name: str) -> Iterator[Finding]:
    assert inputs.moments is not None and other.moments is not None
    if min(len(inputs.places), len(other.places)) < ENOUGH or len(inputs.moments.mean) != len(other.moments.mean):
        return
    here, there = inputs.moments, other.moments
    each = here.deviation
    moving = each > 0.1 * each.median()
    off = (there.mean - here.mean).abs() / each.clamp(min=1e-300)
    ratio = there.deviation / each.clamp(min=1e-300)
    far = (moving & ((off > 3) | (ratio > 4) | (ratio < 0.25))).nonzero().flatten().tolist()
    if far:
        channel = far[0]
        yield Finding("warning", "shifted-inputs", f"Channel {channel} of the inputs has mean "
                      f"{_pair(there.mean, there.deviation, channel)} here, and {_pair(here.mean, each, channel)} in "
                      f"training{_more(far)}: were the two scaled alike, by training statistics? If so, the net is "
                      "asked about what it has not seen.", split, name)


def _pair(mean: Tensor, deviation: Tensor, channel: int) -> str:
    return f"{mean[channel].item():.4g} (standard deviation {deviation[channel].item():.4g})"


def _more(channels: list[int]) -> str:
    return f", and so for {len(channels) - 1} more" if len(channels) > 1 else ""


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "single numbers"


def again(seen: Seen, depths: list[str], normals: list[str]) -> Iterator[Finding]:
    """Whether samples of a dataset change from one reading to the next, and normals with their mirrored images.

    depths, normals: the tasks that are such.
    """
    part = seen.part
    numbers = [int(number) for number in torch.linspace(0, part.total - 1, min(part.total, 16)).round().tolist()]
    changed, kept = [], []
    for number in numbers:
        pair = part.twice(number)
        if pair is None:
            continue
        one, other = pair
        if one.inputs.shape != other.inputs.shape or not torch.equal(one.inputs, other.inputs):
            changed.append(number)
        if one.inputs.dim() == 4 and torch.allclose(other.inputs, one.inputs.flip(3), atol=1e-6):
            for name in normals:
                if name in one.targets and name in other.targets:
                    old, new = one.targets[name].flip(3), other.targets[name]
                    if torch.allclose(old, new, atol=1e-6, equal_nan=True) and bool((old[:, 0].abs() > 1e-3).any()):
                        kept.append((number, name))
    if kept:
        yield Finding("error", "flipped-normals", "An image that is mirrored keeps the normals of the one that is not: "
                      "in a mirror x points the other way, and its sign must change.", part.name, kept[0][1],
                      first([number for number, _ in kept]))
    if changed and part.name != "train":
        severity = "error" if part.name == "test" else "warning"
        yield Finding(severity, "augmented", f"{len(changed)} of {len(numbers)} samples change from one reading to the "
                      "next: what is measured on them is the measure of a draw. Augment training samples only.",
                      part.name, samples=first(changed))
    elif changed and depths:
        yield Finding("note", "augmented", "Samples change from one reading to the next. If that zooms by a factor s, "
                      "the distances of a depth must be divided by s, while an inverse depth, a disparity, is "
                      "multiplied by it; a published loader has it the other way round.", part.name, depths[0],
                      first(changed))
