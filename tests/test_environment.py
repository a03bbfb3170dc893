"""pyproject.toml, environment.yml, constraints and Makefile agree, and the Makefile says what is missing."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rattler import MatchSpec
from rattler.exceptions import InvalidMatchSpecError

from mtlcourse.course import machines

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = ["course", "book", "test", "test-portable", "test-vision", "lab", "notebooks", "results", "bench", "lint"]
CONDA = {"torch": ["pytorch"], "matplotlib": ["matplotlib-base"], "dask[distributed]": ["dask", "distributed"]}


def requirements(*extras: str) -> list[Requirement]:
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return [Requirement(line) for line in lines]


def floor(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == ">=", f"{requirement} needs a floor"
    return specifier.version


def environment() -> tuple[list[str], list[str]]:
    """The conda lines and the pip lines of environment.yml."""
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [line["pip"] for line in lines if isinstance(line, dict)]
    return [line for line in lines if isinstance(line, str)], pip


# --- pyproject and conda ---------------------------------------------------------------------------

@pytest.mark.parametrize("line", environment()[0])
def test_conda_lines_are_match_specs(line: str):
    MatchSpec(line, strict=True)


def test_the_check_of_match_specs_can_fail():
    with pytest.raises(InvalidMatchSpecError):
        MatchSpec("numpy>=>2", strict=True)


def test_conda_and_pip_name_the_same_packages_and_floors():
    conda, pip = environment()
    assert "-e ." in pip
    wanted = {f"python{PROJECT['requires-python']}", "pip"}
    for requirement in requirements("dev"):
        name = str(requirement).partition(">")[0]
        wanted |= {f"{conda_name}>={floor(requirement)}" for conda_name in CONDA.get(name, [name])}
    assert set(conda) | set(pip) - {"-e ."} == wanted
    assert len(conda) == len(set(conda))


def test_the_cluster_and_book_extras_are_part_of_dev():
    optional = PROJECT["optional-dependencies"]
    assert {*optional["cluster"], *optional["book"]} <= set(optional["dev"])
    assert optional["vision"] == ["torchvision>=0.29"]


# --- constraints -----------------------------------------------------------------------------------

def pins(file: str = "core.txt") -> dict[str, str]:
    lines = (ROOT / "constraints" / file).read_text().splitlines()
    return dict(re.fullmatch(r"([\w.-]+)==([\w.+!]+)", line).groups() for line in lines if line and line[0] != "#")


def test_every_requirement_is_pinned_above_its_floor():
    pinned = {canonicalize_name(name): version for name, version in pins().items()}
    for requirement in requirements("dev"):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_pins_fit_any_build_of_a_version():
    assert not [version for version in pins().values() if "+" in version]
    assert "torchvision" not in pins()  # it does not import beside this torch


def test_the_vision_set_is_the_core_set_with_the_torch_that_torchvision_prescribes():
    core, vision = pins(), pins("vision.txt")
    assert {name for name in vision if core.get(name) != vision[name]} == {"torch", "torchvision"}
    assert set(core) - set(vision) == set()
    (requirement,) = map(Requirement, PROJECT["optional-dependencies"]["vision"])
    assert requirement.specifier.contains(vision["torchvision"])
    assert str(requirement) in (ROOT / "environment.yml").read_text()  # named there, though not installed


# --- Makefile --------------------------------------------------------------------------------------

@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `make` needs to decide whether the environment is fresh."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "constraints", tmp_path / "constraints")
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=folder, env=kept, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL)


def fake_python(folder: Path, answers: str) -> str:
    path = folder / "fakepython"
    path.write_text(f"#!/bin/sh\ncase \"$2\" in {answers} esac\nexit 1\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_makes_the_environment_first(clone: Path, target: str):
    planned = make(clone, "-n", target, f"PYTHON={sys.executable}", "PIP_ARGS=--index-url elsewhere").stdout
    assert "-m venv" in planned and "--index-url elsewhere -e" in planned


def test_the_environment_is_reused_until_the_constraints_change(clone: Path):
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".ready").touch()
    assert "pip install" not in make(clone, "-n", "test").stdout
    for changed in ("constraints/core.txt", "pyproject.toml"):
        later = (clone / ".venv" / ".ready").stat().st_mtime + 10
        os.utime(clone / changed, (later, later))
        assert "pip install" in make(clone, "-n", "test", f"PYTHON={sys.executable}").stdout
        os.utime(clone / ".venv" / ".ready", (later, later))


def test_the_vision_environment_is_one_of_its_own(clone: Path):
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".ready").touch()
    planned = make(clone, "-n", "test-vision", f"PYTHON={sys.executable}").stdout.replace(sys.executable, "python")
    assert "-m venv --clear .venv-vision" in planned and '-c constraints/vision.txt  -e ".[dev,vision]"' in planned
    assert ".venv/" not in planned and "constraints/core.txt" not in planned
    planned = make(clone, "-n", "test", f"PYTHON={sys.executable}").stdout
    assert "vision" not in planned


@pytest.mark.parametrize("answers", ["", "*version_info*) echo False; exit 0;;"], ids=["absent", "old"])
def test_a_missing_python_gives_one_sentence(clone: Path, answers: str):
    python = fake_python(clone, answers) if answers else "no-such-python"
    done = make(clone, "course", f"PYTHON={python}")
    assert done.returncode and done.stdout == "" and not (clone / ".venv").exists()
    (line,) = done.stderr.splitlines()
    assert f'"{python}" is not a Python 3.11 or newer: install one' in line


def test_a_missing_venv_module_gives_one_sentence(clone: Path):
    done = make(clone, "course", f"PYTHON={fake_python(clone, '*version_info*) echo True; exit 0;;')}")
    (line,) = done.stderr.splitlines()
    assert done.returncode and "install its venv module" in line and "python3-venv" in line


def test_make_alone_says_what_there_is(clone: Path):
    said = make(clone).stdout
    assert all(f"make {target} " in said for target in TARGETS)
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("name", machines.SETS)
def test_the_portability_run_has_each_instruction_set(clone: Path, name: str):
    planned = make(clone, "-n", "test-portable", f"PYTHON={sys.executable}").stdout
    (part,) = re.findall(rf"-m mtlcourse.course.machines {name}\) && .* -m pytest .*", planned)
    assert "tests/strategies" in part and "tests/notebooks/test_stored_outputs.py" in part
    only = make(clone, "-n", "test-portable", f"SETS={name}", f"PYTHON={sys.executable}").stdout
    assert part in only and only.count("-m pytest") == 1
    named = [word for word in part.split() if word.startswith("tests/")]
    assert not [word for word in named if not (ROOT / word).exists()]


def test_an_instruction_set_is_printed_as_a_shell_takes_it():
    def said(*names: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "mtlcourse.course.machines", *names], cwd=ROOT, text=True,
                              capture_output=True)

    done = said("avx2")
    assert dict(word.split("=") for word in done.stdout.split()) == machines.SETS["avx2"] and done.returncode == 0
    for names in ([], ["avx9"]):
        assert said(*names).returncode == 1 and "One of avx2, sse" in said(*names).stderr


def test_the_checking_machine_runs_all_sets_of_tests():
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK) and path.read_text().endswith(
        "\nmake test\nmake test-portable\nexec make test-vision\n")
    assert subprocess.run(["bash", "-n", path]).returncode == 0


def test_both_licences_are_there():
    text = (ROOT / "LICENSE").read_text()
    assert "MIT License" in text and "CC BY 4.0" in text and "creativecommons.org/licenses/by/4.0" in text
    assert PROJECT["license"] == "MIT AND CC-BY-4.0"
