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
TARGETS = ["course", "book", "test", "test-portable", "test-browser", "test-vision", "lab", "notebooks", "results",
           "bench", "lint"]
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


EXTRAS = ("dev", "vision", "robot", "text", "timm")


def test_the_set_of_all_extras_is_the_core_set_with_the_torch_that_torchvision_prescribes():
    core, extras = pins(), pins("vision.txt")
    assert {name for name in core if core[name] != extras.get(name)} == {"torch"}
    pinned = {canonicalize_name(name): version for name, version in extras.items()}
    for requirement in requirements(*EXTRAS):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    assert {"turkish-treebanks"} <= set(pinned) and not [version for version in pinned.values() if "+" in version]
    assert PROJECT["optional-dependencies"]["vision"][0] in (ROOT / "environment.yml").read_text()  # only named there


def test_every_extra_is_part_of_dev_or_tested_in_another_environment():
    assert set(PROJECT["optional-dependencies"]) == {"cluster", "book", "browser", *EXTRAS}


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
    assert "-m venv --clear .venv-vision" in planned and "--no-deps turkish-treebanks" in planned
    assert f'-c constraints/vision.txt  -e ".[{",".join(EXTRAS)}]"' in planned
    named = re.search(r"pytest --quiet (tests/extras .*)", planned)[1].split()
    assert not [path for path in named if not (ROOT / path).exists()]
    needy = "robot.there()|treebank\\(section\\)|importorskip\\(\"transformers"  # what is skipped without an extra
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*/*.py")
            if re.search(needy, path.read_text()) and path.parent.name != "extras"} == set(named) - {"tests/extras"}
    assert ".venv/" not in planned and "constraints/core.txt" not in planned
    planned = make(clone, "-n", "test", f"PYTHON={sys.executable}").stdout
    assert "vision" not in planned and "treebanks" not in planned


def test_the_browser_set_is_added_once_and_only_for_its_tests(clone: Path):
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".ready").touch()
    assert '-e ".[browser]"' in make(clone, "-n", "test-browser").stdout
    for target in ("test", "book"):
        assert "browser" not in make(clone, "-n", target).stdout
    (clone / ".venv" / ".browser-ready").touch()
    assert "pip install" not in make(clone, "-n", "test-browser").stdout
    pinned = {canonicalize_name(name): version for name, version in pins().items()}
    for requirement in map(Requirement, PROJECT["optional-dependencies"]["browser"]):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("variables, said", [({}, "The browser tests need Chromium"),
                                             ({"CHROMIUM": "/no/such/chrome"}, "CHROMIUM=/no/such/chrome is not")])
def test_a_missing_browser_gives_one_sentence(tmp_path: Path, variables: dict[str, str], said: str):
    done = subprocess.run([sys.executable, ROOT / "tests" / "browser" / "chromium.py"], text=True, capture_output=True,
                          env={"PATH": str(tmp_path)} | variables)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(said) and done.stdout == ""


def test_a_browser_is_found_by_its_name_or_by_the_one_given(tmp_path: Path):
    for name in ("chromium-browser", "mine"):
        Path(fake_python(tmp_path, "")).rename(tmp_path / name)
    for variables, name in (({}, "chromium-browser"), ({"CHROMIUM": "mine"}, "mine")):
        done = subprocess.run([sys.executable, ROOT / "tests" / "browser" / "chromium.py"], text=True,
                              capture_output=True, env={"PATH": str(tmp_path)} | variables)
        assert done.stdout == f"{tmp_path / name}\n"


@pytest.mark.parametrize("user, allowed", [("0", True), ("1000", False)])
def test_jupyterlab_is_allowed_root_only_for_root(clone: Path, monkeypatch, user: str, allowed: bool):
    (clone / "bin").mkdir()
    (clone / "bin" / "id").write_text(f"#!/bin/sh\necho {user}\n")
    (clone / "bin" / "id").chmod(0o755)
    monkeypatch.setenv("PATH", f"{clone / 'bin'}:{os.environ['PATH']}")
    planned = make(clone, "-n", "lab", f"PYTHON={sys.executable}").stdout
    assert ("--allow-root" in planned) == allowed and "-m jupyterlab" in planned


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
        "\nmake test\nmake test-browser\nmake test-portable\nexec make test-vision\n")
    assert subprocess.run(["bash", "-n", path]).returncode == 0


def test_both_licences_are_there():
    text = (ROOT / "LICENSE").read_text()
    assert "MIT License" in text and "CC BY 4.0" in text and "creativecommons.org/licenses/by/4.0" in text
    assert PROJECT["license"] == "MIT AND CC-BY-4.0"
