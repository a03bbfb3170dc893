"""Layouts in which several sets are published, as datasets of samples.

Imports `void`.
"""

import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..void import VOID


class NumberedArrays:
    """`FOLDER/{image,label,depth,normal}/{i}.npy` with i = 0, 1, ..., as NYUv2 and CityScapes are preprocessed.

    fields: `{task: folder}`; a task called `depth` or `normals` is real, others are class indices.
    Each sample: image (3, height, width), stored as height x width x 3 in [0, 1] of either width of float; labels
    (height, width), stored as real numbers, -1 where there is none; depth (1, height, width), stored with or without
    its channel, zero where it is unknown; normals (3, height, width), of length zero where they are unknown. What is
    unknown becomes NaN. Length decides, for true normals may have a sum of zero.
    Raises FileNotFoundError for a folder or a number that is missing, ValueError for an array that is none of this.
    """

    def __init__(self, folder: Path, fields: Mapping[str, str]):
        self.folder, self.fields = folder, dict(fields)
        numbers = self._numbers("image")
        self.length = len(numbers)
        for name in ("image", *self.fields.values()):
            there = self._numbers(name)
            missing = sorted(set(range(self.length)) - there) or sorted(numbers - there)
            if missing:
                raise FileNotFoundError(f"{folder / name / f'{missing[0]}.npy'} is missing, one of {len(missing)}: all "
                                        f"of 0.npy to {self.length - 1}.npy must be in "
                                        f"{', '.join(self.fields.values())}. Unpack the archive again.")

    def _numbers(self, name: str) -> set[int]:
        if not (self.folder / name).is_dir():
            raise FileNotFoundError(f"There is no folder {self.folder / name}. Give the one that holds train and val.")
        found = {int(path.stem) for path in (self.folder / name).glob("*.npy") if path.stem.isdigit()}
        if not found:
            raise FileNotFoundError(f"{self.folder / name} has no 0.npy, 1.npy, ...: unpack the archive again.")
        return found

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        targets = {task: self._target(task, self._read(name, i)) for task, name in self.fields.items()}
        return channels_first(self._read("image", i)), targets

    def _read(self, name: str, i: int) -> Tensor:
        return torch.from_numpy(np.load(self.folder / name / f"{i}.npy", allow_pickle=False).astype(np.float32))

    @staticmethod
    def _target(task: str, values: Tensor) -> Tensor:
        if task in ("depth", "normals"):
            values = values[None] if values.dim() == 2 else channels_first(values)
            return values.masked_fill((values == 0).all(0, keepdim=True), float("nan"))
        labels = values.nan_to_num(VOID).long()
        if not torch.equal(labels.float(), values.nan_to_num(VOID)):
            raise ValueError(f"{task} has values such as {values[labels.float() != values][0]:g}, which are no classes")
        return labels


def read_pixels(path: str | Path) -> np.ndarray:
    """An image file's pixels as they are stored. Raises ValueError, in one sentence, for one that cannot be read."""
    from skimage.io import imread

    try:
        with open(path, "rb") as file, warnings.catch_warnings():  # opened here: some readers do not close it
            warnings.simplefilter("ignore", DeprecationWarning)  # of those that are tried where the usual one fails
            return np.asarray(imread(file))
    except (OSError, EOFError, SyntaxError, ValueError, struct.error) as error:  # what these raise
        reason = str(error).partition("\n")[0]  # the rest is about libraries that might read it
        raise ValueError(f"{path} cannot be read ({reason}); get it anew.") from error


def find(folder: Path, name: str) -> Path:
    """The nearest file or folder of this name, in the folder or in those in it.

    Raises FileNotFoundError where there is none.
    """
    found = sorted(folder.rglob(name), key=lambda path: (len(path.parts), path))
    if not found:
        raise FileNotFoundError(f"{folder} has no {name}, nor has a folder in it. Give that of the published files.")
    return found[0]


def channels_first(values: Tensor) -> Tensor:
    """(height, width, channels) as (channels, height, width); ValueError for anything else."""
    if values.dim() != 3 or values.shape[-1] > 4:
        raise ValueError(f"an array of shape {tuple(values.shape)} is no height x width x channels")
    return values.permute(2, 0, 1).contiguous()


def write_numbered(folder: Path, sizes: Mapping[str, int], classes: int, size: tuple[int, int],
                   names: Mapping[str, str], seed: int = 0) -> None:
    """A tiny set by lot in the layout of `NumberedArrays`, with all that is unknown in the published ones.

    sizes: samples of each part.  names: `{"label": ..., "depth": ..., "normal": ...}`, those folders that there are.
    """
    random = np.random.default_rng(seed)
    for part, samples in sizes.items():
        for i in range(samples):
            label = random.integers(-1, classes, size).astype(np.float64)
            image = (np.clip(label[..., None] + 1 + random.random((*size, 3)), 0, classes + 1) / (classes + 1))
            depth = (label[..., None] + 2) * random.uniform(0.5, 1.0, (*size, 1))
            normal = random.standard_normal((*size, 3))
            normal /= np.linalg.norm(normal, axis=2, keepdims=True)
            depth[:2], normal[:, :2] = 0, 0
            normal[0, 2] = (0.6, -0.6, 0.0)  # true, of sum zero
            made = {"image": image.astype(np.float32), "label": label, "depth": depth.astype(np.float32),
                    "normal": normal}
            for kind, name in {"image": "image", **names}.items():
                (folder / part / name).mkdir(parents=True, exist_ok=True)
                np.save(folder / part / name / f"{i}.npy", made[kind])
