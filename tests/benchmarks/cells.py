"""What searches for cells cost: the supernet to a loop over its operations, a step of E2RNAS to its passes.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/cells.py [supernet e2rnas]`. What is compared runs in turns, and
medians are printed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from core import interleaved, measure, verdict  # noqa: E402

from mtlcourse import data  # noqa: E402
from mtlcourse.search.bilevel import halves  # noqa: E402
from mtlcourse.search.cells import CellSupernet  # noqa: E402
from mtlcourse.search.cells.objectives import Attack, Foreign, Objectives  # noqa: E402
from mtlcourse.search.cells.procedures import momentum_sgd, wanted_sizes  # noqa: E402
from mtlcourse.search.cells.sizes import CellSearch  # noqa: E402
from mtlcourse.search.cells.step import E2RNASStep, include_outside  # noqa: E402
from mtlcourse.tasks import Batch, Problem  # noqa: E402
from mtlcourse.training.updates import make_step  # noqa: E402
from tests.search.cells.loop import looped  # noqa: E402

BATCH, REPEATS = 64, 7
COURSE = {"cells": 3, "channels": 4, "nodes": 2}
# Images, the supernet, and how much faster it must be: calls cost most where maps are small.
SIZES: list[tuple[tuple[int, int, int], dict[str, Any], float]] = [
    ((1, 14, 14), COURSE, 1.5), ((1, 28, 28), COURSE, 1.4), ((1, 14, 14), {**COURSE, "nodes": 4}, 1.4)]
# Passes, forward and backward on one batch, that equations 3.7 to 3.9 need. First order: the weights' step on data and
# foreign samples, an attack, three objectives. Second order: the look-ahead on both besides, and for each of the three
# both sides of the finite difference on both.
PASSES = {"first": 2 + 1 + 3, "second": 2 + 1 + 3 + 2 + 3 * 2 * 2}


def supernet() -> None:
    """Forward and backward pass against the loop, with the same weights."""
    for shape, options, faster in SIZES:
        torch.manual_seed(0)
        batched = CellSupernet(Problem("digits", [data.classification("digit", 10)], None, None, None, shape, {}),
                               **options)
        one_by_one, x = looped(batched), torch.rand(BATCH, *shape)
        print(f"images {shape}, {options}")
        taken = interleaved(REPEATS, batched=step(batched, x), loop=step(one_by_one, x))
        verdict("loop over the supernet", taken["loop"] / taken["batched"], faster, at_least=True)


def e2rnas() -> None:
    """A step of E2RNAS against the passes that its equations need."""
    problem = data.load("robust_digits")
    for order, passes in PASSES.items():
        torch.manual_seed(0)
        net = CellSearch(problem)
        below, above = halves(problem)
        lower = make_step(problem.tasks, net, optimizer=momentum_sgd, lr=0.025)
        foreign = Foreign(problem, BATCH, 0, ["upper", "lower"])
        include_outside(lower, foreign)
        resources = net.resources(problem)
        objectives = Objectives(lower, foreign, Attack("fgsm", 0.1), resources, wanted_sizes(resources, None, None))
        whole = E2RNASStep(objectives, above, batch_size=BATCH, lr=3e-4, order=order)
        batch = next(below.train.batches(BATCH))
        print(f"order {order}: {passes} passes")

        def one_step(whole=whole, batch=batch) -> None:
            whole(batch)

        taken = interleaved(REPEATS, step=one_step, one_pass=one_pass(net, batch))
        verdict(f"a step over its passes, order {order}", taken["step"] / (passes * taken["one_pass"]), 1.15)


def one_pass(net: CellSupernet, batch: Batch) -> Callable[[], None]:
    """Forward and backward, to all parameters."""
    def both() -> None:
        loss = torch.nn.functional.cross_entropy(net(batch.inputs)["digit"], batch.targets["digit"])
        torch.autograd.grad(loss, list(net.parameters()))
    return both


def step(net: CellSupernet, x: torch.Tensor) -> Callable[[], None]:
    targets = torch.arange(len(x)) % 10

    def both() -> None:
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(x)["digit"], targets).backward()
    return both


if __name__ == "__main__":
    measure({"supernet": supernet, "e2rnas": e2rnas})
