"""Small sets that lie in the package, so that a lesson needs neither a download nor an extra. Imports `files`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..files import atomic


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that `write` made. Nothing is unpickled."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to `path`, compressed, whole or not at all."""
    def save(target: Path) -> None:
        with open(target, "wb") as file:
            np.savez_compressed(file, **arrays)

    atomic(path, save)
