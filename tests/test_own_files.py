"""A file of one's own brings methods and strategies with its problem: it is imported before their names are read."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mtlcourse import bench, cli, data, figures, methods, runs
from mtlcourse.strategies import base

MINE = '''
from dataclasses import replace
from mtlcourse import methods, models, strategies
from tests.problems import small

class Mine(models.HPS):
    """Hard sharing by another name."""

strategies.register("even")(type("Even", (strategies.EqualWeighting,), {}))
methods.register("mine", Mine)

def problem():
    return replace(small(train=40), training={"smoke": {"epochs": 1, "batch_size": 20}})
'''
PROBLEM = "brought:problem"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a file that nobody has imported."""
    (tmp_path / "brought.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1]), *sys.path])
    yield tmp_path
    sys.modules.pop("brought", None)


def forgotten() -> None:
    """As in a new process."""
    del sys.modules["brought"], methods._METHODS["mine"], base._REGISTRY["even"]


def typed(*arguments: str) -> str:
    done = CliRunner().invoke(cli.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("asked", [
    ["bench", "--methods", "mine", "--seeds", "0", "--no-progress"],
    ["bench", "--methods", "hps+even,mine,stl", "--seeds", "0", "--no-progress"],
    ["bench", "--methods", "mine", "--tune", "weights", "--seeds", "0", "--no-progress"],
    ["train", "--method", "mine+even"]])
def test_commands_know_what_an_own_file_registers(own: Path, asked: list[str]):
    assert "mse" in typed(*asked, "--problem", PROBLEM, "--budget", "smoke")


@pytest.mark.parametrize("call", [
    lambda: methods.run("mine", PROBLEM, budget="smoke", progress=False),
    lambda: methods.bind_strategy("hps+even", PROBLEM), lambda: methods.count_parameters("mine+even", PROBLEM),
    lambda: runs.configuration(PROBLEM, "mine+even", 0), lambda: bench.weightings("mine+fixed", PROBLEM)])
def test_so_do_functions(own: Path, call):
    call()


def test_reports_know_it_and_read_its_runs_without_the_file(own: Path, monkeypatch: pytest.MonkeyPatch):
    bench.sweep([PROBLEM], ["stl", "mine", "hps+even"], [0, 1, 2], budget="smoke", progress=False)
    forgotten()
    assert "mine" in typed("report", "--methods", "mine")
    assert "hps+even" in typed("report", "--methods", " hps + even ")
    assert "DSMTL" in typed("report", "--paper", "dsmtl-2", "--methods", "mine")  # which nothing was measured for
    for name, message in (("mien", "Unknown architecture 'mien'. Known: mine, "), ("mine+evn", "strategy 'evn'.*even")):
        with pytest.raises(ValueError, match=message):
            figures.page.runs_in("runs", methods=[name])
    assert set(figures.page.runs_in("runs", methods=["stl", "mine+ew"])["method"]) == {"stl"}  # known, and not run
    forgotten()
    (own / "brought.py").unlink()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert figures.page.from_folder("runs", methods=["mine"])[0].methods == ["mine"]
    with pytest.raises(ValueError, match="Unknown architecture 'mine'"):
        figures.page.runs_in("runs", methods=["mine+pcgrad"])


@pytest.mark.parametrize(("name", "message"), [
    ("nowhere:problem", "No module 'nowhere' for problem 'nowhere:problem'"), ("brought:prob", "Known: problem"),
    ("multidigit", "Unknown problem 'multidigit'")])
def test_what_is_not_there_is_said(own: Path, name: str, message: str):
    with pytest.raises(ValueError, match=message):
        data.introduce("rooms(train=3)", name)
