"""Writes what `MappedSplit` reads: `convert` puts any split on disk, whole or not at all.

Imports `files`, `tasks`, `void`, its folder's `apart`, `mapped_split`.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..files import alone, content_hash, write_json, writing
from ..tasks import Task, TensorSplit
from ..void import VOID, has_target
from .apart import Apart
from .mapped_split import META, Field, MappedSplit, meta_of, read_meta

ROWS = 64  # a batch, while converting
FLUSHED = 1 << 26  # bytes, after which what is written is brought down and noted
PROGRESS = "progress.json"
REALS = ("float32", "float16")
TINY = 3e-8  # half of the smallest step of float16 is 2.98e-8
IMAGES = ("uint8", *REALS)


def convert(split: Any, folder: str | Path, *, inputs: str | None = None, real: str = "float32",
            tasks: Sequence[Task] | None = None, about: Mapping[str, Any] | None = None) -> MappedSplit:
    """Write `split` to `folder`, and open it.

    It is made in a hidden folder beside, which gets the name last: what stands at `folder` is whole. A call that was
    cut off is finished by the next one with the same arguments. If the same is there already, nothing is written.

    inputs: how real inputs are stored, "uint8", "float16" or "float32". None takes uint8 for images (channels, height,
        width) in [0, 1], each number within 1/510 of what it was, and float32 for others. Whole numbers stay.
    real: how real targets are stored, "float32", or "float16": each within a thousandth of what it was, or within
        3e-8, half of its smallest step. NaN stays NaN.
    tasks: the problem's, by which all targets are checked; needed for a split that has neither `tasks` nor tensors.
        Labels become int8 where they fit, else int16 or int32.
    about: plain data to keep with the set.
    Raises FileExistsError for a folder that holds something else, ValueError for numbers that the type does not hold,
    naming the sample, OSError in words where the disk refuses; what was good stays.
    """
    folder = Path(folder)
    for name, value, known in (("inputs", inputs, (None, *IMAGES)), ("real", real, REALS)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known; use {', '.join(str(k) for k in known)}.")
    fields = _fields(split, inputs, real, tasks)
    plan = {"fields": {name: asdict(field) for name, field in fields.items()}, "about": dict(about or {}),
            "first": _fingerprint(split, fields)}
    plan = json.loads(json.dumps(plan))
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{folder.name}.lock")):
        if folder.exists() and any(folder.iterdir()):
            return _same(folder, plan)
        part = folder.with_name(f".{folder.name}.part")
        _write(split, part, fields, plan, tasks or ())
        with writing(folder):
            meta = meta_of(part, getattr(split, "shared", True), fields, plan["about"])
            write_json(part / META, {**meta, "first": plan["first"]})
            (part / PROGRESS).unlink()
            _sync_folder(part)
            os.replace(part, folder)
            _sync_folder(folder.parent)
    return MappedSplit(folder)


def _same(folder: Path, plan: dict[str, Any]) -> MappedSplit:
    """What is there, if it is what would be written."""
    there = read_meta(folder) if (folder / META).is_file() else {}
    if any(there.get(key) != value for key, value in plan.items()):
        raise FileExistsError(f"{folder} holds something else. Remove it, or choose another folder.")
    return MappedSplit(folder)


# --- what is stored, and how -----------------------------------------------------------------------------

def _fields(split: Any, inputs: str | None, real: str, tasks: Sequence[Task] | None) -> dict[str, Field]:
    """A field for the inputs, or the inputs of each task, and two for each task, with the types that hold them."""
    if isinstance(split, MappedSplit):
        return _of_mapped(split, inputs, real)
    if isinstance(split, Apart):
        return {f"inputs.{task}" if name == "inputs" else name: field for task, own in split.splits.items()
                for name, field in _fields(own, inputs, real, None).items()}
    if isinstance(split, TensorSplit):
        examples = split
        shapes = {task: list(y.shape[1:]) for task, y in split.targets.items()}
        highest = {task: int(y.max()) for task, y in split.targets.items() if not y.is_floating_point()}
    else:
        known = list(tasks or getattr(split, "tasks", ()))
        if not known or not getattr(split, "shared", True):
            raise TypeError(f"{type(split).__name__} does not say which targets it has: give tasks=, the problem's. "
                            "(Inputs per task need a TensorSplit, a MappedSplit or Apart.)")
        batch = next(iter(split.subset(range(1)).batches(1)))
        examples = TensorSplit(batch.inputs, {"any": torch.zeros(len(batch.inputs))})
        pixels = {task.name: list(batch.inputs.shape[-2:]) if task.dense else [] for task in known}
        shapes = {task.name: ([task.out_channels] if task.kind == "regression" else []) + pixels[task.name]
                  for task in known}
        highest = {task.name: task.classes - 1 for task in known if task.kind == "classification"}
    named = {"inputs": examples.inputs} if examples.shared else {f"inputs.{t}": examples.inputs[t] for t in shapes}
    fields = {name: _input_field(x, inputs) for name, x in named.items()}
    if not isinstance(split, TensorSplit):
        fields["inputs"].samples = len(split)
    for task, shape in shapes.items():
        samples = fields["inputs" if examples.shared else f"inputs.{task}"].samples
        if task in highest:
            stored = next(kind for kind in ("int8", "int16", "int32", "int64") if highest[task] <= np.iinfo(kind).max)
            fields[f"targets.{task}"] = Field(stored, "int64", shape, samples)
        else:
            fields[f"targets.{task}"] = Field(real, "float32", shape, samples)
        fields[f"labelled.{task}"] = Field("bool", "bool", [], samples)
    groups = getattr(split, "groups", None)
    for name, ids in ({} if groups is None else {"groups": groups} if isinstance(groups, Tensor) else
                      {f"groups.{task}": own for task, own in groups.items()}).items():
        fields[name] = Field("int64", "int64", list(ids.shape[1:]), len(ids))
    return fields


def _of_mapped(split: MappedSplit, inputs: str | None, real: str) -> dict[str, Field]:
    numbers = split._index
    fields = {}
    for name in split._arrays:
        field, task = Field(**asdict(split.fields[name])), name.partition(".")[2]
        field.samples = len(numbers.targets[task]) if task else len(numbers)
        if name.startswith("inputs") and inputs and field.becomes == "float32":
            field.stored, field.scale = inputs, 255 if inputs == "uint8" else None
        if name.startswith("targets") and field.becomes == "float32":
            field.stored = real
        fields[name] = field
    return fields


def _input_field(x: Tensor, stored: str | None) -> Field:
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        return Field(kind, kind, list(x.shape[1:]), len(x))
    if stored is None:
        stored = "uint8" if x.dim() == 4 and bool(((x >= 0) & (x <= 1)).all()) else "float32"
    return Field(stored, "float32", list(x.shape[1:]), len(x), 255 if stored == "uint8" else None)


def _fingerprint(split: Any, fields: dict[str, Field]) -> str:
    """Names the first samples of each task: another set is not taken for the rest of one."""
    streams = [next(iter(_rows(split, stream, 0, fields, 4)), {}) for stream in _streams(fields)]
    return content_hash(tensor for rows in streams for _, tensor in sorted(rows.items()))


def _streams(fields: dict[str, Field]) -> list[str]:
    """"" where the tasks share their inputs, else the tasks."""
    return [name.partition(".")[2] for name in fields if name.startswith("inputs")]


def _rows(split: Any, stream: str, start: int, fields: dict[str, Field],
          size: int = ROWS) -> Iterator[dict[str, Tensor]]:
    """From sample `start` on, batch by batch, what goes into each field of a stream."""
    own = f".{stream}" if stream else ""
    targets = [name.removeprefix("targets.") for name in fields if name.startswith("targets.")]
    targets = [stream] if stream else targets
    samples = fields[f"inputs{own}"].samples
    split = split.splits[stream] if isinstance(split, Apart) else split
    groups = getattr(split, "groups", None)
    groups = groups.get(stream) if isinstance(groups, dict) else groups
    if isinstance(split, TensorSplit | MappedSplit):
        pieces: Any = (_slice(split, stream, targets, slice(at, min(at + size, samples)))
                       for at in range(start, samples, size))
    elif start < samples:
        pieces = ((batch.inputs, batch.targets) for batch in split.subset(range(start, samples)).batches(size))
    else:
        pieces = ()
    for inputs, found in pieces:
        rows = {f"inputs{own}": inputs}
        for task in targets:
            field = fields[f"targets.{task}"]
            void = float("nan") if field.becomes == "float32" else VOID
            target = found.get(task, torch.full((len(inputs), *field.shape), void, dtype=getattr(torch, field.becomes)))
            rows |= {f"targets.{task}": target, f"labelled.{task}": has_target(target)}
        if groups is not None:
            rows[f"groups{own}"] = groups[start : start + len(inputs)]
        start += len(inputs)
        yield {name: values.cpu() for name, values in rows.items()}


def _slice(split: TensorSplit | MappedSplit, stream: str, targets: list[str], rows: slice) -> tuple[Tensor, dict]:
    if isinstance(split, TensorSplit):
        inputs = split.inputs if isinstance(split.inputs, Tensor) else split.inputs[stream]
        return inputs[rows], {task: split.targets[task][rows] for task in targets}
    numbers = split._index.inputs
    numbers = (numbers if isinstance(numbers, Tensor) else numbers[stream])[rows]
    name = f"inputs.{stream}" if stream else "inputs"
    return split.rows(name, numbers), {task: split.rows(f"targets.{task}", numbers) for task in targets}


def _check(tasks: Sequence[Task], rows: dict[str, Tensor], start: int) -> None:
    """Raise TypeError or ValueError, naming the first sample whose target cannot be its task's."""
    for task in tasks:
        name = f"targets.{task.name}"
        if name in rows:
            shape = rows[f"inputs.{task.name}" if "inputs" not in rows else "inputs"].shape[1:]
            for number in [None, *range(len(rows[name]))]:  # all at once, and one by one only to find the one
                some = rows[name] if number is None else rows[name][number : number + 1]
                try:
                    task.check(some, shape)
                except (TypeError, ValueError) as error:
                    if number is not None:
                        raise type(error)(f"Sample {start + number}: {error}") from None
                else:
                    if number is None:
                        break


