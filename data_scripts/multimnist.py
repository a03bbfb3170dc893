"""Fetch and convert MNIST for `data.load("multimnist")`: `python data_scripts/multimnist.py --root data`.

The four published files, `{train,t10k}-images-idx3-ubyte.gz` and `{train,t10k}-labels-idx1-ubyte.gz`, 60,000 and 10,000
digits; from each part as many canvases are made by lot as it has digits. Unpacked files, without `.gz`, are taken too.
"""

from pathlib import Path

import numpy as np

from mtlcourse.data.idx import FILES, read_set, write_idx
from mtlcourse.data.multidigits import CLASSES, DIGIT, canvases, multimnist
from mtlcourse.data.sets import Download, Part, Published, command
from mtlcourse.data.splits import generator

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"


def parts(folder: Path) -> dict[str, Part]:
    """As many canvases as digits of each part, drawn from digits of that part alone."""
    tasks, made = multimnist(with_data=False).tasks, {}
    for part in FILES:
        digits, labels = read_set(folder, part)
        counts = np.bincount(labels, minlength=CLASSES)
        if digits.shape[1:] != (DIGIT, DIGIT) or len(counts) > CLASSES or not counts.min():
            raise ValueError(f"{folder}: {part} has images {digits.shape} for {len(labels)} labels up to "
                             f"{labels.max(initial=0)}; they must be 28 x 28, one a label, of all ten digits.")
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
        for name, values in zip(FILES[part], (images, labels), strict=True):
            write_idx(folder / f"{name}.gz", values)


MULTIMNIST = Published(
    "multimnist", parts, sample,
    licence="no licence is stated by its authors.",
    terms="Cite Y. LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.",
    downloads=[Download(f"{name}.gz", [f"{MIRROR}/{name}.gz"]) for names in FILES.values() for name in names])
main = command(MULTIMNIST)

if __name__ == "__main__":
    main()
