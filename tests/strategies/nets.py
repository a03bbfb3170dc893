"""Small models of every shape the engine must cope with, and strategies with chosen weights."""

import torch
from torch import Tensor, nn

from mtlcourse import models
from mtlcourse.strategies import Strategy, TaskWeights
from mtlcourse.tasks import Problem, mean_losses
from tests.problems import doubled, small


class Fixed(Strategy):
    """Weights that were chosen beforehand: `(m,)` or `(modules, m)`."""

    kind = "gradient"

    def __init__(self, shared, heads=None, needs: str = "gram"):
        super().__init__()
        self.needs = needs
        self.shared = torch.tensor(shared, dtype=torch.float64)
        self.heads = self.shared if heads is None else torch.tensor(heads, dtype=torch.float64)
        self.looked_at = []

    def weights(self, losses, gram=None, present=None):
        self.looked_at.append((losses, gram, present))
        return TaskWeights(self.shared.clone(), self.heads.clone())


class Sum(Strategy):
    """All gradients as rows, and their sum as the direction."""

    needs, kind = "gradients", "gradient"

    def weights(self, losses, gram=None, present=None):
        ones = torch.ones(self.m, dtype=torch.float64)
        return TaskWeights(ones, ones)

    def direction(self, gradients, losses=None):
        self.rows = gradients
        return gradients.sum(0)


class Branched(models.MTLModel):
    """The first task leaves after the first stage, the others after the second."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.shared = self.new_encoder("shared")
        first, *others = self.task_names
        self.private = nn.ModuleDict({first: self.new_encoder("private").stages[1]})
        self.add_heads(self.shared.out_shape)

    def route(self, task: str) -> list[nn.Module]:
        stages = list(self.shared.stages)
        middle = [stages[0], self.private[task]] if task in self.private else stages
        return [*middle, self.heads[task]]

    def represent(self, x: Tensor, tasks) -> dict[str, Tensor]:
        early = self.shared.stages[0](x)
        late = self.shared.stages[1](early)
        return {name: self.private[name](self.leave(name, early)) if name in self.private else self.leave(name, late)
                for name in tasks}


class Normed(models.MTLModel):
    """Batch, layer and group norm in the trunk."""

    def __init__(self, problem: Problem):
        super().__init__(problem, [nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()),
                                   nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.ReLU())])
        self.shared = self.new_encoder("shared")
        self.add_heads(self.shared.out_shape)

    route, represent = models.HPS.route, models.HPS.represent


class Plain(nn.Module):
    """A model of one's own that does not say where sharing ends."""

    exits = None

    def __init__(self, problem: Problem):
        super().__init__()
        self.trunk = nn.Linear(4, 6)
        self.heads = nn.ModuleDict({task.name: nn.Linear(6, task.out_channels) for task in problem.tasks})

    def forward(self, x):
        z = torch.relu(self.trunk(x))
        return {name: head(z) for name, head in self.heads.items()}

    def shared_modules(self):
        return [list(self.trunk.parameters())]

    def task_parameters(self, task):
        return list(self.heads[task].parameters())


class SameExit(Plain):
    """Hands the very same tensor to all tasks as their exit."""

    def forward(self, x):
        z = torch.relu(self.trunk(x))
        self.exits = {name: [z] for name in self.heads}
        return {name: head(z) for name, head in self.heads.items()}


class Talking(SameExit):
    """Each head also looks at the exits of the others."""

    def forward(self, x):
        z = torch.relu(self.trunk(x))
        self.exits = {name: [z.view_as(z)] for name in self.heads}
        everything = sum(zs[0] for zs in self.exits.values())
        return {name: head(self.exits[name][0] + 0.3 * everything) for name, head in self.heads.items()}


class Leaking(SameExit):
    """Claims an exit, but one task has another way to the trunk."""

    def forward(self, x):
        z = torch.relu(self.trunk(x))
        self.exits = {name: [z.view_as(z)] for name in self.heads}
        first, *_ = self.heads
        return {name: head(self.exits[name][0] + (z if name == first else 0)) for name, head in self.heads.items()}


class Interleaved(SameExit):
    """Each task scales the input of the trunk by a number of its own: own parameters come before shared ones."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.scale = nn.ParameterDict({task.name: nn.Parameter(torch.full((1,), 0.7 + 0.2 * t))
                                       for t, task in enumerate(problem.tasks)})

    def forward(self, x):
        self.exits = {name: [torch.relu(self.trunk(x * self.scale[name]))] for name in self.heads}
        return {name: head(self.exits[name][0]) for name, head in self.heads.items()}

    def task_parameters(self, task):
        return [*self.heads[task].parameters(), self.scale[task]]


OWN = [Plain, SameExit, Talking, Leaking, Interleaved]
EVERY = [models.HPS, models.STL, models.DSMTL, Branched, Normed, *OWN]
NAMES = ("kind", "size", "big")


def model_and_batch(build, names=NAMES, own: bool = False, void: float = 0.0, seed: int = 0, double: bool = False):
    """A model, and a function that computes its task losses on one fixed batch, anew at each call."""
    problem = small(names, train=24, own=own, void=void)
    torch.manual_seed(seed)
    model = build(problem)
    if double:
        problem, model = doubled(problem), model.double()
    batch = next(problem.train.batches(24))

    def losses(forward=None) -> dict[str, Tensor]:
        return mean_losses(problem.tasks, (model if forward is None else forward)(batch.inputs), batch)

    return model, losses


def shared_of(model) -> list[nn.Parameter]:
    return [parameter for group in model.shared_modules() for parameter in group]


def task_gradients(model, losses: dict[str, Tensor]) -> list[Tensor]:
    """For each shared parameter the gradients of all m losses, `(m, *shape)`: one plain autograd call a task."""
    parameters = shared_of(model)
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True) if parameters else ()
            for loss in losses.values()]
    return [torch.stack(row) for row in zip(*rows, strict=True)]




class Chained(models.HPS):
    """Heads in a chain: the first task's prediction is a factor of the second's, as in click and conversion."""

    def forward(self, inputs, tasks=None):
        found = super().forward(inputs, tasks)
        first, second, *_ = self.task_names
        return {**found, second: found[first][:, :1] * found[second]} if {first, second} <= found.keys() else found
