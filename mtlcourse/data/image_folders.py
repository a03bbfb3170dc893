"""Collections of labelled images in several domains, in the folders in which they are published.

Imports its folder's `apart`, `collating`, `datasets`, `kinds`, `layouts`, `sets`. Two problems are made of each: the
domains as tasks, in `office`, and one domain without labels, in `image_domains`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .apart import Apart
from .collating import smooth
from .datasets import DatasetSplit
from .kinds import classification
from .layouts import read_pixels
from .sets import Part

# Of each collection: how many classes it has, and in which of these folders each domain's images lie.
COLLECTIONS: dict[str, tuple[int, dict[str, tuple[str, ...]]]] = {
    "office31": (31, {domain: (f"{domain}/images", domain) for domain in ("amazon", "dslr", "webcam")}),
    "office_home": (65, {"Art": ("Art",), "Clipart": ("Clipart",), "Product": ("Product",),
                         "Real_World": ("Real World", "Real_World")}),
    "imageclef": (12, {"caltech": ("c", "C"), "imagenet": ("i", "I"), "pascal": ("p", "P"), "bing": ("b", "B")}),
    "visda2017": (12, {"synthetic": ("train",), "real": ("validation",)}),
}
SUFFIXES = (".jpg", ".jpeg", ".png")
SIDE = 224  # pixels of a converted image, what ImageNet's nets look at
ALL = "all"  # the one part of a converted collection
Files = list[tuple[Path, int]]


class ImageFiles:
    """Images of one domain, `side` x `side`, each with its label under the domain's name."""

    def __init__(self, files: Files, domain: str, side: int):
        self.files, self.domain, self.side = files, domain, side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, int]]:
        path, label = self.files[i]
        return read_image(path, self.side), {self.domain: label}


def parts(places: Mapping[str, Path], collection: str, side: int = SIDE) -> dict[str, Part]:
    """What a script converts: one part, in which each domain is a task with its own images. places: as of `published`.

    Raises as `published` does.
    """
    tasks = {domain: classification(domain, COLLECTIONS[collection][0]) for domain in places}
    splits = {domain: DatasetSplit(ImageFiles(files, domain, side), [tasks[domain]])
              for domain, files in published(places, collection).items()}
    return {ALL: Part(Apart(splits), list(tasks.values()))}


def folder_of(root: str | Path, collection: str, domain: str) -> Path:
    """Where a domain's images lie in the folder `root`. Raises FileNotFoundError where they do not."""
    names = COLLECTIONS[collection][1][domain]
    for name in names:
        if (Path(root) / name).is_dir():
            return Path(root) / name
    raise FileNotFoundError(f"There is no folder {Path(root) / names[0]} with the images of {domain}. Get {collection} "
                            "from its authors, unpack it, and give the folder that holds its domains.")


def published(places: Mapping[str, Path], collection: str) -> dict[str, Files]:
    """The images and labels of some domains of a collection; a label is the place of the class in the alphabet.

    places: `{domain: folder}`. A list of lines "path label" decides where there is one: `image_list.txt` in the folder,
        or, for a folder `c`, `list/cList.txt` beside it. Else folders of that folder are the classes.
    Raises FileNotFoundError for files that are not there, ValueError for a wrong number of classes, for classes that
    differ between domains, and for a list that is none.
    """
    number, names, found = COLLECTIONS[collection][0], {}, {}
    for domain, folder in places.items():
        lists = (folder / "image_list.txt", folder.parent / "list" / f"{folder.name.lower()}List.txt")
        listed = next((path for path in lists if path.is_file()), None)
        if listed:
            found[domain] = _listed(listed, folder)
            there = sorted({label for _, label in found[domain]})
            if there != list(range(number)):
                raise ValueError(f"{collection} has {number} classes, and {listed} has {len(there)}, {there[0]} to "
                                 f"{there[-1]}: it is cut off, or another set's.")
            continue
        names[domain] = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if len(names[domain]) != number:
            raise ValueError(f"{collection} has {number} classes, and {domain} in {folder} has {len(names[domain])} "
                             f"folders: {', '.join(names[domain][:5])}, ...")
        first = next(iter(names))
        if names[domain] != names[first]:
            raise ValueError(f"{domain} and {first} have other classes: only one of them has "
                             f"{', '.join(sorted(set(names[domain]) ^ set(names[first])))}.")
        found[domain] = [(path, label) for label, name in enumerate(names[domain])
                         for path in sorted((folder / name).rglob("*")) if path.suffix.lower() in SUFFIXES]
        if not found[domain]:
            raise FileNotFoundError(f"The class folders in {folder} hold no image ({', '.join(SUFFIXES)}).")
    return found


def _listed(path: Path, folder: Path) -> Files:
    """What the lines of a list say. A path may have blanks: the label is behind the last one."""
    found: Files = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.rstrip().rpartition(" ")
        if not (name and label.isdecimal()):
            raise ValueError(f"{path}, line {number}: {line!r} is no path with a label behind it.")
        places = (folder / name, folder.parent / name, folder / Path(name).name)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"{places[0]} is missing, and {path}, line {number}, names it. Unpack the archive "
                                    "again.")
        found.append((file, int(label)))
    return found


def read_image(path: str | Path, side: int) -> Float[Tensor, "3 side side"]:
    """An image as three channels in [0, 1], brought to side x side. Raises ValueError for one that cannot be read."""
    pixels = read_pixels(path)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, -1)
    image = torch.from_numpy(np.ascontiguousarray(pixels[..., :3])).permute(2, 0, 1)
    return smooth(image.float() / 255, (side, side))


def write_images(folder: Path, classes: list[str], images: int, suffix: str, seed: int, side: int = 12) -> None:
    """So many small images of each class by lot, not all of one size, in the layout of class folders."""
    from skimage.io import imsave

    random = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(1, images + 1):
            pixels = random.integers(0, 256, (side, side + number, 3), dtype=np.uint8)
            imsave(folder / name / f"frame_{number:04d}{suffix}", pixels, check_contrast=False)
