"""`sarcos`: the torques of a robot arm's seven joints, from where the arm is and how it moves.

Imports `files`, `tasks`, its folder's `kinds`, `registry`, `sets`, `splits`.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ..files import unknown
from ..tasks import Problem, TensorSplit
from .kinds import regression
from .registry import register
from .sets import read
from .splits import check_proportion, ends, generator

INPUTS, JOINTS, BLOCK = 21, 7, 256
TORQUES = tuple(f"torque_{joint}" for joint in range(1, JOINTS + 1))
SPLITS = ("blocks", "published")


@register("sarcos")
def sarcos(split: str = "blocks", proportion: float | int = 0.6, samples: int | None = None, seed: int = 0,
           root: str = "data", with_data: bool = True) -> Problem:
    """Seven regressions on 21 numbers: positions, velocities and accelerations of seven joints, to `torque_1`, ...

    Inputs and targets have mean 0 and standard deviation 1 on the training split; an error is in standard deviations.

    split: "published" tests on the published test file. Almost all of its rows, 4,368 of 4,449, also stand in the
        training file, and are taken from the same movements: what is good there has memorised. "blocks" (default) takes
        each row of both files once, cuts what follows one another into blocks of 256 rows, and gives whole blocks
        to the splits.
    proportion: share of the blocks for training (with "published", of the training file); a tenth is for validation,
        the rest for testing. 50, 60 and 70 % are printed.
    samples: so many rows of each split's share are taken, by lot; None takes all. 2,000 in all are printed.
    seed: decides which blocks, and which rows, go where.
    root: where `python data_scripts/sarcos.py` put the set.
    Raises ValueError for an unknown `split`, a proportion that leaves nothing, and more samples than there are.
    Source: *A Simple General Approach to Balance Task Difficulty in Multi-Task Learning*, section 4.1.1; where it takes
    rows by lot, neighbours of one movement are in training and test alike. The net is not printed.
    """
    if split not in SPLITS:
        raise ValueError(unknown("split", split, SPLITS))
    check_proportion(proportion)
    splits: dict[str, Any] = {"train": None, "val": None, "test": None}
    if with_data:
        tables = {part: _table(rows) for part, rows in read("sarcos", root).items()}
        rows = _published(tables, proportion, seed) if split == "published" else _blocks(tables, proportion, seed)
        splits = _standardised(_sampled(rows, proportion, samples, seed))
    return Problem("sarcos", [regression(name, measures=("mse",)) for name in TORQUES], **splits, input_shape=(INPUTS,),
                   encoder={"name": "mlp", "widths": [64, 64]},
                   training={"fast": {"epochs": 10, "lr": 3e-3, "batch_size": 128},
                             "full": {"epochs": 60, "lr": 1e-3, "batch_size": 128}})


def leaked(train: Float[np.ndarray, "n columns"], test: Float[np.ndarray, "k columns"]) -> int:
    """How many rows of `test` stand in `train` too, number for number.

    >>> leaked(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[3.0, 4.0], [3.0, 5.0]]))
    1
    """
    there = {row.tobytes() for row in np.ascontiguousarray(train)}
    return sum(row.tobytes() in there for row in np.ascontiguousarray(test))


def _table(split: Any) -> np.ndarray:
    """(samples, 28), in the order of the file."""
    batch = next(split.batches(len(split)))
    return np.concatenate([batch.inputs.numpy(), *(batch.targets[name].numpy() for name in TORQUES)], 1)


def _blocks(tables: dict[str, np.ndarray], proportion: float, seed: int) -> dict[str, np.ndarray]:
    whole = np.concatenate([tables["train"], tables["test"]])
    first: dict[bytes, int] = {}
    for number, row in enumerate(whole):
        first.setdefault(row.tobytes(), number)
    whole = whole[sorted(first.values())]
    blocks = [whole[start : start + BLOCK] for start in range(0, len(whole), BLOCK)]
    order = generator(seed, "sarcos/blocks").permutation(len(blocks))
    places = ends(len(blocks), proportion, "blocks")
    return {split: np.concatenate([blocks[i] for i in own])
            for split, own in zip(("train", "val", "test"), np.split(order, places), strict=True)}


def _published(tables: dict[str, np.ndarray], proportion: float, seed: int) -> dict[str, np.ndarray]:
    order = generator(seed, "sarcos/published").permutation(len(tables["train"]))
    train, val, _ = np.split(order, ends(len(order), proportion, "rows"))
    return {"train": tables["train"][train], "val": tables["train"][val], "test": tables["test"]}


def _sampled(rows: dict[str, np.ndarray], proportion: float, samples: int | None, seed: int) -> dict[str, np.ndarray]:
    if samples is None:
        return rows
    shares = {"train": proportion, "val": 0.1, "test": 0.9 - proportion}
    wanted = {split: round(share * samples) for split, share in shares.items()}
    for split, number in wanted.items():
        if not 0 < number <= len(rows[split]):
            raise ValueError(f"samples={samples} are {number} for {split!r}, which has {len(rows[split]):,}.")
    random = generator(seed, "sarcos/samples")
    return {split: own[random.permutation(len(own))[: wanted[split]]] for split, own in rows.items()}


def _standardised(rows: dict[str, np.ndarray]) -> dict[str, TensorSplit]:
    train = rows["train"].astype(np.float64)
    mean, deviation = train.mean(0), train.std(0)
    deviation[deviation == 0] = 1  # what never moves stays zero
    splits = {}
    for split, own in rows.items():
        values = torch.from_numpy(((own - mean) / deviation).astype(np.float32))
        targets = {name: values[:, INPUTS + joint, None] for joint, name in enumerate(TORQUES)}
        splits[split] = TensorSplit(values[:, :INPUTS].contiguous(), targets)
    return splits
