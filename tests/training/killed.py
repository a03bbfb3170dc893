"""Kills one of two processes ten times, each time at another moment; `test_distributed` starts it by itself.

The processes are forked from this one, which has torch already: each starts in no time.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from mtlcourse import models
from mtlcourse.files import seed_everything
from mtlcourse.training import fit
from mtlcourse.training.distributed import Processes, ProcessLost
from tests.problems import small

TIMES = 10


class Slow(models.HPS):
    def after_step(self, step: int) -> None:
        time.sleep(0.005)  # so that there are moments to be killed at, and not only starts and ends


def process(rank: int, folder: Path, start: int, pipe) -> None:
    """One of two processes: tells what it came to, or how it ended."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet-{start}", rank=rank, world_size=2)
    pipe.send("begun")
    try:
        problem = small(("kind", "size", "big"), train=41, void=0.5)
        seed_everything(0)
        run = fit(problem, Slow(problem), "pcgrad", epochs=30, batch_size=8, progress=False, total=Processes(),
                  checkpoint=folder / "state", save_every=3)
        pipe.send([value for named in run.metrics.values() for value in named.values()])
    except ProcessLost as error:
        pipe.send(str(error))
    os._exit(0)


def pair(folder: Path, start: int) -> list:
    """Two processes with a pipe to each."""
    fork = multiprocessing.get_context("fork")
    started = []
    for rank in range(2):
        here, there = fork.Pipe()
        one = fork.Process(target=process, args=(rank, folder, start, there))
        one.start()
        there.close()
        started.append((one, here))
    return started


def told(pipe, seconds: float = 60):
    assert pipe.poll(seconds), f"no word within {seconds} seconds"
    return pipe.recv()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    chance = random.Random(0)
    (folder / "whole").mkdir()
    (folder / "killed").mkdir()
    uninterrupted = pair(folder / "whole", 0)
    assert [told(pipe) for _, pipe in uninterrupted] == ["begun", "begun"]
    whole = [told(pipe) for _, pipe in uninterrupted]
    assert whole[0] == whole[1]
    killed = 0
    for start in range(100):
        both = pair(folder / "killed", start)
        assert [told(pipe) for _, pipe in both] == ["begun", "begun"]
        if killed == TIMES:
            break
        victim, other = both if chance.random() < 0.5 else both[::-1]
        time.sleep(chance.uniform(0.0, 0.08))
        os.kill(victim[0].pid, signal.SIGKILL)
        began, last = time.perf_counter(), told(other[1])
        if not isinstance(last, list):  # and not done already
            assert "has lost another one" in last and "goes on from its checkpoint" in last, last
            killed += 1
            print(f"killed, and the other said so after {time.perf_counter() - began:.2f} s", flush=True)
        for one, _ in both:
            one.join()
    assert [told(pipe) for _, pipe in both] == whole, "resumed, the result is another"
    print(f"passed: {killed} times")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
