"""Kills a sweep twenty times, each time at another moment, and compares its end with that of one that lived.

`test_bench` starts it by itself: processes are forked from this one, which has torch already, and start in no time.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from mtlcourse import bench

TIMES = 20
PROBLEM, METHODS = "relatedness", ["hps+gradnorm", "dsmtl-il", "conal"]


def process(folder: Path) -> None:
    torch.set_num_threads(1)
    done = bench.sweep([PROBLEM], METHODS, [0, 1], budget="smoke(epochs=5)", folder=folder, device="cpu",
                       progress=False)
    assert not done.failures, done.failures
    table = done.table.sort_values(["method", "seed", "task", "metric"])
    (folder / "table.csv").write_text(table[["method", "seed", "task", "metric", "value", "validation", "train_loss",
                                             "steps", "samples"]].to_csv(index=False))
    os._exit(0)


def started(folder: Path) -> multiprocessing.Process:
    one = multiprocessing.get_context("fork").Process(target=process, args=(folder,))
    one.start()
    return one


def main(folder: Path) -> None:
    chance = random.Random(0)
    whole, killed = folder / "whole", folder / "killed"
    began = time.perf_counter()
    started(whole).join()
    lasts = time.perf_counter() - began
    times = 0
    while not (killed / "table.csv").exists():
        one = started(killed)
        if times < TIMES:
            one.join(chance.uniform(0.0, 2 * lasts / TIMES))
        else:
            one.join()
            assert one.exitcode == 0
        if one.is_alive():
            os.kill(one.pid, signal.SIGKILL)
            one.join()
            times += 1
    assert (killed / "table.csv").read_bytes() == (whole / "table.csv").read_bytes(), "resumed, the results are others"
    print(f"passed: killed {times} times in {len(METHODS)} x 2 runs of {lasts:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
