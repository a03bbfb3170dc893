"""Splits of torch datasets: the order of a split in memory, chance that nothing else moves, and what is refused."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset, WeightedRandomSampler

from mtlcourse import data, models
from mtlcourse.data import DatasetSplit
from mtlcourse.files import seed_everything
from mtlcourse.search.bilevel import halves
from mtlcourse.tasks import Problem
from mtlcourse.training import fit

from ..problems import TASKS, small, split

KIND, SIZE, BIG = TASKS


class Rows(Dataset):
    """What lies in a `TensorSplit`, sample by sample; with `noise`, augmented by chance of three kinds."""

    def __init__(self, split, noise=False):
        self.split, self.noise = split, noise

    def __len__(self):
        return len(self.split)

    def __getitem__(self, i):
        x = self.split.inputs[i]
        if self.noise:
            x = x + torch.randn(4) + np.random.rand() + random.random()
        return x, {name: target[i] for name, target in self.split.targets.items()}


def as_datasets(problem: Problem, noise: bool = False, **options) -> Problem:
    """The problem with splits of datasets that give its samples."""
    splits = {name: DatasetSplit(Rows(getattr(problem, name), noise), problem.tasks, **options)
              for name in ("train", "val", "test")}
    return replace(problem, **splits)


@pytest.mark.parametrize("shuffle", [False, True])
def test_shares_are_those_of_a_split_in_memory(shuffle):
    problem = small(("kind", "size", "big"), train=13, void=0.6)
    for rank in range(3):
        epochs = [list(one.train.batches(5, shuffle, torch.Generator().manual_seed(3), share=(rank, 3)))
                  for one in (problem, as_datasets(problem))]
        for known, made in zip(*epochs, strict=True):
            assert made.inputs.equal(known.inputs) and list(made.targets) == list(known.targets) and made.shares == 3
            for name, target in known.targets.items():
                torch.testing.assert_close(made.targets[name], target, rtol=0, atol=0, equal_nan=True)
                assert made.count(name) == known.count(name) and made.labelled[name].equal(known.labelled[name])


def ended(problem: Problem, epochs: int = 3) -> dict:
    seed_everything(0)
    return fit(problem, models.HPS(problem), epochs=epochs, batch_size=64, seed=5, progress=False, device="cpu")


def same(one, other) -> bool:
    weights = (list(run.model.state_dict().values()) for run in (one, other))
    return all(torch.equal(a, b) for a, b in zip(*weights, strict=True)) and one.history.drop(
        columns="seconds", errors="ignore").equals(other.history.drop(columns="seconds", errors="ignore"))


def test_in_memory_and_in_datasets_the_models_are_equal_to_the_bit():
    problem = small(train=600, void=0.2, dropout=0.3)
    in_memory = ended(problem)
    here, elsewhere = ended(as_datasets(problem)), ended(as_datasets(problem, workers=2))
    assert same(in_memory, here) and same(in_memory, elsewhere)
    assert in_memory.metrics == here.metrics == elsewhere.metrics


def test_augmentation_is_the_same_whoever_makes_it():
    problem = small(train=600, dropout=0.3)
    runs = [ended(as_datasets(problem, noise=True, workers=workers)) for workers in (0, 1, 2)]
    assert same(runs[0], runs[1]) and same(runs[0], runs[2])
    assert not same(runs[0], ended(problem))  # it does something


def drawn(noisy: DatasetSplit, batch_size: int, seed: int) -> torch.Tensor:
    """The inputs of an epoch, in its order."""
    order = torch.Generator().manual_seed(seed)
    return torch.cat([batch.inputs for batch in noisy.batches(batch_size, True, order)])


@given(batch=st.integers(1, 11), seed=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_chance_depends_on_order_and_sample_alone(batch, seed):
    noisy = DatasetSplit(Rows(split(9), noise=True), TASKS[:2])
    assert torch.equal(drawn(noisy, 3, seed), drawn(noisy, batch, seed))
    assert not torch.equal(drawn(noisy, 3, seed), drawn(noisy, 3, seed + 1))


def test_two_epochs_are_augmented_differently_and_evaluation_always_alike():
    noisy = DatasetSplit(Rows(split(9), noise=True), TASKS[:2])
    generator = torch.Generator().manual_seed(0)
    offsets = []
    for _ in range(2):
        rows = torch.randperm(9, generator=generator.clone_state())
        offsets.append((next(noisy.batches(9, True, generator)).inputs - split(9).inputs[rows])[rows.argsort()])
    assert not torch.isclose(offsets[0], offsets[1]).any()
    assert torch.equal(next(noisy.batches(9)).inputs, next(noisy.batches(9)).inputs)


STREAMS = """
import random, numpy as np, torch
from mtlcourse.data import DatasetSplit, classification

