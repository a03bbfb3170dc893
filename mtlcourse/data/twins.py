"""`twins`: twelve linear regression tasks of which pairs are all but the same, to see whether a method finds them.

Imports `files` and `tasks`, and its folder's `kinds`, `registry`, `splits`.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from ..files import is_number, unknown
from ..tasks import Problem, TensorSplit
from .kinds import regression
from .registry import describe, register
from .splits import generator, split_sizes

BASES, TWINS, FEATURES = 2, 2, 20
HALF = FEATURES // BASES  # features that a base looks at; the bases share none
NOISE = 0.1
SPREADS = {"variance": math.sqrt(NOISE), "deviation": NOISE}  # the standard deviation of N(0, 0.1 I)


@register("twins")
def twins(train: int = 100, val: int = 100, test: int = 500, seed: int = 0, magnitudes: Sequence = (1, 2, 3),
          flips: float | int | None = None, shift: float | int = 1.0, spread: str = "variance",
          contradicting: Any = False, activation: str = "softplus", with_data: bool = True) -> Problem:
    """Regression tasks `y = x . w_t + noise`, each with inputs of its own, where tasks 1 and 2, 3 and 4, ... are twins.

    The first half of the tasks looks at the first ten of twenty features, with `w = (1; 0)`, the other half at the
    rest, with `w = (0; 1)`. Within a half, twins have one magnitude in common, by which their base is multiplied, and
    differ only in the signs of some weights, flipped at random for each task.
    `data.twin_weights` gives the w_t. Tasks are named `task_1`, `task_2`, ...; measures: RMSE and MAE.

    train, val, test: samples of each task. 100 is printed, without a word about other samples.
    seed: of everything; weights, means of inputs and each task's samples come from streams of their own, so that an
        option changes nothing but what it is about.
    magnitudes: one for each pair of twins of a half, so four tasks for each magnitude. "Some positive integers"; the
        text's example is 1, 2 and 3.
    flips: the share of a task's weights (of the ten that are not zero) whose sign is flipped, a rounded number of them
        and the same for all tasks. None: 0.1, or 0 if `contradicting`. Not printed, except that the pattern is to be
        "well kept".
    shift: the standard deviation of the coordinates of eta_t, the mean of a task's inputs `x ~ N(eta_t, I)`, drawn
        once for each task. That the eta_t differ is all that is printed; 0 gives all tasks the same inputs' law.
    spread: what the noise's N(0, 0.1 I) prints: "variance" (default, the usual meaning) or "deviation".
    contradicting: the problem of table 3, where "all tasks compete"; how is not printed. Here each feature splits the
        tasks of its half evenly into those to which it counts positively and negatively, every time another way,
        so that the signs at a feature sum to zero over tasks. With three magnitudes the ten features are the ten ways
        to split six tasks, and *every* pair of a half, twins included, disagrees at six features of ten: no six
        weight vectors can be more at odds.
    activation: of the hidden layer of 32 that each task's head has; see `digits_mtl`. Nothing is printed of the net.
    Raises ValueError for an empty split or no magnitude, for one that is not a positive number, for flips outside
        0 to 1, for a negative shift and an unknown spread.
    Source: *Saliency-Regularized Deep Multi-Task Learning* (Bai, Zhao, 2022), section 5.1 and appendix B.

    >>> problem = twins(train=3)
    >>> len(problem.tasks), problem.train.inputs["task_12"].shape
    (12, torch.Size([3, 20]))
    """
    sizes = split_sizes(train, val, test)
    _check(magnitudes, flips, shift, spread, contradicting)
    names = [f"task_{number + 1}" for number in range(BASES * TWINS * len(magnitudes))]
    splits: dict[str, Any] = dict.fromkeys(sizes)
    if with_data:
        weights = _weights(seed, magnitudes, flips, contradicting)
        splits = {split: _split(split, size, names, weights, shift, SPREADS[spread], seed)
                  for split, size in sizes.items()}
    return Problem(
        "twins", [regression(name, measures=("rmse", "mae")) for name in names], **splits, input_shape=(FEATURES,),
        encoder={"name": "mlp", "widths": [32], "head": [32], "activation": activation},
        training={"fast": {"epochs": 100, "lr": 3e-3, "batch_size": 20},
                  "full": {"epochs": 1_000, "lr": 3e-3, "batch_size": 20}})


def twin_weights(**options: Any) -> Float64[Tensor, "features tasks"]:
    """The true weights w_t of the problem `twins` with these options, one column for each task.

    options: those of `twins`, all or some: `data.twin_weights(**problem.options)`. Those about samples are ignored.
    Raises as `data.describe("twins", **options)` does.

    >>> weights = twin_weights(magnitudes=(1, 5), flips=0)
    >>> weights[0].tolist()
    [1.0, 1.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0]
    """
    full = describe("twins", **options).options
    return torch.from_numpy(_weights(*(full[name] for name in ("seed", "magnitudes", "flips", "contradicting"))))


def _check(magnitudes: Sequence, flips: object, shift: object, spread: str, contradicting: object) -> None:
    if isinstance(magnitudes, str) or not isinstance(magnitudes, Sequence) or not magnitudes:
        raise ValueError(f"magnitudes={magnitudes!r}: give a list of at least one number, such as [1, 2, 3].")
    for magnitude in magnitudes:
        if not _is_number(magnitude) or magnitude <= 0:
            raise ValueError(f"A magnitude is {magnitude!r}; it must be a finite number above zero.")
    if flips is not None and not (_is_number(flips) and 0 <= flips <= 1):
        raise ValueError(f"flips={flips!r}; it must be a share from 0 to 1, or None.")
    if not _is_number(shift) or shift < 0:
        raise ValueError(f"shift={shift!r}; it must be a finite number, at least 0.")
    if spread not in SPREADS:
        raise ValueError(unknown("spread", str(spread), SPREADS))
    if not isinstance(contradicting, bool):
        raise ValueError(f"contradicting={contradicting!r} is neither True nor False.")


def _is_number(value: object) -> bool:
    return is_number(value) and math.isfinite(value)


def _weights(seed: int, magnitudes: Sequence, flips: float | int | None,
             contradicting: bool) -> Float64[np.ndarray, "20 tasks"]:
    random = generator(seed, "twins/weights")
    tasks = TWINS * len(magnitudes)  # of one base
    signs = np.stack([_opposed(tasks, random) if contradicting else np.ones((HALF, tasks)) for _ in range(BASES)])
    share = (0.0 if contradicting else 0.1) if flips is None else flips
    places = generator(seed, "twins/flips").random(signs.shape).argsort(1)  # of each task, in an order by lot
    np.put_along_axis(signs, places[:, :round(share * HALF)],
                      -np.take_along_axis(signs, places[:, :round(share * HALF)], 1), 1)
    blocks = signs * np.repeat(np.asarray(magnitudes, dtype=float), TWINS)
    weights = np.zeros((BASES, HALF, BASES, tasks))
    for base in range(BASES):
        weights[base, :, base] = blocks[base]
    return weights.reshape(FEATURES, BASES * tasks)


def _opposed(tasks: int, random: np.random.Generator) -> Float64[np.ndarray, "10 tasks"]:
    """Signs that split the tasks evenly at each feature, every way equally often as far as that goes."""
    ways = [chosen for chosen in itertools.combinations(range(tasks), tasks // 2) if 0 in chosen]
    rounds = -(-HALF // len(ways))
    order = np.concatenate([random.permutation(len(ways)) for _ in range(rounds)])[:HALF]
    signs = -np.ones((HALF, tasks))
    for feature, way in enumerate(order):
        signs[feature, list(ways[way])] = 1
    return signs * random.choice([-1.0, 1.0], (HALF, 1))  # which side is the positive one


def _split(split: str, size: int, names: list[str], weights: Float64[np.ndarray, "20 tasks"], shift: float | int,
           noise: float, seed: int) -> TensorSplit:
    inputs, targets = {}, {}
    for name, w in zip(names, weights.T, strict=True):
        mean = shift * generator(seed, f"twins/means/{name}").normal(size=FEATURES)
        random = generator(seed, f"twins/{split}/{name}")
        x = mean + random.normal(size=(size, FEATURES))
        y = x @ w + noise * random.normal(size=size)
        inputs[name], targets[name] = torch.from_numpy(x).float(), torch.from_numpy(y).float()[:, None]
    return TensorSplit(inputs, targets)
