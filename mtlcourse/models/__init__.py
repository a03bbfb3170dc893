"""Sharing architectures: how tasks share the stages of an encoder."""

from .base import MTLModel
from .hps import HPS
from .stl import STL

__all__ = ["HPS", "STL", "MTLModel"]
