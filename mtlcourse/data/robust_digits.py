"""`robust_digits`: name a digit, under attack too, and be unsure of what is none.

Imports `tasks`, its folder's `kinds`, `multidigits`, `outside`, `probes`, `registry`, `splits`.
"""

import torch

from ..tasks import Problem, TensorSplit
from .kinds import classification
from .multidigits import CLASSES, source_digits
from .outside import FASHION, outside, shrunk
from .probes import robustness
from .registry import register
from .splits import at_most, generator, mixed, split_sizes

MOST = {"optdigits": 599}  # samples for each of the three uses, where there are few


@register("robust_digits")
def robust_digits(train: int = 3_000, val: int = 1_000, test: int = 1_000, side: int = 14,
                  foreign: str = "photographs", epsilon: float | int = 0.04, seed: int = 0, folder: str = FASHION,
                  with_data: bool = True) -> Problem:
    """One task, `digit`, on MNIST digits of 1 x side x side in [0, 1], with samples from elsewhere in `outside`.

    Measures: accuracy; by probes (`data.probes`) `pgd_accuracy`, `ood_aupr`, `parameters` and `multiply_adds`.

    train, val, test: numbers of digits; together at most the 5,000 that there are.
    side: 14 (averages of 2 x 2 pixels), 28, or 7.
    foreign: what is outside, see `data.outside`: "photographs", "optdigits" or "fashion" (from `folder`). "lower" and
        "upper" have as many samples as the training split, "test" as the test split, none more than 2,000 (599 of
        optdigits); the three share no image. Equation 3.2 wants classes that the digits do not have: optdigits have
        the same ten.
    epsilon: radius of the attack, in the pixels' unit. The thesis has 2 / 255 for photographs; strokes of ink are
        not moved by that.
    seed: decides which digits and which foreign images go where.
    Raises ValueError for an empty split, for more images than there are, an unknown set, another side, and an epsilon
    below 0; FileNotFoundError where Fashion-MNIST is asked for and not there.
    Source: the protocol of Learning Architecture for Multiple Tasks in Transfer Learning, section 3.3.2, on images that
    are here.
    """
    sizes = split_sizes(train, val, test)
    at_most(sum(sizes.values()), 5_000, f"{train} + {val} + {test} digits")
    probes = robustness(epsilon)
    shrunk(torch.zeros(1, 1, 28, 28), side)  # refuses another side, without data too
    splits, elsewhere = dict.fromkeys(sizes), {}
    if with_data:
        images, labels = source_digits()
        order = mixed(labels, generator(seed, "robust_digits/order"))
        rows = {"train": order[test : test + train], "val": order[len(order) - val :], "test": order[:test]}
        pixels = shrunk(torch.from_numpy(images)[:, None].float() / 255, side)
        splits = {split: TensorSplit(pixels[rows[split]], {"digit": torch.from_numpy(labels[rows[split]])})
                  for split in sizes}
        most = MOST.get(foreign, 2_000)
        wanted = {use: min(size, most) for use, size in {"lower": train, "upper": train, "test": test}.items()}
        elsewhere = outside(foreign, wanted, side, seed, folder)
    return Problem(
        "robust_digits", [classification("digit", CLASSES)], **splits, input_shape=(1, side, side),
        encoder={"name": "conv", "channels": [8, 16, 16], "norm": None}, probes=probes, outside=elsewhere,
        training={"fast": {"epochs": 3, "samples": 2_000, "lr": 1e-3, "batch_size": 64},
                  "full": {"epochs": 25, "lr": 1e-3, "batch_size": 64}})
