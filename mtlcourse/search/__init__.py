"""Architecture learning: bilevel optimisation, and the searches that stand on it."""

from .alignment import AlignmentNetwork, AlignmentSpace
from .bilevel import BilevelStep, halves, summed
from .searching import search
from .sharing import ProgressiveSupernet, Supernet

__all__ = ["AlignmentNetwork", "AlignmentSpace", "BilevelStep", "ProgressiveSupernet", "Supernet", "halves",
           "search", "summed"]
