"""COCO from a tiny set in its published layout."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from mtlcourse import data
from mtlcourse.data import fetching, sets
from mtlcourse.data.coco import KINDS, task_name

from .scripts import ran, script


@pytest.fixture(scope="module")
def source(root):
    return Path(root("coco")) / "samples" / "coco"


def shown(source, part):
    """`{number: kinds}` as the list says, counted apart from the script."""
    known = json.loads((source / "annotations" / f"instances_{part}.json").read_text())
    names = {category["id"]: category["name"] for category in known["categories"]}
    return {image["id"]: {names[box["category_id"]] for box in known["annotations"] if box["image_id"] == image["id"]}
            for image in known["images"]}


def test_images_with_two_of_the_kinds_are_taken_and_kinds_go_by_name(source, root):
    taken = [kinds for part in ("train2017", "val2017") for kinds in shown(source, part).values()
             if len(kinds & set(KINDS)) >= 2]
    whole = sets.read("coco", root("coco"))["all"]
    batch = next(whole.batches(len(whole)))
    assert len(taken) == len(whole) == 56 and any("zebra" in kinds for part in ("train2017", "val2017")
                                                  for kinds in shown(source, part).values())
    for i, kinds in enumerate(taken):
        assert {kind for kind in KINDS if batch.targets[task_name(kind)][i]} == kinds & set(KINDS)


def test_numbers_of_categories_have_gaps(source):
    numbers = script("coco").NUMBERS
    assert set(KINDS) < set(numbers) and sorted(numbers.values()) != list(range(1, len(numbers) + 1))
    assert len(KINDS) == len(set(KINDS)) == 19 and max(numbers.values()) > 19


def test_halves_are_by_seed(root):
    first, again, other = (data.load("coco", root=root("coco"), seed=seed, holdout=0.2) for seed in (0, 0, 1))
    rows = [[split._index.inputs.tolist() for split in (p.train, p.val, p.test)] for p in (first, again, other)]
    assert rows[0] == rows[1] != rows[2] and sorted(sum(rows[0], [])) == list(range(56))
    assert len(rows[0][2]) == 28 and len(rows[0][1]) == round(0.2 * 28)
    whole = data.load("coco", root=root("coco"), holdout=0)
    assert len(whole.train) == 28 and whole.val is whole.test
    assert first.task_names[:2] == ["person", "cat"] and "dining_table" in first.task_names
    assert all(list(task.metrics) == ["accuracy", "auc", "precision", "recall"] for task in first.tasks)


def test_one_image_is_grey(source, root):
    whole = sets.read("coco", root("coco"))["all"]
    image = next(whole.subset([1]).batches(1)).inputs[0]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


@pytest.mark.parametrize(("harm", "message"), [
    (lambda s: (s / "train2017" / "000000000003.jpg").unlink(), "000000000003.jpg is missing, one of 1"),
    (lambda s: (s / "annotations" / "instances_val2017.json").write_text('{"images": ['), "cut off, or no list"),
    (lambda s: (s / "annotations" / "instances_val2017.json").write_text("[]"), "cut off, or no list of boxes"),
    (lambda s: (s / "annotations" / "instances_val2017.json").write_text(
        '{"images": [], "annotations": [], "categories": []}'), "has no category 'person': it is another list"),
    (lambda s: shutil.rmtree(s / "val2017"), "has no val2017, nor has a folder in it"),
    (lambda s: (s / "train2017" / "000000000003.jpg").write_bytes(b"\xff\xd8\xff"), "000000000003.jpg cannot be read"),
])
def test_damaged_sources_are_one_sentence(source, tmp_path, harm, message):
    shutil.copytree(source, tmp_path / "set")
    harm(tmp_path / "set")
    said = ran("coco", "--root", tmp_path / "to", "--source", tmp_path / "set", fails=True)
    assert re.search(message, said) and "Traceback" not in said and len(said.splitlines()) == 3
    assert not (tmp_path / "to" / "coco" / "set.json").exists()


def test_three_archives_are_opened(source, tmp_path, monkeypatch):
    coco = script("coco")
    (tmp_path / "served").mkdir()
    for name, inside in {"annotations_trainval2017": "annotations", "val2017": "val2017",
                         "train2017": "train2017"}.items():
        shutil.make_archive(str(tmp_path / "served" / name), "zip", source, inside)
    said = ran("coco", "--root", tmp_path / "to", "--source", tmp_path / "served", fails=True)
    assert "what came is not the published file" in said  # checked by the published sums
    folder = tmp_path / "unpacked"
    for archive in (tmp_path / "served").iterdir():
        fetching.unpack(archive, folder / archive.name, 10**7)
    assert len(coco.parts(folder, side=8)["all"].samples) == 56
