"""Sharing architectures: how tasks share the stages of an encoder."""

from .base import MTLModel
from .dsmtl import DSMTL
from .hps import HPS, WideHPS
from .stl import STL

__all__ = ["DSMTL", "HPS", "MTLModel", "STL", "WideHPS"]
