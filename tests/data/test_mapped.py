"""Splits on disk: they are what they were made of, whole or absent, and nothing is read that no batch wants."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlcourse import data, models
from mtlcourse.data import DatasetSplit, MappedSplit, mapped
from mtlcourse.data.apart import Apart
from mtlcourse.files import seed_everything
from mtlcourse.search.bilevel import halves
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.training import fit, hash_data

from ..folders import full_disk, names_in
from ..problems import TASKS, small, split


def images(samples=40, seed=0, void=True):
    """Images in [0, 1], labels of pixels, real maps; with `void`, some samples lack tasks, or pixels."""
    random = torch.Generator().manual_seed(seed)
    x = torch.rand(samples, 3, 6, 8, generator=random)
    targets = {"map": torch.randint(0, 4, (samples, 6, 8), generator=random),
               "depth": 5 * torch.rand(samples, 1, 6, 8, generator=random),
               "kind": torch.randint(0, 3, (samples,), generator=random)}
    if void:
        targets["map"][:, 0] = -1
        targets["depth"][::3] = float("nan")
        targets["kind"][1::2] = -1
        targets["map"][4:8] = -1
    return TensorSplit(x, targets)


DENSE = (data.segmentation("map", 4), data.depth("depth"), data.classification("kind", 3))


def same_batches(one, other, batch_size=3, shuffle=True):
    for mine, ours in zip(*(s.batches(batch_size, shuffle, torch.Generator().manual_seed(1)) for s in (one, other)),
                          strict=True):
        assert mine.counts == ours.counts and mine.targets.keys() == ours.targets.keys()
        own = (mine.inputs, ours.inputs)
        for a, b in zip(*((x.values() if isinstance(x, dict) else [x]) for x in own), strict=True):
            assert a.dtype == b.dtype and (a - b).abs().max() <= 1 / 510 + 1e-7
        for name, target in mine.targets.items():
            assert target.dtype == ours.targets[name].dtype
            assert torch.equal(target.nan_to_num(-7), ours.targets[name].nan_to_num(-7))


@pytest.mark.parametrize("batch_size", [1, 7, 40])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_set_is_what_it_was_made_of(tmp_path, batch_size, shuffle):
    source = images()
    same_batches(source, mapped.convert(source, tmp_path / "set"), batch_size, shuffle)
    types = {name: np.load(tmp_path / "set" / f"{name}.npy").dtype.name
             for name in ("inputs", "targets.map", "targets.depth")}
    assert types == {"inputs": "uint8", "targets.map": "int8", "targets.depth": "float32"}


def test_half_precision_is_within_a_thousandth_and_void_stays_void(tmp_path):
    source = images()
    there = mapped.convert(source, tmp_path / "set", real="float16")
    assert np.load(tmp_path / "set" / "targets.depth.npy").dtype == np.float16
    found, depth = next(there.batches(40)).targets["depth"], source.targets["depth"]
    assert found.dtype == torch.float32 and torch.equal(found.isnan(), depth.isnan())
    assert ((found - depth).abs() <= 1e-3 * depth).logical_or(depth.isnan()).all()


def test_images_of_bytes_come_back_to_the_bit(tmp_path):
    x = torch.randint(0, 256, (9, 1, 4, 4)).float().div_(255)
    there = mapped.convert(TensorSplit(x, {"kind": torch.zeros(9).long()}), tmp_path / "set")
    assert torch.equal(next(there.batches(9)).inputs, x)


@pytest.mark.parametrize(("inputs", "stored"), [
    (torch.randn(9, 4), "float32"), (torch.rand(9, 4), "float32"), (torch.randn(9, 3, 2, 2), "float32"),
    (torch.randint(0, 500, (9, 7)), "int64"), (torch.randint(0, 5, (9, 7), dtype=torch.uint8), "uint8"),
])
def test_other_inputs_stay_what_they_are(tmp_path, inputs, stored):
    there = mapped.convert(TensorSplit(inputs, {"kind": torch.zeros(9).long()}), tmp_path / "set")
    assert there.fields["inputs"].stored == stored
    back = next(there.batches(9)).inputs
    assert back.dtype == inputs.dtype and torch.equal(back, inputs)


@pytest.mark.parametrize(("highest", "stored"), [(1, "int8"), (127, "int8"), (128, "int16"), (40_000, "int32")])
def test_labels_take_the_smallest_type_that_holds_them(tmp_path, highest, stored):
    labels = torch.tensor([-1, 0, highest])
    there = mapped.convert(TensorSplit(torch.rand(3, 2), {"kind": labels}), tmp_path / "set")
    assert there.fields["targets.kind"].stored == stored
    assert torch.equal(next(there.batches(3)).targets["kind"], labels)


def test_inputs_per_task_and_groups(tmp_path):
    source = split(9, own=True, void=0.4)
    there = mapped.convert(source, tmp_path / "own")
    assert not there.shared and there.count("kind") == source.count("kind")
    same_batches(source, there)
    same_batches(source.subset({"kind": [3, 1], "size": [0]}), there.subset({"kind": [3, 1], "size": [0]}))
    grouped = TensorSplit(torch.rand(4, 2), {"kind": torch.zeros(4).long()}, torch.tensor([[1], [1], [2], [3]]))
    there = mapped.convert(grouped, tmp_path / "groups")
    assert torch.equal(there.subset([3, 0]).groups, torch.tensor([[3], [1]])) and there.groups.dtype == torch.int64


def test_from_a_dataset_and_from_a_set(tmp_path):
    source = images()
    pairs = [(source.inputs[i], {name: y[i] for name, y in source.targets.items()}) for i in range(40)]
    there = mapped.convert(DatasetSplit(pairs, DENSE), tmp_path / "set")
    same_batches(source, there)
    rows = [30, 2, 5, 9, 8]
    again = mapped.convert(there.subset(rows), tmp_path / "part")
    same_batches(there.subset(rows), again)
    assert len(again) == 5 and again.count("kind") == source.subset(rows).count("kind")


def test_subsets_copy_nothing_and_count(tmp_path):
    source = images()
    there = mapped.convert(source, tmp_path / "set")
    some = there.subset([7, 6, 3]).to("cpu").first(2)
    assert len(some) == 2 and all(some._arrays[name] is array for name, array in there._arrays.items())
    assert {task: there.count(task) for task in source.targets} == {task: source.count(task) for task in source.targets}
    same_batches(source.subset([7, 6]), some)
    with pytest.raises(TypeError, match="not a mask"):
        there.subset(torch.ones(40, dtype=torch.bool))


def test_training_and_searches_take_it_and_data_have_a_name(tmp_path):
    problem = small(train=60, void=0.2, dropout=0.3)
    there = replace(problem, **{name: mapped.convert(getattr(problem, name), tmp_path / name)
                                for name in ("train", "val", "test")})
    runs = []
    for one in (problem, there):
        seed_everything(0)
        runs.append(fit(one, models.HPS(one), epochs=3, batch_size=16, seed=5, progress=False, device="cpu"))
    for a, b in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        assert torch.equal(a, b)
    assert runs[0].metrics == runs[1].metrics and runs[1].test_data == hash_data(there)
    assert hash_data(there) != hash_data(replace(there, test=there.test.subset(range(29, -1, -1))))
    below, above = halves(there)
    assert len(below.train) + len(above) == 60 and len(there.sized(8, 6).val) == 6


def test_chosen_tasks_and_those_that_are_not_there(tmp_path):
    mapped.convert(images(), tmp_path / "set", about={"version": 2})
    there = MappedSplit(tmp_path / "set", tasks=["kind"])
    assert set(next(there.batches(4)).targets) == {"kind"} and there.about == {"version": 2}
    with pytest.raises(ValueError, match="has no targets of 'normals'; it has map, depth, kind"):
        MappedSplit(tmp_path / "set", tasks=["kind", "normals"])


def test_a_task_without_any_label_is_refused_by_the_problem(tmp_path):
    void = TensorSplit(torch.rand(4, 4), {"kind": torch.full((4,), -1), "big": torch.ones(4).long()})
    there = mapped.convert(void, tmp_path / "set")
    with pytest.raises(ValueError, match=r"split 'train' has no labels for \['kind'\]"):
        Problem("void", [TASKS[0], TASKS[2]], there, there, there, (4,), {"name": "mlp", "widths": [4]})


# --- whole or absent ---------------------------------------------------------------------------------------

def test_the_second_call_writes_nothing_and_another_set_is_refused(tmp_path):
    first = mapped.convert(images(), tmp_path / "set")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    assert mapped.convert(images(), tmp_path / "set").content == first.content
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    for other, options in ((images(seed=1), {}), (images(30), {}), (images(), {"real": "float16"}),
                           (images(), {"about": {"version": 2}})):
        with pytest.raises(FileExistsError, match="set holds something else. Remove it, or choose another folder"):
            mapped.convert(other, tmp_path / "set", **options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="mine holds something else"):
        mapped.convert(images(), tmp_path / "mine")
    assert names_in(tmp_path / "mine") == ["letter.txt"]


class Stops(Exception):
    pass


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_conversion_that_was_cut_off_goes_on(tmp_path, monkeypatch, own, at):
    source = split(400, own=own, void=0.3)
    monkeypatch.setattr(mapped, "FLUSHED", 1)
    pack, calls = mapped._packed, []

    def counted(name, rows, field, start):
        calls.append(start)
        if stop and len(calls) > at * 3:
            raise Stops
        return pack(name, rows, field, start)

    monkeypatch.setattr(mapped, "_packed", counted)
    stop = True
    with pytest.raises(Stops):
        mapped.convert(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    stop, calls = False, []
    there = mapped.convert(source, tmp_path / "set")
    same_batches(source, there, 50)
    there.verify()
    whole = mapped.convert(source, tmp_path / "other")
    assert there.content == whole.content and len(calls) > 0


def test_it_goes_on_behind_what_is_down(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "FLUSHED", 1)
    pack, starts = mapped._packed, []

    def noted(name, rows, field, start):
        starts.append(start)
        if stop and start == 128:
            raise Stops
        return pack(name, rows, field, start)

    monkeypatch.setattr(mapped, "_packed", noted)
    stop = True
    with pytest.raises(Stops):
        mapped.convert(split(200), tmp_path / "set")
    stop, starts = False, []
    mapped.convert(split(200), tmp_path / "set")
    assert min(starts) == 128
    stop, starts = True, []
    with pytest.raises(Stops):
        mapped.convert(split(200), tmp_path / "again")
    stop, starts = False, []
    same_batches(split(200, seed=1), mapped.convert(split(200, seed=1), tmp_path / "again"), 50)
    assert min(starts) == 0  # what was begun was of another set


def slowly(split, folder):
    """In a process of its own: a conversion that takes about a quarter of a second, and notes each batch."""
    pack = mapped._packed
    mapped._packed = lambda *arguments: (time.sleep(0.003), pack(*arguments))[1]
    mapped.FLUSHED = 1
    mapped.convert(split, folder)


def test_killed_at_ten_moments_what_is_there_is_whole_or_absent(tmp_path):
    """Each begins where the one before was ended; the last call finishes."""
    folder, source, killed = tmp_path / "set", split(2_000), 0
    for moment in range(10):
        child = multiprocessing.get_context("fork").Process(target=slowly, args=(source, folder))
        child.start()
        time.sleep(0.015 * (moment + 1))
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        if folder.exists():
            MappedSplit(folder).verify()
    assert killed
    there = mapped.convert(source, folder)
    there.verify()
    assert torch.equal(next(there.batches(2_000)).inputs, source.inputs)


def test_a_full_disk_is_told_and_the_next_call_finishes(tmp_path):
    with full_disk(7_000), pytest.raises(OSError, match="could not write .*set.*free some space"):
        mapped.convert(images(), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    same_batches(images(), mapped.convert(images(), tmp_path / "set"))


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(OSError, match="choose another name"):
        mapped.convert(images(), tmp_path / "file" / "set")


# --- what cannot be ------------------------------------------------------------------------------------------

def harm(folder: Path, how: str) -> None:
    inputs = folder / "inputs.npy"
    if how == "cut":
        os.truncate(inputs, inputs.stat().st_size // 2)
    elif how == "empty":
        os.truncate(inputs, 0)
    elif how == "gone":
        inputs.unlink()
    elif how == "other":
        np.save(inputs, np.zeros((3, 2), np.float32))
    elif how == "pickle":
        np.save(inputs, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif how == "meta":
        (folder / "meta.json").write_text("{")
    elif how == "format":
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps({**meta, "format": 7}))
    elif how == "unfinished":
        (folder / "meta.json").unlink()


@pytest.mark.parametrize(("how", "error", "message"), [
    ("cut", ValueError, "inputs.npy is cut off"), ("empty", ValueError, "inputs.npy is cut off"),
    ("gone", FileNotFoundError, "inputs.npy is missing, and meta.json tells of it"),
    ("other", ValueError, r"has float32 of \[3, 2\], and meta.json tells of uint8 of \[40, 3, 6, 8\]: remove"),
    ("pickle", ValueError, "cut off, or no such file"), ("meta", ValueError, "is not what mapped.convert writes"),
    ("format", ValueError, "has format 7, and 1 is read here: remove it and convert again"),
    ("unfinished", FileNotFoundError, "no converted set in .*no meta.json, which is written last"),
])
def test_a_damaged_set_is_one_sentence(tmp_path, how, error, message):
    mapped.convert(images(), tmp_path / "set")
    harm(tmp_path / "set", how)
    with pytest.raises(error, match=message):
        MappedSplit(tmp_path / "set")


def test_a_flipped_byte_is_found_by_verify(tmp_path):
    there = mapped.convert(images(), tmp_path / "set")
    there.verify()
    with open(tmp_path / "set" / "targets.map.npy", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\3")
    with pytest.raises(ValueError, match="does not hold what was written there"):
        MappedSplit(tmp_path / "set").verify()


@pytest.mark.parametrize(("source", "options", "message"), [
    (lambda: TensorSplit(torch.full((3, 1, 2, 2), 1.5), {"kind": torch.zeros(3).long()}), {"inputs": "uint8"},
     r"inputs of sample 0 have 1.5, outside of \[0, 1\]"),
    (lambda: TensorSplit(torch.full((3, 1, 2, 2), float("nan")), {"kind": torch.zeros(3).long()}), {"inputs": "uint8"},
     "inputs of sample 0 have nan"),
    (lambda: TensorSplit(torch.rand(3, 2), {"size": torch.tensor([[1.0], [1e5], [1.0]])}), {"real": "float16"},
     "targets.size of sample 1 have 100000, which float16 does not hold"),
    (lambda: images(), {"real": "int8"}, "real='int8' is not known"),
    (lambda: images(), {"inputs": "png"}, "inputs='png' is not known"),
    (lambda: TensorSplit(torch.rand(99, 2), {"kind": torch.tensor([0] * 70 + [5] + [0] * 28)}), {"tasks": TASKS[:1]},
     "Sample 70: Task 'kind': labels run from 5 to 5"),
])
def test_numbers_that_do_not_fit(tmp_path, source, options, message):
    with pytest.raises(ValueError, match=message):
        mapped.convert(source(), tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_a_split_of_another_kind_needs_tasks(tmp_path):
    class Other:
        shared = True

        def __init__(self, split):
            self.split = split

        def __len__(self):
            return len(self.split)

        def subset(self, rows):
            return Other(self.split.subset(rows))

        def batches(self, *arguments):
            return self.split.batches(*arguments)

    with pytest.raises(TypeError, match="Other does not say which targets it has: give tasks="):
        mapped.convert(Other(images()), tmp_path / "set")
    same_batches(images(), mapped.convert(Other(images()), tmp_path / "set", tasks=DENSE))


# --- tasks with samples of their own that do not lie in memory -------------------------------------------------

def apart(samples=(70, 9)):
    """The same twice: as datasets, one a task, and in memory."""
    random = torch.Generator().manual_seed(3)
    tasks = [data.classification("one", 4), data.classification("two", 4)]
    x = {t.name: torch.randint(0, 256, (n, 3, 4, 4), generator=random).float() / 255
         for t, n in zip(tasks, samples, strict=True)}
    y = {name: torch.arange(len(own)) % 4 for name, own in x.items()}
    splits = {t.name: DatasetSplit([(a, {t.name: b}) for a, b in zip(x[t.name], y[t.name], strict=True)], [t])
              for t in tasks}
    return Apart(splits), TensorSplit(x, y)


@pytest.mark.parametrize("samples", [(70, 9), (3, 130), (64, 64)])
def test_datasets_of_single_tasks_are_one_set(tmp_path, samples):
    lazily, source = apart(samples)
    there = mapped.convert(lazily, tmp_path / "set")
    assert not there.shared and [there.count(task) for task in ("one", "two")] == [*samples]
    same_batches(source, there)
    assert there.content == mapped.convert(source, tmp_path / "other").content
    assert mapped.convert(lazily, tmp_path / "set").content == there.content  # nothing is done
    with pytest.raises(ValueError, match=r"The split of 'two' has the tasks \['one'\]"):
        Apart({"two": lazily.splits["one"]})


def test_a_task_that_fails_leaves_what_was_good(tmp_path):
    lazily, source = apart()
    good = lazily.splits["two"].dataset[:]
    lazily.splits["two"].dataset[5] = (torch.zeros(3, 4, 4), {"two": 7})
    with pytest.raises(ValueError, match="Sample 5 of list: Task 'two': labels run from 7 to 7"):
        mapped.convert(lazily, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    lazily.splits["two"].dataset[:] = good
    same_batches(source, mapped.convert(lazily, tmp_path / "set"))
