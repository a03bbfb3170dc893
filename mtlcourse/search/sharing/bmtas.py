"""BMTAS: branched networks under a budget. Every task chooses, stage by stage, which module it passes.

Imports `encoders`, `files`, `models`, `procedures`, `tasks`, `training`, `search.ltb`, `search.relaxed`,
`search.stages`.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...encoders import StagedEncoder, size, trial
from ...files import unknown
from ...models import Tree
from ...models.base import Encoder
from ...tasks import Problem
from ...training import Run
from ...training.procedures import Setting
from ..searching import not_negative
from .ltb import passage_report
from .relaxed import Relaxed
from .stages import search_and_retrain

COUNTS = ("flops", "parameters")
MOST_TASKS = 16  # the expected cost has 2^m - 1 terms


class BMTAS(Relaxed):
    """The supernet of BMTAS: m copies of every module, and each task chooses a copy at every stage.

    With copies `f_i^s` of module s and relaxed choices d of task t: `z_t^s = sum_i d_ti^s f_i^s(z_t^(s-1))`,
    `z_t^0 = x`. Choices are Gumbel-softmax samples; the temperature falls linearly from 5 to 0.1. During the warm-up
    each task trains its own copies alone. With batch norm every pass has its own statistics, and running ones mix all.

    A tree needs more than choices: tasks that have parted cannot meet again. So two tasks share module s in what
    is found if their most probable choices agree at s and at every stage before it; groups refine from the input to
    the heads.

    resource: lambda of the resource loss, `lambda E[cost] / (cost of one encoder)`: the expected cost of a tree
        that is drawn from the choices' probabilities, between lambda and m lambda. With n_s the number of modules
        at stage s, `E[n_s] = sum over sets A of tasks, not empty, of (-1)^(|A| + 1) P(A together up to s)`, where
        `P(A together up to s) = prod_(r <= s) sum_i prod_(t in A) p_ti^r` because choices are independent. The authors
        go through all partitions of the tasks and count draws that refine nothing as m modules; the sum over sets is
        exact.
    count: what a module costs, "flops" (default: multiplications and additions for one sample) or "parameters".
    Raises ValueError for another count, a negative resource, and with a resource loss for more than 16 tasks.
    Source: D. Bruggemann, M. Kanakis, S. Georgoulis, L. Van Gool, Automated Search for Resource-Efficient Branched
    Multi-Task Networks, BMVC 2020, reconstructed from its abstract and from what the authors' public code does
    (search space, schedules, learning rates, resource loss).
    """

    temperatures = (5.0, 0.1)
    falling = "linear"
    nodes: Sequence[nn.ModuleList]

    def __init__(self, problem: Problem, encoder: Encoder = None, resource: float | int = 0.05, count: str = "flops"):
        not_negative(resource=resource)
        super().__init__(problem, encoder)
        if count not in COUNTS:
            raise ValueError(unknown("count", str(count), COUNTS))
        if resource and len(self.tasks) > MOST_TASKS:
            raise ValueError(f"The expected cost of a tree of {len(self.tasks)} tasks has too many terms (2^m); with "
                             f"more than {MOST_TASKS} tasks use resource=0.")
        whole = [self.new_encoder(f"private.{name}") for name in self.task_names]
        self.nodes = nn.ModuleList(nn.ModuleList(copies) for copies in zip(*(e.stages for e in whole), strict=True))
        self.logits = nn.Parameter(torch.zeros(len(self.nodes), len(self.tasks), len(self.tasks)))  # stage, task, copy
        self.add_heads(whole[0].out_shape)
        costs = torch.tensor(stage_costs(whole[0], count), dtype=torch.float64)
        self.resource, self.shares = resource, costs / costs.sum()

    def route(self, task: str) -> list[nn.Module]:
        return [*(node for copies in self.nodes for node in copies), self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        own = torch.eye(len(self.tasks), device=x.device).expand_as(self.logits)
        first, *choices = own if self.training and self.warming_up else self.choices()
        rows = {name: self.task_names.index(name) for name in tasks}
        entered = torch.stack([node(x) for node in self.nodes[0]])  # the same for all tasks
        z = {name: torch.tensordot(first[t].to(entered), entered, 1) for name, t in rows.items()}
        for copies, choice in zip(self.nodes[1:], choices, strict=True):
            z = {name: sum(d * node(z[name]) for d, node in zip(choice[t], copies, strict=True))
                 for name, t in rows.items()}
        return {name: self.leave(name, z[name]) for name in tasks}

    # --- resources ---

    def expected_modules(self) -> Float[Tensor, "stages"]:
        """E[n_s]: how many modules each stage of a tree has that is drawn from the choices' probabilities."""
        m = len(self.tasks)
        sets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=m))[1:]).to(self.logits)
        at_one_copy = (sets @ torch.log_softmax(self.logits, -1)).exp()  # stage, set, copy
        together = at_one_copy.sum(-1).cumprod(0)
        signs = 1 - 2 * ((sets.sum(1) + 1) % 2)
        return together @ signs

    def expected_cost(self) -> Float[Tensor, ""]:
        """The expected cost of a tree, in encoders: from 1, all shared, to m, nothing shared."""
        return (self.shares.to(self.logits) * self.expected_modules()).sum()

    def regularizer(self) -> Tensor:
        return self.resource * self.expected_cost() if self.resource else super().regularizer()

    # --- what was learned ---

    def report(self) -> dict[str, dict[str, float]]:
        """For the history: by task the probability of each copy, "stage_1_left", "stage_1_right", ..."""
        return passage_report(self.probabilities(), self.task_names)

    def groups(self) -> list[dict[str, str]]:
        """The most probable tree, as `Tree` takes it: one `{task: label}` a stage, the label telling the way so far."""
        ways = {name: [self.task_names[i] for i in row]
                for name, row in zip(self.task_names, self.logits.argmax(-1).T.tolist(), strict=True)}
        return [{name: "-".join(way[:stage]) for name, way in ways.items()}
                for stage in range(1, len(self.nodes) + 1)]

    def learned(self) -> dict[str, Any]:
        return {"groups": self.groups(), "expected_cost": self.expected_cost().item()}

    def discrete(self, problem: Problem, learned: Mapping[str, Any] | None = None) -> Tree:
        return Tree(problem, self._encoder, groups=(learned or self.learned())["groups"])


def stage_costs(encoder: StagedEncoder, count: str) -> list[float]:
    """What each stage costs: its parameters, or the multiplications and additions for one sample."""
    if count == "parameters":
        return [float(size(stage)) for stage in encoder.stages]
    costs = []
    for stage, shape, dtype in zip(encoder.stages, encoder.shapes, encoder.dtypes, strict=False):
        on_meta = {name: tensor.to("meta") for name, tensor in [*stage.named_parameters(), *stage.named_buffers()]}
        x = trial(shape, dtype)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            torch.func.functional_call(stage, on_meta, (x,))
        costs.append(counter.get_total_flops() / len(x))
    return costs


def bmtas(problem: Problem, build: Callable[[Problem], BMTAS], strategy: Any, setting: Setting, *,
          order: str = "first") -> Run:
    """Search with BMTAS, then train the tree that was found, from scratch, with the strategy.

    The search learns weights on 80% of the training data and choices on the others, at ten times the learning rate;
    for a twentieth of the epochs weights only. Steps of the two alternate (in the authors' code, epochs).
    order: of the upper level's gradient, see `BilevelStep`.
    `learned`: "groups", the tree, and "expected_cost" in encoders at the end of the search.
    """
    return search_and_retrain(problem, build(problem), strategy, setting, order=order, rate=10.0, share=0.2,
                              warm_up=0.05)
