"""Convert CIFAR-10 for `data.load("cifar_mtl")`: `python data_scripts/cifar_mtl.py --source FOLDER --root data`.

FOLDER holds one of
- the binary version: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, here or in `cifar-10-batches-bin`;
  records of 3,073 bytes, a label and three planes (red, green, blue) of 32 x 32 pixels;
- folders of images: `train/CLASS/*.png` and `test/CLASS/*.png`, 32 x 32 pixels in colour, CLASS being airplane,
  automobile, bird, cat, deer, dog, frog, horse, ship or truck; also .jpg and .jpeg.
The third version, for Python, consists of pickles, which can run code when they are read: it is not taken.

The authors' page, https://www.cs.toronto.edu/~kriz/cifar.html, has the binary version. It states no licence; it asks
users to cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

Writes one file into the root, whole or not at all.
"""

from pathlib import Path

import click
import numpy as np
from skimage.io import imread

from mtlcourse.data.one_against_all import CIFAR, CIFAR_FILE, check_cifar
from mtlcourse.files import atomic

BINARY = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
RECORD = 1 + 3 * 32 * 32
IMAGES = (".png", ".jpg", ".jpeg")
PUBLISHED = {"train": 50_000, "test": 10_000}


def read(source: Path) -> dict[str, np.ndarray]:
    """`train_images`, `train_labels`, `test_images`, `test_labels` from either layout in the folder `source`.

    Raises FileNotFoundError for neither layout and for a part of one, ValueError for contents that are not CIFAR-10's.
    """
    for folder in (source, source / "cifar-10-batches-bin"):
        if any((folder / name).exists() for names in BINARY.values() for name in names):
            return _both(lambda part, folder=folder: _from_binary([folder / name for name in BINARY[part]]))
    if any((source / part).is_dir() for part in PUBLISHED):
        return _both(lambda part: _from_folders(source / part))
    raise FileNotFoundError(f"{source} has neither data_batch_1.bin and its like, nor the folders train and test with "
                            "a folder for each class. Give the folder of the unpacked binary version, or of the "
                            "images.")


def convert(source: Path, root: Path) -> Path:
    """Read `source` and write the file that `data.load("cifar_mtl", root=root)` reads; its path."""
    arrays = read(source)

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    atomic(root / CIFAR_FILE, write)
    return root / CIFAR_FILE


def _both(read_part) -> dict[str, np.ndarray]:
    arrays = {}
    for part in PUBLISHED:
        images, labels = read_part(part)
        try:
            check_cifar(images, labels)
        except ValueError as error:
            raise ValueError(f"The {part} part is not CIFAR-10's: {error}.") from error
        arrays |= {f"{part}_images": images, f"{part}_labels": labels}
    return arrays


def _from_binary(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    records = []
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; the others are there. Unpack the archive again.")
        size = path.stat().st_size
        if not size or size % RECORD:
            raise ValueError(f"{path} has {size:,} bytes, no whole number of records of {RECORD:,}: it is cut off, or "
                             "another file. Get it again.")
        records.append(np.fromfile(path, dtype=np.uint8).reshape(-1, RECORD))
    table = np.concatenate(records)
    return table[:, 1:].reshape(-1, 3, 32, 32), table[:, 0].copy()


def _from_folders(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for label, name in enumerate(CIFAR):
        paths = sorted(path for path in (folder / name).glob("*") if path.suffix.lower() in IMAGES)
        if not paths:
            raise FileNotFoundError(f"{folder / name} is missing, or without a {', '.join(IMAGES)} file.")
        for path in paths:
            pixels = imread(path)
            if pixels.shape != (32, 32, 3) or pixels.dtype != np.uint8:
                raise ValueError(f"{path} is {pixels.dtype} of {' x '.join(map(str, pixels.shape))}, not an image of "
                                 "32 x 32 pixels in three colours of 8 bits.")
            images.append(pixels.transpose(2, 0, 1))
            labels.append(label)
    return np.stack(images), np.array(labels, dtype=np.uint8)


@click.command()
@click.option("--source", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="The folder of the binary files, or of the images.")
@click.option("--root", default="data", show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Where the converted file goes.")
def main(source: Path, root: Path) -> None:
    """Convert CIFAR-10 for the problem cifar_mtl."""
    try:
        path = convert(source, root)
        with np.load(path, allow_pickle=False) as file:
            there = {part: len(file[f"{part}_labels"]) for part in PUBLISHED}
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    found = ", ".join(f"{there[part]:,} of the published {size:,} {part} images" for part, size in PUBLISHED.items())
    click.echo(f"{path}: {found}.\nCIFAR-10 states no licence; cite A. Krizhevsky, Learning Multiple Layers of "
               "Features from Tiny Images, 2009.")


if __name__ == "__main__":
    main()
