"""Problems: one file per family; every function returns a `Problem`, or a `DomainProblem` where domains differ.

Imports `files`, `tasks`, `losses` and `metrics`. Offline and always there: `digits_mtl`, `multidigits`,
`relatedness`, `robust_digits`, `rooms`, `twins`. `cifar_mtl`, `cifar100_mtl`, `multimnist`, `sarcos` and the image sets
of the papers in `benchmarks` are read from what scripts in `data_scripts` make, `robust_cifar10` and `robust_cifar100`
from published files. Splits: tensors, torch datasets, mapped files. `landscapes` gives losses of two numbers, to walk
on; they are no problems. `digit_domains` has a source domain with labels and targets without, and so has
`image_domains`, for those who have its images.
"""

from . import (
    benchmarks,
    cifar100,
    digit_domains,
    image_domains,
    mapped,
    multidigits,
    one_against_all,
    relatedness,
    robust_cifar,
    robust_digits,
    rooms,
    sarcos,
    twins,
)
from .collating import padded, resized
from .datasets import DatasetSplit
from .domains import DomainProblem, DomainView, Target, Unlabelled
from .kinds import binary, classification, depth, normals, regression, segmentation
from .landscapes import Landscape, landscapes
from .mapped_split import MappedSplit
from .registry import describe, domains, load, names, register
from .twins import twin_weights

__all__ = ["DatasetSplit", "DomainProblem", "DomainView", "Landscape", "MappedSplit", "Target", "Unlabelled",
           "benchmarks", "binary", "cifar100", "classification", "depth", "describe", "digit_domains", "domains",
           "image_domains", "landscapes", "load", "mapped", "multidigits", "names", "normals", "one_against_all",
           "padded", "register", "regression", "relatedness", "resized", "robust_cifar", "robust_digits", "rooms",
           "sarcos", "segmentation", "twin_weights", "twins"]