class Noisy:
    def __len__(self):
        return 9

    def __getitem__(self, i):
        if fails:
            raise OSError(torch.rand(1), np.random.rand(), random.random())
        return torch.rand(2) + np.random.rand() + random.random(), {"kind": 1}

def three():
    return torch.rand(1).item(), np.random.rand(), random.random()

for workers in (0, 2):
    for fails in (False, True):
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        expected = three()
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        try:
            list(DatasetSplit(Noisy(), [classification("kind", 3)], workers=workers).batches(
                4, shuffle=True, generator=torch.Generator()))
            assert not fails
        except RuntimeError as error:
            assert fails and "Noisy could not give sample" in str(error), error
        assert three() == expected, (workers, fails)
"""


def test_the_global_streams_are_as_before():
    """In a process of its own, for what checks shapes in tests draws from `random` too."""
    subprocess.run([sys.executable, "-c", STREAMS], check=True, timeout=120)


def test_without_seeding_the_datasets_own_reading_of_many_is_used():
    class Many(Rows):
        def __getitems__(self, indices):
            return [super(Many, self).__getitem__(i) for i in indices]

        def __getitem__(self, i):
            raise AssertionError("one by one")

    batches = list(DatasetSplit(Many(split(9)), TASKS[:2], seeded=False).batches(4))
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), split(9).inputs)
    torch.manual_seed(0)
    list(DatasetSplit(Rows(split(9), noise=True), TASKS[:2], seeded=False).batches(4))
    assert not torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("cut", [lambda s: s, lambda s: s.first(7), lambda s: s.subset([5, 2, 8])])
def test_batches_are_those_of_the_split_in_memory(shuffle, cut):
    whole = split(9, void=0.6)
    pairs = zip(*(cut(s).batches(2, shuffle, torch.Generator().manual_seed(1))
                  for s in (whole, DatasetSplit(Rows(whole), TASKS[:2]))), strict=True)
    for mine, ours in pairs:
        assert torch.equal(mine.inputs, ours.inputs) and mine.counts == ours.counts
        assert mine.targets.keys() == ours.targets.keys()
        for name, target in mine.targets.items():
            assert target.dtype == ours.targets[name].dtype
            assert torch.equal(target.nan_to_num(-7), ours.targets[name].nan_to_num(-7))


def test_searches_sizes_and_reports_take_them():
    problem = as_datasets(small(train=40))
    assert [len(s) for s in (problem.sized(8, 6).train, problem.sized(8, 6).test)] == [8, 6]
    below, above = halves(problem)
    assert len(below.train) == len(above) == 20
    run = ended(problem, epochs=1)
    assert run.samples.rows["kind"]["error"].shape[0] == 30 and run.test_data is None


# --- what a sample may be --------------------------------------------------------------------------------

def one_batch(samples, tasks=TASKS, **options):
    return next(DatasetSplit(samples, tasks, **options).batches(len(samples)))


def test_plain_numbers_arrays_and_what_is_missing():
    samples = [(np.zeros(4), {"kind": 2, "size": [1.5, 2], "big": None}), ([1.0, 2, 3, 4], {"kind": np.int8(1)})]
    samples = [(np.asarray(x), targets) for x, targets in samples]
    batch = one_batch(samples)
    assert batch.inputs.dtype == torch.float32 and batch.targets.keys() == {"kind", "size"}
    assert batch.targets["kind"].tolist() == [2, 1] and batch.targets["kind"].dtype == torch.int64
    assert batch.targets["size"].isnan().tolist() == [[False, False], [True, True]]
    assert batch.counts == {"kind": 2, "size": 1, "big": 0}


def test_a_number_is_a_target_of_one_channel_and_void_pixels_have_no_small_type():
    batch = one_batch([(torch.zeros(4), {"height": 1.75}), (torch.zeros(4), {"height": None})],
                      [data.regression("height")])
    assert batch.targets["height"].shape == (2, 1) and batch.counts == {"height": 1}
    labels = np.full((2, 2), 3, np.uint8)
    batch = one_batch([(torch.zeros(3, 2, 2), {"map": None}), (torch.zeros(3, 2, 2), {"map": labels})],
                      [data.segmentation("map", 4)])
    assert batch.targets["map"].tolist() == [[[-1, -1], [-1, -1]], [[3, 3], [3, 3]]]


def test_sample_adapts_what_the_dataset_gives():
    tensors = TensorDataset(torch.randn(5, 4), torch.arange(5) % 3)
    batch = one_batch(tensors, [KIND], sample=lambda item: (item[0], {"kind": item[1]}))
    assert batch.targets["kind"].tolist() == [0, 1, 2, 0, 1]


X = torch.zeros(4)


@pytest.mark.parametrize(("samples", "tasks", "error", "message"), [
    ([(X, {"kind": 0}), (X, {"kind": 3})], [KIND], ValueError, r"Sample 1 of list: Task .*labels run from 3 to 3"),
    ([(X, {"kind": 255})], [KIND], ValueError, r"Sample 0 of list: .*labels run from 255 to 255, allowed are 0 to 2"),
    ([(X, {"kind": 0.0})], [KIND], TypeError, r"Sample 0 of list: .*class targets are torch.float32"),
    ([(X, {"kind": True})], [KIND], TypeError, r"class targets are torch.bool"),
    ([(X, {"size": torch.ones(3)})], [SIZE], ValueError, r"targets have shape \(1, 3\), expected \(samples, 2\)"),
    ([(X, {"height": 2})], [data.regression("height")], TypeError, "regression targets are torch.int64"),
    ([(X, {"kid": 0})], [KIND], ValueError, r"target of 'kid', which is no task of this split: there are \['kind'\]"),
    ([(X, {"kind": "cat"})], [KIND], TypeError, "Sample 0 of list: the target of 'kind' of a sample must be a tensor"),
    ([(X, 1)], [KIND], TypeError, r"a sample is \(inputs, \{task: .*this is tuple of 2 parts: give sample="),
    ([X], [KIND], TypeError, r"this is Tensor: give sample="),
    ([({"left": X, "right": X}, {"kind": 0})], [KIND], TypeError, r"a dict of \['left', 'right'\].*pack them into one"),
    ([((X, X), {"kind": 0})], [KIND], TypeError, "2 things, which would be read as inputs per task"),
    ([(object(), {"kind": 0})], [KIND], TypeError, "inputs of a sample must be a tensor, an array or a number, not"),
    ([(X, {"kind": 0}), (torch.zeros(5), {"kind": 0})], [KIND], ValueError,
     r"inputs have shape \(4,\) in one sample and \(5,\) in another.*data.resized\(.*data.padded\("),
    ([(X, {"size": torch.ones(2)}), (X, {"size": torch.ones(3)})], [SIZE], ValueError,
     r"targets of 'size' have shape \(2,\) in one sample and \(3,\)"),
])
def test_samples_that_cannot_be(samples, tasks, error, message):
    with pytest.raises(error, match=message):
        one_batch(samples, tasks)


def test_an_error_in_a_worker_reads_as_one_here():
    with pytest.raises(ValueError, match="^Sample 1 of list: .*labels run from 3 to 3") as caught:
        one_batch([(X, {"kind": 0}), (X, {"kind": 3})], [KIND], workers=1)
    assert len(str(caught.value).splitlines()) == 1


def test_sizes_that_differ_between_batches_are_refused_too():
    with pytest.raises(ValueError, match=r"shape \(4,\) in one batch and \(5,\) in another"):
        list(DatasetSplit([(X, {"kind": 0}), (torch.zeros(5), {"kind": 0})], [KIND]).batches(1))


def test_a_worker_that_dies_is_one_sentence():
    class Dies(Rows):
        def __getitem__(self, i):
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match=r"^A worker process ended before its work was done.*fewer workers than 1"):
        list(DatasetSplit(Dies(split(4)), TASKS[:2], workers=1).batches(2))


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((Stream(), [KIND]), TypeError, "Stream is an iterable dataset: it has no order"),
    ((iter([1]), [KIND]), TypeError, "is no map-style dataset"),
    (([], [KIND]), ValueError, "list has no samples"),
    (([1], []), TypeError, "tasks must be the problem's tasks"),
    (([1], ["kind"]), TypeError, "tasks must be the problem's tasks"),
    (([1], [KIND], 3), TypeError, "sample is int, and must be a function"),
    (([1], [KIND], None, None, -1), ValueError, "workers=-1: a number of processes"),
    (([1], [KIND], None, None, True), ValueError, "workers=True"),
])
def test_what_is_no_split(arguments, error, message):
    with pytest.raises(error, match=message):
        DatasetSplit(*arguments)


# --- loaders ----------------------------------------------------------------------------------------------

def test_of_takes_dataset_collate_and_workers():
    rows = Rows(split(9))
    ours = DatasetSplit.of(DataLoader(rows, batch_size=3, shuffle=True, num_workers=1), TASKS[:2])
    assert (ours.dataset, ours.workers, ours.collate, ours.seeded) == (rows, 1, None, True)
    doubled = DataLoader(rows, collate_fn=lambda items: (torch.stack([2 * x for x, _ in items]), {
        "kind": torch.stack([y["kind"] for _, y in items])}))
    batch = next(DatasetSplit.of(doubled, TASKS[:2], seeded=False).batches(9))
    assert torch.equal(batch.inputs, 2 * split(9).inputs) and batch.targets.keys() == {"kind"}


ROWS = Rows(split(9))


@pytest.mark.parametrize(("loader", "error", "message"), [
    (lambda: DataLoader(ROWS, batch_size=2, drop_last=True), ValueError, "has drop_last=True, and an epoch is every"),
    (lambda: DataLoader(ROWS, sampler=WeightedRandomSampler([1.0] * 9, 9)), ValueError, "own, WeightedRandomSampler"),
    (lambda: DataLoader(ROWS, sampler=[0, 1]), ValueError, "a sampler of its own, list"),
    (lambda: DataLoader(ROWS, sampler=RandomSampler(ROWS, True)), ValueError, "several times or not at all"),
    (lambda: DataLoader(ROWS, sampler=RandomSampler(ROWS, num_samples=4)), ValueError, "several times or not at all"),
    (lambda: DataLoader(ROWS, batch_sampler=[[0, 1]]), ValueError, "a batch sampler of its own, list"),
    (lambda: DataLoader(ROWS, worker_init_fn=print), ValueError, "has a worker_init_fn"),
    (lambda: DataLoader(Stream()), TypeError, "Stream is an iterable dataset"),
    (lambda: ROWS, TypeError, "Rows is no torch DataLoader"),
])
def test_loaders_with_a_will_of_their_own_are_refused(loader, error, message):
    with pytest.raises(error, match=message):
        DatasetSplit.of(loader(), TASKS[:2])


@pytest.mark.parametrize(("collate", "message"), [
    (lambda items: items, "the collate function must return .* and returned list"),
    (lambda items: (X, {"kind": 0}), "all of them tensors"),
    (lambda items: (torch.zeros(1, 4), {}), "made 1 inputs of 9 samples"),
])
def test_collate_functions_that_return_something_else(collate, message):
    with pytest.raises((TypeError, ValueError), match=message):
        next(DatasetSplit(ROWS, TASKS[:2], collate=collate).batches(9))


# --- sizes ------------------------------------------------------------------------------------------------

DENSE = (data.segmentation("map", 4), data.depth("depth"), data.classification("kind", 3))


def pictures(*sizes):
    random = torch.Generator().manual_seed(0)
    return [(torch.rand(3, h, w, generator=random), {"map": torch.randint(0, 4, (h, w), generator=random).byte(),
             "depth": torch.rand(1, h, w, generator=random), "kind": 1}) for h, w in sizes]


def test_resized_makes_no_new_labels():
    batch = one_batch(pictures((8, 12), (5, 7), (4, 6)), DENSE, collate=data.resized((4, 6)))
    assert batch.inputs.shape == (3, 3, 4, 6) and batch.targets["kind"].tolist() == [1, 1, 1]
    for (inputs, targets), x, seen, far in zip(pictures((8, 12), (5, 7), (4, 6)), batch.inputs, batch.targets["map"],
                                               batch.targets["depth"], strict=True):
        assert set(far.flatten().tolist()) <= set(targets["depth"].flatten().tolist())
        assert set(seen.flatten().tolist()) <= set(targets["map"].flatten().tolist())
        assert abs(x.mean() - inputs.mean()) < 0.05
    assert torch.equal(batch.inputs[2], pictures((8, 12), (5, 7), (4, 6))[2][0])


def test_resized_takes_the_pixel_in_the_middle_and_keeps_void():
    labels = torch.tensor([[0, 0, 0, 1, 1, 1]] * 3)
    real = torch.where(labels == 0, 2.0, float("nan"))[None]
    (_, targets) = data.resized((1, 2))([(torch.rand(3, 3, 6), {"map": labels, "depth": real})])
    assert targets["map"].tolist() == [[[0, 1]]] and targets["depth"].isnan().tolist() == [[[[False, True]]]]


def test_padded_margin_has_no_label():
    batch = one_batch(pictures((2, 3), (3, 2)), DENSE, collate=data.padded((3, 4)))
    inside = torch.zeros(2, 3, 4, dtype=torch.bool)
    inside[0, :2, :3], inside[1, :3, :2] = True, True
    assert torch.equal(batch.targets["map"] >= 0, inside)
    assert torch.equal(~batch.targets["depth"][:, 0].isnan(), inside)
    assert not batch.inputs.masked_fill(inside[:, None], 0).any()
    with pytest.raises(ValueError, match="Sample 0 of list: an image of 2 x 3 pixels does not fit into 2 x 2"):
        one_batch(pictures((2, 3)), DENSE, collate=data.padded((2, 2)))


@pytest.mark.parametrize("size", [4, (4,), (0, 3), (4.0, 3), (True, 3)])
def test_what_is_no_size(size):
    for collate in (data.resized, data.padded):
        with pytest.raises(ValueError, match=r"is no size; give \(height, width\) in pixels"):
            collate(size)


def test_vectors_are_no_images():
    with pytest.raises(ValueError, match=r"inputs of shape \(4,\) are no image"):
        one_batch([(X, {"kind": 0})], [KIND], collate=data.resized((4, 4)))
