"""The robot of Meta-World: demonstrations by its scripted policies, and how often a model gets its ten tasks done.

Imports `files`, `metrics`, `tasks`, and Meta-World inside functions. Environments are made one by one, since its own
`MT10()` takes seconds. Every episode has a goal by its own seed and begins from the same state, so that it does not
matter in which process, or after which other one, it runs.
"""

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import nn

from ..files import derived_seed, is_whole, optional
from ..metrics import Probe
from ..tasks import Problem

TASKS = {"reach": "reach-v3", "push": "push-v3", "pick_place": "pick-place-v3", "door_open": "door-open-v3",
         "drawer_open": "drawer-open-v3", "drawer_close": "drawer-close-v3",
         "button_press_topdown": "button-press-topdown-v3", "peg_insert_side": "peg-insert-side-v3",
         "window_open": "window-open-v3", "window_close": "window-close-v3"}
OBSERVATION, ACTION, LONGEST = 39, 4, 200
Act = Callable[[Float64[np.ndarray, "39"]], np.ndarray]


@dataclass(frozen=True)
class Episode:
    """What happened. observations: seen before each step.  actions: wanted at each step.  success: how it ended."""

    observations: Float32[np.ndarray, "steps 39"]
    actions: Float32[np.ndarray, "steps 4"]
    success: bool


def there() -> bool:
    """Whether the simulator is installed."""
    return importlib.util.find_spec("metaworld") is not None


def version() -> str:
    """Meta-World's; ModuleNotFoundError, saying what to install, without it."""
    optional("metaworld", "robot")
    return metadata.version("metaworld")


def goal_seed(seed: int, task: str, split: str, number: int) -> int:
    """Which goal, and which places of objects, episode `number` of a split has."""
    return derived_seed(seed, f"mt10/{task}/{split}/{number}") % 2**31


@functools.cache
def environment(task: str) -> Any:
    """The environment of a task, whose goal can be seen and is drawn at each reset.

    Raises ModuleNotFoundError without the extra, ValueError for a version that has other observations or actions.
    """
    known = optional("metaworld.env_dict", "robot").ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    name = f"{TASKS[task]}-goal-observable"
    made = known[name](seed=0) if name in known else None
    shapes = made and (made.observation_space.shape, made.action_space.shape)
    if shapes != ((OBSERVATION,), (ACTION,)):
        what = f"observations and actions of shapes {shapes[0]} and {shapes[1]}" if shapes else f"no {TASKS[task]!r}"
        raise ValueError(f"Meta-World {version()} has {what}, where {OBSERVATION} and {ACTION} numbers are known here: "
                         "install metaworld>=3.1,<4.")
    made.seeded_rand_vec, made._freeze_rand_vec = True, False  # as its own benchmarks of random goals set them
    return made


def rollout(task: str, act: Act, goal: int, noise: float = 0.0) -> Episode:
    """One episode, which ends with success or after 200 steps.

    act: from an observation to what is wanted, which is clipped to [-1, 1].  goal: a `goal_seed`.
    noise: standard deviation of what is added to what is executed; recorded is what was wanted.
    """
    env, random = environment(task), np.random.default_rng(goal)
    env.seed(goal)
    observation, _ = env.reset()
    seen, wanted, success = [], [], False
    while len(seen) < LONGEST and not success:
        action = np.clip(act(observation), -1, 1)
        seen.append(observation)
        wanted.append(action)
        executed = action + noise * random.standard_normal(ACTION) if noise else action
        observation, *_, info = env.step(np.clip(executed, -1, 1).astype(np.float32))
        success = bool(info["success"])
    return Episode(np.array(seen, np.float32), np.array(wanted, np.float32), success)


def scripted(task: str) -> Act:
    """What Meta-World's own policy for the task does."""
    policy = optional("metaworld.policies", "robot").ENV_POLICY_MAP[TASKS[task]]()

    def act(observation: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():  # that it wants more than 1, which is clipped
            warnings.filterwarnings("ignore", message="Constant.s. may be too high")
            return policy.get_action(observation)

    return act


def demonstrate(task: str, split: str, episodes: int, noise: float, seed: int) -> list[Episode]:
    """Episodes 0, 1, ... of a split by the scripted policy, every second one with noise."""
    act = scripted(task)
    return [rollout(task, act, goal_seed(seed, task, split, number), noise * (number % 2))
            for number in range(episodes)]


def collect(split: str, episodes: int, noise: float, seed: int, workers: int | None = None) -> dict[str, list[Episode]]:
    """Each task's episodes of a split, the tasks in several processes, by default as many as there are processors."""
    workers = min(os.cpu_count() or 1 if workers is None else workers, len(TASKS))
    if workers == 1:
        return {task: demonstrate(task, split, episodes, noise, seed) for task in TASKS}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {task: pool.submit(demonstrate, task, split, episodes, noise, seed) for task in TASKS}
        return {task: future.result() for task, future in running.items()}


def success(episodes: int, seed: int) -> Probe:
    """`success`: the share of so many episodes, a held-out goal each, that end in success with the model as policy.

    The first goals are those of the test split; there are more where that has fewer.
    Raises ValueError for no episode.
    """
    if not is_whole(episodes, 1):
        raise ValueError(f"episodes={episodes!r}: the probe needs a whole number of episodes a task, at least 1.")
    return Probe(functools.partial(_succeeded, numbers=range(episodes), seed=seed), {"success": True})


def _succeeded(model: nn.Module, problem: Problem, numbers: Iterable[int], seed: int) -> dict[str, dict[str, float]]:
    like = next(model.parameters())

    def share(task: str) -> float:
        @torch.no_grad()
        def act(observation: np.ndarray) -> np.ndarray:
            x = torch.as_tensor(observation[None], dtype=like.dtype, device=like.device)
            return model({task: x}, [task])[task][0].cpu().numpy()

        return float(np.mean([rollout(task, act, goal_seed(seed, task, "test", number)).success for number in numbers]))

    return {task: {"success": share(task)} for task in problem.task_names if task in TASKS}
