"""`image_domains`: Office-31, Office-Home and VisDA-2017 as problems of several domains, read from their folders.

Imports `files` and `tasks`, its folder's `domains`, `kinds`, `registry`, `splits`. The images cannot be fetched by the
course; who has them names their folder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..files import unknown
from ..tasks import TensorSplit
from .domains import DomainProblem, Target, Unlabelled
from .kinds import classification
from .registry import register
from .splits import generator, mixed

# Of each collection: how many classes it has, and in which of these folders each domain's class folders lie.
COLLECTIONS: dict[str, tuple[int, dict[str, tuple[str, ...]]]] = {
    "office31": (31, {domain: (f"{domain}/images", domain) for domain in ("amazon", "dslr", "webcam")}),
    "office_home": (65, {"Art": ("Art",), "Clipart": ("Clipart",), "Product": ("Product",),
                         "Real_World": ("Real World", "Real_World")}),
    "visda2017": (12, {"synthetic": ("train",), "real": ("validation",)}),
}
SUFFIXES = (".jpg", ".jpeg", ".png")
SOURCE_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}  # of each class


@register("image_domains", domains=True)
def image_domains(collection: str = "office31", source: str = "amazon", target: Any = "webcam", root: str = "data",
                  side: int = 224, most: int = 5_000, seed: int = 0, with_data: bool = True) -> DomainProblem:
    """Images of objects, labelled in the domain `source` and not in `target`; a ResNet-50 with ImageNet's weights.

    collection: "office31" (domains amazon, dslr, webcam; 31 classes), "office_home" (Art, Clipart, Product, Real_World;
        65) or "visda2017" (synthetic, the folder `train`, and real, the folder `validation`; 12).
    target: a domain or a list of several.
    root: the folder in which the collection's folders lie, as they are published: `amazon/images/CLASS/*.jpg`,
        `Real World/CLASS/*.jpg`, `train/CLASS/*.png`.
    side: pixels, height and width, to which images are brought.
    most: images a domain at most, taken by lot from all classes alike: they lie in memory, 0.6 MB each at 224 pixels.
    seed: decides which, and which of the source train (80 % of each class), are held out, and tested (10 % each).
    As published, all images of the target are trained on without their labels, and judged by with them.
    Raises FileNotFoundError where the folders are not, ValueError for an unknown collection or domain, for domains with
    other classes, and for a wrong number of them.
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
        classes = _classes(root, collection, source)
        if len(classes) != number:
            raise ValueError(f"{collection} has {number} classes, and {source} in {root} has {len(classes)} folders: "
                             f"{', '.join(classes[:5])}, ...")
        images, labels = _read(root, collection, source, side, most, seed)
        ends = np.cumsum([round(share * len(labels)) for share in SOURCE_SHARES.values()])
        rows = dict(zip(SOURCE_SHARES, np.split(np.arange(len(labels)), ends[:-1]), strict=True))
        splits = {split: TensorSplit(images[own], {source: torch.from_numpy(labels[own])})
                  for split, own in rows.items()}
        for domain in targets:
            others = _classes(root, collection, domain)
            if others != classes:
                raise ValueError(f"{domain} and {source} have other classes: only one of them has "
                                 f"{', '.join(sorted(set(others) ^ set(classes)))}.")
            images, labels = _read(root, collection, domain, side, most, seed)
            inputs = Unlabelled(images)
            sealed[domain] = Target(inputs, inputs, TensorSplit(images, {domain: torch.from_numpy(labels)}))
    usual = {"lr": 0.1, "batch_size": 128, "optimizer": "nesterov", "schedule": "inverse"}
    few = {**usual, "lr": 0.01, "batch_size": 16}
    return DomainProblem(
        "image_domains", classification(source, number), splits["train"], splits["val"], splits["test"], sealed,
        input_shape=(3, side, side), encoder={"name": "resnet", "depth": 50, "weights": "imagenet"},
        training={"smoke": {**few, "samples": 32, "evaluate": 32, "epochs": 1}, "fast": {**few, "samples": 640},
                  "full": usual, "paper": {**usual, "epochs": 50}})


def _folder(root: str | Path, collection: str, domain: str) -> Path:
    names = COLLECTIONS[collection][1][domain]
    for name in names:
        if (Path(root) / name).is_dir():
            return Path(root) / name
    raise FileNotFoundError(f"There is no folder {Path(root) / names[0]} with the images of {domain}. Get {collection} "
                            "from its authors, unpack it, and give the folder that holds its domains as root.")


def _classes(root: str | Path, collection: str, domain: str) -> list[str]:
    return sorted(path.name for path in _folder(root, collection, domain).iterdir() if path.is_dir())


def _read(root: str | Path, collection: str, domain: str, side: int, most: int,
          seed: int) -> tuple[Float[Tensor, "n 3 side side"], Int[np.ndarray, "n"]]:
    """At most `most` images of a domain in [0, 1] and their labels, in an order by lot that spreads the classes."""
    folder = _folder(root, collection, domain)
    found = [(path, label) for label, name in enumerate(_classes(root, collection, domain))
             for path in sorted((folder / name).rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise FileNotFoundError(f"The class folders in {folder} hold no image ({', '.join(SUFFIXES)}).")
    labels = np.array([label for _, label in found], np.int64)
    chosen = mixed(labels, generator(seed, f"image_domains/{domain}"))[:most]
    return torch.stack([read_image(found[row][0], side) for row in chosen]), labels[chosen]


def read_image(path: str | Path, side: int) -> Float[Tensor, "3 side side"]:
    """An image as three channels in [0, 1], brought to side x side. Raises ValueError for one that cannot be read."""
    from skimage.io import imread

    try:
        pixels = np.asarray(imread(path))
    except (OSError, SyntaxError, ValueError) as error:  # what the readers behind it raise for a damaged file
        raise ValueError(f"{path} cannot be read ({error}); get it anew.") from error
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, -1)
    whole = torch.from_numpy(np.ascontiguousarray(pixels[..., :3])).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.interpolate(whole, (side, side), mode="bilinear", antialias=True)[0]
