"""`image_domains`: Office-31, Office-Home, ImageCLEF and VisDA-2017 as problems of several domains; `visda2017`.

Imports `files` and `tasks`, its folder's `collating`, `domains`, `image_folders`, `kinds`, `mapped_split`, `registry`,
`sets`, `splits`. The images are read as scripts in `data_scripts` convert them, or from their published folders.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..files import unknown
from ..tasks import TensorSplit
from .collating import smooth
from .domains import DomainProblem, Target, Unlabelled
from .image_folders import ALL, COLLECTIONS, SIDE, Files, folder_of, published, read_image
from .kinds import classification
from .mapped_split import MappedSplit
from .registry import register
from .sets import SET, described, read
from .splits import generator, mixed

Source = tuple[Int[np.ndarray, "n"], Callable[[int], Tensor]]  # labels, and the image of a row
SOURCE_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}  # of each class


@register("image_domains", domains=True)
def image_domains(collection: str = "office31", source: str = "amazon", target: Any = "webcam", root: str = "data",
                  side: int = SIDE, most: int = 5_000, seed: int = 0, with_data: bool = True) -> DomainProblem:
    """Images of objects, labelled in the domain `source` and not in `target`; a ResNet-50 with ImageNet's weights.

    collection: "office31" (domains amazon, dslr, webcam; 31 classes), "office_home" (Art, Clipart, Product, Real_World;
        65), "imageclef" (caltech, imagenet, pascal, bing; 12) or "visda2017" (synthetic, the folder `train`, and real,
        the folder `validation`; 12). Their numbers of images stand in `office` and `visda2017`.
    target: a domain or a list of several.
    root: where the script called as the collection is, `python data_scripts/office31.py --root data`, put the set; or
        the folder in which the collection's folders lie, as they are published: `amazon/images/CLASS/*.jpg`,
        `Real World/CLASS/*.jpg`, `train/CLASS/*.png`.
    side: pixels, height and width, to which images are brought; converted ones have 224.
    most: images a domain at most, taken by lot from all classes alike: they lie in memory, 0.6 MB each at 224 pixels.
    seed: decides which, and which of the source train (80 % of each class), are held out, and tested (10 % each).
    As published, all images of the target are trained on without their labels, and judged by with them.
    Raises FileNotFoundError, naming the script, where there is neither, ValueError for an unknown collection or domain,
    for domains with other classes, and for a wrong number of them.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.4.1, for budget "paper": optimiser,
    schedule and batch size. Epochs, and how images are cut, are not printed.
    """
    if collection not in COLLECTIONS:
        raise ValueError(unknown("collection", str(collection), COLLECTIONS))
    number, folders = COLLECTIONS[collection]
    targets = [target] if isinstance(target, str) else list(target)
    for domain in (source, *targets):
        if domain not in folders:
            raise ValueError(unknown(f"domain of {collection}", str(domain), folders))
    splits: dict[str, Any] = dict.fromkeys(SOURCE_SHARES)
    sealed: dict[str, Any] = dict.fromkeys(targets)
    if with_data:
        found = _domains(root, collection, [source, *targets], side, most, seed)
        whole = found[source]
        ends = np.cumsum([round(share * len(whole)) for share in SOURCE_SHARES.values()])
        splits = {split: whole.subset(rows) for split, rows in
                  zip(SOURCE_SHARES, torch.arange(len(whole)).tensor_split(torch.from_numpy(ends[:-1])), strict=True)}
        for domain in targets:
            inputs = Unlabelled(found[domain].inputs)
            sealed[domain] = Target(inputs, inputs, found[domain])
    usual = {"lr": 0.1, "batch_size": 128, "optimizer": "nesterov", "schedule": "inverse"}
    few = {**usual, "lr": 0.01, "batch_size": 16}
    return DomainProblem(
        "image_domains", classification(source, number), splits["train"], splits["val"], splits["test"], sealed,
        input_shape=(3, side, side), encoder={"name": "resnet", "depth": 50, "weights": "imagenet"},
        # Three times as many images as classes have one of each class, or what the target shows would be unknown.
        training={"smoke": {**few, "samples": max(32, 3 * number), "evaluate": 32, "epochs": 1},
                  "fast": {**few, "samples": 640}, "full": usual, "paper": {**usual, "epochs": 50}})


@register("visda2017", domains=True)
def visda2017(root: str = "data", side: int = SIDE, most: int = 5_000, seed: int = 0,
              with_data: bool = True) -> DomainProblem:
    """VisDA-2017: 152,397 renderings of 12 kinds of objects with labels, 55,388 photographs without.

    As `image_domains` with this collection, from synthetic to real, with its options. The published 72,372 images for
    testing are not among them: the task that the papers report on is from renderings to the validation images.
    """
    problem = image_domains("visda2017", "synthetic", "real", root, side, most, seed, with_data)
    return replace(problem, name="visda2017")


def _domains(root: str | Path, collection: str, domains: Sequence[str], side: int, most: int,
             seed: int) -> dict[str, TensorSplit]:
    """At most `most` images of each domain in [0, 1] and their labels, in an order by lot that spreads the classes."""
    converted = (Path(root) / collection / SET).is_file()
    sources = (_converted if converted else _published)(root, collection, domains, side)
    found = {}
    for domain, (labels, image) in sources.items():
        chosen = mixed(labels, generator(seed, f"image_domains/{domain}"))[:most]
        found[domain] = TensorSplit(torch.stack([image(row) for row in chosen.tolist()]),
                                    {domain: torch.from_numpy(labels[chosen])})
    return found


def _converted(root: str | Path, collection: str, domains: Sequence[str], side: int) -> dict[str, Source]:
    """What the script left: labels, and the image of a row."""
    found: dict[str, Source] = {}
    for domain in domains:
        split = read(collection, root, [domain])[ALL]
        labels = split.rows(f"targets.{domain}", torch.arange(split.count(domain)))
        found[domain] = labels.numpy(), partial(_stored, split, f"inputs.{domain}", side)
    return found


def _stored(split: MappedSplit, name: str, side: int, row: int) -> Float[Tensor, "3 side side"]:
    return smooth(split.rows(name, torch.tensor([row]))[0], (side, side))


def _published(root: str | Path, collection: str, domains: Sequence[str], side: int) -> dict[str, Source]:
    """The same from the folders as they are published."""
    names = [name for names in COLLECTIONS[collection][1].values() for name in names]
    if not any((Path(root) / name).is_dir() for name in names):
        described(collection, root)  # is not there either, and says so
    files = published({domain: folder_of(root, collection, domain) for domain in domains}, collection)
    return {domain: (np.array([label for _, label in own], np.int64), partial(_read, own, side))
            for domain, own in files.items()}


def _read(files: Files, side: int, row: int) -> Float[Tensor, "3 side side"]:
    return read_image(files[row][0], side)
