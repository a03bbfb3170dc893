"""The published collections, read from tiny folders in exactly their layouts."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.io import imsave

from mtlcourse import data
from mtlcourse.data import sets
from mtlcourse.data.image_folders import COLLECTIONS, published, read_image
from mtlcourse.data.splits import generator, mixed

from .scripts import ran, script

LAYOUTS = {"office31": ("amazon", "amazon/images", "webcam", "webcam/images", ".jpg"),
           "office_home": ("Art", "Art", "Real_World", "Real World", ".jpg"),
           "imageclef": ("caltech", "c", "imagenet", "i", ".jpg"),
           "visda2017": ("synthetic", "train", "real", "validation", ".png")}


def write(folder: Path, classes: int, suffix: str, images: int = 3, side: int = 12, brightness: int = 60) -> None:
    for label in range(classes):
        own = folder / f"class_{label:02d}"
        own.mkdir(parents=True)
        for number in range(images):
            pixels = np.full((side, side + number, 3), brightness + label, np.uint8)
            imsave(own / f"frame_{number:04d}{suffix}", pixels, check_contrast=False)


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_layouts(collection, tmp_path):
    source, folder, target, other, suffix = LAYOUTS[collection]
    classes = COLLECTIONS[collection][0]
    write(tmp_path / folder, classes, suffix)
    write(tmp_path / other, classes, suffix, images=2, brightness=120)
    options = {"collection": collection, "source": source, "target": target, "root": str(tmp_path), "side": 8}
    problem = data.domains("image_domains", **options)
    assert [len(problem.train), len(problem.val), len(problem.test)] == pytest.approx(
        [2.4 * classes, 0.3 * classes, 0.3 * classes], abs=1)
    assert len(problem.targets[target].train) == len(problem.targets[target].test) == 2 * classes
    assert problem.input_shape == (3, 8, 8) and problem.task.out_channels == classes
    labels, images = problem.train.targets[source], problem.train.inputs
    assert set(labels.tolist()) == set(range(classes))
    for row in range(0, len(labels), 7):  # the label is the place of its folder, and the image that folder's
        assert images[row].mean().item() * 255 == pytest.approx(60 + labels[row].item(), abs=2)
    sealed = problem.targets[target].test
    assert sealed.inputs[0].mean().item() * 255 == pytest.approx(120 + sealed.targets[target][0].item(), abs=2)
    few = data.domains("image_domains", **{**options, "source": target, "target": source}, most=2 * classes)
    assert len(few.targets[source].train) == 2 * classes
    assert set(few.targets[source].test.targets[source].tolist()) == set(range(classes))  # of all classes alike
    described = data.describe("image_domains", **options)
    assert (described.encoder, described.options) == (problem.encoder, problem.options)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no office31 in .*run `python data_scripts/office31.py --root "):
        data.domains("image_domains", root=str(tmp_path))
    write(tmp_path / "webcam" / "images", 31, ".jpg", images=1)
    with pytest.raises(FileNotFoundError, match="no folder .*amazon/images with the images of amazon. Get office31"):
        data.domains("image_domains", root=str(tmp_path))
    write(tmp_path / "amazon", 30, ".jpg", images=1)
    with pytest.raises(ValueError, match="office31 has 31 classes, and amazon in .* has 30 folders"):
        data.domains("image_domains", root=str(tmp_path))
    for collection, domain in (("office32", "amazon"), ("office31", "amazone")):
        with pytest.raises(ValueError, match="Unknown"):
            data.describe("image_domains", collection=collection, source=domain)


def test_other_classes_are_named(tmp_path):
    write(tmp_path / "train", 12, ".png", images=2)
    write(tmp_path / "validation", 12, ".png", images=2)
    (tmp_path / "validation" / "class_03").rename(tmp_path / "validation" / "bicycle")
    with pytest.raises(ValueError, match="real and synthetic have other classes: .*bicycle, class_03"):
        data.domains("image_domains", collection="visda2017", source="synthetic", target="real", root=str(tmp_path))


def test_images_of_other_kinds(tmp_path):
    imsave(tmp_path / "grey.png", np.full((6, 6), 51, np.uint8), check_contrast=False)
    imsave(tmp_path / "alpha.png", np.full((6, 6, 4), 51, np.uint8), check_contrast=False)
    for name in ("grey", "alpha"):
        assert read_image(tmp_path / f"{name}.png", 4).shape == (3, 4, 4)
        assert read_image(tmp_path / f"{name}.png", 4).mean().item() == pytest.approx(0.2)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"cut.jpg cannot be read"):
        read_image(tmp_path / "cut.jpg", 4)


@pytest.mark.parametrize("content", [b"", b"half", b"<html>no</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0"])
def test_what_is_no_image_is_one_line(tmp_path, content):
    (tmp_path / "other.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"other.jpg cannot be read") as caught:
        read_image(tmp_path / "other.jpg", 4)
    assert "\n" not in str(caught.value)


# --- as scripts convert them -------------------------------------------------------------------------------------

NUMBERS = {"office31": (124, 62, 62), "office_home": (130,) * 4, "imageclef": (48,) * 4, "visda2017": (72, 48)}


@pytest.fixture(scope="module")
def collections(root):
    """The folder with all four samples, converted."""
    return [Path(root(name)) for name in NUMBERS][0]


@pytest.mark.parametrize("name", NUMBERS)
def test_samples_are_of_these_numbers(name, collections):
    whole = sets.read(name, collections)["all"]
    assert [whole.count(task) for task in COLLECTIONS[name][1]] == [*NUMBERS[name]]


@pytest.mark.parametrize("name", NUMBERS)
def test_converted_images_are_the_published_ones(name, collections):
    """Each converted image is that of its file, with its label; both problems of several domains agree."""
    domains = [*COLLECTIONS[name][1]]
    options = {"collection": name, "source": domains[0], "target": domains[1:], "side": 12}
    converted = data.domains("image_domains", root=str(collections), **options)
    folder = collections / "samples" / name
    direct = data.domains("image_domains", root=str(folder), **options)
    assert converted.input_shape == direct.input_shape == (3, 12, 12)
    for split in ("train", "val", "test"):
        ours, theirs = getattr(converted, split), getattr(direct, split)
        assert torch.equal(ours.targets[domains[0]], theirs.targets[domains[0]])
        assert (ours.inputs - theirs.inputs).abs().max() <= 1 / 510 + 1e-6
    for domain in domains[1:]:
        ours, theirs = (problem.targets[domain].test for problem in (converted, direct))
        assert torch.equal(ours.targets[domain], theirs.targets[domain])
        assert (ours.inputs - theirs.inputs).abs().max() <= 1 / 510 + 1e-6


@pytest.mark.parametrize("name", ["office31", "office_home", "imageclef"])
def test_domains_are_tasks_with_images_of_their_own(name, collections):
    problem = data.load(name, root=str(collections), proportion=0.5)
    assert problem.task_names == [*COLLECTIONS[name][1]] and not problem.train.shared
    for task, whole in zip(problem.task_names, NUMBERS[name], strict=True):
        sizes = [split.count(task) for split in (problem.train, problem.val, problem.test)]
        assert sizes[0] == round(0.5 * whole) and sum(sizes) == whole
        rows = [set(split._index.inputs[task].tolist()) for split in (problem.train, problem.val, problem.test)]
        assert len(set.union(*rows)) == whole
        labels = torch.cat([next(split.subset({task: torch.arange(split.count(task))}).batches(999)).targets[task]
                            for split in (problem.train, problem.test)])
        assert set(labels.tolist()) == set(range(COLLECTIONS[name][0]))
    other = data.load(name, root=str(collections), proportion=0.5, seed=1)
    assert other.train._index.inputs[task].tolist() != problem.train._index.inputs[task].tolist()
    for wrong in (0, 0.9, True):
        with pytest.raises(ValueError, match="above 0 and below 0.9"):
            data.describe(name, proportion=wrong)
    with pytest.raises(ValueError, match="proportion=0.001 of .* images of .* leaves a split empty"):
        data.load(name, root=str(collections), proportion=0.001)


def test_sets_that_are_not_there_name_their_script(tmp_path):
    for name in ("office31", "office_home", "imageclef"):
        with pytest.raises(FileNotFoundError, match=f"no {name} in .*run `python data_scripts/{name}.py --root "):
            data.load(name, root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no visda2017 in .*run `python data_scripts/visda2017.py --root "):
        data.domains("visda2017", root=str(tmp_path))


@pytest.mark.parametrize(("name", "asks"), [("office31", "domain_adaptation_images.tar.gz from"),
                                            ("office_home", "OfficeHomeDataset_10072016.zip from"),
                                            ("imageclef", "asks for a registration")])
def test_what_is_not_fetched_says_how_to_get_it(name, asks, tmp_path):
    assert asks in ran(name, "--root", tmp_path, fails=True)


def test_real_world_has_a_blank_and_copies_have_none(collections, tmp_path):
    source = collections / "samples" / "office_home"
    assert (source / "Real World").is_dir() and not (source / "Real_World").exists()
    shutil.copytree(source, tmp_path / "set" / "inside")
    (tmp_path / "set" / "inside" / "Real World").rename(tmp_path / "set" / "inside" / "Real_World")
    found = []
    for folder, name in ((source, "Real World"), (tmp_path / "set", "Real_World")):
        split = script("office_home").parts(folder, side=12)["all"].samples.splits["Real_World"]
        assert {path.parts[-3] for path, _ in split.dataset.files} == {name}
        found.append(next(split.batches(130)))
    assert torch.equal(found[0].inputs, found[1].inputs)
    assert torch.equal(found[0].targets["Real_World"], found[1].targets["Real_World"])


def test_archives_are_opened(collections, tmp_path):
    (tmp_path / "served").mkdir()
    archive = tmp_path / "served" / "domain_adaptation_images"
    shutil.make_archive(str(archive), "gztar", collections / "samples", "office31")
    assert "124 amazon, " in ran("office31", "--root", tmp_path / "to", "--source", tmp_path / "served")
    for part in ("train", "validation"):
        shutil.make_archive(str(tmp_path / "served" / part), "tar", collections / "samples" / "visda2017", part)
    said = ran("visda2017", "--root", tmp_path / "to", "--source", (tmp_path / "served").as_uri())
    assert "72 synthetic, 48 real" in said  # though a class of both is called train
    whole = [sets.read("visda2017", folder)["all"].content for folder in (collections, tmp_path / "to")]
    assert whole[0] != whole[1]  # of 224 pixels
    assert "nothing was done" in ran("visda2017", "--root", tmp_path / "to")


def test_lists_decide_and_are_cut_at_the_last_blank(collections, tmp_path):
    source = collections / "samples" / "imageclef"
    lines = (source / "list" / "cList.txt").read_text().splitlines()
    assert any(" a.jpg " in line for line in lines)
    files = published({"caltech": source / "c"}, "imageclef")["caltech"]
    assert [(path.relative_to(source).as_posix(), label) for path, label in files] == [
        (line[: line.rindex(" ")], int(line.split()[-1])) for line in lines]


@pytest.mark.parametrize(("harm", "message"), [
    (lambda c: (c / "c" / "003.jpg").unlink(), "003.jpg is missing, and .*cList.txt, line 4, names it"),
    (lambda c: (c / "list" / "cList.txt").write_text("c/000.jpg\n"), "line 1: 'c/000.jpg' is no path with a label"),
    (lambda c: (c / "list" / "cList.txt").write_text("c/000.jpg 3\n\n"), "12 classes, and .*cList.txt has 1, 3 to 3"),
    (lambda c: (c / "list" / "cList.txt").write_text("c/000.jpg -1\n"), "line 1: 'c/000.jpg -1' is no path"),
    (lambda c: (c / "c" / "003.jpg").write_bytes(b"\xff\xd8\xff"), "003.jpg cannot be read"),
    (lambda c: shutil.rmtree(c / "b"), "no folder .*b with the images of bing"),
])
def test_damaged_collections_are_one_sentence(collections, tmp_path, harm, message):
    shutil.copytree(collections / "samples" / "imageclef", tmp_path / "set")
    harm(tmp_path / "set")
    said = ran("imageclef", "--root", tmp_path / "to", "--source", tmp_path / "set", fails=True)
    assert re.search(message, said) and "Traceback" not in said
    assert not (tmp_path / "to" / "imageclef" / "set.json").exists()


def test_white_images_stay_within_bounds(tmp_path):
    """Rounding puts the mean of ones beyond 1 at some sizes, and no image is stored that is."""
    beyond = 0
    for side in range(30, 60):
        imsave(tmp_path / "white.png", np.full((side, side + 7, 3), 255, np.uint8), check_contrast=False)
        assert read_image(tmp_path / "white.png", 16).max() == 1
        plain = torch.nn.functional.interpolate(torch.ones(1, 3, side, side + 7), (16, 16), mode="bilinear",
                                                antialias=True)
        beyond += bool(plain.max() > 1)
        inputs, _ = data.resized((16, 16))([(torch.ones(3, side, side + 7), {"kind": 1})])
        assert inputs.max() <= 1
    assert beyond


@pytest.mark.parametrize("name", NUMBERS)
def test_the_smallest_budget_has_every_class_of_the_source(name):
    """Of sets as large as the published, with a class as rare: of 32 images of amazon, some classes have none."""
    of_all, rarest = {"office31": (2_817, 36), "office_home": (2_427, 15), "imageclef": (600, 50),
                      "visda2017": (152_397, 5_000)}[name]
    classes = COLLECTIONS[name][0]
    others = (of_all - rarest) // (classes - 1)
    labels = np.concatenate([np.zeros(rarest, np.int64), np.repeat(np.arange(1, classes), others)])
    domain = next(iter(COLLECTIONS[name][1]))
    settings = data.describe("image_domains", collection=name, source=domain,
                             target=list(COLLECTIONS[name][1])[1]).training["smoke"]
    for seed in range(5):
        order = mixed(labels, generator(seed, domain))
        assert set(labels[order[: settings["samples"]]].tolist()) == set(range(classes))
