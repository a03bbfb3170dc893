"""Ten tasks of a robot: what is stored, what is collected, and how often a policy gets them done."""

import dataclasses
import math
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from mtlcourse import data, methods, models, safety, strategies
from mtlcourse.data import mt10, robot
from mtlcourse.data.robot import TASKS, Episode
from mtlcourse.training import directions, evaluate

needs_simulator = pytest.mark.skipif(not robot.there(), reason="needs the robot extra")


def load(**options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="mt10: `success` is left out")
        return data.load("mt10", **options)


@pytest.fixture
def absent(monkeypatch):
    """As if the simulator were not installed."""
    monkeypatch.setattr(robot, "there", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "metaworld", None)


# --- without the simulator ----------------------------------------------------------------------------------------

def test_what_is_stored():
    problem = load()
    assert problem.task_names == list(TASKS) and problem.input_shape == (39,)
    assert problem.encoder == {"name": "mlp", "widths": [64, 64]} and mt10.STORED.stat().st_size < 1_000_000
    for split, episodes in mt10.EPISODES["stored"].items():
        part = getattr(problem, split)
        for task in TASKS:
            x, y, groups = part.inputs[task], part.targets[task], part.groups[task][:, 0]
            assert len(groups.unique()) == episodes and y.abs().max() <= 1 and len(x) <= 200 * episodes
            assert x.isfinite().all() and (groups.diff() >= 0).all()
            first = torch.cat([torch.tensor([True]), groups.diff() > 0])
            now, before = x[:, :18], x[:, 18:36].clone()
            if task == "door_open":  # whose handle Meta-World hands out 5 cm off, but not in the step before
                before[:, 4] = torch.where(first, now[:, 4], now[:, 4].roll(1))
            assert now[first].equal(before[first])  # before the first step nothing has moved
            assert before[1:][~first[1:]].equal(now[:-1][~first[1:]])  # and then it is the step before


def test_no_goal_of_a_test_was_seen_in_training():
    problem = load()
    for task in TASKS:
        begins = [{tuple(row) for row in torch.cat([x[:1], x[1:][groups.diff(dim=0)[:, 0] > 0]]).tolist()}
                  for x, groups in ((part.inputs[task], part.groups[task])
                                    for part in (problem.train, problem.val, problem.test))]
        assert [len(b) for b in begins] == [6, 2, 2] and len(set.union(*begins)) == 10


def test_fewer_are_the_first():
    few, all_of_them = load(train=2, test=1), load()
    for task, x in few.test.inputs.items():
        assert x.equal(all_of_them.test.inputs[task][: len(x)])
    for task, x in few.train.inputs.items():
        assert x.equal(all_of_them.train.inputs[task][: len(x)]) and few.train.groups[task].max() == 1


def test_it_says_what_it_is():
    assert mt10.mt10.__doc__.startswith("Behaviour cloning, not reinforcement learning")


@pytest.mark.parametrize(("options", "said"), [
    ({"demonstrations": "dreamt"}, "Known: collected, stored"),
    ({"train": 7}, "stored demonstrations for train are 7, and there are 6"),
    ({"test": 3}, "test are 3, and there are 2"), ({"val": 0}, "val=0: a split needs"),
    ({"noise": 0.2}, "have noise=0.1 and seed=0, not 0.2 and 0"), ({"seed": 1}, "not 0.1 and 1"),
    ({"noise": -1.0}, "noise=-1.0 must be"), ({"noise": True}, "noise=True must be"),
    ({"episodes": -1}, "episodes=-1: the probe needs"), ({"episodes": True}, "episodes=True: the probe needs")])
def test_what_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        data.load("mt10", **options)


