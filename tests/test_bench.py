"""Sweeps: nothing twice, nothing lost, and no run that takes others with it."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pandas as pd
import pytest
import torch
from tqdm import tqdm

from mtlcourse import bench, counts, methods, runs

ROOT = Path(__file__).parents[1]

OWN = '''
import os, pathlib, signal
from dataclasses import replace
from mtlcourse.tasks import TensorSplit
from tests.problems import small

FOLDER = pathlib.Path(__file__).parent
SETTINGS = {"smoke": {"epochs": 3, "batch_size": 16, "lr": 0.05}}

def plain(train=40, with_data=True):
    return replace(small(train=train), name="plain", training=SETTINGS)

def broken(with_data=True):
    if with_data:
        raise RuntimeError("no data today")
    return plain()

def diverging(with_data=True):
    return replace(plain(), training={"smoke": {"epochs": 3, "lr": 1e30, "optimizer": "sgd", "batch_size": 4}})

def EVIL():
    pass

def once(name):
    """True the first time."""
    try:
        (FOLDER / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

class Watched(TensorSplit):
    """Notes each epoch of training; in the middle of the third epoch it does, once, what `EVIL` says."""

    def batches(self, batch_size, shuffle=False, generator=None):
        if shuffle:
            with open(FOLDER / "epochs", "a") as log:
                log.write("x")
        for number, batch in enumerate(super().batches(batch_size, shuffle, generator)):
            if shuffle and number == 1 and len((FOLDER / "epochs").read_text()) == 3 and once("evil"):
                EVIL()
            yield batch

def watched(with_data=True):
    problem = plain()
    return replace(problem, train=Watched(problem.train.inputs, problem.train.targets)) if with_data else problem

def killed(with_data=True):
    global EVIL
    EVIL = lambda: os.kill(os.getpid(), signal.SIGKILL)
    return watched(with_data)

def interrupted(with_data=True):
    global EVIL
    def EVIL():
        raise KeyboardInterrupt
    return watched(with_data)
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of a module `own_sweep` with problems; the runs go into its folder `runs`."""
    (tmp_path / "own_sweep.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_sweep", raising=False)
    yield tmp_path
    sys.modules.pop("own_sweep", None)


def sweep(own, problems=("own_sweep:plain",), chosen=("stl", "hps"), seeds=(0, 1), folder="runs", **options):
    return bench.sweep(problems, chosen, seeds, budget="smoke", folder=own / folder, **{"progress": False, **options})


def values(table):
    """What a table says, without what differs from run to run."""
    return table[["method", "seed", "task", "metric", "value"]].to_dict("records")


# --- what a sweep does -----------------------------------------------------------------------------------

def test_a_sweep_makes_every_run_and_a_table_of_them(own):
    done = sweep(own)
    assert done.failures == []
    assert done.table.groupby(["method", "seed"], sort=False).size().to_dict() == {
        ("stl", 0): 5, ("stl", 1): 5, ("hps", 0): 5, ("hps", 1): 5}
    run = methods.run("hps", methods.load_problem("own_sweep:plain"), seed=1, budget="smoke", progress=False)
    row = done.table.query("method == 'hps' and seed == 1 and task == 'size' and metric == 'mse'")
    assert row["value"].tolist() == [run.metrics["size"]["mse"]]
    assert not any((own / "runs" / ".unfinished").iterdir())


def test_what_is_there_is_not_run_again(own, monkeypatch):
    first = sweep(own, seeds=(0,))
    ran = []
    one_run = bench.one_run
    monkeypatch.setattr(bench, "one_run", lambda config, **rest: ran.append(config["seed"]) or one_run(config, **rest))
    again = sweep(own, seeds=(0, 1))
    assert ran == [1, 1]
    assert values(again.table)[:5] == values(first.table)[:5]
    pd.testing.assert_frame_equal(sweep(own, seeds=(0, 1)).table, again.table)
    assert ran == [1, 1]


def test_equal_runs_are_one_run(own):
    done = sweep(own, ("own_sweep:plain", " own_sweep:plain() "), ("hps", " hps "), (0, 0))
    assert len(done.table) == 5


