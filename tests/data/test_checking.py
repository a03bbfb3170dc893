"""The data doctor finds what is planted and nothing in clean data, reads what is too large for memory, and goes on."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from mtlcourse import cli, data, losses, metrics
from mtlcourse.data import DatasetSplit, MappedSplit, Target, Unlabelled, mapped
from mtlcourse.data.checking import KINDS, reading
from mtlcourse.data.checking.numbers import Moments, Together
from mtlcourse.tasks import Problem, Task, TensorSplit
from mtlcourse.void import VOID

from ..domains import problem as clouds
from ..problems import OFFLINE

SIZES = {"train": 260, "val": 120, "test": 130}
TASKS = (data.classification("kind", 3), data.regression("size"), data.binary("big"))
MAPS = (data.segmentation("parts", 3), data.depth("depth"), data.normals("normals"))
NAN = float("nan")


def numbers(samples: int, seed: int, void: float = 0.0) -> TensorSplit:
    """Six numbers a sample; a class, a number and a yes or no that depend on them and on chance."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 6, generator=generator)
    noise = torch.randn(samples, 5, generator=generator)
    targets = {"kind": (x[:, :3] + noise[:, :3]).argmax(1), "size": x[:, 3:4] + noise[:, 3:4],
               "big": (x[:, 4] + noise[:, 4] > 0).long()}
    hidden = torch.rand(samples, 3, generator=generator) < void
    return TensorSplit(x, {name: y.masked_fill(hidden[:, i].reshape(-1, *[1] * (y.dim() - 1)),
                                               NAN if y.is_floating_point() else VOID)
                           for i, (name, y) in enumerate(targets.items())})


def images(samples: int, seed: int) -> TensorSplit:
    """Images of 16 x 16 with classes, depth and normals, of which a twentieth is without label."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(samples, 3, 16, 16, generator=generator)
    holes = torch.rand(samples, 1, 16, 16, generator=generator) < 0.05
    normals = torch.nn.functional.normalize(torch.randn(x.shape, generator=generator), dim=1)
    depth = 1 + 4 * torch.rand(samples, 1, 16, 16, generator=generator)
    return TensorSplit(x, {"parts": x.argmax(1).masked_fill(holes[:, 0], VOID), "depth": depth.masked_fill(holes, NAN),
                           "normals": normals.masked_fill(holes, NAN)})


def problem_of(make: Callable, tasks: tuple[Task, ...], seed: int = 0) -> Problem:
    parts = {split: make(size, 10 * seed + i) for i, (split, size) in enumerate(SIZES.items())}
    shape = tuple(parts["train"].inputs.shape[1:])
    return Problem("planted", tasks, **parts, input_shape=shape, encoder={"name": "mlp", "widths": [4]})


def plain(seed: int = 0) -> Problem:
    return problem_of(numbers, TASKS, seed)


def dense(seed: int = 0) -> Problem:
    return problem_of(images, MAPS, seed)


def changed(problem: Problem, split: str, inputs: Callable | None = None, **targets: Callable) -> Problem:
    """The problem with one split's inputs and targets put through functions, which may change them in place."""
    old = getattr(problem, split)
    x = old.inputs if inputs is None else inputs(old.inputs.clone())
    new = {name: targets[name](y.clone()) if name in targets else y for name, y in old.targets.items()}
    return replace(problem, **{split: TensorSplit(x, new)})


def setting(where, value) -> Callable:
    def put(tensor):
        tensor[where] = value
        return tensor
    return put


def also(problem: Problem, task: Task, make: Callable) -> Problem:
    """The problem with one more task, whose targets `make(split)` gives."""
    splits = {name: TensorSplit(getattr(problem, name).inputs,
                                {**getattr(problem, name).targets, task.name: make(getattr(problem, name))})
              for name in SIZES}
    return replace(problem, tasks=(*problem.tasks, task), **splits)


def kept(problem: Problem, *tasks: str) -> Problem:
    """The problem with these tasks only."""
    return replace(problem, tasks=[task for task in problem.tasks if task.name in tasks], **{
        name: TensorSplit(getattr(problem, name).inputs, {t: getattr(problem, name).targets[t] for t in tasks})
        for name in SIZES})


