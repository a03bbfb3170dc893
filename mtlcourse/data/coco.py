"""`coco`: nineteen kinds of objects as nineteen tasks, each of which asks "is there one?".

Imports `tasks`, its folder's `kinds`, `one_against_all`, `registry`, `sets`, `splits`.
"""

from typing import Any

import torch

from ..tasks import Problem
from .kinds import binary
from .one_against_all import MEASURES
from .registry import register
from .sets import read, with_holdout
from .splits import generator

KINDS = ("person", "cat", "dog", "horse", "car", "truck", "bus", "motorcycle", "bicycle", "chair", "couch", "bed",
         "dining table", "laptop", "tv", "cell phone", "bottle", "cup", "bowl")
LEAST = 2  # kinds that an image must show
SIDE = 224


def task_name(kind: str) -> str:
    """A kind's name as a task has it: an identifier."""
    return kind.replace(" ", "_")


@register("coco")
def coco(holdout: float | int = 0.1, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """COCO 2017: which of nineteen kinds of objects an image shows, 3 x 224 x 224; tasks `person`, `cat`, ...

    All published training and validation images that show at least two of the kinds; half of them by lot are for
    training, the others for testing. Which half is which is not printed, nor is the size of the images: here the seed
    decides, and they have what VGG-16 was made for. Measures as in table 2.
    holdout: share of the images for training to choose by; 0 leaves all for training, and the images for testing are
        then both `val` and `test`.
    seed: decides which images go where.
    root: where `python data_scripts/coco.py` put the set.
    Raises FileNotFoundError, naming that script, where it is not; ValueError for a share that is none.
    Source: *Saliency-Regularized Deep Multi-Task Learning* (Bai, Zhao, 2022), section 5.1 and table 1. Of the settings
    only Adam and VGG-16 with a hidden layer of 128 in each head are printed.
    """
    splits: dict[str, Any] = dict.fromkeys(("train", "val", "test"))
    shape = (3, SIDE, SIDE)
    if with_data:
        whole = read("coco", root)["all"]
        order = torch.from_numpy(generator(seed, "coco/halves").permutation(len(whole)))
        train, test = (whole.subset(rows.sort().values) for rows in order.tensor_split(2))
        splits = with_holdout({"train": train, "val": test}, holdout, seed)
        shape = tuple(whole.fields["inputs"].shape)
    settings = {"lr": 1e-4, "batch_size": 64}
    return Problem("coco", [binary(task_name(kind), measures=MEASURES) for kind in KINDS], **splits, input_shape=shape,
                   encoder={"name": "vgg", "depth": 16, "weights": "imagenet", "head": [128]},
                   training={"smoke": {**settings, "batch_size": 16, "samples": 32, "evaluate": 32, "epochs": 1},
                             "fast": {**settings, "samples": 1_280, "evaluate": 640}, "full": settings})
