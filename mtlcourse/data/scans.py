"""USPS and SVHN, read from the files in which they are published. Imports nothing of the package."""

import bz2
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

PARTS = {"usps": ("usps.bz2", "usps.t.bz2"), "svhn": ("train_32x32.mat", "test_32x32.mat")}
Labelled = tuple[UInt8[np.ndarray, "samples *pixels"], Int[np.ndarray, "samples"]]


def usps(root: str | Path) -> Labelled:
    """The 9,298 digits of USPS, 16 x 16, from `usps.bz2` and `usps.t.bz2` in the folder `root`.

    Each line of the unpacked text is a label from 1 to 10, one more than the digit, and 256 pairs `place:value`, values
    from -1 to 1, those that are missing 0. Raises as `_paths` does, and ValueError for other lines.
    """
    images, labels = [], []
    for path in _paths(root, "usps"):
        try:
            lines = bz2.decompress(path.read_bytes()).decode("ascii").splitlines()
            for line in lines:
                label, *pairs = line.split()
                row = np.zeros(256)
                for place, _, value in (pair.partition(":") for pair in pairs):
                    row[int(place) - 1] = float(value)
                images.append(row)
                labels.append(int(float(label)) - 1)
        except (OSError, ValueError, IndexError) as error:
            raise ValueError(f"{path} is not USPS as it is published ({error}); get it anew.") from error
    pixels = np.clip((np.array(images) + 1) / 2 * 255, 0, 255).round().astype(np.uint8)
    return pixels.reshape(-1, 16, 16), _digits(labels, root)


def svhn(root: str | Path) -> Labelled:
    """The 99,289 house numbers of SVHN's cropped format, 3 x 32 x 32, from its two MATLAB files in the folder `root`.

    `X` is (32, 32, 3, samples), `y` the digit, 10 for 0. Raises as `_paths` does, and ValueError for other files.
    """
    images, labels = [], []
    for path in _paths(root, "svhn"):
        pixels, digits = read_svhn(path)
        images.append(pixels)
        labels += digits.tolist()
    return np.concatenate(images), _digits(labels, root)


def read_svhn(path: Path) -> Labelled:
    """Images, (samples, 3, 32, 32), and digits of one MATLAB file. Raises ValueError for another file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        file = loadmat(path, variable_names=["X", "y"])
        X, labels = file["X"], file["y"].ravel().astype(np.int64) % 10
    except (KeyError, IndexError, ValueError, TypeError, OSError, EOFError, MatReadError) as error:
        raise ValueError(f"{path} is cut off, or no MATLAB file of SVHN ({error}). Get it again.") from error
    if X.dtype != np.uint8 or X.ndim != 4 or X.shape != (32, 32, 3, len(labels)):
        raise ValueError(f"{path} has X of {X.dtype} {X.shape}; SVHN's is uint8 (32, 32, 3, {len(labels)}).")
    return np.ascontiguousarray(X.transpose(3, 2, 0, 1)), labels


def _digits(labels: list[int], root: str | Path) -> Int[np.ndarray, "samples"]:
    found = np.array(labels, np.int64)
    if found.size == 0 or found.min() < 0 or found.max() > 9:
        raise ValueError(f"The labels in {root} are no digits: they run from {found.min()} to {found.max()}."
                         if found.size else f"There is no sample in {root}.")
    return found


def _paths(root: str | Path, name: str) -> list[Path]:
    """The files of a set; FileNotFoundError, naming it, for one that is not there."""
    paths = [Path(root) / file for file in PARTS[name]]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"There is no {path}. Get {name.upper()} from its authors, and give the folder of "
                                    "its files as root.")
    return paths
