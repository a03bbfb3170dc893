"""`relatedness`: small regression tasks whose relatedness is set by hand, through their activation functions.

Imports `files` and `tasks`, and its folder's `kinds`, `registry`, `splits`.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ..files import is_number, is_whole, unknown
from ..tasks import Problem, TensorSplit
from .kinds import regression
from .registry import register
from .splits import generator, split_sizes

DIMENSION = 200
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sinc": lambda x: np.sinc(x / np.pi),  # numpy's sinc(x) is sin(pi x) / (pi x)
    "bent": lambda x: (np.sqrt(x**2 + 1) - 1) / 2 + x,
    "square": np.square,
}
PRODUCTS = ("inner", "elementwise", "activate-first")
SPREADS = ("variance", "deviation")


@register("relatedness")
def relatedness(tasks: Sequence = (("sinc", 1.0), ("bent", 1.0), ("square", 1.0)), train: int = 100, val: int = 1_000,
                test: int = 1_000, seed: int = 0, product: str = "inner", spread: str = "variance",
                phi: float | int = DIMENSION, noise: float | int = 1.0, standardise: Any = False,
                widths: Sequence[int] = (5, 5), batch_size: int = 10, with_data: bool = True) -> Problem:
    """Regression tasks `y_t = s_t A_t[(x + d_t) * Z / phi]` on shared 200-dimensional inputs x.

    A_t is the activation of task t, s_t its scale, d_t noise that only the target of task t contains (a
    model sees x), Z one fixed vector for all tasks and splits. Tasks of one activation differ in noise
    and scale alone and count as closely related; tasks of different activations as less so.

    tasks: pairs (activation, scale); sinc(x) = sin(x)/x, bent(x) = (sqrt(x^2 + 1) - 1)/2 + x,
        square(x) = x^2. The scale multiplies the target, as the text asks. Tasks are named by their
        activation, from the second on with a number: `sinc`, `sinc_2`.
    train, val, test: samples; each split has fresh x and noise. The text prints 100 for training and
        does not mention other data.
    product: what `*` means. "inner" (default): the inner product of x + d_t and Z, one number a sample,
        because every task's decoder is printed with a single neuron. "elementwise": 200 products and so
        200 targets a task, because the activations are called element-wise. "activate-first": 200
        products, activated, summed, then divided by phi; it agrees with both remarks and with phi being
        a normalisation by dimension, but moves phi out of the brackets.
    spread: what N(0, 10) and N(0, 2) print. "variance" (default): the usual meaning of the second
        number. "deviation": the number that random generators take; x then varies ten times as much as
        Z and not three.
    phi: the divisor; 200, the dimension, as printed. The inner product then has a standard deviation
        of about 0.22, where sinc and square hardly move; with sqrt(200) = 14.14 it is about 3.2 and
        there is something to learn.
    noise: a factor on the noise d; 1 as printed, 0 for none.
    standardise: True makes each task's target zero in mean and one in deviation over the training split, before
        the scale: then tasks differ in what they ask and not in how large the answers are.
    widths: of the encoder's stages, two of five neurons as printed.
    batch_size: of budget "paper". It is not printed; 10 is our reading, 100 would be the whole training split. The
        other budgets, which are for more samples, take batches of at least 50.
    Raises ValueError for an empty list of tasks, unknown names, a scale or phi that is zero or infinite.
    Source: *Learning Architecture for Multiple Tasks in Transfer Learning* (Yue, 2023), section 5.4.11:
    encoder, loss, optimizer, epochs and learning rate of the "paper" budget; the batch size is not printed.
    """
    sizes = split_sizes(train, val, test)
    for option, value, known in (("product", product, PRODUCTS), ("spread", spread, SPREADS)):
        if value not in known:
            raise ValueError(unknown(option, str(value), known))
    _check_factor("phi", phi)
    if not is_number(noise) or not 0 <= noise < math.inf:
        raise ValueError(f"noise is {noise!r}; it must be a finite number, at least 0.")
    if not isinstance(standardise, bool):
        raise ValueError(f"standardise={standardise!r} is neither True nor False.")
    if not is_whole(batch_size, 1):
        raise ValueError(f"batch_size={batch_size!r}; it must be a whole number of at least 1.")
    named = _named(tasks)
    channels = DIMENSION if product == "elementwise" else 1
    splits: dict[str, Any] = dict.fromkeys(sizes)
    if with_data:
        constant = generator(seed, "relatedness/Z").normal(size=DIMENSION)
        for split, size in sizes.items():
            random = generator(seed, f"relatedness/{split}")
            splits[split] = _split(named, size, constant, product, spread, phi, noise, random)
        if standardise:
            _standardise(splits, named)
    return Problem(
        "relatedness", [regression(name, channels) for name in named], **splits, input_shape=(DIMENSION,),
        encoder={"name": "mlp", "widths": list(widths)},
        training={"paper": {"epochs": 30, "samples": 100, "lr": 0.02, "optimizer": "sgd", "batch_size": batch_size},
                  "fast": {"epochs": 30, "lr": 0.003, "batch_size": max(batch_size, 50)},
                  "full": {"epochs": 300, "lr": 0.003, "batch_size": max(batch_size, 50)}})


def _named(tasks: Sequence) -> dict[str, tuple[str, float]]:
    """`{task name: (activation, scale)}`, checked."""
    if not tasks:
        raise ValueError("tasks is empty: give at least one pair, such as [('sinc', 1.0)].")
    named: dict[str, tuple[str, float]] = {}
    seen: Counter[str] = Counter()
    for pair in tasks:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"A task is a pair (activation, scale), such as ('sinc', 2.0); got {pair!r}.")
        activation, scale = pair
        if activation not in ACTIVATIONS:
            raise ValueError(unknown("activation", str(activation), ACTIVATIONS))
        _check_factor(f"the scale of {activation!r}", scale)
        seen[activation] += 1
        named[activation if seen[activation] == 1 else f"{activation}_{seen[activation]}"] = (activation, float(scale))
    return named


def _check_factor(what: str, value: object) -> None:
    if not is_number(value) or not math.isfinite(value) or value == 0:
        raise ValueError(f"{what} is {value!r}; it must be a finite number other than zero.")


def _split(named: dict[str, tuple[str, float]], size: int, constant: Float[np.ndarray, "200"], product: str,
           spread: str, phi: float | int, noise: float | int, random: np.random.Generator) -> TensorSplit:
    x_deviation, noise_deviation = (10.0, 2.0) if spread == "deviation" else (math.sqrt(10), math.sqrt(2))
    x = random.normal(scale=x_deviation, size=(size, DIMENSION))
    targets = {}
    for name, (activation, scale) in named.items():
        delta = noise * random.normal(scale=noise_deviation, size=(size, DIMENSION))
        targets[name] = scale * _target(ACTIVATIONS[activation], (x + delta) * constant, product, phi)
    return TensorSplit(torch.from_numpy(x).float(), {name: torch.from_numpy(y).float() for name, y in targets.items()})


def _standardise(splits: dict[str, Any], named: dict[str, tuple[str, float]]) -> None:
    for name, (_, scale) in named.items():
        reference = splits["train"].targets[name].double()
        mean, deviation = reference.mean(0), reference.std(0) / abs(scale)
        for split in splits.values():
            split.targets[name] = ((split.targets[name].double() - mean) / deviation).float()


def _target(activation: Callable[[np.ndarray], np.ndarray], products: Float[np.ndarray, "samples 200"], product: str,
            phi: float | int) -> Float[np.ndarray, "samples channels"]:
    if product == "elementwise":
        return activation(products / phi)
    if product == "activate-first":
        return activation(products).sum(1, keepdims=True) / phi
    return activation(products.sum(1, keepdims=True) / phi)
