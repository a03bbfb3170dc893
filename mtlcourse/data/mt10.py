"""`mt10`: ten tasks of a robot arm, learned from demonstrations.

Imports `files`, `tasks`, its folder's `kinds`, `mapped`, `mapped_split`, `registry`, `robot`, `splits`, `stored`. Ten
episodes a task are in the package, `mt10.npz`, in float16, made with Meta-World 3.1.1 (MIT licence) by `store`; more
are collected with the simulator.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import config_hash, is_number, unknown
from ..tasks import Problem, TensorSplit
from . import robot
from . import stored as kept
from .kinds import regression
from .mapped import convert
from .mapped_split import META, MappedSplit
from .registry import register
from .robot import ACTION, OBSERVATION, TASKS, Episode
from .splits import at_most, split_sizes

STORED = Path(__file__).with_name("mt10.npz")
EPISODES = {"stored": {"train": 6, "val": 2, "test": 2}, "collected": {"train": 30, "val": 5, "test": 5}}
NOISE = 0.1


@register("mt10")
def mt10(demonstrations: str = "stored", train: int | None = None, val: int | None = None, test: int | None = None,
         noise: float | int = NOISE, episodes: int = 5, widths: Sequence[int] = (64, 64), seed: int = 0,
         root: str = "data", with_data: bool = True) -> Problem:
    """Behaviour cloning, not reinforcement learning: regression from what a robot arm sees to what a script would do.

    The ten tasks of Meta-World's MT10, each with observations of its own: 39 numbers (the hand, the gripper, objects,
    the same one step before, the goal last), to an action of 4 numbers in [-1, 1], as Meta-World's own scripted policy
    for the task wants it. Every second episode has normal noise on what is executed, so that recovering is
    demonstrated too; recorded is what was wanted. An episode ends with success or after 200 steps, also those in which
    the script fails. Each has a goal of its own, so that no goal of a test was seen in training.
    Measures: mean squared error, and by a probe `success`: how many episodes on held-out goals end in success when the
    model acts. It needs the simulator; without it, it is left out, which a warning says, unless nobody asks for it.

    demonstrations: "stored", ten episodes a task that are in the package, 6 / 2 / 2, in float16; or "collected",
        30 / 5 / 5, recorded with the simulator when asked for first and kept in `root`, of which the stored ones are
        the first.
    train, val, test: episodes a task, in place of these.
    noise: standard deviation.  seed: decides the goals. What is stored has 0.1 and 0.
    episodes: of the probe, a task; 10 are printed, 0 is no probe.
    widths: of the policy's layers; (400, 400) is printed.
    root: the folder whose folder `mt10` keeps what is collected, by options and Meta-World's version.
    Raises ValueError for unknown demonstrations, more than are stored or with other noise or goals, no episodes, and a
    Meta-World of other dimensions; ModuleNotFoundError where demonstrations are to be collected without the extra.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, sections 5.3.1, 5.3.2 and 5.4.5, with its
    tasks, nets and measure; there, positions and goals are fixed, and the policy is learned by soft actor-critic.
    """
    if demonstrations not in EPISODES:
        raise ValueError(unknown("kind of demonstrations", str(demonstrations), EPISODES))
    usual = EPISODES[demonstrations]
    given = {split: usual[split] if value is None else value
             for split, value in {"train": train, "val": val, "test": test}.items()}
    sizes = split_sizes(**given)
    if not is_number(noise) or not 0 <= noise < np.inf:
        raise ValueError(f"noise={noise!r} must be a standard deviation, 0 or more.")
    if demonstrations == "stored":
        for split, size in sizes.items():
            at_most(size, usual[split], f"stored demonstrations for {split}")
        if (noise, seed) != (NOISE, 0):
            raise ValueError(f"The stored demonstrations have noise={NOISE} and seed=0, not {noise} and {seed}: "
                             "demonstrations='collected' makes others, with the simulator.")
    wanted = isinstance(episodes, bool) or episodes != 0
    probes = {"success": robot.success(episodes, seed)} if wanted else {}
    if probes and not robot.there():
        probes = {}
        if with_data:
            warnings.warn("mt10: `success` is left out, because it needs the simulator. Install the robot extra: "
                          "pip install -c constraints/core.txt 'mtlcourse[robot]'.", stacklevel=2)
    splits: Mapping[str, Any] = dict.fromkeys(sizes)
    if with_data:
        splits = stored(sizes) if demonstrations == "stored" else collected(sizes, float(noise), seed, Path(root))
    return Problem("mt10", [regression(task, ACTION, ("mse",)) for task in TASKS], **splits, input_shape=(OBSERVATION,),
                   encoder={"name": "mlp", "widths": list(widths)}, probes=probes,
                   training={"fast": {"steps": 700, "lr": 3e-3}, "full": {"steps": 7_000, "lr": 1e-3}})


def split_of(found: Mapping[str, Sequence[Episode]]) -> TensorSplit:
    """Steps as samples: of each task all episodes' one after the other, grouped by episode."""
    return TensorSplit(
        {task: torch.from_numpy(np.concatenate([e.observations for e in own])) for task, own in found.items()},
        {task: torch.from_numpy(np.concatenate([e.actions for e in own])) for task, own in found.items()},
        {task: torch.repeat_interleave(torch.arange(len(own)), torch.tensor([len(e.actions) for e in own]))[:, None]
         for task, own in found.items()})


