"""PASCAL-Context from a tiny set in its published layout, and its known defects."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat
from skimage.io import imread, imsave

from mtlcourse import data
from mtlcourse.void import VOID

from .scripts import ran, script

SIZE = (32, 32)


@pytest.fixture(scope="module")
def source(root):
    return Path(root("pascal_context")) / "samples" / "pascal_context"


@pytest.fixture(scope="module")
def test(root):
    """All images of the test split, in their order."""
    return next(data.load("pascal_context", root=root("pascal_context")).test.batches(6))


def names(source, part="val"):
    return (source / "ImageSets" / "Context" / f"{part}.txt").read_text().split()


def nearest(pixels):
    """The pixel at the middle of each of 32 x 32."""
    rows, columns = (((np.arange(32) + 0.5) * (side / 32)).astype(int) for side in pixels.shape[:2])
    return pixels[rows[:, None], columns]


def test_both_folders_of_classes_are_read_and_255_is_void(source, test):
    for i, name in enumerate(names(source)):
        paths = [source / "semseg" / folder / f"{name}.png" for folder in ("VOC12", "pascal-context")]
        assert sum(path.is_file() for path in paths) == 1
        pixels = nearest(imread(next(path for path in paths if path.is_file()))).astype(int)
        assert np.array_equal(test.targets["segmentation"][i].numpy(), np.where(pixels == 255, VOID, pixels))
    assert (test.targets["segmentation"] == VOID).any()
    assert {imread(source / "JPEGImages" / f"{name}.jpg").shape for name in names(source)} == {(30, 40, 3), (40, 30, 3)}


def test_where_both_folders_have_classes_the_first_counts(source, tmp_path):
    pascal = script("pascal_context")
    shutil.copytree(source, tmp_path / "set")
    name = names(source)[1]
    assert not (source / "semseg" / "VOC12" / f"{name}.png").exists()
    imsave(tmp_path / "set" / "semseg" / "VOC12" / f"{name}.png", np.full((40, 30), 7, np.uint8), check_contrast=False)
    assert (pascal.Scenes(tmp_path / "set", [name], SIZE)[0][1]["segmentation"] == 7).all()


def test_parts_of_persons_are_six_classes_and_an_image_without_has_none(source, test):
    pascal = script("pascal_context")
    assert len(pascal.CLASS_OF) == 24 and sorted(set(pascal.CLASS_OF.values())) == [1, 2, 3, 4, 5, 6]
    for i, name in enumerate(names(source)):
        objects = loadmat(source / "human_parts" / f"{name}.mat")["anno"][0, 0]["objects"][0]  # as it lies in the file
        expected = None
        for thing in objects:
            if thing["class_ind"].item() == 15 and thing["parts"].size:
                expected = np.zeros(thing["mask"].shape, int)
                for part in thing["parts"].flatten():
                    expected[part["mask"] == 1] = pascal.CLASS_OF[part["part_name"].item()]
        found = test.targets["human_parts"][i].numpy()
        assert np.array_equal(found, np.full((32, 32), VOID) if expected is None else nearest(expected))
        assert (expected is None) == (i == 5)
    assert test.counts["human_parts"] == 5


def test_what_no_person_shows_is_in_no_measure(root, test):
    task = next(t for t in data.describe("pascal_context").tasks if t.name == "human_parts")
    target = test.targets["human_parts"]
    guess = torch.rand(6, 7, 32, 32, generator=torch.Generator().manual_seed(0))
    other = torch.where((target != VOID)[:, None], guess, 99.0)
    assert torch.equal(task.loss(guess, target), task.loss(other, target))
    for metric in task.metrics.values():
        assert torch.equal(metric().statistics(guess, target), metric().statistics(other, target))


def test_normals_hold_where_nyu_has_the_class_and_keep_their_length(source, test):
    pascal = script("pascal_context")
    for i, name in enumerate(names(source)):
        pixels = nearest(imread(source / "normals_distill" / f"{name}.png")).astype(np.float32)
        normals = test.targets["normals"][i].permute(1, 2, 0).numpy()
        there = ~np.isnan(normals).any(2)
        assert np.allclose(normals[there], (2 * pixels / 255 - 1)[there], rtol=1e-3, atol=1e-6)
        assert 0.2 < there.mean() < 0.8 and (np.isnan(normals).all(2) | there).all()
    direct = pascal.normals(source / "normals_distill" / f"{name}.png",
                            source / "pascal-context" / "trainval" / f"{name}.mat")
    classes = loadmat(source / "pascal-context" / "trainval" / f"{name}.mat")["LabelMap"]
    rows, columns = (((np.arange(20) + 0.5) * (side / 20)).astype(int) for side in classes.shape)
    assert classes.max() > 255  # more than eight bits
    assert np.array_equal(~direct.isnan().any(0).numpy(), np.isin(classes[rows[:, None], columns], pascal.WITH_NORMALS))


def test_the_classes_with_normals():
    """Wall, floor, ceiling, table, person and the screen that is called otherwise there; no sky, tree, road or bird."""
    there = script("pascal_context").WITH_NORMALS
    assert len(set(there)) == len(there) and list(there) == sorted(there) and there[-1] < 459
    assert {440, 158, 68, 397, 284, 427} < set(there) and not {360, 420, 324, 25, 431} & set(there)


def test_saliency_begins_above_the_middle(source, test, tmp_path):
    for i, name in enumerate(names(source)):
        pixels = nearest(imread(source / "sal_distill" / f"{name}.png"))
        assert np.array_equal(test.targets["saliency"][i].numpy(), pixels > 127)


def test_two_persons_one_of_whom_has_no_parts(tmp_path):
    """One structure alone, several, and none: MATLAB stores each of them otherwise."""
    pascal = script("pascal_context")
    fields, of_part = (np.dtype([(name, object) for name in names])
                       for names in (("class", "class_ind", "mask", "parts"), ("part_name", "mask")))
    head = np.array([[1, 0], [0, 0]], np.uint8)
    legs = np.array([[0, 0], [1, 1]], np.uint8)
    one = np.array([("person", 15, head, np.array([("head", head)], of_part))], fields)
    both = np.array([("person", 15, head, np.array([("nose", head), ("lfoot", legs)], of_part)),
                     ("person", 15, legs, np.array([], of_part))], fields)
    none = np.array([("person", 15, head, np.array([], of_part))], fields)
    strange = np.array([("person", 15, head, np.array([("tail", head)], of_part))], fields)
    found = []
    for objects in (one, both, none, strange):
        savemat(tmp_path / "x.mat", {"anno": {"imname": "x", "objects": objects}})
        if objects is strange:
            with pytest.raises(ValueError, match="has a part 'tail' of a person"):
                pascal.human_parts(tmp_path / "x.mat")
        else:
            found.append(pascal.human_parts(tmp_path / "x.mat"))
    assert found[0].tolist() == [[1, 0], [0, 0]] and found[1].tolist() == [[1, 0], [6, 6]] and found[2] is None


@pytest.mark.parametrize(("harm", "message"), [
    (lambda s, name: (s / "human_parts" / f"{name}.mat").unlink(), ".mat is missing or empty, one of 1"),
    (lambda s, name: shutil.rmtree(s / "semseg"), ".png is missing or empty, one of 12"),
    (lambda s, name: (s / "ImageSets" / "Context" / "val.txt").unlink(), "no .*val.txt, which names the images"),
    (lambda s, name: (s / "ImageSets" / "Context" / "train.txt").write_text("\n"), "train.txt is missing or empty"),
    (lambda s, name: (s / "human_parts" / f"{name}.mat").write_bytes(b"half"), "could not give sample 3 .*cut off"),
    (lambda s, name: savemat(s / "pascal-context" / "trainval" / f"{name}.mat", {"other": 1}), "another file"),
    (lambda s, name: imsave(s / "sal_distill" / f"{name}.png", np.zeros((9, 9), np.uint16), check_contrast=False),
     "is uint16 of 9 x 9, and must be uint8 of 2"),
    (lambda s, name: (s / "JPEGImages" / f"{name}.jpg").write_bytes(b"\xff\xd8\xff"), "jpg cannot be read"),
    (lambda s, name: shutil.rmtree(s / "JPEGImages"), "has no JPEGImages, nor has a folder in it"),
])
def test_damaged_sources_are_one_sentence(source, tmp_path, harm, message):
    shutil.copytree(source, tmp_path / "set")
    harm(tmp_path / "set", names(source, "train")[3])
    said = ran("pascal_context", "--root", tmp_path / "to", "--source", tmp_path / "set", fails=True)
    assert re.search(message, said) and "Traceback" not in said and len(said.splitlines()) == 3
    assert not (tmp_path / "to" / "pascal_context" / "set.json").exists()
