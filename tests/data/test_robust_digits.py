"""`robust_digits`: disjoint samples from elsewhere, and probes whose values are what they say."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from torch import nn

from mtlcourse import data, methods, models
from mtlcourse.data.outside import PHOTOGRAPHS, USES
from mtlcourse.encoders import size
from mtlcourse.files import seed_everything
from mtlcourse.metrics import pgd_accuracy
from mtlcourse.training import directions, evaluate

SMALL = {"train": 60, "val": 40, "test": 50}


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("foreign", ["photographs", "optdigits"])
@pytest.mark.parametrize("side", [14, 28])
def test_the_three_samples_share_no_image(foreign, side):
    problem = data.load("robust_digits", foreign=foreign, side=side, **SMALL)
    assert {use: tuple(x.shape) for use, x in problem.outside.items()} == {
        "lower": (60, 1, side, side), "upper": (60, 1, side, side), "test": (50, 1, side, side)}
    seen = [rows(problem.outside[use]) for use in USES]
    assert len(set().union(*seen)) == sum(map(len, seen)) == 170
    assert all(0 <= x.min() and x.max() <= 1 and x.dtype == torch.float32 for x in problem.outside.values())
    again = data.load("robust_digits", foreign=foreign, side=side, **SMALL)
    assert all(torch.equal(x, again.outside[use]) for use, x in problem.outside.items())
    other = data.load("robust_digits", foreign=foreign, side=side, seed=1, **SMALL)
    assert not torch.equal(other.outside["test"], problem.outside["test"])


def test_no_photograph_serves_two_uses():
    names = [name for use in USES for name in PHOTOGRAPHS[use]]
    assert len(set(names)) == len(names) == 12


def test_digits_are_shrunk_by_averaging_and_split_by_class():
    large, small = (data.load("robust_digits", side=side, **SMALL) for side in (28, 14))
    torch.testing.assert_close(nn.functional.avg_pool2d(large.train.inputs, 2), small.train.inputs)
    assert small.train.targets["digit"].bincount().tolist() == [6] * 10
    assert not rows(small.train.inputs) & (rows(small.test.inputs) | rows(small.val.inputs))


def test_fashion_comes_from_its_files(tmp_path):
    pixels = {"train": np.arange(12 * 784, dtype=np.uint32) % 251, "t10k": np.arange(5 * 784, dtype=np.uint32) % 241}
    for name, values in pixels.items():
        header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (len(values) // 784, 28, 28))
        with gzip.open(tmp_path / f"{name}-images-idx3-ubyte.gz", "wb") as file:
            file.write(header + values.astype(np.uint8).tobytes())
    problem = data.load("robust_digits", foreign="fashion", side=28, folder=str(tmp_path), train=6, val=5, test=5)
    assert len(problem.train) == 6
    whole = torch.from_numpy(pixels["train"].reshape(12, 1, 28, 28) / 255).float()
    torch.testing.assert_close(torch.cat([problem.outside[use] for use in ("lower", "upper")]), whole)
    assert len(problem.outside["test"]) == 5
    with pytest.raises(ValueError, match="7 images of Fashion-MNIST are wanted for 'lower', and there are 6"):
        data.load("robust_digits", foreign="fashion", folder=str(tmp_path), train=7, val=5, test=5)


@pytest.mark.parametrize(("options", "kind", "message"), [
    ({"foreign": "fashion", "folder": "nowhere"}, FileNotFoundError, "Install Debian's package dataset-fashion-mnist"),
    ({"foreign": "photos"}, ValueError, "Unknown outside set 'photos'"),
    ({"side": 10}, ValueError, "side=10: digits have 28 pixels a side"),
    ({"side": 56}, ValueError, "side=56: digits have"),
    ({"epsilon": -0.1}, ValueError, "epsilon=-0.1 is the radius"),
    ({"train": 4000}, ValueError, "ask for fewer"),
    ({"val": 0}, ValueError, "val=0: a split needs"),
])
def test_what_cannot_be_made_is_told(options, kind, message):
    with pytest.raises(kind, match=message):
        data.load("robust_digits", **options)


def test_labels_are_no_images(tmp_path):
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(b"\0\0\x08\x01" + (3).to_bytes(4, "big") + bytes(3))
    with pytest.raises(ValueError, match=r"train-images.* holds no images: its shape is \(3,\)"):
        data.load("robust_digits", foreign="fashion", folder=str(tmp_path), train=1, val=1, test=1)


# --- probes ---------------------------------------------------------------------------------------------

def trained():
    problem = data.load("robust_digits", train=300, val=40, test=90)
    run = methods.run("stl", problem, budget="smoke", progress=False)
    return problem, run


def test_probes_are_in_a_run_with_their_directions():
    problem, run = trained()
    found = run.metrics["digit"]
    assert list(found) == ["accuracy", "loss", "pgd_accuracy", "ood_aupr", "parameters", "multiply_adds"]
    assert run.higher_is_better == directions(problem) == {"digit": {
        "accuracy": True, "pgd_accuracy": True, "ood_aupr": True, "parameters": False, "multiply_adds": False}}
    model = run.model.eval()
    y = problem.test.targets["digit"]
    assert found["pgd_accuracy"] == pgd_accuracy(
        lambda x: model(x)["digit"], [(problem.test.inputs, y)], problem.options["epsilon"])
    with torch.no_grad():
        score = [-model(x)["digit"].softmax(1).amax(1).double() for x in (problem.outside["test"], problem.test.inputs)]
    precision, recall, _ = sk.precision_recall_curve(np.repeat([1, 0], [len(s) for s in score]), torch.cat(score))
    assert found["ood_aupr"] == pytest.approx(sk.auc(recall, precision), abs=1e-9)
    assert found["parameters"] == size(run.model)


def test_sizes_are_of_what_a_prediction_needs():
    class Helped(models.STL):
        def __init__(self, problem):
            super().__init__(problem)
            self.auxiliary = nn.Linear(3, 4)

    problem = data.load("robust_digits", **SMALL)
    seed_everything(0)
    plain, helped = models.STL(problem), Helped(problem)
    helped.private["digit"].requires_grad_(False) if hasattr(helped, "private") else None
    found = [evaluate(model, problem)["digit"] for model in (plain, helped)]
    assert size(helped) == size(plain) + 16 and {f["parameters"] for f in found} == {size(plain)}
    assert found[0]["multiply_adds"] == found[1]["multiply_adds"] > 8 * 9 * 14 * 14
    assert all(parameter.grad is None for parameter in helped.parameters())


def test_probes_are_of_tasks_that_name_a_class():
    problem = data.load("robust_digits", **SMALL)
    tasks = [*problem.tasks, data.regression("ink")]
    splits = {}
    for name in ("train", "val", "test"):
        split = getattr(problem, name)
        ink = split.inputs.mean((1, 2, 3))[:, None]
        splits[name] = type(split)(split.inputs, {**split.targets, "ink": ink})
    both = replace(problem, tasks=tasks, **splits)
    assert set(evaluate(models.HPS(both), both)["ink"]) == {"mse", "r2", "loss"}
