"""Problems by name and by address, and what is said when that fails."""

import dataclasses
import sys

import pytest
import torch

from mtlcourse import data
from mtlcourse.data.splits import split_sizes
from mtlcourse.tasks import Problem, TensorSplit
from tests.problems import OFFLINE

SMALL = {"train": 6, "val": 3, "test": 4}

OWN = """
import torch
from mtlcourse import data
from mtlcourse.tasks import Problem, TensorSplit

calls = []
number = 3

def make(samples, seed=0, shape=(2,)):
    calls.append(samples)
    split = TensorSplit(torch.zeros(samples, *shape), {"digit": torch.zeros(samples, dtype=torch.long)})
    return Problem("mine", [data.classification("digit", 3)], split, split, split, shape, {"name": "mlp"})

def hollow():
    return data.describe("rooms")

def nothing():
    return 5

def odd(thing=object()):
    return make(2)

def anything(**options):
    return make(2)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with `own_problem.py` and `broken_problem.py`, as the current directory."""
    (tmp_path / "own_problem.py").write_text(OWN)
    (tmp_path / "broken_problem.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    yield
    for module in ("own_problem", "broken_problem"):
        sys.modules.pop(module, None)


def inputs_of(split):
    """All inputs of a split, whether its tasks share them or not, in one tensor."""
    return split.inputs if split.shared else torch.cat(list(split.inputs.values()))


def facts(problem):
    tasks = [(t.name, t.loss, list(t.metrics), t.out_channels, t.dense, t.kind) for t in problem.tasks]
    return problem.name, tasks, problem.input_shape, problem.encoder, problem.options, problem.training


@pytest.mark.parametrize("name", OFFLINE)
def test_describe_is_load_without_data(name):
    loaded, described = data.load(name, **SMALL), data.describe(name, **SMALL)
    assert facts(loaded) == facts(described)
    assert (described.train, described.val, described.test) == (None, None, None)
    assert {split: len(getattr(loaded, split)) for split in SMALL} == SMALL


@pytest.mark.parametrize("name", OFFLINE)
def test_same_options_same_data_and_another_seed_other_data(name):
    first, again, other = data.load(name, **SMALL), data.load(name, **SMALL), data.load(name, seed=1, **SMALL)
    for split in SMALL:
        a, b, c = (getattr(problem, split) for problem in (first, again, other))
        assert torch.equal(inputs_of(a), inputs_of(b)) and not torch.equal(inputs_of(a), inputs_of(c))
        assert all(torch.equal(a.targets[t], b.targets[t]) for t in a.targets)


@pytest.mark.parametrize("name", OFFLINE)
def test_options_are_complete_and_lead_back(name):
    problem = data.load(name, **SMALL)
    assert problem.options["seed"] == 0 and problem.options["train"] == 6 and "with_data" not in problem.options
    again = data.load(name, **problem.options)
    assert again.options == problem.options and torch.equal(inputs_of(again.test), inputs_of(problem.test))


@pytest.mark.parametrize("name", OFFLINE)
def test_splits_give_batches(name):
    problem = data.load(name, **SMALL)
    batches = list(problem.train.batches(4, shuffle=True, generator=torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == [4, 2]
    assert set(batches[0].targets) == set(problem.task_names)


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("sizes", [{"val": 0}, {"train": -1}])
def test_impossible_sizes_are_refused(name, sizes):
    with pytest.raises(ValueError, match=f"^{next(iter(sizes))}=.*at least 1"):
        data.describe(name, **sizes)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "100", None])
def test_sizes_are_whole_numbers(size):
    assert split_sizes(3, 2, 1) == {"train": 3, "val": 2, "test": 1}
    with pytest.raises(ValueError, match=f"^val={size!r}: .*at least 1"):
        split_sizes(3, size, 1)


def test_unknown_names_list_the_known_ones_nearest_first():
    with pytest.raises(ValueError, match="Unknown problem 'room'. Known: rooms, .*multidigits.*module:function"):
        data.load("room")
    with pytest.raises(TypeError, match="Unknown option of problem 'multidigits' 'ofset'. Known: offset,"):
        data.load("multidigits", ofset=3)


def test_with_data_is_not_an_option():
    with pytest.raises(TypeError, match="Unknown option of problem 'rooms' 'with_data'"):
        data.load("rooms", with_data=False)


def test_registered_problems_are_listed_and_loaded():
    seen = []

    @data.register("tiny")
    def tiny(samples=4, *, with_data=True):
        seen.append(with_data)
        split = TensorSplit(torch.zeros(samples, 1), {"y": torch.zeros(samples, 1)}) if with_data else None
        return Problem("tiny", [data.regression("y")], split, split, split, (1,), {"name": "mlp"})

    assert "tiny" in data.names() and data.names() == sorted(data.names())
    assert len(data.load("tiny", samples=3).train) == 3
    assert data.describe("tiny").train is None
    assert seen == [True, False]
    assert data.register("tiny")(tiny) is tiny  # a notebook cell run twice
    with pytest.raises(ValueError, match="'tiny' is taken by .*tiny"):
        data.register("tiny")(lambda: None)


@pytest.mark.parametrize("name", ["", "a b", "module:function"])
def test_names_that_cannot_be_registered(name):
    with pytest.raises(ValueError, match="cannot be called"):
        data.register(name)


def test_own_problem_by_address(own):
    problem = data.load("own_problem:make", samples=5, shape=(4, 2))
    assert len(problem.train) == 5 and problem.input_shape == (4, 2)
    assert problem.options == {"samples": 5, "seed": 0, "shape": [4, 2]}
    described = data.describe("own_problem:make", samples=5)
    assert described.train is None and described.task_names == ["digit"]
    assert data.load("own_problem:anything", colour="red").options == {"colour": "red"}


@pytest.mark.parametrize("address, error, words", [
    ("own_problem:mak", ValueError, r"Unknown function in .*own_problem.py 'mak'. Known: make,"),
    ("own_problem:number", ValueError, "is int, not a function"),
    ("own_problem:nothing", TypeError, "returned int, not a Problem"),
    ("own_problem:hollow", TypeError, "came without data: train, val, test is None"),
    ("own_problem:odd", TypeError, "must be plain data"),
    ("own_problem:make", TypeError, "needs the option 'samples'"),
    ("own_problen:make", ValueError, "No module 'own_problen'"),
    ("no.such.package:make", ValueError, "No module 'no'"),
    ("own_problem.py:make", ValueError, "No module 'own_problem.py'"),
    ("own_problem:", ValueError, "not the address of a function"),
    (":make", ValueError, "not the address of a function"),
    ("./own_problem:make", ValueError, "not the address of a function"),
    ("own_problem:make:more", ValueError, "not the address of a function"),
    ("broken_problem:make", ModuleNotFoundError, "a_library_that_is_not_there"),
])
def test_what_is_wrong_with_an_address_is_said(own, address, error, words):
    with pytest.raises(error, match=words):
        data.load(address)


def test_options_that_no_run_could_store_are_refused():
    @data.register("tiny")
    def tiny(factor=1.0):
        return data.describe("rooms")

    with pytest.raises(TypeError, match="must be plain data"):
        data.describe("tiny", factor=float("nan"))


def test_a_problem_keeps_what_its_own_function_set():
    @data.register("tiny")
    def tiny(version="1"):
        return dataclasses.replace(data.describe("rooms"), options={"version": "1.2", "origin": "here"})

    assert data.describe("tiny").options == {"version": "1.2", "origin": "here"}
