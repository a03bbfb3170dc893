"""What contributors are told is so: files are where it says, hooks do what `make lint` does, the citation is valid."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from mtlcourse import __version__

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
MAKE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:mtlcourse|tests|notebooks)/[\w./]*)`", TEXT))))
def test_paths_are_there(path: str):
    names = path.replace("chapter_NN", "chapter_01").replace("NN_topic", "01_two_tasks_one_network")
    assert (ROOT / names).exists()


@pytest.mark.parametrize(("part", "folder"), [
    ("A problem", "data"), ("A strategy", "strategies"), ("An architecture", "models")])
def test_what_to_read_is_there(part: str, folder: str):
    section = TEXT.split(f"## {part}\n")[1].split("\n## ")[0]
    (name,) = re.findall(r"`(\w+\.py)`\s+is\s+the\s+one\s+to\s+read", section)
    assert (ROOT / "mtlcourse" / folder / name).exists()


def test_it_is_one_page():
    assert len(TEXT.splitlines()) <= 66 and len(TEXT.split()) < 700


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make (\w+)", TEXT))))
def test_targets_are_there(target: str):
    assert re.search(rf"^{target}:", MAKE, re.MULTILINE)


def test_hooks_are_the_projects_own_linters():
    assert [repository["repo"] for repository in HOOKS] == ["local"], "hooks that are downloaded have other versions"
    entries = {hook["id"]: hook["entry"] for hook in HOOKS[0]["hooks"]}
    lint = MAKE.split("\nlint:")[1].split("\n\n")[0]
    for name in ("ruff", "mypy"):
        command = re.search(rf"-m {name}\b.*", lint)[0]
        assert entries[name].split("-m ")[1] in command.replace(" --quiet", ""), f"make lint says {command}"
    for path in re.findall(r"tests/\S+", " ".join(entries.values())):
        assert (ROOT / path).exists()


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() and citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    licence = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert citation["license"] == licence.split(" AND ")
