"""Many runs: every problem x method x seed (x learning rate), here or on a cluster, nothing done twice.

Imports `data`, `files`, `methods`, `runs`, `tasks`, `training`. Runs go through one `concurrent.futures.Executor`: this
process, spawned processes, or a Dask client's.
"""

import concurrent.futures
import contextlib
import functools
import itertools
import multiprocessing
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from . import data, methods, runs
from .data import DomainProblem
from .files import alone, unknown
from .tasks import Problem
from .training import OtherTraining
from .training.distributed import ALONE, Total

ATTEMPTS = 3  # of one run, when the process that held it dies
FACTORS = (1 / 4, 1 / 2, 2, 4)  # by which one task's weight is changed where weights are tuned
_ALONE = threading.Lock()  # seeds are global, so a process with several threads, as a Dask worker's, takes turns


@dataclass
class Sweep:
    """What a sweep came to: `table` of all finished runs, `failures` as (configuration, reason)."""

    table: pd.DataFrame
    failures: list[tuple[dict[str, Any], str]]


def sweep(problems: Sequence[str], method_names: Sequence[str], seeds: Sequence[int], *, budget: str = "fast",
          folder: str | Path = "runs", workers: int = 1, learning_rates: Sequence[float] | None = None,
          scheduler: str | None = None, device: str = "auto", precision: str = "auto", progress: bool = True,
          tune: str | None = None, shard: tuple[int, int] = (1, 1)) -> Sweep:
    """Run every problem x method x seed x learning rate that is not yet in `folder`, and tabulate all.

    tune: "weights" tries each method with a part "fixed" that names no task ("hps+fixed") with the weights of
        `weightings`, each with all seeds; "hps+fixed" is added if there is none. Which weights count is for
        `runs.selected` to choose, on validation; the folder remembers what belongs together.
    workers: 1 runs in this process, more spawn so many.  scheduler: address of a Dask scheduler, whose
    workers must see the same `folder`.  learning_rates: a grid; None takes each problem's own.
    shard: `(K, N)` takes the K-th of N parts of the runs, K from 1 to N, for N jobs that know nothing of each other;
        the parts do not depend on what is done.
    On a CPU each run takes one thread, so that its result is the same with any number of workers.
    A run that fails does not stop the others. A process that dies (killed, out of memory) is replaced
    and its run tried again, up to three times. Interrupting keeps what is finished; the same call goes on.
    A method that cannot be built for a problem is a failure too; one line says so at once, and the others run.
    Raises ValueError before anything runs: for unknown names and options, for nothing to do, for a seed below 0, for a
    shard that is none, and when no method can be built.
    """
    number, shards = shard
    if not 1 <= number <= shards:
        raise ValueError(f"shard {number}/{shards} is none; give K/N with K from 1 to N.")
    for what, given in (("problems", problems), ("methods", method_names), ("seeds", seeds)):
        if not given:
            raise ValueError(f"There is nothing to run: the list of {what} is empty.")
    for seed in seeds:
        if seed < 0:
            raise ValueError(f"Seed {seed} is below 0; seeds are whole numbers from 0 upwards.")
    if tune not in (None, "weights"):
        raise ValueError(unknown("thing to tune", str(tune), ["weights"]))
    for remembered in (runs.settings, _problem):
        remembered.cache_clear()  # a notebook may have written its problem anew since the last sweep
    data.introduce(*problems)
    if tune and not any(map(_open, method_names)):
        method_names = [*method_names, "hps+fixed"]
    wanted = []
    for problem, method in itertools.product(problems, method_names):
        tuned = bool(tune) and _open(method)
        tried = [runs.configuration(problem, name, seed, budget, lr)
                 for name in (weightings(method, problem) if tuned else [method])
                 for lr, seed in itertools.product(learning_rates or [None], seeds)]
        if tuned:
            runs.belong_together(tried, methods.canonical(method), folder)
        wanted += tried
    wanted = wanted[number - 1 :: shards]
    if not wanted:
        raise ValueError(f"There is nothing to run in shard {number}/{shards}: there are fewer runs than shards.")
    return complete(wanted, folder=folder, workers=workers, scheduler=scheduler, device=device, precision=precision,
                    progress=progress)


def weightings(method: str, problem: str) -> list[str]:
    """`method`, whose part "fixed" names no task, with each of a small grid of weights for the problem's tasks.

    Equal weights, and for each task those in which its weight is 1/4, 1/2, 2 or 4 times that of all others; each with
    sum m, the number of tasks, so that no choice is one of step size. For m > 2 tasks these are 1 + 4 m, for two 5.

    >>> weightings("hps+fixed", "multidigits")[:2]
    ['hps+fixed(left=1.0, right=1.0)', 'hps+fixed(left=0.4, right=1.6)']
    """
    part = methods.parse_part(problem)
    tasks = data.describe(part.name, **part.options).task_names
    grid = [dict.fromkeys(tasks, 1.0)] + [{name: factor if name == other else 1.0 for name in tasks}
                                          for other in tasks for factor in FACTORS]
    names = []
    for weights in grid:
        total = sum(weights.values())
        options = {name: float(f"{len(tasks) * weight / total:.4g}") for name, weight in weights.items()}
        parts = [methods.Part("fixed", options) if part.name == "fixed" else part for part in methods.parse(method)]
        names.append("+".join(map(str, parts)))
    return list(dict.fromkeys(names))


