"""Published sets on disk: what each script in `data_scripts` does, and how `data.load` finds what it left.

Imports `files`, `tasks`, its folder's `apart`, `datasets`, `fetching`, `mapped`, `mapped_split`, `splits`.
A set is the folder `ROOT/NAME`: a `MappedSplit` for each published part, and `set.json`, written last.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..files import is_number, write_json, writing
from ..tasks import Task, TensorSplit
from .apart import Apart
from .datasets import DatasetSplit
from .fetching import fetch, unpack
from .mapped import convert
from .mapped_split import MappedSplit
from .splits import generator

SET = "set.json"
VERSION = 1


@dataclass(frozen=True)
class Download:
    """One published file.

    name: under which it is kept.  addresses: mirrors, in order; none where an account is needed.
    checksum: as published, "md5:..."; None where none is.  most: bytes of all that is in it, None if it is no archive.
    """

    name: str
    addresses: Sequence[str] = ()
    checksum: str | None = None
    most: int | None = None


@dataclass(frozen=True)
class Part:
    """One part of a set. samples: a dataset for `DatasetSplit`, a `TensorSplit` or `Apart`; options: of `convert`."""

    samples: Any
    tasks: Sequence[Task]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A set as its authors publish it.

    name: the problem's.  parts: from the folder of the published files to `{part: Part}`.
    sample: writes a tiny set of the same layout into a folder.  small: what `parts` is given besides for it.
    licence: what holds.  terms: how to cite, and what may not be done.  account: how to get it where that needs one.
    downloads: the files; archives are unpacked into one folder.
    """

    name: str
    parts: Callable[..., Mapping[str, Part]]
    sample: Callable[[Path], None]
    licence: str
    terms: str
    account: str | None = None
    downloads: Sequence[Download] = ()
    small: Mapping[str, Any] = field(default_factory=dict)


def command(published: Published) -> Any:
    """What `python data_scripts/NAME.py` runs: fetch, unpack, convert; or verify what is there."""
    import click

    @click.command(help=f"Fetch and convert {published.name} for data.load({published.name!r}).")
    @click.option("--root", default="data", show_default=True, type=click.Path(path_type=Path, file_okay=False),
                  help="Where converted sets go.")
    @click.option("--source", default=None, help="A folder with the published files, or a URL in front of their names.")
    @click.option("--sample", is_flag=True, help="Write a tiny set by lot in the published layout, and convert that.")
    def main(root: Path, source: str | None, sample: bool) -> None:
        click.echo(f"{published.name}: {published.licence}\n{published.terms}")
        try:
            click.echo(make(published, root, source, sample))
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return main


def make(published: Published, root: str | Path, source: str | None = None, sample: bool = False) -> str:
    """Have the set in `root`; a sentence that says what was done.

    Raises FileExistsError where the sample stands and the set is wanted, or the other way round; OSError and ValueError
    as `fetch`, `unpack` and `mapped.convert` do.
    """
    folder = Path(root) / published.name
    if (folder / SET).is_file():
        there = described(published.name, root)
        if there["sample"] != sample:
            what = "the tiny sample" if there["sample"] else "the set itself"
            raise FileExistsError(f"{folder} holds {what}. Remove it, or give another --root.")
        for part in there["parts"]:
            MappedSplit(folder / part).verify()
        return f"{folder} is there and whole; nothing was done."
    if sample:
        given = Path(root) / "samples" / published.name
        published.sample(given)
    else:
        given = _given(published, Path(root), source)
    sizes, told = {}, {}
    for name, part in published.parts(given, **(published.small if sample else {})).items():
        ready = isinstance(part.samples, TensorSplit | Apart)
        split = part.samples if ready else DatasetSplit(part.samples, part.tasks)
        about = {"set": published.name, "version": VERSION, "sample": sample}
        made = convert(split, folder / name, tasks=part.tasks, about=about, **part.options)
        sizes[name] = len(made)
        told |= {task: made.count(task) for task in made.tasks} if isinstance(split, Apart) else {name: len(made)}
    with writing(folder):
        write_json(folder / SET, {"version": VERSION, "sample": sample, "parts": sizes})
    size = sum(path.stat().st_size for path in folder.rglob("*.npy"))
    return f"{folder}: {', '.join(f'{number:,} {name}' for name, number in told.items())}, {size / 1e6:,.1f} MB."


def _given(published: Published, root: Path, source: str | None) -> Path:
    """The folder with the published files: the given one, or where they are fetched and unpacked to."""
    folder, place = Path(source or ""), root / "downloads" / published.name
    if source is not None and "://" not in source:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}. Give the one with the published files, or a URL.")
        if not any(file.most and (folder / file.name).is_file() for file in published.downloads):
            return folder
        source = folder.resolve().as_uri()
    if published.account and (source is None or not published.downloads):
        raise FileNotFoundError(published.account)
    for file in published.downloads:
        addresses = [f"{source.rstrip('/')}/{file.name}"] if source else file.addresses
        path = fetch(file.name, addresses, place, file.checksum)
        if file.most:
            unpack(path, place / "unpacked" / file.name, file.most)
    only = published.downloads[0]
    return place / "unpacked" / only.name if len(published.downloads) == 1 and only.most else place


def inner(folder: Path, name: str) -> Path:
    """`folder`, or the single folder in it that holds `name`: archives differ in whether they have one around all.

    Raises FileNotFoundError where `name` is in neither.
    """
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if (place / name).exists():
            return place
    raise FileNotFoundError(f"{folder} has no {name}, nor has a folder in it. Give the folder of the published files.")


def described(name: str, root: str | Path) -> dict[str, Any]:
    """What `set.json` says. Raises FileNotFoundError, naming the script, ValueError for a set of another version."""
    path = Path(root) / name / SET
    script = f"`python data_scripts/{name}.py --root {root}`"
    if not path.is_file():
        raise FileNotFoundError(f"There is no {name} in {root}: run {script} in the course's folder, which fetches and "
                                "converts it, or says how to get it.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove {path.parent} and run {script}.") from error
    if version != VERSION:
        raise ValueError(f"{path.parent} is of version {version}, {VERSION} is read here: remove it and run {script}.")
    return found


def read(name: str, root: str | Path, tasks: Sequence[str] | None = None) -> dict[str, MappedSplit]:
    """The parts of a converted set. Raises as `described` and `MappedSplit` do."""
    return {part: MappedSplit(Path(root) / name / part, tasks) for part in described(name, root)["parts"]}


def with_holdout(parts: Mapping[str, MappedSplit], holdout: Any, seed: int) -> dict[str, MappedSplit]:
    """`train`, `val` and `test` of a set that has `train` and `val` only: `val` is the test split, as in the papers.

    holdout: the share of `train` by which to choose, by lot; 0 leaves all of it for training, and `val` for both, so
        that nothing may be chosen by it. Raises ValueError for a share that is none.
    """
    if not is_number(holdout) or not 0 <= holdout < 1:
        raise ValueError(f"holdout={holdout!r}: a share of the training samples, from 0 to below 1, such as 0.1.")
    train, test = parts["train"], parts["val"]
    if not holdout:
        return {"train": train, "val": test, "test": test}
    order = torch.from_numpy(generator(seed, "holdout").permutation(len(train)))
    held = min(max(round(holdout * len(train)), 1), len(train) - 1)
    return {"train": train.subset(order[held:].sort().values), "val": train.subset(order[:held].sort().values),
            "test": test}
