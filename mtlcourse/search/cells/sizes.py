"""Supernets that know which network is derived from them: the models of the methods `darts`, `e2rnas` and their kin.

Imports `tasks` and its folder.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...files import unknown
from ...tasks import Problem
from .genotype import Genotype
from .network import CellNetwork
from .resources import Resources
from .supernet import CellSupernet

# "paper": sections 3.3.2.1 to 3.3.2.3 of Learning Architecture for Multiple Tasks in Transfer Learning, P-DARTS and
# PC-DARTS as their sources have them. "course": what a laptop does in a minute.
SIZES: dict[str, dict[str, Any]] = {
    "course": {"cells": 3, "channels": 4, "nodes": 2, "derived_cells": 3, "derived_channels": 6, "auxiliary": False,
               "drop_path": 0.0, "cutout": 0.0, "stages": (3, 4, 5), "partial": 2},
    "paper": {"cells": 8, "channels": 16, "nodes": 4, "derived_cells": 20, "derived_channels": 36, "auxiliary": True,
              "drop_path": 0.2, "cutout": 0.5, "stages": (5, 11, 17), "partial": 4}}
ON = ("darts", "p-darts", "pc-darts")
KEPT = (8, 5, 3)  # operations of an edge in the three stages of P-DARTS
SKIP_DROPOUT = (0.0, 0.4, 0.7)


class CellSearch(CellSupernet):
    """A `CellSupernet` with the sizes of a search, and of the network that is derived and trained afterwards.

    sizes: "course" or "paper", all of those below at once; each can be given besides.
    cells, channels, nodes: of the supernet.  derived_cells, derived_channels, auxiliary, drop_path, cutout: of the
        network, see `CellNetwork`.
    on: "darts"; "p-darts", in three stages of `stages` cells; "pc-darts", one of `partial` channels passes the
        operations.
    Raises ValueError for unknown sizes, an unknown `on`, and what `CellSupernet` refuses.
    """

    def __init__(self, problem: Problem, sizes: str = "course", on: str = "darts", cells: int | None = None,
                 channels: int | None = None, nodes: int | None = None, derived_cells: int | None = None,
                 derived_channels: int | None = None, auxiliary: bool | None = None,
                 drop_path: float | int | None = None, cutout: float | int | None = None,
                 stages: Sequence[int] | None = None, partial: int | None = None,
                 allowed: Sequence[torch.Tensor] | None = None, skip_dropout: float = 0.0):
        if sizes not in SIZES:
            raise ValueError(unknown("sizes", str(sizes), SIZES))
        if on not in ON:
            raise ValueError(unknown("search to build on", str(on), ON))
        given = {"cells": cells, "channels": channels, "nodes": nodes, "derived_cells": derived_cells,
                 "derived_channels": derived_channels, "auxiliary": auxiliary, "drop_path": drop_path,
                 "cutout": cutout, "stages": stages, "partial": partial}
        found = SIZES[sizes] | {name: value for name, value in given.items() if value is not None}
        if on == "p-darts" and len(found["stages"]) != len(KEPT):
            raise ValueError(f"stages={found['stages']!r}: P-DARTS has three stages; give the cells of each.")
        depth = found["stages"][0] if on == "p-darts" and cells is None else found["cells"]
        super().__init__(problem, depth, found["channels"], found["nodes"],
                         partial=found["partial"] if on == "pc-darts" else 1, allowed=allowed,
                         skip_dropout=skip_dropout)
        self.on, self.found = on, found

    def derive(self, problem: Problem, genotype: Genotype) -> CellNetwork:
        """The network of `genotype`, untrained."""
        found = self.found
        return CellNetwork(problem, genotype, found["derived_cells"], found["derived_channels"],
                           auxiliary=found["auxiliary"], drop_path=found["drop_path"], cutout=found["cutout"])

    def discrete(self, problem: Problem, learned: Mapping[str, Any]) -> CellNetwork:
        """The network that a search has found, untrained, out of what the search's `learned` says."""
        return self.derive(problem, Genotype.from_dict(learned["genotype"]))

    def resources(self, problem: Problem) -> Resources:
        """Sizes of derived networks."""
        return Resources.of(problem, self.space, self.found["derived_cells"], self.found["derived_channels"])

    def later(self, problem: Problem, stage: int) -> "CellSearch":
        """P-DARTS: the supernet of stage 1 or 2 (the first being 0), deeper, with this one's strongest operations."""
        given = {name: value for name, value in self.found.items() if name != "cells"}
        return CellSearch(problem, on="p-darts", cells=self.found["stages"][stage], **given,
                          allowed=self.space.strongest(self.alphas(), KEPT[stage]), skip_dropout=SKIP_DROPOUT[stage])


_SIGNATURE = inspect.signature(CellSearch)
# What those below take, for whoever asks which options there are: all but `on`, which each of them sets itself.
_WITHOUT_ON = _SIGNATURE.replace(parameters=[one for name, one in _SIGNATURE.parameters.items() if name != "on"])


class ProgressiveSearch(CellSearch):
    """`CellSearch` on P-DARTS."""

    __signature__ = _WITHOUT_ON

    def __init__(self, problem: Problem, **options: Any):
        super().__init__(problem, on="p-darts", **options)


class PartialSearch(CellSearch):
    """`CellSearch` on PC-DARTS."""

    __signature__ = _WITHOUT_ON

    def __init__(self, problem: Problem, **options: Any):
        super().__init__(problem, on="pc-darts", **options)
