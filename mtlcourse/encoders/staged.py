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
    dtype: of the samples, where they are no real numbers: `torch.long` for a first stage that looks them up
        (`nn.Embedding`). By default what the first stage says that it takes: an attribute `takes = torch.long`.
    shapes[p - 1]: shape of one sample at branch point p; `out_shape` is the last of them.  dtypes: likewise.
    Raises ValueError when there is no stage or when a stage cannot take what the one before gives.
    """

    def __init__(self, stages: Iterable[nn.Module], input_shape: Sequence[int],
                 decoder: Callable[..., nn.Module] = decoder, dtype: torch.dtype | None = None):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        if not self.stages:
            raise ValueError("An encoder needs at least one stage; the list of stages is empty.")
        self.decoder = decoder
        self.shapes = [tuple(input_shape)]
        x = trial(input_shape, getattr(self.stages[0], "takes", None) if dtype is None else dtype)
        self.dtypes = [x.dtype]
        for number, stage in enumerate(self.stages, start=1):
            x = _output(stage, x, number)
            self.shapes.append(tuple(x.shape[1:]))
            self.dtypes.append(x.dtype)

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


def trial(shape: Sequence[int], dtype: torch.dtype | None = None, samples: int = 2) -> Tensor:
    """What shapes are tried with: on the meta device, where nothing is computed; two samples, as batch norm wants.

    dtype: of the inputs; real ones are tried in the dtype that modules are made in.
    """
    real = dtype is None or dtype.is_floating_point
    return torch.empty(samples, *shape, device="meta", dtype=None if real else dtype)


def size(module: nn.Module, learning: bool = False) -> int:
    """Number of parameters, or of those that learn, which is less where some are frozen."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad or not learning)


def _output(stage: nn.Module, x: Tensor, number: int) -> Tensor:
    takes = getattr(stage, "takes", None)
    if takes is not None and takes != x.dtype and not (takes.is_floating_point and x.is_floating_point()):
        raise ValueError(f"Stage {number} of the encoder takes {takes}, and is given {x.dtype}.")
    state = {name: tensor.to("meta") for name, tensor in [*stage.named_parameters(), *stage.named_buffers()]}
    try:
        with torch.no_grad(), ShapesOnly():
            return torch.func.functional_call(stage, state, (x,))
    except (RuntimeError, ValueError, TypeError) as error:
        hint, looks_up = "", any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in stage.modules())
        if looks_up and x.dtype.is_floating_point:
            hint = " To look samples up, give whole numbers: inputs with .long(), or dtype=torch.long to StagedEncoder."
        raise ValueError(f"Stage {number} of the encoder cannot take samples of shape {tuple(x.shape[1:])}: {error}"
                         f"{hint}") from error


class ShapesOnly(TorchFunctionMode):
    """Inside, batch norms that fit hand on what they get: on the meta device they take longer than all the rest."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is nn.functional.batch_norm and args[1] is not None and args[0].shape[1] == len(args[1]):
            return args[0]
        return function(*args, **(kwargs or {}))
