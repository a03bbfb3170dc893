"""Fetch and convert CIFAR-100 for `data.load("cifar100_mtl")`: `python data_scripts/cifar100_mtl.py --root data`.

The binary version, `cifar-100-binary.tar.gz`, with `cifar-100-binary/{train,test}.bin`: records of 3,074 bytes, the
label of the superclass, that of the class, and three planes (red, green, blue) of 32 x 32 pixels. The version for
Python consists of pickles, which can run code when they are read: it is not taken.
"""

from pathlib import Path

import numpy as np
import torch

from mtlcourse.data.cifar100 import FINE, SUPERCLASSES, cifar100_mtl
from mtlcourse.data.sets import Download, Part, Published, command, inner
from mtlcourse.tasks import TensorSplit

RECORD = 2 + 3 * 32 * 32


def parts(folder: Path) -> dict[str, Part]:
    """The published parts, an image for the task of its superclass."""
    folder, tasks = inner(folder, "train.bin"), cifar100_mtl(with_data=False).tasks
    tables = {part: read(folder / f"{part}.bin") for part in ("train", "test")}
    classes = [sorted(set(tables["train"][tables["train"][:, 0] == label, 1].tolist()))
               for label in range(len(SUPERCLASSES))]
    for name, fine in zip(SUPERCLASSES, classes, strict=True):
        if len(fine) != FINE:
            raise ValueError(f"{folder / 'train.bin'} has {len(fine)} classes of {name}, not {FINE}: another set.")
    return {part: Part(split(table, classes), tasks) for part, table in tables.items()}


def read(path: Path) -> np.ndarray:
    """The records of a file. Raises FileNotFoundError, and ValueError for a part of one and for other labels."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; the other file is there. Unpack the archive again.")
    size = path.stat().st_size
    if not size or size % RECORD:
        raise ValueError(f"{path} has {size:,} bytes, no whole number of records of {RECORD:,}: it is cut off, or "
                         "another file. Get it again.")
    table = np.fromfile(path, dtype=np.uint8).reshape(-1, RECORD)
    if table[:, 0].max() >= len(SUPERCLASSES) or table[:, 1].max() >= FINE * len(SUPERCLASSES):
        raise ValueError(f"{path} has labels {table[:, 0].max()} and {table[:, 1].max()}, which are not CIFAR-100's.")
    return table


def split(table: np.ndarray, classes: list[list[int]]) -> TensorSplit:
    """Inputs and targets of each task. classes: of each superclass, its labels in order."""
    inputs, targets = {}, {}
    for label, (name, fine) in enumerate(zip(SUPERCLASSES, classes, strict=True)):
        own = table[table[:, 0] == label]
        strange = set(own[:, 1].tolist()) - set(fine)
        if strange or not len(own):
            raise ValueError(f"{name} has no images, or one of class {min(strange, default='none')}, which another "
                             "superclass has in training: the file is damaged.")
        inputs[name] = torch.from_numpy(own[:, 2:].reshape(-1, 3, 32, 32).copy()).float().div_(255)
        targets[name] = torch.tensor([fine.index(value) for value in own[:, 1].tolist()])
    return TensorSplit(inputs, targets)


def sample(folder: Path) -> None:
    """Ten training images and five test images of each superclass, by lot; its classes five that do not follow."""
    random = np.random.default_rng(0)
    classes = random.permutation(FINE * len(SUPERCLASSES)).reshape(len(SUPERCLASSES), FINE)
    folder.mkdir(parents=True, exist_ok=True)
    for part, rounds in (("train", 2), ("test", 1)):
        pairs = [(label, fine) for label in range(len(SUPERCLASSES)) for fine in classes[label]] * rounds
        table = random.integers(0, 256, (len(pairs), RECORD), dtype=np.uint8)
        table[:, :2] = random.permutation(pairs)
        table.tofile(folder / f"{part}.bin")


CIFAR100 = Published(
    "cifar100_mtl", parts, sample,
    licence="no licence is stated.",
    terms="Cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.",
    downloads=[Download("cifar-100-binary.tar.gz", ["https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"],
                        "md5:03b5dce01913d631647c71ecec9e9cb8", most=200 * 10**6)])
main = command(CIFAR100)

if __name__ == "__main__":
    main()
