"""`digits_mtl` and `cifar_mtl` against the images that they are made of; the converter on files as published."""

import re
import shutil

import numpy as np
import pytest
import torch
from skimage.io import imsave

from mtlcourse import data, methods
from mtlcourse.data import sets
from mtlcourse.data.multidigits import source_digits
from mtlcourse.data.one_against_all import CIFAR, DIGITS
from mtlcourse.data.splits import mixed

from .scripts import ran

TRAIN, TEST = 400, 120  # images, in the tiny sets
SMALL = {"train": 120, "val": 100, "test": 60}


def pictures(seed):
    """Images and labels of all classes, not equally many of each, in an order by lot."""
    random = np.random.default_rng(seed)
    parts = {}
    for part, number in (("train", TRAIN), ("test", TEST)):
        labels = np.concatenate([np.arange(10), random.integers(0, 10, number - 10)]).astype(np.uint8)
        parts[part] = random.integers(0, 256, (number, 3, 32, 32), dtype=np.uint8), random.permutation(labels)
    return parts


def write_binary(folder, parts):
    """As published: a byte of label, then the red, the green and the blue plane, row by row; five files and one."""
    folder.mkdir(parents=True)
    images, labels = parts["train"]
    pieces = {f"data_batch_{i + 1}": (images[i::5], labels[i::5]) for i in range(5)} | {"test_batch": parts["test"]}
    for name, (some, of_them) in pieces.items():
        with open(folder / f"{name}.bin", "wb") as file:
            for image, label in zip(some, of_them, strict=True):
                file.write(bytes([label]) + image[0].tobytes() + image[1].tobytes() + image[2].tobytes())


