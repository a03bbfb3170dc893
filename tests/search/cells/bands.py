"""Small image problems for tests of cells."""

import torch

from mtlcourse import data
from mtlcourse.tasks import Problem, TensorSplit


def images(shape: tuple[int, int, int] = (1, 8, 8), samples: int = 12, tasks: int = 1, classes: int = 3) -> Problem:
    """Which band of rows is the brightest; the second task asks the same of columns."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(samples, *shape, generator=generator)
    targets = {f"task_{t}": torch.stack([band.mean(1).flatten(1).mean(1) for band in x.chunk(classes, 2 + t)], 1)
               .argmax(1) for t in range(tasks)}
    split = TensorSplit(x, targets)
    return Problem("images", [data.classification(name, classes) for name in targets], split, split, split, shape, {
        "name": "conv", "channels": [4]})
