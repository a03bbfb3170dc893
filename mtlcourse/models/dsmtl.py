"""Deep safe multi-task learning: a public and a private encoder for each task, mixed by a gate.

Imports `encoders`, `files`, `tasks`, `models.base`, `models.stl`. The two ways of training it are in `procedures`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..encoders import StagedEncoder
from ..files import unknown
from ..tasks import Problem
from .base import Encoder, MTLModel
from .stl import STL

GATES = ("projected", "sigmoid", "fixed")


class DSMTL(MTLModel):
    """Deep safe multi-task learning: how much of the public encoder a task takes is learned.

    prediction of task t: `h_t(alpha_t f_S(x) + (1 - alpha_t) f_t(x))` with the public encoder f_S, the
    private encoder f_t, the private decoder h_t and the gate alpha_t in [0, 1] (equation 1). With
    alpha_t = 0 it is single-task learning, with alpha_t = 1 for all t it is hard parameter sharing, and
    in both cases to the last bit: public parts start as those of `HPS`, private ones as those of `STL`.

    gate_after: the gate stands after module p, and what follows is private (section 7.4):
        `h_t(f_t(alpha_t f_S(x, p) + (1 - alpha_t) f_t(x, 1, p), p + 1, P - 1))`, where f(x, p) ends with
        module p and f(z, p, q) goes through modules p to q. Default: after the last module, p = P - 1.
        The public encoder then has p modules.
    gate: "projected" (default): alpha_t is a parameter that is clamped to [0, 1] after each step, so that
        it reaches both ends and can leave them again. "sigmoid": alpha_t is the sigmoid of a parameter;
        it never quite gets there. "fixed": alpha_t = 0.5 throughout, the ablation "without learnable gate"
        of table 6. Gates start at 0.5 and know no weight decay.
    Raises ValueError for an unknown gate and for a position that is not there.
    Source: Deep Safe Multi-Task Learning, sections 4.1 and 7.4.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, gate_after: int | None = None,
                 gate: str = "projected"):
        super().__init__(problem, encoder)
        whole = self.new_encoder("shared")
        modules = whole.points - 1
        self.gate_after = modules if gate_after is None else gate_after
        if self.gate_after not in range(1, modules + 1):
            raise ValueError(f"gate_after={gate_after!r}: a gate stands after one of the encoder's {modules} modules, "
                             f"numbered 1 to {modules}.")
        self.shared = StagedEncoder(list(whole.stages)[: self.gate_after], self.input_shape, dtype=self.input_dtype)
        self.private = nn.ModuleDict({name: self.new_encoder(f"private.{name}") for name in self.task_names})
        self.gates = nn.ModuleDict({name: Gate(gate) for name in self.task_names})
        self.add_heads(whole.out_shape)
        self._frozen: list[nn.Module] = []

    def route(self, task: str) -> list[nn.Module]:
        return [*self.shared.stages, *self.private[task].stages, self.gates[task], self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        z, p = self.shared(x), self.gate_after
        return {name: self.private[name](self.gates[name](self.leave(name, z), self.private[name](x, last=p)), p + 1)
                for name in tasks}

    # --- gates ---

    def alphas(self) -> dict[str, float]:
        """`{task: alpha_t}`, as they are now."""
        values = torch.stack([gate.alpha.detach() for gate in self.gates.values()]).tolist()
        return dict(zip(self.gates, values, strict=True))

    def report(self) -> dict[str, dict[str, float]]:
        """For the history, after each epoch: every task's "alpha"."""
        return {name: {"alpha": value} for name, value in self.alphas().items()}

    def after_step(self, step: int) -> None:
        """Project: the nearest gate in [0, 1]."""
        for gate in self.gates.values():
            gate.project()

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """All that learns; gates without weight decay, which would pull them towards the private encoder."""
        gates = [parameter for parameter in self.gates.parameters() if parameter.requires_grad]
        groups = [{"params": self.learning(without=gates), "lr": lr, "weight_decay": weight_decay},
                  {"params": gates, "lr": lr, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]

    # --- stages ---

    def single_task(self, problem: Problem) -> STL:
        """The model that this one can fall back to: single-task learning with the same kind of encoder."""
        return STL(problem, self._encoder)

    def build_on(self, alone: STL) -> None:
        """Take over the encoders and decoders of `alone` as the private ones, and freeze them.

        Frozen is frozen: no gradients, and evaluation mode for good (`train()` does not wake them), so
        that neither running statistics nor dropout can change what they compute.
        """
        self.private.load_state_dict(alone.private.state_dict())
        self.heads.load_state_dict(alone.heads.state_dict())
        self._frozen = [self.private, self.heads]
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "DSMTL":
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


class Gate(nn.Module):
    """The gate g_t of one task: `g_t(public, private) = alpha public + (1 - alpha) private`.

    kind: "projected", "sigmoid" or "fixed", see `DSMTL`.
    An end of [0, 1] is exact: with alpha = 0 the result is `private` to the bit, whatever `public` is
    (infinite or NaN included), and with alpha = 1 the other way round. At alpha = 0 the public
    encoder gets a zero gradient, while the gate gets its own, and so can open again.
    """

    def __init__(self, kind: str = "projected"):
        super().__init__()
        if kind not in GATES:
            raise ValueError(unknown("gate", str(kind), GATES))
        self.kind = kind
        if kind == "fixed":
            self.register_buffer("value", torch.tensor(0.5))
        else:
            self.value = nn.Parameter(torch.tensor(0.5 if kind == "projected" else 0.0))

    @property
    def alpha(self) -> Float[Tensor, ""]:
        """The share of the public encoder."""
        return self.value.sigmoid() if self.kind == "sigmoid" else self.value

    def forward(self, public: Float[Tensor, "batch *shape"],
                private: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return _Mix.apply(self.alpha, public, private)

    def project(self) -> None:
        """Clamp a projected gate to [0, 1]; others are always there."""
        if self.kind == "projected":
            self.value.data.clamp_(0.0, 1.0)

    def close(self) -> None:
        """alpha = 0 exactly: the task goes on alone."""
        self.value.data.fill_(-float("inf") if self.kind == "sigmoid" else 0.0)


class _Mix(torch.autograd.Function):
    """`alpha public + (1 - alpha) private`, exact at both ends.

    Written out because 0 * inf is NaN, and because masking the unused side away, which would help
    against that, would also take the gate's gradient `<g, public - private>` away.
    """

    @staticmethod
    def forward(ctx, alpha, public, private):
        ctx.save_for_backward(alpha, public, private)
        mixed = torch.lerp(private, public, alpha.to(private.dtype))
        return torch.where(alpha == 0, private, torch.where(alpha == 1, public, mixed))

    @staticmethod
    def backward(ctx, g):
        alpha, public, private = ctx.saved_tensors
        needs = ctx.needs_input_grad
        to_alpha = (g * (public - private)).sum(dtype=alpha.dtype) if needs[0] else None
        return to_alpha, alpha * g if needs[1] else None, (1 - alpha) * g if needs[2] else None
