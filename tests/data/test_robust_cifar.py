"""`robust_cifar10` and `robust_cifar100` from tiny files in the published layouts."""

import numpy as np
import pytest
import scipy.io
import torch

from mtlcourse import data, methods
from mtlcourse.data.cifar_records import FILES, FOLDERS, write_records
from tests.problems import CELLS

SET = {"cifar10": 10, "cifar100": 100}


def written(root, name: str, train: int = 40, test: int = 20) -> None:
    """Files of the set, pixels by lot; SVHN beside them."""
    rng = np.random.default_rng(0)
    classes = SET[name]
    fine = {"train": np.arange(train) % (8 if classes == 10 else 40), "test": np.arange(test)}
    labels = {part: np.stack([own // 5, own] if classes == 100 else [own % 10], 1) for part, own in fine.items()}
    write_records(root / FOLDERS[classes], classes, labels)
    (root / "svhn").mkdir()
    for file, images in (("train_32x32.mat", 30), ("test_32x32.mat", 12)):
        scipy.io.savemat(root / "svhn" / file, {"X": rng.integers(0, 256, (32, 32, 3, images), dtype=np.uint8),
                                                "y": np.ones((images, 1))})


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_published_files_are_read(tmp_path, name, classes):
    written(tmp_path, name)
    problem = data.load(f"robust_{name}", train=20, val=10, test=10, root=str(tmp_path))
    assert problem.tasks[0].out_channels == classes and problem.input_shape == (3, 32, 32)
    folder, labels = FOLDERS[classes], 2 if classes == 100 else 1
    raw = np.concatenate([np.fromfile(tmp_path / folder / file, np.uint8) for file in FILES[classes]["train"]])
    raw = raw.reshape(-1, labels + 3072)
    by_pixels = {row[labels:].tobytes(): row[labels - 1] for row in raw}
    for split in (problem.train, problem.val):
        for image, label in zip(split.inputs, split.targets["image"], strict=True):
            assert by_pixels[(image * 255).round().to(torch.uint8).numpy().tobytes()] == label
    assert {use: len(x) for use, x in problem.outside.items()} == {"lower": 15, "upper": 15, "test": 10}
    first = scipy.io.loadmat(tmp_path / "svhn" / "train_32x32.mat")["X"][..., 0].transpose(2, 0, 1) / 255
    torch.testing.assert_close(problem.outside["lower"][0], torch.from_numpy(first).float())
    rows = {x.numpy().tobytes() for use in problem.outside for x in problem.outside[use]}
    assert len(rows) == 40


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_what_is_missing_is_named_with_its_page(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="Get the binary version of the set from https://www.cs.toronto.edu"):
        data.load(f"robust_{name}", root=str(tmp_path))
    written(tmp_path, name)
    (tmp_path / "svhn" / "test_32x32.mat").unlink()
    with pytest.raises(FileNotFoundError, match="test_32x32.mat. Get format 2, cropped digits from http"):
        data.load(f"robust_{name}", train=10, val=10, test=10, root=str(tmp_path))
    assert data.describe(f"robust_{name}").training["paper"]["epochs"] == 50


def test_damaged_files_are_named(tmp_path):
    written(tmp_path, "cifar10")
    options = {"train": 10, "val": 10, "test": 10, "root": str(tmp_path)}
    good = (tmp_path / "svhn" / "test_32x32.mat").read_bytes()
    (tmp_path / "svhn" / "test_32x32.mat").write_bytes(good[:50])
    with pytest.raises(ValueError, match="test_32x32.mat is cut off, or no MATLAB file"):
        data.load("robust_cifar10", **options)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3.bin has .* no whole number of records of 3,073"):
        data.load("robust_cifar10", **options)
    path.write_bytes(b"\x0b" + content[1:])
    with pytest.raises(ValueError, match="has the label 11, and there are 10 classes"):
        data.load("robust_cifar10", **options)
    path.write_bytes(content)
    (tmp_path / "svhn" / "test_32x32.mat").write_bytes(good)
    with pytest.raises(ValueError, match="ask for fewer"):
        data.load("robust_cifar10", **{**options, "train": 100})


@pytest.mark.parametrize("method", CELLS)
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_searches_of_the_thesis_run(tmp_path, name, method):
    written(tmp_path, name)
    problem = data.load(f"robust_{name}", train=20, val=10, test=10, root=str(tmp_path))
    options = ", ".join(f"{key}={value}" for key, value in CELLS[method].items())
    run = methods.run(f"{method}({options})", problem, budget="smoke", progress=False, device="cpu")
    assert np.isfinite(run.metrics["image"]["loss"]) and run.test_data
