"""A model of somebody else's in stages: followed once on the meta device, and cut where modules end.

Imports `files`, `staged`, `tape`. The model may branch and join as it likes between two cuts, and may do anything
that torch can do to a tensor; at a cut there must be one tensor, from which all that comes behind is computed, but
for what needs constants alone.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from ..files import unknown
from .staged import trial
from .tape import Program, Tape, Uncuttable, merged

SAMPLES = (2, 3, 5)  # batches that a model is followed with: two tell how sizes grow, the third whether that is so


class Stage(nn.Module):
    """A part of a model, from one cut to the next: its modules by the names that they have there, and what is done.

    Modules and parameters are the model's own, under the model's names: the `state_dict()`s of all stages together are
    that of the model, but for what lies behind the last cut.
    programs: what is computed while training, and in evaluation mode.
    """

    def __init__(self, model: nn.Module, programs: dict[bool, Program]):
        super().__init__()
        self._programs = programs
        used = {name for program in programs.values() for name in program.names()}
        kept = model.state_dict()
        for name in [name for name in _names(model) if name in used]:
            self._put(model, name, persistent=name in kept)
        self.training = model.training

    def _put(self, model: nn.Module, name: str, persistent: bool) -> None:
        """Have what the model calls `name`, under that name."""
        *path, last = name.split(".")
        place, there = self, model
        for step in path:
            if not hasattr(place, step):
                place.add_module(step, nn.Module())
            place, there = getattr(place, step), getattr(there, step)
        if hasattr(place, last):
            return  # a part of a module that is here already
        wanted = getattr(there, last)
        if isinstance(wanted, nn.Module):
            place.add_module(last, wanted)
        elif isinstance(wanted, nn.Parameter):
            place.register_parameter(last, wanted)
        else:
            place.register_buffer(last, wanted, persistent)

    def forward(self, z: Tensor) -> Tensor:
        return self._programs[self.training].run(self, z)


def from_module(model: nn.Module, cuts: Sequence[str], input_shape: Sequence[int],
                dtype: torch.dtype | None = None) -> list[nn.Module]:
    """The stages of an encoder, made of a model that was not written in stages: of timm, torchvision, or one's own.

    In turn they compute what the model computes up to the last cut, from the same weights, to the bit, while training
    and in evaluation mode. They hold the model's own modules, no copies: give a new model for each encoder.

    cuts: names of modules as in `model.named_modules()`, such as "layer1" or "blocks.3", in the order in which they
        run; each ends a stage. What comes behind the last is left out; "" is the model's own output.
    input_shape, dtype: of the samples, see `StagedEncoder`.
    The model is followed, without computing anything, and sizes that grow with the batch grow with every batch; all
    other sizes, dtypes, and what Python decides by them, stay as they are with samples of this shape.
    What is computed from constants alone, as positions, is computed by each stage that needs it.
    Raises ValueError for cuts that are not there, out of order, never reached, reached twice or not one tensor, for a
    value besides the cut's that is needed behind it (a skip connection, a mask), for parameters in two stages, and
    for models that cannot be followed.

    >>> net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 9))
    >>> [list(stage.state_dict()) for stage in from_module(net, ["1", "3"], (4,))]
    [['0.weight', '0.bias'], ['2.weight', '2.bias']]
    """
    cuts = _checked(model, cuts)
    programs = {training: merged([_followed(model, cuts, trial(input_shape, dtype, samples), training)
                                  for samples in SAMPLES], SAMPLES) for training in (True, False)}
    stages = [Stage(model, {training: of[number] for training, of in programs.items()}) for number in range(len(cuts))]
    _check_apart(stages, cuts)
    return list(stages)


def _names(model: nn.Module) -> list[str]:
    """Names of modules, parameters and buffers, a module before what is in it."""
    names = []
    for name, module in model.named_modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        names += [name, *(f"{name}.{last}" if name else last for last, _ in own)]
    return names


def _checked(model: nn.Module, cuts: Any) -> list[str]:
    if isinstance(cuts, str) or not isinstance(cuts, Iterable) or not all(isinstance(cut, str) for cut in cuts) or (
            not list(cuts)):
        raise ValueError(f"cuts={cuts!r} is no list of names of modules, such as ['layer1', 'layer2'].")
    modules = dict(model.named_modules(remove_duplicate=False))
    for cut in cuts:
        if cut not in modules:
            near = get_close_matches(cut, modules, 8) or [name for name, _ in model.named_children()]
            raise ValueError(unknown(f"module of {type(model).__name__}", cut, near) + " These are "
                             f"{len(near)} of {len(modules)}; model.named_modules() has all.")
        if list(cuts).count(cut) > 1:
            raise ValueError(f"Cut {cut!r} is named twice; one stage ends there.")
    return list(cuts)


def _followed(model: nn.Module, cuts: list[str], x: Tensor, training: bool) -> Tape:
    """What the model does with `x`, written down up to the last cut."""
    try:
        tape = Tape(model, cuts, training)
        tape.follow(x)
    except Uncuttable:
        raise
    except Exception as error:  # a stranger's forward pass may raise anything
        raise ValueError(f"{type(model).__name__} cannot be followed with samples of shape {tuple(x.shape[1:])}, "
                         f"{x.dtype}, on the meta device, where tensors have no values to decide by: {error}"
                         ) from error
    return tape


def _check_apart(stages: Sequence[nn.Module], cuts: Sequence[str]) -> None:
    """Raise ValueError for a parameter or buffer in two stages; buffers that no state has are constants, and may be."""
    homes: dict[int, str] = {}
    for stage, cut in zip(stages, cuts, strict=True):
        for name, tensor in stage.state_dict(keep_vars=True).items():
            other = homes.setdefault(id(tensor), cut)
            if other != cut:
                raise ValueError(f"{name!r} is used before cut {other!r} and again before {cut!r}: a weight belongs to "
                                 "one stage. Leave out the cuts in between.")
