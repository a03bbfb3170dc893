"""What the making of every split needs: checked sizes, its own random generator, and an order by lot.

Imports `files`.
"""

import numpy as np
from jaxtyping import Integer

from ..files import derived_seed, is_number, is_whole


def split_sizes(train: object, val: object, test: object) -> dict[str, int]:
    """The three sizes by split name; ValueError unless each is a whole number of at least 1."""
    sizes = {}
    for split, size in {"train": train, "val": val, "test": test}.items():
        if not is_whole(size, 1):
            raise ValueError(f"{split}={size!r}: a split needs a whole number of samples, at least 1.")
        sizes[split] = size
    return sizes


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers for the part called `name`: no other part of a problem draws from the same stream."""
    return np.random.default_rng(derived_seed(seed, name))


def at_most(wanted: int, there: int, what: str) -> None:
    """Raise ValueError, saying `what` is wanted, for more samples than there are."""
    if wanted > there:
        raise ValueError(f"{what} are {wanted:,}, and there are {there:,}: ask for fewer.")


def check_proportion(proportion: object) -> None:
    """Raise ValueError unless it is a share for training that leaves something besides a tenth to choose by."""
    if not is_number(proportion) or not 0 < proportion < 0.9:
        raise ValueError(f"proportion={proportion!r}: the share for training, above 0 and below 0.9; a tenth is held "
                         "out for validation.")


def ends(number: int, proportion: float, what: str) -> Integer[np.ndarray, "2"]:
    """Where the share for training ends, and where the tenth to choose by does. Raises ValueError for an empty split.

    >>> ends(50, 0.6, "rows")
    array([30, 35])
    """
    places = np.array([round(proportion * number), round((proportion + 0.1) * number)])
    if not 0 < places[0] < places[1] < number:
        raise ValueError(f"proportion={proportion} of {number} {what} leaves a split empty; there must be more of "
                         "them, or another share.")
    return places


def mixed(labels: Integer[np.ndarray, "samples"], random: np.random.Generator) -> Integer[np.ndarray, "samples"]:
    """All samples by lot, in an order of which every part has the classes in the shares that the whole has."""
    place = np.empty(len(labels))  # from 0 to 1: each class is spread evenly over all of it
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        place[own] = (random.permutation(len(own)) + random.random(len(own))) / len(own)
    return place.argsort()
