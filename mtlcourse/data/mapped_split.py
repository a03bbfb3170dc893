"""A split on disk: one `.npy` a field, memory-mapped, so that only the rows of a batch are read.

Imports `files`, `tasks`, `void`. `mapped.convert` writes what `MappedSplit` reads; a folder with `meta.json` is whole.
Rows are stored small (images uint8, labels int8 or int16, real targets float32 or float16), moved as they are, and
become what training takes on the device. Nothing is unpickled.
"""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import config_hash, content_hash
from ..tasks import Batch, TensorSplit
from ..void import VOID

FORMAT = 1
META = "meta.json"


@dataclass
class Field:
    """One `.npy` of a set: `samples` rows of `shape`.

    stored: numpy's name of the type on disk.  becomes: torch's name of the type of a batch.
    scale: what numbers are divided by on the way, None to take them as they are.
    """

    stored: str
    becomes: str
    shape: list[int]
    samples: int
    scale: int | None = None

    def unpacked(self, rows: Tensor) -> Tensor:
        """Rows as stored, on whatever device, as a batch has them."""
        whole = rows.to(getattr(torch, self.becomes))
        return whole.div_(self.scale) if self.scale else whole


class MappedSplit:
    """A split that `mapped.convert` wrote to `folder`.

    tasks: which of those that are there; None takes all.
    `subset`, `first` and `to` share the mapped files and copy nothing but numbers of rows. Batches, their order and
    what is drawn for it are those of `TensorSplit`, with inputs per task too; `batches` passes on what else that takes.
    about: what `convert` was told about the set, plain data.
    Raises FileNotFoundError where there is no converted set, ValueError for one that is damaged or of another format,
    and for a task that it does not have.
    """

    def __init__(self, folder: str | Path, tasks: Sequence[str] | None = None):
        self.folder = Path(folder)
        meta = read_meta(self.folder)
        self.shared: bool = meta["shared"]  # all tasks look at the same inputs
        self.about: dict[str, Any] = meta["about"]
        self.content: str = meta["content"]  # names what the files hold
        self.fields = {name: Field(**values) for name, values in meta["fields"].items()}
        there = [name.removeprefix("targets.") for name in self.fields if name.startswith("targets.")]
        self.tasks: tuple[str, ...] = tuple(there if tasks is None else tasks)
        for task in self.tasks:
            if task not in there:
                raise ValueError(f"{self.folder} has no targets of {task!r}; it has {', '.join(there)}.")
        self.device = torch.device("cpu")
        wanted = [name for name in self.fields if name.partition(".")[2] in ("", *self.tasks)]
        self._arrays = {name: _opened(self.folder / f"{name}.npy", self.fields[name]) for name in wanted}
        self._index = self._numbers()

    def _numbers(self) -> TensorSplit:
        """The rows' numbers as a split of their own: a task's number is VOID where the sample has no label of it."""
        inputs, targets, groups = {}, {}, {}
        for task in self.tasks:
            labelled = torch.from_numpy(np.array(self._arrays[f"labelled.{task}"]))
            rows = inputs.setdefault("" if self.shared else task, torch.arange(len(labelled)))
            targets[task] = rows if bool(labelled.all()) else torch.where(labelled, rows, VOID)
        for name, array in self._arrays.items():
            if name.startswith("groups"):
                groups[name.partition(".")[2]] = torch.from_numpy(np.array(array))
        if self.shared:
            return TensorSplit(inputs[""], targets, groups.get(""))
        return TensorSplit(inputs, targets, groups or None)

    @property
    def groups(self) -> Tensor | dict[str, Tensor] | None:
        """The sources of the samples, see `TensorSplit`."""
        return self._index.groups

    def __len__(self) -> int:
        return len(self._index)

    @property
    def lengths(self) -> dict[str, int]:
        """How many samples there are for each task."""
        return self._index.lengths

    def count(self, task: str) -> int:
        """How many samples have `task`."""
        return self._index.count(task)

    def to(self, device: torch.device | str) -> "MappedSplit":
        """The same split, whose batches become whole on `device`."""
        return self._with(device=torch.device(device))

    def subset(self, indices: Tensor | Sequence[int] | Mapping[str, Tensor | Sequence[int]]) -> "MappedSplit":
        """The samples at `indices`, `{task: indices}` for inputs per task. Raises as `TensorSplit.subset`."""
        return self._with(_index=self._index.subset(indices))

    def first(self, samples: int) -> "MappedSplit":
        """The first `samples` samples (of each task); all of them if there are fewer."""
        return self._with(_index=self._index.first(samples))

    def hash(self) -> str:
        """Names what the split holds and in which order, without reading it."""
        rows = self._index.inputs
        named = {"": rows} if isinstance(rows, Tensor) else rows
        return config_hash([self.content, sorted(self.tasks), {t: content_hash([x]) for t, x in named.items()}])

    def batches(self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None,
                **more: Any) -> Iterator[Batch]:
        """Yield one epoch of batches; `generator` (a CPU one) decides the order when shuffling."""
        for batch in self._index.batches(batch_size, shuffle, generator, **more):
            rows = batch.inputs
            if isinstance(rows, Tensor):
                inputs: Any = self.rows("inputs", rows)
                targets = {task: self.rows(f"targets.{task}", rows) for task in batch.targets}
            else:
                inputs = {task: self.rows(f"inputs.{task}", own) for task, own in rows.items()}
                targets = {task: self.rows(f"targets.{task}", rows[task]) for task in batch.targets}
            yield replace(batch, inputs=inputs, targets=targets)

    def rows(self, name: str, numbers: Tensor) -> Tensor:
        """The rows of these numbers of one field, on the split's device."""
        array, where = self._arrays[name], numbers.numpy()
        if len(where) and where[-1] - where[0] + 1 == len(where) and bool((np.diff(where) == 1).all()):
            found = np.array(array[where[0] : where[-1] + 1])  # one run of bytes
        else:
            found = array[where]
        return self.fields[name].unpacked(torch.from_numpy(found).to(self.device))

    def verify(self) -> None:
        """Read every byte; raise ValueError unless all are those that were written."""
        found = hash_of_files(self.folder, self.fields)
        if found != self.content:
            raise ValueError(f"{self.folder} does not hold what was written there ({found} in place of "
                             f"{self.content}): remove it and convert again.")

    def _with(self, **changed: Any) -> "MappedSplit":
        other = copy.copy(self)
        vars(other).update(changed)
        return other


