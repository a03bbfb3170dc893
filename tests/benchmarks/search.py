"""What architecture learning costs, as ratios to the count of module passes and to simpler ways.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/search.py [supernet notice memory rooms]`. What is compared
runs in turns, and medians are printed. Stages have equal cost, P = 6.

glibc gives large tensors back to the system when they are freed, and getting them again can take a quarter of a step.
To measure without that: `MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592` before the command.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import torch  # noqa: E402
from core import interleaved, measure, verdict  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from mtlcourse import data, methods  # noqa: E402
from mtlcourse.search.sharing.branches import Supernet  # noqa: E402
from mtlcourse.search.sharing.conal_pro import ProgressiveSupernet  # noqa: E402
from mtlcourse.strategies import Engine, Strategy, TaskWeights  # noqa: E402
from mtlcourse.tasks import Problem  # noqa: E402

SHAPE, BATCH, MODULES, REPEATS = (16, 16, 16), 32, 5, 9
# Samples and batches for the supernet. In the last one convolutions are light and tensors are large, so that it is the
# one where getting memory from the system shows.
SIZES = [((64, 8, 8), 32), ((32, 16, 16), 16), ((16, 16, 16), 8), ((16, 16, 16), 32)]
MEBI = 2**20
# Where nine tasks of CelebA branch, in the course's numbering from 1 (the thesis prints them from 0, table 5.14).
PRINTED = [1, 3, 3, 5, 5, 5, 6, 6, 6]


def stages(shape: tuple[int, ...] = SHAPE) -> list[nn.Module]:
    c = shape[0]
    return [nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), nn.GroupNorm(4, c), nn.ReLU())
            for _ in range(MODULES)]


def described(m: int, shape: tuple[int, ...] = SHAPE) -> Problem:
    return Problem("many", [data.classification(f"task_{t}", 10) for t in range(m)], None, None, None, shape, {})


def inputs(shape: tuple[int, ...] = SHAPE, batch: int = BATCH) -> Tensor:
    """With a gradient of their own, so that the first module of a branch costs as much as the others."""
    return torch.randn(batch, *shape, requires_grad=True)


def supernet() -> None:
    """A step against the count, 5 + 15 m module passes, and against every branch as a network of its own."""
    for (shape, batch), (m, faster) in itertools.product(SIZES, ((3, 1.5), (9, 1.7))):
        torch.manual_seed(0)
        net, x = Supernet(described(m, shape), stages(shape)), inputs(shape, batch)
        chain = nn.Sequential(*stages(shape))

        def together(net=net, x=x) -> None:
            sum(z.sum() for z in net.represent(x, net.task_names).values()).backward()

        def apart(net=net, x=x) -> None:
            total = 0.0
            for name in net.task_names:
                beta = torch.softmax(net.beta[name], 0)
                for p in net.candidates:
                    z = x
                    for stage in [*net.shared[: p - 1], *net.private[name][p - 1 :]]:
                        z = stage(z)
                    total = total + (beta[p - 1] * z).sum()
            total.backward()

        def one_chain(chain=chain, x=x) -> None:
            for _ in range(10):
                chain(x).sum().backward()

        net.exits = {name: [] for name in net.task_names}
        print(f"m = {m}, samples {shape}, batches of {batch}")
        taken = interleaved(REPEATS, together=together, apart=apart, one_chain=one_chain)
        count = (5 + 15 * m) * taken["one_chain"] / 10 / MODULES
        verdict(f"supernet over {5 + 15 * m} module passes, m = {m}", taken["together"] / count, 1.10)
        verdict(f"branches apart over the supernet, m = {m}", taken["apart"] / taken["together"], faster, at_least=True)


class Measured(Strategy):
    """The least that a gradient strategy costs: all gradients and their Gram matrix, then equal weights."""

    needs, kind = "gram", "gradient"

    def weights(self, losses: Tensor, gram: Tensor | None = None, present: Tensor | None = None) -> TaskWeights:
        return TaskWeights(torch.ones_like(losses), torch.ones_like(losses))


def stepping(net: Supernet, strategy: Strategy | str, x: Tensor) -> Callable[[], None]:
    engine = Engine(net, strategy)
    targets = torch.arange(len(x)) % 10

    def step() -> None:
        net.zero_grad()
        engine.backward({name: nn.functional.cross_entropy(z, targets) for name, z in net(x).items()})

    return step


def notice() -> None:
    """A step with conflict noticing against the engine's exact gradient step."""
    for m in (3, 9):
        torch.manual_seed(0)
        net, x = Supernet(described(m), stages()), inputs().detach()
        print(f"m = {m}")
        taken = interleaved(REPEATS, notice=stepping(net, "notice", x), exact=stepping(net, Measured(), x),
                            ew=stepping(net, "ew", x))
        print(f"    noticing over equal weighting: {taken['notice'] / taken['ew']:.2f}")
        verdict(f"conflict noticing over an exact step, m = {m}", taken["notice"] / taken["exact"], 1.15)


def held(net: Supernet, x: Tensor) -> tuple[float, float]:
    """MiB of weights, with gradients and Adam's two moments, and of what one forward pass keeps for the backward."""
    kept: dict[int, int] = {}
    weights = {p.data_ptr() for p in net.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        predictions = net(x)  # alive, so that no memory is used twice while it is counted
    del predictions
    return 4 * sum(p.nbytes for p in net.parameters()) / MEBI, sum(kept.values()) / MEBI


def memory() -> None:
    """CoNAL-Pro with nine tasks against CoNAL: at the printed branch points, and if nobody leaves early."""
    x = inputs().detach()
    whole = held(Supernet(described(9), stages()), x)
    print(f"    conal                  weights {whole[0]:6.2f} MiB, activations {whole[1]:7.1f} MiB")
    for title, points in (("printed points", PRINTED), ("nobody leaves", [1] * 9)):
        net, most = ProgressiveSupernet(described(9), stages()), (0.0, 0.0)
        for stage in range(1, MODULES + 1):
            if stage > 1:
                inside = described(9)
                inside.tasks = tuple(t for t, p in zip(inside.tasks, points, strict=True) if p <= MODULES + 2 - stage)
                net.advance(inside)
            now = held(net, x)
            most = max(most, now, key=sum)
            print(f"    {title}, stage {stage}: {len(net.task_names)} of 9 tasks, {net.modules_held():2} modules, "
                  f"weights {now[0]:6.2f} MiB, activations {now[1]:7.1f} MiB")
        verdict(f"memory of conal-pro at its largest over conal, {title}", sum(most) / sum(whole), 1.0)


def rooms() -> None:
    """A fast search and retraining on rooms: P = 4, 8-16-32 channels, 24 x 32 pixels, 400 scenes."""
    problem = data.load("rooms", train=400, val=100, test=100)
    problem.encoder = {**problem.encoder, "channels": [8, 16, 32]}
    for name in ("dsmtl-al", "conal", "conal-pro"):
        start = time.perf_counter()
        run = methods.run(name, problem, progress=False)
        verdict(f"seconds of {name}, which found {run.learned['points']}", time.perf_counter() - start, 90)


if __name__ == "__main__":
    measure({"supernet": supernet, "notice": notice, "memory": memory, "rooms": rooms})
