"""The supernet of cells: every edge a mixture of all its operations.

Imports `files`, `models`, `tasks` and its folder.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...files import is_number, is_whole, part
from ...models import MTLModel
from ...tasks import Problem
from .fan import Fan
from .genotype import KINDS, CellSpace, Genotype
from .layout import Place, layout
from .operations import NONE, OPERATIONS, FactorizedReduce, make_stem, relu_conv_bn

DECAY = 5.0  # of the dropout on skips over a stage: a factor exp(-0.2) an epoch for the 25 epochs of P-DARTS


class MixedCell(nn.Module):
    """A cell whose edges are mixtures, from the outputs of the cell before the last and of the last.

    allowed: for each edge of `space` the operations it may have.
    partial: K; one of K channels passes the operations, see `CellSupernet`.
    """

    def __init__(self, space: CellSpace, place: Place, allowed: Sequence[Sequence[str]], partial: int = 1):
        super().__init__()
        first, second = place.incoming
        reduce = FactorizedReduce if place.follows_reduction else relu_conv_bn
        self.before_last = reduce(first, place.channels, affine=False)
        self.last = relu_conv_bn(second, place.channels, affine=False)
        self.partial, self.strides = partial, [place.stride(source) for source in range(space.nodes + 1)]
        self.fans = nn.ModuleList(
            Fan(place.channels // partial, stride, space.operations,
                [names for names, (start, _) in zip(allowed, space.edges, strict=True) if start == source])
            for source, stride in enumerate(self.strides))

    def forward(self, before_last: Tensor, last: Tensor, weights: Sequence[Tensor], shares: Sequence[Tensor] = (),
                dropout: float | int = 0.0) -> Tensor:
        """weights: for each state those of the edges that leave it, (edges, operations).
        shares: likewise the edges' shares in their nodes, (edges,), with partial channels.
        """
        states, nodes = [self.before_last(before_last), self.last(last)], len(self.fans) - 1
        passed: list[list[Tensor]] = [[] for _ in range(nodes)]
        beside: list[list[Tensor]] = [[] for _ in range(nodes)]
        for source, fan in enumerate(self.fans):
            first = max(source - 1, 0)  # the first node that takes this state
            width = fan.channels
            x, rest = states[source].split([width, states[source].shape[1] - width], 1)
            for node, maps in enumerate(fan(x, weights[source], dropout), start=first):
                passed[node].append(maps)
            if self.partial > 1:
                rest = nn.functional.max_pool2d(rest, 2, ceil_mode=True) if self.strides[source] == 2 else rest
                for node, share in enumerate(shares[source].unbind(), start=first):
                    beside[node].append(share * rest)
            if source:  # all edges into the next node are there
                node = total(passed[source - 1])
                states.append(shuffled(node, total(beside[source - 1]), self.partial) if self.partial > 1 else node)
        return torch.cat(states[2:], 1)


def total(maps: Sequence[Tensor]) -> Tensor:
    return sum(maps[1:], maps[0])


def shuffled(passed: Tensor, beside: Tensor, groups: int) -> Tensor:
    """Both side by side, every channel of the first followed by those of the second that are its turn."""
    both = torch.cat([passed, beside], 1).unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return both.contiguous(memory_format=torch.channels_last)


class CellSupernet(MTLModel):
    """All networks of cells in one: each edge is `sum over operations o of softmax(alpha_e)_o o(x)`.

    A node is the sum of the edges from all states before it; a cell hands on its nodes side by side. All normal cells
    have the same alpha, and so have all reduction cells; these stand at a third and two thirds of the depth. Batch
    norms have no weights of their own, poolings are followed by one. Heads are the problem's, one a task; everything
    before them is shared by all tasks.

    cells, channels: of the supernet, and of the first cells' nodes.  stem: the stem has `stem * channels`.
    nodes, operations: of the space.
    partial: K > 1 is PC-DARTS: the first of K parts of a state's channels pass the operations, the others go on as they
        are (at stride 2 through 2 x 2 max pooling), and channels are shuffled; the edges into a node then have weights
        of their own, `softmax(beta)`, which the genotype takes into account.
    allowed: the operations of each edge, two tables (edges, operations) of true and false for normal and reduction
        cells, as `CellSpace.strongest` makes them (P-DARTS); others are not made, and their alpha counts as -inf.
    skip_dropout: rate of dropout on skips of stride 1 (P-DARTS), which falls to about zero over the epochs: with
        `prepare(epochs, warm_up)`, in epoch e `rate (epochs - e - 1) / epochs` while only weights learn, then
        `rate exp(-5 (e - warm_up) / epochs)`. The source's factor is exp(-0.2) an epoch, for 25 epochs; here it stands
        for shares of them, so that a budget's number of epochs does not decide.
    mean, std: by channel: images are normalised with them on their way in.
    Raises ValueError for channels that K does not divide, for a table that leaves an edge nothing but "none", and for
    what `CellSpace` and `layout` refuse.
    Source: DARTS: Differentiable Architecture Search, section 2; X. Chen, L. Xie, J. Wu, Q. Tian, Progressive
    Differentiable Architecture Search, ICCV 2019; Y. Xu and others, PC-DARTS, ICLR 2020; the last two reconstructed
    from their abstracts and from what the authors' public codes do. In the authors' DARTS code the stem's norm has
    weights; here no norm of a supernet has.
    """

    def __init__(self, problem: Problem, cells: int = 8, channels: int = 16, nodes: int = 4, stem: int = 3,
                 partial: int = 1, operations: Sequence[str] = OPERATIONS,
                 allowed: Sequence[Bool[Tensor, "edges operations"]] | None = None, skip_dropout: float | int = 0.0,
                 mean: Sequence[float] | None = None, std: Sequence[float] | None = None):
        super().__init__(problem)
        self.space = CellSpace(nodes, tuple(operations))
        self.places = layout(cells, channels, nodes, stem, problem.input_shape)
        if not is_whole(partial, 1) or channels % partial:
            raise ValueError(f"partial={partial!r} must be a whole number that divides channels={channels}.")
        if not is_number(skip_dropout) or not 0 <= skip_dropout < 1:
            raise ValueError(f"skip_dropout={skip_dropout!r} must be from 0 to below 1.")
        self.partial, self.skip_dropout, self.epochs, self.warm_up = partial, skip_dropout, 1, 0
        names = self._names(allowed)
        for kind, rows in zip(KINDS, names, strict=True):
            dropped = torch.tensor([[name not in row for name in self.space.operations] for row in rows])
            self.register_buffer(f"dropped_{kind}", dropped, persistent=False)
        with part("stem"):
            self.stem = make_stem(problem.input_shape[0], stem * channels, False, mean, std)
        self.cells = nn.ModuleList()
        for number, place in enumerate(self.places):
            with part(f"cell.{number}"):
                self.cells.append(MixedCell(self.space, place, names[place.reduction], partial))
        self.add_heads((nodes * self.places[-1].channels, *self.places[-1].out))
        with part("alpha"):
            self.alpha = nn.ParameterList(1e-3 * torch.randn(self.space.shape) for _ in KINDS)
            self.beta = nn.ParameterList(1e-3 * torch.randn(len(self.space.edges))
                                         for _ in (KINDS if partial > 1 else ()))
        self.register_buffer("done", torch.tensor(0))  # epochs, kept with the checkpoint
        self._leaving = [[n for n, (start, _) in enumerate(self.space.edges) if start == source]
                         for source in range(nodes + 1)]

    def _names(self, allowed: Sequence[Tensor] | None) -> list[list[list[str]]]:
        """For the normal and the reduction cell, for each edge, the operations it may have."""
        if allowed is None:
            return [[list(self.space.operations)] * len(self.space.edges) for _ in KINDS]
        shapes = [tuple(table.shape) for table in allowed]
        if shapes != [self.space.shape] * 2:
            raise ValueError(f"allowed has tables of the shapes {shapes}; it needs two of {self.space.shape}.")
        names = [[[name for name, yes in zip(self.space.operations, row, strict=True) if yes]
                  for row in table.tolist()] for table in allowed]
        for kind, rows in zip(KINDS, names, strict=True):
            for edge, row in zip(self.space.edges, rows, strict=True):
                if set(row) <= {NONE}:
                    raise ValueError(f"allowed leaves edge {edge} of the {kind} cell {row}; it needs an operation "
                                     "besides 'none'.")
        return names

    # --- running ---

    def route(self, task: str) -> list[nn.Module]:
        return [self.stem, *self.cells, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        weights = [self._by_source(table) for table in self.space.weights(self.alphas(), self.betas())]
        shares = [self._by_source(self.space.shares(beta)) for beta in self.beta] or [[], []]
        before_last = last = self.stem(x).contiguous(memory_format=torch.channels_last)
        for cell, place in zip(self.cells, self.places, strict=True):
            kind = int(place.reduction)
            before_last, last = last, cell(before_last, last, weights[kind], shares[kind], self.dropout)
        return {name: self.leave(name, last) for name in tasks}

    def _by_source(self, rows: Tensor) -> list[Tensor]:
        return [rows[edges] for edges in self._leaving]

    # --- the architecture ---

    def architecture_parameters(self) -> list[nn.Parameter]:
        """alpha of the normal and of the reduction cell, (edges, operations) each; with partial channels, then beta of
        both, (edges,)."""
        return [*self.alpha, *self.beta]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters that learn."""
        return self.learning(without=self.architecture_parameters())

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The weights, without the architecture parameters."""
        return [{"params": self.weights(), "lr": lr, "weight_decay": weight_decay}]

    def alphas(self) -> list[Float[Tensor, "edges operations"]]:
        """alpha of both cells with -inf for what an edge cannot have; differentiable, as `Resources` takes them."""
        return [alpha.masked_fill(dropped, -math.inf)
                for alpha, dropped in zip(self.alpha, (self.dropped_normal, self.dropped_reduction), strict=True)]

    def betas(self) -> list[Float[Tensor, "edges"]] | None:
        """beta of both cells, with partial channels; else None."""
        return list(self.beta) or None

    def genotype(self, skips: int | None = None) -> Genotype:
        """What the parameters say, see `CellSpace.genotype`."""
        return self.space.genotype(self.alphas(), self.betas(), skips)

    # --- what a search needs ---

    @property
    def dropout(self) -> float | int:
        """The rate on skips in this epoch."""
        epoch = int(self.done) if self.skip_dropout else 0
        if epoch < self.warm_up:
            return self.skip_dropout * (self.epochs - epoch - 1) / self.epochs
        return self.skip_dropout * math.exp(-DECAY * (epoch - self.warm_up) / self.epochs)

    def prepare(self, epochs: int, warm_up: int = 0) -> None:
        """Set the schedule: so many epochs in all, so many of them for the weights alone."""
        self.epochs, self.warm_up = epochs, warm_up

    def on_epoch_end(self, epoch: int, mean_losses: Mapping[str, float]) -> None:
        self.done.fill_(epoch)

    def report(self) -> dict[str, dict[str, float]]:
        """For the history: the weight of each operation on each edge, as {"normal": {"0-2 skip_connect": 0.125}}."""
        return {kind: {f"{source}-{node} {name}": weight
                       for (source, node), row in zip(self.space.edges, table.tolist(), strict=True)
                       for name, weight in zip(self.space.operations, row, strict=True)}
                for kind, table in zip(KINDS, self.space.weights(self.alphas(), self.betas()), strict=True)}
