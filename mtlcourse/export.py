"""A stored run as files for other programs: its weights, what it takes to build the network, and a program.

Imports `data`, `files`, `rebuilding`, `runs`, `tasks`. `model.safetensors` and `model.json` are the network, for
whoever has this package; `model.pt2` is a `torch.export` program, for whoever has torch alone.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import __version__, runs
from .data import DomainProblem
from .files import atomic, write_json
from .rebuilding import described, rebuild
from .tasks import Task

WEIGHTS, DESCRIPTION, PROGRAM = "model.safetensors", "model.json", "model.pt2"
TOLERANCE = 1e-5  # by which a program's predictions may differ from the network's, absolutely and relatively
TRIED = (1, 5)  # samples of the batches on which that is looked at


@dataclass
class Exported:
    """What `export` has written.

    folder: where.  files: their names.  batch: samples that the program takes at once, None for any number, 0 where
    there is no program.  difference: the largest between its predictions and the network's, see `difference`.
    reason: a sentence for what could not be exported; empty if all could.
    """

    folder: Path
    files: list[str]
    batch: int | None
    difference: float
    reason: str = ""


class Served(nn.Module):
    """A trained network from inputs `(batch, ...)` to `{task: prediction}`, of which nothing stays behind."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.eval()
        for tensor in (*model.parameters(), *model.buffers()):  # an archive has no place for a slice of a larger tensor
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        predictions = self.model(inputs)
        for network in self.model.modules():  # exits belong to a step's graph, and an export refuses what is assigned
            if hasattr(network, "exits"):
                network.exits = None
        return predictions


def export(run: str | Path, out: str | Path) -> Exported:
    """Write the trained network of the run in folder `run` into folder `out`, and compare it with the run's own.

    model.safetensors: the weights.  model.json: the run's configuration and what it learned, by which `load` builds the
        network again; and, for other readers, the shape and type of an input, and each task's name, kind and meaning.
    model.pt2: a `torch.export` program from a tensor of inputs to `{task: prediction}`, in evaluation mode, for any
        number of samples at once, or for one where the network's code depends on that number.
    The files are read again, and their predictions compared with the run's on random inputs. A program that cannot be
    made, or that says something else, is left out, and `Exported.reason` says why; the two other files stay.
    Raises what `runs.load` raises; OSError where the disk refuses; ValueError where the network read again is another.
    """
    folder, content = Path(out), runs.read(Path(run))
    model = runs.load(run).model
    assert model is not None  # load has made it
    problem = described(content["config"])
    inputs = sample(problem.input_shape, problem.input_dtype)
    _write_network(folder, model, content, problem)
    with torch.no_grad():
        expected = [model(x) for x in inputs]
        if difference(expected, [load(folder)(x) for x in inputs]) != 0:
            raise ValueError(f"The network read again from {folder} predicts something else than the run in {run}. Was "
                             "the folder written to at the same time? Export it into another one.")
    files, path = [WEIGHTS, DESCRIPTION], folder / PROGRAM
    path.unlink(missing_ok=True)  # of an earlier export, which would not be this network
    batch, reason = _write_program(path, model, inputs)
    if batch == 0:
        return Exported(folder, files, 0, 0.0, reason)
    apart = _difference_of_program(path, [x for x in inputs if batch in (None, len(x))], model)
    if apart > TOLERANCE:
        path.unlink()
        return Exported(folder, files, 0, apart, f"The program's predictions differ from the network's by {apart:.3g}, "
                        f"more than {TOLERANCE:g}: it was deleted.")
    return Exported(folder, [*files, PROGRAM], batch, apart, reason)


def load(folder: str | Path) -> nn.Module:
    """The network in a folder that `export` has written, in evaluation mode. Nothing is unpickled.

    Raises FileNotFoundError for a folder without, ValueError for another version's and for files that are cut off.
    """
    content = runs.read(Path(folder), DESCRIPTION)
    model = rebuild(content["config"], content["learned"])
    model.load_state_dict(runs.weights_of(folder))
    return model


