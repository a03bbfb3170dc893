"""Files in the IDX format, in which MNIST and its likes are published. Imports nothing of the package."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

Labelled = tuple[UInt8[np.ndarray, "samples height width"], Int[np.ndarray, "samples"]]
FASHION = "/usr/share/datasets/fashion-mnist"  # where Debian's package dataset-fashion-mnist puts them
FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}


def read_idx(path: str | Path) -> UInt8[np.ndarray, "*shape"]:
    """The array of bytes in an IDX file, packed with gzip or not.

    The file begins with two zeros, 8 for unsigned bytes, the number of dimensions, and each of these as four bytes, the
    most significant first. Raises FileNotFoundError, and ValueError for a file of another kind or one that is cut off.
    """
    path = Path(path)
    try:
        with (gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            content = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is cut off, or not packed with gzip ({error}); get it anew.") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes: it begins with {content[:4]!r}.")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if len(content) - start != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} is cut off: it says {shape} and holds {len(content) - start} bytes.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def write_idx(path: Path, array: UInt8[np.ndarray, "*shape"]) -> None:
    """An array of bytes as an IDX file, packed with gzip if it is called so; the same array gives the same file."""
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_set(root: str | Path, part: str) -> Labelled:
    """Images and labels of the part "train" or "test" of a set like MNIST, whose four files lie in the folder `root`.

    Raises FileNotFoundError, naming it, for a file that is not there, with or without ".gz"; and as `read_idx` does.
    """
    found = []
    for name in FILES[part]:
        paths = [Path(root) / name, Path(root) / f"{name}.gz"]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise FileNotFoundError(f"There is neither {paths[0]} nor {paths[1].name} beside it.")
        found.append(read_idx(path))
    images, labels = found
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"In {root}, {FILES[part][0]} has the shape {images.shape} and {FILES[part][1]} "
                         f"{labels.shape}: they do not belong together.")
    return images, labels.astype(np.int64)


def fashion(root: str | Path | None) -> Labelled:
    """The 70,000 images of Fashion-MNIST, those for training first.

    Raises FileNotFoundError where they are not, saying how they come there.
    """
    root = FASHION if root is None else root
    try:
        parts = [read_set(root, part) for part in FILES]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} Fashion-MNIST comes with Debian's package dataset-fashion-mnist; or give its "
                                "folder as root.") from error
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)
