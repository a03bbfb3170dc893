"""`cifar100_mtl`: the twenty superclasses of CIFAR-100 as twenty tasks, each of which tells its five classes apart.

Imports `files`, `tasks`, its folder's `kinds`, `registry`, `sets`, `splits`.
"""

from typing import Any

import torch

from ..files import is_number
from ..tasks import Problem
from .kinds import classification
from .mapped_split import MappedSplit
from .registry import register
from .sets import read
from .splits import generator

FINE = 5  # classes in each superclass
SUPERCLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man_made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non_insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2")  # in label order


@register("cifar100_mtl")
def cifar100_mtl(holdout: float | int = 0.1, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """Twenty tasks with images of their own, 3 x 32 x 32 in [0, 1]: which of its five classes an image shows.

    Of each superclass 2,500 published training images and 500 test images.
    holdout: share of each task's training images to choose by, above 0 and below 1, taken by `seed`.
    root: where `python data_scripts/cifar100_mtl.py` put the set.
    Raises FileNotFoundError, naming that script, where it is not; ValueError for a share that is none.
    Source: *A Model-Agnostic Approach to Mitigate Gradient Interference for Multi-Task Learning*,
    section IV. The order of the five classes in a task is that of their labels.
    """
    if not is_number(holdout) or not 0 < holdout < 1:
        raise ValueError(f"holdout={holdout!r}: a share of the training images, above 0 and below 1, such as 0.1.")
    splits: dict[str, Any] = dict.fromkeys(("train", "val", "test"))
    if with_data:
        parts = read("cifar100_mtl", root)
        splits = {**_halved(parts["train"], holdout, seed), "test": parts["test"]}
    return Problem(
        "cifar100_mtl", [classification(name, FINE) for name in SUPERCLASSES], **splits, input_shape=(3, 32, 32),
        encoder={"name": "conv", "channels": [32, 64, 128, 128]},
        training={"fast": {"epochs": 6, "lr": 1e-3, "batch_size": 64},
                  "full": {"epochs": 60, "lr": 1e-3, "batch_size": 64}})


def _halved(split: MappedSplit, holdout: float, seed: int) -> dict[str, MappedSplit]:
    """Of each task's images, the two shares, in their order."""
    rows: dict[str, dict[str, torch.Tensor]] = {"train": {}, "val": {}}
    for task in split.tasks:
        samples = split.count(task)
        order = torch.from_numpy(generator(seed, f"cifar100_mtl/{task}").permutation(samples))
        held = min(max(round(holdout * samples), 1), samples - 1)
        rows["val"][task], rows["train"][task] = order[:held].sort().values, order[held:].sort().values
    return {name: split.subset(own) for name, own in rows.items()}
