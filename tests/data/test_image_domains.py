"""The published collections, read from tiny folders in exactly their layouts."""

from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from mtlcourse import data
from mtlcourse.data.image_domains import COLLECTIONS, read_image

LAYOUTS = {"office31": ("amazon", "amazon/images", "webcam", "webcam/images", ".jpg"),
           "office_home": ("Art", "Art", "Real_World", "Real World", ".jpg"),
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
