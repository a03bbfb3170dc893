"""How fast data come that do not lie in memory, as ratios to what people do otherwise.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/data.py [mapped seeded checked]`, with the page cache warm.
Inputs and three tasks have the size of NYUv2's, 288 x 384; the numbers are by lot.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from core import interleaved, measure, verdict
from torch.utils.data import DataLoader, Dataset

from mtlcourse import data, models
from mtlcourse.data import DatasetSplit, mapped
from mtlcourse.data.mapped_split import MappedSplit
from mtlcourse.tasks import TensorSplit
from mtlcourse.training.evaluation import evaluate

SAMPLES, BATCH, HEIGHT, WIDTH = 64, 8, 288, 384
SPLITS = ("train", "val", "test")


class Files(Dataset):
    """A sample a folder entry, each field an `.npy` of float32, as the published sets have them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, i: int) -> tuple:
        fields = [torch.from_numpy(np.load(self.folder / f"{name}-{i}.npy", allow_pickle=False))
                  for name in ("image", "label", "depth", "normals")]
        return fields[0], (fields[1].long(), *fields[2:])


def go_through(batches: Iterable) -> None:
    for _ in batches:
        pass


def compactly(split: MappedSplit) -> None:
    """A shuffled epoch as rows are moved to a device: not yet unpacked."""
    order = torch.randperm(SAMPLES).numpy()
    for start in range(0, SAMPLES, BATCH):
        rows = order[start : start + BATCH]
        for name in ("inputs", "targets.segmentation", "targets.depth", "targets.normals"):
            torch.from_numpy(split._arrays[name][rows])


def scenes() -> TensorSplit:
    random = torch.Generator().manual_seed(0)
    size = (HEIGHT, WIDTH)
    return TensorSplit(torch.rand(SAMPLES, 3, *size, generator=random), {
        "segmentation": torch.randint(-1, 13, (SAMPLES, *size), generator=random),
        "depth": 10 * torch.rand(SAMPLES, 1, *size, generator=random),
        "normals": torch.randn(SAMPLES, 3, *size, generator=random)})


def bytes_a_sample(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.npy")) / SAMPLES


def mapped_sets() -> None:
    """One shuffled epoch in batches of 8, against an `.npy` a sample and field in a `DataLoader` without workers."""
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), scenes()
        singles = folder / "singles"
        singles.mkdir()
        for i in range(SAMPLES):
            for field, values in (("image", source.inputs), ("label", source.targets["segmentation"].float()),
                                  ("depth", source.targets["depth"]), ("normals", source.targets["normals"])):
                np.save(singles / f"{field}-{i}.npy", values[i].numpy())
        wide = mapped.convert(source, folder / "wide")
        narrow = mapped.convert(source, folder / "narrow", real="float16")
        loader = DataLoader(Files(singles), batch_size=BATCH, shuffle=True)
        taken = interleaved(
            5, singles=lambda: go_through(loader), compact=lambda: compactly(wide),
            compact_half=lambda: compactly(narrow), whole=lambda: go_through(wide.batches(BATCH, shuffle=True)),
            whole_half=lambda: go_through(narrow.batches(BATCH, shuffle=True)))
        for which, target in (("compact", 6), ("compact_half", 6), ("whole", 2), ("whole_half", 2)):
            verdict(f"samples per second, {which} over single files", taken["singles"] / taken[which], target, True)
        for which, there, target in (("single files", singles, 3.6e6), ("wide", wide.folder, 2.3e6),
                                     ("narrow", narrow.folder, 1.4e6)):
            verdict(f"MB a sample, {which}", bytes_a_sample(there) / 1e6, target / 1e6)


class Pictures(Dataset):
    def __init__(self) -> None:
        self.x, self.y = torch.rand(6_000, 1, 36, 36), torch.randint(0, 3, (6_000,))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple:
        return self.x[i], {"kind": self.y[i]}


def seeded() -> None:
    """One shuffled epoch of 6,000 samples in batches of 32: what seeding and checking add to a `DataLoader`."""
    pictures = Pictures()
    loader = DataLoader(pictures, batch_size=32, shuffle=True)
    splits = {which: DatasetSplit(pictures, [data.classification("kind", 3)], seeded=which == "seeded")
              for which in ("seeded", "unseeded")}
    taken = interleaved(5, dataloader=lambda: go_through(loader),
                        seeded=lambda: go_through(splits["seeded"].batches(32, shuffle=True)),
                        unseeded=lambda: go_through(splits["unseeded"].batches(32, shuffle=True)))
    verdict("microseconds a sample, seeded split above DataLoader",
            (taken["seeded"] - taken["dataloader"]) / len(pictures) * 1e6, 25)


def checked() -> None:
    """What is wrong with a problem's data, against one evaluation of a shared net on all its splits."""
    for name in ("rooms", "multidigits"):
        problem = data.load(name)
        model = models.HPS(problem)
        taken = interleaved(
            3, check=lambda of=problem: go_through([data.check(of)]),
            evaluate=lambda of=problem, net=model: go_through(evaluate(net, of, part) for part in SPLITS))
        verdict(f"seconds of {name}, check over evaluation", taken["check"] / taken["evaluate"], 3)


if __name__ == "__main__":
    measure({"mapped": mapped_sets, "seeded": seeded, "checked": checked})
