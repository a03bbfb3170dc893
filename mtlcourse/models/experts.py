"""Mixtures of experts: MMoE, CGC and PLE, where each task weighs several encoders anew for each sample.

Imports `encoders`, `files`, `tasks`, `models.base`. An expert is an encoder, or for PLE one stage of an encoder; a
gate looks at a sample and says how much of each expert a task takes. In the sources a gate is a linear map
without bias; here it has a bias, and so can prefer an expert whatever the sample.
"""

import os
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..encoders import StagedEncoder, build
from ..files import is_whole, part
from ..tasks import Problem
from .base import Encoder, MTLModel

GRID = 8  # a gate sees a map averaged to at most 8 x 8 pixels


class Gate(nn.Module):
    """How much of each of `choices` experts: `softmax(A s + b)`, one row a sample, each row summing to one.

    shape: of one sample s, the gate's input. A map is averaged over squares of pixels, to at most 8 x 8 of them,
        because a linear layer on all pixels would be larger than many an encoder; anything else is
        flattened as it is.
    The sources have no bias b: there gates are `softmax(A s)`.
    A choice among one needs no parameters.
    """

    def __init__(self, shape: Sequence[int], choices: int):
        super().__init__()
        self.choices = choices
        if choices > 1:
            squares = [-(-side // GRID) for side in shape[1:]] if len(shape) == 3 else []
            shrink = [nn.AvgPool2d(squares, ceil_mode=True)] if squares else []
            seen = nn.Sequential(*shrink, nn.Flatten())
            with torch.device("meta"):
                size = seen(torch.empty(1, *shape)).numel()
            self.layers = nn.Sequential(seen, nn.Linear(size, choices))

    def forward(self, s: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch choices"]:
        return self.layers(s).softmax(1) if self.choices > 1 else s.new_ones(len(s), 1)


def mix(shares: Float[Tensor, "batch choices"], outputs: Sequence[Tensor]) -> Tensor:
    """The mixture of the experts' outputs, each `(batch, ...)`: sum over k of `shares[:, k] * outputs[k]`."""
    mixture: Tensor = sum(share.view(-1, *[1] * (output.dim() - 1)) * output
                          for share, output in zip(shares.unbind(1), outputs, strict=True))
    return mixture


class CGC(MTLModel):
    """Customised gate control: shared experts for all, own experts for each task, and a gate for each task.

    prediction of task t: `h_t(sum_k g_t(x)_k e_k(x))`, where e_k runs through the own experts of task t and
    then through the shared ones, and g_t(x) is softmax(A_t x + b_t), see `Gate`. Experts are whole encoders.

    shared, own: how many experts all tasks share, and how many each task has for itself. By default one
        of each: m + 1 encoders, as many as DSMTL has; it is DSMTL with a gate that looks at the sample.
    The first shared expert starts as the encoder of `HPS`, the first own one as that of `STL`. Given modules
    are copied with their weights, so that then all experts start equal and only the gates differ.
    Raises ValueError for numbers of experts that cannot be, for samples that are looked up and, before anything is
    allocated, for more experts than the memory holds.
    Source: Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
    Recommendations, section 4.1.
    """

    shared: nn.ModuleList
    own: Mapping[str, nn.ModuleList]

    def __init__(self, problem: Problem, encoder: Encoder = None, shared: int = 1, own: int = 1):
        super().__init__(problem, encoder)
        common, private = _experts(self, shared, own)
        self.shared = nn.ModuleList(common)
        self.own = nn.ModuleDict({name: nn.ModuleList(encoders) for name, encoders in private.items()})
        self.gates = nn.ModuleDict({name: _gate(f"gate.{name}", self.input_shape, own + shared)
                                    for name in self.task_names})
        self.add_heads(self.shared[0].out_shape)

    def route(self, task: str) -> list[nn.Module]:
        experts = [*self.own[task], *self.shared]
        by_depth = [stage for stages in zip(*(expert.stages for expert in experts), strict=True) for stage in stages]
        return [*by_depth, self.gates[task], self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        common = torch.stack([expert(x) for expert in self.shared], 1)
        return {name: mix(self.gates[name](x), [*(expert(x) for expert in self.own[name]),
                                                *self.leave(name, common).unbind(1)]) for name in tasks}


class MMoE(CGC):
    """Multi-gate mixture of experts: all experts are shared, and each task has a gate over them.

    prediction of task t: `h_t(sum_k g_t(x)_k e_k(x))` over all K experts; it is `CGC` without own experts, and
    with one expert hard parameter sharing.

    experts: K; by default m + 1, as many encoders as DSMTL has.
    Raises as `CGC` does.
    Source: Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, section 4.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, experts: int | None = None):
        experts = len(problem.tasks) + 1 if experts is None else experts
        super().__init__(problem, encoder, shared=_count("experts", experts, 1), own=0)


class PLE(MTLModel):
    """Progressive layered extraction: own and shared experts on every level, and gates between the levels.

    On level p an expert is the stage number p of an encoder. With z_t the representation of task t after the
    level before, and z_S the shared one (all of them x in the beginning),
        `z_t' = sum_k g_t(z_t)_k e_k`  over the own experts e(z_t) of the task and the shared ones e(z_S),
        `z_S' = sum_k g_S(z_S)_k e_k`  over the experts of all tasks and the shared ones,
    where the shared gate g_S is there on all levels but the last. The prediction is `h_t(z_t)`.

    Each task's experts feed the shared representation, so those of all levels but the last are shared
    parameters. With inputs of their own per task, each task's samples pass the experts of all tasks.

    shared, own: how many shared experts, and how many own ones of each task, there are on a level. With one
        shared and no own expert it is hard parameter sharing.
    The experts start as those of `CGC` do. Raises as `CGC` does.
    Source: Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
    Recommendations, section 4.2.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, shared: int = 1, own: int = 1):
        super().__init__(problem, encoder)
        common, private = _experts(self, shared, own)
        *before, last = range(1, common[0].points)
        self.levels = nn.ModuleList(
            Level([encoder.stages[p - 1] for encoder in common],
                  {name: [encoder.stages[p - 1] for encoder in encoders] for name, encoders in private.items()},
                  common[0].shapes[p - 1], p, shared_gate=p != last)
            for p in [*before, last])
        self.add_heads(common[0].out_shape)

    def route(self, task: str) -> list[nn.Module]:
        levels: list[Level] = list(self.levels)
        *before, last = levels
        modules: list[nn.Module] = []
        for level in before:
            modules += [level.shared, *level.own.values(), level.gate]
            # The gates of other tasks act through the own experts of the next level, if that feeds what is shared.
            heard = len(level.own[task]) and level is not before[-1]
            modules += level.gates.values() if heard else [level.gates[task]]
        return [*modules, last.shared, last.own[task], last.gates[task], self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        *before, last = self.levels
        z, common = dict.fromkeys(self.task_names, x), x
        for level in before:
            heard = level is not before[-1] and any(map(len, level.own.values()))  # see `route`
            z, common = level(z, common, self.task_names if heard else tasks)
        if before:
            z = {name: self.leave(name, z[name]) for name in tasks}
        outputs = torch.stack([expert(common) for expert in last.shared], 1)
        return {name: mix(last.gates[name](z[name]), [*(expert(z[name]) for expert in last.own[name]),
                                                      *self.leave(name, outputs).unbind(1)]) for name in tasks}


class Level(nn.Module):
    """One level of `PLE`.

    shared: the shared experts.  own: `{task: its experts}`.  shape: of one sample of their input.
    number: of the level, from 1.  shared_gate: whether there is one.
    """

    gate: Gate
    shared: nn.ModuleList
    own: Mapping[str, nn.ModuleList]
    gates: nn.ModuleDict

    def __init__(self, shared: Sequence[nn.Module], own: Mapping[str, Sequence[nn.Module]], shape: Sequence[int],
                 number: int, shared_gate: bool):
        super().__init__()
        self.shared = nn.ModuleList(shared)
        self.own = nn.ModuleDict({name: nn.ModuleList(experts) for name, experts in own.items()})
        self.gates = nn.ModuleDict({name: _gate(f"gate.{number}.{name}", shape, len(experts) + len(shared))
                                    for name, experts in own.items()})
        if shared_gate:
            self.gate = _gate(f"gate.{number}", shape, sum(map(len, own.values())) + len(shared))

    def forward(self, z: dict[str, Tensor], common: Tensor,
                tasks: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """The representations of `tasks` and the shared one after this level, from all of those before it."""
        own = {name: [expert(z[name]) for expert in experts] for name, experts in self.own.items()}
        shared = [expert(common) for expert in self.shared]
        everything = [output for outputs in own.values() for output in outputs] + shared
        return ({name: mix(self.gates[name](z[name]), own[name] + shared) for name in tasks},
                mix(self.gate(common), everything))


# --- building ------------------------------------------------------------------------------------------------

def _experts(model: MTLModel, shared: int, own: int) -> tuple[list[StagedEncoder], dict[str, list[StagedEncoder]]]:
    """The shared encoders, and each task's own; refused if they cannot be or do not fit into memory."""
    check_memory(_count("shared", shared, 1) + _count("own", own, 0) * len(model.tasks), model._encoder,
                 model.input_shape, model.input_dtype)
    common = [model.new_encoder(_numbered("shared", k)) for k in range(shared)]
    if not common[0].dtypes[0].is_floating_point:
        raise ValueError("Experts are weighed by a linear map of the sample, and these samples are whole numbers that "
                         "are looked up. Use an architecture that mixes representations, such as 'cross-stitch' or "
                         "'dsmtl-jl'.")
    return common, {name: [model.new_encoder(_numbered(f"private.{name}", k)) for k in range(own)]
                    for name in model.task_names}


def _numbered(name: str, k: int) -> str:
    """The part that expert k of a kind is: the first one is the encoder that other models have."""
    return name if k == 0 else f"{name}.{k + 1}"


def _gate(name: str, shape: Sequence[int], choices: int) -> Gate:
    with part(name):
        return Gate(shape, choices)


def _count(option: str, value: int, least: int) -> int:
    if not is_whole(value, least):
        raise ValueError(f"{option}={value!r}: the number of experts must be a whole number, at least {least}.")
    return value


def check_memory(experts: int, encoder: Encoder, input_shape: Sequence[int],
                 dtype: torch.dtype | None = None) -> None:
    """Refuse, before anything is allocated, to make more experts than the main memory of this machine can train.

    Only the host's memory is looked at, in which models are made; whether they then fit on an accelerator is not.
    Training holds each parameter four times: itself, its gradient, and the two moments of Adam; a frozen one once.
    encoder: a spec or a list of modules, of which there will be `experts`.
    Raises ValueError with the numbers. On the meta device, which holds no numbers, everything fits.
    """
    available = available_memory()
    if available is None or torch.get_default_device().type == "meta":
        return
    if isinstance(encoder, Mapping):
        with torch.device("meta"):
            encoder = build(encoder, input_shape, dtype).stages
    weights = [weight for stage in encoder for weight in stage.parameters()]
    sizes = [weight.numel() * weight.element_size() for weight in weights]
    each = sum(size * (4 if weight.requires_grad else 1) for size, weight in zip(sizes, weights, strict=True))
    needed = experts * each
    if needed > available:
        raise ValueError(
            f"{experts:,} experts of {sum(sizes):,} bytes each need {needed / 2**30:,.1f} GiB to be trained "
            f"(parameters, gradients and two moments of Adam), but {available / 2**30:,.1f} GiB are available. Use at "
            f"most {available // each:,} experts, or a smaller encoder.")


def available_memory() -> int | None:
    """Bytes that processes can still allocate, as Linux says; elsewhere all of the machine's; None if nobody says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
            return None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
