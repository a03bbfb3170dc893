"""The command line answers at once, refuses plainly, and `doctor` says what is missing."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from click.testing import CliRunner

from mtlcourse import __version__, cli, methods
from mtlcourse.course import doctor

ROOT = Path(__file__).parent.parent


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})


def test_help_answers_without_torch():
    code = ("import sys; from mtlcourse import cli; cli.main(['--help'], standalone_mode=False); "
            "print(sorted({'torch', 'numpy', 'pandas', 'papermill', 'tqdm'} & set(sys.modules)))")
    done = python("-c", code)
    assert done.returncode == 0 and done.stdout.endswith("[]\n")
    assert all(command in done.stdout for command in ("course", "bench", "doctor"))


def test_version():
    assert python("-m", "mtlcourse", "--version").stdout == f"mtlcourse, version {__version__}\n"


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`bench.sweep` replaced by something that notes what it was called with."""
    from mtlcourse import bench, runs

    seen = SimpleNamespace(failures=[])

    def replacement(*arguments, **options):
        seen.arguments, seen.options = arguments, options
        return SimpleNamespace(table=pd.DataFrame({"value": [1.0]}), failures=seen.failures)

    monkeypatch.setattr(bench, "sweep", replacement)
    monkeypatch.setattr(runs, "selected", lambda table: table)
    monkeypatch.setattr(runs, "summary", lambda table: table * 2)
    monkeypatch.setattr(runs, "show", lambda table: f"mean {table['value'][0]}")
    return seen


def test_bench_passes_on_what_was_asked(sweep: SimpleNamespace):
    asked = ["--problem", "rooms,my.module:problem", "--methods", "stl, hps+bmtl(T=5, b=(1, 2))", "--seeds", "0,4",
             "--lr", "1e-3,0.01", "--workers", "2", "--budget", "smoke", "--folder", "elsewhere", "--no-progress",
             "--tune", "weights", "--shard", "2/3"]
    done = CliRunner().invoke(cli.main, ["bench", *asked])
    assert done.exit_code == 0 and done.output == "mean 2.0\n"
    assert sweep.arguments == (["rooms", "my.module:problem"], ["stl", "hps+bmtl(T=5, b=(1, 2))"], [0, 4])
    assert sweep.options == {"budget": "smoke", "folder": Path("elsewhere"), "workers": 2, "scheduler": None,
                             "learning_rates": [1e-3, 0.01], "device": "auto", "progress": False,
                             "tune": "weights", "shard": (2, 3)}


def test_bench_takes_ranges_of_seeds_epochs_and_a_batch_size(sweep: SimpleNamespace):
    done = CliRunner().invoke(cli.main, ["bench", "--seeds", "7,0-3", "--epochs", "50", "--batch-size", "32"])
    assert done.exit_code == 0 and sweep.arguments[2] == [7, 0, 1, 2, 3]
    assert sweep.options["budget"] == "fast(batch_size=32, epochs=50)"


@pytest.mark.parametrize(("asked", "budget"), [
    (["--clip", "1", "--warmup", "20"], "fast(clip=1.0, warmup=20)"), (["--sampling", "2"], "fast(sampling=2.0)"),
    (["--sampling", "proportional", "--budget", "smoke"], "smoke(sampling='proportional')"), ([], "fast")])
def test_bench_takes_how_steps_are_made(sweep: SimpleNamespace, asked: list[str], budget: str):
    assert CliRunner().invoke(cli.main, ["bench", *asked]).exit_code == 0
    assert sweep.options["budget"] == budget and methods.parse_part(budget)


def test_train_adds_to_the_settings_of_its_budget(tmp_path: Path):
    from mtlcourse import runs

    asked = ["--problem", "relatedness", "--method", "hps", "--budget", "smoke(batch_size=64)", "--clip", "0.5",
             "--warmup", "1", "--epochs", "2", "--folder", str(tmp_path)]
    done = CliRunner().invoke(cli.main, ["train", *asked])
    assert done.exit_code == 0, done.output
    budget = "smoke(batch_size=64, clip=0.5, epochs=2, warmup=1)"
    run = runs.load(runs.folder_of(runs.configuration("relatedness", "hps", 0, budget), tmp_path))
    assert (run.config["clip"], run.config["warmup"], run.cost["steps"]) == (0.5, 1, 4)


@pytest.mark.parametrize("command", ["bench", "params"])
def test_help_names_what_can_be_asked_for(command: str):
    said = " ".join(CliRunner().invoke(cli.main, [command, "--help"]).output.split())
    for name in ("multidigits", "dsmtl-il", "stl-wide", "pcgrad"):
        assert name in said


def test_the_budgets_of_the_command_line_are_those_of_methods():
    assert cli.BUDGETS == list(methods.BUDGETS)


