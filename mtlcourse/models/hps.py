"""Hard parameter sharing: one encoder for all, as it is or widened. Imports `models.base`."""

import inspect
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..encoders import BUILDERS, size
from ..files import unknown
from ..tasks import Problem
from .base import Encoder, MTLModel
from .dsmtl import DSMTL
from .stl import STL


class HPS(MTLModel):
    """Hard parameter sharing: one encoder f_S for all tasks, one head h_t a task.

    prediction of task t: `h_t(f_S(x))`.

    Source: R. Caruana, Multitask Learning, Machine Learning 28, 1997.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__(problem, encoder)
        self.shared = self.new_encoder("shared")
        self.add_heads(self.shared.out_shape)

    def route(self, task: str) -> list[nn.Module]:
        return [*self.shared.stages, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.shared(x)
        return {name: self.leave(name, z) for name in tasks}


class WideHPS(HPS):
    """Hard parameter sharing with at least as many parameters as a model that does not share everything.

    The question it answers: is the other model better only because it is larger? All widths of the
    encoder are multiplied by one factor, the smallest with which this model is no smaller than the one it
    is held against. The depth stays, and so do group norm's groups, so that a small encoder ends up with
    some ten percent too many.

    like: "dsmtl" (default: m + 1 encoders) or "stl" (m encoders).
    Raises ValueError for another choice, and for an encoder that is not given by a spec with widths.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 5.4.9. There residual
    blocks are added instead; widths work for every encoder and can be matched more closely.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, like: str = "dsmtl"):
        models = {"dsmtl": DSMTL, "stl": STL}
        if like not in models:
            raise ValueError(unknown("model to be as large as", str(like), models))
        encoder = problem.encoder if encoder is None else encoder
        super().__init__(problem, _as_large_as(models[like], problem, encoder))


WIDTHS = ("widths", "channels", "features")  # what the builders call them


def _as_large_as(model: type[MTLModel], problem: Problem, encoder: Encoder) -> Mapping:
    if not isinstance(encoder, Mapping) or not _widths(encoder):
        raise ValueError(f"Widening needs an encoder spec with {', '.join(WIDTHS[:-1])} or {WIDTHS[-1]}, such as "
                         "{'name': 'mlp', 'widths': [64, 64]}, not modules that are built already.")
    wanted = _size(model, problem, encoder)
    low, high = 1.0, 2.0
    while _size(HPS, problem, _scaled(encoder, high)) < wanted:
        low, high = high, 2 * high
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (middle, high) if _size(HPS, problem, _scaled(encoder, middle)) < wanted else (low, middle)
    return _scaled(encoder, high)


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
