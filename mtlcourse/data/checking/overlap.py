"""Which samples stand in two places: in training and test above all.

Imports its folder's `report`, `seen`. Samples are compared by digests of 64 bits: among a million samples, the chance
that two different ones have the same is below one in ten million.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from ...void import valid_mask
from .report import Finding, first
from .seen import Seen

COMPARED = 512  # copies whose labels are compared
ALIKE = 0.02  # distance of two small images, in the length of their contrast
PRODUCTS = 10**9  # pairs of small images that are compared at most


def copies(parts: Mapping[str, Seen]) -> Iterator[Finding]:
    """Samples of one split in another. parts: train, val, test, those that there are."""
    for name in parts["train"].inputs:
        places = {split: seen.inputs[name] for split, seen in parts.items() if name in seen.inputs}
        train = places["train"].digests
        repeated = 1 - len(np.unique(train)) / max(1, len(train))
        for split in ("test", "val"):
            if split in places:
                yield from _in_train(places[split].digests, places[split].places, train, repeated, split, name)
        if "val" in places and "test" in places:
            yield from _in_test(places["val"].digests, places["val"].places, places["test"].digests, name)


def _in_train(own: np.ndarray, places: np.ndarray, train: np.ndarray, repeated: float, split: str,
              task: str) -> Iterator[Finding]:
    there = np.isin(own, train)
    share = there.mean() if len(own) else 0
    if not share:
        return
    what = f"{there.sum():,} of {len(own):,} samples stand in training too, bit by bit"
    where = {"split": split, "task": task, "samples": first(places[there])}
    if split == "val":
        yield Finding("warning", "val-in-train", f"{what}: who chooses by them prefers what has memorised.", **where)
    elif repeated > share / 2:
        yield Finding("warning", "test-in-train", f"{what}. Inputs repeat by themselves here, {repeated:.1%} of the "
                      "training samples are copies: with so few different ones, a measure is about memory too.",
                      **where)
    else:
        yield Finding("error" if share >= 0.01 else "warning", "test-in-train", f"{what}: a net that has memorised its "
                      "training samples is right there, and what is measured is not how it does on new ones. Split by "
                      "groups or blocks, or take them out of training.", **where)


def _in_test(own: np.ndarray, places: np.ndarray, test: np.ndarray, task: str) -> Iterator[Finding]:
    there = np.isin(own, test)
    if not there.any():
        return
    where = {"split": "val", "task": task, "samples": first(places[there])}
    if np.array_equal(np.unique(own), np.unique(test)):
        yield Finding("error", "val-is-test", "Validation and test samples are the same: an epoch, a learning rate or "
                      "a weight that is chosen by validation is chosen by the test, which then flatters. Hold out a "
                      "part of training to choose by.", **where)
    else:
        yield Finding("warning", "val-is-test", f"{there.sum():,} of {len(own):,} validation samples are test samples: "
                      "what is chosen by them is measured on them.", **where)


def repeated(train: Seen) -> Iterator[Finding]:
    """Training samples that come several times, with the same labels or with others."""
    for name, inputs in train.inputs.items():
        _, group, sizes = np.unique(inputs.digests, return_inverse=True, return_counts=True)
        twice = np.flatnonzero(sizes[group] > 1)
        if not len(twice):
            continue
        order = twice[np.argsort(group[twice], kind="stable")][:COMPARED]  # whole groups, one behind the other
        numbers, groups = inputs.places[order], group[order]
        surplus = len(group) - len(sizes)
        yield from _contradictions(train, numbers, groups, name)
        if surplus >= 0.01 * len(group):
            yield Finding("note", "duplicates", f"{surplus:,} of {len(group):,} training samples are copies of others: "
                          "they weigh more, and a part of training that is held out to choose by has them too.",
                          "train", name, first(np.sort(inputs.places[twice])))


def _contradictions(train: Seen, numbers: np.ndarray, groups: np.ndarray, own: str) -> Iterator[Finding]:
    batch = train.part.again(numbers.tolist(), own)
    starts = np.searchsorted(groups, groups)  # the first of each group
    for task, target in batch.targets.items():
        other = _differ(target, target[torch.from_numpy(starts)])
        if other.any():
            where = np.flatnonzero(other)
            pair = first(numbers[[starts[where[0]], where[0]]])
            copied = len(numbers) - len(np.unique(groups))
            yield Finding("warning", "contradictory", f"{len(where):,} of {copied:,} copies have another label than "
                          "the first of them: no net can fit both, and the loss never falls to zero. One of them may "
                          "be wrong.", "train", task, pair)


def _differ(one: Tensor, other: Tensor) -> np.ndarray:
    other_label = (one != other) & valid_mask(one) & valid_mask(other)
    return other_label.reshape(len(one), -1).any(1).cpu().numpy()


def look_alike(parts: Mapping[str, Seen]) -> Iterator[Finding]:
    """Test images that are nearly training images: the same small grey image, but for a fiftieth of its contrast."""
    for name, inputs in parts["test"].inputs.items():
        if name not in parts["train"].inputs:
            continue
        train, test = parts["train"].inputs[name], inputs
        if train.thumbs is None or test.thumbs is None:
            continue
        step = max(1, -(-len(test.digests) * len(train.digests) // PRODUCTS))
        fresh = np.flatnonzero(~np.isin(test.digests, train.digests))[::step]
        found = fresh[_nearest(test.thumbs[fresh], train.thumbs) <= ALIKE] if len(fresh) else fresh
        if len(found):
            yield Finding("warning", "look-alike", f"{len(found):,} of {len(fresh):,} test images that were compared "
                          "are a training image but for little (as grey images of 8 x 8): pictures of one film, stored "
                          "twice or brought to another size? Then the test is not about new ones.", "test", name,
                          first(test.places[found]))


def _nearest(test: Tensor, train: Tensor) -> np.ndarray:
    """(test samples,): the distance to the nearest training image, in the length of the test image's contrast."""
    contrast = (test - test.mean(1, keepdim=True)).norm(dim=1)
    distances = torch.cat([torch.cdist(part, train).amin(1) for part in test.split(256)])
    return torch.where(contrast > 0.01, distances / contrast, torch.inf).numpy()


def between_domains(source: Seen, targets: Mapping[str, Mapping[str, Seen]]) -> Iterator[Finding]:
    """Images that stand in two domains, or in a target's training and its test. targets: `{domain: {split: Seen}}`."""
    here = source.inputs[""].digests if source.inputs else np.zeros(0, np.uint64)
    for parts in targets.values():
        for seen in parts.values():
            own = seen.inputs[""]
            there = np.isin(own.digests, here)
            if there.any():
                yield Finding("warning", "same-images", f"{there.sum():,} of {len(own.digests):,} images stand in the "
                              "source's training samples too, with labels: for these there is no shift, and no "
                              "adaptation.", seen.part.name, samples=first(own.places[there]))
        test, train = parts["test"].inputs[""], parts["train"].inputs[""]
        there = np.isin(test.digests, train.digests)
        if there.any():
            yield Finding("note", "transductive", f"{there.sum():,} of {len(test.digests):,} images to judge by were "
                          "adapted to, without their labels, as many papers do: what is measured is not about new "
                          "images of that domain.", parts["test"].part.name, samples=first(test.places[there]))
