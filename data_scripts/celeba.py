"""Fetch and convert CelebA for `data.load("celeba")`: `python data_scripts/celeba.py --source FOLDER --root data`.

FOLDER holds the aligned images, `img_align_celeba/000001.jpg`, ..., 178 x 218 pixels, or `img_align_celeba.zip`;
`list_attr_celeba.txt`: the number of images, the names of forty attributes, then a line an image, -1 or 1, with one
blank or several between; and `list_eval_partition.txt`: 0 training, 1 validation, 2 test. They may lie in `Img`, `Anno`
and `Eval`, as on the authors' page. Each image becomes 64 x 64; all forty attributes are kept.
"""

from pathlib import Path

import numpy as np
import torch
from skimage.io import imsave
from torch import Tensor

from mtlcourse.data import classification
from mtlcourse.data.collating import resized
from mtlcourse.data.layouts import find, read_pixels
from mtlcourse.data.sets import Download, Part, Published, command

PARTS = {"train": 0, "val": 1, "test": 2}
SIZE = (64, 64)
NAMES = """5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup
High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose
Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick
Wearing_Necklace Wearing_Necktie Young""".split()


def task_name(attribute: str) -> str:
    """An attribute's name as a task has it: an identifier."""
    return attribute.lower().replace("5_o_clock", "five_o_clock")


class Faces:
    """The images of one part and their attributes."""

    def __init__(self, images: Path, names: list[str], files: list[str], attributes: np.ndarray, size: tuple[int, int]):
        self.images, self.names, self.files, self.attributes, self.size = images, names, files, attributes, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, int]]:
        pixels = read_pixels(self.images / self.files[i])
        if pixels.ndim != 3:
            raise ValueError(f"{self.files[i]} is no image in three colours")
        image = torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1).float().div_(255)
        return resized(self.size)([(image, {})])[0][0], dict(zip(self.names, self.attributes[i].tolist(), strict=True))


def parts(folder: Path, size: tuple[int, int] = SIZE) -> dict[str, Part]:
    """The published parts."""
    images = find(folder, "img_align_celeba")
    images = images / "img_align_celeba" if (images / "img_align_celeba").is_dir() else images
    names, attributes = read_attributes(find(folder, "list_attr_celeba.txt"))
    partition = find(folder, "list_eval_partition.txt")
    chosen: dict[str, list[str]] = {part: [] for part in PARTS}
    for number, line in enumerate(partition.read_text(encoding="utf-8").split("\n"), start=1):
        fields = line.split()
        if fields:
            part = next((part for part, code in PARTS.items() if fields[1:] == [str(code)]), None)
            if part is None or fields[0] not in attributes:
                raise ValueError(f"{partition}, line {number}: {line!r} is no image with attributes and 0, 1 or 2.")
            chosen[part].append(fields[0])
    missing = [name for files in chosen.values() for name in files if not (images / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{images / missing[0]} is missing, one of {len(missing):,}. Unpack the archive again.")
    tasks = [classification(name, 2) for name in names]
    return {part: Part(Faces(images, names, files, np.array([attributes[name] for name in files]), size), tasks)
            for part, files in chosen.items()}


def read_attributes(path: Path) -> tuple[list[str], dict[str, list[int]]]:
    """The attributes as task names, and for each file 0 or 1. Raises ValueError, naming the line, for anything else."""
    count, header, *lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    names, rows = [task_name(name) for name in header.split()], {}
    for number, line in enumerate(lines, start=3):
        file, *signs = line.split()
        if len(signs) != len(names) or not {*signs} <= {"1", "-1"}:
            raise ValueError(f"{path}, line {number}: {len(names)} times 1 or -1 must stand behind {file!r}.")
        rows[file] = [int(sign == "1") for sign in signs]
    if count.strip() != str(len(rows)):
        raise ValueError(f"{path} announces {count.strip()} images and has {len(rows)}: it is cut off. Get it again.")
    return names, rows


def sample(folder: Path) -> None:
    """Forty faces by lot, of the published size, with the blanks of the published list."""
    random = np.random.default_rng(0)
    images = folder / "img_align_celeba"
    images.mkdir(parents=True, exist_ok=True)
    signs = random.choice([-1, 1], (40, len(NAMES)))
    signs[0], signs[1] = 1, -1
    for i in range(40):
        imsave(images / f"{i + 1:06}.jpg", random.integers(0, 256, (218, 178, 3), dtype=np.uint8), check_contrast=False)
    rows = [f"{i + 1:06}.jpg " + " ".join(f"{sign:>2}" for sign in row) for i, row in enumerate(signs.tolist())]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["40", " ".join(NAMES) + " ", *rows]) + "\n")
    codes = [0] * 24 + [1] * 8 + [2] * 8
    (folder / "list_eval_partition.txt").write_text("".join(f"{i + 1:06}.jpg {c}\n" for i, c in enumerate(codes)))


CELEBA = Published(
    "celeba", parts, sample, small={"size": (16, 16)},
    licence="non-commercial research only; the images are not to be passed on.",
    terms="Cite Z. Liu et al., Deep Learning Face Attributes in the Wild, 2015.",
    account="CelebA's host refuses after so many downloads, and asks for an account: get img_align_celeba.zip, "
            "list_attr_celeba.txt and list_eval_partition.txt from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, "
            "and run this again with --source and their folder. Or give the URL of a mirror: the files are checked.",
    downloads=[Download("img_align_celeba.zip", checksum="md5:00d2c5bc6d35e252742224ab0c1e8fcb", most=3 * 10**9),
               Download("list_attr_celeba.txt", checksum="md5:75e246fa4810816ffd6ee81facbd244c"),
               Download("list_eval_partition.txt", checksum="md5:d32c9cbf5e040fd4025c592c306e6668")])
main = command(CELEBA)

if __name__ == "__main__":
    main()
