"""Problems: one file per family; every function returns a `Problem`.

Imports `tasks`, `losses` and `metrics`. Offline and always there: `multidigits`, `rooms`, `relatedness`, `twins`.
`benchmarks` describes the image sets of the papers; the images are not here. `landscapes` gives losses of
two numbers, to walk on; they are no problems.
"""

from . import benchmarks, multidigits, relatedness, rooms, twins
from .kinds import binary, classification, depth, normals, regression, segmentation
from .landscapes import Landscape, landscapes
from .registry import describe, load, names, register
from .twins import twin_weights

__all__ = ["Landscape", "benchmarks", "binary", "classification", "depth", "describe", "landscapes", "load",
           "multidigits", "names", "normals", "register", "regression", "relatedness", "rooms", "segmentation",
           "twin_weights", "twins"]