# --- in the package ---------------------------------------------------------------------------------------------

def stored(sizes: Mapping[str, int]) -> dict[str, TensorSplit]:
    """The first so many episodes of each split that are in the package."""
    arrays = kept.read(STORED)
    observations, actions, lengths, success = (arrays[name] for name in
                                               ("observations", "actions", "lengths", "success"))
    ends = lengths.cumsum().reshape(lengths.shape)
    found: dict[str, dict[str, list[Episode]]] = {split: {} for split in sizes}
    for row, task in enumerate(TASKS):
        first = 0
        for split, there in EPISODES["stored"].items():
            rows = [slice(ends[row, n] - lengths[row, n], ends[row, n]) for n in range(first, first + sizes[split])]
            found[split][task] = [Episode(observations[r].astype(np.float32), actions[r].astype(np.float32), bool(won))
                                  for r, won in zip(rows, success[row, first:], strict=False)]
            first += there
    return {split: split_of(own) for split, own in found.items()}


def store(path: Path = STORED, workers: int | None = None) -> None:
    """Collect what is in the package, and write it: each task's episodes, those of training first."""
    parts = {split: robot.collect(split, size, NOISE, 0, workers) for split, size in EPISODES["stored"].items()}
    rows = {task: [episode for part in parts.values() for episode in part[task]] for task in TASKS}
    whole = [episode for own in rows.values() for episode in own]
    kept.write(path, {"observations": np.concatenate([e.observations for e in whole]).astype(np.float16),
                      "actions": np.concatenate([e.actions for e in whole]).astype(np.float16),
                      "lengths": np.array([[len(e.actions) for e in own] for own in rows.values()], np.int64),
                      "success": np.array([[e.success for e in own] for own in rows.values()]),
                      "metaworld": np.array(robot.version())})


# --- collected --------------------------------------------------------------------------------------------------

def collected(sizes: Mapping[str, int], noise: float, seed: int, root: Path) -> dict[str, MappedSplit]:
    """The splits of these options, from `root`, or from the simulator the first time.

    Raises ModuleNotFoundError, saying what to install, where there are none and no simulator.
    """
    return {split: _kept(split, size, noise, seed, root) for split, size in sizes.items()}


def _kept(split: str, episodes: int, noise: float, seed: int, root: Path) -> MappedSplit:
    options = {"episodes": episodes, "noise": noise, "seed": seed, "split": split}
    name = config_hash(options)
    folder = root / "mt10" / f"{name}-metaworld-{robot.version() if robot.there() else '*'}"
    if not robot.there():  # what another machine has collected can be read; the newest version's, if there are several
        kept = sorted(folder.parent.glob(f"{folder.name}/{META}"))
        folder = kept[-1].parent if kept else folder.parent / f"{name}-metaworld-{robot.version()}"
    if not (folder / META).is_file():
        about = {**options, "metaworld": robot.version()}
        convert(split_of(robot.collect(split, episodes, noise, seed)), folder, about=about)
    return MappedSplit(folder, list(TASKS))
