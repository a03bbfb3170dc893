"""Linear problems of a few dozen samples, for tests of what is solved on them."""

import numpy as np
import torch

from mtlcourse import data
from mtlcourse.models.shallow import Losses, collect
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.void import VOID

KINDS = ("shared", "own", "void", "binary", "mixed", "own binary", "few")


def problem(kind: str = "shared", m: int = 3, d: int = 5, samples: int = 30, seed: int = 0) -> Problem:
    """m linear tasks on d features whose mean is not zero.

    shared, own: inputs; own ones are of unequal number. void: a third of the labels is missing. binary: logits.
    mixed: every other task is binary, and labels are missing. few: fewer samples than features.
    """
    samples = d - 2 if kind == "few" else samples
    random = torch.Generator().manual_seed(seed)
    W = torch.randn(d, m, generator=random) * (torch.rand(d, 1, generator=random) < 0.7)
    splits = [_split(kind, W, size, random) for size in (samples, 20, 25)]
    tasks = [data.binary(f"t{t}") if _is_binary(kind, t) else data.regression(f"t{t}") for t in range(m)]
    return Problem(f"linear {kind}", tasks, *splits, (d,), {"name": "mlp", "widths": [4]})


def _is_binary(kind: str, t: int) -> bool:
    return "binary" in kind or (kind == "mixed" and t % 2 == 1)


def _split(kind: str, W: torch.Tensor, samples: int, random: torch.Generator) -> TensorSplit:
    d, m = W.shape
    own = kind.startswith("own")
    shared = torch.randn(samples, d, generator=random) + torch.arange(d) / 2
    inputs, targets = {}, {}
    for t in range(m):
        x = torch.randn(samples - 3 * t, d, generator=random) + t if own else shared
        y = x @ W[:, t] + 0.5 * torch.randn(len(x), generator=random) + t
        label = (y > y.median()).long() if _is_binary(kind, t) else y[:, None]
        if kind in ("void", "mixed"):
            hidden = torch.rand(len(x), generator=random) < 0.3
            label[hidden] = VOID if _is_binary(kind, t) else float("nan")
        inputs[f"t{t}"], targets[f"t{t}"] = x, label
    return TensorSplit(inputs if own else shared, targets)


def losses(kind: str = "shared", **sizes: int) -> Losses:
    made = problem(kind, **sizes)
    return collect(made.train, made.tasks, lambda x: x)


def covariance(size: int, seed: int = 0) -> np.ndarray:
    A = np.random.default_rng(seed).normal(size=(size, size))
    return A @ A.T + 0.5 * np.eye(size)
