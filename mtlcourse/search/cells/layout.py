"""Where the cells of a network stand: their kind, channels and map sides.

Imports `files`, `search.cells.operations`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...files import is_whole
from .operations import halved, sides


@dataclass(frozen=True)
class Place:
    """One cell of a network.

    reduction: whether its inputs are passed at stride 2.
    channels: of each of its nodes; a network's are doubled at every reduction.
    incoming: channels of the cell before the last and of the last, as they come in.
    before_last: sides of the map of the cell before the last.  side: of that of the last.
    out: sides of the map that goes out.
    """

    reduction: bool
    channels: int
    incoming: tuple[int, int]
    before_last: tuple[int, int]
    side: tuple[int, int]
    out: tuple[int, int]

    @property
    def follows_reduction(self) -> bool:
        """Whether the cell before the last has larger maps than the last: it is then halved on its way in."""
        return self.before_last != self.side

    def stride(self, source: int) -> int:
        """Of the edges that leave state `source`: 2 in a reduction cell, for its inputs."""
        return 2 if self.reduction and source < 2 else 1


def layout(cells: int, channels: int, nodes: int, stem: int, input_shape: Sequence[int]) -> list[Place]:
    """The cells of a network, input side first.

    The stem, a 3 x 3 convolution to `stem * channels` channels, feeds both inputs of the first cell. A cell hands on
    its nodes side by side, `nodes * channels`. Reduction cells stand at cells // 3 and 2 cells // 3, counted from 0.
    Raises ValueError for inputs that are no images, for numbers below one, and for images that are too small: a map
    of one pixel cannot be reduced.
    Source: DARTS: Differentiable Architecture Search, section 3.1.
    """
    if len(input_shape) != 3:
        raise ValueError(f"Cells need images (channels, height, width); this problem has inputs of shape "
                         f"{tuple(input_shape)}.")
    for name, value in (("cells", cells), ("channels", channels), ("nodes", nodes), ("stem", stem)):
        if not is_whole(value, 1):
            raise ValueError(f"{name}={value!r} must be a whole number from 1 upwards.")
    places: list[Place] = []
    width, incoming = channels, (stem * channels, stem * channels)
    before_last = side = sides(input_shape[1:])
    for number in range(cells):
        reduction = number in (cells // 3, 2 * cells // 3)
        width *= 2 if reduction else 1
        if reduction and max(side) == 1:
            raise ValueError(f"Images of {input_shape[1]} x {input_shape[2]} pixels are too small for two reductions: "
                             f"cell {number} would halve a map of one pixel.")
        out = halved(side) if reduction else side
        places.append(Place(reduction, width, incoming, before_last, side, out))
        incoming, before_last, side = (incoming[1], nodes * width), side, out
    return places


def auxiliary_at(cells: int) -> int:
    """The cell behind which an auxiliary head stands: the second reduction cell, two thirds of the way."""
    return 2 * cells // 3