def _open(method: str) -> bool:
    """Whether fixed weights are asked for without a word on which."""
    return any(part.name == "fixed" and not part.options for part in methods.parse(method))


def sized(method: str, wanted: Sequence[tuple[int | float, int | float | None]]) -> list[str]:
    """The method once for each pair (L, F) of wanted sizes, as names; without F it takes the one that goes with L.

    Raises ValueError for no pair, and for a name that says itself what is wanted.

    >>> sized("e2rnas(order=first)+ew", [(3000, None), (6000, 4e5)])
    ["e2rnas(L=3000, order='first')+ew", "e2rnas(F=400000.0, L=6000, order='first')+ew"]
    """
    first, *others = methods.parse(method)
    if not wanted or {"L", "F"} & set(first.options):
        raise ValueError("Give sizes once, as L=... and not in the method's name; the name is "
                         f"{method!r}, the sizes are {list(wanted)}.")
    named = [methods.Part(first.name, {**first.options, "L": L, **({} if F is None else {"F": F})}) for L, F in wanted]
    return ["+".join(str(part) for part in (one, *others)) for one in named]


def by_run(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, bool]]:
    """One row a run, one column a measure (but the loss), and for each measure whether more is better.

    table: as `runs.table` gives it. Of several tasks a column is "task measure".
    """
    rows = table[table["metric"] != "loss"]
    single = rows["task"].nunique() == 1
    rows = rows.assign(measure=rows["metric"] if single else rows["task"] + " " + rows["metric"])
    wide = rows.pivot_table(index=["method", "seed"], columns="measure", values="value", sort=False)
    ways = rows.groupby("measure", sort=False)["higher_is_better"].first().to_dict()
    return wide.rename_axis(columns=None).reset_index(), {name: bool(up) for name, up in ways.items()}


def complete(configs: Sequence[dict[str, Any]], *, folder: str | Path = "runs", workers: int = 1,
             scheduler: str | None = None, device: str = "auto", precision: str = "auto",
             progress: bool = True) -> Sweep:
    """Run those of `configs`, as `runs.configuration` gives them, that are not yet in `folder`; see `sweep`.

    Raises ValueError where none of them can be run, with the reasons.
    """
    from tqdm.auto import tqdm

    configs = list({runs.folder_of(config, folder): config for config in configs}.values())  # each once
    pairs = dict.fromkeys((config["problem"], config["method"]) for config in configs)
    reasons = {pair: reason for pair in pairs if (reason := _why_not(*pair))}
    if reasons and len(reasons) == len(pairs):
        raise ValueError("; ".join(dict.fromkeys(reasons.values())))
    cannot = [(config, reasons[config["problem"], config["method"]]) for config in configs
              if (config["problem"], config["method"]) in reasons]
    configs = [config for config in configs if (config["problem"], config["method"]) not in reasons]
    waiting = [config for config in configs if not runs.exists(config, folder)]
    work = functools.partial(one_run, folder=str(folder), device=device, precision=precision)
    executor = functools.partial(_executor, workers, scheduler)
    window = 2 * workers if scheduler is None else len(configs)  # a cluster knows itself how much it can take
    with tqdm(total=len(configs), initial=len(configs) - len(waiting), unit="run", disable=not progress) as bar:
        for (problem, method), reason in reasons.items():
            bar.write(f"{method} is left out for {problem}: {reason}", file=sys.stderr)
        failures = [*cannot, *_work_off(waiting, work, executor, window, bar)]
    failed = [config for config, _ in failures]
    return Sweep(runs.table(folder, [config for config in configs if config not in failed]), failures)


def _why_not(problem: str, method: str) -> str:
    """Why `method` cannot be built for `problem`, empty if it can; a mistyped option raises, before anything runs."""
    try:
        methods.count_parameters(method, problem)  # without data
        methods.bind_strategy(method, problem)
    except methods.UnknownOption:
        raise
    except ValueError as error:
        return str(error)
    return ""


