"""How fast DSMTL, the safety report and sweeps are, as ratios to what they are held to.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/dsmtl.py [joint stage report sweep]`. What is compared
runs in turns, and medians are printed.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from core import interleaved, measure, verdict

from mtlcourse import bench, data, models, runs
from mtlcourse.figures import page
from mtlcourse.files import seed_everything
from mtlcourse.tasks import Batch, Problem, mean_losses
from mtlcourse.training.updates import make_step

STEPS = 10  # in one measurement
SETTINGS = {"rooms": ({"train": 64, "val": 8, "test": 8}, 16),
            "multidigits": ({"train": 512, "val": 8, "test": 8}, 128)}


def prepared(name: str) -> tuple[Problem, Batch]:
    sizes, batch_size = SETTINGS[name]
    problem = data.load(name, **sizes)
    return problem, next(problem.train.batches(batch_size))


def stepping(problem: Problem, batch: Batch, model: torch.nn.Module) -> Callable[[], None]:
    step = make_step(problem.tasks, model.train(), precision="float32")
    return lambda: [step(batch) for _ in range(STEPS)] and None


def built(kind: type, problem: Problem) -> torch.nn.Module:
    seed_everything(0)
    return kind(problem)


def joint() -> None:
    """A step of DSMTL-JL against hard sharing plus single-task learning, whose heads count once."""
    for name in SETTINGS:
        problem, batch = prepared(name)
        shared = built(models.HPS, problem)
        z = shared.shared(batch.inputs).detach()

        def heads(model=shared, z=z, problem=problem, batch=batch) -> None:
            for _ in range(STEPS):
                inputs = z.clone().requires_grad_()
                losses = mean_losses(problem.tasks, {t: head(inputs) for t, head in model.heads.items()}, batch)
                sum(losses.values()).backward()

        print(name)
        taken = interleaved(15, jl=stepping(problem, batch, built(models.DSMTL, problem)), heads=heads,
                            hps=stepping(problem, batch, built(models.HPS, problem)),
                            stl=stepping(problem, batch, built(models.STL, problem)))
        verdict("DSMTL-JL over HPS + STL - heads", taken["jl"] / (taken["hps"] + taken["stl"] - taken["heads"]), 1.15)


def stage() -> None:
    """A step of the second stage of DSMTL-IL against a forward pass of everything and a backward pass that
    stops at the public encoder's parameters."""
    for name in SETTINGS:
        problem, batch = prepared(name)
        model = built(models.DSMTL, problem)
        model.build_on(built(models.STL, problem))
        public = list(model.shared.parameters())

        def least(model=model, public=public, problem=problem, batch=batch) -> None:
            for _ in range(STEPS):
                total = sum(mean_losses(problem.tasks, model(batch.inputs), batch).values())
                torch.autograd.grad(total, public)

        print(name)
        taken = interleaved(15, stage=stepping(problem, batch, model), least=least)
        verdict("stage 2 over the least it must do", taken["stage"] / taken["least"], 1.1)


def report() -> None:
    """A report over 1,000 stored runs, read from the disk."""
    with tempfile.TemporaryDirectory() as folder:
        config = {"problem": "p", "budget": "fast", "lr": None, "version": runs.MINOR}
        values = torch.rand(1_000, 3, 5, dtype=torch.float64).tolist()
        tasks = [f"task_{t}" for t in range(3)]
        metrics = [f"metric_{j}" for j in range(4)]
        for number, scores in enumerate(values):
            named = {task: dict(zip([*metrics, "loss"], row, strict=True))
                     for task, row in zip(tasks, scores, strict=True)}
            method = "stl" if number < 50 else f"method_{number // 50}"
            content = {"config": {**config, "method": method, "seed": number % 50}, "metrics": named,
                       "validation": named, "directions": {task: dict.fromkeys(metrics, True) for task in tasks},
                       "train_losses": dict.fromkeys(tasks, 1.0), "cost": {"parameters": 1, "seconds": 1.0},
                       "test_data": "abc"}
            (Path(folder) / f"{number:04}").mkdir()
            (Path(folder) / f"{number:04}" / "run.json").write_text(json.dumps(content, indent=1))
        page.from_folder(folder)[0].to_markdown()
        start = time.perf_counter()
        page.from_folder(folder)[0].to_markdown()
        verdict("seconds for a report over 1,000 runs", time.perf_counter() - start, 2)


def sweep() -> None:
    """24 fast runs with two workers against one."""
    times = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            bench.sweep(["multidigits"], ["stl", "hps", "dsmtl-jl"], range(8), folder=folder, workers=workers)
            times[workers] = time.perf_counter() - start
            print(f"    {workers} worker(s) {times[workers]:8.1f} s")
    verdict("24 fast runs, two workers over one", times[2] / times[1], 0.6)


if __name__ == "__main__":
    measure({"joint": joint, "stage": stage, "report": report, "sweep": sweep})
