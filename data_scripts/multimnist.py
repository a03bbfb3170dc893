"""Fetch and convert MNIST for `data.load("multimnist")`: `python data_scripts/multimnist.py --root data`.

The four published files, `{train,t10k}-images-idx3-ubyte.gz` and `{train,t10k}-labels-idx1-ubyte.gz`, 60,000 and 10,000
digits; from each part as many canvases are made by lot as it has digits. Unpacked files, without `.gz`, are taken too.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from mtlcourse.data.multidigits import CLASSES, DIGIT, canvases, multimnist
from mtlcourse.data.sets import Download, Part, Published, command
from mtlcourse.data.splits import generator

FILES = {"train": "train", "test": "t10k"}
KINDS = {"images": ("images-idx3-ubyte", 2051, 3), "labels": ("labels-idx1-ubyte", 2049, 1)}  # name, magic, dimensions
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"


def read(folder: Path, part: str, kind: str) -> np.ndarray:
    """The array of one IDX file. Raises FileNotFoundError, and ValueError for a part of one or another file."""
    name, magic, dimensions = KINDS[kind]
    plain = folder / f"{FILES[part]}-{name}"
    packed = plain.with_name(plain.name + ".gz")
    if not (packed.is_file() or plain.is_file()):
        raise FileNotFoundError(f"There is no {packed}. Give the folder of the four files.")
    try:
        content = gzip.decompress(packed.read_bytes()) if packed.is_file() else plain.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{packed} is cut off, or another file ({error}). Get it again.") from error
    start = 4 * (1 + dimensions)
    numbers = np.frombuffer(content[:start], dtype=">i4").tolist() if len(content) >= start else [0]
    if numbers[0] != magic or len(content) - start != np.prod(numbers[1:]):
        raise ValueError(f"{plain} is cut off, or no IDX file of {kind}. Get it again.")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(numbers[1:])


def parts(folder: Path) -> dict[str, Part]:
    """As many canvases as digits of each part, drawn from digits of that part alone."""
    tasks, made = multimnist(with_data=False).tasks, {}
    for part in FILES:
        digits, labels = read(folder, part, "images"), read(folder, part, "labels").astype(np.int64)
        counts = np.bincount(labels, minlength=CLASSES)
        if digits.shape != (len(labels), DIGIT, DIGIT) or len(counts) > CLASSES or not counts.min():
            raise ValueError(f"{folder}: {part} has images {digits.shape} for {len(labels)} labels up to "
                             f"{labels.max()}; they must be 28 x 28, one a label, of all ten digits.")
        random = generator(0, f"multimnist/{part}")
        shuffled = random.permutation(len(labels))
        pool = np.stack([shuffled[labels[shuffled] == label][: counts.min()] for label in range(CLASSES)])
        made[part] = Part(canvases(digits, pool, len(labels), 8, random), tasks)
    return made


def sample(folder: Path) -> None:
    """Sixty and thirty digits by lot."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for part, number in (("train", 60), ("test", 30)):
        labels = random.permutation(np.arange(number) % CLASSES).astype(np.uint8)
        images = random.integers(0, 256, (number, DIGIT, DIGIT), dtype=np.uint8)
        for kind, values in (("images", images), ("labels", labels)):
            name, magic, _ = KINDS[kind]
            header = np.array([magic, *values.shape], dtype=">i4").tobytes()
            (folder / f"{FILES[part]}-{name}.gz").write_bytes(gzip.compress(header + values.tobytes()))


MULTIMNIST = Published(
    "multimnist", parts, sample,
    licence="no licence is stated by its authors.",
    terms="Cite Y. LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.",
    downloads=[Download(f"{part}-{name}.gz", [f"{MIRROR}/{part}-{name}.gz"])
               for part in FILES.values() for name, *_ in KINDS.values()])
main = command(MULTIMNIST)

if __name__ == "__main__":
    main()