def _packed(name: str, rows: Tensor, field: Field, start: int) -> np.ndarray:
    """The rows as stored. start: number of the first, for the message of the ValueError where they do not fit."""
    if list(rows.shape[1:]) != field.shape:
        raise ValueError(f"{name} have shape {tuple(rows.shape[1:])} from sample {start} on, and {tuple(field.shape)} "
                         "before: a set has one. Give a DatasetSplit with collate=, as data.resized((height, width)).")
    kind = getattr(torch, field.stored)
    small = (rows * field.scale).round().clamp(0, field.scale).to(kind) if field.scale else rows.to(kind)
    if field.scale:
        wrong, remedy = ~((rows >= 0) & (rows <= 1)), 'outside of [0, 1]; give inputs="float32"'
    elif kind == torch.float16:
        wrong = ~(((small.float() - rows).abs() <= (1e-3 * rows.abs()).clamp_min(TINY)) | rows.isnan())
        remedy = 'which float16 does not hold to a thousandth; give "float32"'
    elif rows.dtype == kind or rows.is_floating_point():
        return np.ascontiguousarray(small.numpy())
    else:
        wrong, remedy = small.to(rows.dtype) != rows, f"which {field.stored} does not hold, or is no label"
    if bool(wrong.any()):
        number = int(wrong.flatten(1).any(1).nonzero()[0]) if wrong.dim() > 1 else int(wrong.nonzero()[0])
        value = rows[wrong].flatten()[0].item()
        raise ValueError(f"{name} of sample {start + number} have {value:g}, {remedy}.")
    return np.ascontiguousarray(small.numpy())


