"""Fetch and convert COCO 2017 for `data.load("coco")`: `python data_scripts/coco.py --root data`.

The set of table 2 of *Saliency-Regularized Deep Multi-Task Learning*: all images that show at least two of nineteen
kinds of objects, as their boxes say, crowds included. `train2017.zip`, `val2017.zip` and `annotations_trainval2017.zip`
have `{train,val}2017/*.jpg` and `annotations/instances_{train,val}2017.json`. Kinds are found by their names: the
numbers of the 80 categories run from 1 to 90, with gaps. Images become 224 x 224. Reading the larger list takes some
gigabytes of memory.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from skimage.io import imsave
from torch import Tensor

from mtlcourse.data.coco import KINDS, LEAST, SIDE, coco, task_name
from mtlcourse.data.image_folders import read_image
from mtlcourse.data.layouts import find
from mtlcourse.data.sets import Download, Part, Published, command

PARTS = ("train2017", "val2017")
# Numbers of the categories as published; two of them are none of the nineteen.
NUMBERS = {"person": 1, "bicycle": 2, "car": 3, "motorcycle": 4, "bus": 6, "train": 7, "truck": 8, "cat": 17, "dog": 18,
           "horse": 19, "zebra": 24, "bottle": 44, "cup": 47, "bowl": 51, "chair": 62, "couch": 63, "bed": 65,
           "dining table": 67, "tv": 72, "laptop": 73, "cell phone": 77}
ZIPS = "http://images.cocodataset.org/zips"
Shown = tuple[Path, frozenset[str]]  # an image, and the kinds that it shows


class Scenes:
    """Images, each with an answer for every kind."""

    def __init__(self, shown: list[Shown], side: int):
        self.shown, self.side = shown, side

    def __len__(self) -> int:
        return len(self.shown)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, int]]:
        path, kinds = self.shown[i]
        return read_image(path, self.side), {task_name(kind): int(kind in kinds) for kind in KINDS}


def parts(folder: Path, side: int = SIDE) -> dict[str, Part]:
    """All images that show enough, those for training first, in the order of their numbers."""
    shown = [image for part in PARTS for image in listed(find(folder, f"instances_{part}.json"), find(folder, part))]
    if not shown:
        raise ValueError(f"{folder} has no image with {LEAST} of {', '.join(KINDS)}: it is another set.")
    return {"all": Part(Scenes(shown, side), coco(with_data=False).tasks)}


def listed(path: Path, images: Path) -> list[Shown]:
    """The images of one list that show enough kinds. Raises ValueError for a list that is none, and as `parts`."""
    try:
        known: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in known["categories"]}
        missing = [kind for kind in KINDS if kind not in names.values()]
        found: dict[int, set[str]] = {image["id"]: set() for image in known["images"]}
        for box in known["annotations"]:
            found[box["image_id"]].add(names[box["category_id"]])
        files = {image["id"]: image["file_name"] for image in known["images"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is cut off, or no list of boxes ({error!r}). Get it again.") from error
    if missing:
        raise ValueError(f"{path} has no category {missing[0]!r}: it is another list.")
    kinds = {number: frozenset(own & set(KINDS)) for number, own in found.items()}
    shown = [(images / files[number], own) for number, own in sorted(kinds.items()) if len(own) >= LEAST]
    absent = [file for file, _ in shown if not file.is_file()]
    if absent:
        raise FileNotFoundError(f"{absent[0]} is missing, one of {len(absent):,}. Unpack the archive again.")
    return shown


def sample(folder: Path) -> None:
    """Forty-eight and sixteen small images by lot, one of them grey; one in eight shows a single kind only."""
    random = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for part, number in zip(PARTS, (48, 16), strict=True):
        (folder / part).mkdir(exist_ok=True)
        images, boxes = [], []
        for i in range(number):
            name = f"{i + 1:012}.jpg"
            size = (18, 16 + i % 5) if i == 1 else (18, 16 + i % 5, 3)
            imsave(folder / part / name, random.integers(0, 256, size, dtype=np.uint8), check_contrast=False)
            images.append({"id": i + 1, "file_name": name, "height": 18, "width": 16 + i % 5})
            kinds = [KINDS[0], "zebra"] if i % 8 == 7 else [*random.choice(KINDS, 5, replace=False), KINDS[i % 19]]
            boxes += [{"image_id": i + 1, "category_id": NUMBERS[kind], "iscrowd": 0, "bbox": [1, 1, 4, 4]}
                      for kind in kinds]
        lists = {"images": images, "annotations": boxes,
                 "categories": [{"id": number, "name": kind} for kind, number in NUMBERS.items()]}
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(lists))


COCO = Published(
    "coco", parts, sample, small={"side": 16},
    licence="annotations: Creative Commons Attribution 4.0; images: each its own licence, under the terms of Flickr.",
    terms="Cite T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, 2014.",
    downloads=[Download("annotations_trainval2017.zip",
                        ["http://images.cocodataset.org/annotations/annotations_trainval2017.zip"],
                        "md5:f4bbac642086de4f52a3fdda2de5fa2c", most=2 * 10**9),
               Download("val2017.zip", [f"{ZIPS}/val2017.zip"], "md5:442b8da7639aecaf257c1dceb8ba8c80", most=2 * 10**9),
               Download("train2017.zip", [f"{ZIPS}/train2017.zip"], "md5:cced6f7f71b7629ddf16f17bbcfab6b2",
                        most=30 * 10**9)])
main = command(COCO)

if __name__ == "__main__":
    main()
