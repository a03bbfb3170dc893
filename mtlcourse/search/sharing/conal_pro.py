"""CoNAL-Pro: the architecture of many tasks, learned from the last module backwards.

Imports `files`, `models`, `procedures`, `strategies`, `tasks`, `training`, `search.branches`, `search.conal`,
`search.searching`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...files import seed_everything
from ...models import Tree
from ...models.base import Encoder
from ...strategies import Strategy, make
from ...tasks import Problem
from ...training import Run
from ...training.procedures import Build, Setting, in_stages
from ..searching import flags, search
from .branches import Supernet
from .conal import retrain


class ProgressiveSupernet(Supernet):
    """The supernet of CoNAL-Pro: two branch points at a time.

    In stage k each task chooses between what is shared to the end (which ends its search, with branch point
    P - k + 1) and modules of its own from number P - k on. The shared modules are f_S's first P - k and, behind
    them, modules that only the tasks still in the search share. It starts in stage 1; `advance` goes on.

    With r tasks still in it holds `P - 1 + k r` modules, where `Supernet` holds `(P - 1) (1 + m)`.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 5.2.4.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__(problem, encoder, candidates=[-2, -1])
        self.stage = 1

    def advance(self, problem: Problem) -> None:
        """Go on to the next stage with the tasks of `problem`, in place, so that no module is held twice.

        Modules, statistics and heads of the tasks that stay go on as they are. New are one shared module in
        place of the one that the others leave with, one module in front of each task's own, and all logits.
        """
        self.stage, self.tasks = self.stage + 1, problem.tasks
        for parts in (self.private, self.heads, self.beta):
            for name in [name for name in parts if name not in self.task_names]:
                del parts[name]
        last = self.P - self.stage  # number of the last module of f_S that is still in question
        self.shared[last] = self.new_encoder("shared").stages[last]
        for name, stages in self.private.items():
            stages.insert(0, self.new_encoder(f"private.{name}").stages[last - 1])
            self.beta[name] = nn.Parameter(torch.zeros(2))
        self.candidates = [last, self.P]

    def probabilities(self) -> dict[str, dict[int, float]]:
        """With the branch points' own numbers: to share to the end is point P - k + 1."""
        return {name: dict(zip(self._numbers(), row.values(), strict=True))
                for name, row in super().probabilities().items()}

    def points(self) -> dict[str, int]:
        chosen = super().points()
        return {name: self._numbers()[self.candidates.index(p)] for name, p in chosen.items()}

    def _numbers(self) -> list[int]:
        return [self.P - self.stage, self.P - self.stage + 1]

    def modules_held(self) -> int:
        """How many modules (stages of encoders) there are now."""
        return len(self.shared) + sum(len(stages) for stages in self.private.values())

    def in_question(self) -> int:
        """Which of `shared_modules`, counted from 1, is the one that tasks may take or leave."""
        before = self.shared[: self.candidates[0] - 1]
        return 1 + sum(any(p.requires_grad for p in stage.parameters()) for stage in before)


def conal_pro(problem: Problem, build: Build, strategy: Strategy | None, setting: Setting, *, notice: Any = True,
              random_weights: Any = True, single_level: Any = False, order: str = "first",
              architecture_lr: float | int | None = None) -> Run:
    """CoNAL for many tasks, in up to P stages, each with the budget's epochs.

    "search_1", "search_2", ...: from the last module backwards, each task takes the shared module or leaves it. Who
        takes it is done; those who do so in one stage are a subgroup. The others go on to the next stage without
        them, and after stage P - 1 each of them has a network of its own. The module in question and those
        behind it notice conflicts; those before it always learn.
    "retrain": the tree of subgroups, as in `conal`: all share f_S up to their branch point, behind it
        each subgroup has modules in common.

    notice, random_weights, single_level, order, architecture_lr, strategy: as in `conal`.
    `learned`: branch "points", "subgroups" in the order in which they were found, "groups" of each module, and
        how many "modules" each stage held.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 5.2.4. It leaves open whether tasks
    that are done go on learning: here they do not, which is what saves time and memory.
    """
    flags(notice=notice, random_weights=random_weights)
    supernet: ProgressiveSupernet = build(problem)
    P, inside, points = supernet.P, problem, {}
    stages, held = {}, []
    for stage in range(1, P):
        if stage > 1:
            seed_everything(setting.seed)
            supernet.advance(inside)
        held.append(supernet.modules_held())
        rule = make("notice", first=supernet.in_question()) if notice else make("ew")
        stages[f"search_{stage}"] = search(
            inside, supernet, rule, setting, f"search_{stage}", upper=supernet.architecture_parameters(), order=order,
            single_level=single_level, architecture_lr=architecture_lr, diagnostics=notice)
        done = [name for name, p in supernet.points().items() if p == P - stage + 1]
        points |= dict.fromkeys(done, P - stage + 1)
        staying = [task for task in inside.tasks if task.name not in done]
        if not staying:
            break
        inside = replace(problem, tasks=staying, probes={})
    points = {name: points.get(name, 1) for name in problem.task_names}
    seed_everything(setting.seed)
    tree = Tree(problem, supernet.specification, groups=groups_of(points, P))
    stages["retrain"] = retrain(problem, tree, strategy, setting, random_weights)
    run = in_stages(stages)
    run.learned = {"points": points, "subgroups": subgroups_of(points), "groups": tree.groups(), "modules": held}
    return run


def groups_of(points: Mapping[str, int], P: int) -> list[dict[str, str]]:
    """The tree of subgroups, stage by stage: f_S before a task's branch point, behind it its subgroup's modules.

    >>> groups_of({"a": 3, "b": 2, "c": 2, "d": 1}, 3)[1]
    {'a': 'f_S', 'b': 'left at 2', 'c': 'left at 2', 'd': 'd alone'}
    """
    def label(task: str, p: int, stage: int) -> str:
        if stage < p:
            return "f_S"
        return f"{task} alone" if p == 1 else f"left at {p}"

    return [{name: label(name, p, stage) for name, p in points.items()} for stage in range(1, P)]


def subgroups_of(points: Mapping[str, int]) -> list[list[str]]:
    """Tasks with the same branch point, the last point first; tasks with networks of their own are one group each.

    >>> subgroups_of({"a": 1, "b": 4, "c": 1, "d": 4})
    [['b', 'd'], ['a'], ['c']]
    """
    found = [[name for name in points if points[name] == p] for p in sorted(set(points.values()) - {1}, reverse=True)]
    return found + [[name] for name, p in points.items() if p == 1]
