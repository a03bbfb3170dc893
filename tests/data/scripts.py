"""The scripts of `data_scripts`, as modules and as commands."""

import importlib.util
from pathlib import Path
from types import ModuleType

from click.testing import CliRunner

FOLDER = Path(__file__).parents[2] / "data_scripts"


def script(name: str) -> ModuleType:
    """The script's module, made anew."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ran(name: str, *arguments: object, fails: bool = False) -> str:
    """What the command prints."""
    done = CliRunner().invoke(script(name).main, [str(argument) for argument in arguments])
    assert (done.exit_code != 0) == fails, done.output
    return done.output