def test_each_run_takes_one_thread_and_leaves_the_others_as_they_were(own, monkeypatch):
    seen, run = [], methods.run

    def watched(*args, **options):
        seen.append(torch.get_num_threads())
        return run(*args, **options)

    monkeypatch.setattr(methods, "run", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        sweep(own, chosen=("hps",), seeds=(0,))
        assert seen == [1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_grid_of_learning_rates(own):
    done = sweep(own, chosen=("hps",), seeds=(0,), learning_rates=(0.1, 0.01))
    assert done.table.groupby("lr", sort=False).size().to_dict() == {0.1: 5, 0.01: 5}
    assert done.table.query("metric == 'mse'")["value"].nunique() == 2


@pytest.mark.parametrize("problem, method, options, message", [
    ("multidigit", "hps", {}, "Unknown problem 'multidigit'. Known: multidigits"),
    ("multidigits", "hsp", {}, "Unknown architecture 'hsp'. Known: hps"),
    ("multidigits", "hps+pcgard", {}, "Unknown strategy 'pcgard'. Known: pcgrad"),
    ("multidigits", "hps", {"budget": "fats"}, "Unknown budget 'fats'. Known: fast"),
    ("multidigits", "hps(width=3)", {}, r"Method 'hps' does not take these options \({'width': 3}\)"),
    ("no_such_module:make", "hps", {}, "No module 'no_such_module'"),
    ("own_sweep:palin", "hps", {}, "Unknown function in .*own_sweep.py 'palin'. Known: plain"),
    ("multidigits(offset=0)", "hps", {}, "offset=0"),
])
def test_mistakes_are_told_before_anything_runs(own, problem, method, options, message):
    with pytest.raises(ValueError, match=message):
        bench.sweep(["own_sweep:plain", problem], ["stl", method], [0], folder=own / "runs", progress=False, **options)
    assert not (own / "runs").exists()


def test_a_method_that_cannot_be_built_does_not_stop_the_others(own, capsys):
    impossible = "dsmtl-jl(gate_after=99)"
    done = sweep(own, chosen=("stl", impossible, "hps"), progress=True)
    assert done.table["method"].unique().tolist() == ["stl", "hps"]
    assert [config["method"] for config, _ in done.failures] == [impossible] * 2
    assert all("gate_after" in reason for _, reason in done.failures)
    assert f"{impossible} is left out for own_sweep:plain: " in capsys.readouterr().err
    with pytest.raises(ValueError, match="gate_after"):
        sweep(own, chosen=(impossible,))


@pytest.mark.parametrize(("arguments", "message"), [
    (([], ["hps"], [0]), "the list of problems is empty"), ((["multidigits"], [], [0]), "the list of methods is empty"),
    ((["multidigits"], ["hps"], []), "the list of seeds is empty"),
    ((["multidigits"], ["hps"], [-1]), "Seed -1 is below 0")])
def test_nothing_to_do_is_refused(own, arguments, message):
    with pytest.raises(ValueError, match=message):
        bench.sweep(*arguments, folder=own / "runs", progress=False)


def test_two_benches_in_one_folder_do_each_run_once(own):
    script = ("import sys; sys.path.insert(0, '.'); from mtlcourse import bench; "
              "done = bench.sweep(['own_sweep:watched'], ['hps', 'stl'], [0, 1, 2], budget='smoke', folder='runs', "
              "progress=False); print(len(done.table), done.failures)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    both = [subprocess.Popen([sys.executable, "-c", script], cwd=own, env=environment, stdout=subprocess.PIPE,
                             text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["30 []\n"] * 2
    assert (own / "epochs").read_text() == "xxx" * 6  # three epochs of each run, once
    assert not any((own / "runs" / ".unfinished").iterdir())


def test_a_run_that_was_cut_off_is_named(own):
    done = sweep(own, chosen=("hps",), seeds=(0,))
    file = own / "runs" / done.table["configuration"][0] / "run.json"
    for content in (file.read_text()[:200], "{}", "[1]", ""):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"run.json is cut off, or no file of a run .*Delete the folder"):
            runs.table(own / "runs")


def test_an_unfinished_run_of_an_older_version_is_set_aside(own, capsys):
    problem = "own_sweep:interrupted"
    with pytest.raises(KeyboardInterrupt):
        sweep(own, (problem,), ("hps",), (0,))
    (description,) = (own / "runs" / ".unfinished").glob("*/state.json")
    state = json.loads(description.read_text())
    config = next(value for key, value in state["state"]["__dict__"] if key == "config")["__dict__"]
    config[[key for key, _ in config].index("batch_size")][1] = 17
    description.write_text(json.dumps(state))
    done = sweep(own, (problem,), ("hps",), (0,))
    assert done.failures == [] and len(done.table) == 5
    assert "is set aside, and the run begins anew: The checkpoint" in capsys.readouterr().err
    (aside,) = (own / "runs" / ".unfinished").iterdir()
    assert aside.suffix == ".other" and (aside / "state.json").exists()


def test_a_problem_that_was_written_anew_is_read_anew(own):
    module = own / "own_sweep.py"
    first = sweep(own, chosen=("hps",), seeds=(0,))
    module.write_text(OWN.replace('"lr": 0.05', '"lr": 0.5'))
    sys.modules.pop("own_sweep")
    second = sweep(own, chosen=("hps",), seeds=(0,))
    assert set(first.table["configuration"]).isdisjoint(second.table["configuration"])


# --- what goes wrong -----------------------------------------------------------------------------------------

def test_a_failing_run_does_not_stop_the_others(own):
    done = sweep(own, ("own_sweep:broken", "own_sweep:diverging", "own_sweep:plain"), ("hps",), (0,))
    assert [(config["problem"], reason.split(":")[0]) for config, reason in done.failures] == [
        ("own_sweep:broken", "RuntimeError"), ("own_sweep:diverging", "TrainingDiverged")]
    assert done.failures[0][1] == "RuntimeError: no data today"
    assert done.table["problem"].unique().tolist() == ["own_sweep:plain"]


def test_interrupting_keeps_what_is_finished_and_the_same_call_goes_on(own):
    problems = ("own_sweep:plain", "own_sweep:interrupted")
    with pytest.raises(KeyboardInterrupt):
        sweep(own, problems, ("hps",), (0,))
    assert runs.table(own / "runs")["problem"].unique().tolist() == ["own_sweep:plain"]
    done = sweep(own, problems, ("hps",), (0,))
    assert done.failures == [] and len(done.table) == 10
    mine, other = (done.table[done.table["problem"] == problem] for problem in problems)
    assert values(mine) == values(other)  # to the bit as if nothing had happened
    assert (own / "epochs").read_text() == "xxxx"  # three epochs, and the third once more


def test_a_process_that_is_killed_is_replaced_and_its_run_goes_on(own):
    problems = ("own_sweep:killed", "own_sweep:plain")
    done = sweep(own, problems, seeds=(0,), chosen=("hps",), workers=2)
    assert done.failures == [] and (own / "evil").exists()
    undisturbed = values(sweep(own, ("own_sweep:plain",), ("hps",), (0,), folder="here").table)
    for problem in problems:
        assert values(done.table[done.table["problem"] == problem]) == undisturbed
    assert (own / "epochs").read_text() == "xxxx"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_sweep_that_is_killed_at_twenty_moments_ends_as_if_it_had_lived(tmp_path):
    done = subprocess.run([sys.executable, "tests/killed_sweep.py", str(tmp_path)], cwd=ROOT, capture_output=True,
                          text=True, timeout=300, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."})
    assert "passed: killed 20 times" in done.stdout, done.stdout + done.stderr


class Fragile(Executor):
    """A pool that breaks, with all that is in flight, soon after it is given a deadly run."""

    made = []

    def __init__(self):
        self.flying, self.broken, self.lock, self.most = [], False, threading.Lock(), 0
        self.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def submit(self, work, config):
        with self.lock:
            if self.broken:
                raise BrokenProcessPool("broken")
            future = Future()
            self.flying.append(future)
            self.most = max(self.most, len(self.flying))
            threading.Timer(0.02 if config["method"] == "deadly" else 0.06, self.end, (future, work, config)).start()
            return future

    def end(self, future, work, config):
        with self.lock:
            if future in self.flying and config["method"] == "deadly":
                self.broken = True
                for other in self.flying:
                    other.set_exception(BrokenProcessPool("killed"))
                self.flying.clear()
            elif future in self.flying:
                work(config)
                self.flying.remove(future)
                future.set_result(None)


def test_a_deadly_run_does_not_use_up_the_attempts_of_others(monkeypatch):
    monkeypatch.setattr(Fragile, "made", [])
    configs = [{"method": method, "seed": seed} for seed, method in enumerate(["hps", "deadly", "hps", "hps", "hps"])]
    finished = []
    with tqdm(disable=True) as bar:
        failures = bench._work_off(configs, finished.append, Fragile, 4, bar)
    assert [(config["method"], reason) for config, reason in failures] == [("deadly", "BrokenProcessPool: killed")]
    assert sorted(config["seed"] for config in finished) == [0, 2, 3, 4]
    assert len(Fragile.made) <= bench.ATTEMPTS + 1
    assert Fragile.made[0].most == 4


def test_leaving_a_pool_by_an_exception_ends_its_processes():
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt), bench._executor(2, None) as pool:
        pool.submit(time.sleep, 60)
        assert set(multiprocessing.active_children()) - before
        raise KeyboardInterrupt
    deadline = time.monotonic() + 10
    while set(multiprocessing.active_children()) - before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_full_disk_fails_the_run_and_loses_no_training(own):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    problem = "own_sweep:watched"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", refuse)
        done = sweep(own, (problem,), ("hps",), (0,))
    assert "could not write" in done.failures[0][1] and done.table.empty
    done = sweep(own, (problem,), ("hps",), (0,))
    assert done.failures == [] and len(done.table) == 5
    assert (own / "epochs").read_text() == "xxx"  # nothing was trained a second time


# --- on a cluster ------------------------------------------------------------------------------------------------

def test_runs_on_a_cluster_equal_those_made_here(own):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, protocol="tcp",
                                  dashboard_address=None) as cluster:
        there = sweep(own, ("own_sweep:plain", "own_sweep:broken"), ("hps", "stl"), (0, 1),
                      scheduler=cluster.scheduler_address)
    assert sorted(reason for _, reason in there.failures) == ["RuntimeError: no data today"] * 4
    here = sweep(own, chosen=("hps", "stl"), folder="here")
    assert values(there.table) == values(here.table)


def test_an_encoder_of_ones_own_is_named_and_the_best_epoch_chosen_in_a_sweep(tmp_path, monkeypatch):
    (tmp_path / "words.py").write_text(WORDS)
    monkeypatch.syspath_prepend(tmp_path)
    done = bench.sweep(["words:problem"], ["stl", "hps(select=best-val, patience=1)", "dsmtl-jl"], [0], budget="smoke",
                       folder=tmp_path / "runs", progress=False)
    assert done.failures == []
    assert set(done.table["method"]) == {"stl", "hps(patience=1, select='best-val')", "dsmtl-jl"}
    with pytest.raises(ValueError, match="has .* in its encoder.*encoder={'name': 'package.module:function'}"):
        bench.sweep(["words:built"], ["hps"], [0], folder=tmp_path / "runs", progress=False)


@pytest.mark.parametrize(("function", "what"), [("of_modules", "Sequential"), ("module_in_spec", "ResNet"),
                                                ("module_in_option", "ResNet"), ("function_in_head", "function")])
def test_what_no_worker_can_find_is_a_sentence(function, what, tmp_path):
    with pytest.raises(ValueError, match=f"own:{function}' has {what} in its encoder.* Name what is your own by its"):
        bench.sweep([f"tests.encoders.own:{function}"], ["hps"], [0], folder=tmp_path / "runs", progress=False)


def test_cuts_heads_frozen_and_adapted_stages_are_found_by_spawned_workers_and_counted(tmp_path):
    name = "tests.encoders.own:problem"
    done = bench.sweep([name], ["stl", "hps"], [0, 1], budget="fast(epochs=1)", folder=tmp_path, workers=2,
                       progress=False)
    assert done.failures == [] and len(done.table) == len(runs.table(tmp_path)) > 0
    rows = counts.count(name, ["stl", "hps"])
    learning = dict(zip(rows["name"], rows["learning"], strict=True))
    whole = dict(zip(rows["name"], rows["parameters"], strict=True))
    assert learning["1"] == 0 < whole["1"] and 0 < learning["2"] < whole["2"] and learning["3"] == whole["3"] > 0
    assert learning["hps"] == sum(learning[name] for name in ("1", "2", "3", "kind", "big"))
    assert f"of which {learning['2'] + learning['3']:,} learn" in counts.show(rows)
    assert dict(zip(done.table["method"], done.table["parameters"], strict=True))["hps"] == whole["hps"]


WORDS = """
import torch
from torch import nn
from mtlcourse.data import binary, regression
from mtlcourse.tasks import Problem, TensorSplit

def stages(input_shape, width=4):
    return [nn.Sequential(nn.Embedding(10, width), nn.Flatten()), nn.Linear(width * input_shape[0], 6)]

def problem(encoder=None):
    words = torch.randint(0, 10, (40, 5), generator=torch.Generator().manual_seed(0))
    split = TensorSplit(words, {"low": (words[:, 0] < 5).long(), "mean": words.float().mean(1, keepdim=True)})
    return Problem("words", [binary("low"), regression("mean")], split, split, split, (5,),
                   {"name": "words:stages", "width": 3} if encoder is None else encoder)

def built():
    return problem(stages((5,)))
"""
