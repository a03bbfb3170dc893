"""What is kept of a split while it passes by once: few numbers a channel, a class or a pixel row, 16 bytes a sample.

Imports `losses`, `tasks`, `void`, its folder's `numbers`, `reading`.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ... import losses
from ...tasks import Task
from ...void import VOID, has_target, valid_mask
from .numbers import Moments, Together
from .reading import Part

KEPT = 1 << 15  # values of a dense target that are kept to count different ones
PIXELS = 1 << 12  # of one batch, of which it is counted how tasks go together
CLASSES = 1 << 12  # of all tasks together, up to which it is counted
THUMB = 8  # pixels, height and width, of what is kept of an image to find its like


class Inputs:
    """What was seen of the inputs: moments of each channel, a digest of each sample, those with NaN or infinity."""

    def __init__(self) -> None:
        self.moments: Moments | None = None
        self.real = False
        self.bad: list[int] = []
        self._digests: list[bytes] = []
        self._places: list[np.ndarray] = []
        self._thumbs: list[Tensor] = []

    def add(self, x: Tensor, places: np.ndarray) -> None:
        """A batch, and the numbers of its samples in the split."""
        self.real = x.is_floating_point()
        folded = x.reshape(len(x), x.shape[1] if x.dim() > 1 else 1, -1)
        if self.moments is None:
            self.moments = Moments(folded.shape[1])
        if self.real and not bool(torch.isfinite(x.sum())):
            self.bad += places[(~torch.isfinite(folded).all(2).all(1)).cpu().numpy()].tolist()
        if folded.shape[1] == len(self.moments.mean):
            self.moments.update(folded)
        rows = memoryview(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        step = len(rows) // len(x)
        self._digests.append(b"".join(hashlib.blake2b(rows[i * step : (i + 1) * step], digest_size=8).digest()
                                      for i in range(len(x))))
        self._places.append(places)
        if self.real and x.dim() == 4 and min(x.shape[2:]) >= 2 * THUMB:
            self._thumbs.append(torch.nn.functional.adaptive_avg_pool2d(x.mean(1), THUMB).flatten(1).half().cpu())

    @property
    def digests(self) -> np.ndarray:
        """(samples,) uint64: equal numbers are equal samples, bit by bit."""
        return np.frombuffer(b"".join(self._digests), np.uint64)

    @property
    def places(self) -> np.ndarray:
        """(samples,): the number in the split of each digest's sample."""
        return np.concatenate(self._places) if self._places else np.zeros(0, np.int64)

    @property
    def thumbs(self) -> Tensor | None:
        """(samples, 64): grey images of 8 x 8, of images that are at least twice as large."""
        samples = sum(map(len, self._places))
        return torch.cat(self._thumbs).float() if sum(map(len, self._thumbs)) == samples > 0 else None