# --- files -------------------------------------------------------------------------------------------------

def _write(split: Any, part: Path, fields: dict[str, Field], plan: dict[str, Any], tasks: Sequence[Task]) -> None:
    """All rows into the folder `part`, from those on that it has."""
    done = _begun(part, plan)
    if done is None:
        shutil.rmtree(part, ignore_errors=True)
        done = {}
    with writing(part):
        part.mkdir(parents=True, exist_ok=True)
    for stream in _streams(fields):
        mine = [name for name in fields if stream in ("", name.partition(".")[2])]
        with writing(part):
            files = {name: _file(part / f"{name}.npy", fields[name], done.get(stream, 0)) for name in mine}
        try:
            _write_rows(split, stream, part, files, fields, plan, done, tasks)
        finally:
            for file in files.values():
                with contextlib.suppress(OSError):  # of a full disk, which has been told; all else is down already
                    file.close()


def _write_rows(split: Any, stream: str, part: Path, files: dict[str, BinaryIO], fields: dict[str, Field],
                plan: dict[str, Any], done: dict[str, int], tasks: Sequence[Task]) -> None:
    at, unsaved = done.get(stream, 0), 0

    def save() -> None:
        for file in files.values():
            os.fsync(file.fileno())
        done[stream] = at
        write_json(part / PROGRESS, {"plan": plan, "done": done})

    for rows in _rows(split, stream, at, fields):
        _check(tasks, rows, at)
        packed = {name: _packed(name, rows[name], fields[name], at) for name in files}
        with writing(part):
            for name, values in packed.items():
                files[name].write(values.data)
                files[name].flush()
        at += len(next(iter(packed.values())))
        unsaved += sum(values.nbytes for values in packed.values())
        if unsaved >= FLUSHED:
            with writing(part):
                save()
            unsaved = 0
    with writing(part):
        save()


def _begun(part: Path, plan: dict[str, Any]) -> dict[str, int] | None:
    """The number of rows of each stream that are down for certain; None for nothing that belongs to this plan."""
    try:
        progress = json.loads((part / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return progress["done"] if progress.get("plan") == plan else None


def _file(path: Path, field: Field, rows: int) -> BinaryIO:
    """The field's file with so many rows in it, open behind them."""
    file = open(path, "r+b" if rows else "w+b")
    description = np.lib.format.dtype_to_descr(np.dtype(field.stored))
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False,
                                                "shape": (field.samples, *field.shape)})
    end = file.tell() + rows * int(np.prod(field.shape, dtype=np.int64)) * np.dtype(field.stored).itemsize
    file.truncate(end)
    file.seek(end)
    return file


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
