"""What a cell can be: its edges and operations, and a pair of cells that was chosen, the genotype.

Imports `files`, `search.cells.operations`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...files import is_whole, unknown
from .operations import NONE, OPERATIONS, SKIP

Edges = Sequence[Sequence[Sequence[Any]]]  # for each node what comes in: (operation, state it comes from)
KINDS = ("normal", "reduction")


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell: for each node two edges, (operation, state that it takes).

    States are numbered from 0: the outputs of the cell before the last and of the last, then the nodes. Edges stand
    in the order of the states, so that equal cells are equal.

    >>> cell = [[("skip_connect", 1), ("max_pool_3x3", 0)]]
    >>> Genotype(cell, cell).normal
    ((('max_pool_3x3', 0), ('skip_connect', 1)),)
    """

    normal: Edges
    reduction: Edges

    def __post_init__(self):
        for kind in KINDS:
            nodes = tuple(tuple(sorted(((str(operation), int(state)) for operation, state in node),
                                       key=lambda edge: (edge[1], edge[0]))) for node in getattr(self, kind))
            object.__setattr__(self, kind, nodes)

    @property
    def nodes(self) -> int:
        return len(self.normal)

    def cell(self, reduction: bool) -> Edges:
        return self.reduction if reduction else self.normal

    def to_dict(self) -> dict[str, list[list[list[Any]]]]:
        """Plain data, as JSON has them."""
        return {kind: [[list(edge) for edge in node] for node in getattr(self, kind)] for kind in KINDS}

    @classmethod
    def from_dict(cls, plain: Any) -> "Genotype":
        """The genotype of `to_dict`. Raises ValueError for anything else."""
        try:
            return cls(**{kind: plain[kind] for kind in KINDS})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("A genotype as plain data is {'normal': nodes, 'reduction': nodes}, for each node a list "
                             f"of [operation, state]; this is {plain!r}.") from error


