"""How much faster a step is in two processes than in one, and what they send.

Run by hand, on two idle cores: `OMP_NUM_THREADS=1 python tests/benchmarks/distributed.py`. It starts two processes;
what is compared runs in turns, and medians are printed.
"""

import os
import statistics
import subprocess
import sys
import time

import torch

from mtlcourse import data, models
from mtlcourse.files import seed_everything
from mtlcourse.training import make_step
from mtlcourse.training.distributed import ALONE, processes

SAMPLES, BATCH, TURNS = 256, 64, 9
ENCODER = {"name": "conv", "channels": [64, 128, 128], "strides": [1, 2, 2]}
TARGETS = {("ew", "parameters"): 1.5, ("pcgrad", "parameters"): 1.5, ("mgda", "features"): 1.3}


def seconds(step, batches: list, total) -> float:
    """The time of a step, when both processes are ready."""
    total.same([torch.zeros(1)])
    began = time.perf_counter()
    for batch in batches:
        step(batch)
    return (time.perf_counter() - began) / len(batches)


def main() -> None:
    torch.set_num_threads(1)
    with processes("cpu") as (total, _):
        problem = data.load("rooms", train=SAMPLES)
        for (name, at), target in TARGETS.items():
            steps, batches = {}, {}
            for known in (ALONE, total):
                seed_everything(0)
                model = models.HPS(problem, ENCODER)
                steps[known.size] = make_step(problem.tasks, model, name, at=at, total=known)
                batches[known.size] = list(problem.train.batches(BATCH, share=(known.rank, known.size)))
            times: dict[int, list[float]] = {1: [], 2: []}
            for turn in range(TURNS + 1):
                total.same([torch.zeros(1)])
                if total.rank == 0:  # the other core has nothing to do meanwhile
                    alone = seconds(steps[1], batches[1], ALONE)
                before = total.bytes
                both = seconds(steps[2], batches[2], total)
                if turn and total.rank == 0:
                    times[1].append(alone)
                    times[2].append(both)
            if total.rank == 0:
                one, two = (statistics.median(times[size]) for size in (1, 2))
                sent = (total.bytes - before) / len(batches[2]) / 2**20
                ratio = one / two
                print(f"{name} at {at}: {1e3 * one:.1f} ms in one process, {1e3 * two:.1f} ms in two, {ratio:.2f} "
                      f"times as fast (at least {target}: {ratio >= target}), {sent:.2f} MiB a step",
                      flush=True)


if __name__ == "__main__":
    if "WORLD_SIZE" in os.environ:
        main()
    else:
        subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__],
                       check=True)