class Items(Dataset):
    """The samples of a split, one by one, each put through `change(i, x, targets)`."""

    def __init__(self, split: TensorSplit, change: Callable | None = None):
        self.split, self.change = split, change

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple:
        item = self.split.inputs[i], {name: y[i] for name, y in self.split.targets.items()}
        return item if self.change is None else self.change(i, *item)


def streamed(problem: Problem, split: str = "", change: Callable | None = None) -> Problem:
    """The problem with datasets for splits; the samples of `split` are put through `change`."""
    return replace(problem, **{name: DatasetSplit(Items(getattr(problem, name), change if name == split else None),
                                                  problem.tasks) for name in SIZES})


# --- what is planted, and what must be said about it -------------------------------------------------

def label_outside(i, x, targets):
    return x, {**targets, "kind": torch.tensor(7)} if i in (3, 77) else targets


def larger(i, x, targets):
    return (x, targets) if i % 5 else (torch.cat([x, x], 1), {t: torch.cat([y, y], -2) for t, y in targets.items()})


def noisy(i, x, targets):
    return x + 0.01 * torch.randn(x.shape), targets


def mirrored(i, x, targets, right=False):
    if torch.rand(()) < 0.5:
        return x, targets
    turned = {name: y.flip(-1) for name, y in targets.items()}
    if right:
        turned["normals"] = turned["normals"] * torch.tensor([-1.0, 1, 1])[:, None, None]
    return x.flip(-1), turned


def copied(problem: Problem, source: str, into: str, samples: int) -> Problem:
    """The first samples of a split stand in another one too, with their targets."""
    old, new = getattr(problem, source), getattr(problem, into)
    new = TensorSplit(new.inputs.index_copy(0, torch.arange(samples), old.inputs[:samples]), {
        name: y.index_copy(0, torch.arange(samples), old.targets[name][:samples]) for name, y in new.targets.items()})
    return replace(problem, **{into: new})


def doubled(problem: Problem, other_labels: bool) -> Problem:
    """Training samples 0 to 9 once more at 20 to 29."""
    def twice(y):
        y[20:30] = y[:10]
        return y
    made = changed(problem, "train", twice, kind=twice, size=twice, big=twice)
    return changed(made, "train", kind=lambda y: y.index_copy(0, torch.tensor([24]), (y[24:25] + 1) % 3)) \
        if other_labels else made


def apart(problem: Problem) -> Problem:
    return changed(changed(problem, "train", kind=setting(slice(0, 130), VOID)), "train", big=setting(
        slice(130, None), VOID))


def rare(y):
    return ((torch.arange(len(y)) % 20) == 0).long()


def downwards(y):
    return (y * 0.02 + torch.arange(16.0)[:, None] / 20).clamp(max=1)


def small_copy(problem: Problem) -> Problem:
    """Test images that are training images, but for a thousandth of noise."""
    near = problem.train.inputs[:12] + 1e-3 * torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    return changed(problem, "test", lambda x: x.index_copy(0, torch.arange(12), near))


SATURATED = Task("map", losses.l1, {"abs_error": metrics.AbsError}, 1, dense=True, kind="regression")
SOFT = data.regression("soft", 3)
ONLY_ACCURACY = data.classification("rare", 2)
NAMES = {"kind": ["Real World", "car", "real_world"]}

