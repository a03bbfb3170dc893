"""Strategies: how m task losses become one update."""

from .balance import Aligned, EqualProjections, FairShares, NashBargaining
from .base import (
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
from .engine import Engine, backward
from .equal import EqualWeighting
from .graddrop import GradientSignDropout
from .gradnorm import GradNorm
from .gram import average
from .notice import ConflictNoticing
from .shortest import ConflictAverse, MultipleGradientDescent, UnconflictingProjection
from .surgery import GradientClipping, GradientVaccine, ProjectConflicting
from .weighting import DynamicWeightAverage, FastAdaptiveWeighting, GeometricLoss, RandomWeighting, UncertaintyWeighting

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
}.items():
    register(_name)(_strategy)

__all__ = ["Aligned", "BalancedWeighting", "Chain", "ConflictAverse", "ConflictNoticing", "Curriculum",
           "DynamicWeightAverage", "Engine", "EqualProjections", "EqualWeighting", "FairShares",
           "FastAdaptiveWeighting", "GeometricLoss", "GradNorm", "GradientClipping", "GradientSignDropout",
           "GradientVaccine", "GramStrategy", "Maximum", "MultipleGradientDescent", "NashBargaining", "NonFinite",
           "NonFiniteGradient", "NonFiniteLoss", "ProjectConflicting", "RandomWeighting", "SmoothTchebycheff",
           "SoftMaximum", "Strategy", "TaskWeights", "UncertaintyWeighting", "UnconflictingProjection", "average",
           "backward", "combine", "make", "names", "register"]
