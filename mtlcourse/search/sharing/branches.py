"""The supernet: every branch of every task at once, mixed by probabilities that are learned.

Imports `models`, `tasks`, `search.searching`. DSMTL-AL, CoNAL and CoNAL-Pro search in it.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...models import MTLModel, Tree
from ...models.base import Encoder
from ...tasks import Problem
from ..searching import flags


class Supernet(MTLModel):
    """All trees with one trunk at once: where a task leaves the trunk is a probability over branch points.

    prediction of task t: `h_t(o_t(x))`, `o_t(x) = sum_p beta_t^p f_t(f_S(x, p - 1), p, P - 1)` with shared modules f_S,
    purely-specific modules f_t and a probability for each branch point p, `beta_t = softmax(b_t)`; f(x, q) ends with
    module q, f(z, p, q) goes through modules p to q. What is learned, and what the attribute `beta` holds, are the
    logits b_t; they start at zero.

    The sum costs every shared module one pass and every private module one pass, over the samples of all
    branches that meet there: 5 + 15 m passes for P = 6 and m tasks, where branches as networks of their own
    would take 30 m. Norms over single samples (group norm, the course's default) do not notice; with batch norm a
    private module runs branch by branch, so that each has its own statistics, and the running ones are those of
    the most probable branch that passes.

    encoder: as every model takes it.
    candidates: the branch points among which tasks choose; default all, 1 to P. Negative ones count from the
        end, -1 is P.
    splitting: False is the ablation "without module splitting": encoders in one piece, tasks choose between
        the shared one (P) and their own (1), and what is shared counts as one module.
    pure: False is the ablation "without purely-specific modules": f_1, ..., f_m belong to nobody, task t takes
        `sum_j softmax(gamma_t)_j f_j` in place of f_t. They learn from all tasks first and, as the
        probabilities settle, from a fixed set: partially-specific modules (definition 5.2.1).
    Raises ValueError for an encoder with a single stage (unless splitting=False asks for just that) and for
    candidates that are fewer than two or not there.
    Source: Deep Safe Multi-Task Learning, section 6; Learning Architecture for Multiple Tasks in Transfer Learning,
    sections 5.2.1 and 5.2.2, table 5.5. Of the ablation without pure modules only the definition is printed;
    the rest is our reading.
    """

    private: MutableMapping[str, nn.ModuleList]

    def __init__(self, problem: Problem, encoder: Encoder = None, candidates: Sequence[int] | None = None,
                 pure: Any = True, splitting: Any = True):
        flags(pure=pure, splitting=splitting)
        super().__init__(problem, encoder)
        trunk = self.new_encoder("shared")
        self.P, self.pure, self.splitting = trunk.points, pure, splitting
        self.candidates = _checked(candidates, self.P, splitting)
        self.shared = nn.ModuleList(trunk.stages[: self.candidates[-1] - 1])
        self.private = nn.ModuleDict({
            name: nn.ModuleList(self.new_encoder(f"private.{name}").stages[self.candidates[0] - 1 :])
            for name in self.task_names})
        # Pairs, for a ParameterDict would sort the keys of a dict.
        self.beta = nn.ParameterDict([(name, torch.zeros(len(self.candidates))) for name in self.task_names])
        self.gamma = nn.ParameterDict([(name, torch.zeros(len(self.tasks))) for name in self.task_names if not pure])
        self.add_heads(trunk.out_shape)

    # --- running ---

    def route(self, task: str) -> list[nn.Module]:
        taken = [task] if self.pure else self.task_names
        return [*self.shared, *(stage for name in taken for stage in self.private[name]), self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        at = {1: x}
        for p, stage in enumerate(self.shared, start=2):
            at[p] = stage(at[p - 1])
        if self.pure:
            found = {}
            for name in tasks:
                entries = {p: at[p] if p == 1 else self.leave(name, at[p]) for p in self.candidates}
                found[name] = self._mixed(name, self._branches(name, entries), entries)
            return found
        entries = {p: at[p] for p in self.candidates}
        branches = [self._branches(name, entries) for name in self.task_names]
        found = {}
        for name in tasks:
            share = torch.softmax(self.gamma[name], 0)
            together = sum(share[j] * outputs for j, outputs in enumerate(branches))
            found[name] = self.leave(name, self._mixed(name, together, entries))
        return found

    def _branches(self, owner: str, entries: Mapping[int, Tensor]) -> Float[Tensor, "branches batch *shape"]:
        """What each branch, from candidate 1, 2, ... on, makes of its entry with the modules of `owner`."""
        batch = len(entries[self.candidates[0]])
        z = entries[self.candidates[0]][:0]
        for p, stage in enumerate(self.private[owner], start=self.candidates[0]):
            if p in entries:
                z = torch.cat([z, entries[p]]) if len(z) else entries[p]
            z = self._pass(owner, stage, z, batch)
        return z.unflatten(0, (-1, batch))

    def _pass(self, owner: str, stage: nn.Module, z: Tensor, batch: int) -> Tensor:
        """The branches in `z` through one private module, all at once if they cannot notice each other."""
        if not any(isinstance(module, _BatchNorm) and module.training for module in stage.modules()):
            return stage(z)
        branches = z.split(batch)
        best = int(self.beta[owner][: len(branches)].argmax())
        outputs = []
        for number, branch in enumerate(branches):
            spare = {name: buffer.clone() for name, buffer in stage.named_buffers() if number != best}
            outputs.append(torch.func.functional_call(stage, spare, (branch,)))
        return torch.cat(outputs)

    def _mixed(self, task: str, branches: Tensor, entries: Mapping[int, Tensor]) -> Tensor:
        """The convex combination; the branch at P, if it is there, is what the trunk ends in."""
        beta = torch.softmax(self.beta[task], 0)
        mixed = torch.tensordot(beta[: len(branches)].to(branches), branches, 1)  # under autocast their types differ
        return mixed if len(branches) == len(beta) else mixed + beta[-1] * entries[self.P]

    # --- what is shared, what learns where ---

    def shared_modules(self) -> list[list[nn.Parameter]]:
        groups = super().shared_modules()
        return groups if self.splitting else [[p for group in groups for p in group]][: len(groups)]

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The logits: what the upper level learns."""
        return [*self.beta.values(), *self.gamma.values()]

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The weights, without the logits."""
        weights = self.learning(without=self.architecture_parameters())
        return [{"params": weights, "lr": lr, "weight_decay": weight_decay}]

    @property
    def specification(self) -> Encoder:
        """The encoder as another model takes it: the spec, or the modules untrained as they were given."""
        return self._encoder

    # --- what was learned ---

    def probabilities(self) -> dict[str, dict[int, float]]:
        """`{task: {p: beta_t^p}}`."""
        return {name: dict(zip(self.candidates, torch.softmax(beta.detach(), 0).tolist(), strict=True))
                for name, beta in self.beta.items()}

    def report(self) -> dict[str, dict[str, float]]:
        """For the history, after each epoch: every task's "beta_1", "beta_2", ..., and "gamma_<task>" if it has any."""
        found = {name: {f"beta_{p}": value for p, value in row.items()} for name, row in self.probabilities().items()}
        for name, gamma in self.gamma.items():
            shares = torch.softmax(gamma.detach(), 0).tolist()
            found[name] |= {f"gamma_{owner}": share for owner, share in zip(self.private, shares, strict=True)}
        return found

    def points(self) -> dict[str, int]:
        """Each task's most probable branch point, of equally probable ones the first."""
        return {name: self.candidates[int(beta.argmax())] for name, beta in self.beta.items()}

    def groups(self) -> list[dict[str, str]]:
        """The tree of the most probable branches, as `Tree` takes it: one `{task: label}` a stage.

        Without pure modules two tasks share them if they leave at one point for the same ones.
        """
        points = self.points()
        owners = {name: list(self.private)[int(self.gamma[name].argmax())] if name in self.gamma else name
                  for name in points}
        return [{name: "shared" if stage < p else f"{owners[name]} from {p}" for name, p in points.items()}
                for stage in range(1, self.P)]

    def learned(self) -> dict[str, Any]:
        """The most probable branches as plain data: "points", or without pure modules "groups"."""
        return {"points": self.points()} if self.pure else {"groups": self.groups()}

    def tree(self, problem: Problem, gate: str | None = None) -> Tree:
        """The most probable branches as a model of their own, untrained; `gate` as `Tree` takes it."""
        return self.discrete(problem, {**self.learned(), "gate": gate})

    def discrete(self, problem: Problem, learned: Mapping[str, Any]) -> Tree:
        """The tree that a search in such a supernet has found, untrained.

        learned: "groups", or else "points", and a "gate" if there is one; what else it says does not count.
        """
        gate = learned.get("gate")
        if gate is not None and not self.pure:
            raise ValueError("A gate mixes a task's own modules with the shared ones; without pure modules "
                             "(pure=False) no module is a task's own. Use gate=None.")
        found = {key: learned[key] for key in ("groups", "points") if key in learned}
        key = "groups" if "groups" in found else "points"
        return Tree(problem, self.specification, gate=gate, **{key: found[key]})


def _checked(candidates: Sequence[int] | None, P: int, splitting: bool) -> list[int]:
    if splitting and P == 2:
        raise ValueError("The encoder has a single stage, so P = 2 and there is nothing between all private and all "
                         "shared. Give an encoder with more stages, or splitting=False to choose between just these.")
    if not splitting:
        if candidates is not None:
            raise ValueError("splitting=False leaves the branch points 1 and P; candidates cannot be given too.")
        return [1, P]
    chosen = sorted({p + P + 1 if p < 0 else p for p in (range(1, P + 1) if candidates is None else candidates)})
    if len(chosen) < 2 or chosen[0] < 1 or chosen[-1] > P:
        raise ValueError(f"candidates={list(candidates)}: a search needs two or more of the branch points 1 to {P}.")
    return chosen
