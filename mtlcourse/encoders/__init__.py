"""Staged encoders, and the decoders ("heads") that sit on them.

Imports `files` and `tasks`. An encoder is a list of stages, the "modules" of the papers, applied in
turn; sharing architectures decide, stage by stage, what tasks have in common. It also knows which
decoder belongs on it.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence

from ..files import unknown
from .backbones import deeplab_resnet, mobilenet, resnet, vgg, wide_resnet
from .decoders import DenseDecoder, decoder
from .plain import conv, mlp
from .staged import ShapesOnly, StagedEncoder, size

__all__ = ["BUILDERS", "DenseDecoder", "ShapesOnly", "StagedEncoder", "build", "conv", "decoder", "deeplab_resnet",
           "mlp", "mobilenet", "resnet", "size", "vgg", "wide_resnet"]

# All but the first two need the `vision` extra.
BUILDERS: dict[str, Callable[..., StagedEncoder]] = {
    "mlp": mlp, "conv": conv, "resnet": resnet, "deeplab_resnet": deeplab_resnet, "vgg": vgg, "mobilenet": mobilenet,
    "wide_resnet": wide_resnet}


def build(spec: Mapping, input_shape: Sequence[int]) -> StagedEncoder:
    """The encoder that plain data describe, such as `{"name": "conv", "channels": [8, 16]}`.

    Raises ValueError for an unknown name or option, naming the known ones.

    >>> build({"name": "mlp", "widths": [5, 3]}, (4,)).shapes
    [(4,), (5,), (3,)]
    """
    options = dict(spec)
    name = options.pop("name", None)
    if name not in BUILDERS:
        raise ValueError(unknown("encoder", str(name), BUILDERS))
    known = list(inspect.signature(BUILDERS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of encoder {name!r}", option, known))
    return BUILDERS[name](input_shape, **options)