def test_without_the_simulator_success_is_left_out(absent):
    with pytest.warns(UserWarning, match=r"`success` is left out.*mtlcourse\[robot\]"):
        problem = data.load("mt10")
    assert problem.probes == {} and "success" not in directions(problem)["reach"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.describe("mt10").probes == {}
        assert data.load("mt10", episodes=0).probes == {}  # nobody asked for it, so nothing is missing


def test_without_the_simulator_nothing_is_collected(absent, tmp_path):
    with pytest.raises(ModuleNotFoundError, match=r"needs metaworld.*Install the robot extra: pip install .*\[robot\]"):
        load(demonstrations="collected", root=str(tmp_path))


@pytest.fixture
def simulated(monkeypatch):
    """Episodes without a simulator; a list of what was asked for."""
    asked = []

    def collect(split, episodes, noise, seed):
        asked.append((split, episodes, noise, seed))
        random = np.random.default_rng(len(split))
        return {task: [Episode(random.normal(size=(3 + n, 39)).astype(np.float32),
                               random.uniform(-1, 1, (3 + n, 4)).astype(np.float32), True) for n in range(episodes)]
                for task in TASKS}

    monkeypatch.setattr(robot, "there", lambda: True)
    monkeypatch.setattr(robot, "version", lambda: "9.8")
    monkeypatch.setattr(robot, "collect", collect)
    return asked


def test_what_is_collected_is_kept(simulated, tmp_path, monkeypatch):
    options = {"demonstrations": "collected", "train": 2, "val": 1, "test": 1, "root": str(tmp_path)}
    one = load(**options)
    assert simulated == [("train", 2, 0.1, 0), ("val", 1, 0.1, 0), ("test", 1, 0.1, 0)]
    kept = sorted(path.name for path in (tmp_path / "mt10").iterdir() if not path.name.startswith("."))
    assert len(kept) == 3 and all(name.endswith("-metaworld-9.8") for name in kept)
    assert isinstance(one.train, data.MappedSplit) and one.train.about["metaworld"] == "9.8"
    assert one.train.count("reach") == 7 and one.train.groups["reach"].flatten().tolist() == [0] * 3 + [1] * 4
    again = load(**options)
    assert len(simulated) == 3 and again.train.hash() == one.train.hash()
    load(**{**options, "train": 1})
    load(**{**options, "noise": 0})
    assert simulated[3:] == [("train", 1, 0.1, 0)] + [(split, number, 0.0, 0) for split, number in
                                                      (("train", 2), ("val", 1), ("test", 1))]
    monkeypatch.setattr(robot, "version", lambda: "9.9")
    load(**options)
    assert len(simulated) == 10  # another version is another world
    monkeypatch.setattr(robot, "there", lambda: False)
    assert load(**options).train.about["metaworld"] == "9.9" and len(simulated) == 10


@pytest.mark.parametrize(("seen", "acts"), [((40,), (4,)), ((39,), (5,))])
def test_a_version_of_other_dimensions(monkeypatch, seen, acts):
    def made(seed):
        return types.SimpleNamespace(observation_space=np.zeros(seen), action_space=np.zeros(acts))

    world = types.SimpleNamespace(ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE={"reach-v3-goal-observable": made})
    monkeypatch.setattr(robot, "optional", lambda module, extra: world)
    monkeypatch.setattr(robot, "version", lambda: "4.0")
    with pytest.raises(ValueError, match=r"Meta-World 4.0 has observations and actions of shapes .*metaworld>=3.1,<4"):
        robot.environment.__wrapped__("reach")
    with pytest.raises(ValueError, match="Meta-World 4.0 has no 'push-v3'"):
        robot.environment.__wrapped__("push")


def test_the_probe_asks_the_model_and_counts(monkeypatch):
    """Goals 0, 1, ... of the test split; the model sees one observation at a time."""
    asked = []

    def rollout(task, act, goal, noise=0.0):
        asked.append((task, goal))
        done = bool(act(np.full(39, float(len(asked) % 2)))[0] > 0.5)
        return Episode(np.zeros((1, 39), np.float32), np.zeros((1, 4), np.float32), done)

    class Echo(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, inputs, tasks):
            return {task: inputs[task][:, :4] * self.weight for task in tasks}

    monkeypatch.setattr(robot, "rollout", rollout)
    found = robot.success(4, seed=3)(Echo(), data.describe("mt10"))
    assert found == {task: {"success": 0.5} for task in TASKS}
    assert asked[:4] == [("reach", robot.goal_seed(3, "reach", "test", number)) for number in range(4)]
    assert len(set(asked)) == 40


# --- by name --------------------------------------------------------------------------------------------------------

CELLS, SHALLOW = "Cells need images", "has 4 numbers a sample, and a shallow method one column of weights a task"
REFUSED = {"mtan": "MTAN needs maps", "afa": "AFA needs maps", "srdml": "SRDML takes one output a task",
           "darts": CELLS, "p-darts": CELLS, "pc-darts": CELLS, "e2rnas": CELLS, "random-cells": CELLS,
           "lasso": SHALLOW, "l21": SHALLOW, "rmtl": SHALLOW, "mtrl": SHALLOW, "theta": SHALLOW}


@pytest.mark.parametrize("method", [*methods.names(), *(f"hps+{strategy}" for strategy in strategies.names())])
def test_methods_run_by_name_or_say_why_not(method):
    small = dataclasses.replace(load(widths=(8, 8), train=1, val=1, test=1), probes={})
    if method in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[method]):
            methods.run(method, small, budget="smoke", progress=False)
        return
    run = methods.run(method, small, budget="smoke", progress=False)
    assert set(run.metrics) == set(TASKS) and all(math.isfinite(own["mse"]) for own in run.metrics.values())
    assert set(run.train_losses) == set(TASKS)


