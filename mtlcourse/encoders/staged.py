"""The protocol of all encoders: stages that are applied in turn. Imports `decoders`."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .decoders import decoder


class StagedEncoder(nn.Module):
    """Stages applied in turn, numbered from 1 as in the papers.

    With P - 1 stages there are P branch points: p = 1 lies before the first stage (nothing shared),
    p = P behind the last (everything shared).

    stages: the modules.  input_shape: shape of one sample, without the batch.
    decoder: `decoder(task, shape, input_shape)` makes the head of a task on this encoder.
    shapes[p - 1]: shape of one sample at branch point p; `out_shape` is the last of them.
    Raises ValueError when there is no stage or when a stage cannot take what the one before gives.
    """

    def __init__(self, stages: Iterable[nn.Module], input_shape: Sequence[int],
                 decoder: Callable[..., nn.Module] = decoder):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        if not self.stages:
            raise ValueError("An encoder needs at least one stage; the list of stages is empty.")
        self.decoder = decoder
        self.shapes = [tuple(input_shape)]
        for number, stage in enumerate(self.stages, start=1):
            self.shapes.append(_output_shape(stage, self.shapes[-1], number))

    @property
    def points(self) -> int:
        """P, the number of branch points."""
        return len(self.stages) + 1

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.shapes[-1]

    def __iter__(self) -> Iterator[nn.Module]:
        """The stages, input side first."""
        return iter(self.stages)

    def forward(self, x: Tensor, first: int = 1, last: int | None = None) -> Tensor:
        """Apply stages `first` to `last`, both included; nothing when `last < first`."""
        for stage in self.stages[first - 1 : last]:
            x = stage(x)
        return x


def size(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _output_shape(stage: nn.Module, shape: tuple[int, ...], number: int) -> tuple[int, ...]:
    # On the meta device: shapes only, no arithmetic. Two samples, since batch norm refuses one.
    state = {name: tensor.to("meta") for name, tensor in [*stage.named_parameters(), *stage.named_buffers()]}
    try:
        with torch.no_grad(), ShapesOnly():
            output = torch.func.functional_call(stage, state, (torch.empty(2, *shape, device="meta"),))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"Stage {number} of the encoder cannot take samples of shape {shape}: {error}") from error
    return tuple(output.shape[1:])


class ShapesOnly(TorchFunctionMode):
    """Inside, batch norms that fit hand on what they get: on the meta device they take longer than all the rest."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is nn.functional.batch_norm and args[1] is not None and args[0].shape[1] == len(args[1]):
            return args[0]
        return function(*args, **(kwargs or {}))
