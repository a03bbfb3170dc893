"""The figure of what an architecture shares, drawn from the model itself.

Imports `encoders`, `models`, `training`, `style`. A model says in `route(task)` which modules a task's data pass; which
of them hang on which is seen in one forward pass. Nothing about an architecture is written down here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import size
from ..models import MTLModel
from ..training.network import tensors
from .style import panels

SHARED = "0.85"  # grey: a module that all tasks reach
WIDTH, HEIGHT, LEGEND = 0.75, 0.3, 0.5  # inches that a box has; those that a title has are a box's, too
LABEL = 7  # points


@dataclass(frozen=True)
class Box:
    """One module of a model.

    label: what the model's code calls it, without tasks and numbers.
    tasks: that reach it, going by their routes.
    depth: one less than that of the shallowest module that takes something from it. One that none takes from, a head,
        stands behind the longest way to it.
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
                size(module)) for module in order]


def sharing(models: Mapping[str, MTLModel], columns: int = 2) -> Any:
    """What each model shares: a box a module, input left, heads right, lines where one takes from another.

    Boxes have the names of the code. One that only one task reaches has the task's colour, one that all reach is
    grey, and one that some reach, but not all, is striped in their colours. A box without a line on its left looks
    at the input, or at nothing, as weights do that others look up.

    models: `{title: model}`, of one problem.
    Raises ValueError for a model that sends data through one module twice.
    """
    tasks = next(iter(models.values())).task_names
    drawn = {title: boxes(model) for title, model in models.items()}
    heights = {title: _heights(found, tasks) for title, found in drawn.items()}
    deepest = max(box.depth for found in drawn.values() for box in found)
    tallest = [2 * max(map(abs, places)) + 1 for places in heights.values()]
    columns = min(columns, len(models))
    rows = [max(tallest[start : start + columns]) for start in range(0, len(models), columns)]
    height = HEIGHT * sum(row + 1 for row in rows) + LEGEND
    figure, axes = panels(len(rows), columns, WIDTH * deepest, height / len(rows))
    axes[0, 0].get_gridspec().set_height_ratios([row + 0.6 for row in rows])
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, (title, found)) in enumerate(zip(axes.flat, drawn.items(), strict=False)):
        _draw(axis, found, heights[title], tasks)
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
        found[module] |= {source for tensor in tensors((arguments, keywords)) for source in _behind(tensor, made)}
        made.update({tensor.grad_fn: module for tensor in tensors(output)})

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in modules]
    training = model.training
    try:
        weight = next(model.parameters())  # in whose precision it computes, whatever that of the data
        given = model.input_dtype
        dtype = weight.dtype if given is None or given.is_floating_point else given
        with torch.enable_grad():
            x = torch.zeros(2, *model.input_shape, device=weight.device, dtype=dtype)
            model.eval()(x.requires_grad_(x.is_floating_point()))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {module: sources - {module} for module, sources in found.items()}


def _depths(sources: Mapping[nn.Module, set[nn.Module]]) -> dict[nn.Module, int]:
    """Each module as late as those that take from it allow, which keeps most lines short."""
    earliest: dict[nn.Module, int] = {}
    while len(earliest) < len(sources):  # each round settles those whose sources are settled
        settled = {module: 1 + max((earliest[source] for source in others), default=0)
                   for module, others in sources.items() if module not in earliest and others <= earliest.keys()}
        if not settled:
            raise ValueError("Some module is passed more than once on one way, so it has no place in the figure; give "
                             "the model a module of its own for each stage.")
        earliest |= settled
    depths: dict[nn.Module, int] = {}
    for module in sorted(earliest, key=lambda module: -earliest[module]):
        takers = [depths[other] for other in depths if module in sources[other]]
        depths[module] = min(takers) - 1 if takers else earliest[module]
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


def _label(model: MTLModel, module: nn.Module) -> str:
    path = next(name for name, other in model.named_modules() if other is module)
    words = [word for word in path.split(".") if not word.isdigit() and word not in {*model.task_names, "stages"}]
    return words[-1] if words else path


# --- drawing -----------------------------------------------------------------------------------------------------

def _heights(found: list[Box], tasks: list[str]) -> list[float]:
    """A place for each box in its column: the first task's above, those of several tasks between.

    Of one task's boxes, those that take from none stand outside, so that rows go on straight. For the same end a
    column whose modules follow others of their name moves by half a box, if that puts them into one row.
    """
    heights = [0.0] * len(found)
    middle = (len(tasks) - 1) / 2
    for depth in sorted({box.depth for box in found}):
        column = {n: sum(map(tasks.index, box.tasks)) / len(box.tasks) for n, box in enumerate(found)
                  if box.depth == depth}
        order = sorted(column, key=lambda n: (column[n], (not found[n].sources) * (column[n] - middle)))
        for place, n in enumerate(order):
            heights[n] = (len(order) - 1) / 2 - place
        steps = {heights[source] - heights[n] for n in order for source in found[n].sources
                 if (found[source].label, found[source].tasks) == (found[n].label, found[n].tasks)}
        if steps in ({0.5}, {-0.5}):
            for n in order:
                heights[n] += min(steps)
    return heights


def _draw(axis: Any, found: list[Box], heights: list[float], tasks: list[str]) -> None:
    from matplotlib.patches import Rectangle

    for box, y in zip(found, heights, strict=True):
        for source in box.sources:
            start, end = (found[source].depth + 0.4, heights[source]), (box.depth - 0.4, y)
            turn = (box.depth - 0.6, heights[source])  # along the row first: there is more room than between rows
            axis.plot(*zip(start, turn, end, strict=True), color="0.6", linewidth=0.7, zorder=0)
        everyone = len(box.tasks) == len(tasks) > 1
        colours = [SHARED] if everyone else [_colour(tasks.index(task)) for task in box.tasks]
        height = 0.7 / len(colours)
        for stripe, colour in enumerate(colours, start=1):
            axis.add_patch(Rectangle((box.depth - 0.4, y + 0.35 - stripe * height), 0.8, height, facecolor=colour,
                                     edgecolor="none"))
        axis.text(box.depth, y, box.label, ha="center", va="center", fontsize=LABEL)


def _colour(t: int) -> tuple[float, ...]:
    """The colour of task number t, paler, so that black letters can be read on it, and opaque."""
    from matplotlib.colors import to_rgb

    return tuple(0.35 + 0.65 * part for part in to_rgb(f"C{t}"))


def _legend(tasks: list[str]) -> list[Any]:
    from matplotlib.patches import Patch

    colours = {"all tasks": SHARED, **{f"only {task}": _colour(t) for t, task in enumerate(tasks)}}
    return [Patch(facecolor=colour, edgecolor="none", label=label) for label, colour in colours.items()]
