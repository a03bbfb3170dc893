"""Sharing architectures: how tasks share the stages of an encoder."""

from .afa import AFA
from .aligned import Aligned, DomainModel, Seen
from .base import MTLModel
from .cross_stitch import CrossStitch
from .dsmtl import DSMTL
from .experts import CGC, PLE, MMoE
from .fallback import Fallback
from .hps import HPS
from .mrn import MRN
from .mtan import MTAN
from .nddr import NDDR
from .roaming import MaxRoam
from .rotograd import RotoGrad
from .shallow import L21, MTRL, RMTL, FeatureCovariance, Lasso, Shallow
from .srdml import SRDML
from .stl import STL
from .switching import TSN
from .tensors import DMTRL, TNRMTL
from .tree import Tree
from .wide import WideHPS, WideSTL

__all__ = [
    "AFA", "Aligned", "CGC", "CrossStitch", "DMTRL", "DSMTL", "DomainModel", "Fallback", "FeatureCovariance", "HPS",
    "L21", "Lasso", "MMoE", "MRN", "MTAN", "MTLModel", "MTRL", "MaxRoam", "NDDR", "PLE", "RMTL", "RotoGrad",
    "SRDML", "STL", "Seen", "Shallow", "TNRMTL", "TSN", "Tree", "WideHPS", "WideSTL",
]