# --- with it --------------------------------------------------------------------------------------------------------

class Scripted(nn.Module):
    """Meta-World's own policies, as a model; with an action of twice the length it must be clipped."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, inputs, tasks):
        return {task: torch.from_numpy(np.stack([robot.scripted(task)(row) for row in inputs[task].numpy()]))
                for task in tasks}


@needs_simulator
def test_the_scripts_succeed_through_the_probe():
    found = robot.success(10, seed=0)(Scripted(), data.describe("mt10"))
    assert sum(values["success"] >= 0.9 for values in found.values()) >= 9, found


@needs_simulator
def test_equal_seeds_give_equal_demonstrations():
    """In another order, after another task, and as stored; with noise in the second episode."""
    first = robot.demonstrate("push", "train", 2, 0.1, 0)
    robot.demonstrate("reach", "val", 1, 0.1, 5)
    robot.environment.cache_clear()
    again = robot.rollout("push", robot.scripted("push"), robot.goal_seed(0, "push", "train", 1), 0.1)
    assert np.array_equal(first[1].observations, again.observations) and np.array_equal(first[1].actions, again.actions)
    other = robot.rollout("push", robot.scripted("push"), robot.goal_seed(1, "push", "train", 1), 0.1)
    assert not np.array_equal(other.observations[0], again.observations[0])
    quiet = robot.rollout("push", robot.scripted("push"), robot.goal_seed(0, "push", "train", 1))
    assert np.array_equal(quiet.actions[0], again.actions[0]) and not np.array_equal(
        quiet.observations[:5], again.observations[:5])
    stored = load(train=2).train
    assert len(stored.inputs["push"]) == sum(len(e.actions) for e in first)
    both = np.concatenate([e.observations for e in first])
    assert np.abs(stored.inputs["push"].numpy() - both).max() < 1e-3


@needs_simulator
def test_episodes_end_with_success_or_after_200_steps():
    still = robot.rollout("reach", lambda x: np.zeros(4), robot.goal_seed(0, "reach", "test", 0))
    assert len(still.actions) == 200 and not still.success
    wild = robot.rollout("reach", lambda x: np.full(4, 7.0), robot.goal_seed(0, "reach", "test", 0))
    assert (wild.actions == 1).all()


@needs_simulator
def test_collected_in_several_processes(tmp_path):
    alone, together = (robot.collect("val", 1, 0.1, 0, workers) for workers in (1, 2))
    assert all(np.array_equal(alone[task][0].observations, together[task][0].observations) for task in TASKS)


@needs_simulator
def test_the_report_has_success():
    problem = load(episodes=1)
    assert directions(problem)["push"]["success"]
    scores = evaluate(models.HPS(problem), problem)
    assert all(set(values) == {"mse", "loss", "success"} for values in scores.values())
    runs = {name: [methods.run(name, problem, budget="smoke", progress=False)] for name in ("stl", "hps")}
    report = safety.report({"hps": runs["hps"]}, baseline=runs["stl"]).to_frame()
    assert "success" in set(report["metric"])