def write_folders(folder, parts):
    for part, (images, labels) in parts.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / part / CIFAR[label] / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            imsave(path, image.transpose(1, 2, 0), check_contrast=False)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A root with the converted set, and what is in it."""
    folder, parts = tmp_path_factory.mktemp("cifar"), pictures(0)
    write_binary(folder / "source" / "cifar-10-batches-bin", parts)
    said = ran("cifar_mtl", "--source", folder / "source", "--root", folder / "root")
    assert "400 train, 120 test" in said
    return str(folder / "root"), parts


def arrays_of(root):
    """`{part: (images, labels)}` of a converted set."""
    found = {}
    for part, split in sets.read("cifar_mtl", root).items():
        batch = next(split.batches(len(split)))
        answers = torch.stack([batch.targets[name] for name in CIFAR])
        assert (answers.sum(0) == 1).all()
        found[part] = (batch.inputs * 255).round().to(torch.uint8).numpy(), answers.argmax(0).numpy()
    return found


def rows_of(split, images, task=None):
    """Where in `images` each picture of the split, or of one task, comes from."""
    known = {image.tobytes(): row for row, image in enumerate(images)}
    assert len(known) == len(images)
    inputs = split.inputs if task is None else split.inputs[task]
    assert inputs.dtype == torch.float32 and 0 <= inputs.min() and inputs.max() <= 1
    return [known[pixels.tobytes()] for pixels in (inputs * 255).round().to(torch.uint8).numpy()]


# --- the order ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("counts", [[50, 50, 50], [10, 40, 200], [1, 7, 300]])
def test_every_part_of_the_order_has_each_class_in_its_share(counts):
    labels = np.repeat(np.arange(3), counts)
    order = mixed(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(len(labels)))
    for start in range(0, len(labels), 7):
        for end in range(start, len(labels), 11):
            expected = np.array(counts) * (end - start) / len(labels)
            assert np.abs(np.bincount(labels[order[start:end]], minlength=3) - expected).max() < 4
    assert (order != mixed(labels, np.random.default_rng(1))).any()


# --- digits ------------------------------------------------------------------------------------------------

def test_every_digit_is_used_once_and_answered_right():
    problem, (images, labels) = data.load("digits_mtl"), source_digits()
    assert problem.task_names == list(DIGITS) and problem.input_shape == (1, 28, 28)
    _, repeated = np.unique(images, axis=0, return_counts=True)
    assert (repeated == 1).all()
    rows = {split: rows_of(getattr(problem, split), images) for split in ("train", "val", "test")}
    assert [len(found) for found in rows.values()] == [2_000, 2_000, 1_000]
    assert sorted(sum(rows.values(), [])) == list(range(5_000))
    for split, found in rows.items():
        targets = torch.stack(list(getattr(problem, split).targets.values()))
        assert torch.equal(targets.argmax(0), torch.from_numpy(labels[found]))
        assert (targets.sum(0) == 1).all() and (targets.sum(1) == len(found) // 10).all()
    assert rows["train"][:200] != sorted(rows["train"][:200])


def test_fewer_for_training_leave_the_others_alone():
    whole, fewer = data.load("digits_mtl"), data.load("digits_mtl", train=300)
    assert torch.equal(whole.test.inputs, fewer.test.inputs) and torch.equal(whole.val.inputs, fewer.val.inputs)
    assert torch.equal(whole.train.inputs[:300], fewer.train.inputs)


def test_more_digits_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"2001 \+ 2000 \+ 1000 digits are 5,001, and there are 5,000: ask for fewer"):
        data.describe("digits_mtl", train=2_001)


@pytest.mark.parametrize("name", ["digits_mtl", "cifar_mtl"])
def test_measures_are_those_of_the_table(name):
    for task in data.describe(name).tasks:
        assert list(task.metrics) == ["accuracy", "auc", "precision", "recall"] and task.out_channels == 1


# --- CIFAR-10 ----------------------------------------------------------------------------------------------

def test_binary_files_come_back_exactly(converted):
    root, parts = converted
    found = arrays_of(root)
    for part, (images, labels) in parts.items():
        order = np.concatenate([np.arange(len(labels))[i::5] for i in range(5)]) if part == "train" else slice(None)
        np.testing.assert_array_equal(found[part][0], images[order])
        np.testing.assert_array_equal(found[part][1], labels[order])


def test_folders_of_images_come_back_exactly(tmp_path):
    parts = pictures(1)
    write_folders(tmp_path / "images", parts)
    ran("cifar_mtl", "--source", tmp_path / "images", "--root", tmp_path / "root")
    found = arrays_of(tmp_path / "root")
    for part, (images, labels) in parts.items():
        order = np.argsort(labels, kind="stable")
        np.testing.assert_array_equal(found[part][0], images[order])
        np.testing.assert_array_equal(found[part][1], labels[order])


@pytest.mark.parametrize("inputs", ["shared", "own"])
def test_tasks_ask_about_their_class(converted, inputs):
    root, parts = converted
    sizes = {"train": 20, "val": 15, "test": 12} if inputs == "own" else SMALL
    problem = data.load("cifar_mtl", root=root, inputs=inputs, **sizes)
    assert problem.task_names == list(CIFAR) and problem.input_shape == (3, 32, 32)
    used = {"train": [], "test": []}
    for split, size in sizes.items():
        images, labels = parts["test" if split == "test" else "train"]
        part = getattr(problem, split)
        assert part.shared == (inputs == "shared")
        for label, task in enumerate(CIFAR):
            rows = rows_of(part, images, None if part.shared else task)
            assert len(rows) == size
            assert part.targets[task].tolist() == (labels[rows] == label).tolist()
            if label == 0 or not part.shared:
                used["test" if split == "test" else "train"] += rows
    assert all(len(set(rows)) == len(rows) for rows in used.values())  # no image twice
    assert inputs == "shared" or len(used["test"]) == TEST  # ten times a tenth


def test_one_option_leaves_the_others_images_alone(converted):
    root, _ = converted
    whole, fewer = (data.load("cifar_mtl", root=root, **SMALL | {"train": size}) for size in (120, 30))
    assert torch.equal(whole.test.inputs, fewer.test.inputs) and torch.equal(whole.val.inputs, fewer.val.inputs)
    assert torch.equal(whole.train.inputs[:30], fewer.train.inputs)
    other = data.load("cifar_mtl", root=root, seed=1, **SMALL)
    assert not torch.equal(whole.test.inputs, other.test.inputs)


def test_it_trains_and_is_described_without_images(converted):
    root, _ = converted
    described = data.describe("cifar_mtl", root=root, **SMALL)
    loaded = data.load("cifar_mtl", root=root, **SMALL)
    assert (described.encoder, described.options) == (loaded.encoder, loaded.options)
    run = methods.run("hps", loaded, budget="smoke", progress=False)
    assert set(run.metrics) == set(CIFAR) and {"auc", "recall"} <= set(run.metrics["ship"])
    assert data.describe("cifar_mtl", net="vgg").encoder == {"name": "vgg", "depth": 16}


@pytest.mark.parametrize("options, words", [
    ({"inputs": "mine"}, "Unknown inputs 'mine'. Known: "),
    ({"net": "resnet"}, "Unknown net 'resnet'. Known: "),
    ({"train": 0}, "train=0: .*at least 1"),
])
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        data.describe("cifar_mtl", **options)


@pytest.mark.parametrize("options, words", [
    ({"train": 301}, r"301 \+ 100 images for training and validation are 401, and there are 400"),
    ({"test": 121}, "121 images for testing are 121, and there are 120"),
    ({"inputs": "own", "train": 31, "val": 10}, r"10 times 31 \+ 10 images .* are 410, and there are 400"),
])
def test_more_images_than_there_are_are_refused(converted, options, words):
    with pytest.raises(ValueError, match=words):
        data.load("cifar_mtl", root=converted[0], **SMALL | options)


def test_damaged_sets_are_told(converted, tmp_path):
    shutil.copytree(converted[0], tmp_path / "root")
    path = tmp_path / "root" / "cifar_mtl" / "test" / "inputs.npy"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    said = ran("cifar_mtl", "--root", tmp_path / "root", fails=True)
    assert "does not hold what was written there" in said
    path.write_bytes(content[:-9])
    with pytest.raises(ValueError, match="inputs.npy is cut off"):
        data.load("cifar_mtl", root=str(tmp_path / "root"), **SMALL)


@pytest.mark.parametrize("layout, spoilt, words", [
    ("binary", "nothing there", "has no data_batch_1.bin, nor has a folder in it"),
    ("binary", "data_batch_3.bin", "There is no .*data_batch_3.bin"),
    ("binary", "test_batch.bin", "There is no .*test_batch.bin"),
    ("binary", "cut", "data_batch_2.bin has .* bytes, no whole number of records of 3,073"),
    ("binary", "empty", "data_batch_2.bin has 0 bytes"),
    ("binary", "label", "test_batch.bin has the label 77, and there are 10 classes"),
    ("binary", "a class less", "no image of the test part is labelled frog"),
    ("binary", "another set", "no whole number of records of 3,073"),
    ("images", "test/frog", "frog is missing, or without a .jpg"),
    ("images", "grey", "grey.png is uint8 of 32 x 32, not an image"),
    ("images", "large", "large.png is uint8 of 64 x 64 x 3, not an image"),
])
def test_sources_that_will_not_do_are_told_and_write_nothing(tmp_path, layout, spoilt, words):
    source, grey = tmp_path / "source", np.zeros((32, 32), dtype=np.uint8)
    (write_binary if layout == "binary" else write_folders)(source, pictures(2))
    if spoilt == "nothing there":
        for path in source.iterdir():
            path.unlink()
    elif spoilt in ("cut", "empty"):
        path = source / "data_batch_2.bin"
        path.write_bytes(path.read_bytes()[:-100] if spoilt == "cut" else b"")
    elif spoilt == "another set":
        (source / "test_batch.bin").write_bytes(bytes(3_074 * 10))
    elif spoilt == "a class less":
        table = np.fromfile(source / "test_batch.bin", np.uint8).reshape(-1, 3_073)
        table[table[:, 0] != 6].tofile(source / "test_batch.bin")
    elif spoilt == "label":
        path = source / "test_batch.bin"
        path.write_bytes(path.read_bytes() + bytes([77]) * 3_073)
    elif spoilt == "grey":
        imsave(source / "train" / "cat" / "grey.png", grey, check_contrast=False)
    elif spoilt == "large":
        imsave(source / "train" / "cat" / "large.png", np.zeros((64, 64, 3), dtype=np.uint8), check_contrast=False)
    elif layout == "images":
        for path in (source / spoilt).iterdir():
            path.unlink()
    else:
        (source / spoilt).unlink()
    said = ran("cifar_mtl", "--source", source, "--root", tmp_path / "root", fails=True)
    assert re.search(words, said), said
    assert not (tmp_path / "root").exists()
