"""Strategies: how m task losses become one update."""

from .balance import Aligned, ConflictFree, EqualProjections, FairShares, NashBargaining
from .base import (
    DirectionStrategy,
    GramStrategy,
    NonFinite,
    NonFiniteGradient,
    NonFiniteLoss,
    Strategy,
    TaskWeights,
    combine,
    make,
    names,
    register,
)
from .chain import Chain
from .difficulty import BalancedWeighting, Curriculum, Maximum, SmoothTchebycheff, SoftMaximum
from .engine import Engine
from .equal import EqualWeighting, FixedWeighting
from .graddrop import GradientSignDropout
from .gradnorm import GradNorm
from .gram import average
from .magnitudes import EqualMagnitudes
from .notice import ConflictNoticing
from .once import backward
from .preference import CosineScalarization, PenaltyBoundary
from .priority import PriorityConstrained
from .robust import Krum, TrimmedMean
from .shortest import (
    ConflictAverse,
    DirectionOriented,
    DualProjection,
    MultipleGradientDescent,
    UnconflictingProjection,
)
from .smoothing import SmoothedWeights
from .surgery import GradientClipping, GradientVaccine, ProjectConflicting
from .tracking import DualBalancing, ExcessRisk, GradientCorrection
from .weighting import (
    DynamicWeightAverage,
    FastAdaptiveWeighting,
    GeometricLoss,
    RandomGradientWeighting,
    RandomWeighting,
    ScaleLearning,
    UncertaintyWeighting,
)

# Names as methods use them ("hps+pcgrad"), in the order in which tables list them.
for _name, _strategy in {
    "ew": EqualWeighting,
    # from losses to weights
    "uw": UncertaintyWeighting,
    "dwa": DynamicWeightAverage,
    "gls": GeometricLoss,
    "rlw": RandomWeighting,
    "gradnorm": GradNorm,
    "max": Maximum,
    "smax": SoftMaximum,
    "cl": Curriculum,
    "bmtl": BalancedWeighting,
    # from gradients to weights
    "mgda": MultipleGradientDescent,
    "pcgrad": ProjectConflicting,
    "cagrad": ConflictAverse,
    "mamg": GradientClipping,
    "imtl-g": EqualProjections,
    "nash": NashBargaining,
    "aligned": Aligned,
    "gradvac": GradientVaccine,
    "upgrad": UnconflictingProjection,
    "fairgrad": FairShares,
    # losses again, newer
    "famo": FastAdaptiveWeighting,
    "stch": SmoothTchebycheff,
    # from gradients, module by module, to weights
    "notice": ConflictNoticing,
    # from gradients to a direction
    "graddrop": GradientSignDropout,
    # chosen beforehand, and tuned
    "fixed": FixedWeighting,
    # losses once more
    "imtl-l": ScaleLearning,
    "cosmos": CosineScalarization,
    "pbi": PenaltyBoundary,
    # gradients once more
    "config": ConflictFree,
    "dualproj": DualProjection,
    "sdmgrad": DirectionOriented,
    "pcd": PriorityConstrained,
    "rgw": RandomGradientWeighting,
    "krum": Krum,
    "cr-mogm": SmoothedWeights,
    # gradients to a direction once more; the last three remember them
    "trimmed-mean": TrimmedMean,
    "moco": GradientCorrection,
    "db-mtl": DualBalancing,
    "excess-mtl": ExcessRisk,
    # to an architecture's rotations
    "rotograd-scale": EqualMagnitudes,
}.items():
    register(_name)(_strategy)

__all__ = ["Aligned", "BalancedWeighting", "Chain", "ConflictAverse", "ConflictFree", "ConflictNoticing",
           "CosineScalarization", "Curriculum", "DirectionOriented", "DirectionStrategy", "DualBalancing",
           "DualProjection", "DynamicWeightAverage", "Engine", "EqualMagnitudes", "EqualProjections", "EqualWeighting",
           "ExcessRisk", "FairShares", "FastAdaptiveWeighting", "FixedWeighting", "GeometricLoss", "GradNorm",
           "GradientClipping", "GradientCorrection", "GradientSignDropout", "GradientVaccine", "GramStrategy", "Krum",
           "Maximum", "MultipleGradientDescent", "NashBargaining", "NonFinite", "NonFiniteGradient", "NonFiniteLoss",
           "PenaltyBoundary", "PriorityConstrained", "ProjectConflicting", "RandomGradientWeighting", "RandomWeighting",
           "ScaleLearning", "SmoothTchebycheff", "SmoothedWeights", "SoftMaximum", "Strategy", "TaskWeights",
           "TrimmedMean", "UncertaintyWeighting", "UnconflictingProjection", "average", "backward", "combine", "make",
           "names", "register"]
