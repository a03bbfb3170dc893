"""Hard sharing and single-task networks as large as gated ones: is it only the parameters? Imports `models`."""

import inspect
import math
from collections.abc import Mapping, Sequence

import torch

from ..encoders import BUILDERS, size
from ..files import unknown
from ..tasks import Problem
from .base import Encoder, MTLModel
from .dsmtl import DSMTL
from .hps import HPS
from .stl import STL


class WideHPS(HPS):
    """Hard parameter sharing with at least as many parameters as a model that does not share everything.

    The question it answers: is the other model better only because it is larger? All widths of the
    encoder are multiplied by one factor, the smallest with which this model is no smaller than the one it
    is held against. The depth stays, and so do group norm's groups, so that a small encoder ends up with
    some ten percent too many.

    like: "dsmtl" (default: m + 1 encoders) or "stl" (m encoders).
    Raises ValueError for another choice, and for an encoder that is not given by a spec with widths: modules, and
    networks with sizes of their own, as "bert" and "resnet" build them.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 5.4.9. There residual
    blocks are added instead; widths work for every encoder and can be matched more closely.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, like: str = "dsmtl"):
        models = {"dsmtl": DSMTL, "stl": STL}
        if like not in models:
            raise ValueError(unknown("model to be as large as", str(like), models))
        super().__init__(problem, _as_large_as(models[like], HPS, problem, encoder))


class WideSTL(STL):
    """Single-task networks with at least as many parameters, together, as gated ones (m + 1 encoders).

    The baseline that had the same chance as `DSMTL`: see `WideHPS`, which widens in the same way. A gated model
    that is better than single-task learning and no better than this one owes that to its size.

    Raises ValueError for an encoder that is not given by a spec with widths, as `WideHPS` does.
    No source: ours.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__(problem, _as_large_as(DSMTL, STL, problem, encoder))


WIDTHS = ("widths", "channels", "features")  # what the builders call them
OR_WIDTHS = f"{', '.join(WIDTHS[:-1])} or {WIDTHS[-1]}"
EXAMPLE = "{'name': 'mlp', 'widths': [64, 64]}"


def _as_large_as(model: type[MTLModel], widened: type[MTLModel], problem: Problem, encoder: Encoder) -> Mapping:
    encoder = problem.encoder if encoder is None else encoder
    encoder = {"name": encoder} if isinstance(encoder, str) else encoder
    if not isinstance(encoder, Mapping):
        raise ValueError(f"Widening needs an encoder spec with {OR_WIDTHS}, such as {EXAMPLE}, not modules that are "
                         "built already.")
    if not _widths(encoder):
        raise ValueError(_without_widths(encoder))
    wanted = _size(model, problem, encoder)
    low, high = 1.0, 2.0
    while _size(widened, problem, _scaled(encoder, high)) < wanted:
        low, high = high, 2 * high
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (middle, high) if _size(widened, problem, _scaled(encoder, middle)) < wanted else (low, middle)
    return _scaled(encoder, high)


def _without_widths(spec: Mapping) -> str:
    """Why this spec cannot be widened, of which nothing is to be multiplied."""
    name = spec.get("name")
    if name in BUILDERS:
        options = list(inspect.signature(BUILDERS[name]).parameters)[1:]
        return (f"Widening multiplies the {OR_WIDTHS} of an encoder, and {name!r} has none of these: its options are "
                f"{', '.join(options)}. Name an encoder that has, such as {EXAMPLE}.")
    if isinstance(name, str) and ":" in name:
        return (f"Widening multiplies the {OR_WIDTHS} in an encoder's spec, and that of {name!r} says none of these: "
                "let the function take one, and give it in the spec.")
    return unknown("encoder", str(name), BUILDERS)


def _size(model: type[MTLModel], problem: Problem, encoder: Mapping) -> int:
    with torch.device("meta"):
        return size(model(problem, encoder))


def _widths(spec: Mapping) -> dict:
    parameters = inspect.signature(BUILDERS[spec["name"]]).parameters if spec.get("name") in BUILDERS else {}
    default = {name: parameters[name].default for name in WIDTHS if name in parameters}
    return {name: width for name, width in {**default, **spec}.items() if name in WIDTHS and width is not None}


def _scaled(spec: Mapping, factor: float) -> dict:
    """`spec` with all widths times `factor`, each still divisible by 4 if it was: group norm's groups stay."""
    def scale(width: int | Sequence[int]) -> int | list[int]:
        if isinstance(width, Sequence):
            return [scale(one) for one in width]
        step = math.gcd(width, 4)
        return step * round(width * factor / step)

    return {**spec, **{name: scale(width) for name, width in _widths(spec).items()}}
