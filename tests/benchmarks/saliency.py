"""What SRDML's regulariser costs, as ratios to a forward pass, one call for saliency and one backward pass.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/saliency.py`. What is compared runs in turns, and medians are
printed. The targets are 1.4 for the distances that a Gram matrix gives, 2.2 for l1, and a loop over samples that is
at least ten times slower.
"""

import torch
from core import interleaved, seconds, verdict
from torch import Tensor

from mtlcourse import data, models
from mtlcourse.files import seed_everything
from mtlcourse.models.saliency import DISTANCES, saliencies, scores
from mtlcourse.tasks import Batch, Problem, mean_losses

TASKS, BATCH, TURNS = (3, 10, 19), 64, 9
ENCODER = {"name": "conv", "channels": [16, 32, 32], "head": [128], "activation": "softplus"}


def prepared(m: int) -> tuple[Problem, Batch]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(BATCH, 1, 28, 28, generator=generator)
    tasks = [data.binary(f"task_{t}") for t in range(m)]
    targets = {task.name: torch.randint(2, (BATCH,), generator=generator) for task in tasks}
    return Problem("tasks", tasks, None, None, None, (1, 28, 28), ENCODER), Batch(inputs, targets)


def floor(problem: Problem, model: models.SRDML, batch: Batch) -> None:
    """Forward, one call for saliency, one backward pass through both."""
    predictions = model(batch.inputs)
    names = model.task_names
    found = saliencies(scores(predictions, batch.targets, names), [model.exits[name][0] for name in names], names)
    (sum(mean_losses(problem.tasks, predictions, batch).values()) + found.sum()).backward()


def whole(problem: Problem, model: models.SRDML, batch: Batch) -> None:
    predictions = model(batch.inputs)
    auxiliary = model.auxiliary_loss(batch, predictions)
    (sum(mean_losses(problem.tasks, predictions, batch).values()) + auxiliary).backward()


def looped(problem: Problem, model: models.SRDML, batch: Batch) -> None:
    """The same, where saliency comes a sample and a task at a time."""
    predictions = model(batch.inputs)
    rows: list[Tensor] = []
    for name in model.task_names:
        exit = model.exits[name][0]
        rows += [torch.autograd.grad(one, exit, create_graph=True)[0][n].flatten()
                 for n, one in enumerate(predictions[name].flatten())]
    (sum(mean_losses(problem.tasks, predictions, batch).values()) + torch.stack(rows).sum()).backward()


def measure(m: int) -> None:
    problem, batch = prepared(m)
    made = {}
    for distance in DISTANCES:
        seed_everything(0)
        made[distance] = models.SRDML(problem, distance=distance)
    medians = interleaved(TURNS, floor=lambda: floor(problem, made["l2"], batch), **{
        distance: lambda model=model: whole(problem, model, batch) for distance, model in made.items()})
    for distance in DISTANCES:
        verdict(f"m = {m:2}, {distance}", medians[distance] / medians["floor"], 2.2 if distance == "l1" else 1.4)
    if m == TASKS[0]:
        slow = seconds(lambda: looped(problem, made["l2"], batch))
        verdict(f"m = {m:2}, a loop over samples", slow / medians["floor"], 10, at_least=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for m in TASKS:
        measure(m)