def one_run(config: dict[str, Any], folder: str, device: str = "auto", precision: str = "auto",
            save_every: int | None = None, total: Total = ALONE) -> None:
    """Do and store one run; what a worker process is given. An unfinished one goes on from its checkpoint.

    Another process that does the same run in the same folder is waited for, and its run taken.
    total: processes that do it together; all call this, the first one writes.  save_every: see `training.fit`.
    """
    checkpoint = Path(folder) / ".unfinished" / runs.folder_of(config, folder).name / "state"
    with _ALONE, contextlib.ExitStack() as held:
        held.enter_context(_one_thread())
        if total.rank == 0:
            held.enter_context(alone(checkpoint.with_name("lock")))
        there = torch.tensor([int(runs.exists(config, folder))])
        total.same([there])  # after the first has the lock
        if there.item():
            if total.rank == 0:  # who waited for another has made this folder again, for the lock
                shutil.rmtree(checkpoint.parent, ignore_errors=True)
            return
        problem = _problem(config["problem"])
        train = functools.partial(methods.run, config["method"], problem, seed=config["seed"], budget=config["budget"],
                                  lr=config["lr"], checkpoint=checkpoint, device=device, precision=precision,
                                  progress=False, save_every=save_every, total=total)
        try:
            result = train()
        except OtherTraining as error:  # the same configuration, so an older version's
            total.same([there])  # all have seen it
            if total.rank == 0:
                print(f"{_set_aside(checkpoint)} is set aside, and the run begins anew: {error}", file=sys.stderr)
            total.same([there])  # and now it is gone
            result = train()
        if total.rank == 0:
            runs.save(result, problem, config, folder)
            shutil.rmtree(checkpoint.parent, ignore_errors=True)


def _set_aside(checkpoint: Path) -> Path:
    """Move the files of an unfinished run into a folder beside them, which is returned."""
    folder = checkpoint.parent.with_name(f"{checkpoint.parent.name}.other")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in checkpoint.parent.glob(f"{checkpoint.name}*"):
        file.rename(folder / file.name)
    return folder


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small nets are slower on several, and the last digits depend on how many there are
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@functools.lru_cache(maxsize=2)
def _problem(name: str) -> Problem | DomainProblem:
    return methods.load_problem(name)


# --- executors ----------------------------------------------------------------------------------------------

class _Here(Executor):
    """Runs at once, in this process: no start-up, and a debugger works."""

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # handed on: whoever asks the future for its result gets it
            future.set_exception(error)
        return future


@contextlib.contextmanager
def _executor(workers: int, scheduler: str | None) -> Iterator[Executor]:
    """Where runs are done; when left by an exception it drops what waits, and ends its processes."""
    if scheduler is not None:
        from dask.distributed import Client

        with Client(scheduler) as client:
            yield client.get_executor(pure=False)  # the same run again is done again
    elif workers == 1:
        yield _Here()
    else:
        strangers = multiprocessing.active_children()
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
        try:
            yield pool
            pool.shutdown()
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in strangers:
                    process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker() -> None:
    from tqdm import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the process that started them, which ends them
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which would be left behind then


Queue = list[tuple[dict[str, Any], int]]  # configurations and which attempt it is; the end comes first


def _work_off(waiting: list[dict[str, Any]], work: Callable, executor: Callable, window: int,
              bar: Any) -> list[tuple[dict[str, Any], str]]:
    """Work off all configurations, with a window of runs in flight; returns the failures."""
    failures: list[tuple[dict[str, Any], str]] = []
    queue: Queue = [(config, 1) for config in reversed(waiting)]
    while queue:
        with executor() as pool:
            for config, attempt, error in _in_flight(pool, queue, work, window):
                if isinstance(error, (BrokenProcessPool, CancelledError)) and attempt < ATTEMPTS:
                    queue.append((config, attempt + 1))
                    continue
                if error is not None:
                    failures.append((config, f"{type(error).__name__}: {error}"))
                bar.update()
                bar.set_postfix_str(f"{config['method']} seed {config['seed']}")
    return failures


def _in_flight(pool: Executor, queue: Queue, work: Callable,
               window: int) -> Iterator[tuple[dict[str, Any], int, BaseException | None]]:
    """Submit from `queue` and yield what is done; ends when the queue is empty or the pool is broken.

    A process that dies takes all runs in flight with it. They fly again one by one, so that the guilty one
    cannot use up the attempts of the others.
    """
    flying: dict[Future, tuple[dict[str, Any], int]] = {}
    broken = False
    while flying or (queue and not broken):
        while queue and not broken and len(flying) < (window if queue[-1][1] == 1 else 1):
            config, attempt = queue.pop()
            try:
                flying[pool.submit(work, config)] = (config, attempt)
            except BrokenProcessPool:
                queue.append((config, attempt))
                broken = True
        done, _ = concurrent.futures.wait(flying, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in [future for future in flying if future in done]:  # in the order they were submitted
            config, attempt = flying.pop(future)
            error = CancelledError() if future.cancelled() else future.exception()
            broken = broken or isinstance(error, BrokenProcessPool)
            yield config, attempt, error
