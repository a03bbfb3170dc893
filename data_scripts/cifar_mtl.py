"""Fetch and convert CIFAR-10 for `data.load("cifar_mtl")`: `python data_scripts/cifar_mtl.py --root data`.

The binary version, `cifar-10-binary.tar.gz`, with `cifar-10-batches-bin/data_batch_1.bin` to `data_batch_5.bin` and
`test_batch.bin`: records of 3,073 bytes, a label and three planes (red, green, blue) of 32 x 32 pixels. `--source`
takes folders of images too: `train/CLASS/*.png` and `test/CLASS/*.png`, 32 x 32 pixels in colour, CLASS being
airplane, automobile, bird, cat, deer, dog, frog, horse, ship or truck; also .jpg and .jpeg. The version for Python
consists of pickles, which can run code when they are read: it is not taken.
"""

from pathlib import Path

import numpy as np
import torch

from mtlcourse.data.cifar_records import FILES, read_records, write_records
from mtlcourse.data.image_folders import SUFFIXES
from mtlcourse.data.layouts import read_pixels
from mtlcourse.data.one_against_all import CIFAR, cifar_mtl
from mtlcourse.data.sets import Download, Part, Published, command, inner
from mtlcourse.tasks import TensorSplit

CLASSES = len(CIFAR)


def parts(folder: Path) -> dict[str, Part]:
    """The published parts, each image with the answers of all ten tasks."""
    tasks, made = cifar_mtl(with_data=False).tasks, {}
    try:
        folder = inner(folder, "data_batch_1.bin")
        folders = False
    except FileNotFoundError:
        folders = (folder / "train").is_dir()
        if not folders:
            raise
    for part, names in FILES[CLASSES].items():
        images, labels = _from_folders(folder / part) if folders else _from_binary([folder / name for name in names])
        missing = sorted(set(range(CLASSES)) - set(labels.tolist()))
        if missing:
            raise ValueError(f"{folder}: no image of the {part} part is labelled "
                             f"{', '.join(CIFAR[label] for label in missing)}; it is damaged, or another set.")
        answers = {name: torch.from_numpy((labels == label).astype(np.int64)) for label, name in enumerate(CIFAR)}
        made[part] = Part(TensorSplit(torch.from_numpy(images).float().div_(255), answers), tasks)
    return made


def _from_binary(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_records(paths, CLASSES)
    return images, labels[:, 0]


def _from_folders(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for label, name in enumerate(CIFAR):
        paths = sorted(path for path in (folder / name).glob("*") if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise FileNotFoundError(f"{folder / name} is missing, or without a {', '.join(SUFFIXES)} file.")
        for path in paths:
            pixels = read_pixels(path)
            if pixels.shape != (32, 32, 3) or pixels.dtype != np.uint8:
                raise ValueError(f"{path} is {pixels.dtype} of {' x '.join(map(str, pixels.shape))}, not an image of "
                                 "32 x 32 pixels in three colours of 8 bits.")
            images.append(pixels.transpose(2, 0, 1))
            labels.append(label)
    return np.stack(images), np.array(labels, dtype=np.uint8)


def sample(folder: Path) -> None:
    """Sixty images for training and thirty for testing by lot."""
    random = np.random.default_rng(0)
    write_records(folder, CLASSES, {part: random.permutation(np.arange(number) % CLASSES)[:, None]
                                    for part, number in (("train", 60), ("test", 30))})


CIFAR10 = Published(
    "cifar_mtl", parts, sample,
    licence="no licence is stated.",
    terms="Cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.",
    downloads=[Download("cifar-10-binary.tar.gz", ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"],
                        "md5:c32a1d4ab5d03f1284b67883e8d87530", most=200 * 10**6)])
main = command(CIFAR10)

if __name__ == "__main__":
    main()