def sample(shape: Sequence[int], dtype: torch.dtype | None) -> list[Tensor]:
    """Random inputs to compare on, batches of `TRIED` samples; whole numbers are zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    if dtype is None or dtype.is_floating_point:
        return [torch.randn(n, *shape, generator=generator, dtype=dtype) for n in TRIED]
    return [torch.randint(2, (n, *shape), generator=generator, dtype=dtype) for n in TRIED]


def meaning(task: Task) -> dict[str, Any]:
    """A task as plain data, with a sentence on what its prediction is."""
    pixels = ", height, width" if task.dense else ""
    if task.kind == "regression":
        says = f"values (batch, {task.out_channels}{pixels})"
    elif task.out_channels == 1:
        says = f"logits (batch, 1{pixels}); above 0 is class 1"
    else:
        says = f"logits (batch, {task.out_channels}{pixels}); the largest along dimension 1 is the class"
    return {"name": task.name, "kind": task.kind, "dense": task.dense, "out_channels": task.out_channels,
            "classes": task.classes if task.kind == "classification" else None, "prediction": says}


# --- writing ------------------------------------------------------------------------------------------------------

def _write_network(folder: Path, model: nn.Module, content: Mapping[str, Any], problem: Any) -> None:
    from safetensors.torch import save_file

    tasks = [problem.task] if isinstance(problem, DomainProblem) else problem.tasks
    dtype = str(problem.input_dtype or torch.float32).removeprefix("torch.")
    weights = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    atomic(folder / WEIGHTS, lambda path: save_file(weights, path))
    write_json(folder / DESCRIPTION, {
        "input": {"shape": list(problem.input_shape), "dtype": dtype}, "tasks": [meaning(task) for task in tasks],
        "metrics": content["metrics"], "config": content["config"], "learned": content["learned"],
        "package": __version__})


def _write_program(path: Path, model: nn.Module, inputs: Sequence[Tensor]) -> tuple[int | None, str]:
    """The number of samples that the program takes, see `Exported`, and what there is to say of it."""
    single, several = inputs
    try:
        _save(path, _program(model, several, {0: torch.export.Dim.DYNAMIC}))
        return None, ""
    except OSError:
        raise
    except Exception as error:  # whatever torch says of a network that it cannot follow; there are many kinds
        reason = _first_line(error)
    try:
        _save(path, _program(model, single, {}))
    except OSError:
        raise
    except Exception as error:
        return 0, f"The network cannot be made a program: {_first_line(error)}"
    return len(single), f"The program takes one sample at a time, for torch could not follow it with several: {reason}"


def _program(model: nn.Module, inputs: Tensor, free: Mapping[int, Any]) -> Any:
    with _quiet():
        return torch.export.export(Served(model), (inputs,), dynamic_shapes={"inputs": dict(free) or None},
                                   strict=False)


def _save(path: Path, program: Any) -> None:
    program.example_inputs = None  # the only part of the archive that would be pickled
    atomic(path, lambda temporary: _archive(program, temporary))


def _archive(program: Any, path: Path) -> None:
    with open(path, "wb") as file, _quiet():  # as a stream, for a name would have to end in .pt2
        torch.export.save(program, file)


def _difference_of_program(path: Path, inputs: Sequence[Tensor], model: nn.Module) -> float:
    with _quiet(), torch.no_grad():
        program = torch.export.load(path).module()
        return difference([model(x) for x in inputs], [program(x) for x in inputs])


def difference(expected: Sequence[Mapping[str, Tensor]], found: Sequence[Mapping[str, Tensor]]) -> float:
    """The largest `|a - b| / (1 + |a|)` over batches and tasks; infinite for other tasks, shapes or holes."""
    largest = 0.0
    for one, other in zip(expected, found, strict=True):
        if set(one) != set(other) or any(one[task].shape != other[task].shape for task in one):
            return float("inf")
        for task, a in one.items():
            b = other[task]
            apart = ((a - b).abs() / (1 + a.abs())).nan_to_num(float("inf"))
            largest = max(largest, apart.masked_fill((a == b) | (a.isnan() & b.isnan()), 0.0).max().item())
    return largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, torch does not print the graphs that it cannot follow, nor warn: exceptions and the comparison decide."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    """The first line that says something, as a sentence."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}".removesuffix(".") + "."