# kind: (severity, where: split and task, the problem, samples that must be named)
PLANTS: dict[str, tuple] = {
    "unreadable": ("error", "train", "", lambda: streamed(plain(), "train", label_outside), (3, 77)),
    "sizes": ("error", "test", "", lambda: streamed(kept(dense(), "parts", "depth"), "test", larger), ()),
    "not-finite": ("error", "val", "", lambda: changed(plain(), "val", setting((17, 2), NAN)), (17,)),
    "not-scaled": ("warning", "train", "", lambda: changed(dense(), "train", lambda x: (255 * x).round()), ()),
    "unequal-channels": ("warning", "train", "", lambda: changed(plain(), "train", lambda x: x * torch.tensor(
        [1, 1, 60.0, 1, 1, 1])), ()),
    "constant-channel": ("warning", "train", "", lambda: changed(plain(), "train", setting((..., 4), 0.5)), ()),
    "shifted-inputs": ("warning", "test", "", lambda: changed(plain(), "test", lambda x: 8 * x), ()),
    "augmented": ("error", "test", "", lambda: streamed(plain(), "test", noisy), (0,)),
    "flipped-normals": ("error", "train", "normals", lambda: streamed(kept(dense(), "normals"), "train", mirrored), ()),
    "unseen-class": ("warning", "test", "kind", lambda: changed(
        plain(), "train", kind=lambda y: y.clamp(max=1)), ()),
    "empty-class": ("note", "", "more", lambda: also(plain(), data.classification("more", 5),
                                                     lambda split: split.targets["kind"] + 1), ()),
    "class-names": ("warning", "", "kind", plain, ()),
    "few-labels": ("warning", "test", "size", lambda: changed(plain(), "test", size=setting(slice(5, None), NAN)), ()),
    "void": ("warning", "train", "parts", lambda: changed(dense(), "train", parts=setting((..., slice(3, None)), VOID)),
             ()),
    "never-together": ("note", "train", "kind", lambda: apart(plain()), ()),
    "constant-target": ("error", "train", "big", lambda: changed(plain(), "train", big=lambda y: 2 * y - 1), ()),
    "majority": ("warning", "test", "rare", lambda: also(plain(), ONLY_ACCURACY, lambda s: rare(s.targets["big"])), ()),
    "label-shift": ("warning", "test", "kind", lambda: changed(plain(), "test", kind=lambda y: torch.where(
        torch.arange(len(y)) < 90, 0, y)), ()),
    "flat-maps": ("note", "train", "parts", lambda: changed(dense(), "train", parts=setting(slice(0, 90), 0)), (0,)),
    "unequal-losses": ("warning", "train", "size", lambda: changed(plain(), "train", size=lambda y: 40 * y), ()),
    "same-task": ("warning", "train", "again", lambda: also(plain(), data.classification("again", 3), lambda split: (
        split.targets["kind"] + 1) % 3), ()),
    "determined": ("note", "train", "first", lambda: also(plain(), data.binary("first"), lambda split: (
        split.targets["kind"] == 0).long()), ()),
    "test-in-train": ("error", "test", "", lambda: copied(plain(), "train", "test", 20), (0, 1)),
    "val-in-train": ("warning", "val", "", lambda: copied(plain(), "train", "val", 20), (0, 1)),
    "val-is-test": ("error", "val", "", lambda: replace(plain(), val=plain().test), ()),
    "contradictory": ("warning", "train", "kind", lambda: doubled(plain(), True), (4, 24)),
    "duplicates": ("note", "train", "", lambda: doubled(plain(), False), (0, 1)),
    "look-alike": ("warning", "test", "", lambda: small_copy(dense()), (0, 1)),
    "zero-depth": ("error", "train", "depth", lambda: changed(dense(), "train", depth=lambda y: y.nan_to_num(0)), ()),
    "zero-normals": ("error", "test", "normals", lambda: changed(
        dense(), "test", normals=lambda y: y.nan_to_num(0)), ()),
    "not-unit": ("warning", "train", "normals", lambda: changed(
        dense(), "train", normals=lambda y: 1.1 * y), ()),
    "spike": ("warning", "train", "map", lambda: also(dense(), SATURATED, lambda split: (
        split.targets["depth"].nan_to_num(128.0))), ()),
    "coarse": ("note", "train", "depth", lambda: changed(dense(), "train", depth=lambda y: (y * 20).round() / 20), ()),
    "disparity": ("warning", "train", "depth", lambda: changed(dense(), "train", depth=downwards), ()),
    "distilled": ("note", "train", "soft", lambda: also(
        plain(), SOFT, lambda split: split.inputs[:, :3].softmax(1)), ()),
    "last-batch": ("note", "train", "", lambda: replace(plain(), train=plain().train.first(257)), ()),
}


def found(report, kind: str) -> list:
    return [(finding.severity, finding.split, finding.task) for finding in report.of(kind)]


