"""Searches for what tasks share: the supernet of branches, and its rivals."""

from .branches import Supernet
from .conal_pro import ProgressiveSupernet

__all__ = ["ProgressiveSupernet", "Supernet"]
