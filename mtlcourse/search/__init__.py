"""Architecture learning: bilevel optimisation, and the searches that stand on it."""

from .bilevel import BilevelStep, halves, summed
from .branches import Supernet
from .conal_pro import ProgressiveSupernet
from .searching import search

__all__ = ["BilevelStep", "ProgressiveSupernet", "Supernet", "halves", "search", "summed"]