@pytest.mark.parametrize("kind", PLANTS)
def test_what_is_planted_is_found(kind: str):
    severity, split, task, make, samples = PLANTS[kind]
    report = data.check(make(), names=NAMES if kind == "class-names" else None)
    assert (severity, split, task) in found(report, kind), str(report)
    finding = next(one for one in report.of(kind) if (one.severity, one.split, one.task) == (severity, split, task))
    assert finding.samples[: len(samples)] == samples and len(finding.samples) <= 5
    assert not finding.says[0].islower() and finding.says[-1] in ".?"


def test_every_kind_of_finding_is_planted():
    assert {*PLANTS, "same-images", "transductive", "known"} == set(KINDS)


@pytest.mark.parametrize("make", [plain, dense, partial(streamed, plain()), partial(streamed, dense()), clouds])
def test_clean_data_give_nothing(make: Callable):
    report = data.check(make())
    assert report.findings == [] and "Nothing found." in str(report)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([numbers, images]), st.integers(90, 255), st.sampled_from([0.0, 0.3]),
       st.booleans())
def test_clean_data_by_lot_give_nothing(seed: int, make: Callable, samples: int, void: float, stream: bool):
    sizes = {"train": 2 * samples, "val": samples, "test": samples}
    options = {"void": void} if make is numbers else {}
    splits = {name: make(size, 3 * seed + i, **options) for i, (name, size) in enumerate(sizes.items())}
    tasks = TASKS if make is numbers else MAPS
    made = Problem("clean", tasks, **splits, input_shape=tuple(splits["train"].inputs.shape[1:]),
                   encoder={"name": "mlp", "widths": [4]})
    report = data.check(streamed(made) if stream else made)
    assert report.findings == [], str(report)


# --- variants of a kind --------------------------------------------------------------------------------

def test_a_mirror_that_turns_normals_is_no_fault():
    made = streamed(kept(dense(), "normals"), "train", partial(mirrored, right=True))
    assert data.check(made).findings == []


def test_training_may_be_augmented_and_depth_gets_a_word_about_zooming():
    assert data.check(streamed(plain(), "train", noisy)).of("augmented") == []
    note, = data.check(streamed(dense(), "train", noisy)).of("augmented")
    assert (note.severity, note.task) == ("note", "depth") and "divided by s" in note.says and "disparity" in note.says
    warning, = data.check(streamed(plain(), "val", noisy)).of("augmented")
    assert warning.severity == "warning"


def test_a_disparity_is_known_by_its_name_and_a_depth_in_metres_is_none():
    named = replace(dense(), tasks=[replace(task, name={"depth": "disparity"}.get(task.name, task.name))
                                    for task in MAPS], **{name: TensorSplit(getattr(dense(), name).inputs, {
                                        {"depth": "disparity"}.get(task, task): y
                                        for task, y in getattr(dense(), name).targets.items()}) for name in SIZES})
    note, = data.check(named).of("disparity")
    assert note.severity == "note" and "multiplies a disparity" in note.says
    upwards = changed(dense(), "train", depth=lambda y: y + (15 - torch.arange(16.0))[:, None])
    assert data.check(upwards).of("disparity") == []  # near is at the bottom, as in the world
    metres = changed(dense(), "train", depth=lambda y: y + torch.arange(16.0)[:, None])
    assert [finding.severity for finding in data.check(metres).of("disparity")] == ["note"]


def test_depth_without_any_hole_is_no_sensors():
    filled = replace(dense())
    for split in SIZES:
        filled = changed(filled, split, depth=lambda y: y.nan_to_num(2.5))
    assert found(data.check(filled), "distilled") == [("note", "", "depth")]


def test_minus_one_for_no_is_told_from_a_missing_label():
    finding, = [one for one in data.check(PLANTS["constant-target"][3]()).of("constant-target")]
    assert "map it to 0" in finding.says


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (-3.0, 7.0), (1e-3, 0.0)])
def test_a_task_that_is_another_one_up_to_an_affine_map_is_found(factor: float, offset: float):
    made = also(plain(), data.regression("again"), lambda split: factor * split.targets["size"] + offset)
    assert ("warning", "train", "again") in found(data.check(made), "same-task")
    nearly = also(plain(), data.regression("again"), lambda split: split.targets["size"] + 0.01 * split.inputs[:, :1])
    assert data.check(nearly).of("same-task") == []


