"""Staged encoders, and the decoders ("heads") that sit on them.

Imports `files` and `tasks`. An encoder is a list of stages, the "modules" of the papers, applied in
turn; sharing architectures decide, stage by stage, what tasks have in common. It also knows which
decoder belongs on it.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..files import imported, unknown
from .adapting import freeze, lora, merge, stays
from .backbones import deeplab_resnet, mobilenet, resnet, vgg, wide_resnet
from .cutting import from_module
from .decoders import ACTIVATIONS, DenseDecoder, decoder, deeper, heads
from .language import bert, window
from .packing import Packing
from .plain import conv, mlp
from .staged import ShapesOnly, StagedEncoder, size, trial

__all__ = ["ACTIVATIONS", "BUILDERS", "DenseDecoder", "Packing", "ShapesOnly", "StagedEncoder", "as_stages", "bert",
           "build", "conv", "decoder", "deeper", "deeplab_resnet", "freeze", "from_module", "heads", "lora", "merge",
           "mlp", "mobilenet", "resnet", "size", "stays", "trial", "vgg", "wide_resnet", "window"]

# "bert" needs the `text` extra, all behind it the `vision` extra.
BUILDERS: dict[str, Callable[..., StagedEncoder]] = {
    "mlp": mlp, "conv": conv, "window": window, "bert": bert, "resnet": resnet, "deeplab_resnet": deeplab_resnet,
    "vgg": vgg, "mobilenet": mobilenet, "wide_resnet": wide_resnet}
COMMON = ("head", "activation", "cuts", "frozen", "lora")  # what a spec may say of every encoder
OF_LORA = ("rank", "alpha", "stages")


def build(spec: Mapping | str, input_shape: Sequence[int], dtype: torch.dtype | None = None) -> StagedEncoder:
    """The encoder that plain data describe, such as `{"name": "conv", "channels": [8, 16]}`; a name alone is one, too.

    One of your own is the address of a function, `{"name": "package.module:function", "width": 32}`, which is called
    as `function(input_shape, width=32)` and returns new stages: a list of modules, or a `StagedEncoder`. With
    `"cuts": ["layer1", "layer2"]` it returns one model, of which `from_module` makes stages.
    Options that belong to every encoder, and so to every architecture:

    - `"head": [128]` gives each task's head a hidden layer of that width on the flattened map, and `"activation":
      "softplus"` what follows it (default: "relu"); `"head": "package.module:function"` are heads of your own, and
      `"head": {task: ...}` says it for some tasks, see `decoders.heads`;
    - `"frozen": 2` keeps the first two stages as they are, see `freeze`;
    - `"lora": {"rank": 4, "alpha": 8, "stages": [3, 4]}` has stages learn by low-rank additions, see `lora`; `"lora":
      4` has all that are not frozen, with alpha = rank.

    dtype: of the inputs, see `StagedEncoder`; a function gives it itself where it returns one.
    Raises ValueError for an unknown name or option, naming the known ones, TypeError for stages that are none.

    >>> build({"name": "mlp", "widths": [5, 3]}, (4,)).shapes
    [(4,), (5,), (3,)]
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    common = {key: options.pop(key) for key in COMMON if key in options}
    if "activation" in common and "head" not in common:
        raise ValueError(f"activation={common['activation']!r} is that of a head's hidden layers; give their "
                         "widths, such as 'head': [128].")
    adding = common.get("lora", {})
    adding = adding if isinstance(adding, Mapping) else {"rank": adding}
    for option in adding:
        if option not in OF_LORA:
            raise ValueError(unknown("option of lora", str(option), OF_LORA))
    encoder = _named(name, options, common.get("cuts"), input_shape, dtype)
    if "head" in common:
        encoder.decoder = heads(common["head"], common.get("activation"))
    if "frozen" in common:
        freeze(encoder, common["frozen"])
    if "lora" in common:
        lora(encoder, *(adding.get(option) for option in OF_LORA))
    return encoder


def _named(name: Any, options: Mapping, cuts: Any, input_shape: Sequence[int],
           dtype: torch.dtype | None) -> StagedEncoder:
    if isinstance(name, str) and ":" in name:
        return _own(name, options, cuts, input_shape, dtype)
    if not isinstance(name, str | None):
        raise TypeError(f"An encoder's name is {type(name).__name__}: name what is your own by its address, "
                        "'package.module:function', or give the modules in place of the spec.")
    if name not in BUILDERS:
        raise ValueError(unknown("encoder", str(name), BUILDERS))
    if cuts is not None:
        raise ValueError(f"cuts={cuts!r} divide a model of your own, and {name!r} has its stages.")
    known = list(inspect.signature(BUILDERS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of encoder {name!r}", option, known))
    return BUILDERS[name](input_shape, **options)


def _own(address: str, options: Mapping, cuts: Any, input_shape: Sequence[int],
         dtype: torch.dtype | None) -> StagedEncoder:
    """What the function at `address` makes."""
    stages = imported(address, "encoder", "a function that returns an encoder's stages")(input_shape, **options)
    if cuts is not None:
        if not isinstance(stages, nn.Module) or isinstance(stages, StagedEncoder):
            raise TypeError(f"{address!r} returned {type(stages).__name__}; with cuts it returns one model, a module.")
        return StagedEncoder(from_module(stages, cuts, input_shape, dtype), input_shape, dtype=dtype)
    if isinstance(stages, StagedEncoder):
        return stages
    return StagedEncoder(as_stages(stages, f"{address!r} returned"), input_shape, dtype=dtype)


def as_stages(given: Any, found: str = "The encoder is") -> list[nn.Module]:
    """The modules in `given`, if it is a list of modules. Raises TypeError, which begins with `found`, otherwise."""
    made = list(given) if isinstance(given, Iterable) else []
    if isinstance(given, Iterable) and all(isinstance(stage, nn.Module) for stage in made):
        return made
    whole = (" One model becomes stages by encoders.from_module(model, cuts=[...], input_shape=...), or by 'cuts': "
             "[...] in the spec that names its function; [model] is a single stage."
             if isinstance(given, nn.Module) else "")
    raise TypeError(f"{found} {type(given).__name__}; an encoder's stages are a list of modules, or a StagedEncoder."
                    f"{whole}")
