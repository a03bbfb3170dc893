"""Is this machine ready? One finding for each thing the course needs, with what to do where it is not there.

Imports the standard library; everything else, torch first, is tried where it is examined, for it may be
the very thing that is missing.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHON = (3, 11)
FREE_GIGABYTES = 2  # for what runs and executed notebooks leave
INSTALL = "run `make course`, or `pip install -c constraints/core.txt -e .` in the course's folder"


@dataclass(frozen=True)
class Finding:
    """level: "ok", "note" (works, but know this) or "missing" (the course cannot run)."""

    level: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.what}" + (f": {self.remedy}" if self.remedy else "")


def examine() -> list[Finding]:
    """Everything that `mtlcourse doctor` reports, in order."""
    return [python(), machine(), *packages(), torch(), kernel(), disk(), data()]


def python() -> Finding:
    """Is this Python new enough?"""
    found = platform.python_version()
    if sys.version_info < PYTHON:
        return Finding("missing", f"Python {found}", f"install Python {'.'.join(map(str, PYTHON))} or newer")
    return Finding("ok", f"Python {found}")


def machine() -> Finding:
    """What machine is this? The course's times are for two cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    what = f"{platform.system()}, {platform.machine()}, {cores} core(s)"
    if cores < 2:
        return Finding("note", what, "the course takes about twice as long; use --jobs 1")
    return Finding("ok", what)


def requirements() -> dict[str, str]:
    """The packages that the course needs, with the lowest version that will do: `{"torch": "2.11"}`."""
    try:
        lines = importlib.metadata.requires("mtlcourse") or []
    except importlib.metadata.PackageNotFoundError:  # a clone that is used without being installed
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
        lines = tomllib.loads(text)["project"]["dependencies"]
    core = (re.fullmatch(r"([\w.-]+)\s*>=\s*([\d.]+)", line) for line in lines if ";" not in line)
    return {match[1]: match[2] for match in core if match}


def packages() -> Iterator[Finding]:
    """Are the packages there, and new enough? One line if all are, else one for each that is not."""
    needed = requirements()
    found = {name: _version(name) for name in needed}
    good = [name for name in needed if _numbers(found[name] or "0") >= _numbers(needed[name])]
    if len(good) == len(needed):
        yield Finding("ok", f"{len(needed)} packages, each new enough")
    for name in needed:
        if name not in good:
            what = f"{name} {found[name]}, older than {needed[name]}" if found[name] else f"{name} is not installed"
            yield Finding("missing", what, INSTALL)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version, to compare by.

    >>> _numbers("2.13.0+cpu") > _numbers("2.9")
    True
    """
    release, *_ = re.split(r"[^\d.]", version)
    return tuple(int(part) for part in release.split(".") if part)


def torch() -> Finding:
    """Does torch import, and does it see a GPU?"""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of its own does not load
        return Finding("missing", f"torch does not import ({error})", INSTALL)
    if torch.cuda.is_available():
        return Finding("ok", f"torch {torch.__version__}, GPU {torch.cuda.get_device_name()}")
    if torch.backends.mps.is_available():
        return Finding("ok", f"torch {torch.__version__}, GPU of this Mac")
    return Finding("ok", f"torch {torch.__version__}, no GPU seen; the course does not need one")


def kernel() -> Finding:
    """Does the notebooks' kernel, `python3`, run this very Python?"""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError as error:
        return Finding("missing", f"Jupyter does not import ({error})", INSTALL)
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return Finding("missing", "there is no Jupyter kernel python3",
                       f"run `{sys.executable} -m ipykernel install --sys-prefix --name python3`")
    command = spec.argv[0]
    generic = Path(command).name == command  # a bare "python" is replaced by the Python that starts the kernel
    if not generic and not (Path(command).exists() and os.path.samefile(command, sys.executable)):
        return Finding("missing", f"the Jupyter kernel python3 runs {command}, not this Python",
                       f"remove it ({spec.resource_dir}) or run `{sys.executable} -m ipykernel install --sys-prefix`")
    return Finding("ok", "Jupyter kernel python3 runs this Python")


def disk() -> Finding:
    """Is there room for what runs leave?"""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < FREE_GIGABYTES:
        return Finding("note", f"{free:.1f} GB free on this disk", f"make room for {FREE_GIGABYTES} GB")
    return Finding("ok", f"{free:.0f} GB free on this disk")


def data() -> Finding:
    """Do the offline data load?"""
    start = time.perf_counter()
    try:
        from ..data import load

        problem = load("multidigits")
    except Exception as error:  # anything that stops the data stops the course; the line says what it was
        return Finding("missing", f"the offline data do not load ({type(error).__name__}: {error})", INSTALL)
    took = time.perf_counter() - start
    return Finding("ok", f"offline data: {len(problem.train)} canvases of multidigits in {took:.1f} s")