@dataclass(frozen=True)
class CellSpace:
    """All cells with so many nodes and these operations.

    nodes: N; node j (state 2 + j) may take any state before it, so a cell has N (N + 3) / 2 edges.
    operations: the candidates on every edge, names of `operations.build`.
    Raises ValueError for less than one node, for unknown operations or the same twice, and if only "none" is left.

    >>> len(CellSpace().edges)
    14
    """

    nodes: int = 4
    operations: tuple[str, ...] = OPERATIONS

    def __post_init__(self):
        object.__setattr__(self, "operations", tuple(self.operations))
        if not is_whole(self.nodes, 1):
            raise ValueError(f"nodes={self.nodes!r}: a cell needs at least one node.")
        for operation in self.operations:
            if operation not in OPERATIONS:
                raise ValueError(unknown("operation", str(operation), OPERATIONS))
        if not self.choices or len(set(self.operations)) < len(self.operations):
            raise ValueError(f"operations={self.operations!r}: give each once, and one at least besides 'none'.")

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(state it comes from, state it goes to), those of the first node first."""
        return tuple((source, node) for node in range(2, 2 + self.nodes) for source in range(node))

    @property
    def choices(self) -> tuple[str, ...]:
        """The operations that a genotype may have: all but "none"."""
        return tuple(operation for operation in self.operations if operation != NONE)

    @property
    def shape(self) -> tuple[int, int]:
        """Of one cell's architecture parameters: (edges, operations)."""
        return len(self.edges), len(self.operations)

    def incoming(self, node: int) -> range:
        """The numbers of the edges into node `node`, the first being 0: one for each state before it."""
        first = node * (node + 3) // 2
        return range(first, first + node + 2)

    # --- from architecture parameters to cells ---

    def weights(self, alphas: Sequence[Tensor], betas: Sequence[Tensor] | None = None
                ) -> list[Float[Tensor, "edges operations"]]:
        """How much each operation of each edge counts: `softmax(alpha)` over an edge's operations; with betas, also
        times `softmax(beta)` over the edges into a node. Of the normal and of the reduction cell.

        Raises ValueError for parameters of another shape.
        """
        shapes = [tuple(alpha.shape) for alpha in alphas]
        if shapes != [self.shape, self.shape]:
            raise ValueError(f"Architecture parameters have the shapes {shapes}. Cells of {self.nodes} nodes and "
                             f"{len(self.operations)} operations have two of {self.shape}: normal and reduction.")
        found = [torch.softmax(alpha, -1) for alpha in alphas]
        if betas is None:
            return found
        return [weights * self.shares(beta)[:, None] for weights, beta in zip(found, betas, strict=True)]

    def shares(self, beta: Float[Tensor, "edges"]) -> Float[Tensor, "edges"]:
        """`softmax(beta)` over the edges into each node."""
        return torch.cat([torch.softmax(beta[list(self.incoming(node))], 0) for node in range(self.nodes)])

    def genotype(self, alphas: Sequence[Tensor], betas: Sequence[Tensor] | None = None,
                 skips: int | None = None) -> Genotype:
        """The cells that architecture parameters say: for each node the two edges whose largest weight, "none" left
        out, is largest, each with that operation. Of equal ones the first in order is taken.

        Weights come first, then they are compared: raw parameters of different edges have no common scale, and
        ranking these picks other edges.
        alphas: normal and reduction, each (edges, operations); -inf for what an edge cannot have.
        betas: of edges, each (edges,), or None; see `weights`.
        skips: at most so many skip connections in the normal cell: while there are more, the one with the smallest
            weight is taken from its edge's choices and the rule is applied again (P-DARTS, section 3.3). None: no such
            rule.
        Raises ValueError for parameters of another shape and for NaN.
        Source: DARTS: Differentiable Architecture Search, section 2.4, and its authors' code for the ranking.
        """
        normal, reduction = self._numbers(alphas, betas)
        if skips is not None and SKIP in self.operations:
            normal, skip = normal.clone(), self.operations.index(SKIP)
            while len(kept := self._skips(normal)) > skips and len(self.choices) > 1:
                normal[min(kept, key=lambda edge: normal[edge, skip].item()), skip] = -1.0
        return Genotype(self._chosen(normal), self._chosen(reduction))

    def _chosen(self, weights: Float[Tensor, "edges operations"]) -> Edges:
        return tuple(tuple((self.operations[operation], self.edges[edge][0]) for edge, operation in node)
                     for node in self._ranked(weights))

    def _ranked(self, weights: Float[Tensor, "edges operations"]) -> list[list[tuple[int, int]]]:
        """For each node its two best (edge, operation)."""
        columns = [n for n, operation in enumerate(self.operations) if operation != NONE]
        rows = weights.tolist()
        best = [max(columns, key=lambda n, row=row: row[n]) for row in rows]
        return [[(edge, best[edge]) for edge in sorted(self.incoming(node), key=lambda e: -rows[e][best[e]])[:2]]
                for node in range(self.nodes)]

    def _skips(self, weights: Float[Tensor, "edges operations"]) -> list[int]:
        skip = self.operations.index(SKIP)
        return [edge for node in self._ranked(weights) for edge, operation in node if operation == skip]

    def strongest(self, alphas: Sequence[Tensor], keep: int) -> list[Bool[Tensor, "edges operations"]]:
        """Which operations each edge keeps when only its `keep` most probable ones stay (P-DARTS): true for those.

        An edge always keeps one besides "none", in the place of the least probable if need be.
        Raises ValueError for keep < 1.
        """
        if keep < 1:
            raise ValueError(f"keep={keep}: an edge needs at least one operation.")
        allowed = []
        for weights in self._numbers(alphas):
            mask = torch.zeros(self.shape, dtype=torch.bool)
            for edge, row in enumerate(weights.tolist()):
                order = sorted((n for n in range(len(row)) if row[n] > 0), key=lambda n, row=row: -row[n])
                chosen = order[:keep]
                if all(self.operations[n] == NONE for n in chosen):
                    chosen = [*chosen[: keep - 1], next(n for n in order if self.operations[n] != NONE)]
                mask[edge, chosen] = True
            allowed.append(mask)
        return allowed

    def _numbers(self, alphas: Sequence[Tensor], betas: Sequence[Tensor] | None = None) -> list[Tensor]:
        """`weights`, in float64 on the host; raises ValueError for NaN."""
        found = [weights.detach().cpu().double() for weights in self.weights(alphas, betas)]
        if any(weights.isnan().any() for weights in found):
            raise ValueError("Some architecture parameters are NaN, or all of an edge are -inf; nothing can be chosen "
                             "by them.")
        return found

    # --- cells as such ---

    def check(self, genotype: Genotype) -> None:
        """Raise ValueError if `genotype` is from another space, saying how."""
        where = f"Cells here have {self.nodes} nodes and the operations {', '.join(self.choices)}."
        for kind in KINDS:
            cell = getattr(genotype, kind)
            if len(cell) != self.nodes:
                raise ValueError(f"This genotype's {kind} cell has {len(cell)} nodes. {where}")
            for number, node in enumerate(cell):
                states = [state for _, state in node]
                if len(node) != 2 or len(set(states)) < 2 or not all(0 <= state < number + 2 for state in states):
                    raise ValueError(f"Node {number} of the {kind} cell takes the states {states}; it needs two "
                                     f"different ones of 0 to {number + 1}.")
                for operation, _ in node:
                    if operation not in self.choices:
                        raise ValueError(f"Node {number} of the {kind} cell has the operation {operation!r}. {where}")

    def one_hot(self, genotype: Genotype) -> list[Float[Tensor, "edges operations"]]:
        """The weights of a genotype: 1 for what it has, 1 for "none" on edges that it does not use.

        Their logarithms are architecture parameters whose softmax this is. Raises ValueError for a genotype from
        another space, and where "none" is no operation.
        """
        self.check(genotype)
        if NONE not in self.operations:
            raise ValueError("Edges that a genotype does not use have the operation 'none', which this space lacks.")
        found = []
        for kind in KINDS:
            used = {(state, 2 + number): operation for number, node in enumerate(getattr(genotype, kind))
                    for operation, state in node}
            rows = torch.zeros(self.shape)
            for row, edge in zip(rows, self.edges, strict=True):
                row[self.operations.index(used.get(edge, NONE))] = 1.0
            found.append(rows)
        return found

    def draw(self, generator: torch.Generator) -> Genotype:
        """A genotype by lot: for each node two of the states before it, each with an operation that is not "none",
        all equally probable and independent."""
        def pick(node: int) -> list[tuple[str, int]]:
            states = torch.randperm(node + 2, generator=generator)[:2].tolist()
            operations = torch.randint(len(self.choices), (2,), generator=generator).tolist()
            return [(self.choices[operation], state) for operation, state in zip(operations, states, strict=True)]
        return Genotype(*([pick(node) for node in range(self.nodes)] for _ in KINDS))  # type: ignore[arg-type]


