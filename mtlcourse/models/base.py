"""What every sharing architecture has: heads, routes of the tasks, and where sharing ends.

Imports `encoders`, `files`, `tasks`. A model says, for each task, which modules its data pass on the
way from input to prediction (`route`); which parameters are shared follows from that and is not
written down twice.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import StagedEncoder, as_stages, build, decoder
from ..files import part, unknown
from ..tasks import Problem

Encoder = Mapping | str | nn.Module | Sequence[nn.Module] | None  # what a model's `encoder` argument may be


class MTLModel(nn.Module):
    """Base of all sharing architectures.

    A subclass builds its encoders (`self.new_encoder("name of the part")`), calls `self.add_heads()`
    and defines two methods:

    route(task): the modules that the task's data pass, input side first, its head last.
    represent(x, tasks): from one input tensor `(batch, ...)` the representation that each of `tasks`
        hands to its head; it calls `self.leave(task, z)` wherever a shared representation `z` goes
        over into what is the task's own, so that `exits[task]` lists those points.

    Optional hooks, called by `training.fit` when they are there: `auxiliary_loss(batch, predictions)`,
    `param_groups(lr, weight_decay)`, `after_backward(losses, weights)`, `after_step(step)`,
    `on_epoch_end(epoch, mean_losses)`, and `report() -> {task: {name: value}}`, which goes into the history after
    each epoch.

    problem: tasks and input shape; its data are not looked at.
    encoder: a spec as `encoders.build` takes it (default: the problem's own), a `StagedEncoder` or a
        list of modules; given modules are copied, weights and all, for each of the model's encoders.
    Raises TypeError for an encoder that is none of these.
    """

    _encoder: Encoder
    differentiates_twice = False  # whether training needs gradients of gradients, which compiled models do not have

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__()
        self.tasks = problem.tasks
        self.input_shape, self.input_dtype = tuple(problem.input_shape), problem.input_dtype
        encoder = problem.encoder if encoder is None else encoder
        encoder = {"name": encoder} if isinstance(encoder, str) else encoder
        self._decoder = getattr(encoder, "decoder", decoder)
        # Past nn.Module's own assignment, with which a given encoder would become a part of this model.
        self.__dict__["_encoder"] = (
            encoder if isinstance(encoder, Mapping | StagedEncoder) else as_stages(encoder))
        self.exits: dict[str, list[Tensor]] | None = None

    @property
    def task_names(self) -> list[str]:
        return [task.name for task in self.tasks]

    # --- building ---

    def new_encoder(self, name: str) -> StagedEncoder:
        """A fresh encoder for the part `name`; equal seeds and names give equal weights in every model."""
        if isinstance(self._encoder, Mapping):
            with part(name):
                encoder = build(self._encoder, self.input_shape, self.input_dtype)
            self._decoder = encoder.decoder
            return encoder
        return StagedEncoder(copy.deepcopy(self._encoder), self.input_shape, self._decoder, self.input_dtype)

    def add_heads(self, shape: Sequence[int]) -> None:
        """Make each task's head, of the encoder's kind, on representations of `shape`; after the encoders are made."""
        self.heads = nn.ModuleDict()
        for task in self.tasks:
            with part(f"head.{task.name}"):
                self.heads[task.name] = self._decoder(task, shape, self.input_shape)

    # --- running ---

    def route(self, task: str) -> list[nn.Module]:
        raise TypeError(f"{type(self).__name__} must define route(task).")

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        raise TypeError(f"{type(self).__name__} must define represent(x, tasks).")

    @torch.compiler.disable  # a compiled forward pass would hide the exits from the engine
    def leave(self, task: str, z: Tensor) -> Tensor:
        """Note that shared representation `z` ends here for `task`; returns what the task goes on with."""
        z = z.view_as(z)  # an alias of its own: each task's gradient at its exit can be told apart
        self.exits.setdefault(task, []).append(z)
        return z

    def forward(self, inputs: Tensor | Mapping[str, Tensor], tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predict: `{task: prediction}` for `tasks`, by default all (of those that `inputs` has data for).

        inputs: `(batch, *input_shape)`, or `{task: (batch of that task, *input_shape)}`.
        Raises ValueError for a task that the model does not have.
        """
        own_inputs = not isinstance(inputs, Tensor)
        if tasks is None:
            tasks = [name for name in self.task_names if not own_inputs or name in inputs]
        for name in tasks:
            if name not in self.heads:
                raise ValueError(unknown("task", name, self.heads))
        self.exits = {name: [] for name in tasks}
        if own_inputs:
            representations = {name: self.represent(inputs[name], [name])[name] for name in tasks}
        else:
            representations = self.represent(inputs, tasks)
        return {name: self.heads[name](representations[name]) for name in tasks}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "exits": None}  # they belong to a graph, which a copy of the model does not have

    # --- who uses what ---

    def learning(self, without: Iterable[nn.Parameter] = ()) -> list[nn.Parameter]:
        """The trainable parameters, those of `without` left out."""
        left_out = {id(parameter) for parameter in without}
        return [parameter for parameter in self.parameters()
                if parameter.requires_grad and id(parameter) not in left_out]

    def _users(self) -> dict[int, set[str]]:
        users: dict[int, set[str]] = {}
        for name in self.task_names:
            for module in self.route(name):
                for parameter in module.parameters():
                    users.setdefault(id(parameter), set()).add(name)
        return users

    def shared_modules(self) -> list[list[nn.Parameter]]:
        """The trainable parameters that two or more tasks reach, grouped by module, input side first."""
        users, done, groups = self._users(), set(), []
        for depth in range(max(len(self.route(name)) for name in self.task_names)):
            for name in self.task_names:
                group = [p for module in self.route(name)[depth : depth + 1] for p in module.parameters()
                         if p.requires_grad and len(users[id(p)]) > 1 and id(p) not in done]
                done.update(id(p) for p in group)
                if group:
                    groups.append(group)
        return groups

    def shared_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters that two or more tasks reach."""
        return [parameter for group in self.shared_modules() for parameter in group]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The trainable parameters that only `task` reaches. Raises ValueError for an unknown task."""
        if task not in self.heads:
            raise ValueError(unknown("task", task, self.heads))
        users = self._users()
        own = {id(p): p for module in self.route(task) for p in module.parameters()
               if p.requires_grad and users[id(p)] == {task}}
        return list(own.values())
