"""Two task gradients in the plane, and the direction that each of three rules makes of them.

Imports `strategies`. The ideas before their formulas: a projection, a segment, a ball. `arrow` and `harmless` are
their parts, for pictures of other rules.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..strategies import combine, make
from .style import panels

ORIGIN = (0.0, 0.0)
GRADIENT, HELP, RESULT = "0.25", "C7", "C3"  # colours: what is given, what is drawn to construct it, what comes out


def three_rules(gradients: Float[Tensor, "m n"], c: float = 0.4) -> Any:
    """PCGrad's projections, MGDA's segment, CAGrad's ball, one panel each, for two gradients of the plane.

    gradients: one row a task, neither zero, and not opposite to each other: then the directions that harm
        neither task form a wedge, which every panel shades.
    c: CAGrad's radius, as a share of the length of the mean gradient.
    Each direction is on the scale of its own paper: PCGrad's is a sum, the other two lie near the mean.
    Raises ValueError for anything but two rows of two numbers.
    """
    if gradients.shape != (2, 2):
        raise ValueError(f"The gradients have shape {tuple(gradients.shape)}; the picture shows two of two numbers.")
    g = gradients.detach().double()
    figure, axes = panels(1, 3, 3.0, 2.5)
    _project(axes[0, 0], g)
    _shorten(axes[0, 1], g)
    _surround(axes[0, 2], g, c)
    for axis in axes[0]:
        for gradient, name in zip(g, ("g1", "g2"), strict=True):
            arrow(axis, gradient, GRADIENT, name)
    limits = {"xlim": _limits(axes[0], 0), "ylim": _limits(axes[0], 1)}
    for axis in axes[0]:
        harmless(axis, g)
        axis.set(aspect="equal", xlabel="theta 1", **limits)
    axes[0, 0].set_ylabel("theta 2")
    return figure


def _project(axis: Any, g: Tensor) -> None:
    """Each gradient, what is left of it at a right angle to the other, and their sum."""
    product = (g[0] @ g[1]).clamp(max=0)
    changed = torch.stack([g[0] - product / (g[1] @ g[1]) * g[1], g[1] - product / (g[0] @ g[0]) * g[0]])
    for before, after, name in zip(g, changed, ("g1'", "g2'"), strict=True):
        _line(axis, before, after)
        arrow(axis, after, HELP, name)
        _line(axis, after, changed.sum(0))
    _result(axis, combine("pcgrad", g), "PCGrad: project, then add")


def _shorten(axis: Any, g: Tensor) -> None:
    """All convex combinations, and the one nearest to the origin."""
    axis.plot(*g.T, color=HELP, linewidth=3, zorder=1)
    _result(axis, combine("mgda", g) / 2, "MGDA: nearest on the segment")


def _surround(axis: Any, g: Tensor, c: float) -> None:
    """The ball around the mean, and its best point for the worse-off task."""
    from matplotlib.patches import Circle

    mean = g.mean(0)
    axis.add_patch(Circle(mean.tolist(), c * mean.norm().item(), fill=False, color=HELP, linewidth=1.5))
    arrow(axis, mean, HELP, "mean")
    _result(axis, combine(make("cagrad", c=c), g) / 2, "CAGrad: best in the ball")


def harmless(axis: Any, g: Float[Tensor, "2 2"]) -> None:
    """Shade the wedge of directions d with `g_t . d >= 0` for both: a small step along -d raises neither loss.

    It reaches beyond every panel: set the limits of the axis. The two gradients are not opposite to each other.
    """
    from matplotlib.patches import Wedge

    one, two = (math.atan2(y, x) for x, y in g.tolist())
    between = (two - one + math.pi) % (2 * math.pi) - math.pi  # the angle from g1 to g2, at most half a turn
    middle, reach = math.degrees(one + between / 2), math.degrees((math.pi - abs(between)) / 2)
    axis.add_patch(Wedge(ORIGIN, 10 * g.abs().max().item(), middle - reach, middle + reach, color="C2", alpha=0.15,
                         linewidth=0, zorder=0))


def _result(axis: Any, d: Tensor, title: str) -> None:
    arrow(axis, d, RESULT, "d")
    axis.set_title(title)


def arrow(axis: Any, tip: Float[Tensor, "2"], colour: str, name: str) -> None:
    """An arrow from the origin, with its name beyond the tip."""
    end = tip.tolist()
    axis.annotate("", end, ORIGIN, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.8,
                                               "shrinkA": 0, "shrinkB": 0})
    axis.annotate(name, end, xytext=[10 * part / max(tip.norm().item(), 1e-12) for part in end],
                  textcoords="offset points", color=colour, ha="center", va="center")
    axis.plot(*end, marker="none")  # an arrow alone does not widen the limits


def _line(axis: Any, start: Tensor, end: Tensor) -> None:
    axis.plot(*torch.stack([start, end]).T, color=HELP, linestyle=":", linewidth=1)


def _limits(axes: Any, coordinate: int) -> tuple[float, float]:
    """One range for all panels, so that lengths can be compared; the origin is in it."""
    ends = [axis.dataLim.get_points()[:, coordinate] for axis in axes]
    low, high = min(0.0, *(float(end.min()) for end in ends)), max(0.0, *(float(end.max()) for end in ends))
    room = 0.15 * (high - low) + 0.05
    return low - room, high + room