def test_bench_has_defaults_and_reports_failed_runs(sweep: SimpleNamespace):
    sweep.failures.append(({"seed": 1}, "out of memory"))
    done = CliRunner().invoke(cli.main, ["bench"])
    assert done.exit_code == 1 and "out of memory" in done.stderr and "mean 2.0" in done.stdout
    assert sweep.arguments == (["multidigits"], ["stl", "hps"], [0, 1, 2])
    assert sweep.options["learning_rates"] is None


@pytest.mark.parametrize(("arguments", "message"), [
    (["bench", "--seeds", "one"], "'one' is no seed, a whole number from 0 upwards, nor a range such as 0-4"),
    (["bench", "--seeds", ""], "the list is empty"),
    (["bench", "--seeds", "-1"], "'-1' is no seed"),
    (["bench", "--seeds", "4-0"], "'4-0' is no seed"),
    (["bench", "--methods", " , "], "the list is empty"),
    (["bench", "--problem", ""], "the list is empty"),
    (["bench", "--lr", ""], "the list is empty"),
    (["bench", "--lr", "small"], "'small' is not a list of numbers"),
    (["bench", "--epochs", "0"], "0 is not in the range"),
    (["bench", "--clip", "0"], "0.0 is not in the range"),
    (["bench", "--warmup", "-1"], "-1 is not in the range"),
    (["bench", "--sampling", "often"], "sampling is 'often'; it must be 'cycle'"),
    (["train", "--sampling", "proportional", "--problem", "relatedness", "--budget", "smoke"], "share their inputs"),
    (["report", "--seeds", "0-x"], "'0-x' is no seed"),
    (["report", "--folder", "no/such/folder"], "There is no folder no/such/folder"),
    (["report", "--folder", __file__], "test_cli.py is a file, not a folder of runs"),
    (["params", "--methods", ""], "the list is empty"),
    (["bench", "--budget", "huge"], "'huge' is not one of"),
    (["bench", "--problem", "multidigit"], "Known: multidigits"),
    (["bench", "--methods", "hsp"], "hps"),
    (["course", "--jobs", "0"], "0 is not in the range"),
])
def test_mistakes_are_answered_in_a_sentence(arguments: list[str], message: str, tmp_path: Path):
    folder = ["--folder", str(tmp_path)] if arguments[0] in ("bench", "train") else []
    done = CliRunner().invoke(cli.main, [*arguments, *folder])
    assert done.exit_code in (1, 2) and message in done.stderr and "Traceback" not in done.stderr
    assert isinstance(done.exception, SystemExit)


# --- doctor ----------------------------------------------------------------------------------------

def test_doctor_works_where_torch_does_not_import(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open shared object file')\n")
    done = python("-m", "mtlcourse", "doctor", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 1 and done.stderr == ""
    assert "missing  torch does not import (libtorch.so: cannot open shared object file): run `make" in done.stdout
    assert "missing  the offline data do not load" in done.stdout and "2 thing(s) missing" in done.stdout
    assert f"ok       Python {sys.version.split()[0]}" in done.stdout


def test_doctor_is_content_here():
    levels = {finding.what: finding.level for finding in doctor.examine()}
    assert "missing" not in levels.values(), levels
    assert any(what.startswith("offline data: 20000 canvases") for what in levels)


def test_doctor_compares_versions_with_the_floors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "requirements", lambda: {"numpy": "99.1", "no-such-package": "1", "click": "8.1"})
    first, second = map(str, doctor.packages())
    assert first.startswith("missing  numpy ") and "older than 99.1: run `make course`" in first
    assert second.startswith("missing  no-such-package is not installed: run")
    monkeypatch.setattr(doctor, "requirements", lambda: {"click": "8.1"})
    assert [str(finding) for finding in doctor.packages()] == ["ok       1 packages, each new enough"]


def test_doctor_knows_the_floors():
    floors = doctor.requirements()
    assert floors["torch"] == "2.11" and "pytest" not in floors and len(floors) == 20


def test_doctor_notices_an_old_python_and_a_full_disk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4))
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.4")
    assert str(doctor.python()) == "missing  Python 3.10.4: install Python 3.11 or newer"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=5e8))
    assert str(doctor.disk()).startswith("note     0.5 GB free")


@pytest.mark.parametrize(("command", "level"), [
    ("python", "ok"), (sys.executable, "ok"), ("/usr/bin/env", "missing"), ("/nowhere/bin/python", "missing")])
def test_doctor_asks_which_python_the_kernel_runs(tmp_path, monkeypatch, command: str, level: str):
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(f'{{"argv": ["{command}", "-f"], "display_name": "x", "language": "python"}}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert doctor.kernel().level == level