# --- published cells ------------------------------------------------------------------------------------------

def _published(normal: str, reduction: str) -> Genotype:
    """From "operation:state operation:state ...", two for each node."""
    def cell(text: str) -> list[list[tuple[str, int]]]:
        edges = [(name, int(state)) for name, state in (edge.split(":") for edge in text.split())]
        return [edges[first : first + 2] for first in range(0, len(edges), 2)]
    return Genotype(cell(normal), cell(reduction))  # type: ignore[arg-type]


# All found on CIFAR-10. First and second order of DARTS: Differentiable Architecture Search.
DARTS_V1 = _published(
    "sep_conv_3x3:1 sep_conv_3x3:0 skip_connect:0 sep_conv_3x3:1 skip_connect:0 sep_conv_3x3:1 sep_conv_3x3:0 "
    "skip_connect:2",
    "max_pool_3x3:0 max_pool_3x3:1 skip_connect:2 max_pool_3x3:0 max_pool_3x3:0 skip_connect:2 skip_connect:2 "
    "avg_pool_3x3:0")
DARTS_V2 = _published(
    "sep_conv_3x3:0 sep_conv_3x3:1 sep_conv_3x3:0 sep_conv_3x3:1 sep_conv_3x3:1 skip_connect:0 skip_connect:0 "
    "dil_conv_3x3:2",
    "max_pool_3x3:0 max_pool_3x3:1 skip_connect:2 max_pool_3x3:1 max_pool_3x3:0 skip_connect:2 skip_connect:2 "
    "max_pool_3x3:1")
# X. Chen, L. Xie, J. Wu, Q. Tian, Progressive Differentiable Architecture Search, ICCV 2019.
P_DARTS = _published(
    "skip_connect:0 dil_conv_3x3:1 skip_connect:0 sep_conv_3x3:1 sep_conv_3x3:1 sep_conv_3x3:3 sep_conv_3x3:0 "
    "dil_conv_5x5:4",
    "avg_pool_3x3:0 sep_conv_5x5:1 sep_conv_3x3:0 dil_conv_5x5:2 max_pool_3x3:0 dil_conv_3x3:1 dil_conv_3x3:1 "
    "dil_conv_5x5:3")
# Y. Xu and others, PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search, ICLR 2020.
PC_DARTS = _published(
    "sep_conv_3x3:1 skip_connect:0 sep_conv_3x3:0 dil_conv_3x3:1 sep_conv_5x5:0 sep_conv_3x3:1 avg_pool_3x3:0 "
    "dil_conv_3x3:1",
    "sep_conv_5x5:1 max_pool_3x3:0 sep_conv_5x5:1 sep_conv_5x5:2 sep_conv_3x3:0 sep_conv_3x3:3 sep_conv_3x3:1 "
    "sep_conv_3x3:2")
PUBLISHED = {"darts-v1": DARTS_V1, "darts-v2": DARTS_V2, "p-darts": P_DARTS, "pc-darts": PC_DARTS}
