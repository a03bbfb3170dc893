"""Imports run downhill, the command line stays light, and no file grows out of hand."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mtlcourse"
FILES = sorted(PACKAGE.rglob("*.py"))

# Ground first. A file imports only from floors below its own, or from its own folder.
FLOORS = [
    {"void", "files", "grammar"},
    {"batches", "losses", "metrics"},
    {"tasks"},
    {"data", "encoders", "strategies"},
    {"models"},
    {"theory"},
    {"training"},
    {"search"},
    {"safety"},
    {"published"},
    {"methods"},
    {"rebuilding"},
    {"runs", "counts"},
    {"bench", "export"},
    {"figures"},
    {"course"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
# Part of what a declared package promises.
BEHIND = {"traitlets": "nbclient", "jupyter_client": "nbclient", "jupyter_core": "nbclient", "IPython": "ipykernel",
          "threadpoolctl": "scikit-learn", "requests": "pooch", "docutils": "sphinx", "PIL": "matplotlib"}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "skimage": "scikit-image", "dask": "dask[distributed]",
                 "distributed": "dask[distributed]"}


def part(path: Path) -> str:
    """The house part that a file of the package belongs to: `models` for `models/hps.py`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str, folder: tuple[str, ...]) -> list[str]:
    """Full names of all that `source` imports, wherever in the file; `folder` is the package it stands in."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[:len(folder) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def climbs(source: str, folder: tuple[str, ...], own: str) -> list[str]:
    """The imports that run uphill, or sideways into another folder."""
    found = []
    for name in imported(source, folder):
        head, *rest = name.split(".")
        if head != "mtlcourse" or not rest or rest[0] == "__version__" or rest[0] == own:
            continue
        if FLOOR.get(rest[0], 99) >= FLOOR[own]:
            found.append(name)
    return found


def folder_of(path: Path) -> tuple[str, ...]:
    return path.parent.relative_to(ROOT).parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downhill(path: Path):
    if part(path) == "__init__":
        assert imported(path.read_text(), ("mtlcourse",)) == []
        return
    assert part(path) in FLOOR, "give it a place in FLOORS"
    assert climbs(path.read_text(), folder_of(path), part(path)) == []


@pytest.mark.parametrize(("source", "own", "uphill"), [
    ("from .training import fit", "models", ["mtlcourse.training.fit"]),
    ("def f():\n    from . import bench", "runs", ["mtlcourse.bench"]),
    ("import mtlcourse.models.hps", "encoders", ["mtlcourse.models.hps"]),
    ("from mtlcourse.data import load", "strategies", ["mtlcourse.data.load"]),
    ("from .unheard_of import x", "cli", ["mtlcourse.unheard_of.x"]),
    ("from .files import unknown\nfrom . import __version__\nimport torch", "tasks", []),
])
def test_the_walk_notices_a_climb(source: str, own: str, uphill: list[str]):
    assert climbs(source, ("mtlcourse",), own) == uphill


def test_the_walk_follows_dots():
    assert climbs("from ..training import fit\nfrom .base import x", ("mtlcourse", "models"), "models") == [
        "mtlcourse.training.fit"]


def declared(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    return {re.split(r"[<>=~!; ]", line)[0] for line in lines}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_imports_only_what_it_declares(path: Path):
    """Optional packages may be imported where they are used, never at the top of a file."""
    source = path.read_text()
    heads = {name.split(".")[0] for name in imported(source, folder_of(path))} - {"mtlcourse", *sys.stdlib_module_names}
    allowed = declared("cluster", "vision", "book")
    assert {DISTRIBUTIONS.get(name, BEHIND.get(name, name)) for name in heads} <= allowed
    top = "\n".join(ast.unparse(node) for node in ast.parse(source).body
                    if isinstance(node, ast.Import | ast.ImportFrom))
    optional = {"torchvision", "dask", "distributed", "docutils", "latex2mathml"}
    assert not optional & {name.split(".")[0] for name in imported(top, folder_of(path))}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_a_number_is_said_in_one_place(path: Path):
    """Python counts True as 1; a check by hand forgets that sooner or later."""
    by_hand = (r"isinstance\(([\w.]+), bool\) or not isinstance\(\1, \(?int\b(?! \| np)|"
               r"isinstance\(([\w.]+), \(?int\b[^)]*\)+ and not isinstance\(\2, bool\)|"
               r"(?<!bool\) or )not isinstance\([\w.]+, int\)")
    assert path.name == "files.py" or not re.search(by_hand, path.read_text())


def test_what_is_asked_for_by_name_is_in_its_extra():
    asked = [(path, *match) for path in FILES
             for match in re.findall(r'(?<!>> )optional\("([\w.]+)", "(\w+)"\)', path.read_text())]
    assert asked
    for path, module, extra in asked:
        assert module.split(".")[0] in declared(extra) - declared(), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_finished_and_short(path: Path):
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)
    assert len(text.splitlines()) < 450
    assert not re.search(r"^if TYPE_CHECKING", text, re.MULTILINE), "it switches shape checking off silently"
    assert path.stat().st_size == 0 or ast.get_docstring(ast.parse(text)), "the first lines say what a file is"
