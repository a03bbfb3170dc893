"""`robust_cifar10` and `robust_cifar100`: as `robust_digits`, on the images of the thesis, where they are.

Imports `tasks`, its folder's `cifar_records`, `kinds`, `outside`, `probes`, `registry`, `scans`, `splits`. The images
are read from the published files as they are; nothing is unpickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from ..tasks import Problem, TensorSplit
from .cifar_records import FILES, FOLDERS, read_records
from .kinds import classification
from .outside import USES
from .probes import robustness
from .registry import register
from .scans import read_svhn
from .splits import at_most, generator, mixed, split_sizes

FOREIGN = ("train_32x32.mat", "test_32x32.mat")  # of SVHN, in the folder svhn
PAGES = {"cifar": "https://www.cs.toronto.edu/~kriz/cifar.html", "svhn": "http://ufldl.stanford.edu/housenumbers"}
PRINTED = {"epochs": 50, "lr": 1e-3, "batch_size": 64}  # section 3.3.2.2, for searches; 1e-3 is 0.025 for SGD there


@register("robust_cifar10")
def robust_cifar10(train: int = 45_000, val: int = 5_000, test: int = 10_000, epsilon: float | int = 2 / 255,
                   seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """One task, `image`, ten classes of CIFAR-10, 3 x 32 x 32 in [0, 1]; house numbers of SVHN are outside.

    train, val, test: images; the thesis trains on all 50,000 and holds none out.
    epsilon: radius of the attack; 2 / 255 as printed.  seed: decides which images go where.
    root: the folder that has `cifar-10-batches-bin` (the binary version) and `svhn/train_32x32.mat`,
        `svhn/test_32x32.mat` (format 2): "lower" and "upper" are from the first, "test" from the second.
    Searches of the printed size have `sizes=paper` in their name, and budget "paper" for the printed epochs.
    Raises FileNotFoundError, naming the page, for a file that is not there; ValueError for one that is damaged, for
    more images than there are, and for an epsilon below 0.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 3.3.
    """
    return _problem(10, split_sizes(train, val, test), epsilon, seed, Path(root), with_data)


@register("robust_cifar100")
def robust_cifar100(train: int = 45_000, val: int = 5_000, test: int = 10_000, epsilon: float | int = 2 / 255,
                    seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """As `robust_cifar10`, with the hundred fine classes of CIFAR-100, from `cifar-100-binary`."""
    return _problem(100, split_sizes(train, val, test), epsilon, seed, Path(root), with_data)


def _problem(classes: int, sizes: dict[str, int], epsilon: float | int, seed: int, root: Path,
             with_data: bool) -> Problem:
    name, folder = f"robust_cifar{classes}", root / FOLDERS[classes]
    splits: dict[str, Any] = dict.fromkeys(sizes)
    elsewhere: dict[str, Tensor] = {}
    if with_data:
        parts = {part: _records([folder / file for file in files], classes) for part, files in FILES[classes].items()}
        order = {part: mixed(found[1], generator(seed, f"{name}/{part}")) for part, found in parts.items()}
        for split, size in sizes.items():
            part = "test" if split == "test" else "train"
            wanted = size if split == "test" else sizes["train"] + sizes["val"]
            at_most(wanted, len(order[part]), f"{wanted:,} images for {split}")
            rows = order[part][len(order[part]) - size :] if split == "val" else order[part][:size]
            images, found = parts[part]
            splits[split] = TensorSplit(_pixels(images[rows]), {"image": torch.from_numpy(found[rows])})
        foreign = [_foreign(root / "svhn" / file) for file in FOREIGN]
        half = len(foreign[0]) // 2
        cut = dict(zip(USES, (foreign[0][:half], foreign[0][half:], foreign[1]), strict=True))
        elsewhere = {use: cut[use][: sizes["test" if use == "test" else "train"]] for use in USES}
    return Problem(name, [classification("image", classes)], **splits, input_shape=(3, 32, 32),
                   encoder={"name": "conv", "channels": [32, 64, 128, 128]}, probes=robustness(epsilon),
                   outside=elsewhere, training={"fast": {**PRINTED, "epochs": 2, "samples": 4_000, "evaluate": 1_000},
                                                "full": {**PRINTED, "epochs": 10, "evaluate": 2_000},
                                                "paper": PRINTED})


def _records(paths: list[Path], classes: int
             ) -> tuple[UInt8[np.ndarray, "images 3 32 32"], Int64[np.ndarray, "images"]]:
    """Images and their classes, which are the last label of a record."""
    for path in paths:
        _there(path, "cifar", "the binary version of the set")
    images, labels = read_records(paths, classes)
    return images, labels[:, -1].astype(np.int64)


def _foreign(path: Path) -> Float[Tensor, "images 3 32 32"]:
    _there(path, "svhn", "format 2, cropped digits")
    return _pixels(read_svhn(path)[0])


def _there(path: Path, what: str, version: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}. Get {version} from {PAGES[what]}, and unpack it there.")


def _pixels(images: UInt8[np.ndarray, "images 3 32 32"]) -> Tensor:
    return torch.from_numpy(images).float().div_(255)
