"""The figures of the course and of the report, in one style.

    figures.learning_curves(...)        training and pictures stand here
    figures.safety.heat_map(report)     who got worse;  sharing: what models share;  trees: where tasks leave
    figures.directions.three_rules(G)   what two gradients become
    figures.relations.heat_maps(tables) who is related to whom
    figures.alignment.architecture(run) which cells align two domains
    figures.cells.genotype(run)         cells that were found;  their objectives, sizes, Pareto fronts
    figures.page.write(...)             the report as one page
"""

from . import alignment, cells, directions, page, relations, safety, sharing, trees
from .pictures import draw_dense, draw_image, error_map, images, predictions
from .style import COLUMN, panels, setup, shade, show
from .training import DIAGNOSTICS, diagnostics, differences, learning_curves, paired_differences

__all__ = [
    "COLUMN", "DIAGNOSTICS", "alignment", "cells", "diagnostics", "differences", "directions", "draw_dense",
    "draw_image", "error_map", "images", "learning_curves", "page", "paired_differences", "panels", "predictions",
    "relations", "safety", "setup", "shade", "sharing", "show", "trees",
]
