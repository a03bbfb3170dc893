"""CoNAL's search from many seeds at once, for distributions over seeds.

Imports `files`, `search`, `tasks`. Small networks of one shape are stacked, seeds as the first dimension of every
tensor, and step together: a hundred searches take the time of a few.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..files import derived_seed, part, seed_everything, unknown
from ..search import bilevel
from ..search.sharing.branches import Supernet
from ..tasks import Problem

HEADS, ENCODERS = ("own", "positive", "equal"), ("own", "equal")


@dataclass(frozen=True)
class Searches:
    """What searches from many seeds came to.

    probabilities: of each branch point, after the last step.
    conflicts: step by step and module by module, whether two tasks' gradients had a negative cosine there.
    """

    probabilities: Float[Tensor, "seeds tasks points"]
    conflicts: Bool[Tensor, "steps modules seeds"]

    def points(self) -> list[tuple[int, ...]]:
        """Seed by seed each task's most probable branch point, of equally probable ones the first."""
        return [tuple(row) for row in (self.probabilities.argmax(2) + 1).tolist()]


def search(problem: Problem, seeds: Sequence[int], *, lr: float, epochs: int, batch_size: int, notice: bool = True,
           heads: str = "own", encoders: str = "own") -> Searches:
    """The search stage of `conal` from each of the seeds: its network, halves of the data and order of batches.

    Plain SGD with the rate `lr` for weights and logits, and squared losses, as the problem `relatedness` is printed.
    All is computed in double precision, so that outcomes do not hang on the processor; `conal` itself takes single
    precision and comes to the same probabilities within rounding.
    notice: False takes conflict noticing away: shared modules learn in every step.
    heads: what heads begin with. "own" (default): random numbers of their own; "positive": those without their
        signs; "equal": every task has the numbers of the first one.
    encoders: what private encoders begin with. "own" (default): random numbers; "equal": those of the shared one.
    Raises ValueError for another problem, and for starts that are not known.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, equation 5.3 and algorithm 3; `heads` and
    `encoders` are ours.
    """
    for what, value, known in (("start of heads", heads, HEADS), ("start of encoders", encoders, ENCODERS)):
        if value not in known:
            raise ValueError(unknown(what, str(value), known))
    if problem.name != "relatedness" or any(target.shape[1] > 1 for target in problem.train.targets.values()):
        raise ValueError(f"Problem {problem.name!r} cannot be searched from many seeds at once; this takes "
                         "'relatedness' with one number a target. For others run 'conal' seed by seed.")
    w, conflicts = _start(problem, seeds, heads, encoders), []
    logits = [w[f"beta.{task}"] for task in problem.task_names]
    shared = [_module(w, f"shared.{q}") for q in range(len(problem.encoder["widths"]))]
    own = [value for name, value in w.items() if name.startswith(("private", "heads"))]
    moving = torch.ones(len(seeds), dtype=torch.bool)
    for below, above in _batches(problem, seeds, epochs, batch_size):
        _descend(logits, torch.autograd.grad(_losses(w, problem, above).sum(), logits), lr, moving)
        losses = _losses(w, problem, below).sum(1)  # no seed's loss depends on another seed's weights
        steps = [(own, torch.autograd.grad(losses.sum(), own, retain_graph=True), moving)]
        moves, seen = moving, []
        by_task = [torch.autograd.grad(loss, sum(shared, []), retain_graph=True) for loss in losses]
        for q, module in enumerate(shared):
            rows = [gradients[2 * q:2 * q + 2] for gradients in by_task]  # weight and bias
            G = torch.stack([torch.cat([g.flatten(1) for g in row], 1) for row in rows], 1)
            seen.append((G @ G.mT < 0).flatten(1).any(1))
            moves = moves & ~seen[-1] if notice else moves
            steps.append((module, [sum(gs) for gs in zip(*rows, strict=True)], moves))
        conflicts.append(torch.stack(seen))
        for parameters, gradients, moves in steps:
            _descend(parameters, gradients, lr, moves)
    return Searches(torch.stack([b.detach() for b in logits], 1).softmax(2), torch.stack(conflicts))


