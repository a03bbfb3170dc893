"""The binary version of CIFAR-10 and CIFAR-100: records of one or two labels and three planes of 32 x 32 pixels.

Imports nothing of the package. The version for Python consists of pickles, which can run code when they are read: it is
not taken.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

PIXELS = 3 * 32 * 32
FOLDERS = {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}  # by classes
FILES = {10: {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]},
         100: {"train": ["train.bin"], "test": ["test.bin"]}}
LABELS = {10: (10,), 100: (20, 100)}  # how many values each label of a record has: class; or superclass and class


def read_records(paths: Sequence[Path], classes: int
                 ) -> tuple[UInt8[np.ndarray, "images 3 32 32"], UInt8[np.ndarray, "images labels"]]:
    """Images, red, green and blue planes, and their labels, from the records of some files in turn.

    classes: 10 or 100, which of the two sets it is.
    Raises FileNotFoundError for a file that is not there, ValueError for one that is cut off or another set's.
    """
    known = LABELS[classes]
    record, pieces = len(known) + PIXELS, []
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"There is no {path}: unpack the archive of the binary version again.")
        size = path.stat().st_size
        if not size or size % record:
            raise ValueError(f"{path} has {size:,} bytes, no whole number of records of {record:,}: it is cut off, or "
                             "another file. Get it again.")
        table = np.fromfile(path, np.uint8).reshape(-1, record)
        for column, values in enumerate(known):
            highest = int(table[:, column].max())
            if highest >= values:
                what = "classes" if values == classes else "superclasses"
                raise ValueError(f"{path} has the label {highest}, and there are {values} {what}: it is another set, "
                                 "or damaged. Get it again.")
        pieces.append(table)
    whole = np.concatenate(pieces)
    return whole[:, len(known) :].reshape(-1, 3, 32, 32), whole[:, : len(known)]


def write_records(folder: Path, classes: int, parts: dict[str, Integer[np.ndarray, "images labels"]],
                  seed: int = 0) -> None:
    """Files with these labels and pixels by lot, in the layout that `read_records` reads; a part's share its images."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for part, labels in parts.items():
        pixels = random.integers(0, 256, (len(labels), PIXELS), dtype=np.uint8)
        table = np.concatenate([labels.astype(np.uint8), pixels], 1)
        names = FILES[classes][part]
        for number, name in enumerate(names):
            np.ascontiguousarray(table[number :: len(names)]).tofile(folder / name)
