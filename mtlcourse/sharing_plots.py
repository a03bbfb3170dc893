"""The figure of what an architecture shares, drawn from the model itself.

Imports `models`, `plots`. A model says in `route(task)` which modules a task's data pass; which of them hang on which
is seen in one forward pass. Nothing about an architecture is written down here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .models import MTLModel
from .plots import panels

SHARED = "0.8"  # grey: a module that all tasks reach
WIDTH, HEIGHT, LEGEND = 0.5, 0.28, 0.5  # inches that a box has; those that a title has are a box's, too


@dataclass(frozen=True)
class Box:
    """One module of a model.

    label: what the model's code calls it, without tasks and numbers.
    tasks: that reach it, going by their routes.
    depth: one more than that of the deepest module it takes something from. One that takes from none stands right
        before the first that takes from it.
    sources: numbers of the modules it takes something from directly, in the order of `boxes`.
    parameters: how many it has.
    """

    label: str
    tasks: tuple[str, ...]
    depth: int
    sources: tuple[int, ...]
    parameters: int


def boxes(model: MTLModel) -> list[Box]:
    """The modules on the routes of a model's tasks, shallow ones first.

    A list or dictionary of modules on a route stands for its members.
    """
    reached: dict[nn.Module, list[str]] = {}
    for task in model.task_names:
        for module in dict.fromkeys(part for entry in model.route(task) for part in _opened(entry)):
            reached.setdefault(module, []).append(task)
    sources = _sources(model, list(reached))
    depths = _depths(sources)
    order = sorted(reached, key=lambda module: depths[module])
    return [Box(_label(model, module), tuple(reached[module]), depths[module],
                tuple(number for number, source in enumerate(order) if source in sources[module]),
                sum(parameter.numel() for parameter in module.parameters())) for module in order]


def sharing(models: Mapping[str, MTLModel], columns: int = 2) -> Any:
    """What each model shares: a box a module, input left, heads right, lines where one takes from another.

    Boxes have the names of the code. One that only one task reaches has the task's colour, one that all reach is
    grey, and one that some reach, but not all, is striped in their colours. A box without a line on its left looks
    at the input, or at nothing, as weights do that others look up.

    models: `{title: model}`, of one problem.
    """
    tasks = next(iter(models.values())).task_names
    drawn = {title: boxes(model) for title, model in models.items()}
    deepest = max(box.depth for found in drawn.values() for box in found)
    tallest = [max(Counter(box.depth for box in found).values()) for found in drawn.values()]
    columns = min(columns, len(models))
    rows = [max(tallest[start : start + columns]) for start in range(0, len(models), columns)]
    height = HEIGHT * sum(row + 1 for row in rows) + LEGEND
    figure, axes = panels(len(rows), columns, WIDTH * deepest, height / len(rows))
    axes[0, 0].get_gridspec().set_height_ratios([row + 0.6 for row in rows])
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, (title, found)) in enumerate(zip(axes.flat, drawn.items(), strict=False)):
        _draw(axis, found, tasks)
        high = rows[number // columns] / 2
        axis.set(title=title, xlim=(0.5, deepest + 0.5), ylim=(-high, high))
    figure.legend(handles=_legend(tasks), loc="outside lower center", ncols=len(tasks) + 1)
    return figure


# --- what hangs on what ----------------------------------------------------------------------------------------

def _opened(module: nn.Module) -> Iterator[nn.Module]:
    """The module itself, or the members of a container, which no data ever pass."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        for member in module.values() if isinstance(module, nn.ModuleDict) else module:
            yield from _opened(member)
    else:
        yield module


def _sources(model: MTLModel, modules: list[nn.Module]) -> dict[nn.Module, set[nn.Module]]:
    """Which of `modules` each of them takes something from, with none in between: the graph of a forward pass."""
    made: dict[Any, nn.Module] = {}  # a node of autograd's graph, and the module whose output it is
    found: dict[nn.Module, set[nn.Module]] = {module: set() for module in modules}

    def note(module: nn.Module, arguments: tuple, keywords: dict, output: Any) -> None:
        found[module] |= {source for tensor in _tensors((arguments, keywords)) for source in _behind(tensor, made)}
        made.update({tensor.grad_fn: module for tensor in _tensors(output)})

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in modules]
    training = model.training
    try:
        device = next(model.parameters()).device
        with torch.enable_grad():
            model.eval()(torch.zeros(2, *model.input_shape, device=device, requires_grad=True))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {module: sources - {module} for module, sources in found.items()}


def _depths(sources: Mapping[nn.Module, set[nn.Module]]) -> dict[nn.Module, int]:
    depths: dict[nn.Module, int] = {}
    while len(depths) < len(sources):  # each round settles those whose sources are settled
        depths |= {module: 1 + max((depths[source] for source in others), default=0)
                   for module, others in sources.items() if module not in depths and others <= depths.keys()}
    for module in sources:
        takers = [depths[other] for other in sources if module in sources[other]]
        if not sources[module] and takers:
            depths[module] = min(takers) - 1
    return depths


def _behind(tensor: Tensor, made: Mapping[Any, nn.Module]) -> set[nn.Module]:
    """The modules whose outputs are first met on the way back from `tensor`."""
    waiting, seen, found = [tensor.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node in made:
            found.add(made[node])
        elif node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return found


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(one)


def _label(model: MTLModel, module: nn.Module) -> str:
    path = next(name for name, other in model.named_modules() if other is module)
    words = [word for word in path.split(".") if not word.isdigit() and word not in {*model.task_names, "stages"}]
    return words[-1] if words else path


# --- drawing -----------------------------------------------------------------------------------------------------

def _heights(found: list[Box], tasks: list[str]) -> list[float]:
    """A place for each box in its column: the first task's above, those of several tasks between.

    Of one task's boxes, those that take from none stand outside, so that rows go on straight.
    """
    heights = [0.0] * len(found)
    middle = (len(tasks) - 1) / 2
    for depth in {box.depth for box in found}:
        column = {n: sum(map(tasks.index, box.tasks)) / len(box.tasks) for n, box in enumerate(found)
                  if box.depth == depth}
        order = sorted(column, key=lambda n: (column[n], (not found[n].sources) * (column[n] - middle)))
        for place, n in enumerate(order):
            heights[n] = (len(order) - 1) / 2 - place
    return heights


def _draw(axis: Any, found: list[Box], tasks: list[str]) -> None:
    from matplotlib.patches import Rectangle

    heights = _heights(found, tasks)
    for box, y in zip(found, heights, strict=True):
        for source in box.sources:
            axis.plot([found[source].depth + 0.4, box.depth - 0.4], [heights[source], y], color="0.6", linewidth=0.7,
                      zorder=0)
        everyone = len(box.tasks) == len(tasks) > 1
        colours = [SHARED] if everyone else [f"C{tasks.index(task)}" for task in box.tasks]
        height = 0.7 / len(colours)
        for stripe, colour in enumerate(colours, start=1):
            axis.add_patch(Rectangle((box.depth - 0.4, y + 0.35 - stripe * height), 0.8, height, facecolor=colour,
                                     alpha=0.8))
        axis.text(box.depth, y, box.label, ha="center", va="center", fontsize=5.5)


def _legend(tasks: list[str]) -> list[Any]:
    from matplotlib.patches import Patch

    colours = {"all tasks": SHARED, **{f"only {task}": f"C{t}" for t, task in enumerate(tasks)}}
    return [Patch(facecolor=colour, alpha=0.8, label=label) for label, colour in colours.items()]