class Targets:
    """What was seen of one task: how much is labelled, and of its labels or values what follows.

    samples, labelled: how many passed, how many have a label.  elements, known: pixels or samples, and those of them
    with a label.
    counts: (classes,) of a classification.  flat, maps: dense targets with more than one labelled pixel, and those of
    them of one class.  moments: of the channels of a regression.
    """

    def __init__(self, task: Task):
        self.task = task
        self.samples = self.labelled = self.elements = self.known = 0
        self.regression = task.kind == "regression"
        self.counts = torch.zeros(task.classes, dtype=torch.int64)
        self.first: dict[int, int] = {}  # class: its first sample
        self.flat: list[int] = []
        self.maps = 0
        self.moments = Moments(task.out_channels)
        self.infinite: list[int] = []
        self.zero: list[int] = []  # samples with elements that are zero in all channels
        self.zeros = self.at_most = 0
        self.off_length: list[int] = []  # of vectors in three channels: samples with some not of length one
        self.summing = True  # in each element, channels are at least 0 and sum to one
        self.rows = [0.0, 0.0]  # sum over images of the correlation of values with the row; how many images
        self._values: list[Tensor] = []

    def absent(self, samples: int) -> None:
        """So many samples without a label passed."""
        self.samples += samples

    def add(self, target: Tensor, places: np.ndarray) -> None:
        """A batch of targets, and the numbers of its samples in the split."""
        target = target.detach()
        has = has_target(target)
        self.samples += len(target)
        self.labelled += int(has.sum())
        (self._add_values if self.regression else self._add_labels)(target, places)

    def _add_labels(self, target: Tensor, places: np.ndarray) -> None:
        counts = torch.bincount((target.long() - VOID).flatten(), minlength=self.task.classes + 1).cpu()[1:]
        for label in (counts.bool() & ~self.counts.bool()).nonzero().flatten().tolist():
            self.first[label] = int(places[int((target == label).flatten(1).any(1).nonzero()[0])]
                                    if self.task.dense else places[int((target == label).nonzero()[0])])
        self.counts += counts
        self.elements += target.numel()
        self.known += int(counts.sum())
        if self.task.dense:
            flat = target.flatten(1)
            valid = flat != VOID
            most = flat.amax(1)
            least = torch.where(valid, flat, most[:, None]).amin(1)
            mapped = valid.sum(1) > 1
            self.maps += int(mapped.sum())
            self.flat += places[((least == most) & mapped).cpu().numpy()].tolist()

    def _add_values(self, target: Tensor, places: np.ndarray) -> None:
        values = target.reshape(len(target), target.shape[1], -1)
        valid = valid_mask(values).all(1)
        self.elements += valid.numel()
        self.known += int(valid.sum())
        if bool(torch.isinf(values.abs().nan_to_num(0, posinf=torch.inf).amax())):
            self.infinite += places[torch.isinf(values).flatten(1).any(1).cpu().numpy()].tolist()
        before = self.moments.most.max().item()
        self.moments.update(values)
        largest = self.moments.most.max().item()
        self.at_most = int((values == largest).sum()) + (self.at_most if largest == before else 0)
        zero = (values == 0).all(1)
        if self.task.dense and bool(zero.any()):
            self.zeros += int(zero.sum())
            self.zero += places[zero.any(1).cpu().numpy()].tolist()[: 5 - min(len(self.zero), 5)]
        room = KEPT - sum(map(len, self._values))
        if room > 0:
            flat = values.movedim(1, 2)[valid]
            self._values.append(flat[:: max(1, len(flat) * 8 // KEPT)][:room].float().cpu())
        if self.task.out_channels > 1 and self.summing:
            there = values.movedim(1, 2)[valid]
            self.summing = bool(((there >= 0).all(1) & ((there.sum(1) - 1).abs() < 1e-3)).all())
        if self.task.dense and self.task.loss is losses.cosine and len(self.off_length) < 5:
            length = values.square().sum(1)  # squared
            wrong = ((length < 0.98**2) | (length > 1.02**2)) & valid & ~zero
            self.off_length += places[wrong.any(1).cpu().numpy()].tolist()
        if self.task.dense and self.task.out_channels == 1 and target.dim() == 4:
            self._add_rows(target[:, 0].float())

    def _add_rows(self, maps: Tensor) -> None:
        """How the means of pixel rows go with the row's number, image by image: downwards is positive."""
        means = maps.nanmean(2)
        number = torch.arange(maps.shape[1], dtype=means.dtype, device=means.device).expand_as(means)
        known = torch.isfinite(means)
        centred = [torch.where(known, part - torch.where(known, part, torch.nan).nanmean(1, keepdim=True), 0)
                   for part in (means, number)]
        product = (centred[0] * centred[1]).sum(1) / (centred[0].square().sum(1) * centred[1].square().sum(1)).sqrt()
        fit = torch.isfinite(product)
        self.rows[0] += product[fit].sum().item()
        self.rows[1] += int(fit.sum())

    @property
    def values(self) -> np.ndarray:
        """(some elements, channels) of a regression, from all over what passed first."""
        return torch.cat(self._values).numpy() if self._values else np.zeros((0, self.task.out_channels), np.float32)

    @property
    def constant(self) -> bool:
        """Whether all that is labelled has one value."""
        if self.regression:
            return bool((self.moments.deviation == 0).all())
        return int((self.counts > 0).sum()) == 1

    @property
    def shares(self) -> np.ndarray:
        """(classes,): how often each class is the label."""
        return (self.counts.double() / max(1, self.known)).numpy()


class Seen:
    """One part, seen once.

    inputs: by task where tasks have own inputs, else under "".  targets: by task.
    both: (tasks, tasks), how many samples have both labels.
    together: by "samples" and "pixels", how tasks that answer there go together; of tasks with the same inputs.
    """

    def __init__(self, part: Part, pairs: bool = False):
        self.part = part
        self.inputs: dict[str, Inputs] = {}
        self.targets = {task.name: Targets(task) for task in part.tasks}
        self.both = np.zeros((len(part.tasks), len(part.tasks)), np.int64)
        self.together = {"samples": Together(), "pixels": Together()}
        self.pairs = pairs and getattr(part.split, "shared", False)

    def go(self, tell: Callable[[int], object]) -> "Seen":
        """Read the part; `tell(samples)` after each batch."""
        for start, batch in self.part.batches():
            shared = isinstance(batch.inputs, Tensor)
            named = {"": batch.inputs} if isinstance(batch.inputs, Tensor) else batch.inputs
            for name, x in named.items():
                self.inputs.setdefault(name, Inputs()).add(x, self.part.numbers(start, len(x)))
            for task, targets in self.targets.items():
                if task in batch.targets:
                    target = batch.targets[task]
                    targets.add(target, self.part.numbers(start, len(target)))
                elif shared:
                    targets.absent(len(batch))
            if self.pairs:
                self._count_pairs(batch.targets, len(batch))
            tell(len(batch))
        return self

    def _count_pairs(self, targets: dict[str, Tensor], samples: int) -> None:
        has = torch.zeros(samples, len(self.part.tasks))
        for column, task in enumerate(self.part.tasks):
            if task.name in targets:
                has[:, column] = has_target(targets[task.name]).float().cpu()
        self.both += (has.T @ has).long().numpy()
        for where, tasks in self.groups().items():
            there = [task for task in tasks if task.name in targets]
            if len(there) > 1 and sum(task.classes for task in tasks) <= CLASSES:
                elements = len(_elements(targets[there[0].name])) if where == "pixels" else samples
                self._add_group(where, tasks, targets, elements)

    def groups(self) -> dict[str, list[Task]]:
        """The tasks that answer once a sample, and those that answer for each pixel."""
        return {where: [task for task in self.part.tasks if task.dense == (where == "pixels")]
                for where in self.together}

    def _add_group(self, where: str, tasks: list[Task], targets: dict[str, Tensor], elements: int) -> None:
        labels, values = [], []
        for task in tasks:
            target = targets.get(task.name)
            if task.kind == "classification":
                labels.append(torch.full((elements,), VOID) if target is None else _elements(target[:, None])[:, 0])
            else:
                values.append(torch.full((elements, task.out_channels), torch.nan) if target is None
                              else _elements(target))
        classes = [task.classes for task in tasks if task.kind == "classification"]
        if len(labels) > 1:
            self.together[where].add_classes(torch.stack([own.long() for own in labels], 1), classes)
        if len(values) > 1:
            self.together[where].add_numbers(torch.cat(values, 1))


def _elements(target: Tensor) -> Tensor:
    """(elements, channels): of maps some pixels, the same of all tasks."""
    flat = target.flatten(2).movedim(1, 2) if target.dim() > 2 else target[:, None]
    return flat[:, :: max(1, flat.shape[1] * len(flat) // PIXELS)].flatten(0, 1).cpu()
