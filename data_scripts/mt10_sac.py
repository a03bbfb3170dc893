"""Soft actor-critic (SAC) on Meta-World's ten tasks, with any of our models as policy and any strategy for its loss:
`python data_scripts/mt10_sac.py --policy hps --strategy pcgrad`. It needs the robot extra.

    python data_scripts/mt10_sac.py --tasks reach --widths 256,256 --samples 42000 --every 2 --watch 20   # minutes
    python data_scripts/mt10_sac.py                                                                       # days

Multi-head SAC (`--heads own`): each task has a head of its own, on the policy and on both critics. Multi-task SAC
(`--heads one`): all tasks have one, and a one-hot vector of the task stands behind what the robot sees. Of the method
that `--policy` names the model is taken, not its procedure: a supernet is trained as it is, without its search.

    critics   L_t = mean (Q_i(s, a) - y)^2, i = 1, 2, summed over tasks; y = r + gamma (min_i Q'_i(s', a') - alpha_t
              log pi(a'|s')), with a' by lot from the policy, and Q' that follow Q by `TAU` an update
    policy    L_t = mean (alpha_t log pi(a|s) - min_i Q_i(s, a)), which the strategy combines; a = tanh(mean + std
              noise)
    entropy   L_t = -log alpha_t mean (log pi(a|s) - 4), in alpha_t: each task's policy keeps an entropy of -4, minus
              the numbers of an action

These losses are negative once rewards come in: strategies that need losses above zero (uw, imtl-l, dwa, gls, gradnorm,
db-mtl, and famo without `min_losses`) say so and stop. Episodes have 200 steps, also after success, and what lies
behind their end counts (no step is terminal). Goals are fixed, one a task, as in the thesis; `--goals random` draws one
each episode.

How long it takes, on one core. One task with a fixed goal (`reach`, nets 256-256, an update every second step, 42,000
steps) takes four minutes, at 103 updates a second and 1,690 steps of the simulator. With seed 0 it succeeded in each
evaluation from 20,000 to 40,000 steps, every 4,000, and not in the last one. As printed it is 20 million samples of ten
tasks, a batch of 1,280, nets 400-400: at 11 updates a second, and an update every ten samples, 2 million updates are
two days. Measured beside other work were 8.4 updates a second, also with PCGrad, 6.6 of `dsmtl-jl`: three or four days.

Sources: T. Yu et al., Meta-World: A Benchmark and Evaluation for Multi-Task and Meta Reinforcement Learning, 2020
(multi-task and multi-head SAC, batches and entropy of each task); T. Haarnoja et al., Soft Actor-Critic Algorithms and
Applications, 2018; Learning Architecture for Multiple Tasks in Transfer Learning, sections 5.3.2 and 5.4.5. Departures:
no sample is ever forgotten (the replay lies in files), and a strategy combines the policy's losses only.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from tqdm import tqdm

from mtlcourse import data, files, methods, strategies
from mtlcourse.cli.options import numbers, some
from mtlcourse.data import robot
from mtlcourse.data.robot import ACTION, LONGEST, OBSERVATION, TASKS
from mtlcourse.tasks import Batch, Problem
from mtlcourse.training import Loop

GAMMA, TAU = 0.99, 0.005  # of returns; how far targets go towards their critics in an update
LOG_STD = (-20.0, 2.0)  # what logarithms of standard deviations are clipped to
HEADS, GOALS = ("own", "one"), ("fixed", "random")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a training is asked for. samples: of all tasks together.  every: samples for one update.  batch: samples a
    task.  begin: steps a task by lot, before the first update.  watch: episodes a task between evaluations.
    episodes: a task in an evaluation, where goals are random; with a fixed goal all would be alike.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    policy: str = "hps"
    strategy: str = "ew"
    heads: str = "own"
    goals: str = "fixed"
    widths: tuple[int, ...] = (400, 400)
    samples: int = 20_000_000
    every: int = 10
    batch: int = 128
    begin: int = 1_500
    lr: float = 3e-4
    watch: int = 50
    episodes: int = 10
    seed: int = 0

    def __post_init__(self):
        for what, names, known in (("task", self.tasks, TASKS), ("kind of heads", [self.heads], HEADS),
                                   ("kind of goals", [self.goals], GOALS)):
            for name in names:
                if name not in known:
                    raise ValueError(files.unknown(what, name, known))
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks={','.join(self.tasks)} must be different ones, at least one.")
        for name in ("samples", "every", "batch", "watch", "episodes", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be more than 0.")
        whole = [width for width in self.widths if width >= 1 and not width % 1]
        if self.begin < 0 or self.seed < 0 or not self.widths or whole != list(self.widths):
            raise ValueError(f"begin={self.begin} and seed={self.seed} cannot be negative, and widths={self.widths} "
                             "are one or more positive whole numbers.")

    @property
    def rounds(self) -> int:
        """Episodes of each task, the last one whole."""
        return math.ceil(self.samples / (len(self.tasks) * LONGEST))

    def problem(self, more: int, outputs: int) -> Problem:
        """What a network is built for: `more` inputs besides the observation (and the task), and so many outputs."""
        size = OBSERVATION + more + (len(self.tasks) if self.heads == "one" else 0)
        return Problem("mt10_sac", [data.regression(task, outputs, ("mse",)) for task in self.tasks], None, None, None,
                       (size,), {"name": "mlp", "widths": list(self.widths)})


# --- networks -----------------------------------------------------------------------------------------------------

class ForTasks(nn.Module):
    """A model of ours, to which one-hot vectors tell the task where all tasks have one head."""

    def __init__(self, model: nn.Module, tasks: Sequence[str], heads: str):
        super().__init__()
        self.model, self.told = model, heads == "one"
        self.register_buffer("codes", torch.eye(len(tasks)), persistent=False)
        self.numbers = {task: number for number, task in enumerate(tasks)}
        if self.told:
            for task in tasks[1:]:
                model.heads[task] = model.heads[tasks[0]]

    def inputs(self, parts: dict[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        """Each task's parts side by side, and its code behind them."""
        found = {}
        for task, own in parts.items():
            code = [self.codes[self.numbers[task]].expand(len(own[0]), -1)] if self.told else []
            found[task] = torch.cat([*own, *code], 1)
        return found

    def forward(self, parts: dict[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        return self.model(self.inputs(parts))


def acted(raw: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions (n, 4) in [-1, 1] and the logarithms of their densities (n,), of means and log deviations (n, 8)."""
    mean, log_std = raw.chunk(2, 1)
    log_std = log_std.clamp(*LOG_STD)
    u = mean + log_std.exp() * noise
    squashed = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log(1 - tanh(u)^2)
    return u.tanh(), (-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi) - squashed).sum(1)


class Learner:
    """Policy, two critics with their targets, an entropy's price for each task, and one update of all of them."""

    def __init__(self, setting: Setting):
        self.setting, tasks = setting, setting.tasks
        files.seed_everything(setting.seed)
        part = methods.parse_part(setting.strategy)
        model = methods.build(setting.policy, setting.problem(0, 2 * ACTION))
        self.policy = ForTasks(model, tasks, setting.heads)
        self.loop = Loop(model, strategies.make(part.name, **part.options), lr=setting.lr, seed=setting.seed,
                         steps_per_epoch=setting.watch * LONGEST * len(tasks) // setting.every + 1)
        self.critics = nn.ModuleList()
        for number in (1, 2):
            files.seed_everything(files.derived_seed(setting.seed, f"critic.{number}"))
            self.critics.append(ForTasks(methods.build("hps", setting.problem(ACTION, 1)), tasks, setting.heads))
        files.seed_everything(setting.seed)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(len(tasks)))
        self.of_critics = torch.optim.Adam(self.critics.parameters(), lr=setting.lr)
        self.of_alpha = torch.optim.Adam([self.log_alpha], lr=setting.lr)
        self.chance = torch.Generator().manual_seed(files.derived_seed(setting.seed, "chance"))
        self.updates = self.since = 0  # in all, and since the last evaluation

    def noise(self, samples: int) -> Tensor:
        return torch.randn(samples, ACTION, generator=self.chance)

    @torch.no_grad()
    def act(self, seen: np.ndarray, task: str, by_lot: bool) -> np.ndarray:
        """What the policy wants to do about one observation (39,): (4,)."""
        raw = self.policy({task: [torch.from_numpy(np.asarray(seen, np.float32)[None])]})[task]
        return acted(raw, self.noise(1) if by_lot else torch.zeros(1, ACTION))[0][0].numpy()

    def update(self, batch: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
        """One update from what was seen (n, 39), done (n, 4), got (n,), and seen then (n, 39), for each task."""
        alpha = dict(zip(batch, self.log_alpha.detach().exp(), strict=True))
        noises = {task: (self.noise(len(own[0])), self.noise(len(own[0]))) for task, own in batch.items()}

        with torch.no_grad():
            raw = self.policy({task: [then] for task, (_, _, _, then) in batch.items()})
            later = {task: acted(raw[task], noises[task][0]) for task in batch}
            worth = least(self.targets, {task: [batch[task][3], action] for task, (action, _) in later.items()})
            wanted = {task: batch[task][2] + GAMMA * (worth[task] - alpha[task] * later[task][1]) for task in batch}
        done = {task: [seen, action] for task, (seen, action, _, _) in batch.items()}
        self.of_critics.zero_grad()
        sum((q[task][:, 0] - wanted[task]).square().mean() for critic in self.critics
            for q in [critic(done)] for task in batch).backward()
        self.of_critics.step()

        chances: dict[str, Tensor] = {}
        seen = self.policy.inputs({task: [own[0]] for task, own in batch.items()})

        def losses() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            raw = self.policy.model(seen)
            now = {task: acted(raw[task], noises[task][1]) for task in batch}
            worth = least(self.critics, {task: [batch[task][0], action] for task, (action, _) in now.items()})
            chances.update({task: chance.detach() for task, (_, chance) in now.items()})
            return {task: (alpha[task] * now[task][1] - worth[task]).mean() for task in batch}, raw

        self.critics.requires_grad_(False)
        found, raw = losses()
        own = {}
        if hasattr(self.policy.model, "auxiliary_loss"):
            own["auxiliary"] = self.policy.model.auxiliary_loss(Batch(seen, {}), raw)
        densities = torch.stack([chance.mean() for chance in chances.values()])
        self.loop.step(found, again=lambda: losses()[0], **own)
        self.critics.requires_grad_(True)

        self.log_alpha.grad = ACTION - densities
        self.of_alpha.step()
        with torch.no_grad():
            for target, critic in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                target.lerp_(critic, TAU)
        self.updates, self.since = self.updates + 1, self.since + 1

    def end(self) -> None:
        """An evaluation is over: what waits for the ends of epochs hears of it, if there was an update."""
        if self.since:
            self.loop.epoch_end()
        self.since = 0

    def parts(self) -> dict[str, Any]:
        return {"policy": self.policy.model, "critics": self.critics, "targets": self.targets, "loop": self.loop,
                "of_critics": self.of_critics, "of_alpha": self.of_alpha}

    def state_dict(self) -> dict[str, Any]:
        return {**{name: dict(part.state_dict()) for name, part in self.parts().items()}, "updates": self.updates,
                "log_alpha": self.log_alpha, "chance": self.chance.get_state(), "random": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.log_alpha.data.copy_(state["log_alpha"])
        self.chance.set_state(state["chance"])
        torch.set_rng_state(state["random"])
        self.updates = state["updates"]


def least(critics: nn.ModuleList, parts: dict[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """The smaller of what both critics say, (n,) for each task."""
    first, second = (critic(parts) for critic in critics)
    return {task: torch.minimum(first[task], second[task])[:, 0] for task in parts}


# --- experience ---------------------------------------------------------------------------------------------------

class Replay:
    """All that was seen, done and got, in files of `folder`: (tasks, episodes, steps, ...). A training that goes on
    writes what comes after its checkpoint once more, the same.
    """

    def __init__(self, folder: Path, tasks: Sequence[str], episodes: int):
        self.tasks = list(tasks)
        self.seen, self.done, self.got = (
            self._array(folder / f"{name}.npy", (len(self.tasks), episodes, *shape))
            for name, shape in (("seen", (LONGEST + 1, OBSERVATION)), ("done", (LONGEST, ACTION)), ("got", (LONGEST,))))

    @staticmethod
    def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
        if path.is_file():
            return open_memmap(path, mode="r+")
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_memmap(path, mode="w+", dtype=np.float32, shape=shape)

    def batch(self, size: int, steps: int, chance: torch.Generator) -> dict[str, tuple[Tensor, ...]]:
        """So many of each task's first `steps` steps, by lot."""
        found = {}
        for t, task in enumerate(self.tasks):
            episode, step = np.divmod(torch.randint(steps, (size,), generator=chance).numpy(), LONGEST)
            found[task] = tuple(torch.from_numpy(part) for part in (
                self.seen[t, episode, step], self.done[t, episode, step], self.got[t, episode, step],
                self.seen[t, episode, step + 1]))
        return found


def goal(setting: Setting, task: str, episode: int) -> int:
    """Which goal and places an episode of training has."""
    return robot.goal_seed(setting.seed, task, "train", episode if setting.goals == "random" else 0)


def episode(number: int, setting: Setting, learner: Learner, replay: Replay) -> None:
    """One episode of all tasks side by side, and the updates that fall into it."""
    worlds = {task: robot.environment(task) for task in setting.tasks}
    for t, (task, world) in enumerate(worlds.items()):
        world.seed(goal(setting, task, number))
        replay.seen[t, number, 0] = world.reset()[0]
    for step in range(LONGEST):
        steps = number * LONGEST + step  # of each task, before this one
        for t, (task, world) in enumerate(worlds.items()):
            if steps < setting.begin:
                action = (2 * torch.rand(ACTION, generator=learner.chance) - 1).numpy()
            else:
                action = learner.act(replay.seen[t, number, step], task, by_lot=True)
            seen, reward, *_ = world.step(action)
            replay.done[t, number, step], replay.got[t, number, step] = action, reward
            replay.seen[t, number, step + 1] = seen
        learning = max(0, steps + 1 - setting.begin) * len(worlds)
        while learner.updates < learning // setting.every:
            learner.update(replay.batch(setting.batch, steps + 1, learner.chance))


def evaluated(setting: Setting, learner: Learner) -> dict[str, float]:
    """Each task's share of episodes that end in success by the policy's means: on the goal, or on goals never seen."""
    found = {}
    for task in setting.tasks:
        goals = [goal(setting, task, 0)] if setting.goals == "fixed" else [
            robot.goal_seed(setting.seed, task, "test", number) for number in range(setting.episodes)]

        def act(seen: np.ndarray, task: str = task) -> np.ndarray:
            return learner.act(seen, task, by_lot=False)

        found[task] = float(np.mean([robot.rollout(task, act, own).success for own in goals]))
    return found


# --- a training ----------------------------------------------------------------------------------------------------

def train(setting: Setting, out: Path, tell: Callable[[str], Any] = click.echo) -> pd.DataFrame:
    """Train, or go on where a training was cut off, and leave `run.json`, `history.csv` and `model.safetensors`.

    The folder is called as the hash of the settings. Returns the history: samples, seconds, task, name, value.
    """
    from safetensors.torch import save_file

    config = {**dataclasses.asdict(setting), "metaworld": robot.version()}
    folder = out / files.config_hash(config)
    if (folder / "run.json").is_file():
        tell(f"{folder} is there; nothing was done.")
        return pd.read_csv(folder / "history.csv")
    learner, rows, first, seconds = Learner(setting), [], 0, 0.0
    replay = Replay(folder / "replay", setting.tasks, setting.rounds)
    if state := files.load_state(folder / "checkpoint"):
        learner.load_state_dict(state["learner"])
        rows, first, seconds = state["rows"], state["episodes"], state["seconds"]
        tell(f"Going on in {folder} after {first} of {setting.rounds} episodes a task.")
    began = time.perf_counter() - seconds
    with tqdm(total=setting.rounds, initial=first, unit="episode", mininterval=1) as bar:
        for number in range(first, setting.rounds):
            episode(number, setting, learner, replay)
            bar.update()
            if (number + 1) % setting.watch and number + 1 < setting.rounds:
                continue
            success = evaluated(setting, learner)
            learner.end()
            since = slice(max(0, number + 1 - setting.watch), number + 1)
            seconds = time.perf_counter() - began
            for t, task in enumerate(setting.tasks):
                told = {"success": success[task], "reward": float(replay.got[t, since].mean()),
                        "alpha": learner.log_alpha[t].exp().item()}
                rows += [[(number + 1) * LONGEST * len(setting.tasks), round(seconds, 1), task, name, value]
                         for name, value in told.items()]
            bar.set_postfix(success=f"{np.mean(list(success.values())):.2f}", updates=learner.updates)
            files.save_state(folder / "checkpoint", {"learner": learner.state_dict(), "rows": rows, "seconds": seconds,
                                                     "episodes": number + 1})
    history = pd.DataFrame(rows, columns=["samples", "seconds", "task", "name", "value"])
    weights = {name: value.clone() for name, value in learner.policy.model.state_dict().items()}
    files.atomic(folder / "model.safetensors", lambda path: save_file(weights, path))
    files.atomic(folder / "history.csv", lambda path: history.to_csv(path, index=False))
    files.write_json(folder / "run.json", {"config": config, "success": success, "seconds": seconds,
                                           "updates": learner.updates})
    for left in (*folder.glob("checkpoint*"), *(folder / "replay").iterdir()):  # what nobody needs any more
        left.unlink()
    (folder / "replay").rmdir()
    tell("\n".join(f"{task:<22}success {value:.2f}" for task, value in success.items()))
    tell(f"{'mean':<22}success {np.mean(list(success.values())):.2f}, after {learner.updates:,} updates in "
         f"{seconds:,.0f} s: {folder}")
    return history


USUAL = Setting()


@click.command(help="Multi-task and multi-head soft actor-critic on Meta-World's ten tasks.", context_settings={
    "show_default": True})
@click.option("--tasks", default=",".join(USUAL.tasks), callback=some, help="Which of the ten.")
@click.option("--policy", default=USUAL.policy, help="An architecture, options in parentheses: 'dsmtl-jl'.")
@click.option("--strategy", default=USUAL.strategy, help="For the policy's losses: 'cagrad(c=0.5)'.")
@click.option("--heads", default=USUAL.heads, help="A head for each task, 'own', or 'one' that is told the task.")
@click.option("--goals", default=USUAL.goals, help="'fixed', one a task, or 'random'.")
@click.option("--widths", default=",".join(map(str, USUAL.widths)), callback=numbers, help="Of all networks' layers.")
@click.option("--samples", default=USUAL.samples, help="Of all tasks together, in whole episodes.")
@click.option("--every", default=USUAL.every, help="Samples for one update.")
@click.option("--batch", default=USUAL.batch, help="Samples of each task in an update.")
@click.option("--begin", default=USUAL.begin, help="Steps of each task by lot, before the first update.")
@click.option("--lr", default=USUAL.lr, help="Learning rate of all that learns.")
@click.option("--watch", default=USUAL.watch, help="Episodes of each task between evaluations and checkpoints.")
@click.option("--episodes", default=USUAL.episodes, help="Of each task in an evaluation, with random goals.")
@click.option("--seed", default=USUAL.seed, help="Of weights, goals and chance.")
@click.option("--out", default="runs/mt10_sac", type=click.Path(path_type=Path, file_okay=False), help="For results.")
def main(out: Path, tasks: list[str], widths: list[int], **options: Any) -> None:
    torch.set_num_threads(1)
    try:
        train(Setting(tasks=tuple(tasks), widths=tuple(widths), **options), out)
    except (ValueError, OSError, ArithmeticError, ImportError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
