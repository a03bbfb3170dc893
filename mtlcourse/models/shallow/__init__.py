"""Shallow multi-task learning: linear tasks with a penalty in common, solved to their optimum.

`losses` and `penalties` are what is minimised, `solver` does it, `linear` holds the models, and `relation` says which
of them saliency regularisation has as special cases.
"""

from .linear import L21, MTRL, RMTL, FeatureCovariance, Lasso, Shallow
from .losses import Losses, collect
from .penalties import learned_covariance
from .relation import Pairs, as_pairs
from .solver import Solution, grid, path, solve

__all__ = ["L21", "MTRL", "RMTL", "FeatureCovariance", "Lasso", "Losses", "Pairs", "Shallow", "Solution", "as_pairs",
           "collect", "grid", "learned_covariance", "path", "solve"]