def test_maps_are_compared_too():
    made = also(dense(), data.segmentation("again", 3), lambda split: torch.where(
        split.targets["parts"] < 0, VOID, 2 - split.targets["parts"]))
    made = also(made, data.depth("depth_in_feet"), lambda split: split.targets["depth"] * 3.28)
    assert {task for *_, task in found(data.check(made), "same-task")} == {"again", "depth_in_feet"}


def test_a_part_of_the_validation_samples_in_the_test_is_a_warning():
    assert found(data.check(copied(plain(), "test", "val", 10)), "val-is-test") == [("warning", "val", "")]


def test_inputs_that_repeat_by_themselves_are_no_leak():
    coarse = plain()
    for split in SIZES:
        coarse = changed(coarse, split, lambda x: (x > 0).float())
    finding, = data.check(coarse).of("test-in-train")
    assert finding.severity == "warning" and "repeat by themselves" in finding.says


def test_names_of_classes_are_counted_and_those_of_no_task_refused():
    assert [one.severity for one in data.check(plain(), names={"kind": ["a", "b"]}).of("class-names")] == ["error"]
    with pytest.raises(ValueError, match="names has 'size', which is no classification"):
        data.check(plain(), names={"size": ["a"]})


def test_a_last_batch_of_one_is_counted_for_each_budget():
    budgets = {"fast": {"samples": 201, "batch_size": 50}, "full": {"batch_size": 20}}
    note, = data.check(replace(plain(), training=budgets)).of("last-batch")
    assert "Batches of 50 of 201 samples leave" in note.says
    assert data.check(replace(plain(), training={"full": {"batch_size": 26}})).of("last-batch") == []


def test_infinite_targets_are_an_error():
    report = data.check(changed(plain(), "train", size=setting(9, float("inf"))))
    assert [(one.task, one.samples) for one in report.of("not-finite")] == [("size", (9,))]


def test_a_task_without_a_label_in_a_dataset_is_an_error():
    report = data.check(streamed(plain(), "test", lambda i, x, y: (x, {**y, "big": None})))
    assert found(report, "few-labels") == [("error", "test", "big")]


# --- domains --------------------------------------------------------------------------------------------

def test_images_in_two_domains_and_those_that_are_adapted_to_and_judged_by():
    made = clouds()
    there = made.targets["there"]
    same = replace(made, targets={"there": Target(Unlabelled(there.test.inputs), Unlabelled(torch.cat(
        [made.train.inputs[:3], there.val.inputs])), there.test)})
    report = data.check(same)
    assert found(report, "transductive") == [("note", "there/test", "")]
    assert [(one.split, one.samples) for one in report.of("same-images")] == [("there/val", (0, 1, 2))]
    assert set(report.read) == {"train", "val", "test", "there/train", "there/val", "there/test"}


def test_nan_in_a_target_domain_is_found():
    made = clouds()
    there = made.targets["there"]
    bad = there.train.inputs.clone()
    bad[5, 0] = NAN
    report = data.check(replace(made, targets={"there": Target(Unlabelled(bad), there.val, there.test)}))
    assert [(one.split, one.samples) for one in report.of("not-finite")] == [("there/train", (5,))]


# --- reading --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["constant-channel", "unseen-class", "never-together", "same-task", "val-is-test",
                                  "contradictory", "look-alike", "zero-depth", "not-unit", "disparity", "void"])
def test_the_kind_of_split_does_not_matter(kind: str, tmp_path):
    made = PLANTS[kind][3]()
    folders = {name: mapped.convert(getattr(made, name), tmp_path / name, inputs="float32", tasks=made.tasks)
               for name in SIZES}
    assert isinstance(folders["train"], MappedSplit)
    there = data.check(made).findings
    assert data.check(replace(made, **folders)).findings == there == data.check(streamed(made)).findings


