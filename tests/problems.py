"""Small problems for tests: they train in milliseconds."""

import torch

from mtlcourse import data
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.void import VOID

OFFLINE = ("digits_mtl", "multidigits", "relatedness", "robust_digits", "rooms", "twins")  # those that need no files
NEEDS_MAPS = ("mtan", "afa")  # the architectures that are not defined on vectors
SHALLOW = ("lasso", "l21", "rmtl", "mtrl", "theta")
CELLS: dict[str, dict] = {  # the searches for cells, which are about images, with options that make them quick
    name: {"cells": 3, "channels": 2, "nodes": 1, "derived_cells": 3, "derived_channels": 2, "retrain": 1, **more}
    for name, more in {"darts": {"order": "first"}, "p-darts": {"order": "first"}, "pc-darts": {"order": "first"},
                       "e2rnas": {"order": "first"}, "random-cells": {}}.items()}
ONE_ANSWER = (*SHALLOW, "srdml")  # those that are defined on tasks with one answer a sample only
TASKS = (data.classification("kind", 3), data.regression("size", 2), data.binary("big"))
ENCODER = {"name": "mlp", "widths": [6, 5]}


def targets_of(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the tasks ask about inputs `(samples, 4)`."""
    return {"kind": x[:, :3].argmax(1), "size": x[:, 1:3] - x[:, :2], "big": (x.sum(1) > 0).long()}


def make_void(targets: dict[str, torch.Tensor], share: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The same targets without labels in about this share of the elements, but for the first sample."""
    hidden = {}
    for name, target in targets.items():
        mask = torch.rand(target.shape, generator=generator) < share
        mask[0] = False
        hidden[name] = target.masked_fill(mask, float("nan") if target.is_floating_point() else VOID)
    return hidden


def split(samples: int, names: tuple[str, ...] = ("kind", "size"), seed: int = 0, void: float = 0.0,
          own: bool = False) -> TensorSplit:
    """With `own`, the first task has inputs of its own and `samples` of them, the others half as many."""
    generator = torch.Generator().manual_seed(seed)
    if own:
        inputs = {name: torch.randn(samples if name == names[0] else samples // 2, 4, generator=generator)
                  for name in names}
        targets = {name: targets_of(x)[name] for name, x in inputs.items()}
    else:
        inputs = torch.randn(samples, 4, generator=generator)
        targets = {name: target for name, target in targets_of(inputs).items() if name in names}
    return TensorSplit(inputs, make_void(targets, void, generator))


def small(names: tuple[str, ...] = ("kind", "size"), train: int = 40, void: float = 0.0, own: bool = False,
          dropout: float = 0.0) -> Problem:
    """A problem on inputs of four numbers, with any of the tasks `kind`, `size` and `big`."""
    splits = (split(size, tuple(names), seed, void, own) for seed, size in enumerate((train, 24, 30)))
    tasks = [task for task in TASKS if task.name in names]
    return Problem("small", tasks, *splits, (4,), {**ENCODER, "dropout": dropout})


def pixels(samples: int = 6) -> Problem:
    """Two answers a pixel, and a third one an image: `bright`, `depth` and `mean`."""
    x = torch.randn(samples, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    targets = {"bright": (x.mean(1) > 0).long(), "depth": x[:, :1].abs(), "mean": x.mean((1, 2, 3))[:, None]}
    tasks = [data.segmentation("bright", 4), data.depth("depth"), data.regression("mean")]
    return Problem("pixels", tasks, *[TensorSplit(x, targets)] * 3, (3, 8, 12),
                   {"name": "conv", "channels": [4, 6, 8], "strides": [1, 2, 2]})


def doubled(problem: Problem) -> Problem:
    """The problem in float64."""
    for part in (problem.train, problem.val, problem.test):
        own = isinstance(part.inputs, dict)
        part.inputs = {name: x.double() for name, x in part.inputs.items()} if own else part.inputs.double()
        part.targets = {name: y.double() if y.is_floating_point() else y for name, y in part.targets.items()}
    return problem
