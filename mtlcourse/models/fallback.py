"""A model, some of whose tasks are answered by their single-task networks. Imports `encoders`, `files`.

Which tasks these should be is chosen in `training.procedures.guard`.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..encoders import trial
from ..files import unknown

Users = dict[int, set[str]]  # for the id of a parameter or buffer, which tasks cannot be answered without it


class Fallback(nn.Module):
    """A trained model of any architecture, whose `tasks` are answered by their single-task networks instead.

    prediction of task t: `STL_t(x)` if t is one of `tasks`, otherwise what `model` predicts; either to the bit. Each
    network runs only for the tasks that it answers: where all tasks of a step fall back, `model` is not run at all.

    model: anything with `forward(inputs, tasks)`, `heads`, `exits` and `shared_modules()`, as `MTLModel` has them.
    alone: networks of these tasks that share nothing, as `STL` has them.
    tasks: those that fall back; none is allowed, and all are.
    guarded: these tasks, in the model's order.

    Both networks are copied, and the copies pruned: a parameter that only tasks which are answered elsewhere use
    becomes None, so that `parameters()` and `state_dict()` hold what is needed to answer and no more, and a network
    that answers no task is gone. Who uses a parameter is seen in a forward pass for each task on two samples of zeros.
    What a network says about itself besides its predictions (the `alphas()` of gates, for instance) has to be asked
    before. A state is loaded into a `Fallback` of the same tasks, whose networks may be untrained.

    It is not trained on: `training.fit` refuses it, because then nothing would be known any more of how tasks do
    beside their single-task networks. It starts in evaluation mode.
    Raises ValueError for tasks that are unknown or named twice, for networks of other inputs or outputs than the
    model's, and for those that share parameters; TypeError for one name in place of several.
    No source: ours; what it makes true is definition 3 of Deep Safe Multi-Task Learning.
    """

    def __init__(self, model: nn.Module, alone: nn.Module, tasks: Iterable[str]):
        super().__init__()
        names = list(model.heads)
        self.guarded = _checked(tasks, names, list(alone.heads))
        self._order = names
        self.exits: dict[str, list[Tensor]] | None = None
        others = [name for name in names if name not in self.guarded]
        _check_inputs(model, alone)
        model, alone = copy.deepcopy(model).eval(), copy.deepcopy(alone).eval()
        (of_model, shapes), (of_alone, shapes_alone) = (_users(network, alone) for network in (model, alone))
        _check_apart(alone, of_alone)
        for name in self.guarded:
            if shapes[name] != shapes_alone[name]:
                raise ValueError(f"Task {name!r}: on two samples the model predicts {shapes[name]} and the single-task "
                                 f"network {shapes_alone[name]}. They were made for different problems.")
        self.model = _pruned(model, of_model, others)
        self.alone = _pruned(alone, of_alone, self.guarded)
        self._users = {name: (of_model.get(id(p), set()) - set(self.guarded)) | of_alone.get(id(p), set())
                       for name, p in self.named_parameters()}
        self.eval()

    @property
    def task_names(self) -> list[str]:
        return self._order

    @property
    def heads(self) -> nn.ModuleDict:
        """Each task's head, that of the network which answers it."""
        return nn.ModuleDict({name: self._answering(name).heads[name] for name in self._order})

    def _answering(self, task: str) -> nn.Module:
        return self.alone if task in self.guarded else self.model

    def forward(self, inputs: Tensor | Mapping[str, Tensor], tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predict, as `MTLModel.forward` does, which says what `inputs` and `tasks` are.

        Raises ValueError for a task that the model does not have.
        """
        if tasks is None:
            tasks = [name for name in self._order if isinstance(inputs, Tensor) or name in inputs]
        self._check(tasks)
        found: dict[str, Tensor] = {}
        exits: dict[str, list[Tensor]] = {}
        for network in (self.model, self.alone):
            answered = [name for name in tasks if self._answering(name) is network]
            if answered:
                found |= network(inputs, answered)
                exits |= network.exits or {}
        self.exits = {name: exits.get(name, []) for name in tasks}
        return {name: found[name] for name in tasks}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "exits": None}  # they belong to a graph, which a copy of the model does not have

    def _check(self, tasks: Iterable[str]) -> None:
        for name in tasks:
            if name not in self._order:
                raise ValueError(unknown("task", name, self._order))

    # --- who uses what ---

    def shared_modules(self) -> list[list[nn.Parameter]]:
        """The trainable parameters that two or more tasks still share, grouped by module, input side first."""
        shared = {id(p) for name, p in self.named_parameters() if len(self._users[name]) > 1}
        groups = self.model.shared_modules() if self.model is not None else []
        return [kept for group in groups if (kept := [p for p in group if id(p) in shared])]

    def shared_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters that two or more tasks still share."""
        return [parameter for group in self.shared_modules() for parameter in group]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The trainable parameters that only `task` uses."""
        self._check([task])
        return [p for name, p in self.named_parameters() if p.requires_grad and self._users[name] == {task}]

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Refuses, as this is what a training asks for first."""
        raise ValueError(f"A Fallback answers with trained networks, and to train them on would leave its choice of "
                         f"tasks ({self.guarded}) without a reason. Train the model and the single-task networks, then "
                         "guard what comes out.")


# --- who uses what ------------------------------------------------------------------------------------------------

class Touched(TorchFunctionMode):
    """Inside, `ids` collects the ids of all tensors that functions of torch are given.

    Unlike autograd it sees what is used without a gradient too: frozen parameters, buffers, rotations.
    """

    def __init__(self):
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self._note([*args, *kwargs.values()])
        return function(*args, **kwargs)

    def _note(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, Tensor):
                self.ids.add(id(value))
            elif isinstance(value, list | tuple):
                self._note(value)


def _users(network: nn.Module, sized: nn.Module) -> tuple[Users, dict[str, tuple[int, ...]]]:
    """Which tasks use which of the network's tensors, and what shape the predictions for two samples have.

    sized: what knows the shape of the inputs.
    """
    tensors = [*network.parameters(), *network.buffers()]
    x = trial(sized.input_shape, sized.input_dtype)
    own = next((t for t in tensors if t.is_floating_point()), x)
    x = torch.zeros(x.shape, dtype=own.dtype if x.is_floating_point() else x.dtype, device=own.device)
    users: Users = {}
    shapes = {}
    for name in network.heads:
        with torch.no_grad(), Touched() as touched:
            shapes[name] = tuple(network(x, [name])[name].shape)
        for tensor in tensors:
            if id(tensor) in touched.ids:
                users.setdefault(id(tensor), set()).add(name)
    return users, shapes


def _pruned(network: nn.Module, users: Users, tasks: Sequence[str]) -> nn.Module | None:
    """The network without what only other tasks use; None if there is no task. What nobody uses stays."""
    if not tasks:
        return None
    for module in list(network.modules()):
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if id(tensor) in users and not users[id(tensor)] & set(tasks):
                setattr(module, name, None)
    return network


# --- what cannot be -----------------------------------------------------------------------------------------------

def _checked(tasks: Iterable[str], names: Sequence[str], alone: Sequence[str]) -> list[str]:
    """`tasks` in the order of `names`, those of the model."""
    if isinstance(tasks, str):
        raise TypeError(f"tasks={tasks!r} is one name; give a list of names, such as [{tasks!r}].")
    counted = Counter(tasks)
    for name, times in counted.items():
        if name not in names:
            raise ValueError(unknown("task", str(name), names))
        if name not in alone:
            raise ValueError(f"There is no single-task network of {name!r} to fall back on; there are those of "
                             f"{', '.join(alone)}.")
        if times > 1:
            raise ValueError(f"Task {name!r} is named {times} times; once is enough.")
    return [name for name in names if name in counted]


def _check_inputs(model: nn.Module, alone: nn.Module) -> None:
    own = tuple(getattr(model, "input_shape", alone.input_shape))
    if own != tuple(alone.input_shape):
        raise ValueError(f"The model takes samples of shape {own} and the single-task networks of shape "
                         f"{tuple(alone.input_shape)}. They were made for different problems.")


def _check_apart(alone: nn.Module, users: Users) -> None:
    shared = [name for name, p in alone.named_parameters() if len(users.get(id(p), ())) > 1]
    if shared:
        raise ValueError(f"{type(alone).__name__} is no set of single-task networks: {len(shared)} of its parameters "
                         f"are used by several tasks ({shared[0]} is one). Give a models.STL.")