def test_own_inputs_a_task_are_read(tmp_path):
    def own(size: int, seed: int) -> TensorSplit:
        one, other = numbers(size, seed), numbers(size // 2, seed + 100)
        return TensorSplit({"kind": one.inputs, "size": other.inputs},
                           {"kind": one.targets["kind"], "size": other.targets["size"]})

    splits = {name: own(size, i) for i, (name, size) in enumerate(SIZES.items())}
    made = Problem("own", TASKS[:2], **splits, input_shape=(6,), encoder={"name": "mlp", "widths": [4]})
    assert data.check(made).findings == []
    inputs = {"kind": splits["test"].inputs["kind"], "size": splits["train"].inputs["size"][:65]}
    leaked = replace(made, test=TensorSplit(inputs, splits["test"].targets))
    assert found(data.check(leaked), "test-in-train") == [("error", "test", "size")]
    assert data.check(leaked, limit=20).read["test"] == (20, 130)


def test_a_limit_takes_samples_from_all_over_and_names_them_by_their_own_numbers():
    made = changed(plain(), "train", setting(259, NAN))
    report = data.check(made, limit=2)
    assert report.read == {"train": (2, 260), "val": (2, 120), "test": (2, 130)}
    assert report.of("not-finite")[0].samples == (259,) and "2 of 260 train" in str(report)
    assert data.check(plain(), limit=10**9).findings == []


def test_what_fails_is_noted_and_reading_goes_on(monkeypatch: pytest.MonkeyPatch):
    def broken(i, x, targets):
        if i in (10, 11, 200):
            raise OSError("cut off")
        return x, {**targets, "size": torch.full((1,), NAN)} if i == 201 else targets

    report = data.check(streamed(changed(plain(), "train", setting(250, NAN)), "train", broken))
    finding, = report.of("unreadable")
    assert finding.samples == (10, 11, 200) and "sample 10 (OSError: cut off)" in finding.says
    assert report.of("not-finite")[0].samples == (250,)  # behind what failed
    assert report.labelled["train"]["size"] == pytest.approx(256 / 257)

    monkeypatch.setattr(reading, "GIVEN_UP", 5)
    report = data.check(streamed(plain(), "train", lambda i, x, y: 1 / 0))
    finding, = report.of("unreadable")
    assert finding.samples == (0, 1, 2, 3, 4) and finding.says.startswith("At least 5 of 260 samples cannot be read")


def test_each_sample_is_made_once_and_no_batch_is_large():
    seen = []
    made = plain()
    for split in SIZES:
        made = replace(made, **{split: DatasetSplit(Items(getattr(plain(), split), lambda i, x, y: (
            seen.append(i), (x, y))[1]), TASKS)})
    data.check(made)
    assert len(seen) <= sum(SIZES.values()) + 3 * 2 * 16  # and a few twice more, to see whether they change
    part = reading.Part("train", TensorSplit(torch.zeros(40, 3, 300, 300), {"kind": torch.zeros(40).long()}), TASKS[:1],
                        (3, 300, 300))
    assert max(batch.inputs.numel() for _, batch in part.batches()) <= reading.NUMBERS


def test_one_pass_gives_the_moments_of_all(tmp_path):
    x = torch.randn(500, 3, 7, generator=torch.Generator().manual_seed(1)) * 3 + torch.tensor([0, 1e3, -5])[:, None]
    for void in (0.0, 0.2):
        part = x.masked_fill(torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < void, NAN)
        moments = Moments(3)
        for batch in part.split(64):
            moments.update(batch)
        values = part.double().movedim(1, 0).flatten(1).numpy()
        np.testing.assert_allclose(moments.mean, np.nanmean(values, 1), rtol=1e-6)
        np.testing.assert_allclose(moments.deviation, np.nanstd(values, 1), rtol=1e-5)
        assert moments.number.tolist() == np.isfinite(values).sum(1).tolist()
        np.testing.assert_array_equal(moments.least, np.nanmin(values, 1))
        assert moments.whole[1] == pytest.approx(np.nanstd(values), rel=1e-6)


def test_correlations_are_those_of_pairs_that_both_are_known():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 3, generator=generator) + torch.tensor([100.0, 0, 0])
    x[:, 1] += x[:, 0]
    x = x.masked_fill(torch.rand(x.shape, generator=generator) < 0.2, NAN)
    together = Together()
    for part in x.split(70):
        together.add_numbers(part)
    both = torch.isfinite(x[:, 0]) & torch.isfinite(x[:, 1])
    assert together.correlations()[0, 1].item() == pytest.approx(np.corrcoef(x[both, 0], x[both, 1])[0, 1], abs=1e-6)


