"""Problems of several domains: what trains sees no label of a target, and what does not fit is refused."""

import dataclasses

import pytest
import torch

from mtlcourse import data
from mtlcourse.data import DomainProblem, Target, Unlabelled
from mtlcourse.tasks import Problem, TensorSplit
from tests import domains


def tensors_in(thing: object, seen: set[int] | None = None) -> list[torch.Tensor]:
    """Every tensor that can be reached from `thing` through attributes and containers."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return [thing]
    if isinstance(thing, dict):
        parts = list(thing.values())
    elif isinstance(thing, (list, tuple)):
        parts = list(thing)
    else:
        slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        parts = [*vars(thing).values()] if hasattr(thing, "__dict__") else []
        parts += [getattr(thing, name) for name in slots if hasattr(thing, name)]
    return [tensor for part in parts if not isinstance(part, type) for tensor in tensors_in(part, seen)]


def test_a_view_reaches_no_label_and_no_test_input_of_a_target():
    problem = domains.problem(["there", "beyond"])
    reached = {tensor.data_ptr() for tensor in tensors_in(problem.view)}
    for domain, target in problem.targets.items():
        assert target.test.targets[domain].data_ptr() not in reached
        assert target.test.inputs.data_ptr() not in reached
        assert target.train.inputs.data_ptr() in reached  # the walk finds what is there
    assert problem.train.targets["here"].data_ptr() in reached
    everything = {tensor.data_ptr() for tensor in tensors_in(problem)}
    assert problem.targets["there"].test.targets["there"].data_ptr() in everything


def test_unlabelled_has_no_place_for_labels():
    inputs = Unlabelled(torch.zeros(3, 2))
    with pytest.raises(AttributeError):
        inputs.targets = {"there": torch.zeros(3)}
    assert [len(batch) for batch in inputs.batches(2)] == [2, 1] and len(inputs.first(2)) == 2


def test_tasks_are_the_targets():
    problem = domains.problem(["there", "beyond"])
    assert not isinstance(problem, Problem)
    assert problem.task_names == ["there", "beyond"] and [task.name for task in problem.tasks] == problem.task_names
    assert problem.view.task.name == "here" and problem.view.source.task_names == ["here"]
    sealed = problem.sealed()
    assert sealed.task_names == ["there", "beyond"] and sealed.test.count("there") == domains.SIZES["test"]


def test_sized_cuts_every_domain():
    small = domains.problem(["there", "beyond"]).sized(10, 5)
    assert [len(small.train), len(small.val), len(small.test)] == [10, 5, 5]
    for target in small.targets.values():
        assert [len(target.train), len(target.val), len(target.test)] == [10, 5, 5]


def changed(**parts: object) -> DomainProblem:
    problem = domains.problem()
    target = dataclasses.replace(problem.targets["there"], **parts)
    return dataclasses.replace(problem, targets={"there": target})


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_other_input_shapes_are_refused(part):
    wide = Unlabelled(torch.zeros(4, 7)) if part != "test" else TensorSplit(
        torch.zeros(4, 7), {"there": torch.zeros(4, dtype=torch.long)})
    with pytest.raises(ValueError, match=rf"of 'there' \({part}\) have shape \(7,\), those of 'here' have \(6,\)"):
        changed(**{part: wide})


def test_other_label_sets_are_refused():
    test = TensorSplit(torch.zeros(2, 6), {"there": torch.tensor([0, 3])})
    with pytest.raises(ValueError, match=r"'there' has the labels \[3\], which no sample of the source 'here' has"):
        changed(test=test)
    problem = domains.problem()
    without = problem.train.subset((problem.train.targets["here"] != 2).nonzero().flatten())
    with pytest.raises(ValueError, match=r"'there' has the labels \[2\], which no sample of the source 'here' has"):
        dataclasses.replace(problem, train=without)


def test_no_target_and_an_empty_one_are_refused():
    with pytest.raises(ValueError, match="has no target domain"):
        dataclasses.replace(domains.problem(), targets={})
    with pytest.raises(ValueError, match="A target domain has no samples"):
        Unlabelled(torch.zeros(0, 6))
    with pytest.raises(TypeError, match="inputs are list, and must be a tensor"):
        Unlabelled([1.0])
    with pytest.raises(TypeError, match="target 'there' is Unlabelled; give Target"):
        dataclasses.replace(domains.problem(), targets={"there": Unlabelled(torch.zeros(2, 6))})


def test_the_source_is_no_target_and_the_task_a_classification():
    problem = domains.problem()
    with pytest.raises(ValueError, match="'here' is the source and a target"):
        dataclasses.replace(problem, targets={"here": problem.targets["there"]})
    with pytest.raises(ValueError, match="no classification of whole samples"):
        dataclasses.replace(problem, task=data.regression("here"))


# --- by name ----------------------------------------------------------------------------------------------

def test_the_two_kinds_of_problems_have_names_apart():
    assert "digit_domains" in data.names(domains=True) and "digit_domains" not in data.names()
    assert "multidigits" in data.names() and "multidigits" not in data.names(domains=True)
    with pytest.raises(TypeError, match=r"'digit_domains' is a problem of several domains.*data.domains\('digit_dom"):
        data.load("digit_domains")
    with pytest.raises(TypeError, match="'relatedness' is a multi-task problem"):
        data.domains("relatedness")
    assert isinstance(data.domains("tests.domains:problem", targets=["there", "beyond"]), DomainProblem)
    with pytest.raises(ValueError, match="Unknown problem 'digit_domain'. Known: digit_domains"):
        data.domains("digit_domain")


def test_digits_are_described_without_data():
    described = data.describe("digit_domains", source="mnist", target=["optdigits", "mnist-photographs"])
    assert described.task_names == ["optdigits", "mnist_photographs"] and described.train is None
    assert described.targets == {"optdigits": None, "mnist_photographs": None}
    whole = data.domains("digit_domains", source="mnist", target=["optdigits", "mnist-photographs"])
    assert (whole.input_shape, whole.encoder, whole.options) == (
        described.input_shape, described.encoder, described.options)
    assert whole.options["side"] == 8


def rows_of(split: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in split.flatten(1)}


def test_no_image_is_in_two_splits_or_two_domains():
    problem = data.domains("digit_domains", source="mnist", target="mnist-photographs", side=28)
    assert problem.input_shape == (3, 28, 28)
    sizes = {part: len(getattr(problem, part)) for part in ("train", "val", "test")}
    assert sum(sizes.values()) == 2500 and sizes["train"] == 1750
    parts = [rows_of(getattr(problem, part).inputs) for part in sizes]
    assert sum(map(len, parts)) == len(set().union(*parts))
    target = problem.targets["mnist_photographs"]
    assert len(target.train) + len(target.val) + len(target.test) == 2500
    # |photograph - digit| of a digit of 0 or 1 has the digit's edge; the source's digits are other ones
    plain = data.domains("digit_domains", source="optdigits", target="mnist")
    shares = torch.bincount(plain.train.targets["optdigits"])
    assert shares.min() >= 0.9 * shares.float().mean()


@pytest.mark.parametrize(("options", "message"), [
    ({"source": "mnist", "target": "mnist"}, "one comes twice"),
    ({"target": "svhm"}, "Unknown domain 'svhm'. Known: .*mnist"),
    ({"source": "fashion"}, "some show digits and others clothes"),
    ({"side": 9}, "from 1 to 8"), ({"side": 0}, "side=0"), ({"side": True}, "side=True"),
    ({"target": []}, "has no target domain")])
def test_domains_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.describe("digit_domains", **options)


def test_other_seeds_are_other_splits():
    first, same, other = (data.domains("digit_domains", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.inputs, same.train.inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)


def test_target_is_a_plain_record():
    assert [field.name for field in dataclasses.fields(Target)] == ["train", "val", "test"]
