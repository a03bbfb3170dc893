"""MTL-NAS: m single-task networks, and learned edges through which one takes features from the others.

Imports `files`, `models`, `procedures`, `tasks`, `training`, `search.stages`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...files import part, unknown
from ...models import MTLModel
from ...models.base import Encoder
from ...tasks import Problem
from ...training import Run
from ...training.procedures import Setting
from ..searching import not_negative
from .stages import search_and_retrain

Edge = tuple[str, int, str, int]  # from module i of task u into module s of task t, as (t, s, u, i)


class Fused(MTLModel):
    """Single-task networks with edges between them: what MTL-NAS ends in.

    `a_t^s = f_t^s(z_t^(s-1))`, `z_t^s = o_t^s a_t^s + sum over edges e = (t, s, u, i) of W_e r(a_u^i)`, `z_t^0 = x`,
    prediction `h_t(z_t^S)`. W_e is a linear map between channels, r brings a map to the size of a_t^s by averaging
    (or to that of a vector), and o_t^s is one number a channel. As in NDDR layers o starts at 0.9 and the k edges
    into one place as 0.1 / k times the identity (of the channels that both have). A module without incoming edges
    has no o either: without edges this is single-task learning, to the bit.

    edges: a list of `(t, s, u, i)`: into module s of task t from module i <= s of another task u, modules counted
        from 1. By default all.
    Raises ValueError for edges that are not such.
    Source: see `MTLNAS`.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, edges: Sequence[Sequence] | None = None):
        super().__init__(problem, encoder)
        self.private = nn.ModuleDict({name: self.new_encoder(f"private.{name}") for name in self.task_names})
        shapes = self.private[self.task_names[0]].shapes
        self.depth = len(shapes) - 1
        possible = [(t, s, u, i) for t in self.task_names for s in range(1, self.depth + 1)
                    for u in self.task_names if u != t for i in range(1, s + 1)]
        self.edges = possible if edges is None else _checked(edges, possible, self.task_names)
        self.fusions = nn.ModuleDict()
        for t in self.task_names:
            for s in range(1, self.depth + 1):
                sources = [edge for edge in self.edges if edge[:2] == (t, s)]
                if sources:
                    with part(f"fusion.{t}.{s}"):
                        self.fusions[f"{t}-{s}"] = Fusion(shapes[s], [shapes[i] for *_, i in sources])
        self.add_heads(shapes[-1])
        self._passed = {name: self._places(name) for name in self.task_names}

    def gates(self) -> dict[Edge, Tensor] | None:
        """How open each edge is; None: all fully."""
        return None

    # --- who passes what: places are (task, module), input side first ---

    def _before(self, place: tuple[str, int]) -> list[tuple[str, int]]:
        """Whose module outputs go into the input of this module: its own line's last, and what is fused into it."""
        t, s = place
        return [] if s == 1 else [(t, s - 1), *((u, i) for a, b, u, i in self.edges if (a, b) == (t, s - 1))]

    def _places(self, task: str) -> set[tuple[str, int]]:
        """All modules that a task's prediction depends on."""
        todo = [(task, self.depth), *((u, i) for t, s, u, i in self.edges if (t, s) == (task, self.depth))]
        done: set[tuple[str, int]] = set()
        while todo:
            place = todo.pop()
            if place not in done:
                done.add(place)
                todo += self._before(place)
        return done

    def route(self, task: str) -> list[nn.Module]:
        passed = self._passed[task]
        found: list[nn.Module] = []
        for s in range(1, self.depth + 1):
            found += [self.private[u].stages[s - 1] for u in self.task_names if (u, s) in passed]
            # A fusion is passed on the way to the next module of its line, the last one on the way to the head.
            found += [self.fusions[f"{u}-{s}"] for u in self.task_names if f"{u}-{s}" in self.fusions
                      and ((u, s + 1) in passed or (u, s) == (task, self.depth))]
        return [*found, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        needed = set().union(*(self._passed[name] for name in tasks))
        gates = self.gates()
        a: dict[tuple[str, int], Tensor] = {}

        def users(place: tuple[str, int]) -> list[str]:
            return [name for name in self.task_names if place in self._passed[name]]

        def handed(place: tuple[str, int], to: list[str]) -> Tensor:
            """The module's output, for a place that the tasks `to` reach: shared representation may end here."""
            return self.leave(to[0], a[place]) if len(to) == 1 and len(users(place)) > 1 else a[place]

        def fused(t: str, s: int, to: list[str]) -> Tensor:
            own = handed((t, s), to)
            sources = [edge for edge in self.edges if edge[:2] == (t, s)]
            if not sources:
                return own
            opened = None if gates is None else [gates[edge] for edge in sources]
            return self.fusions[f"{t}-{s}"](own, [handed((u, i), to) for _, _, u, i in sources], opened)

        for s in range(1, self.depth + 1):
            for t in self.task_names:
                if (t, s) in needed:
                    z = x if s == 1 else fused(t, s - 1, users((t, s)))
                    a[t, s] = self.private[t].stages[s - 1](z)
        return {name: fused(name, self.depth, [name]) for name in tasks}


class MTLNAS(Fused):
    """The supernet of MTL-NAS: all edges at once, each open by a share that is learned.

    In `Fused` every edge is multiplied by `p_e = sigmoid(b_e)`, logits b start at zero. The upper level
    minimises, besides the losses, `entropy * c * mean over e of H(p_e)` with `H(p) = -p log p - (1 - p) log(1 - p)`
    and c rising from 0 to 1 over the epochs, so that edges end open or shut and little is lost when they are made
    discrete: what is found are the edges with p_e > 1/2.

    Raises ValueError for a single task, and for a negative entropy.
    Source: Y. Gao, H. Bai, Z. Jie, J. Ma, K. Jia, W. Liu, MTL-NAS: Task-Agnostic Neural Architecture Search towards
    General-Purpose Multi-Task Learning, CVPR 2020, reconstructed from its idea and from what the authors' public code
    does (relaxation, entropy, learning rates). It has two tasks and edges within blocks of equal size; here every
    module of any other task that is not deeper can be a source. Its fusions end in batch norm and ReLU; here they are
    linear, and the next module follows.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, entropy: float | int = 10.0):
        not_negative(entropy=entropy)
        super().__init__(problem, encoder)
        if not self.edges:
            raise ValueError(f"Problem {problem.name!r} has a single task; edges lead from one task to another.")
        self.logits = nn.Parameter(torch.zeros(len(self.edges)))
        self.entropy, self.epochs = entropy, 1
        self.register_buffer("done", torch.tensor(0))  # epochs, kept with the checkpoint

    def gates(self) -> dict[Edge, Tensor]:
        return dict(zip(self.edges, self.logits.sigmoid(), strict=True))

    # --- what a search needs ---

    def prepare(self, epochs: int, warm_up: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None:
        self.done.fill_(epoch)

    def architecture_parameters(self) -> list[nn.Parameter]:
        return [self.logits]

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The weights, without the logits."""
        return [{"params": self.learning(without=[self.logits]), "lr": lr, "weight_decay": weight_decay}]

    def mean_entropy(self) -> Float[Tensor, ""]:
        """The mean of H(p_e), in nats: log 2 for undecided edges, 0 for decided ones."""
        p = self.logits.sigmoid()
        return -(p * nn.functional.logsigmoid(self.logits) + (1 - p) * nn.functional.logsigmoid(-self.logits)).mean()

    def regularizer(self) -> Tensor:
        return self.entropy * min(int(self.done) / max(self.epochs - 1, 1), 1.0) * self.mean_entropy()

    # --- what was learned ---

    def report(self) -> dict[str, dict[str, float]]:
        """For the history: by task how open its incoming edges are, "edge_2_depth_1" from module 1 of depth into 2."""
        found: dict[str, dict[str, float]] = {name: {} for name in self.task_names}
        for (t, s, u, i), p in zip(self.edges, self.logits.detach().sigmoid().tolist(), strict=True):
            found[t][f"edge_{s}_{u}_{i}"] = p
        return found

    def found_edges(self) -> list[Edge]:
        """The edges that are more open than shut, as `Fused` takes them."""
        return [edge for edge, b in zip(self.edges, self.logits.tolist(), strict=True) if b > 0]

    def learned(self) -> dict[str, Any]:
        return {"edges": [list(edge) for edge in self.found_edges()]}

    def discrete(self, problem: Problem, learned: Mapping[str, Any] | None = None) -> Fused:
        return Fused(problem, self._encoder, (learned or self.learned())["edges"])


class Fusion(nn.Module):
    """`o a + sum_e g_e W_e r(a_e)`: a module's own output, and what edges bring.

    shape: of the own output.  sources: shapes of what the edges bring.
    Raises ValueError for what is neither vector nor map.
    """

    def __init__(self, shape: Sequence[int], sources: Sequence[Sequence[int]]):
        super().__init__()
        for one in (shape, *sources):
            if len(one) not in (1, 3):
                raise ValueError("MTL-NAS fuses vectors and maps, but a stage of this encoder gives samples of shape "
                                 f"{tuple(one)}. Use 'cross-stitch', which mixes any shape.")
        self.shape = tuple(shape)
        self.own = nn.Parameter(torch.full((shape[0],), 0.9))
        self.maps = nn.ParameterList()
        for source in sources:
            channels = source[0] if len(source) == 3 else math.prod(source)
            self.maps.append(nn.Parameter(0.1 / len(sources) * torch.eye(shape[0], channels)))

    def forward(self, own: Float[Tensor, "batch ..."], sources: Sequence[Tensor],
                gates: Sequence[Tensor] | None) -> Float[Tensor, "batch ..."]:
        fused = self.own.view(-1, *[1] * (own.dim() - 2)) * own
        for number, (source, W) in enumerate(zip(sources, self.maps, strict=True)):
            brought = torch.einsum("oc,bc...->bo...", W, self._resized(source))
            fused = fused + (brought if gates is None else gates[number] * brought)
        return fused

    def _resized(self, source: Tensor) -> Tensor:
        if source.dim() < 4:
            return source.flatten(1)
        if len(self.shape) == 3:
            return nn.functional.adaptive_avg_pool2d(source, self.shape[1:])
        return source.mean((2, 3))


def _checked(edges: Sequence[Sequence], possible: Sequence[Edge], tasks: Sequence[str]) -> list[Edge]:
    for edge in edges:
        for name in (edge[0], edge[2]) if len(edge) == 4 else ():
            if name not in tasks:
                raise ValueError(f"{unknown('task', str(name), tasks)} These edges are those of another problem.")
        if tuple(edge) not in possible:
            raise ValueError(f"{tuple(edge)} is no edge; give (task, module, other task, its module), the other module "
                             "not deeper than the first, and both from 1 to the encoder's number of modules.")
    chosen = {tuple(edge) for edge in edges}
    return [edge for edge in possible if edge in chosen]


def mtl_nas(problem: Problem, build: Callable[[Problem], MTLNAS], strategy: Any, setting: Setting, *,
            order: str = "first") -> Run:
    """Search with MTL-NAS, then train the networks with the edges that were found, from scratch, with the strategy.

    The search learns weights on one half of the training data and edges on the other, at three times the learning
    rate. (In the authors' code the halves are drawn anew in each epoch.)
    order: of the upper level's gradient, see `BilevelStep`.
    `learned["edges"]`: a list of [task, module, other task, its module].
    """
    return search_and_retrain(problem, build(problem), strategy, setting, order=order, rate=3.0)
