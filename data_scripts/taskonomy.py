"""Convert Taskonomy for `data.load("taskonomy")`: `python data_scripts/taskonomy.py --source FOLDER --root data`.

FOLDER holds a folder for each domain, `rgb`, `segment_semantic`, `depth_zbuffer`, `keypoints2d`, `edge_texture` and
`normal`, with the buildings in it, behind a folder `taskonomy` or not; or a folder for each building, with the domains
in it. There lie `point_P_view_V_domain_D.png`, where D is the domain, but `segmentsemantic`. Images of 512 x 512 become
256 x 256. Some views lack a domain: those that have all are taken, and the others are counted.

The papers take allensville, collierville, mifflinburg, noxapater and onaga, and do not print which are for validation:
here collierville and noxapater, so that no room is in both.
"""

import re
from pathlib import Path

import click
import numpy as np
import torch
from skimage.io import imsave
from torch import Tensor

from mtlcourse.data import benchmarks
from mtlcourse.data.collating import resized
from mtlcourse.data.layouts import read_pixels
from mtlcourse.data.sets import Part, Published, command

DOMAINS = {"rgb": "rgb", "segmentation": "segment_semantic", "depth": "depth_zbuffer", "keypoints": "keypoints2d",
           "edges": "edge_texture", "normals": "normal"}
BITS = {"depth": np.uint16, "keypoints": np.uint16, "edges": np.uint16}  # of all others 8
BUILDINGS = {"train": ("allensville", "mifflinburg", "onaga"), "val": ("collierville", "noxapater")}
UNKNOWN_DEPTH = 64_500  # and above; the brightest is what the sensor did not see
NAME = re.compile(r"(point_\d+_view_\d+)_domain_(\w+)\.png")


class Views:
    """The views of some buildings. paths: of each view, `{"rgb" or task: file}`."""

    def __init__(self, paths: list[dict[str, Path]]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        found = {name: read(path, BITS.get(name, np.uint8)) for name, path in self.paths[i].items()}
        size = tuple(side // 2 for side in found["rgb"].shape[:2])
        image = torch.from_numpy(found.pop("rgb")[..., :3].copy()).permute(2, 0, 1).float().div_(255)
        inputs, targets = resized(size)([(image, {task: target(task, values) for task, values in found.items()})])
        return inputs[0], {task: values[0] for task, values in targets.items()}


def read(path: Path, kind: type) -> np.ndarray:
    """The pixels of a file. Raises ValueError for another number of bits: 16 must not have become 8."""
    pixels = read_pixels(path)
    if pixels.dtype != kind:
        raise ValueError(f"{path} has pixels of {pixels.dtype}, and must have {kind.__name__}")
    return pixels


def target(task: str, pixels: np.ndarray) -> Tensor:
    """What a task's pixels mean: classes from 0; metres; keypoints and edges in public code's units; unit vectors."""
    if task == "segmentation":
        return torch.from_numpy(pixels.astype(np.int64)) - 1  # 0 is "uncertain", and becomes VOID
    values = torch.from_numpy(pixels.astype(np.float32))
    if task == "normals":
        values = values[..., :3].permute(2, 0, 1) - 127
        length = values.norm(dim=0, keepdim=True)
        return torch.where(length > 0, values / length, float("nan"))
    if task == "depth":
        return (values / 512).masked_fill(values >= UNKNOWN_DEPTH, float("nan"))[None]
    return ((values - 50) / 100 if task == "keypoints" else (values - 718) / 1070)[None]


def views(folder: Path, building: str) -> list[dict[str, Path]]:
    """The views of a building that have every domain, in the order of their numbers."""
    found: dict[str, dict[str, Path]] = {}
    for name, domain in DOMAINS.items():
        places = (folder / domain / "taskonomy" / building, folder / domain / building, folder / building / domain)
        for path in (path for place in places if place.is_dir() for path in place.iterdir()):
            match = NAME.fullmatch(path.name)
            if match and match[2] == domain.replace("segment_semantic", "segmentsemantic"):
                found.setdefault(match[1], {})[name] = path
    whole = {view: paths for view, paths in found.items() if len(paths) == len(DOMAINS)}
    if len(whole) < len(found):
        click.echo(f"{building}: {len(found) - len(whole)} of {len(found)} views lack a domain, and are left out.")
    if found and not whole:
        lacking = sorted(set(DOMAINS) - {name for paths in found.values() for name in paths})
        raise FileNotFoundError(f"No view of {building} has all domains; there is no "
                                f"{', '.join(DOMAINS[name] for name in lacking)}. Each is a folder in "
                                f"{folder}, or in {folder / building}.")
    return [whole[view] for view in sorted(whole, key=lambda view: [int(n) for n in re.findall(r"\d+", view)])]


def parts(folder: Path) -> dict[str, Part]:
    """Training and validation buildings; real targets in half precision."""
    tasks, made = benchmarks.taskonomy(with_data=False).tasks, {}
    for part, buildings in BUILDINGS.items():
        there = [view for building in buildings for view in views(folder, building)]
        if not there:
            raise FileNotFoundError(f"{folder} has nothing of {', '.join(buildings)}. Give the folder of the domains.")
        made[part] = Part(Views(there), tasks, {"real": "float16"})
    return made


def sample(folder: Path) -> None:
    """Three views of each building by lot, 48 x 48, and one that lacks its depth."""
    random = np.random.default_rng(0)
    for building in (name for buildings in BUILDINGS.values() for name in buildings):
        for view in range(4):
            size = (48, 48)
            made = {"rgb": random.integers(0, 256, (*size, 3)), "segmentation": random.integers(0, 18, size),
                    "depth": random.integers(300, 5_000, size), "keypoints": random.integers(0, 3_000, size),
                    "edges": random.integers(0, 10_000, size), "normals": random.integers(0, 256, (*size, 3))}
            made["depth"][:4], made["normals"][:, :4] = 65_535, 127
            if view == 3:
                del made["depth"]
            for name, pixels in made.items():
                domain = DOMAINS[name]
                place = folder / domain / "taskonomy" / building
                place.mkdir(parents=True, exist_ok=True)
                file = f"point_{9 + view}_view_0_domain_{domain.replace('segment_semantic', 'segmentsemantic')}.png"
                imsave(place / file, pixels.astype(BITS.get(name, np.uint8)), check_contrast=False)


TASKONOMY = Published(
    "taskonomy", parts, sample,
    licence="by a form that you sign; research only, no commercial use.",
    terms="Cite A. R. Zamir et al., Taskonomy: Disentangling Task Transfer Learning, 2018.",
    account="Taskonomy is given to those who agree to its terms: see https://github.com/StanfordVL/taskonomy, get the "
            f"domains {', '.join(DOMAINS.values())} of {', '.join(BUILDINGS['train'] + BUILDINGS['val'])}, and run "
            "this again with --source and their folder.")
main = command(TASKONOMY)

if __name__ == "__main__":
    main()