def read_meta(folder: Path) -> dict[str, Any]:
    """What `meta.json` in a folder says. Raises FileNotFoundError and ValueError as `MappedSplit` does."""
    path = folder / META
    if not path.is_file():
        raise FileNotFoundError(f"There is no converted set in {folder}: it has no {META}, which is written last. "
                                "mapped.convert(split, folder) makes one, and goes on where it was cut off.")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        version = meta["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what mapped.convert writes ({error}); remove {folder} and convert "
                         "again.") from error
    if version != FORMAT:
        raise ValueError(f"{folder} has format {version}, and {FORMAT} is read here: remove it and convert again.")
    return meta


def meta_of(folder: Path, shared: bool, fields: dict[str, Field], about: dict[str, Any]) -> dict[str, Any]:
    """What `meta.json` is to say of the files in `folder`."""
    return {"format": FORMAT, "shared": shared, "fields": {name: asdict(field) for name, field in fields.items()},
            "content": hash_of_files(folder, fields), "about": about}


def hash_of_files(folder: Path, fields: Mapping[str, Field]) -> str:
    """Sixteen hexadecimal digits that name what the fields' files hold, byte by byte."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(fields):
        digest.update(name.encode() + b"\0")
        with open(folder / f"{name}.npy", "rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def _opened(path: Path, field: Field) -> np.ndarray:
    """The file's rows, mapped; FileNotFoundError or ValueError if they are not those that `meta.json` tells of."""
    remedy = f"remove {path.parent} and convert again"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, and {META} tells of it: {remedy}.")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is cut off, or no such file as was written ({error}): {remedy}.") from error
    if (array.dtype.name, list(array.shape)) != (field.stored, [field.samples, *field.shape]):
        raise ValueError(f"{path} has {array.dtype.name} of {list(array.shape)}, and {META} tells of {field.stored} of "
                         f"{[field.samples, *field.shape]}: {remedy}.")
    return array
