"""Searches for cells: the space of DARTS, its supernet, the derived network, and how large that will be."""

from .genotype import DARTS_V1, DARTS_V2, P_DARTS, PC_DARTS, PUBLISHED, CellSpace, Genotype
from .network import CellNetwork
from .operations import OPERATIONS
from .resources import Resources
from .supernet import CellSupernet

__all__ = ["DARTS_V1", "DARTS_V2", "OPERATIONS", "PC_DARTS", "PUBLISHED", "P_DARTS", "CellNetwork", "CellSpace",
           "CellSupernet", "Genotype", "Resources"]