# --- reports, the command, and what is refused -----------------------------------------------------------

def test_a_report_reads_and_becomes_a_table():
    made = changed(copied(plain(), "train", "test", 20), "train", kind=setting(slice(0, 100), VOID))
    report = data.check(also(made, ONLY_ACCURACY, lambda split: rare(split.targets["big"])))
    said = str(report)
    assert "samples read: 260 train, 120 val, 130 test" in said and "61.5%" in said
    assert said.index("error   test-in-train (test, samples 0, 1, 2, 3, 4)") < said.index("warning")
    assert "1 error, " in said.splitlines()[-1] and all(len(line) <= 100 for line in said.splitlines())
    frame = report.to_frame()
    assert list(frame["severity"]) == sorted(frame["severity"], key=["error", "warning", "note"].index)
    assert set(frame.columns) == {"severity", "kind", "split", "task", "samples", "says"}
    with pytest.raises(ValueError, match="There is no kind 'leak'"):
        report.of("leak")


@pytest.mark.parametrize(("given", "error", "message"), [
    (5, TypeError, "int is no problem"),
    (data.describe("rooms"), ValueError, "has no data: train, val, test is None"),
])
def test_what_is_no_problem_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        data.check(given)


@pytest.mark.parametrize("limit", [0, -1, 2.5, True])
def test_a_limit_is_a_number_of_samples(limit):
    with pytest.raises(ValueError, match="a number of samples of each split"):
        data.check(plain(), limit=limit)


OWN = """
import torch
from mtlcourse import data
from mtlcourse.tasks import Problem, TensorSplit

def clean(leak=False):
    def split(samples, seed):
        x = torch.randn(samples, 3, generator=torch.Generator().manual_seed(seed))
        return TensorSplit(x, {"sign": (x[:, 0] > 0).long()})
    return Problem("mine", [data.classification("sign", 2)], split(150, 0), split(80, 1), split(90, 0 if leak else 2),
                   (3,), {"name": "mlp"})
"""


def test_the_command_prints_and_its_exit_status_tells(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_data.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    clean = CliRunner().invoke(cli.main, ["data", "check", "own_data:clean"])
    assert clean.exit_code == 0 and "Nothing found." in clean.stdout
    leak = CliRunner().invoke(cli.main, ["data", "check", "own_data:clean(leak=True)", "--csv", "found.csv", "--limit",
                                         "85", "--no-progress"])
    assert leak.exit_code == 1 and "85 of 150 train" in leak.stdout and "1 error" in leak.stdout
    assert "test-in-train" in (tmp_path / "found.csv").read_text()


@pytest.mark.parametrize(("name", "message"), [
    ("room", "Known: "), ("rooms(scenes=3)", "option of problem 'rooms'"), ("sarcos", "There is no sarcos in data"),
])
def test_the_command_says_what_is_wrong_in_a_sentence(name: str, message: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.main, ["data", "check", name])
    assert done.exit_code == 1 and message in done.stderr and isinstance(done.exception, SystemExit)


# --- the course's own problems, as they are --------------------------------------------------------------

BY_DESIGN = {  # (severity, kind, task), "" for several tasks
    "digits_mtl": {("note", "majority")},
    "relatedness": {("warning", "unequal-losses")},
    "rooms": {("note", "distilled")},
}


@pytest.mark.parametrize("name", OFFLINE)
def test_the_courses_problems_are_as_they_are(name: str):
    options = {"multidigits": {"train": 2_000, "val": 500, "test": 500}, "rooms": {"train": 60, "val": 30, "test": 40}}
    report = data.check(data.load(name, **options.get(name, {})))
    assert {(one.severity, one.kind) for one in report.findings} == BY_DESIGN.get(name, set())


def test_the_courses_domains_are_clean():
    assert data.check(data.domains("digit_domains", source="mnist", target=["optdigits", "mnist-photographs"])
                      ).findings == []
