"""Soft actor-critic on the robot: its equations, a few hundred steps that learn, a training that was cut off."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from mtlcourse import methods
from mtlcourse.data import robot
from tests.data.scripts import ran, script

sac = script("mt10_sac")
SHORT = {"tasks": ("reach", "push"), "widths": (16, 16), "samples": 800, "every": 20, "batch": 8, "begin": 60,
         "watch": 1, "episodes": 1}
TYPED = [word for name, value in SHORT.items() for word in (
    f"--{name}", ",".join(map(str, value)) if isinstance(value, tuple) else value)]


def batch(setting, samples: int = 8) -> dict:
    draw = torch.Generator().manual_seed(1)
    return {task: (torch.randn(samples, 39, generator=draw), torch.rand(samples, 4, generator=draw) * 2 - 1,
                   torch.rand(samples, generator=draw) * 10, torch.randn(samples, 39, generator=draw))
            for task in setting.tasks}


# --- equations ------------------------------------------------------------------------------------------------------

def test_actions_and_their_densities_are_those_of_a_squashed_gaussian():
    raw, noise = torch.randn(50, 8, dtype=torch.float64), torch.randn(50, 4, dtype=torch.float64)
    action, density = sac.acted(raw, noise)
    mean, log_std = raw.chunk(2, 1)
    squashed = TransformedDistribution(Normal(mean, log_std.clamp(-20, 2).exp()), [TanhTransform(cache_size=1)])
    assert action.abs().max() <= 1 and action.equal((mean + log_std.clamp(-20, 2).exp() * noise).tanh())
    inside = action.abs().max(1).values < 0.999
    torch.testing.assert_close(density[inside], squashed.log_prob(action).sum(1)[inside])
    assert sac.acted(raw * 1e3, noise)[1].isfinite().all()


@pytest.mark.parametrize(("log_std", "sign"), [(-4.0, 1), (0.0, -1)])  # an entropy far below -4, and far above
def test_the_price_of_entropy_falls_where_there_is_enough_of_it(log_std: float, sign: int):
    learner = sac.Learner(sac.Setting(**SHORT))
    for head in learner.policy.model.heads.values():
        list(head.modules())[-1].bias.data[4:] = log_std
    learner.update(batch(learner.setting))
    assert (sign * learner.log_alpha > 0).all()


def test_targets_follow_slowly_and_critics_learn_the_return():
    """A target goes `TAU` of its way; a critic that sees the same batch again and again comes nearer its rewards."""
    setting = sac.Setting(**SHORT, lr=3e-3)
    learner = sac.Learner(setting)
    before = [weight.clone() for weight in learner.targets.parameters()]
    learner.update(batch(setting))
    for old, target, critic in zip(before, learner.targets.parameters(), learner.critics.parameters(), strict=True):
        torch.testing.assert_close(target, old + sac.TAU * (critic - old))
    errors = []
    for _ in range(300):
        seen = batch(setting)
        done = {task: [own[0], own[1]] for task, own in seen.items()}
        learner.update(seen)
        with torch.no_grad():
            q = learner.critics[0](done)
            errors.append(sum((q[task][:, 0] - own[2]).abs().mean() for task, own in seen.items()))
    assert min(errors) < errors[0] / 2


@pytest.mark.parametrize("heads", ["own", "one"])
def test_heads(heads: str):
    """One head is one module, told the task by what stands behind the observation."""
    learner = sac.Learner(sac.Setting(**SHORT, heads=heads))
    first, second = (learner.policy.model.heads[task] for task in ("reach", "push"))
    assert (first is second) == (heads == "one")
    parts = {task: [torch.zeros(1, 39)] for task in ("reach", "push")}
    given = learner.policy.inputs(parts)
    assert given["reach"].shape == (1, 39 if heads == "own" else 41)
    assert not learner.policy(parts)["reach"].equal(learner.policy(parts)["push"])
    learner.update(batch(learner.setting))


POLICIES = ("stl", "hps", "dsmtl-jl", "cross-stitch", "mmoe", "tnrmtl", "mrn", "rotograd", "conal", "adashare")
STRATEGIES = ("ew", "cagrad(c=0.5)", "rlw", "max", "notice", "nash", "stch", "graddrop", "famo(min_losses=[-99, -99])")


@pytest.mark.parametrize(("policy", "strategy"), [(policy, "pcgrad") for policy in POLICIES] + [
    ("hps", strategy) for strategy in STRATEGIES])
def test_any_policy_and_strategy_make_an_update(policy: str, strategy: str):
    learner = sac.Learner(sac.Setting(**SHORT, policy=policy, strategy=strategy))
    before = {name: weight.clone() for name, weight in learner.policy.model.named_parameters()}
    for _ in range(2):
        learner.update(batch(learner.setting))
    learner.end()
    after = dict(learner.policy.model.named_parameters())
    assert any(not before[name].equal(after[name]) for name in before)
    assert all(weight.isfinite().all() for weight in after.values())


# --- trainings --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("policy", "strategy", "heads", "goals"), [
    ("hps", "pcgrad", "own", "fixed"), ("dsmtl-jl", "ew", "own", "random"), ("hps", "ew", "one", "fixed"),
    ("dsmtl-jl", "pcgrad", "own", "fixed")])
def test_a_few_hundred_steps(tmp_path, policy, strategy, heads, goals):
    typed = [*TYPED, "--policy", policy, "--strategy", strategy, "--heads", heads, "--goals", goals, "--out", tmp_path]
    said = ran("mt10_sac", *typed)
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"run.json", "history.csv", "model.safetensors"}
    content, history = json.loads((folder / "run.json").read_text()), pd.read_csv(folder / "history.csv")
    assert content["updates"] == (800 - 120) // 20 and content["config"]["policy"] == policy
    assert set(content["success"]) == {"reach", "push"} and "mean" in said and str(folder) in said
    assert list(history["samples"].unique()) == [400, 800] and set(history["name"]) == {"success", "reward", "alpha"}
    assert np.isfinite(history["value"]).all() and history[history["name"] == "success"]["value"].isin([0, 1]).all()
    untrained = sac.Learner(sac.Setting(**SHORT, policy=policy, strategy=strategy, heads=heads)).policy.model
    trained = load_file(folder / "model.safetensors")
    still = [name for name, weight in untrained.named_parameters() if weight.equal(trained[name])]
    assert still == [] and all(weight.isfinite().all() for weight in trained.values())
    assert ran("mt10_sac", *typed) == f"{folder} is there; nothing was done.\n"


def test_a_training_that_was_cut_off_goes_on_to_the_bit(tmp_path, monkeypatch):
    setting, said = sac.Setting(**{**SHORT, "samples": 1200}, strategy="gradvac", goals="random"), []
    sac.train(setting, tmp_path / "whole", said.append)

    def cut(number, *others, real=sac.episode):
        if number == 2:
            real(number, *others)  # what came behind the checkpoint is done once more
            raise KeyboardInterrupt
        real(number, *others)

    monkeypatch.setattr(sac, "episode", cut)
    with pytest.raises(KeyboardInterrupt):
        sac.train(setting, tmp_path / "cut", said.append)
    monkeypatch.undo()
    sac.train(setting, tmp_path / "cut", said.append)
    assert "after 2 of 3 episodes" in said[2]
    (whole,), (other,) = ([*(tmp_path / name).iterdir()] for name in ("whole", "cut"))
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, other))
    assert all(weight.equal(second[name]) for name, weight in first.items())
    histories = [pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (whole, other)]
    pd.testing.assert_frame_equal(*histories)


def test_goals():
    fixed, free = (sac.Setting(**SHORT, goals=goals) for goals in sac.GOALS)
    assert sac.goal(fixed, "reach", 0) == sac.goal(fixed, "reach", 7) == sac.goal(free, "reach", 0)
    assert len({sac.goal(free, "reach", number) for number in range(9)}) == 9


def test_what_is_remembered_comes_back(tmp_path):
    replay = sac.Replay(tmp_path, ["reach", "push"], 3)
    steps = np.arange(3 * 200)
    replay.got[:] = steps.reshape(3, 200) + np.array([0, 1000])[:, None, None]
    replay.seen[..., 0] = np.arange(201) + 300 * np.arange(3)[:, None]
    found = replay.batch(500, 250, torch.Generator().manual_seed(0))
    for task, more in (("reach", 0), ("push", 1000)):
        seen, _, got, then = found[task]
        assert got.min() >= more and got.max() < 250 + more and len(got.unique()) > 150
        assert (then[:, 0] - seen[:, 0]).eq(1).all()
        assert seen[:, 0].equal((got - more) % 200 + 300 * ((got - more) // 200))
    assert not found["reach"][2].add(1000).equal(found["push"][2])


# --- mistakes ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("arguments", "said"), [
    (["--tasks", "reach,pull"], "Unknown task 'pull'. Known: push"), (["--tasks", "reach,reach"], "different ones"),
    (["--heads", "two"], "Unknown kind of heads 'two'. Known: "), (["--goals", "none"], "Unknown kind of goals"),
    (["--policy", "hsp"], "Unknown architecture 'hsp'"), (["--strategy", "pcgard"], "Unknown strategy 'pcgard'"),
    (["--every", 0], "every=0 must be more than 0"), (["--widths", "0"], "positive whole numbers"),
    (["--widths", "8.5"], "positive whole numbers"), (["--seed", -1], "cannot be negative"),
    (["--policy", "mtan"], "MTAN needs maps")])
def test_what_is_refused(tmp_path, arguments, said):
    found = ran("mt10_sac", "--out", tmp_path, *arguments, fails=True)
    assert said in found and found.startswith("Error: ") and not list(tmp_path.iterdir())


def test_a_strategy_that_needs_losses_above_zero_says_so(tmp_path):
    learner = sac.Learner(sac.Setting(**SHORT, strategy="uw"))
    for head in (head for critic in learner.critics for head in critic.model.heads.values()):
        list(head.modules())[-1].bias.data[:] = 50
    with pytest.raises(ValueError, match="UncertaintyWeighting needs losses of zero or more"):
        learner.update(batch(learner.setting))


def test_without_the_simulator(monkeypatch, tmp_path):
    def missing():
        raise ModuleNotFoundError("Install the robot extra")

    monkeypatch.setattr(robot, "version", missing)
    assert "Error: Install the robot extra" in ran("mt10_sac", "--out", tmp_path, fails=True)


def test_the_printed_size():
    """Ten tasks, 20 million samples, nets 400-400, a batch of 1,280, an update every ten samples."""
    usual = sac.Setting()
    assert usual.rounds == 10_000 and usual.batch * len(usual.tasks) == 1_280
    model = methods.build("hps", usual.problem(0, 8))
    assert sum(p.numel() for p in model.parameters()) == 40 * 400 + 401 * 400 + 10 * 401 * 8
    assert math.isclose(usual.samples / usual.every / 11 / 86_400, 2.1, abs_tol=0.01)  # days at 11 updates a second
