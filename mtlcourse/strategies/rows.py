"""The gradients of m tasks, row by row, and what is made of them.

Imports `strategies.reach`. A step cuts the graph where each task leaves what is shared: one
autograd call gives the gradients of all heads and, at the cut, the error signal of every task. These
signals are either the rows themselves (`at_features`) or are sent through the trunk, one task at a
time (`at_parameters`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from .reach import Exits, Leaves, Sharing, edge, leaves

Parameters = Sequence[nn.Parameter]


@dataclass
class Cut:
    """The m tasks of a step, cut off from what they share.

    outputs[t], signals[t]: where task t leaves the shared part, and the gradients of its loss there.
        Where the graph has no such place, the loss itself and the signal None, which stands for one.
    own[t]: the task's own parameters, and gradients[t]: their gradients, None for those not yet computed.
    """

    names: list[str]
    device: torch.device
    outputs: list[list[Tensor]]
    signals: list[list[Tensor | None]]
    own: list[Parameters]
    gradients: list[list[Tensor | None] | None]

    def write_own(self, weights: Float64[Tensor, "m"]) -> None:
        """Add weight times gradient to `.grad` of the tasks' own parameters."""
        for weight, parameters, gradients in zip(weights.tolist(), self.own, self.gradients, strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    _add(parameter, gradient * weight)  # a product is memory of its own, also for weight 1


    def add(self, other: "Cut") -> None:
        """Add the own gradients of another share."""
        self.gradients = [[b if a is None else a if b is None else a + b for a, b in zip(*pair, strict=True)]
                          for pair in zip(self.gradients, other.gradients, strict=True)]


def split_at_exits(losses: Mapping[str, Tensor], exits: Exits | None, near: Mapping[str, Leaves],
                   sharing: Sharing) -> Cut:
    """Cut each task at its exits, and let the heads' part of the backward pass run, all heads in one call.

    near: for each task the parameters that its loss reaches past none of its exits.
    A task is cut only if no way leads around its exits to a shared parameter. If ways lead through exits of other
    tasks (heads that look at each other, or were compiled into one), it is cut at all of them, in a call of its own.
    A task that cannot be cut at all stays whole, which costs time but is never wrong.
    """
    names, own = list(losses), sharing.own
    places = {name: [z for z in (exits or {}).get(name, []) if z.requires_grad] for name in names}
    everywhere = [z for name in names for z in places[name]]
    together, alone = [], []
    for name in names:
        if sharing.shared.isdisjoint(near[name]):
            together.append(name)
        elif sharing.shared.isdisjoint(leaves([edge(losses[name])], {edge(z) for z in everywhere})[0]):
            places[name] = everywhere
            alone.append([name])
    # Tasks that were handed one and the same tensor would find the sum of all signals in it.
    edges = [edge(z) for name in together for z in places[name]]
    groups = [together] if len(set(edges)) == len(edges) else [[name] for name in together]

    cut = Cut(names, losses[names[0]].device, [[losses[name]] for name in names], [[None] for _ in names],
              [own[name] for name in names], [None] * len(names))
    for group in groups + alone:
        inputs = [x for name in group for x in (*places[name], *own[name])]
        found = iter(torch.autograd.grad([losses[name] for name in group], inputs, retain_graph=True, allow_unused=True)
                     if inputs else ())
        for name in group:
            t = names.index(name)
            signals = [(z, signal) for z in places[name] if (signal := next(found)) is not None]
            cut.outputs[t], cut.signals[t] = [z for z, _ in signals], [signal for _, signal in signals]
            cut.gradients[t] = [next(found) for _ in own[name]]
    return cut


@dataclass
class Rows:
    """Task gradients as blocks: a block is one tensor's gradients, `(m, *shape)`, one row a task.

    modules: the blocks, by module.  places: for each block what it is the gradient of: a parameter, or
    a representation from which `write` goes on to `parameters`.  reached: which tasks have a gradient in which
    block, be it zero; where a task has none, its row is filled up with zeros.
    """

    m: int
    device: torch.device
    modules: list[list[Float[Tensor, "m ..."]]]
    places: list[list[Tensor]]
    reached: Bool[Tensor, "blocks m"]
    parameters: Parameters | None = None

    def reaching(self) -> Bool[Tensor, "modules m"]:
        """Which tasks reach which module: some parameter of it."""
        by_module = self.reached.split([len(blocks) for blocks in self.modules])
        return torch.stack([some.any(0) for some in by_module]) if by_module else self.reached

    def grams(self, scale: float = 1.0) -> Float64[Tensor, "modules m m"]:
        """The Gram matrix of each module, block by block: products in the blocks' precision, sums in float64.

        scale: what the rows are too large by; then products are of rows put right in float32, or what is more exact.
        """
        grams = torch.zeros(len(self.modules), self.m, self.m, dtype=torch.float64, device=self.device)
        for gram, blocks in zip(grams, self.modules, strict=True):
            for block in blocks:
                flat = _flat(block)
                if scale != 1:
                    flat = flat.to(torch.promote_types(flat.dtype, torch.float32)) / scale
                gram += flat @ flat.T
        return (grams + grams.mT) / 2  # matrix products need not be symmetric to the last bit

    def add(self, other: "Rows") -> None:
        """Add the rows of another share, which must be gradients of the same places."""
        if [id(place) for group in self.places for place in group] != [id(p) for group in other.places for p in group]:
            raise ValueError("Two shares of a batch reach different shared parameters, so their gradients do not add "
                             "up; take whole batches.")
        self.reached |= other.reached
        for blocks, others in zip(self.modules, other.modules, strict=True):
            for block, more in zip(blocks, others, strict=True):
                block += more

    def matrix(self) -> Float[Tensor, "m n"]:
        """All gradients in one matrix, a row a task."""
        blocks = [_flat(block) for blocks in self.modules for block in blocks]
        return torch.cat(blocks, 1) if blocks else torch.zeros(self.m, 0, device=self.device)

    def write(self, weights: Float64[Tensor, "*modules m"], direction: Float[Tensor, "n"] | None = None,
              keep_graph: bool = False) -> list[Tensor]:
        """Put the combination into `.grad`: weights times rows, or `direction` if there is one.

        weights: one number a task, or one row a module. Returns the parameters of modules with a zero
        row, which are to make no step. What no task reaches is passed over, as a backward pass would.
        """
        still: list[Tensor] = []
        combined: list[tuple[Tensor, Tensor]] = []
        on_device, start = weights.to(self.device), 0
        grouped = iter(self.reached.any(1).tolist())
        for k, (blocks, places) in enumerate(zip(self.modules, self.places, strict=True)):
            reached = [next(grouped) for _ in blocks]
            if weights.dim() == 2 and not weights[k].any():
                still += places
                continue
            w = on_device[k] if weights.dim() == 2 else on_device
            for block, place, by_some in zip(blocks, places, reached, strict=True):
                if direction is None:
                    flat = w.to(block.dtype) @ _flat(block)
                else:
                    flat = direction[start : start + place.numel()]
                    start += place.numel()
                if by_some:
                    combined.append((place, flat.view_as(place)))
        if self.parameters is None:
            for parameter, gradient in combined:
                _add(parameter, gradient)
        elif combined and self.parameters:
            representations, gradients = zip(*combined, strict=True)
            torch.autograd.backward(representations, gradients, retain_graph=keep_graph, inputs=self.parameters)
        return still


def at_parameters(cut: Cut, modules: Sequence[Parameters], keep_graph: bool = False) -> Rows:
    """Send each task's error signal through the trunk: rows of gradients of every shared parameter.

    A parameter that a task does not reach has zeros in that task's row.

    Rows go straight into their blocks, so that at no time more than m + 1 gradients are there.
    """
    m, parameters = len(cut.names), [parameter for group in modules for parameter in group]
    blocks = [parameter.new_empty((m, *parameter.shape)) for parameter in parameters]
    reached = torch.zeros(len(blocks), m, dtype=torch.bool)
    for t in range(m):
        whole = cut.gradients[t] is None  # not cut: the own parameters are still to come
        inputs = [*parameters, *cut.own[t]] if whole else parameters
        reached[:, t] = torch.tensor(_row(t, cut, inputs, blocks, keep_graph or t < m - 1), dtype=torch.bool)
    grouped = iter(blocks)
    return Rows(m, cut.device, [[next(grouped) for _ in group] for group in modules],
                [list(group) for group in modules], reached)


def _row(t: int, cut: Cut, inputs: Sequence[Tensor], blocks: list[Tensor], keep_graph: bool) -> list[bool]:
    """Fill row t of all blocks, and tell which of them the task reaches.

    In a function of its own, so that nothing outlives its use.
    """
    outputs, signals = cut.outputs[t], cut.signals[t]
    if outputs and inputs:
        found = torch.autograd.grad(outputs, inputs, signals, retain_graph=keep_graph, allow_unused=True)
    else:
        found = (None,) * len(inputs)
    for block, gradient in zip(blocks, found, strict=False):
        if gradient is None:
            block[t].zero_()
        else:
            block[t].copy_(gradient)
    if cut.gradients[t] is None:
        cut.gradients[t] = list(found[len(blocks) :])
    cut.signals[t] = []
    return [gradient is not None for gradient in found[: len(blocks)]]


def at_features(cut: Cut, modules: Sequence[Parameters]) -> Rows:
    """The error signals themselves as rows: one block for each representation that some task leaves at.

    Raises ValueError when a task could not be cut off at its exits.
    """
    for name, gradients in zip(cut.names, cut.gradients, strict=True):
        if gradients is None:
            raise ValueError(f"Task {name!r} reaches shared parameters past the model's `exits` (a head that two "
                             "tasks use is one, or a compiled forward pass hides the exits), so there is no "
                             "representation to measure at; use at='parameters'.")
    blocks: dict[tuple, Tensor] = {}
    places: dict[tuple, Tensor] = {}
    reached: dict[tuple, list[bool]] = {}
    for t, (outputs, signals) in enumerate(zip(cut.outputs, cut.signals, strict=True)):
        for z, signal in zip(outputs, signals, strict=True):
            key = (z.data_ptr(), z.shape, z.stride())  # each task has an alias of its own of the same memory
            places.setdefault(key, z)
            block = blocks.setdefault(key, signal.new_zeros((len(cut.names), *z.shape)))
            block[t] += signal
            reached.setdefault(key, [False] * len(cut.names))[t] = True
    parameters = [parameter for group in modules for parameter in group]
    return Rows(len(cut.names), cut.device, [list(blocks.values())], [list(places.values())],
                torch.tensor(list(reached.values()), dtype=torch.bool).view(-1, len(cut.names)), parameters)


def _flat(block: Float[Tensor, "m ..."]) -> Float[Tensor, "m n"]:
    return block.view(len(block), block.numel() // len(block))  # of no samples, too


def _add(parameter: Tensor, gradient: Tensor) -> None:
    if gradient.stride() != parameter.stride():  # fused optimisers go through memory, whatever its order
        gradient = torch.empty_like(parameter).copy_(gradient)
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad += gradient
