"""Staged encoders, and the decoders ("heads") that sit on them.

Imports `files` and `tasks`. An encoder is a list of stages, the "modules" of the papers, applied in
turn; sharing architectures decide, stage by stage, what tasks have in common. It also knows which
decoder belongs on it.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn

from ..files import imported, unknown
from .backbones import deeplab_resnet, mobilenet, resnet, vgg, wide_resnet
from .decoders import ACTIVATIONS, DenseDecoder, decoder, deeper
from .plain import conv, mlp
from .staged import ShapesOnly, StagedEncoder, size, trial

__all__ = ["ACTIVATIONS", "BUILDERS", "DenseDecoder", "ShapesOnly", "StagedEncoder", "build", "conv", "decoder",
           "deeper", "deeplab_resnet", "mlp", "mobilenet", "resnet", "size", "trial", "vgg", "wide_resnet"]

# All but the first two need the `vision` extra.
BUILDERS: dict[str, Callable[..., StagedEncoder]] = {
    "mlp": mlp, "conv": conv, "resnet": resnet, "deeplab_resnet": deeplab_resnet, "vgg": vgg, "mobilenet": mobilenet,
    "wide_resnet": wide_resnet}
HEAD = ("head", "activation")  # what a spec says of the heads


def build(spec: Mapping, input_shape: Sequence[int], dtype: torch.dtype | None = None) -> StagedEncoder:
    """The encoder that plain data describe, such as `{"name": "conv", "channels": [8, 16]}`.

    One of your own is the address of a function, `{"name": "package.module:function", "width": 32}`, which is called
    as `function(input_shape, width=32)` and returns new stages: a list of modules, or a `StagedEncoder`.
    Two options belong to every encoder, and so to every architecture: `"head": [128]` gives each task's head a hidden
    layer of that width on the flattened map, and `"activation": "softplus"` what follows it (default: "relu").
    dtype: of the inputs, see `StagedEncoder`; a function gives it itself where it returns one.
    Raises ValueError for an unknown name or option, naming the known ones, TypeError for stages that are none.

    >>> build({"name": "mlp", "widths": [5, 3]}, (4,)).shapes
    [(4,), (5,), (3,)]
    """
    options = dict(spec)
    name = options.pop("name", None)
    if (hidden := {key: options.pop(key) for key in HEAD if key in options}):
        if "head" not in hidden:
            raise ValueError(f"activation={hidden['activation']!r} is that of a head's hidden layers; give their "
                             "widths, such as 'head': [128].")
        encoder = build({"name": name, **options}, input_shape, dtype)
        encoder.decoder = deeper(hidden["head"], hidden.get("activation", "relu"))
        return encoder
    if isinstance(name, str) and ":" in name:
        return _own(name, options, input_shape, dtype)
    if name not in BUILDERS:
        raise ValueError(unknown("encoder", str(name), BUILDERS))
    known = list(inspect.signature(BUILDERS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of encoder {name!r}", option, known))
    return BUILDERS[name](input_shape, **options)


def _own(address: str, options: Mapping, input_shape: Sequence[int], dtype: torch.dtype | None) -> StagedEncoder:
    """What the function at `address` makes."""
    stages = imported(address, "encoder", "a function that returns an encoder's stages")(input_shape, **options)
    if isinstance(stages, StagedEncoder):
        return stages
    made = list(stages) if isinstance(stages, Iterable) else [stages]
    if not isinstance(stages, Iterable) or not all(isinstance(stage, nn.Module) for stage in made):
        raise TypeError(f"{address!r} returned {type(stages).__name__}; an encoder's function returns its stages, a "
                        "list of modules, or a StagedEncoder.")
    return StagedEncoder(made, input_shape, dtype=dtype)