def _losses(w: dict[str, Tensor], problem: Problem, batch: Float[Tensor, "seeds batch columns"]
            ) -> Float[Tensor, "m seeds"]:
    """The squared loss of every task and seed, each with its mixture of branches (`Supernet`, written out)."""
    m, modules = len(problem.tasks), len(problem.encoder["widths"])
    x, targets, found = batch[..., :-m], batch[..., -m:], []
    at = [x]  # behind each shared module
    for q in range(modules):
        at.append(_linear(w, f"shared.{q}", at[-1]).relu())
    for number, task in enumerate(problem.task_names):
        branches = at[:1]
        for q in range(modules):
            branches = [_linear(w, f"private.{task}.{q}", z).relu() for z in branches] + [at[q + 1]]
        mixed = torch.einsum("sp,psnf->snf", w[f"beta.{task}"].softmax(1), torch.stack(branches))
        found.append((_linear(w, f"heads.{task}", mixed)[..., 0] - targets[..., number]).square().mean(1))
    return torch.stack(found)


def _module(w: dict[str, Tensor], name: str) -> list[Tensor]:
    """Weight and bias of every seed's module `name`."""
    return [value for full, value in w.items() if full.startswith(f"{name}.")]


def _linear(w: dict[str, Tensor], name: str, z: Float[Tensor, "seeds batch inputs"]
            ) -> Float[Tensor, "seeds batch outputs"]:
    weight, bias = _module(w, name)
    return torch.baddbmm(bias[:, None], z, weight.mT)


def _descend(parameters: Sequence[Tensor], gradients: Sequence[Tensor], lr: float,
             moves: Bool[Tensor, "seeds"]) -> None:
    """A step of SGD for the seeds that move."""
    with torch.no_grad():
        for parameter, g in zip(parameters, gradients, strict=True):
            parameter -= lr * moves.to(g).view(-1, *[1] * (g.dim() - 1)) * g


def _start(problem: Problem, seeds: Sequence[int], heads: str, encoders: str) -> dict[str, Tensor]:
    """The parameters of one supernet for each seed, stacked; made equal where asked for."""
    net, starts = Supernet(problem), []
    parts = {"shared": net.shared, **{f"private.{task}": modules for task, modules in net.private.items()},
             **{f"head.{task}": head for task, head in net.heads.items()}}
    for seed in seeds:
        seed_everything(seed)
        for name, modules in parts.items():  # as a model of this seed draws them, without making the modules anew
            with part(name):
                for layer in modules.modules():
                    if isinstance(layer, nn.Linear):
                        layer.reset_parameters()
        starts.append({name: value.detach().double() for name, value in net.named_parameters()})
    w = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    for name in w:
        kind, _, *rest = name.split(".")
        if kind == "heads" and heads == "equal":
            w[name] = w[".".join(["heads", problem.task_names[0], *rest])]
        if kind == "heads" and heads == "positive" and rest == ["weight"]:
            w[name] = w[name].abs()
        if kind == "private" and encoders == "equal":
            w[name] = w[".".join(["shared", *rest])]
    return {name: value.clone().requires_grad_() for name, value in w.items()}


def _batches(problem: Problem, seeds: Sequence[int], epochs: int, size: int
             ) -> Iterator[list[Float[Tensor, "seeds batch columns"]]]:
    """Step by step the batches of all seeds, for weights and for logits; targets stand behind the features."""
    sides: dict[str, list] = {"order": [], "upper level": []}
    for seed in seeds:
        below, above = bilevel.halves(problem, seed)
        for (name, found), split in zip(sides.items(), (below.train, above), strict=True):
            chance = torch.Generator().manual_seed(derived_seed(seed, name))
            orders = torch.stack([torch.randperm(len(split), generator=chance) for _ in range(epochs)])
            found.append((torch.cat([split.inputs, *split.targets.values()], 1).double(), orders))
    stacked = [[torch.stack(parts) for parts in zip(*found, strict=True)] for found in sides.values()]
    everyone = torch.arange(len(seeds))[:, None]
    for epoch in range(epochs):
        for start in range(0, stacked[0][1].shape[2], size):
            yield [samples[everyone, orders[:, epoch, start:start + size]] for samples, orders in stacked]
