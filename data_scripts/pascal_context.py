"""Fetch and convert PASCAL-Context: `python data_scripts/pascal_context.py --root data`.

For `data.load("pascal_context")`. The set as K.-K. Maninis et al. prepared it for *Attentive Single-Tasking of Multiple
Tasks* (2019), `PASCAL_MT.tgz`:
`JPEGImages/ID.jpg` of many sizes; `ImageSets/Context/{train,val}.txt`, 4,998 and 5,105 IDs; and for each ID
- `semseg/VOC12/ID.png`, or where that is not there `semseg/pascal-context/ID.png`: 21 classes, 255 where there is none;
- `human_parts/ID.mat`, the parts of objects; those of persons, 24 kinds, are six classes here, and 0 is the rest;
- `sal_distill/ID.png`: salient above 127;
- `normals_distill/ID.png`, v = 2 p / 255 - 1, and `pascal-context/trainval/ID.mat`, classes of pixels: normals are said
  by a net that was trained on NYUv2, and hold where the class is one of things that NYUv2 has too.
The last two are other nets' words, no measurements. No checksum is published, and damaged copies are about. Images and
labels, which may have other sizes, become 512 x 512, labels by nearest neighbour.

Departures from the authors' code: an image without parts of a person has no label of them (there: all of it is 0, but
left out of the measure), and where normals do not hold there are none (there: they are zero). Normals are not brought
to length one, there as here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatReadError
from skimage.io import imsave
from torch import Tensor

from mtlcourse.data import benchmarks
from mtlcourse.data.collating import resized
from mtlcourse.data.layouts import read_pixels
from mtlcourse.data.sets import Download, Part, Published, command, inner
from mtlcourse.void import VOID

SIZE = (512, 512)
PERSON = 15  # the class of an object
PARTS = {
    1: "head hair leye reye lear rear lebrow rebrow nose mouth", 2: "torso neck", 3: "luarm ruarm",
    4: "llarm rlarm lhand rhand", 5: "luleg ruleg", 6: "llleg rlleg lfoot rfoot"}
CLASS_OF = {name: label for label, names in PARTS.items() for name in names.split()}
# Of the 459 classes of pixels, those whose name is that of a class of NYUv2, and 427, which is a television there.
WITH_NORMALS = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56, 59,
    61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124, 135,
    141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202, 213, 215,
    216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269, 272,
    273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315, 319, 323, 329,
    330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401, 403, 405,
    407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457)
FILES = {"image": ("JPEGImages", ".jpg"), "human_parts": ("human_parts", ".mat"), "saliency": ("sal_distill", ".png"),
         "normals": ("normals_distill", ".png"), "classes": ("pascal-context/trainval", ".mat")}


class Scenes:
    """The images of one list, and their labels, all of one size."""

    def __init__(self, folder: Path, names: list[str], size: tuple[int, int]):
        self.folder, self.names, self.size = folder, names, size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        paths = files(self.folder, self.names[i])
        pixels = read_pixels(paths["image"])
        if pixels.ndim == 2:
            pixels = np.stack([pixels] * 3, -1)
        image = torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1).float().div_(255)
        targets = {"segmentation": segmentation(paths["segmentation"]),
                   "human_parts": human_parts(paths["human_parts"]),
                   "saliency": (read(paths["saliency"], 2) > 127).long(),
                   "normals": normals(paths["normals"], paths["classes"])}
        inputs, found = resized(self.size)([(image, targets)])
        return inputs[0], {task: target[0] for task, target in found.items()}


def files(folder: Path, name: str) -> dict[str, Path]:
    """Where an image and its labels are."""
    found = {what: folder / place / f"{name}{suffix}" for what, (place, suffix) in FILES.items()}
    first, other = (folder / "semseg" / place / f"{name}.png" for place in ("VOC12", "pascal-context"))
    return {**found, "segmentation": first if first.is_file() else other}


def read(path: Path, dimensions: int) -> Tensor:
    """The pixels of a file. Raises ValueError for others than 8 bits in so many dimensions."""
    pixels = read_pixels(path)
    if pixels.dtype != np.uint8 or pixels.ndim != dimensions:
        raise ValueError(f"{path} is {pixels.dtype} of {' x '.join(map(str, pixels.shape))}, and must be uint8 of "
                         f"{dimensions} dimensions")
    return torch.from_numpy(pixels.copy())


def segmentation(path: Path) -> Tensor:
    """Classes; 255 becomes VOID."""
    labels = read(path, 2).long()
    return labels.masked_fill(labels == 255, VOID)


def human_parts(path: Path) -> Tensor | None:
    """The class of each pixel, 0 where there is no part of a person; None for an image without any."""
    objects = each(matlab(path, "anno")["objects"])
    persons = [thing for thing in objects if int(thing["class_ind"]) == PERSON and len(each(thing["parts"]))]
    if not persons:
        return None
    labels = torch.zeros(persons[0]["mask"].shape, dtype=torch.long)
    for part in (part for person in persons for part in each(person["parts"])):
        if part["part_name"] not in CLASS_OF:
            raise ValueError(f"{path} has a part {part['part_name']!r} of a person, which is none of the known ones")
        labels[torch.from_numpy(part["mask"] > 0)] = CLASS_OF[part["part_name"]]
    return labels


def normals(path: Path, classes: Path) -> Tensor:
    """Vectors as they are stored, NaN where the class of the pixel is none that they are said of."""
    values = read(path, 3)[..., :3].permute(2, 0, 1).float().mul_(2 / 255).sub_(1)
    known = torch.from_numpy(np.isin(matlab(classes, "LabelMap"), WITH_NORMALS))
    known = resized(values.shape[1:])([(torch.zeros(1, *known.shape), {"known": known.long()})])[1]["known"] > 0
    return values.masked_fill(~known, float("nan"))


def matlab(path: Path, name: str) -> Any:
    """A variable of a MATLAB file, structures as dicts. Raises ValueError for anything else."""
    try:
        return loadmat(path, variable_names=[name], simplify_cells=True)[name]
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, EOFError, MatReadError) as error:
        raise ValueError(f"{path} is cut off, or another file ({error!r})") from error


def each(things: Any) -> list[Any]:
    """The structures of an array of them: one alone is read as itself."""
    return [things] if isinstance(things, dict) else list(things)


def parts(folder: Path, size: tuple[int, int] = SIZE) -> dict[str, Part]:
    """Both published lists; normals in half precision."""
    folder, tasks, made = inner(folder, "JPEGImages"), benchmarks.pascal_context(with_data=False).tasks, {}
    for part in ("train", "val"):
        path = folder / "ImageSets" / "Context" / f"{part}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"There is no {path}, which names the images. Unpack the archive again.")
        names = path.read_text(encoding="utf-8").split()
        missing = [file for name in names for file in files(folder, name).values() if not file.is_file()]
        if missing or not names:
            raise FileNotFoundError(f"{(missing or [path])[0]} is missing or empty, one of {len(missing) or 1:,}. "
                                    "Unpack the archive again.")
        made[part] = Part(Scenes(folder, names, size), tasks, {"real": "float16"})
    return made


def sample(folder: Path) -> None:
    """Twelve and six images by lot, of two sizes, normals of a third; one in six without persons."""
    random = np.random.default_rng(0)
    for part, number in {"train": 12, "val": 6}.items():
        names = [f"2008_{12 * (part == 'val') + i:06}" for i in range(number)]
        (folder / "ImageSets" / "Context").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Context" / f"{part}.txt").write_text("\n".join(names) + "\n")
        for i, name in enumerate(names):
            write_sample(folder, name, (30, 40) if i % 2 else (40, 30), random, persons=i % 6 != 5, voc=i % 2 == 0)


def write_sample(folder: Path, name: str, size: tuple[int, int], random: np.random.Generator, persons: bool,
                 voc: bool) -> None:
    """One image with all that may be unknown. voc: which of two folders has its classes."""
    labels = random.choice([*range(21), 255], size)
    made = {"JPEGImages/{}.jpg": random.integers(0, 256, (*size, 3)), "normals_distill/{}.png":
            random.integers(0, 256, (20, 20, 3)), "sal_distill/{}.png": random.integers(0, 256, size),
            f"semseg/{'VOC12' if voc else 'pascal-context'}/{{}}.png": labels}
    for place, pixels in made.items():
        path = folder / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        imsave(path, pixels.astype(np.uint8), check_contrast=False)
    masks = random.integers(0, 4, size)
    kinds = random.choice(sorted(CLASS_OF), 2, replace=False)
    body = [(kind, (masks == n + 1).astype(np.uint8)) for n, kind in enumerate(kinds)]
    objects = [("person", PERSON, (masks > 0).astype(np.uint8), body if persons else []),
               ("dog", 12, (masks == 0).astype(np.uint8), [("muzzle", (masks == 0).astype(np.uint8))])]
    things = np.empty(len(objects), dtype=[(field, object) for field in ("class", "class_ind", "mask", "parts")])
    for n, (kind, number, mask, own) in enumerate(objects):
        things[n] = kind, float(number), mask, np.array(own, dtype=[("part_name", object), ("mask", object)])
    for place, content in (("human_parts", {"anno": {"imname": name, "objects": things}}),
                           ("pascal-context/trainval", {"LabelMap": random.choice(
                               [*WITH_NORMALS[:5], 25, 98, 360, 459], size).astype(np.uint16)})):
        (folder / place).mkdir(parents=True, exist_ok=True)
        savemat(folder / place / f"{name}.mat", content)


PASCAL_CONTEXT = Published(
    "pascal_context", parts, sample, small={"size": (32, 32)},
    licence="no licence is stated for the prepared files; the images are from Flickr, under its terms.",
    terms="Cite R. Mottaghi et al., The Role of Context for Object Detection and Semantic Segmentation in the Wild, "
          "2014, X. Chen et al., Detect What You Can, 2014, and K.-K. Maninis et al., Attentive Single-Tasking of "
          "Multiple Tasks, 2019.",
    downloads=[Download("PASCAL_MT.tgz", ["https://data.vision.ee.ethz.ch/kmaninis/share/MTL/PASCAL_MT.tgz"],
                        most=20 * 10**9)])
main = command(PASCAL_CONTEXT)

if __name__ == "__main__":
    main()
