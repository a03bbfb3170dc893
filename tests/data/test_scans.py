"""USPS, SVHN and sets like MNIST, from tiny files in exactly their formats."""

import bz2
import gzip

import numpy as np
import pytest
from scipy.io import savemat

from mtlcourse import data
from mtlcourse.data.idx import read_idx

SAMPLES = 60


def write_usps(root):
    for name in ("usps.bz2", "usps.t.bz2"):
        lines = [f"{k % 10 + 1} " + " ".join(f"{place}:{-1 + 0.2 * (k % 10):.3f}" for place in range(1, 257))
                 for k in range(SAMPLES)]
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def write_svhn(root):
    labels = np.arange(SAMPLES) % 10
    images = np.zeros((32, 32, 3, SAMPLES), np.uint8) + (20 * labels).astype(np.uint8)
    for name in ("train_32x32.mat", "test_32x32.mat"):
        savemat(root / name, {"X": images, "y": np.where(labels == 0, 10, labels)[:, None]})


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_fashion(root):
    labels = (np.arange(SAMPLES) % 10).astype(np.uint8)
    images = np.broadcast_to(20 * labels[:, None, None], (SAMPLES, 28, 28)).astype(np.uint8)
    for part in ("train", "t10k"):
        (root / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (root / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


@pytest.mark.parametrize(("write", "domain", "other", "shape", "factor"), [
    (write_usps, "usps", "mnist", (1, 16, 16), 0.1), (write_svhn, "svhn", "mnist", (3, 28, 28), 20 / 255),
    (write_fashion, "fashion", "fashion-photographs", (3, 28, 28), 20 / 255)])
def test_published_files(write, domain, other, shape, factor, tmp_path):
    write(tmp_path)
    problem = data.domains("digit_domains", source=domain, target=other, root=str(tmp_path))
    assert problem.input_shape == shape
    for split in (problem.train, problem.val, problem.test):
        means = split.inputs.flatten(1).mean(1)
        for mean, label in zip(means, split.targets[domain], strict=True):  # each class has its own grey
            assert mean.item() == pytest.approx(factor * label.item(), abs=0.005)


def test_missing_and_damaged_files_are_named(tmp_path):
    for domain, message in (("usps", "There is no .*usps.bz2. Get USPS"), ("svhn", "train_32x32.mat. Get SVHN")):
        with pytest.raises(FileNotFoundError, match=message):
            data.domains("digit_domains", source=domain, root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="neither .*train-images-idx3-ubyte nor .*dataset-fashion-mnist"):
        data.domains("digit_domains", source="fashion", target="fashion-photographs", root=str(tmp_path))
    for name, content, message in (("a", b"hello", "no IDX file"), ("b", idx(np.zeros(9, np.uint8))[:-1], "is cut off"),
                                   ("c.gz", gzip.compress(b"x" * 99)[:-9], "is cut off")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_idx(tmp_path / name)
    (tmp_path / "usps.bz2").write_bytes(b"no archive")
    (tmp_path / "usps.t.bz2").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is not USPS as it is published"):
        data.domains("digit_domains", source="usps", root=str(tmp_path))
