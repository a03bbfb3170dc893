"""Trees: tasks share a trunk and leave it where they please. What every branching search ends in.

Imports `encoders`, `files`, `tasks`, `models.base`, `models.dsmtl`.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..encoders import StagedEncoder
from ..files import unknown
from ..tasks import Problem
from .base import Encoder, MTLModel
from .dsmtl import DSMTL, GATES, Gate

Points = Mapping[str, int]
Groups = Sequence[Mapping[str, Hashable]]
Place = tuple[int, str]  # a module: the stage, counted from 0, and the part that it is of


class Tree(MTLModel):
    """Hard sharing that ends at a place of each task's own: who shares a stage is said stage by stage.

    prediction of task t: `h_t(f_t(f_S(x, p - 1), p, P - 1))`, where f(x, q) ends with module q, f(z, p, q) goes
    through modules p to q, and p is the task's branch point: p = 1 shares nothing, p = P everything.

    points: `{task: p}`, for trees with one trunk: a task has f_S's modules 1 to p - 1, then modules of its
        own. Default: p = P for all, which is hard parameter sharing.
    groups: in place of points, for any tree: one `{task: label}` a stage. Tasks with equal labels share that
        stage's module; who has parted does not meet again.
    gate: a kind of gate as `DSMTL` has it ("projected", "sigmoid", "fixed"), or None. With a gate a task with
        p < P predicts from `alpha_t f_S(x) + (1 - alpha_t) f_t(f_S(x, p - 1), p, P - 1)` (equation 9), and f_S
        is kept whole for it; a task with p = P has no gate. Needs points.
    f_S starts as in `HPS`, a task's own modules as in `STL`, both to the bit. Modules that nobody passes are
    not made.
    Raises ValueError for points and groups at once, tasks that the problem does not have or that are not
    placed, points outside 1 to P, a number of groups other than the encoder's stages, groups that meet again.
    Source: Deep Safe Multi-Task Learning, section 6; Learning Architecture for Multiple Tasks in Transfer Learning,
    section 5.2.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, groups: Groups | None = None,
                 points: Points | None = None, gate: str | None = None):
        super().__init__(problem, encoder)
        if groups is not None and (points is not None or gate is not None):
            raise ValueError("A tree is given by groups or by points, not both; gates need points, because only "
                             "these say which modules are f_S.")
        if gate is not None and gate not in GATES:
            raise ValueError(unknown("gate", str(gate), GATES))
        trunk = self.new_encoder("shared")
        if groups is None:
            points = dict.fromkeys(self.task_names, trunk.points) if points is None else points
            self.paths = _along_points(points, self.task_names, trunk.points)
        else:
            self.paths = _along_groups(groups, self.task_names, trunk.points - 1)
        gated = [name for name, p in points.items() if p < trunk.points] if gate is not None else []
        public = ["shared"] * (trunk.points - 1)
        self.ways = {name: [path, *([public] if name in gated else [])] for name, path in self.paths.items()}
        self.parts = self._modules_of(trunk)
        self.gates = nn.ModuleDict({name: Gate(gate) for name in self.task_names if name in gated})
        self.add_heads(trunk.out_shape)
        self._ends = self._ends_of_sharing()

    # --- building ---

    def _modules_of(self, trunk: StagedEncoder) -> nn.ModuleList:
        """What some task passes, and nothing else: `[s - 1][name]` is stage s of the part `name`."""
        made = {"shared": trunk}
        modules = nn.ModuleList()
        for stage, names in enumerate(zip(*(way for ways in self.ways.values() for way in ways), strict=True)):
            for name in dict.fromkeys(names):
                if name not in made:
                    made[name] = self.new_encoder(name)
            modules.append(nn.ModuleDict({_key(name): made[name].stages[stage] for name in dict.fromkeys(names)}))
        return modules

    def _ends_of_sharing(self) -> dict[str, list[Place | None]]:
        """For each way of each task the last place where some other task passes too."""
        passed = {name: {place for way in ways for place in enumerate(way)} for name, ways in self.ways.items()}
        return {name: [max((place for place in enumerate(way) if sum(place in p for p in passed.values()) > 1),
                           default=None) for way in ways] for name, ways in self.ways.items()}

    # --- running ---

    def _module(self, place: Place) -> nn.Module:
        return self.parts[place[0]][_key(place[1])]

    def route(self, task: str) -> list[nn.Module]:
        places = dict.fromkeys(place for way in self.ways[task] for place in enumerate(way))
        gate = [self.gates[task]] if task in self.gates else []
        return [*map(self._module, places), *gate, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        done: dict[Place, Tensor] = {}

        def along(way: Sequence[str], task: str, end: Place | None) -> Tensor:
            z = x
            for place in enumerate(way):
                if place not in done:
                    done[place] = self._module(place)(z)
                z = done[place] if place != end else self.leave(task, done[place])
            return z

        found = {}
        for name in tasks:
            own, *public = (along(way, name, end) for way, end in zip(self.ways[name], self._ends[name], strict=True))
            found[name] = self.gates[name](*public, own) if public else own
        return found

    # --- gates ---

    def alphas(self) -> dict[str, float]:
        """`{task: alpha_t}` of the tasks that have a gate, as they are now."""
        return {name: gate.alpha.item() for name, gate in self.gates.items()}

    report = DSMTL.report
    after_step = DSMTL.after_step
    param_groups = DSMTL.param_groups

    # --- the architecture as plain data ---

    def groups(self) -> list[dict[str, str]]:
        """One `{task: label}` a stage, as the argument of that name; the labels tell which part it is."""
        return [dict(zip(self.paths, names, strict=True)) for names in zip(*self.paths.values(), strict=True)]


def _key(name: str) -> str:
    """A part's name as a key of a ModuleDict; task names hold no hyphens, so different parts stay different."""
    return name.replace(".", "-")


def _own(task: str) -> str:
    return f"private.{task}"


def _along_points(points: Points, tasks: Sequence[str], P: int) -> dict[str, list[str]]:
    """For each task the parts that it passes, stage by stage."""
    _check_tasks("points", points, tasks)
    for name, p in points.items():
        if isinstance(p, bool) or p not in range(1, P + 1):
            raise ValueError(f"Task {name!r} has branch point {p!r}; this encoder has points 1 (all private) to {P} "
                             "(all shared).")
    return {name: ["shared" if stage < points[name] else _own(name) for stage in range(1, P)] for name in tasks}


def _along_groups(groups: Groups, tasks: Sequence[str], stages: int) -> dict[str, list[str]]:
    if len(groups) != stages:
        raise ValueError(f"There are {len(groups)} groups for an encoder of {stages} stages; give one a stage.")
    paths: dict[str, list[str]] = {name: [] for name in tasks}
    before = dict.fromkeys(tasks, frozenset(tasks))  # with whom each task is together
    for stage, labels in enumerate(groups, start=1):
        _check_tasks(f"groups of stage {stage}", labels, tasks)
        together = {name: frozenset(other for other in tasks if labels[other] == labels[name]) for name in tasks}
        for name in tasks:
            strangers = sorted(together[name] - before[name])
            if strangers:
                raise ValueError(f"Stage {stage} puts {name!r} together with {strangers}, from which it has parted "
                                 "before: that is no tree.")
            paths[name].append(_part(together[name], tasks))
        before = together
    return paths


def _part(members: frozenset[str], tasks: Sequence[str]) -> str:
    """The part that a group passes: all tasks f_S, one task its own modules, others a part named by them."""
    if len(members) == 1:
        return _own(*members)
    return "shared" if len(members) == len(tasks) else ".".join(["group", *(t for t in tasks if t in members)])


def _check_tasks(what: str, given: Mapping[str, Any], tasks: Sequence[str]) -> None:
    for name in given:
        if name not in tasks:
            raise ValueError(f"{unknown('task', str(name), tasks)} The {what} are those of another problem.")
    missing = [name for name in tasks if name not in given]
    if missing:
        raise ValueError(f"The {what} say nothing about {missing}; every task needs a place.")
