"""What is kept of every sample: it adds up to what `evaluate` says, and comes back from the disk as it was."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mtlcourse import data, methods, metrics, models
from mtlcourse.files import content_hash, seed_everything
from mtlcourse.metrics import Probe
from mtlcourse.tasks import TensorSplit
from mtlcourse.training import Samples, evaluate, fit, hash_data, measures, per_sample
from mtlcourse.training.samples import WIDE, scores_and_samples
from mtlcourse.void import has_target
from tests.problems import OFFLINE, pixels, small

SIZES = {"train": 40, "val": 40, "test": 70}


def built(problem, kind=models.HPS):
    seed_everything(0)
    return kind(problem)


def added_up(problem, samples):
    """What `evaluate` would say, from the rows alone."""
    found = {}
    for task in problem.tasks:
        rows, labelled = samples.rows[task.name], samples.labelled[task.name]
        found[task.name] = {name: factory().value(torch.from_numpy(rows[name].sum(0)))
                            for name, factory in task.metrics.items()}
        found[task.name]["loss"] = rows["loss"].sum() / labelled.sum()
    return found


def agree(problem, samples, scores):
    for task, expected in scores.items():
        own = added_up(problem, samples)[task]
        assert own == pytest.approx({name: expected[name] for name in own}, rel=1e-9, nan_ok=True), task


def same(one, other):
    assert (one.split, one.data) == (other.split, other.data)
    for mine, theirs in ((one.labelled, other.labelled), (one.groups or {}, other.groups or {})):
        assert list(mine) == list(theirs)
        for name, values in mine.items():
            assert values.dtype == theirs[name].dtype and np.array_equal(values, theirs[name])
    for task, rows in one.rows.items():
        assert list(rows) == list(other.rows[task])
        for name, values in rows.items():
            assert values.dtype == other.rows[task][name].dtype == np.float64
            np.testing.assert_array_equal(values, other.rows[task][name], err_msg=f"{task} {name}")


# --- rows ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", OFFLINE)
def test_rows_add_up_to_what_evaluation_says(name, tmp_path):
    problem = data.load(name, **({"train": 3, "val": 2, "test": 5} if name == "rooms" else SIZES))
    model = built(problem)
    samples = per_sample(model, problem, batch_size=32)
    agree(problem, samples, evaluate(model, problem, batch_size=32))
    assert all(mask.all() and len(mask) == len(problem.test) for mask in samples.labelled.values())
    assert (samples.groups is not None) == (name == "multidigits")  # the only one whose samples share sources
    scores, kept = scores_and_samples(model, problem)
    assert scores == evaluate(model, problem)
    for task, rows in kept.rows.items():
        assert set(samples.rows[task]) - set(rows) == {n for n, x in samples.rows[task].items() if x.shape[1] > WIDE}
        assert list(rows)[-1] == "loss"
    kept.save(tmp_path / "samples")
    same(kept, Samples.load(tmp_path / "samples"))


@pytest.mark.parametrize("batch_size", [5, 7, 512])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_row_is_that_of_its_sample(batch_size, own, split):
    problem = small(("kind", "size", "big"), void=0.5, own=own, dropout=0.3)
    part = getattr(problem, split)
    for target in part.targets.values():  # whole batches without a label, at the start, inside and at the end
        for rows in (slice(1, 8), slice(12, 20), slice(-4, None)):
            target[rows] = float("nan") if target.is_floating_point() else -1
    part = TensorSplit(part.inputs, part.targets)
    problem = replace(problem, **{split: part})
    model = built(problem).train()
    samples = per_sample(model, problem, split, batch_size)
    assert samples.split == split and all(module.training for module in model.modules())
    agree(problem, samples, evaluate(model, problem, split, batch_size))
    model.eval()
    for task in problem.tasks:
        target = part.targets[task.name]
        assert samples.labelled[task.name].tolist() == has_target(target).tolist()
        x = part.inputs if part.shared else part.inputs[task.name]
        for number in range(len(target)):
            with torch.no_grad():
                prediction = model(x[number : number + 1], [task.name])[task.name]
            label = target[number : number + 1]
            for name, factory in measures(task).items():
                expected = factory().statistics(prediction, label)[0].numpy()
                assert samples.rows[task.name][name][number] == pytest.approx(expected, rel=1e-5, abs=1e-6)
            assert samples.rows[task.name]["loss"][number, 0] == pytest.approx(
                task.loss(prediction, label).item(), rel=1e-5, abs=1e-6)
            if not samples.labelled[task.name][number]:
                assert not any(rows[number].any() for rows in samples.rows[task.name].values())


def test_a_class_a_sample_has_two_measures_more():
    digit, pixel, number = data.classification("digit", 3), data.segmentation("pixel", 3), data.regression("number")
    assert list(measures(digit)) == ["accuracy", "error", "brier"]
    assert list(measures(pixel)) == list(pixel.metrics) and list(measures(number)) == list(number.metrics)
    own = replace(digit, metrics={"brier": metrics.Accuracy, "error": metrics.Accuracy})
    assert measures(own) == own.metrics


def test_a_prediction_that_is_no_number_has_rows_that_are_none():
    problem = small(("kind", "size"))

    class Broken(models.HPS):
        def forward(self, inputs, tasks=None):
            found = super().forward(inputs, tasks)
            return {name: values.masked_fill(inputs[:, :1] > 1, math.nan) for name, values in found.items()}

    samples = per_sample(built(problem, Broken), problem)
    broken = (problem.test.inputs[:, 0] > 1).numpy()
    assert broken.any() and not broken.all()
    for rows in samples.rows.values():
        for values in rows.values():
            assert np.array_equal(np.isnan(values).any(1), broken)


def test_splits_of_another_class_are_kept_too():
    whole = small(("kind", "size"))

    class Stream:
        """Batches of three, whatever it is asked for; one has no label of `size`."""

        def __len__(self):
            return 12

        def to(self, device):
            return self

        def batches(self, batch_size, shuffle=False, generator=None):
            for number, batch in enumerate(whole.test.subset(range(12)).batches(3)):
                yield replace(batch, targets={k: y for k, y in batch.targets.items() if k == "kind" or number != 1})

    problem = replace(whole, test=Stream())
    model = built(whole)
    expected, samples = per_sample(model, whole.sized(None, 12)), per_sample(model, problem, batch_size=2)
    assert samples.data is None and samples.groups is None
    np.testing.assert_allclose(samples.rows["kind"]["loss"], expected.rows["kind"]["loss"], rtol=1e-5)
    agree(problem, samples, evaluate(model, problem))
    assert samples.labelled["kind"].sum() == 12 and samples.labelled["size"].sum() == 9


def test_groups_are_kept():
    problem = data.load("multidigits", **SIZES)
    samples = per_sample(built(problem), problem)
    assert np.array_equal(samples.groups["*"], problem.test.groups.numpy()) and samples.groups["*"].dtype == np.int64
    own = small(own=True)
    ids = {task: torch.arange(len(y))[:, None] // 2 for task, y in own.test.targets.items()}
    own = replace(own, test=TensorSplit(own.test.inputs, own.test.targets, ids))
    found = per_sample(built(own), own).groups
    assert {task: some.shape for task, some in found.items()} == {"kind": (30, 1), "size": (15, 1)}


def test_data_are_told_apart_by_content_and_order_and_not_by_groups():
    problem = small()
    test = problem.test
    assert hash_data(problem) == content_hash([test.inputs, test.targets["kind"], test.targets["size"]])
    assert per_sample(built(problem), problem).data == hash_data(problem) == fit(
        problem, built(problem), epochs=1, progress=False).test_data
    grouped = TensorSplit(test.inputs, test.targets, torch.arange(30)[:, None])
    assert hash_data(replace(problem, test=grouped)) == hash_data(problem)
    turned = replace(problem, test=test.subset(torch.arange(29, -1, -1)))
    assert len({hash_data(problem), hash_data(turned), hash_data(problem, "val"), hash_data(problem, "train")}) == 4
    assert hash_data(replace(problem, test=None)) is None


@pytest.mark.parametrize("attempt, message", [
    (lambda model, problem: per_sample(model, problem, "validation"), "split='validation' is not known"),
    (lambda model, problem: per_sample(model, replace(problem, train=None, val=None, test=None)),
     "is a description without data"),
])
def test_what_cannot_be_kept_is_told(attempt, message):
    problem = small()
    with pytest.raises(ValueError, match=message):
        attempt(built(problem), problem)


def test_probes_are_not_run_for_it():
    problem = replace(small(), probes={"attack": Probe(lambda model, problem: {"kind": {"x": 1 / 0}}, {"x": True})})
    assert per_sample(built(small()), problem).rows


# --- with a run -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["hps", "dsmtl-il(guard=True)", "conal", "ltb", "lasso"])
def test_every_run_keeps_what_its_model_did(method):
    problem = small(("big",) if method == "lasso" else ("kind", "size"), void=0.2)
    run = methods.run(method, problem, budget="smoke", progress=False)
    assert run.samples.split == "test" and run.samples.data == run.test_data == hash_data(problem)
    agree(problem, run.samples, run.metrics)
    same(run.samples, per_sample(run.model, problem))


def test_a_budget_with_fewer_samples_tells_which():
    problem = data.load("multidigits", train=300, val=300, test=300)
    run = methods.run("hps", problem, budget="smoke", progress=False)
    assert len(run.samples.labelled["left"]) == 256 == len(run.samples.groups["*"])
    assert run.samples.data == hash_data(problem.sized(None, 256))


# --- on disk --------------------------------------------------------------------------------------------

ODD = np.array([0.1, math.nan, math.inf, -0.0, 1e300, 3.0])


COLUMNS = {
    "odd": ODD, "odd and short": np.float32([0.1, math.nan, math.inf, -0.0, 1e-40, 3]).astype(float),
    "bytes": np.arange(6.0), "short": np.arange(6.0) * 100, "long": np.arange(6.0) * 1e5,
    "longer": np.arange(6.0) * 1e10, "negative": -np.arange(6.0), "unknown": np.full(6, math.nan),
    "one": np.full(6, 1 / 3), "hardly one": np.array([1.0, math.nan] * 3)}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_numbers_come_back_as_they_were(values, tmp_path):
    rows = {"one": {"a": np.stack([values, values, values + 1], 1), "loss": values[:, None]},
            "two": {"a": ODD[:, None]}}
    groups = {"one": np.array([[2**40, 0]] * 6), "two": np.arange(6)[:, None] - 3}
    labelled = {"one": np.arange(6) % 2 == 0, "two": np.zeros(6, bool)}
    samples = Samples("val", None, rows, labelled, groups)
    samples.save(tmp_path / "samples")
    same(samples, Samples.load(tmp_path / "samples"))


def test_a_single_sample_comes_back(tmp_path):
    samples = Samples("test", "abc", {"t": {"loss": np.array([[0.1]])}}, {"t": np.array([True])}, None)
    samples.save(tmp_path / "samples")
    same(samples, Samples.load(tmp_path / "samples"))


def test_little_is_written(tmp_path):
    """Counts take a byte or two, what all samples share one number, and what another measure has nothing more."""
    n = 10_000
    hits = np.stack([np.arange(n) % 2, np.ones(n)], 1).astype(np.float64)
    random = np.random.default_rng(0)
    rows = {"t": {"accuracy": hits, "error": hits.copy(), "mse": np.stack([random.random(n), np.ones(n)], 1),
                  "loss": random.random((n, 1)).astype(np.float32).astype(np.float64)}}
    Samples("test", "x", rows, {"t": np.ones(n, bool)}, {"*": np.arange(n)[:, None]}).save(tmp_path / "samples")
    assert (tmp_path / "samples").stat().st_size == pytest.approx(n * (1 + 8 + 4 + 2), rel=0.02)


def test_a_dense_problem_is_kept_in_little(tmp_path):
    problem = pixels()
    scores_and_samples(built(problem), problem)[1].save(tmp_path / "samples")
    with open(tmp_path / "samples", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {value["dtype"] for name, value in header.items() if name != "__metadata__"} <= {"U8", "U16", "F32", "F64"}
