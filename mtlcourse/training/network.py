"""Any network, with what an engine wants to know of a model. Imports `files`, `strategies`.

What is shared is said beforehand, by the parameters or by the module whose output is shared, or read from the graph
behind the losses.
"""

import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from ..files import unknown
from ..strategies.reach import edge, leaves, reach
from ..strategies.shares import refuse_wrapped

LISTS = (nn.ModuleList, nn.ModuleDict)  # they compute nothing, so they are no module of a network's computation
Shared = Any  # a module, or modules, parameters, or names of either, in a sequence


class Network(nn.Module):
    """A network of somebody's, as an engine sees a model, see `strategies.known.SharingModel`.

    tasks: names.
    shared: what the tasks share, input side first: modules or parameters of the network, or their dotted names. A
        module in a list counts as one module, parameters that follow each other make one. One module alone stands for
        its parts.
    cut: the module whose output is shared, or its dotted name: what lies behind its output is shared.
    features: whether to measure gradients at the outputs of `cut`.
    combines: whether there is a strategy that needs something to be shared.

    A parameter that the losses of two tasks reach is shared whatever was said. `look` notes what the losses of a step
    reach, and knows it in steps in which some tasks are missing. Modules are in the order in which the network has
    them; with `cut` those that contain it are taken apart, and it itself. What is shared and not part of `shared` makes
    one module in front of it, for what the network has earlier, and one behind it.
    Raises ValueError for names and parts that the network does not have.
    """

    def __init__(self, net: nn.Module, tasks: Sequence[str], shared: Shared = None, cut: Any = None,
                 features: bool = False, combines: bool = False):
        super().__init__()
        refuse_wrapped(net)
        self.net, self.heads, self.features, self.combines = net, dict.fromkeys(tasks), features, combines
        self.by_name = dict(net.named_parameters())
        self.names = {id(parameter): name for name, parameter in self.by_name.items()}
        self.reached: dict[str, set[str]] = {name: set() for name in tasks}
        self.behind: set[str] = set()
        self.outputs: list[Tensor] = []
        self.given = None if shared is None else self._groups(shared)
        self.cut_name = None if cut is None else self._name_of(cut)
        if self.cut_name is not None:
            handle = net.get_submodule(self.cut_name).register_forward_hook(Exit(self))
            weakref.finalize(self, handle.remove)
        elif features:
            raise ValueError("at='features' measures where the shared representation ends, so it needs cut=: the "
                             "module whose output all tasks share, or its name.")

    # --- what an engine asks ---

    @property
    def exits(self) -> dict[str, list[Tensor]] | None:
        return {name: list(self.outputs) for name in self.heads} if self.features else None

    def shared_modules(self) -> list[list[nn.Parameter]]:
        shared = self._shared()
        if self.given is None:
            opened = () if self.cut_name is None else above(self.net, self.cut_name)
            return _some(parts(self.net, opened), lambda parameter: self.names[id(parameter)] in shared)
        mine = [self.names[id(parameter)] for group in self.given for parameter in group]
        order = {name: place for place, name in enumerate(self.by_name)}
        first = min(order[name] for name in mine)
        rest = [name for name in self.by_name if name in shared.difference(mine)]
        in_front = [self.by_name[name] for name in rest if order[name] < first]
        behind = [self.by_name[name] for name in rest if order[name] > first]
        return _some([in_front, *self.given, behind])

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        own = self.reached[task] - self._shared()
        return _some([[parameter for name, parameter in self.by_name.items() if name in own]], flat=True)

    def _shared(self) -> set[str]:
        """Names of what is shared, as far as that is known."""
        users: dict[str, int] = {}
        for name in (name for found in self.reached.values() for name in found):
            users[name] = users.get(name, 0) + 1
        given = {self.names[id(parameter)] for group in self.given or () for parameter in group}
        return given | self.behind | {name for name, count in users.items() if count > 1}

    # --- what the losses of a step reach ---

    def look(self, losses: Mapping[str, Tensor], held: Collection[int]) -> bool:
        """Note what the losses reach; whether any of it is new.

        held: ids of what the optimiser moves.
        Raises ValueError for a parameter that the losses reach and nobody trains, and where nothing is shared as said.
        """
        before = (len(self.behind), *map(len, self.reached.values()))
        for task, found in reach({name: loss for name, loss in losses.items() if loss.requires_grad}).whole.items():
            for key, leaf in found.items():
                if isinstance(leaf, nn.Parameter) or key in self.names:
                    self.reached[task].add(self._trained(key, leaf, held, task))
        if self.cut_name is not None:
            found, _ = leaves([edge(output) for output in self.outputs])
            self.behind |= {self.names[key] for key in found if key in self.names}
            if not self.outputs:
                raise ValueError(f"The module {self.cut_name!r}, given as cut, had no output with a graph before this "
                                 "step. Was the network called, in training mode, and through this module (a compiled "
                                 "network does not call its hooks)? Is all of it frozen?")
        if all(self.reached.values()):
            self._check()
        return before != (len(self.behind), *map(len, self.reached.values()))

    def _trained(self, key: int, leaf: Tensor, held: Collection[int], task: str) -> str:
        if key not in self.names:
            raise ValueError(f"The loss of task {task!r} reaches a parameter of shape {tuple(leaf.shape)} that the "
                             "network did not have when the loop was made. Give the loop all that learns in one "
                             "module: nn.ModuleList([net, criterion]).")
        if key not in held:
            raise ValueError(f"The loss of task {task!r} reaches {self.names[key]!r}, which learns and is not in the "
                             "optimiser: add it with loop.optimizer.add_param_group, or freeze it with "
                             "requires_grad_(False).")
        return self.names[key]

    def _check(self) -> None:
        """All tasks have come: is what they share what was said?"""
        everything = set().union(*self.reached.values())
        for group in self.given or ():
            names = [self.names[id(parameter)] for parameter in group]
            if everything.isdisjoint(names):
                raise ValueError(f"No loss reaches the shared parameters {_few(names)}. Are they parts of the way to "
                                 "the losses, or was it cut with detach()?")
        if self.behind and everything.isdisjoint(self.behind):
            raise ValueError(f"No loss comes from the output of {self.cut_name!r}, given as cut.")
        if self.combines and len(self.heads) > 1 and not self._shared():
            raise ValueError(f"No parameter is reached by the losses of two tasks ({', '.join(self.heads)}), so there "
                             "are no gradients to combine. With strategy='ew' each task learns alone.")

    # --- the state ---

    def known(self) -> dict[str, Any]:
        """What is known of the losses, as plain data."""
        return {"reached": {task: sorted(names) for task, names in self.reached.items()}, "behind": sorted(self.behind)}

    def know(self, known: Mapping[str, Any]) -> None:
        self.reached = {task: set(names) for task, names in known["reached"].items()}
        self.behind = set(known["behind"])

    # --- what was given ---

    def _groups(self, shared: Shared) -> list[list[nn.Parameter]]:
        if isinstance(shared, str):
            shared = self._named(shared)
        if isinstance(shared, nn.Module):
            self._name_of(shared)
            groups = parts(shared)
        else:
            items = [shared] if isinstance(shared, Tensor) else list(shared)
            items = [self._named(item) if isinstance(item, str) else item for item in items]
            groups = list[list[nn.Parameter]]()
            for is_module, some in groupby(items, lambda item: isinstance(item, nn.Module)):
                these: list[Any] = list(some)
                groups += [self._all_of(module) for module in these] if is_module else [these]
        for parameter in (parameter for group in groups for parameter in group):
            if not isinstance(parameter, Tensor):
                raise TypeError(f"shared holds {type(parameter).__name__}; give modules, parameters, or names of "
                                "either.")
            if id(parameter) not in self.names:
                raise ValueError(f"shared holds a parameter of shape {tuple(parameter.shape)} that is not one of this "
                                 f"{type(self.net).__name__}'s own.")
        if not _some(groups):
            raise ValueError("shared names nothing that learns: it is empty, or all of it is frozen. Leave it out, and "
                             "the graph says what is shared.")
        return _some(groups)

    def _all_of(self, module: nn.Module) -> list[nn.Parameter]:
        self._name_of(module)
        return list(module.parameters())

    def _named(self, name: str) -> nn.Module | nn.Parameter:
        if name in self.by_name:
            return self.by_name[name]
        return self.net.get_submodule(self._name_of(name))

    def _name_of(self, module: Any) -> str:
        """The dotted name of a module of the network; ValueError if it has none such."""
        names = {name: own for name, own in self.net.named_modules(remove_duplicate=False) if name}
        if isinstance(module, str):
            if module not in names:
                raise ValueError(unknown("module", module, _near(module, names)))
            return module
        if not isinstance(module, nn.Module):
            raise TypeError(f"cut is {type(module).__name__}; give a module of the network, or its dotted name.")
        found = next((name for name, own in names.items() if own is module), None)
        if found is None:
            raise ValueError(f"This {type(module).__name__} is not a part of the {type(self.net).__name__} that the "
                             "loop is made for.")
        return found


