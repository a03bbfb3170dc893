"""How fast gradient strategies are: against a bare loop, against TorchJD, and what their solvers and memory take.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/strategies.py [kept] [steps shares solvers memory] [3 8 20 40]`.
What is compared runs in turns, and medians are printed, as ratios to one step of equal weighting.

The C library of Linux gives memory that was freed back to the system, and takes it anew in the next step: thousands of
page faults, a fifth of a step's time and more, and how many depends on what else lies in the heap. So one and the same
loop may differ by a fifth from process to process. With the word `kept`, freed memory stays with the process, and what
is left is the work; what passes through the graph for all tasks at once (TorchJD's default) gains most by it.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib  # noqa: E402
import ctypes  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from core import interleaved, verdict  # noqa: E402
from scipy.optimize import minimize  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from torchjd import aggregation  # noqa: E402
from torchjd.autojac import jac_to_grad, mtl_backward  # noqa: E402

from mtlcourse import data, models, strategies  # noqa: E402
from mtlcourse.strategies import Engine  # noqa: E402
from mtlcourse.tasks import Problem  # noqa: E402

SHAPE, BATCH, REPEATS = (3, 32, 32), 64, 7
TRUNK = {"name": "conv", "channels": [16, 32, 32, 32], "strides": [2, 1, 2, 2], "features": 64}  # four convolutions


def many_tasks(m: int, trunk: dict = TRUNK, batch: int = BATCH) -> tuple[models.HPS, Callable[[], dict[str, Tensor]]]:
    """A model with m linear heads on one trunk, and its forward pass to the task losses."""
    torch.manual_seed(0)
    tasks = [data.classification(f"task_{t}", 10) for t in range(m)]
    model = models.HPS(Problem("many", tasks, None, None, None, SHAPE, trunk))
    x, y = torch.randn(batch, *SHAPE), torch.randint(10, (m, batch))

    def losses() -> dict[str, Tensor]:
        return {name: cross_entropy(z, y[t]) for t, (name, z) in enumerate(model(x).items())}

    return model, losses


def with_engine(model: models.HPS, losses: Callable, name: str, at: str = "parameters") -> Callable[[], None]:
    engine = Engine(model, name, at)

    def step() -> None:
        model.zero_grad()
        engine.backward(losses())

    return step


def bare_loop(model: models.HPS, losses: Callable) -> Callable[[], None]:
    """What exact methods cannot do without: each task's gradient, nothing made of it."""
    shared = model.shared_parameters()

    def step() -> None:
        for name, loss in losses().items():
            torch.autograd.grad(loss, [*shared, *model.task_parameters(name)], retain_graph=True)

    return step


def bare_method(model: models.HPS, losses: Callable, name: str) -> Callable[[], None]:
    """The bare loop, and what a strategy makes of it in the shortest way: one Gram matrix, its solver, `.grad`."""
    shared, strategy = model.shared_parameters(), strategies.make(name).bind(list(model.heads))
    own, m = [model.task_parameters(task) for task in model.heads], len(model.heads)

    def step() -> None:
        model.zero_grad()
        rows, scalars = [], list(losses().values())
        for t, loss in enumerate(scalars):
            found = torch.autograd.grad(loss, [*shared, *own[t]], retain_graph=t < m - 1)
            rows.append(torch.cat([gradient.flatten() for gradient in found[: len(shared)]]))
            for parameter, gradient in zip(own[t], found[len(shared) :], strict=True):
                parameter.grad = gradient
        G = torch.stack(rows)
        weights = strategy.weights(torch.stack([loss.detach().double() for loss in scalars]), (G @ G.T).double())
        combined = (weights.shared.to(G.dtype) @ G).split([parameter.numel() for parameter in shared])
        for parameter, gradient in zip(shared, combined, strict=True):
            parameter.grad = gradient.view_as(parameter)

    return step


def with_torchjd(model: models.HPS, losses: Callable, chunk: int | None) -> Callable[[], None]:
    aggregator, shared = aggregation.PCGrad(), model.shared_parameters()
    own = [model.task_parameters(name) for name in model.heads]

    def step() -> None:
        model.zero_grad()
        scalars = losses()
        features = next(iter(model.exits.values()))[0]._base  # one tensor for all tasks
        mtl_backward(list(scalars.values()), features, tasks_params=own, shared_params=shared,
                     parallel_chunk_size=chunk)
        jac_to_grad(shared, aggregator)

    return step


def steps(m: int) -> None:
    """One forward pass and one update's gradients, in every way."""
    print(f"m = {m}: one step")
    model, losses = many_tasks(m)
    times = interleaved(REPEATS, ew=with_engine(model, losses, "ew"), bare_loop=bare_loop(model, losses),
                        bare_pcgrad=bare_method(model, losses, "pcgrad"), pcgrad=with_engine(model, losses, "pcgrad"),
                        bare_mgda=bare_method(model, losses, "mgda"), mgda=with_engine(model, losses, "mgda"),
                        mamg=with_engine(model, losses, "mamg"), uw=with_engine(model, losses, "uw"),
                        mgda_at_features=with_engine(model, losses, "mgda", "features"),
                        torchjd_default=with_torchjd(model, losses, None),
                        torchjd_one_by_one=with_torchjd(model, losses, 1))
    print("    multiples of ew: " + ", ".join(f"{name} {value / times['ew']:.2f}" for name, value in times.items())
          + f"; cost model {(1 + 2 * m) / 3:.2f}\n")
    exact = max(times[name] for name in ("pcgrad", "mgda", "mamg"))
    verdict("slowest exact method over the bare loop", exact / times["bare_loop"], 1.10)
    for name in ("pcgrad", "mgda"):
        verdict(f"{name} over the bare loop with its solver", times[name] / times[f"bare_{name}"], 1.05)
    best = min(times["torchjd_default"], times["torchjd_one_by_one"])
    verdict("PCGrad over TorchJD's best setting", times["pcgrad"] / best, 1.05)
    verdict("PCGrad over TorchJD's default", times["pcgrad"] / times["torchjd_default"], 0.6)
    if m == 8:
        verdict("at='features' over equal weighting", times["mgda_at_features"] / times["ew"], 1.3)
    shares(m)


