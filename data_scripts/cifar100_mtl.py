"""Fetch and convert CIFAR-100 for `data.load("cifar100_mtl")`: `python data_scripts/cifar100_mtl.py --root data`.

The binary version, `cifar-100-binary.tar.gz`, with `cifar-100-binary/{train,test}.bin`: records of 3,074 bytes, the
label of the superclass, that of the class, and three planes (red, green, blue) of 32 x 32 pixels. The version for
Python consists of pickles, which can run code when they are read: it is not taken.
"""

from pathlib import Path

import numpy as np
import torch

from mtlcourse.data.cifar100 import FINE, SUPERCLASSES, cifar100_mtl
from mtlcourse.data.cifar_records import FILES, read_records, write_records
from mtlcourse.data.sets import Download, Part, Published, command, inner
from mtlcourse.tasks import TensorSplit


def parts(folder: Path) -> dict[str, Part]:
    """The published parts, an image for the task of its superclass."""
    folder, tasks = inner(folder, "train.bin"), cifar100_mtl(with_data=False).tasks
    tables = {part: read_records([folder / name for name in names], 100) for part, names in FILES[100].items()}
    superclass, fine = tables["train"][1].T
    classes = [sorted(set(fine[superclass == label].tolist())) for label in range(len(SUPERCLASSES))]
    for name, own in zip(SUPERCLASSES, classes, strict=True):
        if len(own) != FINE:
            raise ValueError(f"{folder / 'train.bin'} has {len(own)} classes of {name}, not {FINE}: another set.")
    return {part: Part(split(*table, classes), tasks) for part, table in tables.items()}


def split(images: np.ndarray, labels: np.ndarray, classes: list[list[int]]) -> TensorSplit:
    """Inputs and targets of each task. classes: of each superclass, its labels in order."""
    inputs, targets = {}, {}
    for label, (name, fine) in enumerate(zip(SUPERCLASSES, classes, strict=True)):
        own = labels[:, 0] == label
        strange = set(labels[own, 1].tolist()) - set(fine)
        if strange or not own.any():
            raise ValueError(f"{name} has no images, or one of class {min(strange, default='none')}, which another "
                             "superclass has in training: the file is damaged.")
        inputs[name] = torch.from_numpy(images[own]).float().div_(255)
        targets[name] = torch.tensor([fine.index(value) for value in labels[own, 1].tolist()])
    return TensorSplit(inputs, targets)


def sample(folder: Path) -> None:
    """Ten training images and five test images of each superclass, by lot; its classes five that do not follow."""
    random = np.random.default_rng(0)
    classes = random.permutation(FINE * len(SUPERCLASSES)).reshape(len(SUPERCLASSES), FINE)
    pairs = [(label, fine) for label in range(len(SUPERCLASSES)) for fine in classes[label]]
    write_records(folder, 100, {part: random.permutation(pairs * rounds)
                                for part, rounds in (("train", 2), ("test", 1))})


CIFAR100 = Published(
    "cifar100_mtl", parts, sample,
    licence="no licence is stated.",
    terms="Cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.",
    downloads=[Download("cifar-100-binary.tar.gz", ["https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"],
                        "md5:03b5dce01913d631647c71ecec9e9cb8", most=200 * 10**6)])
main = command(CIFAR100)

if __name__ == "__main__":
    main()
