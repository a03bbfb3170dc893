"""Folders for tests: what is in them, and what happens when the disk is full."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def full_disk(size: int = 2000) -> Iterator[None]:
    """Inside, this process can write no file beyond `size` bytes, as if the disk had no more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names_in(folder: Path) -> list[str]:
    """The names of all entries, hidden ones too, sorted."""
    return sorted(path.name for path in folder.iterdir())
