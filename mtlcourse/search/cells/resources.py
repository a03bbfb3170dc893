"""How large the derived network will be, as a function of the architecture parameters that can be differentiated.

Imports `search.cells.genotype`, `search.cells.layout`, `search.cells.operations`.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ...tasks import Problem
from .genotype import CellSpace, Genotype
from .layout import Place, layout
from .operations import NONE, Count, area, count

Interval = tuple[int, int]  # the least and the most


class Resources:
    """Expected parameters and multiply-adds of a network whose edges have operations with probability softmax(alpha).

    `N(alpha) = fixed + sum over cells, edges e and operations o of softmax(alpha_e)_o n_o`, in whole numbers as they
    are: parameters, and multiply-adds for one sample. `n_o` are those of `operations.count` in the cell where the edge
    stands. `fixed` is what every network of this size has: stem, the 1 x 1 convolutions by which cells make their
    inputs as wide as themselves, and classifiers. The source's sum has edges only; with the fixed part the number is
    the derived network's own at one-hot alpha (unused edges one-hot at "none"), and L and F are sizes of networks.
    The sum is over all edges although a genotype keeps two a node, so that undecided alphas give more than any
    genotype that is drawn from them.

    cells, channels, stem: of the derived network, which may be larger than the supernet.  input_shape: of one sample.
    classes: of its classifier, or one number a task.
    counting: see `operations.count`; "printed" counts ReLUs and norms of the fixed part the same way.
    The auxiliary head, which is thrown away after training, is not counted.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, equations 3.4 and 3.5.
    """

    def __init__(self, space: CellSpace, cells: int, channels: int, input_shape: Sequence[int],
                 classes: int | Sequence[int], stem: int = 3, counting: str = "multiply-adds"):
        self.space, self.counting = space, counting
        self.places = layout(cells, channels, space.nodes, stem, input_shape)
        classes = [classes] if isinstance(classes, int) else list(classes)
        self.fixed = _fixed(self.places, channels * stem, input_shape, space.nodes, classes, counting == "printed")
        self._tables = [self._table(reduction) for reduction in (False, True)]

    @classmethod
    def of(cls, problem: Problem, space: CellSpace, cells: int, channels: int, stem: int = 3,
           counting: str = "multiply-adds") -> "Resources":
        """Those of a network for `problem`. Raises ValueError for tasks that predict every pixel."""
        dense = [task.name for task in problem.tasks if task.dense]
        if dense:
            raise ValueError(f"The tasks {dense} predict every pixel, and resources are counted for classifiers of "
                             "whole images.")
        return cls(space, cells, channels, problem.input_shape, [task.out_channels for task in problem.tasks], stem,
                   counting)

    def counts(self, genotype: Genotype) -> Count:
        """Parameters and multiply-adds of the network of `genotype`. Raises ValueError for one of another space."""
        self.space.check(genotype)
        total = self.fixed
        for place in self.places:
            for node in genotype.cell(place.reduction):
                for operation, source in node:
                    total += self._count(operation, place, source)
        return total

    def parameters(self, alphas: Sequence[Tensor]) -> Float[Tensor, ""]:
        """Expected parameters, differentiable in `alphas`: normal and reduction, (edges, operations) each; -inf for
        operations that an edge cannot have."""
        return self._expected(alphas, 0)

    def flops(self, alphas: Sequence[Tensor]) -> Float[Tensor, ""]:
        """Expected multiply-adds for one sample, likewise."""
        return self._expected(alphas, 1)

    def reachable(self) -> tuple[Interval, Interval]:
        """The least and the most parameters, and multiply-adds, that a network of some genotype has.

        Both are exact: what an operation costs depends on its edge, so for each node the two cheapest, and the two
        dearest, edges are taken.
        """
        return self._over_genotypes(0), self._over_genotypes(1)

    def check(self, parameters: float | int | None = None, flops: float | int | None = None) -> None:
        """Raise ValueError for a wanted size that no genotype has, saying what can be reached."""
        for name, wanted, (least, most) in zip(("L", "F"), (parameters, flops), self.reachable(), strict=True):
            unit = "parameters" if name == "L" else "multiply-adds"
            if wanted is not None and not least <= wanted <= most:
                raise ValueError(f"{name}={wanted:,} {unit} are out of reach: networks of this space have {least:,} "
                                 f"to {most:,}. Give a number between, or another number of cells or channels.")

    # --- how ---

    def _count(self, operation: str, place: Place, source: int) -> Count:
        return count(operation, place.channels, place.stride(source), place.side if source < 2 else place.out,
                     counting=self.counting)

    def _table(self, reduction: bool) -> Float[Tensor, "two edges operations"]:
        """What each operation costs on each edge, summed over the cells of this kind."""
        table = torch.zeros(2, *self.space.shape, dtype=torch.float64)
        for place in self.places:
            if place.reduction == reduction:
                for edge, (source, _) in enumerate(self.space.edges):
                    for column, operation in enumerate(self.space.operations):
                        table[:, edge, column] += torch.tensor(self._count(operation, place, source))
        return table

    def _expected(self, alphas: Sequence[Tensor], which: int) -> Float[Tensor, ""]:
        """In float64: millions of parameters leave float32 no digits for a difference."""
        weights = self.space.weights([alpha.double() for alpha in alphas])
        normal, reduction = [(table[which].to(part.device) * part).sum()
                             for table, part in zip(self._tables, weights, strict=True)]
        return self.fixed[which] + normal + reduction

    def _over_genotypes(self, which: int) -> Interval:
        columns = [n for n, operation in enumerate(self.space.operations) if operation != NONE]

        def extreme(best: Callable[..., float], sign: int) -> int:
            total = self.fixed[which]
            for table in self._tables:
                on_edge = [best(row) for row in table[which][:, columns].tolist()]
                for node in range(self.space.nodes):
                    total += int(sum(sorted((on_edge[edge] for edge in self.space.incoming(node)),
                                            reverse=sign > 0)[:2]))
            return total
        return extreme(min, -1), extreme(max, 1)


def _fixed(places: Sequence[Place], stem: int, input_shape: Sequence[int], nodes: int, classes: Sequence[int],
           printed: bool) -> Count:
    """Stem, preprocessing and classifiers; the norms are affine."""
    pixels = area((input_shape[1], input_shape[2]))
    total = Count(9 * input_shape[0] * stem + 2 * stem, (9 * input_shape[0] * stem + 2 * stem * printed) * pixels)
    for place in places:
        for incoming, side in zip(place.incoming, (place.before_last, place.side), strict=True):
            weights = incoming * place.channels
            total += Count(weights + 2 * place.channels, (weights + 2 * place.channels * printed) * area(place.side)
                           + incoming * area(side) * printed)
    features = nodes * places[-1].channels
    return total + Count(sum((features + 1) * n for n in classes), sum(features * n for n in classes))


def size_conflict(resources: Resources, alphas: Sequence[Tensor], parameters: float | int,
                  flops: float | int) -> float:
    """The cosine of the gradients of |N - L| and |F(alpha) - F| in the architecture parameters: below zero, no small
    step comes nearer to both. Zero where one of them is met exactly.

    parameters, flops: L and F.
    """
    leaves = [alpha.detach().clone().requires_grad_() for alpha in alphas]
    slopes = [torch.cat([part.flatten() for part in torch.autograd.grad((value - wanted).abs(), leaves)])
              for value, wanted in ((resources.parameters(leaves), parameters), (resources.flops(leaves), flops))]
    return torch.nn.functional.cosine_similarity(*slopes, dim=0).item()
