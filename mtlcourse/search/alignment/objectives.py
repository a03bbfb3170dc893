"""What a search minimises: the source's loss, and a distance between the domains.

Imports `data`, `files`, `models`, `tasks`, `training`, its folder's `network`, `space`.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...data import DomainView
from ...files import unknown
from ...tasks import Batch
from ...training.adaptation import Losses, Objective
from ...training.adversaries import LogisticDistance
from ...training.aligning import DISTANCES, Aligning, SourceOnly
from .network import AlignmentNetwork
from .space import cell

LEARNED = "a-distance"  # it takes a classifier of its own
NAMES = (*DISTANCES, LEARNED)
APART = "opponent"  # a loss of such a classifier, which is no part of the objective


def objective(distance: str | None, weight: Any, view: DomainView, model: AlignmentNetwork) -> Objective:
    """The source's loss plus `weight` times the distance; for None the source's loss alone.

    Raises ValueError for an unknown distance, naming the known ones, and for a weight below 0.
    """
    if distance is None:
        return SourceOnly()
    if distance == LEARNED:
        return LogisticByWidth(view, model, weight)
    if distance not in DISTANCES:
        raise ValueError(unknown("distance", str(distance), NAMES))
    return Aligning(DISTANCES[distance], weight)


class LogisticByWidth(nn.Module):
    """`LogisticDistance` where what is aligned can have several widths: a classifier for each.

    Arguments as of `LogisticDistance`.
    """

    def __init__(self, view: DomainView, model: AlignmentNetwork, weight: Any = 1.0):
        super().__init__()
        before, space, self.of_width = model.configuration, model.space, nn.ModuleDict()
        for halved in range(space.cells + 1):
            chosen = space[0] | {f"input_{k}": cell(k - 1) for k in range(1, space.cells)}
            chosen |= {f"size_{k}": "half" for k in range(halved)}
            chosen |= {end: cell(max(halved - 1, 0)) for end in ("align", "classify") if end in chosen}
            model.take(chosen)
            self.of_width[str(model.aligned)] = LogisticDistance(view, model, weight)
        model.take(before)

    def forward(self, model: AlignmentNetwork, batch: Batch, targets: Mapping[str, Tensor]) -> Losses:
        return self.of_width[str(model.aligned)](model, batch, targets)
