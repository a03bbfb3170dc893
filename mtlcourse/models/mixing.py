"""What cross-stitch networks, NDDR and AFA have in common: an encoder a task, and features mixed between stages.

Imports `encoders`, `models.base`. Also holds what other architectures with units between stages need: which stages
they come after, and their norm.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import StagedEncoder
from ..files import part
from ..tasks import Problem
from .base import Encoder, MTLModel

Layer = Callable[[int], nn.Module]  # from the number of a task, counted from 0, to what mixes its next features


class Mixing(MTLModel):
    """Each task t has its own encoder; after some stages its features become a mixture of all tasks'.

    after stage k: `z_t <- mix_t(z_1, ..., z_m)`, and the task's own stage k + 1 goes on from there.

    All encoders are shared up to the last mixture, because every task's data pass them: only that mixture's module,
    the stages behind it and the head are a task's own. A task with inputs of its own sends them through all m
    encoders. Encoders start as those of `STL`.

    layers: function from the shape of a stage's samples to the layers behind it, applied in turn. `layer(t)` makes
        the module that maps the features of all tasks, stacked to `(m, batch, *shape)`, to the new ones of task t.
    after: the stages, numbered from 1, after which features are mixed; None stands for all that can.
    maps: only stages that give maps can.
    share_first: so many stages are one for all tasks, and start as those of `HPS`.
    speed: learning rate of all mixtures, as a multiple of the model's.  decays: whether weight decay acts on them.
    Raises ValueError for a speed that is not positive, and for stages that are not there.
    """

    private: Mapping[str, StagedEncoder]  # these are ModuleDicts, whose type does not say of what
    mixers: Mapping[str, nn.ModuleList]

    def __init__(self, problem: Problem, encoder: Encoder, layers: Callable[[tuple[int, ...]], list[Layer]],
                 after: Sequence[int] | None, maps: bool = False, share_first: int = 0, speed: float | int = 1,
                 decays: bool = True):
        if not speed > 0:
            raise ValueError(f"speed={speed!r}: the learning rate of what mixes features, as a multiple of the "
                             "model's, must be positive.")
        super().__init__(problem, encoder)
        self.speed, self._decays = speed, decays
        encoders = {name: self.new_encoder(f"private.{name}") for name in self.task_names}
        one = encoders[self.task_names[0]]
        if share_first not in range(one.points - 1):
            raise ValueError(f"share_first={share_first!r}: of the encoder's {one.points - 1} stages 0 to "
                             f"{one.points - 2} can be shared before features are mixed.")
        self.after = stages_after(after, one, share_first, maps, type(self).__name__)
        self.shared = nn.ModuleList(self.new_encoder("shared").stages[:share_first] if share_first else [])
        self.private = nn.ModuleDict({
            name: StagedEncoder(list(encoder.stages)[share_first:], one.shapes[share_first],
                                dtype=None if share_first else self.input_dtype)
            for name, encoder in encoders.items()})
        self.mixers = nn.ModuleDict({str(k): self._mixers(k, layers(one.shapes[k])) for k in self.after})
        self.add_heads(one.out_shape)

    def _mixers(self, stage: int, layers: list[Layer]) -> nn.ModuleList:
        made = nn.ModuleList()
        for number, layer in enumerate(layers, start=1):
            modules = nn.ModuleDict()
            for t, name in enumerate(self.task_names):
                with part(f"mixer.{stage}.{number}.{name}"):
                    modules[name] = layer(t)
            made.append(modules)
        return made

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The networks, and what mixes their features at a speed of its own."""
        if self.speed == 1 and self._decays:
            return [{"params": self.learning(), "lr": lr, "weight_decay": weight_decay}]
        units = [w for mixers in self.mixers.values() for w in mixers.parameters() if w.requires_grad]
        groups = [{"params": self.learning(without=units), "lr": lr, "weight_decay": weight_decay},
                  {"params": units, "lr": self.speed * lr, "weight_decay": weight_decay if self._decays else 0.0}]
        return [group for group in groups if group["params"]]

    def _stage(self, name: str, stage: int) -> nn.Module:
        return self.private[name].stages[stage - 1 - len(self.shared)]

    def route(self, task: str) -> list[nn.Module]:
        modules: list[nn.Module] = list(self.shared)
        for stage in range(len(self.shared) + 1, self.after[-1] + 1):
            modules.append(nn.ModuleList([self._stage(name, stage) for name in self.task_names]))
            modules += self.mixers[str(stage)] if stage in self.after else []
        modules[-1] = modules[-1][task]  # of the last mixture each task has its own part
        return [*modules, *self.private[task].stages[self.after[-1] - len(self.shared) :], self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        for stage in self.shared:
            x = stage(x)
        features, last = dict.fromkeys(self.task_names, x), self.after[-1]
        for stage in range(len(self.shared) + 1, last + 1):
            features = {name: self._stage(name, stage)(z) for name, z in features.items()}
            mixers = list(self.mixers[str(stage)]) if stage in self.after else []
            for mixer in mixers:
                everyone = torch.stack(list(features.values()))
                if stage == last and mixer is mixers[-1]:
                    features = {name: mixer[name](self.leave(name, everyone)) for name in tasks}
                else:
                    features = {name: mix(everyone) for name, mix in mixer.items()}
        return {name: self.private[name](z, first=last + 1 - len(self.shared)) for name, z in features.items()}


def stages_after(after: Sequence[int] | None, encoder: StagedEncoder, first: int, maps: bool, model: str) -> list[int]:
    """The stages behind which `model` puts its units, in order; None stands for all that can have one.

    first: so many stages cannot, because tasks do not differ there.  maps: only stages that give maps can.
    Raises ValueError when there is none, and for stages that are not there or cannot.
    """
    possible = [k for k in range(first + 1, encoder.points)
                if (len(encoder.shapes[k]) == 3 if maps else encoder.shapes[k])]
    if not possible:
        needs = "maps (channels, height, width)" if maps else "features (channels, ...)"
        raise ValueError(f"{model} needs {needs}, but this encoder's stages give samples of "
                         f"shape {encoder.shapes[1:]}. Use an encoder with convolutions, such as 'conv', or an "
                         "architecture for vectors, such as 'cross-stitch' or 'mmoe'.")
    if after is None:
        return possible
    for k in after:
        if k not in possible:
            shapes = {number: encoder.shapes[number] for number in range(1, encoder.points)}
            raise ValueError(f"after={list(after)}: {model} cannot stand after stage {k!r}. Possible are the stages "
                             f"{possible}; the encoder's stages give samples of shape {shapes}.")
    if not after:
        raise ValueError(f"after=[]: {model} needs at least one stage to stand after, of {possible}.")
    return sorted(set(after))


def starting_weights(own: float, task: int, m: int) -> list[float]:
    """`own` for the task itself, the rest of 1 in equal parts for the m - 1 others; a task alone has 1.

    Raises ValueError for a weight outside [0, 1].

    >>> starting_weights(0.9, task=1, m=3)
    [0.04999999999999999, 0.9, 0.04999999999999999]
    """
    if not 0 <= own <= 1:
        raise ValueError(f"own={own!r}: the starting weight of a task's own features lies in [0, 1]; 1 leaves tasks "
                         "apart, 1/m averages them.")
    return [1.0] if m == 1 else [own if j == task else (1 - own) / (m - 1) for j in range(m)]


def group_norm(channels: int, pixels: int = 1) -> nn.GroupNorm:
    """The course's norm: up to four groups, or one where a group would be left with a single value.

    Of a group of two values, such as a vector of two features, only the sign of their difference remains, unless that
    is tiny.
    Raises ValueError for a single value, of which a norm leaves nothing.
    """
    if channels * pixels == 1:
        raise ValueError("A norm over a single value is always zero: the encoder has a stage with one feature. Give "
                         "its stages more.")
    return nn.GroupNorm(math.gcd(channels, 4) if pixels > 1 else 1, channels)
