"""Encoders that are given and not learned anew: stages that stay as they are, and low-rank additions to their weights.

Imports `files`, `staged`. Both act on the stages themselves, so that architectures may take these apart and copy them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..files import is_number, is_whole
from .staged import StagedEncoder

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)  # what may keep running statistics


def freeze(encoder: StagedEncoder, which: Any) -> StagedEncoder:
    """Have some of the encoder learn nothing any more; returns the same encoder.

    Its parameters get no gradients, and it stays in evaluation mode whatever `train()` says: batch norms use and keep
    their running statistics, and dropout drops nothing. Parameters that learn nothing are nobody's: neither an
    optimiser nor a strategy sees them. Where the first stages are frozen, the backward pass ends behind them.

    which: k for the first k stages; or a list of stages, by number from 1 or by the name of a module inside one, as
        "layer1" of a stage that `from_module` has made.
    Raises ValueError for stages and names that are not there, and for a name that several stages have.
    """
    for module in _chosen(encoder, which, "frozen"):
        module.requires_grad_(False)
        _stay(module)
    return encoder


def stays(module: nn.Module) -> bool:
    """Whether a module stays in evaluation mode whatever happens, because it is frozen."""
    return isinstance(module.__dict__.get("train"), _Still)


class _Still:
    """Stands in for the `train` of a module that stays in evaluation mode; is copied with it."""

    def __init__(self, module: nn.Module):
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        return type(self.module).train(self.module, False)


def _stay(module: nn.Module) -> None:
    for inner in module.modules():  # each, for somebody may call them one by one
        inner.__dict__["train"] = _Still(inner)
    module.eval()


# --- low rank ---------------------------------------------------------------------------------------------

class LowRank(nn.Module):
    """`W + (alpha / r) B A`, of a weight W that does not learn: A and B do, and B starts at zero.

    A is (r, columns) and B (rows, r), of W seen as a matrix with a row an output. A starts normally distributed with
    variance 1/columns, which the source leaves open. r is the rank that is asked for, or W's own if that is less.
    Source: E. J. Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022, equation 3.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float | int):
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        least = min(rank, rows, columns)
        self.scale = alpha / rank
        self.A = nn.Parameter(torch.randn(least, columns, device=weight.device, dtype=weight.dtype)
                              / math.sqrt(columns))
        self.B = nn.Parameter(torch.zeros(rows, least, device=weight.device, dtype=weight.dtype))

    def forward(self, weight: Float[Tensor, "rows *columns"]) -> Float[Tensor, "rows *columns"]:
        return weight + self.scale * (self.B @ self.A).view_as(weight)


def lora(encoder: StagedEncoder, rank: Any, alpha: Any = None, which: Any = None) -> StagedEncoder:
    """Have an encoder learn by low-rank additions to its weights only; returns the same encoder.

    Every linear layer and convolution of the chosen stages gets a `LowRank`, and `nn.MultiheadAttention` for its
    projections; all else in these stages learns nothing, and batch norms stay in evaluation mode. At the start the
    encoder computes what it did. A forward pass makes each weight anew, which costs r multiply-adds an entry.

    rank: a whole number.  alpha: the additions are scaled by alpha / rank; as large as the rank if None.
    which: the stages, as for `freeze`; all that are not frozen if None.
    Raises ValueError for a rank or alpha that is none, for stages that are not there, frozen, adapted already or
    without a layer to adapt.
    """
    if not is_whole(rank, 1):
        raise ValueError(f"rank={rank!r} of lora must be a whole number from 1 upwards, such as 4.")
    alpha = rank if alpha is None else alpha
    if not is_number(alpha) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha={alpha!r} of lora must be a positive number; {rank}, the rank, adds B A as it is.")
    if which is None:
        which = [number for number, stage in enumerate(encoder.stages, start=1) if not stays(stage)]
    for module in _chosen(encoder, which, "stages of lora"):
        if any(stays(inner) or isinstance(inner, LowRank) for inner in module.modules()):
            raise ValueError("Of the stages of lora some are frozen, or have it already: a stage is adapted once, and "
                             "not frozen besides.")
        places = list(_places(module))
        if not places:
            raise ValueError(f"lora has nothing to adapt in {type(module).__name__}, of the stages {which!r}: no "
                             "linear layer, convolution or attention. Choose others, by 'stages': [...].")
        module.requires_grad_(False)
        for inner, name in places:
            parametrize.register_parametrization(inner, name, LowRank(getattr(inner, name), rank, alpha))
        for inner in module.modules():
            if isinstance(inner, NORMS):
                _stay(inner)
    return encoder


def merge(module: nn.Module) -> nn.Module:
    """Write all `LowRank` additions into the weights they belong to, for use without them; returns the module.

    It computes the same to the bit, has as many parameters as before `lora`, and none of those it adapted learns.
    """
    for inner in list(module.modules()):
        for name in list(getattr(inner, "parametrizations", ())) if parametrize.is_parametrized(inner) else ():
            if any(isinstance(part, LowRank) for part in inner.parametrizations[name]):
                parametrize.remove_parametrizations(inner, name, leave_parametrized=True)
                getattr(inner, name).requires_grad_(False)
    return module


def _places(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The weights that can be adapted, each as a module and a name."""
    for inner in module.modules():
        if isinstance(inner, nn.MultiheadAttention):
            names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        else:
            names = ("weight",) if isinstance(inner, LAYERS) else ()
        yield from ((inner, name) for name in names if getattr(inner, name) is not None)


def _chosen(encoder: StagedEncoder, which: Any, option: str) -> list[nn.Module]:
    """The stages and modules that are meant, see `freeze`."""
    stages = list(encoder.stages)
    if is_whole(which):
        if not 0 <= which <= len(stages):
            raise ValueError(f"{option}={which}: the encoder has {len(stages)} stages; give 0 to {len(stages)} first "
                             "ones.")
        return stages[:which]
    if not isinstance(which, Sequence) or isinstance(which, str):
        raise ValueError(f"{option}={which!r}: give a number of first stages, or a list of stages, by number from 1 or "
                         "by the name of a module in one.")
    return [_one(stages, item, option) for item in which]


def _one(stages: list[nn.Module], item: Any, option: str) -> nn.Module:
    if is_whole(item) and 1 <= item <= len(stages):
        return stages[item - 1]
    inside = [dict(stage.named_modules()) for stage in stages]
    places = [number for number, modules in enumerate(inside, start=1) if item and item in modules]
    if len(places) == 1:
        return inside[places[0] - 1][item]
    if places:
        raise ValueError(f"{option}: stages {', '.join(map(str, places))} all have a module {item!r}; give the number "
                         "of one.")
    known = [name for modules in inside for name in modules if name and "." not in name]
    raise ValueError(f"{option}: there is no stage {item!r}. Stages have the numbers 1 to {len(stages)}; names are "
                     f"those of modules in them, such as {', '.join(dict.fromkeys(known)) or 'none here'}.")
