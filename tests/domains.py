"""Small problems of several domains for tests: they train in milliseconds."""

from collections.abc import Sequence

import torch

from mtlcourse import data
from mtlcourse.data import DomainProblem, Target, Unlabelled
from mtlcourse.tasks import TensorSplit

SHAPE, CLASSES = (6,), 3
SIZES = {"train": 64, "val": 24, "test": 32}


def samples(domain: str, number: int, shift: float, seed: int) -> TensorSplit:
    """Three clouds, moved by `shift` along all axes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % CLASSES
    x = torch.randn(number, *SHAPE, generator=generator) * 0.5 + shift
    x[torch.arange(number), labels] += 3
    return TensorSplit(x, {domain: labels})


def problem(targets: Sequence[str] = ("there",), poisoned: bool = False) -> DomainProblem:
    """A source `here` and targets that are moved; `poisoned`: with labels of the targets that are all wrong."""
    source = {split: samples("here", size, 0.0, seed) for seed, (split, size) in enumerate(SIZES.items())}
    found = {}
    for place, domain in enumerate(targets, start=1):
        parts = {split: samples(domain, size, place, 10 * place + seed)
                 for seed, (split, size) in enumerate(SIZES.items())}
        test = parts["test"]
        if poisoned:
            test = TensorSplit(test.inputs, {domain: (test.targets[domain] + 1) % CLASSES})
        found[domain] = Target(Unlabelled(parts["train"].inputs), Unlabelled(parts["val"].inputs), test)
    usual = {"epochs": 4, "lr": 0.05, "batch_size": 16, "optimizer": "nesterov", "schedule": "inverse"}
    return DomainProblem("clouds", data.classification("here", CLASSES), **source, targets=found, input_shape=SHAPE,
                         encoder={"name": "mlp", "widths": [8]}, training={"fast": usual, "smoke": usual})
