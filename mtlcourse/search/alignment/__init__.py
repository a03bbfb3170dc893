"""Searching for the cells behind a backbone in which two domains become alike."""

from .configurations import agreement, every_configuration
from .controller import ByLot, Fixed, Policy, Reinforce, reinforce
from .network import AlignmentNetwork
from .search import SearchStep, aas
from .space import AlignmentSpace

__all__ = ["AlignmentNetwork", "AlignmentSpace", "ByLot", "Fixed", "Policy", "Reinforce", "SearchStep", "aas",
           "agreement", "every_configuration", "reinforce"]
