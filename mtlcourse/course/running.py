"""Run the notebooks headlessly: each in a process of its own, some at once, finished ones not again.

Every notebook leaves three files in the output folder: the executed notebook, a record (JSON) of its
verdict, and a log of what processes said beside the notebook's own outputs. The record
carries a key of everything that the result depends on; a notebook whose record says "ok" under the same
key is kept as it is. What people read is the book (`book.build`), made of these. Imports its neighbours `lessons`,
`outputs` and `parameters`.
"""

import contextlib
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__
from . import lessons, outputs, parameters

PACKAGE = Path(__file__).parent.parent
_GRACE = 15  # seconds that an interrupted notebook gets to end its kernel
KNOWN = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH",
         "VIRTUAL_ENV", "PYTHONPATH", "OMP_NUM_THREADS")
_LARGEST = 10**9  # bytes of a file that untrusted code may write


@dataclass(frozen=True)
class Job:
    """One notebook to run: where it is, its parameters, and the stem of the files it leaves.

    called: its name, if that is not its file's.  untrusted: somebody else's code: a cell that fails or is interrupted
    after its time does not end it, it sees no variables of the environment but those in `KNOWN`, and its home is the
    folder it runs in.
    """

    source: Path
    target: Path
    values: dict[str, Any] = field(default_factory=dict)
    called: str = ""
    untrusted: bool = False

    @property
    def name(self) -> str:
        return self.called or self.source.stem

    @property
    def executed(self) -> Path:
        return self.target.with_suffix(".ipynb")

    @property
    def record(self) -> Path:
        return self.target.with_suffix(".json")

    def key(self) -> str:
        """A hash of what the result depends on: cells, parameters, package, stored tables."""
        cells = [(cell["cell_type"], cell["source"]) for cell in lessons.load(self.source)["cells"]]
        digest = hashlib.sha256(json.dumps([__version__, cells, self.values], sort_keys=True).encode())
        for folder, pattern in ((PACKAGE, "**/*.py"), (self.source.parent / "results", "**/*.csv")):
            for path in sorted(folder.glob(pattern)):
                digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """How one notebook went.

    verdict: "ok", "failed" or, when outputs were compared, "differs".
    seconds: how long it took when it ran.  message: why it is not ok, in a few lines.
    key: what the result depends on (`Job.key`).  kept: it was not run now, for it was ok before.
    """

    name: str
    verdict: str
    seconds: float
    message: str = ""
    key: str = ""
    kept: bool = False


def plan(folder: Path, out: Path, only: Sequence[str] = (), assignments: Sequence[str] = ()) -> list[Job]:
    """The jobs to run, in reading order.

    folder: where the notebooks are.  out: where the files they leave go.
    only: numbers or names of notebooks; all when empty.
    assignments: `NN:name=value`, or `name=value` for every chosen notebook that has the parameter.
    Raises ValueError for a notebook or a parameter that there is not, and for a value of another type.
    """
    chosen = parameters.choose(lessons.find(folder), only)
    values = parameters.assign(chosen, assignments)
    return [Job(path.resolve(), out.resolve() / path.stem, values[path]) for path in chosen]


def run(jobs: Sequence[Job], *, at_once: int = 2, fresh: bool = False, timeout: int = 600, limit: int | None = None,
        watch: Callable[[list[str]], None] = lambda names: None) -> Generator[Outcome, None, None]:
    """Run `jobs` and yield an `Outcome` as each is done: first those that are kept, then as they end.

    at_once: notebooks that run at the same time.  fresh: run also what was ok before.
    timeout: seconds that one cell may take.  limit: seconds that one notebook may take in all.
    watch: called about once a second with the names of the notebooks that are running.
    When the caller stops early, running notebooks are ended together with their kernels.
    """
    todo: deque = deque()
    for job in jobs:
        before = None if fresh else kept(job)
        if before:
            yield before
        else:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            job.record.unlink(missing_ok=True)
            todo.append((job, job.key()))
    yield from _run_in_processes(todo, at_once, timeout, limit, watch)


def kept(job: Job) -> Outcome | None:
    """The outcome of `job` from before, if it was ok and nothing that it depends on has changed since."""
    before = _read_record(job)
    if before is None or before.verdict != "ok" or before.key != job.key() or not job.executed.exists():
        return None
    return replace(before, kept=True)


