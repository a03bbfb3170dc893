"""`office31`, `office_home` and `imageclef`: the same classes in several domains, each a task with its own images.

Imports `tasks`, its folder's `image_folders`, `kinds`, `registry`, `sets`, `splits`.
"""

from typing import Any

import torch

from ..tasks import Problem
from .image_folders import ALL, COLLECTIONS, SIDE
from .kinds import classification
from .registry import register
from .sets import read
from .splits import check_proportion, ends, generator, mixed


@register("office31")
def office31(proportion: float | int = 0.6, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """Office-31: which of 31 things from an office an image shows; tasks `amazon`, `dslr`, `webcam`.

    The files are 2,817, 498 and 795 images, 4,110 in all, as *A Simple General Approach to Balance Task Difficulty in
    Multi-Task Learning*, section 4.1.1, has it; *Learning Architecture for Multiple Tasks in Transfer Learning*,
    section 4.4.1, prints 4,652 of the same set. Some of the labels are known to be wrong. Images become 3 x 224 x 224.

    proportion: share of each task's images for training; a tenth is to choose by, the rest for testing. 50, 60 and 70 %
        are printed. Each split has each class in its share.
    seed: decides which images go where.
    root: where `python data_scripts/office31.py` put the set.
    Raises FileNotFoundError, naming that script, where it is not; ValueError for a proportion that leaves nothing.
    Source: *A Simple General Approach to Balance Task Difficulty in Multi-Task Learning*, section 4.1. Printed are
    layers on fixed features of VGG-19's second fully connected layer, a shared one of 600, with Adam at
    0.02 / (1 + step) and batches of 32. Here the convolutions of that net are trained, and Adam's rate is 1e-4.
    """
    return _problem("office31", proportion, seed, root, with_data)


@register("office_home")
def office_home(proportion: float | int = 0.6, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """Office-Home, 65 classes; tasks `Art`, `Clipart`, `Product`, `Real_World`, 2,427, 4,365, 4,439 and 4,357 images.

    15,588 images in all; *Learning Architecture for Multiple Tasks in Transfer Learning*, section 4.4.1, prints 15,500.
    Of their folders, `Real World` has a blank in its name. Everything else as in `office31`.
    """
    return _problem("office_home", proportion, seed, root, with_data)


@register("imageclef")
def imageclef(proportion: float | int = 0.6, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """ImageCLEF-DA, 12 classes; tasks `caltech`, `imagenet`, `pascal`, `bing`, 50 images a class in each.

    They are from Caltech-256, ImageNet, Pascal VOC 2012 and Bing. Everything else as in `office31`.
    """
    return _problem("imageclef", proportion, seed, root, with_data)


def _problem(collection: str, proportion: float | int, seed: int, root: str, with_data: bool) -> Problem:
    classes, domains = COLLECTIONS[collection]
    check_proportion(proportion)
    splits: dict[str, Any] = dict.fromkeys(("train", "val", "test"))
    shape = (3, SIDE, SIDE)
    if with_data:
        whole = read(collection, root)[ALL]
        rows: dict[str, dict[str, torch.Tensor]] = {split: {} for split in splits}
        for domain in domains:
            labels = whole.rows(f"targets.{domain}", torch.arange(whole.count(domain))).numpy()
            order = torch.from_numpy(mixed(labels, generator(seed, f"{collection}/{domain}")))
            shares = order.tensor_split(torch.from_numpy(ends(len(order), proportion, f"images of {domain}")))
            for split, own in zip(splits, shares, strict=True):
                rows[split][domain] = own.sort().values
        splits = {split: whole.subset(own) for split, own in rows.items()}
        shape = tuple(whole.fields[f"inputs.{next(iter(domains))}"].shape)
    settings = {"lr": 1e-4, "batch_size": 32}
    return Problem(collection, [classification(domain, classes) for domain in domains], **splits, input_shape=shape,
                   encoder={"name": "vgg", "depth": 19, "weights": "imagenet"},
                   training={"smoke": {**settings, "samples": 64, "evaluate": 64, "epochs": 1},
                             "fast": {**settings, "samples": 640}, "full": settings})
