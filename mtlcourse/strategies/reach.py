"""What the graph of a step says: which parameters each loss reaches, and so who shares what.

Imports nothing of this package. A model says beforehand what its tasks share; the graph knows it. Where the two
differ, the graph is right: a head that another task's loss reaches is shared.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Exits = Mapping[str, Sequence[Tensor]]
Leaves = dict[int, nn.Parameter]  # by id
Edge = tuple[Any, int]  # a node of the graph and the number of one of its outputs


def edge(tensor: Tensor) -> Edge:
    """Where in the graph `tensor` comes from."""
    return tensor.grad_fn if tensor.grad_fn is not None else id(tensor), tensor.output_nr


def leaves(start: Iterable[Edge], closed: Collection[Edge] = ()) -> tuple[Leaves, list[Any]]:
    """The leaves to which ways lead from `start` and through none of `closed`; and the nodes of those it met."""
    found: Leaves = {}
    ends, done, todo = [], set(), list(start)
    while todo:
        here = todo.pop()
        node = here[0]
        if node is None or node in done:
            continue
        if here in closed:
            ends.append(node)
            continue
        done.add(node)
        following = node.next_functions
        if following:
            todo += following
        elif (leaf := getattr(node, "variable", None)) is not None:
            found[id(leaf)] = leaf
    return found, ends


@dataclass
class Reach:
    """What the losses of a step reach: for each task the parameters, and those of them past none of its exits."""

    whole: dict[str, Leaves]
    near: dict[str, Leaves]


def reach(losses: Mapping[str, Tensor], exits: Exits | None = None) -> Reach:
    """Walk the graph behind `losses`; what tasks have in common behind their exits is walked once."""
    whole, near = {}, {}
    behind: dict[Any, Leaves] = {}
    for name, loss in losses.items():
        closed = {edge(z) for z in (exits or {}).get(name, ()) if z.requires_grad}
        near[name], ends = leaves([edge(loss)], closed)
        whole[name] = dict(near[name])
        for following in (pair for node in ends for pair in node.next_functions):
            if following[0] not in behind:
                behind[following[0]] = leaves([following])[0]
            whole[name] |= behind[following[0]]
    return Reach(whole, near)


def leaves_of(losses: Mapping[str, Tensor], auxiliary: Tensor | None) -> dict[str, Leaves]:
    """What each loss reaches, an auxiliary one too."""
    return reach({**losses, **({} if auxiliary is None else {"auxiliary": auxiliary})}).whole


@dataclass
class Sharing:
    """Shared parameters by module, input side first, and each task's own."""

    modules: list[list[nn.Parameter]]
    own: dict[str, list[nn.Parameter]]

    def __post_init__(self):
        self.shared = {id(parameter) for group in self.modules for parameter in group}
        self._mine = {name: {id(parameter) for parameter in group} for name, group in self.own.items()}

    def as_reached(self, whole: Mapping[str, Leaves], learning: Collection[int]) -> "Sharing":
        """This sharing, put right by what the losses of a step reach.

        A parameter that is called some task's own, or is not mentioned, is shared if two or more tasks reach it,
        and the own of whoever reaches it alone. Shared parameters that come to light so make modules behind all
        others: one for each task that has called them its own, then one for those that nobody has mentioned.
        learning: ids of the parameters that count; others are left alone.
        """
        strange = {key for name, found in whole.items()
                   for key in found.keys() - self.shared - self._mine[name] if key in learning}
        if not strange:
            return self
        parameters = {key: leaf for found in whole.values() for key, leaf in found.items() if key in strange}
        users = {key: [name for name, found in whole.items() if key in found] for key in parameters}
        owners = {key: name for name, keys in self._mine.items() for key in strange & keys}
        groups: dict[str | None, list[nn.Parameter]] = {name: [] for name in (*self.own, None)}
        own = {name: [p for p in group if id(p) not in strange] for name, group in self.own.items()}
        for key, parameter in parameters.items():
            if len(users[key]) > 1:
                groups[owners.get(key)].append(parameter)
            else:
                own[users[key][0]].append(parameter)
        return Sharing([*self.modules, *(group for group in groups.values() if group)], own)
