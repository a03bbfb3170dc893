"""How fast the core is, as ratios to what it is held to.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/core.py [batching fit own stl imports]`. What is compared runs
in turns, so that a busy machine slows all of it alike, and medians are printed.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mtlcourse import data, models
from mtlcourse.files import seed_everything
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.training import Loop, fit

SAMPLES, EPOCHS, BATCH = 6_000, 1, 128  # short turns, so that all meet the same moments of a busy machine


def seconds(function: Callable[[], float | None]) -> float:
    """How long a call takes, or what it says itself about that."""
    start = time.perf_counter()
    told = function()
    return time.perf_counter() - start if told is None else told


def interleaved(repeats: int, **functions: Callable[[], float | None]) -> dict[str, float]:
    """Median seconds of each, called in turns; a first turn warms up and does not count."""
    times = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            taken = seconds(function)
            if turn:
                times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"    {name:28} {median:8.4f} s   (fastest {min(times[name]):.4f})")
    return medians


def verdict(what: str, value: float, target: float, at_least: bool = False) -> None:
    good = value >= target if at_least else value <= target
    print(f"{what}: {value:.2f} ({'at least' if at_least else 'at most'} {target}: {'ok' if good else 'MISSED'})\n")


def measure(known: dict[str, Callable[[], None]]) -> None:
    """Run the measurements that the command line names, or all, on one thread."""
    torch.set_num_threads(1)
    for name in sys.argv[1:] or known:
        print(f"{name}: {known[name].__doc__.strip()}")
        known[name]()


def single(problem: Problem, name: str) -> Problem:
    """The problem with one of its tasks."""
    splits = {split: TensorSplit(getattr(problem, split).inputs, {name: getattr(problem, split).targets[name]})
              for split in ("train", "val", "test")}
    return replace(problem, tasks=[task for task in problem.tasks if task.name == name], **splits)


# --- what is measured ---------------------------------------------------------------------------------------

def batching() -> None:
    """One shuffled epoch, 36 x 36 pixels, batches of 256, against a `DataLoader` over the same tensors."""
    split = data.load("multidigits").train
    loader = DataLoader(TensorDataset(split.inputs, *split.targets.values()), batch_size=256, shuffle=True)

    def go_through(batches: Iterable) -> None:
        for _ in batches:
            pass

    taken = interleaved(7, ours=lambda: go_through(split.batches(256, shuffle=True)),
                        dataloader=lambda: go_through(loader))
    verdict("samples per second, in memory over DataLoader", taken["dataloader"] / taken["ours"], 4, at_least=True)


def bare_loop(problem: Problem, fused: bool) -> float:
    """Hard sharing trained by as little code as can be; the seconds of the loop."""
    seed_everything(0)
    model = models.HPS(problem)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
    x, left, right = problem.train.inputs, problem.train.targets["left"], problem.train.targets["right"]
    start = time.perf_counter()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            z = model.shared(x[rows])
            loss = (F.cross_entropy(model.heads["left"](z), left[rows])
                    + F.cross_entropy(model.heads["right"](z), right[rows]))
            loss.backward()
            optimizer.step()
    return time.perf_counter() - start


def training(problem: Problem, model: type) -> float:
    """The seconds that `fit` spends on steps, without validation."""
    seed_everything(0)
    run = fit(problem, model(problem), epochs=EPOCHS, batch_size=BATCH, device="cpu", progress=False)
    return run.cost["seconds"]


def digits() -> Problem:
    """As many canvases as the fast budget takes, and little to validate on."""
    return data.load("multidigits", train=SAMPLES, val=100, test=100)


def fitting() -> None:
    """`fit` against a loop by hand, with the optimiser that `fit` uses and with the one most people write."""
    problem = digits()
    taken = interleaved(15, fit=lambda: training(problem, models.HPS),
                        by_hand_fused_adam=lambda: bare_loop(problem, True),
                        by_hand_adam=lambda: bare_loop(problem, False))
    verdict("fit over a bare loop with plain Adam", taken["fit"] / taken["by_hand_adam"], 1.1)
    verdict("fit over a bare loop with fused Adam", taken["fit"] / taken["by_hand_fused_adam"], 1.1)


def own_loop() -> None:
    """The object for one's own loop against the lines that it stands for: batch after batch, each way in turn."""
    problem = digits()
    x, left, right = problem.train.inputs, problem.train.targets["left"], problem.train.targets["right"]
    ways: dict[str, tuple[models.HPS, list[float]]] = {}
    for name in ("bare", "loop", "clipped", "loop_clipped", "loop_pcgrad"):
        seed_everything(0)
        ways[name] = models.HPS(problem), []
    steps = {name: taking(name, model) for name, (model, _) in ways.items()}
    for number, rows in enumerate(torch.arange(len(x)).split(BATCH) * 4):
        for name, (model, times) in ways.items():
            start = time.perf_counter()
            z = model.shared(x[rows])
            steps[name]({"left": F.cross_entropy(model.heads["left"](z), left[rows]),
                         "right": F.cross_entropy(model.heads["right"](z), right[rows])})
            if number >= 10:
                times.append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, (_, times) in ways.items()}
    print("    " + ", ".join(f"{name} {1e3 * median[name]:.3f} ms (fastest {1e3 * min(times):.3f})"
                             for name, (_, times) in ways.items()))
    verdict("the loop object over a bare loop, equal weights", median["loop"] / median["bare"], 1.02)
    verdict("the same, both with clipping", median["loop_clipped"] / median["clipped"], 1.02)


def taking(name: str, model: models.HPS) -> Callable[[dict[str, torch.Tensor]], None]:
    """What is done with the losses of a batch."""
    if name.startswith("loop"):
        network = nn.ModuleDict({"trunk": model.shared, "heads": model.heads})
        loop = Loop(network, "pcgrad" if "pcgrad" in name else "ew", tasks=["left", "right"], shared="trunk",
                    clip=1.0 if "clipped" in name else None)
        return lambda losses: loop.step(losses) and None
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step(losses: dict[str, torch.Tensor]) -> None:
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if name == "clipped":
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def single_task() -> None:
    """Single-task learning of two tasks against two trainings."""
    problem = digits()
    left, right = single(problem, "left"), single(problem, "right")
    taken = interleaved(15, together=lambda: training(problem, models.STL),
                        apart=lambda: training(left, models.STL) + training(right, models.STL))
    verdict("STL of two tasks over two trainings", taken["together"] / taken["apart"], 1.0)


def imports() -> None:
    """Starting up, each in a process of its own."""
    def python(*arguments: str) -> Callable[[], None]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL) and None

    taken = interleaved(7, torch=python("-c", "import torch"), training=python("-c", "import mtlcourse.training"),
                        help=python("-m", "mtlcourse", "--help"), python=python("-c", ""))
    verdict("seconds of import mtlcourse.training over import torch", taken["training"] - taken["torch"], 1.0)
    verdict("seconds of python -m mtlcourse --help", taken["help"], 0.4)


if __name__ == "__main__":
    measure({"batching": batching, "fit": fitting, "own": own_loop, "stl": single_task, "imports": imports})
