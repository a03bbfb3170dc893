"""LTB, learning to branch: every module chooses from which module of the stage before it takes its input.

Imports `models`, `procedures`, `tasks`, `training`, `search.relaxed`, `search.stages`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...models import Tree
from ...models.base import Encoder
from ...tasks import Problem
from ...training import Run
from ...training.procedures import Setting
from .relaxed import Relaxed
from .stages import search_and_retrain


class LTB(Relaxed):
    """The supernet of learning to branch: m copies of every module, and each copy chooses its parent.

    With copies `f_j^s` (j = 1, ..., m) of module s and relaxed one-hot choices d:
    `z_j^1 = f_j^1(x)`, `z_j^s = f_j^s(sum_i d_ji^s z_i^(s-1))`, prediction of task t
    `h_t(sum_i d_ti z_i^S)` after the last module S: heads choose their parents as modules do. Choices are
    Gumbel-softmax samples; the temperature starts at 2 and falls exponentially (to 0.1 in the last epoch; the end is
    our choice). All modules are partially-specific: they learn from all tasks first, and from a fixed set as
    the choices settle.

    What is found is a tree by construction: following the most probable parents from a task's head to the
    input, two tasks that meet at a module have everything before it in common. So `groups` labels each stage's
    modules by the task whose copy it is, and groups refine from the input to the heads. Of equally probable parents
    the first is taken; without any learning that is hard parameter sharing.

    Copies start as the modules of single-task networks.
    Source: P. Guo, C.-Y. Lee, D. Ulbricht, Learning to Branch for Multi-Task Learning, ICML 2020, reconstructed from
    its abstract and from its description in Learning Architecture for Multiple Tasks in Transfer Learning,
    sections 5.1 and 5.3.2, as no code is public and the paper itself could not be read.
    """

    temperatures = (2.0, 0.1)
    nodes: Sequence[nn.ModuleList]

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__(problem, encoder)
        whole = [self.new_encoder(f"private.{name}") for name in self.task_names]
        self.nodes = nn.ModuleList(nn.ModuleList(copies) for copies in zip(*(e.stages for e in whole), strict=True))
        # [s - 1, j, i]: how much copy j of module s + 1 (head j after the last) wants copy i of module s as its parent.
        self.logits = nn.Parameter(torch.zeros(len(self.nodes), len(self.tasks), len(self.tasks)))
        self.add_heads(whole[0].out_shape)

    def route(self, task: str) -> list[nn.Module]:
        return [*(node for copies in self.nodes for node in copies), self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        *between, last = self.choices()
        z = torch.stack([node(x) for node in self.nodes[0]])
        for copies, choice in zip(self.nodes[1:], between, strict=True):
            inputs = torch.tensordot(choice.to(z), z, 1)  # under autocast their types differ
            z = torch.stack([node(one) for node, one in zip(copies, inputs, strict=True)])
        outputs = dict(zip(self.task_names, torch.tensordot(last.to(z), z, 1), strict=True))
        return {name: self.leave(name, outputs[name]) for name in tasks}

    # --- what was learned ---

    def passages(self) -> Float[Tensor, "stages tasks copies"]:
        """The probability that a task's data pass a copy, stage by stage: parents' probabilities multiplied."""
        found = [self.probabilities()[-1]]
        for choice in reversed(self.probabilities()[:-1]):
            found.insert(0, found[0] @ choice)
        return torch.stack(found)

    def report(self) -> dict[str, dict[str, float]]:
        """For the history: by task the probability of passing each copy, "stage_1_left", "stage_1_right", ..."""
        return passage_report(self.passages(), self.task_names)

    def groups(self) -> list[dict[str, str]]:
        """The most probable tree, as `Tree` takes it: one `{task: label}` a stage, the label naming a copy."""
        parents = self.logits.argmax(-1)
        copies = parents[-1]
        found = [copies]
        for choice in reversed(parents[:-1]):
            copies = choice[copies]
            found.insert(0, copies)
        return [dict(zip(self.task_names, (self.task_names[j] for j in stage.tolist()), strict=True))
                for stage in found]

    def learned(self) -> dict[str, Any]:
        return {"groups": self.groups()}

    def discrete(self, problem: Problem, learned: Mapping[str, Any] | None = None) -> Tree:
        return Tree(problem, self._encoder, groups=(learned or self.learned())["groups"])


def passage_report(passages: Float[Tensor, "stages tasks copies"], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """`{task: {"stage_<s>_<copy>": probability}}`; copies are called by the tasks, in their order."""
    return {name: {f"stage_{s}_{copy}": value for s, row in enumerate(passages[:, t].tolist(), start=1)
                   for copy, value in zip(names, row, strict=True)} for t, name in enumerate(names)}


def ltb(problem: Problem, build: Callable[[Problem], LTB], strategy: Any, setting: Setting, *,
        order: str = "single") -> Run:
    """Search with LTB, then train the tree that was found, from scratch, with the strategy.

    The search learns weights and choices from the same loss on all training data, with optimisers of equal kind and
    rate; for a tenth of the epochs (20 of 200) weights only.
    order: "single" (default), or as in `BilevelStep` to learn the choices on another half of the data.
    `learned["groups"]`: the tree.
    """
    return search_and_retrain(problem, build(problem), strategy, setting, order=order, warm_up=0.1)