class Exit:
    """A forward hook: notes a module's outputs for a network. In a copy of the module it does nothing."""

    network: Any = staticmethod(lambda: None)

    def __init__(self, network: Network):
        self.network = weakref.ref(network)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        network = self.network()
        if network is not None and torch.is_grad_enabled() and (module.training or network.net.training):
            network.outputs += [tensor for tensor in tensors(output) if tensor.requires_grad]


def tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module returns: itself one, or dicts and sequences of them."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | list | tuple):
        for item in output.values() if isinstance(output, Mapping) else output:
            yield from tensors(item)


def parts(module: nn.Module, opened: Collection[nn.Module] = ()) -> list[list[nn.Parameter]]:
    """A module's parameters by its parts, in its own order: those of itself, then those of each child.

    Children that are lists are taken apart too, and those in `opened`.
    """
    groups = [list(module.parameters(recurse=False))]
    for child in module.children():
        groups += parts(child, opened) if isinstance(child, LISTS) or child in opened else [list(child.parameters())]
    return [group for group in groups if group]


def above(net: nn.Module, name: str) -> list[nn.Module]:
    """The module of this dotted name and those that it is in."""
    steps = name.split(".")
    return [net.get_submodule(".".join(steps[:length])) for length in range(1, len(steps) + 1)]


def _some(groups: Iterable[Iterable[nn.Parameter]], wanted: Any = lambda parameter: True, flat: bool = False) -> list:
    """The trainable ones, each where it comes first, and no empty groups."""
    done: set[int] = set()
    kept: list = []
    for group in groups:
        some = {id(p): p for p in group if p.requires_grad and wanted(p) and id(p) not in done}
        done |= some.keys()
        kept += some.values() if flat else [list(some.values())] if some else []
    return kept


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _near(name: str, names: Iterable[str]) -> list[str]:
    """The names at the same depth or higher, so that a large network's list can be read."""
    return [known for known in names if known.count(".") <= name.count(".")]