def shares(m: int) -> None:
    """What every strategy's own arithmetic takes of a step."""
    model, losses = many_tasks(m)
    for name in strategies.names():
        verdict(f"m = {m}: solver's share of a step, {name}", solver_share(model, losses, name), 0.05)


def solver_share(model: models.HPS, losses: Callable, name: str) -> float:
    """Part of the time of a step that goes into `strategy.weights` and `direction`, median of the repeats."""
    engine, found = Engine(model, name), []
    taken = [0.0]

    def timed(function: Callable) -> Callable:
        def call(*arguments):
            start = time.perf_counter()
            answer = function(*arguments)
            taken[0] += time.perf_counter() - start
            return answer

        return call

    engine.strategy.weights = timed(engine.strategy.weights)
    engine.strategy.direction = timed(engine.strategy.direction)
    for _ in range(REPEATS):
        taken[0] = 0.0
        start = time.perf_counter()
        engine.backward(losses())
        found.append(taken[0] / (time.perf_counter() - start))
    return float(np.median(found))


def memory(m: int) -> None:
    """Peak memory of a step over that of equal weighting, in units of the shared parameters.

    With wide layers and a small batch, so that gradients are what counts: passing through the graph m times also
    keeps its activations to the end, which a bare loop does too.
    """
    model, losses = many_tasks(m, {**TRUNK, "channels": [64, 128, 128, 128], "features": 128}, batch=4)
    shared = sum(p.numel() * p.element_size() for p in model.shared_parameters())
    peaks = {name: peak(with_engine(model, losses, name)) for name in ("ew", "uw", "gls", "pcgrad", "mgda", "graddrop")}
    peaks["bare_loop"] = peak(bare_loop(model, losses))
    print(f"m = {m}: peak memory {', '.join(f'{name} {value / 2**20:.2f} MiB' for name, value in peaks.items())}; "
          f"shared parameters {shared / 2**20:.2f} MiB")
    verdict("exact method, extra over shared parameters", (peaks["pcgrad"] - peaks["ew"]) / shared, m + 1.2)
    verdict("loss method over equal weighting", max(peaks["uw"], peaks["gls"]) / peaks["ew"], 1.01)


def peak(step: Callable[[], None]) -> int:
    """Bytes that a step has allocated at most at one time, by the profiler's account."""
    step()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    changes = sorted((event.start_ns(), event.nbytes()) for event in profile.profiler.kineto_results.events()
                     if event.name() == "[memory]")
    return int(np.cumsum([size for _, size in changes]).max())


def solvers(m: int) -> None:
    """Time of one call from Gram matrix to weights."""
    rows = torch.randn(m, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(m)) + 0.05
    K, losses = rows @ rows.T, torch.ones(m, dtype=torch.float64)
    ours = {}
    for name in strategies.names():
        strategy = strategies.make(name).bind([f"t{t}" for t in range(m)])
        gram = {"gram": K, "module_grams": K[None]}.get(strategy.needs)
        ours[name] = lambda strategy=strategy, gram=gram: strategy.weights(losses, gram)
    single = K.float()
    theirs = {"pcgrad": aggregation.PCGradWeighting(), "mgda": aggregation.MGDAWeighting(),
              "cagrad": aggregation.CAGradWeighting(c=0.4), "imtl-g": aggregation.IMTLGWeighting(),
              "aligned": aggregation.AlignedMTLWeighting(), "fairgrad": aggregation.FairGradWeighting(alpha=2.0),
              "gradvac": aggregation.GradVacWeighting(), "pcd": aggregation.PCDWeighting(),
              "krum": aggregation.KrumWeighting(0)}
    others = {f"torchjd_{name}": lambda weighting=weighting: weighting(single) for name, weighting in theirs.items()}
    for name, function in (("mgda", lambda w, K: w @ K @ w), ("cagrad", lambda w, K: w @ K.mean(0) + 0.4 * np.sqrt(
            K.mean() * (w @ K @ w)))):
        others[f"scipy_{name}"] = lambda function=function: slsqp(function, (K / K.trace()).numpy())
    print(f"m = {m}: from Gram matrix to weights")
    interleaved(REPEATS, **{name: silent(function) for name, function in (ours | others).items()})


def silent(function: Callable) -> Callable[[], None]:
    """The same without its answer, which would be taken for a time."""
    def call() -> None:
        function()

    return call


def slsqp(function: Callable, K: np.ndarray) -> None:
    k = len(K)
    minimize(function, np.full(k, 1 / k), (K,), method="SLSQP", bounds=[(0, 1)] * k,
             constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-12, "maxiter": 500})


def keep_freed_memory() -> None:
    """Have the C library keep memory that was freed; other systems' have no such call."""
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        for option, most in ((-1, 2**31 - 1), (-3, 2**25)):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
            library.mallopt(option, most)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "kept" in sys.argv:
        keep_freed_memory()
    known = {"steps": (steps, (3, 8, 20, 40)), "shares": (shares, (20,)), "solvers": (solvers, (3, 10, 40)),
             "memory": (memory, (3, 8, 20))}
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    for name in [word for word in sys.argv[1:] if word in known] or known:
        measure, sizes = known[name]
        for m in numbers or sizes:
            measure(m)