def _run_in_processes(todo: deque, at_once: int, timeout: int, limit: int | None,
                      watch: Callable) -> Generator[Outcome, None, None]:
    context = multiprocessing.get_context("spawn")  # papermill is not safe in threads, nor after a fork
    running: dict[int, tuple] = {}
    late: set[int] = set()
    try:
        while todo or running:
            while todo and len(running) < at_once:
                job, key = todo.popleft()
                process = context.Process(target=_execute, args=(job, key, timeout), name=job.name)
                with _deaf_to_interrupts():
                    process.start()
                running[process.sentinel] = process, job, key, time.monotonic()
                late.discard(process.sentinel)  # a number that one before it may have had
            watch([job.name for _, job, *_ in running.values()])
            for sentinel in multiprocessing.connection.wait(list(running), timeout=1):
                process, job, key, start = running.pop(sentinel)
                process.join()
                cause = _TOO_LONG.format(limit) if sentinel in late else _death(process.exitcode)
                if _read_record(job) is None:
                    _write_record(job, Outcome(job.name, "failed", time.monotonic() - start, cause, key))
                yield _read_record(job)
            for sentinel, (process, *_, start) in running.items():
                over = time.monotonic() - start - (limit or float("inf"))
                if over > 0 and sentinel not in late:
                    late.add(sentinel)
                    process.terminate()  # once: a second time would interrupt how it ends its kernel
                elif over > _GRACE:
                    process.kill()
    finally:
        for process, *_ in running.values():
            process.terminate()
        for process, *_ in running.values():
            process.join(_GRACE)
            process.kill()  # a no-op for one that has ended; kernels notice when their parent is gone
            process.join()


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started in here ignores ctrl-C, for the terminal sends it to every process: the parent decides."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_TOO_LONG = "It took longer than the {} s that a notebook may take."


def _death(exitcode: int) -> str:
    cause = f"was killed by signal {-exitcode}" if exitcode < 0 else f"ended with exit code {exitcode}"
    return f"The process that ran it {cause}; if that was signal 9, memory may have run out: try --jobs 1."


def _read_record(job: Job) -> Outcome | None:
    try:
        return Outcome(**json.loads(job.record.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # none, half of one, or one from another version
        return None


def _execute(job: Job, key: str, timeout: int) -> None:
    """Run one notebook and write its record. The body of the spawned process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exit, unlike a kill, ends the kernel too
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # several notebooks at once would fight for the cores
    os.environ.pop("MPLBACKEND", None)  # a backend that is set outside would keep figures out of the notebook
    with open(job.target.with_suffix(".log"), "w") as log:  # also for the kernel, which inherits both streams
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    if job.untrusted:
        _confine(job.source.parent)
    start = time.perf_counter()
    message = _fault(job, timeout)
    _write_record(job, Outcome(job.name, "failed" if message else "ok", time.perf_counter() - start, message, key))


def _write_record(job: Job, outcome: Outcome) -> None:
    draft = job.record.with_suffix(".part")
    draft.write_text(json.dumps(asdict(outcome), indent=1) + "\n", encoding="utf-8")
    draft.replace(job.record)


def _confine(home: Path) -> None:
    """Take from this process, and so from its kernel, what is not another's business."""
    for name in set(os.environ) - set(KNOWN):
        del os.environ[name]
    os.environ["HOME"] = str(home)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST, _LARGEST))


def _fault(job: Job, timeout: int) -> str:
    """Execute `job` with papermill and say what went wrong; empty when nothing did."""
    import papermill
    from traitlets.config import Config

    # Without this every kernel warns that its sockets on this machine are not encrypted.
    config = Config({"KernelManager": {"transport_encryption": "auto"}})
    on = {"allow_errors": True, "interrupt_on_timeout": True} if job.untrusted else {}
    for attempt in (1, 2):
        try:
            papermill.execute_notebook(
                job.source, job.executed, job.values, cwd=job.source.parent, kernel_name="python3",
                progress_bar=False, execution_timeout=timeout, config=config, **on,
            )
        except papermill.PapermillExecutionError as error:
            if job.untrusted:  # it ran to its end, with errors
                break
            code = "\n".join(f"    {line}" for line in error.source.strip().splitlines())
            return f"In [{error.exec_count}]:\n{code}\n{error.ename}: {error.evalue}"
        except Exception as error:  # whatever it is, it belongs into the verdict on this one notebook
            # Kernels that start together can pick the same port; then none of the cells has run yet.
            if attempt == 1 and isinstance(error, RuntimeError) and not _counts(job):
                continue
            return f"{type(error).__name__}: {error}"
        break
    counts = _counts(job)
    if not counts or None in counts:
        return f"Only {len(counts) - counts.count(None)} of {len(counts)} code cells were executed."
    return ""


def _counts(job: Job) -> list[int | None]:
    """The execution counts of the cells that should have run; no list at all if none has."""
    cells = lessons.code_cells(lessons.load(job.executed)) if job.executed.exists() else []
    counts = [cell["execution_count"] for cell in cells]
    return counts if any(counts) else []


def compare(job: Job, outcome: Outcome) -> Outcome:
    """`outcome`, with the verdict "differs" and the differing cells if `job` says something else than stored."""
    if outcome.verdict != "ok":
        return outcome
    clean = outputs.sanitiser(job.source.parent / outputs.SANITIZE)
    found = outputs.differences(lessons.load(job.source), lessons.load(job.executed), clean)
    if not found:
        return outcome
    message = "\n".join(f"[{cell.count}] {cell.line}\n{cell.change}" for cell in found)
    return replace(outcome, verdict="differs", message=message)


def last(folder: Path, out: Path) -> dict[str, Outcome]:
    """How each notebook of `folder` went when it last ran, by name, from the records in `out`; some may never have."""
    found = {path.stem: _read_record(Job(path, out / path.stem)) for path in lessons.find(folder)}
    return {name: outcome for name, outcome in found.items() if outcome is not None}
