"""Problems: one file per family; every function returns a `Problem`.

Imports `tasks`, `losses` and `metrics`. Offline and always there: `multidigits`, `rooms`, `relatedness`.
"""

from . import multidigits, relatedness, rooms
from .kinds import binary, classification, depth, normals, regression, segmentation
from .registry import describe, load, names, register

__all__ = ["binary", "classification", "depth", "describe", "load", "multidigits", "names", "normals", "register",
           "regression", "relatedness", "rooms", "segmentation"]
