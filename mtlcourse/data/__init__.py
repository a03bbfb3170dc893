"""Problems: one file per family; every function returns a `Problem`.

Imports `files`, `tasks`, `losses` and `metrics`. Offline and always there: `digits_mtl`, `multidigits`,
`relatedness`, `rooms`, `twins`. `cifar_mtl` is read from a file that a script in `data_scripts` makes. `benchmarks`
describes the other image sets of the papers; their images are not here. `landscapes` gives losses of two numbers, to
walk on; they are no problems.
"""

from . import benchmarks, multidigits, one_against_all, relatedness, rooms, twins
from .kinds import binary, classification, depth, normals, regression, segmentation
from .landscapes import Landscape, landscapes
from .registry import describe, load, names, register
from .twins import twin_weights

__all__ = ["Landscape", "benchmarks", "binary", "classification", "depth", "describe", "landscapes", "load",
           "multidigits", "names", "normals", "one_against_all", "register", "regression", "relatedness", "rooms",
           "segmentation", "twin_weights", "twins"]
