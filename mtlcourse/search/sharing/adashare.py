"""AdaShare: one encoder for all, and every task decides which of its modules to pass and which to skip.

Imports `encoders`, `files`, `models`, `procedures`, `tasks`, `training`, `search.relaxed`, `search.searching`,
`search.stages`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...encoders import StagedEncoder
from ...files import unknown
from ...models import MTLModel
from ...models.base import Encoder
from ...tasks import Problem
from ...training import Run
from ...training.procedures import Setting
from ..searching import flags, not_negative
from .relaxed import Relaxed
from .stages import search_and_retrain

Policies = Mapping[str, Sequence[int]]


class Skipping(MTLModel):
    """One encoder, of which each task passes some modules and skips the others: what AdaShare ends in.

    prediction of task t: `h_t(z_t^S)` with `z_t^s = f^s(z_t^(s-1))` where the policy of t for module s is 1, and
    `z_t^s = skip(z_t^(s-1))` where it is 0, `z_t^0 = x`. With all ones it is hard parameter sharing, to the bit.

    policies: `{task: [1 or 0, a number a module]}`; by default all ones.
    A module can be skipped if what it takes and what it gives are of one kind, maps or vectors, and it gives no fewer
    channels, and no more pixels, than it takes. Skipping is the identity where the shapes are equal; where they are
    not, a map is averaged down and missing channels are zero, as in residual networks without projections. The
    first module is always passed. Modules that every task skips are not made.
    Raises ValueError for tasks that are not there or have no policy, for a wrong number of modules, and for skipping
    what cannot be skipped.
    Source: see `AdaShare`.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, policies: Policies | None = None):
        super().__init__(problem, encoder)
        whole = self.new_encoder("shared")
        if policies is None:
            policies = {name: [1] * len(whole.stages) for name in self.task_names}
        self.policies = _checked(policies, self.task_names, whole)
        self.shapes = whole.shapes
        self.stages = nn.ModuleDict({str(s): stage for s, stage in enumerate(whole.stages, start=1)
                                     if any(row[s - 1] for row in self.policies.values())})
        self.add_heads(whole.out_shape)
        shared = [sum(column) > 1 for column in zip(*self.policies.values(), strict=True)]
        self._sharing_ends = {  # the last module that a task passes and another task too, 0 if there is none
            name: max((s for s, used in enumerate(row, start=1) if used and shared[s - 1]), default=0)
            for name, row in self.policies.items()}

    def route(self, task: str) -> list[nn.Module]:
        return [*(self.stages[str(s)] for s, used in enumerate(self.policies[task], start=1) if used), self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        done: dict[tuple[int, ...], Tensor] = {}  # by the policy so far: what tasks decide alike is computed once
        found = {}
        for name in tasks:
            policy, end, z = self.policies[name], self._sharing_ends[name], x
            for s in range(1, len(policy) + 1):
                if s > end:
                    z = self._pass_or_skip(policy, s, z)
                    continue
                if policy[:s] not in done:
                    done[policy[:s]] = self._pass_or_skip(policy, s, z)
                z = done[policy[:s]] if s < end else self.leave(name, done[policy[:s]])
            found[name] = z
        return found

    def _pass_or_skip(self, policy: Sequence[int], s: int, z: Tensor) -> Tensor:
        return self.stages[str(s)](z) if policy[s - 1] else skip(z, self.shapes[s])


class AdaShare(Relaxed):
    """The supernet of AdaShare: whether task t passes module s is a probability alpha_t^s.

    `z_t^s = u f^s(z_t^(s-1)) + (1 - u) skip(z_t^(s-1))`, where u is a relaxed draw, 1 with probability alpha_t^s: a
    Gumbel-softmax sample over pass and skip. The temperature falls from 5 exponentially (to 0.1 in the last epoch;
    the end is our choice). Modules that cannot be skipped, see `Skipping`, are always passed. During the warm-up all
    modules are. A task passes a module of the result if alpha_t^s >= 1/2.

    With L modules that can be skipped, numbered by l from the input side, the upper level's loss has besides the tasks'
    sparsity: `-sum_t (1/L) sum_l log(1 - alpha_t^l)`, which wants modules skipped, times the argument of that name.
        Only open decisions count: no loss would speak for a closed one, and it would have drifted shut before it opens.
    sharing: `sum over pairs of tasks of sum_l (L + 1 - l) / L |alpha_t^l - alpha_u^l|`, which wants tasks to decide
        alike, most of all near the input, times the argument of that name. It leaves closed decisions, on which all
        agree, as they are.
    curriculum: decisions open up one after the other, from the output side, in the first half of the epochs after the
        warm-up; before that a module is passed by all tasks. False: all at once.
    Raises ValueError for an encoder without any module that can be skipped, and for negative factors.
    Source: X. Sun, R. Panda, R. Feris, K. Saenko, AdaShare: Learning What To Share For Efficient Deep Multi-Task
    Learning, NeurIPS 2020, reconstructed from its idea and from what the authors' public code does (losses and their
    weights, schedules, learning rates). There modules are residual blocks, whose shortcut is what skipping leaves, and
    the sharing loss weighs more towards the output; here towards the input, where features are general.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, sparsity: float | int = 0.001,
                 sharing: float | int = 0.05, curriculum: Any = True):
        flags(curriculum=curriculum)
        not_negative(sparsity=sparsity, sharing=sharing)
        super().__init__(problem, encoder)
        self.shared = self.new_encoder("shared")
        self.optional = [s for s in range(1, self.shared.points) if can_skip(self.shared, s)]
        if not self.optional:
            raise ValueError("AdaShare has nothing to decide: no module of this encoder can be skipped. Its shapes are "
                             f"{' -> '.join(map(str, self.shared.shapes))}; a module after the first can be if it "
                             "takes and gives maps, or vectors, and gives no fewer channels than it takes.")
        self.sparsity, self.sharing, self.curriculum = sparsity, sharing, curriculum
        # [t, l, 0]: pass, [t, l, 1]: skip.
        self.logits = nn.Parameter(torch.zeros(len(self.tasks), len(self.optional), 2))
        self.add_heads(self.shared.out_shape)

    def route(self, task: str) -> list[nn.Module]:
        return [*self.shared.stages, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        passing = self.choices()[..., 0]
        undecided = self.optional[self.closed :]
        z = dict.fromkeys(tasks, x)
        for s, stage in enumerate(self.shared.stages, start=1):
            alike = all(one is z[tasks[0]] for one in z.values())
            common = stage(z[tasks[0]]) if alike else None  # as long as all decide alike, one pass is enough
            for name in tasks:
                through = stage(z[name]) if common is None else common
                if s in undecided:
                    u = passing[self.task_names.index(name), self.optional.index(s)]
                    through = u * through + (1 - u) * skip(z[name], self.shared.shapes[s])
                z[name] = through
        return {name: self.leave(name, z[name]) for name in tasks}

    @property
    def open(self) -> int:
        """How many decisions are open, counted from the output side."""
        if self.warming_up:
            return 0
        L = len(self.optional)
        return min(L, 1 + int(2 * L * self.progress)) if self.curriculum and self.epochs - self.warm_up > 1 else L

    @property
    def closed(self) -> int:
        """How many are closed, counted from the input side."""
        return len(self.optional) - self.open

    # --- what the upper level minimises besides ---

    def regularizer(self) -> Tensor:
        return self.sparsity * self.sparsity_loss() + self.sharing * self.sharing_loss()

    def sparsity_loss(self) -> Float[Tensor, ""]:
        return -torch.log_softmax(self.logits, -1)[:, self.closed :, 1].sum() / len(self.optional)

    def sharing_loss(self) -> Float[Tensor, ""]:
        alpha = self.probabilities()[..., 0]
        L = alpha.shape[1]
        weights = torch.arange(L, 0, -1).to(alpha) / L
        apart = (alpha[:, None] - alpha).abs() @ weights
        return apart.triu(1).sum()

    # --- what was learned ---

    def report(self) -> dict[str, dict[str, float]]:
        """For the history: by task the probability of passing each module that can be skipped, "pass_2", ..."""
        alphas = self.probabilities()[..., 0].tolist()
        return {name: {f"pass_{s}": alpha for s, alpha in zip(self.optional, row, strict=True)}
                for name, row in zip(self.task_names, alphas, strict=True)}

    def found_policies(self) -> dict[str, list[int]]:
        """The most probable policies, as `Skipping` takes them."""
        found = {}
        for name, row in zip(self.task_names, self.probabilities()[..., 0].tolist(), strict=True):
            policy = [1] * len(self.shared.stages)
            for s, alpha in zip(self.optional, row, strict=True):
                policy[s - 1] = int(alpha >= 0.5)
            found[name] = policy
        return found

    def learned(self) -> dict[str, Any]:
        return {"policies": self.found_policies()}

    def discrete(self, problem: Problem, learned: Mapping[str, Any] | None = None) -> Skipping:
        return Skipping(problem, self._encoder, (learned or self.learned())["policies"])


def can_skip(encoder: StagedEncoder, s: int) -> bool:
    """True if module s of `encoder`, counted from 1, can be skipped; see `Skipping`."""
    before, after = encoder.shapes[s - 1], encoder.shapes[s]
    return (s > 1 and len(before) == len(after) and before[0] <= after[0]
            and all(b >= a for b, a in zip(before[1:], after[1:], strict=True)))


def skip(z: Float[Tensor, "batch ..."], shape: Sequence[int]) -> Float[Tensor, "batch ..."]:
    """`z` as if it had passed a module that gives `shape`: averaged down in size, filled up with zero channels."""
    if tuple(z.shape[2:]) != tuple(shape[1:]):
        z = nn.functional.adaptive_avg_pool2d(z, tuple(shape[1:]))
    missing = shape[0] - z.shape[1]
    return torch.cat([z, z.new_zeros(len(z), missing, *z.shape[2:])], 1) if missing else z


def _checked(policies: Policies, tasks: Sequence[str], encoder: StagedEncoder) -> dict[str, tuple[int, ...]]:
    for name in policies:
        if name not in tasks:
            raise ValueError(f"{unknown('task', str(name), tasks)} These policies are those of another problem.")
    for name in tasks:
        if name not in policies:
            raise ValueError(f"Task {name!r} has no policy; give one for each task.")
        if len(policies[name]) != len(encoder.stages) or not set(policies[name]) <= {0, 1}:
            raise ValueError(f"The policy of task {name!r} is {list(policies[name])}; it needs a 1 (pass) or 0 (skip) "
                             f"for each of the encoder's {len(encoder.stages)} modules.")
        for s, used in enumerate(policies[name], start=1):
            if not used and not can_skip(encoder, s):
                raise ValueError(f"Task {name!r} cannot skip module {s}, which turns shape {encoder.shapes[s - 1]} "
                                 f"into {encoder.shapes[s]}.")
    return {name: tuple(int(used) for used in policies[name]) for name in tasks}


def adashare(problem: Problem, build: Callable[[Problem], AdaShare], strategy: Any, setting: Setting, *,
             order: str = "first") -> Run:
    """Search with AdaShare, then train the encoder with the policies that were found, from scratch, with the strategy.

    The search learns weights on one half of the training data and policies on the other, at ten times the learning
    rate; for a fifth of the epochs weights only.
    order: of the upper level's gradient, see `BilevelStep`.
    `learned["policies"]`: `{task: [1 or 0, a number a module]}`.
    """
    return search_and_retrain(problem, build(problem), strategy, setting, order=order, rate=10.0, warm_up=0.2)
