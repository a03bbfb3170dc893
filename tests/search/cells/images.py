"""Small images, some from elsewhere, and steps of E2RNAS on them."""

import torch
from torch import Tensor, nn

from mtlcourse import data
from mtlcourse.data.probes import robustness
from mtlcourse.files import seed_everything
from mtlcourse.models import MTLModel
from mtlcourse.search.bilevel import halves
from mtlcourse.search.cells.genotype import CellSpace
from mtlcourse.search.cells.objectives import Attack, Foreign, Objectives
from mtlcourse.search.cells.procedures import wanted_sizes
from mtlcourse.search.cells.resources import Resources
from mtlcourse.search.cells.sizes import CellSearch
from mtlcourse.search.cells.step import E2RNASStep, include_outside
from mtlcourse.tasks import Batch, Problem, TensorSplit
from mtlcourse.training.updates import make_step

TINY = "cells=3, channels=2, nodes=1, derived_cells=3, derived_channels=2, order=first"  # options of a method's name


def split(samples: int, seed: int, dtype: torch.dtype) -> TensorSplit:
    generator = torch.Generator().manual_seed(seed)
    kind = torch.arange(samples) % 3
    x = 0.6 * torch.rand(samples, 1, 8, 8, generator=generator)
    x[torch.arange(samples), 0, 2 * kind, 1:7] += 0.4  # which row is bright
    return TensorSplit(x.to(dtype), {"row": kind})


def images(train: int = 48, dtype: torch.dtype = torch.float32, probes: bool = False) -> Problem:
    """Which row is bright; what is outside has none."""
    generator = torch.Generator().manual_seed(9)
    outside = {name: torch.rand(samples, 1, 8, 8, generator=generator).to(dtype)
               for name, samples in (("lower", 30), ("upper", 26), ("test", 20))}
    splits = (split(samples, seed, dtype) for seed, samples in enumerate((train, 24, 30)))
    return Problem("images", [data.classification("row", 3)], *splits, (1, 8, 8),
                   {"name": "conv", "channels": [2], "norm": None}, {"epsilon": 0.1},
                   robustness(0.1, steps=2) if probes else {}, outside=outside,
                   training={"fast": {"epochs": 1, "batch_size": 8}, "smoke": {"epochs": 1, "batch_size": 8}})


class Smooth(MTLModel):
    """A smooth net with the architecture parameters of a cell space: softplus and average pooling, no kink anywhere."""

    def __init__(self, problem: Problem, space: CellSpace):
        super().__init__(problem)
        self.space, (edges, operations) = space, space.shape
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.bank = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(operations - 2))
        self.add_heads((3, 4, 4))
        self.alpha = nn.ParameterList(0.3 * torch.randn(edges, operations) for _ in range(2))

    def route(self, task: str) -> list[nn.Module]:
        return [self.stem, *self.bank, self.heads[task]]

    def represent(self, x: Tensor, tasks) -> dict[str, Tensor]:
        z = nn.functional.softplus(self.stem(x))
        for weights in self.space.weights(self.alphas()):
            maps = [z, nn.functional.avg_pool2d(z, 3, 1, 1), *(nn.functional.softplus(f(z)) for f in self.bank)]
            z = sum(w[n] * m for w in weights for n, m in enumerate(maps)) / len(weights)
        return {name: self.leave(name, nn.functional.avg_pool2d(z, 2)) for name in tasks}

    def alphas(self) -> list[Tensor]:
        return list(self.alpha)

    def architecture_parameters(self) -> list[nn.Parameter]:
        return list(self.alpha)

    def param_groups(self, lr: float, weight_decay: float) -> list[dict]:
        return [{"params": self.learning(without=self.alpha), "lr": lr, "weight_decay": weight_decay}]


def made(problem: Problem, model: str = "cells", lower: str = "ood", lr: float = 0.05, epsilon: float = 0.1,
         units="relative", attack: str = "fgsm", wanted=(None, None), **options) -> tuple[E2RNASStep, Batch, Batch]:
    """A step of E2RNAS, and a batch of either level."""
    seed_everything(4)
    if model == "smooth":
        space = CellSpace(1)
        net = Smooth(problem, space)
        resources = Resources.of(problem, space, 3, 2)
    else:
        net = CellSearch(problem, cells=3, channels=2, nodes=1, derived_cells=3, derived_channels=2)
        resources = net.resources(problem)
    if problem.input_dtype == torch.float64:
        net.double()
    below, above = halves(problem)
    step = make_step(problem.tasks, net, optimizer=sgd, lr=lr, precision=options.pop("precision", "auto"))
    foreign = Foreign(problem, 8, 0, ["upper", *([] if lower == "none" else ["lower"])])
    if lower != "none":
        include_outside(step, foreign)
    objectives = Objectives(step, foreign, Attack(attack, epsilon), resources, wanted_sizes(resources, *wanted), units)
    whole = E2RNASStep(objectives, above, batch_size=8, lr=0.05, attack_below=lower == "adversarial", **options)
    foreign.draw()
    return whole, next(above.batches(8)), next(below.train.batches(8))


def sgd(groups: list[dict]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9)
