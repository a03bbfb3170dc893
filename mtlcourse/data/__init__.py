"""Problems: one file per family; every function returns a `Problem`, or a `DomainProblem` where domains differ.

Imports `files`, `tasks`, `losses` and `metrics`. Offline and always there: `digits_mtl`, `mt10`, `multidigits`,
`relatedness`, `robust_digits`, `rooms`, `tagged`, `twins`. `cifar_mtl`, `cifar100_mtl`, `coco`, `multimnist`, `sarcos`,
those of `office` and the image sets of the papers in `benchmarks` are read from what scripts in `data_scripts` make,
`robust_cifar10`, `robust_cifar100` and `xtreme` from published files. Splits: tensors, torch datasets, mapped files.
`landscapes` gives losses of two numbers, to walk on; they are no problems. `digit_domains` has a source domain with
labels and targets without, and so have `image_domains` and `visda2017`, for those who have their images. `check` looks
for what is wrong with the data of any problem.
"""

from . import (
    benchmarks,
    cifar100,
    coco,
    digit_domains,
    image_domains,
    languages,
    mapped,
    mt10,
    multidigits,
    office,
    one_against_all,
    relatedness,
    robust_cifar,
    robust_digits,
    rooms,
    sarcos,
    tagged,
    twins,
)
from .checking import check
from .collating import padded, resized
from .datasets import DatasetSplit
from .domains import DomainProblem, DomainView, Target, Unlabelled
from .kinds import binary, classification, depth, normals, regression, segmentation, tagging
from .landscapes import Landscape, landscapes
from .languages import xtreme
from .mapped_split import MappedSplit
from .registry import describe, domains, introduce, load, names, register
from .twins import twin_weights

__all__ = ["DatasetSplit", "DomainProblem", "DomainView", "Landscape", "MappedSplit", "Target", "Unlabelled",
           "benchmarks", "binary", "check", "cifar100", "classification", "coco", "depth", "describe", "digit_domains",
           "domains", "image_domains", "introduce", "landscapes", "languages", "load", "mapped", "mt10", "multidigits",
           "names", "normals", "office", "one_against_all", "padded", "register", "regression", "relatedness",
           "resized", "robust_cifar", "robust_digits", "rooms", "sarcos", "segmentation", "tagged", "tagging",
           "twin_weights", "twins", "xtreme"]
