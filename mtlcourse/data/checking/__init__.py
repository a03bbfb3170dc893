"""The data doctor: what in a problem's data makes results mean something else than they seem to.

Imports `files`, `tasks`, its parent folder's `datasets`, `domains`. `reading` goes through each split once, `numbers`
and `seen` keep what passes by, and `inputs`, `labels`, `overlap`, `pairs`, `pixels`, `known` say what follows; `report`
holds it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...files import is_whole
from ...tasks import Problem
from ..datasets import DatasetSplit
from ..domains import DomainProblem
from . import inputs, known, labels, overlap, pairs, pixels
from .reading import Part
from .report import KINDS, SEVERITIES, Finding, Report
from .seen import Seen

__all__ = ["KINDS", "SEVERITIES", "Finding", "Report", "check"]

BATCH = 128  # samples of a step, where the problem says nothing
SPLITS = ("train", "val", "test")


def check(problem: Any, limit: Any = None, names: Mapping[str, Sequence[str]] | None = None,
          progress: Any = False) -> Report:
    """What is wrong with the data of a problem, or should be known: each finding with its consequence.

    problem: a `Problem` or a `DomainProblem`, with splits of any kind. Each is read once, in order, in batches; of each
        sample 16 bytes are kept (144 of an image), so that the data may be larger than memory.
    limit: so many samples of each split at most, from all over it; copies among the others are not seen.
    names: `{task: names of its classes}`, to be examined too.
    progress: whether to show a bar.
    Errors are what makes a measure untrue or stops training, warnings are for you to decide, notes to be known;
    `KINDS` lists what is looked for. Thresholds are rules of thumb: a report without findings is no promise.
    What the doctor cannot see, it does not say: a label that is wrong but plausible, above all.
    Raises TypeError for what is no problem, ValueError for one without data, for a limit that is no whole number above
    0, and for names of no task. A sample that cannot be read raises nothing: it is a finding.

    >>> import torch
    >>> from mtlcourse import data
    >>> from mtlcourse.tasks import Problem, TensorSplit
    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> split = TensorSplit(x, {"sign": (x[:, 0] > 0).long()})
    >>> problem = Problem("mine", [data.classification("sign", 2)], split, split, split, (3,), {"name": "mlp"})
    >>> [(finding.severity, finding.kind) for finding in check(problem).findings]
    [('error', 'test-in-train'), ('error', 'val-is-test'), ('warning', 'val-in-train')]
    """
    if not isinstance(problem, Problem | DomainProblem):
        raise TypeError(f"{type(problem).__name__} is no problem: give what data.load or data.domains returns, or a "
                        "Problem of your own.")
    if limit is not None and not is_whole(limit, 1):
        raise ValueError(f"limit={limit!r}: a number of samples of each split, at least 1, or None for all.")
    absent = [split for split in SPLITS if getattr(problem, split) is None]
    if absent:
        raise ValueError(f"Problem {problem.name!r} has no data: {', '.join(absent)} is None. data.load makes it with "
                         "data, data.describe without.")
    source = problem.view.source if isinstance(problem, DomainProblem) else problem
    named = list(labels.names_of(source.tasks, names or {}))
    parts = [Part(split, getattr(source, split), source.tasks, source.input_shape, limit) for split in SPLITS]
    if isinstance(problem, DomainProblem):
        tasks = {task.name: task for task in problem.tasks}
        parts += [Part(f"{domain}/{split}", getattr(target, split), [tasks[domain]] if split == "test" else [],
                       source.input_shape, limit) for domain, target in problem.targets.items() for split in SPLITS]
    seen = _read(parts, problem.name, progress)
    found = [*named, *_each(seen), *_splits(source, {split: seen[split] for split in SPLITS})]
    if isinstance(problem, DomainProblem):
        found += _domains(seen, list(problem.targets))
    found += known.about(problem.name, problem.options, source)
    shares = {name: {task: own.labelled / own.samples for task, own in part.targets.items() if own.samples}
              for name, part in seen.items()}
    return Report(problem.name, found, {part.name: (len(part), part.total) for part in parts}, shares)


def _read(parts: list[Part], name: str, progress: bool) -> dict[str, Seen]:
    from tqdm.auto import tqdm

    with tqdm(total=sum(map(len, parts)), desc=name, unit="sample", leave=False, disable=not progress) as bar:
        return {part.name: Seen(part, pairs=part.name == "train").go(bar.update) for part in parts}


def _each(seen: Mapping[str, Seen]) -> Iterator[Finding]:
    """What each split says by itself."""
    looks: tuple[Callable[[Seen], Iterator[Finding]], ...] = (inputs.readable, labels.present, labels.flat,
                                                            pixels.examine)
    for part in seen.values():
        for look in looks:
            yield from look(part)


def _splits(problem: Problem, seen: dict[str, Seen]) -> Iterator[Finding]:
    """What the three splits say together."""
    train, others = seen["train"], {split: part for split, part in seen.items() if split != "train"}
    yield from inputs.ranges(train, others)
    for task in problem.tasks:
        there = {split: part.targets[task.name] for split, part in seen.items()}
        if task.kind == "classification":
            yield from labels.classes(there["train"], {split: own for split, own in there.items() if split != "train"})
        yield from labels.answers(there["train"], there)
    yield from labels.unequal(train)
    yield from overlap.copies(seen)
    yield from overlap.repeated(train)
    yield from overlap.look_alike(seen)
    yield from pairs.examine(train)
    yield from pixels.without_void(list(seen.values()))
    depths = [task.name for task in problem.tasks if pixels.is_depth(task)]
    normals = [task.name for task in problem.tasks if pixels.is_normals(task)]
    for part in seen.values():
        if isinstance(part.part.split, DatasetSplit):
            yield from inputs.again(part, depths, normals)
    total = train.part.total
    yield from pairs.last_batch({(min(settings.get("samples") or total, total), settings.get("batch_size", BATCH))
                                 for settings in (list(problem.training.values()) or [{}])})


def _domains(seen: Mapping[str, Seen], domains: list[str]) -> Iterator[Finding]:
    """What target domains say beside the source."""
    targets = {domain: {split: seen[f"{domain}/{split}"] for split in SPLITS} for domain in domains}
    for domain, parts in targets.items():
        test = parts["test"].targets[domain]
        yield from labels.answers(test, {"test": test})
    yield from overlap.between_domains(seen["train"], targets)
