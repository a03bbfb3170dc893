"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
           for path in sorted((ROOT / "mtlcourse").rglob("*.py")) if path.name != "__main__.py"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


def test_examples_are_found():
    assert doctest.testmod(importlib.import_module("mtlcourse.void")).attempted >= 2
