"""What the making of every split needs: checked sizes, and its own random generator.

Imports `files`.
"""

import numpy as np

from ..files import derived_seed


def split_sizes(train: object, val: object, test: object) -> dict[str, int]:
    """The three sizes by split name; ValueError unless each is a whole number of at least 1."""
    sizes = {}
    for split, size in {"train": train, "val": val, "test": test}.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{split}={size!r}: a split needs a whole number of samples, at least 1.")
        sizes[split] = size
    return sizes


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers for the part called `name`: no other part of a problem draws from the same stream."""
    return np.random.default_rng(derived_seed(seed, name))
