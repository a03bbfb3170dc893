"""The published sets' samples, each made and converted once for all tests."""

import pytest

from .scripts import ran


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """`root(name)`: the folder into which samples are converted, that of the set `name` among them; only to be read."""
    folder = tmp_path_factory.mktemp("sets")
    made: set[str] = set()

    def have(name: str) -> str:
        if name not in made:
            ran(name, "--sample", "--root", folder)
            made.add(name)
        return str(folder)

    return have
