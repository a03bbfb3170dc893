"""What a step of each sharing architecture costs beyond its parts, as ratios to what it is held to.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/architectures.py [step stl] [names of architectures]`. What is
compared runs in turns, and medians are printed.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from core import interleaved, single, verdict
from torch import Tensor, nn

from mtlcourse import counts, data, methods, models
from mtlcourse.files import seed_everything
from mtlcourse.tasks import Batch, Problem, mean_losses
from mtlcourse.training.updates import make_optimizer, make_step

NAMES = ["hps", "stl", "dsmtl-jl", "cross-stitch", "nddr", "mtan", "afa", "mmoe", "cgc", "ple", "dmtrl", "tnrmtl",
         "mrn", "rotograd", "maxroam", "tsn"]
SETTINGS = {"multidigits": ({"train": 512, "val": 8, "test": 8}, 128),
            "rooms": ({"train": 64, "val": 8, "test": 8}, 16)}
STEPS, TURNS = 3, 9  # steps in one measurement, and measurements


def prepared(name: str) -> tuple[Problem, Batch]:
    sizes, batch_size = SETTINGS[name]
    problem = data.load(name, **sizes)
    return problem, next(problem.train.batches(batch_size))


def stepping(problem: Problem, batch: Batch, model: nn.Module) -> Callable[[], None]:
    step = make_step(problem.tasks, model.train(), precision="float32")
    return lambda: [step(batch) for _ in range(STEPS)] and None


def built(name: str, problem: Problem) -> nn.Module:
    seed_everything(0)
    return methods.build(name, problem)


# --- the parts ----------------------------------------------------------------------------------------------

Call = tuple[nn.Module, tuple, dict]


def calls(model: nn.Module, batch: Batch) -> list[Call]:
    """The modules that the model calls itself in a forward pass, with what it gives them: stages, mixers, heads."""
    made: list[Call] = []
    depth = 0

    def enter(module: nn.Module, arguments: tuple, keywords: dict) -> None:
        nonlocal depth
        if depth == 0:
            made.append((module, arguments, keywords))
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    hooks = [hook for module in list(model.modules())[1:] for hook in (
        module.register_forward_pre_hook(enter, with_kwargs=True), module.register_forward_hook(leave))]
    model.train()(batch.inputs)
    for hook in hooks:
        hook.remove()
    return made


def apart(value: Any) -> Any:
    """The same arguments, cut off from the graph that made them; they ask for gradients if they did."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    if isinstance(value, list | tuple):
        return type(value)(apart(one) for one in value)
    return value


def tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [
        tensor for one in value for tensor in tensors(one)] if isinstance(value, list | tuple) else []


def parts(problem: Problem, batch: Batch, model: nn.Module) -> Callable[[], None]:
    """Every part forward and backward by itself, the losses, and the optimiser."""
    made = [(module, apart(arguments), keywords) for module, arguments, keywords in calls(model, batch)]
    predictions = {name: prediction.detach() for name, prediction in model(batch.inputs).items()}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam = make_optimizer("adam", [{"params": learning}], 0.0)

    def one_step() -> None:
        losses = mean_losses(problem.tasks, {name: p.requires_grad_() for name, p in predictions.items()}, batch)
        torch.autograd.grad(sum(losses.values()), list(predictions.values()))
        for module, arguments, keywords in made:
            outputs = [output for output in tensors(module(*arguments, **keywords)) if output.requires_grad]
            wanted = [tensor for tensor in (*tensors(arguments), *module.parameters()) if tensor.requires_grad]
            if outputs and wanted:
                torch.autograd.grad(outputs, wanted, [torch.ones_like(output) for output in outputs],
                                    allow_unused=True)
        adam.step()

    for parameter in learning:
        parameter.grad = torch.zeros_like(parameter)
    return lambda: [one_step() for _ in range(STEPS)] and None


# --- what is measured ---------------------------------------------------------------------------------------

def step(names: list[str]) -> None:
    """A step against the sum of its parts timed alone: stages, mixing layers, heads, losses and optimiser."""
    for setting in SETTINGS:
        problem, batch = prepared(setting)
        flops = {}
        for name in names:
            with torch.device("meta"):
                flops[name] = counts.flops(methods.build(name, problem), problem.input_shape)
            print(f"{setting}, {name}: {flops[name] / 1e6:.2f} MFLOP a sample forward, "
                  f"{flops[name] / flops[names[0]]:.2f} of {names[0]}")
            taken = interleaved(TURNS, step=stepping(problem, batch, built(name, problem)),
                                parts=parts(problem, batch, built(name, problem)))
            verdict(f"{setting}, {name}: step over the sum of its parts", taken["step"] / taken["parts"], 1.3)


def stl(_: list[str]) -> None:
    """A step of single-task learning of m tasks against m steps of one task each."""
    for setting in SETTINGS:
        problem, batch = prepared(setting)
        alone = [stepping(one, Batch(batch.inputs, {task.name: batch.targets[task.name]}), models.STL(one))
                 for task in problem.tasks for one in [single(problem, task.name)]]
        taken = interleaved(TURNS, together=stepping(problem, batch, models.STL(problem)),
                            apart=lambda alone=alone: [run() for run in alone] and None)
        verdict(f"{setting}: STL of {len(alone)} tasks over {len(alone)} trainings",
                taken["together"] / taken["apart"], 1.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    known = {"step": step, "stl": stl}
    chosen = [name for name in sys.argv[1:] if name in known] or known
    for what in chosen:
        print(f"{what}: {known[what].__doc__.strip()}")
        known[what]([name for name in sys.argv[1:] if name not in known] or NAMES)
