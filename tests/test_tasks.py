"""Tasks, batches, splits and problems: what they accept, what they refuse, and that counts are right."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlcourse import data, losses, metrics, models, tasks
from mtlcourse.tasks import Batch, Problem, Task, TensorSplit, mean_losses
from mtlcourse.void import VOID, has_target, valid_mask
from tests.problems import TASKS, doubled, small, split

NAN = float("nan")


def task(name="digit", **changes):
    settings = {"loss": losses.cross_entropy, "metrics": {"accuracy": metrics.Accuracy}, "out_channels": 3}
    return Task(name, **{**settings, **changes})


# --- tasks -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["left digit", "1st", "class", "", "left-digit"])
def test_a_task_name_must_be_an_identifier(name):
    with pytest.raises(ValueError, match="not a Python identifier.*letters, digits and underscores"):
        task(name)


@pytest.mark.parametrize("changes, message", [
    ({"out_channels": 0}, "'digit' has out_channels=0; it needs at least 1"),
    ({"kind": "ranking"}, "'digit' has kind='ranking'; use 'classification' or 'regression'"),
    ({"metrics": {}}, "'digit' has no metric; give at least one"),
])
def test_a_task_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        task(**changes)


REAL = {"kind": "regression", "loss": losses.l1, "metrics": {"mae": metrics.MAE}, "out_channels": 2}


@pytest.mark.parametrize("changes, target, error, message", [
    ({}, torch.zeros(5, 3).long(), ValueError, r"\(5, 3\), expected \(samples,\): one class index a sample, not one"),
    ({"dense": True}, torch.zeros(5, 4, 4).long(), ValueError, r"expected \(samples, 4, 6\)"),
    (REAL, torch.zeros(5), ValueError, r"shape \(5,\), expected \(samples, 2\)"),
    ({**REAL, "dense": True}, torch.zeros(5, 4, 6), ValueError, r"expected \(samples, 2, 4, 6\)"),
    ({}, torch.zeros(5), TypeError, r"class targets are torch.float32; convert with .long\(\)"),
    ({}, torch.zeros(5).bool(), TypeError, "class targets are torch.bool"),
    (REAL, torch.zeros(5, 2).long(), TypeError, r"regression targets are torch.int64; convert with .float\(\)"),
    ({}, torch.tensor([0, 3]), ValueError, "labels run from 0 to 3, allowed are 0 to 2 and -1 for 'no label'"),
    ({}, torch.tensor([-2, 1]), ValueError, "labels run from -2 to 1"),
    ({"out_channels": 1}, torch.tensor([0, 2]), ValueError, "labels run from 0 to 2, allowed are 0 to 1"),
])
def test_targets_that_do_not_belong_to_the_task_are_refused(changes, target, error, message):
    with pytest.raises(error, match=f"Task 'digit': .*{message}"):
        task(**changes).check(target, (3, 4, 6))


@pytest.mark.parametrize("changes, target", [
    ({}, torch.tensor([0, 2, VOID])), ({}, torch.tensor([0, 2], dtype=torch.uint8)), ({}, torch.zeros(0).long()),
    ({"out_channels": 1}, torch.tensor([0, 1, VOID])), ({"dense": True}, torch.full((2, 4, 6), VOID)),
    (REAL, torch.tensor([[0.5, NAN]])), ({**REAL, "dense": True}, torch.zeros(1, 2, 4, 6).double()),
])
def test_targets_that_belong_to_the_task_pass(changes, target):
    task(**changes).check(target, (3, 4, 6))


# --- void ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target, valid, has", [
    (torch.tensor([0, VOID, 2]), [True, False, True], [True, False, True]),
    (torch.tensor([[0, VOID], [VOID, VOID]]), [[True, False], [False, False]], [True, False]),
    (torch.tensor([[1.0, NAN], [NAN, NAN], [float("inf"), 0.0]]), [[True, False], [False, False], [True, True]],
     [True, False, True]),
    (torch.tensor([-1.0, NAN]), [True, False], [True, False]),
])
def test_what_is_labelled(target, valid, has):
    assert valid_mask(target).tolist() == valid
    assert has_target(target).tolist() == has


# --- batches and their losses --------------------------------------------------------------------------

@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.7]), st.integers(1, 9))
def test_mean_losses_are_means_over_the_samples_that_have_the_task(seed, void, batch_size):
    generator = torch.Generator().manual_seed(seed)
    names = [task.name for task in TASKS]
    for batch in split(13, tuple(names), seed, void).batches(batch_size, shuffle=True, generator=generator):
        predictions = {t.name: torch.randn(len(batch), t.out_channels, generator=generator) for t in TASKS}
        means = mean_losses(TASKS, predictions, batch)
        for t in TASKS:
            if t.name not in batch.targets:
                assert t.name not in means and batch.count(t.name) == 0
                continue
            pairs = zip(predictions[t.name], batch.targets[t.name], strict=True)
            single = [t.loss(p[None], y[None]).item() for p, y in pairs if has_target(y[None]).item()]
            assert means[t.name].item() == pytest.approx(sum(single) / len(single), rel=1e-5)
            assert batch.count(t.name) == len(single) == Batch(batch.inputs, batch.targets).count(t.name)


def test_a_task_without_prediction_target_or_label_has_no_loss():
    predictions = {"kind": torch.zeros(2, 3), "size": torch.zeros(2, 2)}
    targets = {"kind": torch.tensor([VOID, VOID]), "size": torch.tensor([[1.0, NAN], [NAN, NAN]]),
               "big": torch.tensor([0, 1])}
    found = mean_losses(TASKS, predictions, Batch(torch.zeros(2, 4), targets))
    assert list(found) == ["size"]
    assert found["size"].item() == 1.0  # one sample has the task, and of that only one element


def test_void_labels_send_no_gradient():
    problem = small(("kind", "size"), void=0.5)
    prediction = torch.zeros(40, 2, requires_grad=True)
    batch = Batch(problem.train.inputs, problem.train.targets)
    mean_losses(problem.tasks, {"size": prediction}, batch)["size"].backward()
    assert torch.equal(prediction.grad != 0, ~batch.targets["size"].isnan())


def test_a_batch_knows_its_length_and_moves():
    batch = Batch({"a": torch.zeros(3, 2), "b": torch.zeros(5, 2)}, {"a": torch.zeros(3).long()}, {"a": 3})
    assert len(batch) == 5 and len(Batch(torch.zeros(4, 1), {})) == 4 and len(Batch({}, {})) == 0
    moved = batch.to("meta")
    assert {x.device.type for x in [*moved.inputs.values(), *moved.targets.values()]} == {"meta"}
    assert moved.count("a") == 3 and moved.count("b") == 0


# --- splits ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("inputs, targets, message", [
    (torch.zeros(3, 2), {}, "needs the targets of at least one task"),
    (torch.zeros(3, 2), {"a": torch.zeros(4)}, "'a' has 4 targets for 3 inputs; they must match"),
    (torch.zeros(0, 2), {"a": torch.zeros(0)}, "'a' has no samples; a split needs at least one"),
    ({"a": torch.zeros(3, 2)}, {"a": torch.zeros(3), "b": torch.zeros(3)}, r"'b' has targets but no inputs.*\['a'\]"),
])
def test_splits_that_cannot_be_are_refused(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        TensorSplit(inputs, targets)


def test_in_order_batches_are_the_split_itself():
    whole = split(10)
    batches = list(whole.batches(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), whole.inputs)
    assert torch.equal(torch.cat([batch.targets["kind"] for batch in batches]), whole.targets["kind"])
    assert batches[0].inputs.data_ptr() == whole.inputs.data_ptr()  # views, not copies


def numbered(samples):
    return TensorSplit(torch.arange(samples).float()[:, None], {"a": torch.arange(samples)})


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 99))
def test_shuffled_batches_hold_each_sample_once_with_its_own_target(samples, batch_size, seed):
    batches = list(numbered(samples).batches(batch_size, True, torch.Generator().manual_seed(seed)))
    seen = torch.cat([batch.targets["a"] for batch in batches])
    assert sorted(seen.tolist()) == list(range(samples))
    assert torch.equal(torch.cat([batch.inputs for batch in batches])[:, 0].long(), seen)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)


def test_the_generator_decides_the_order():
    def epochs(seed):
        generator = torch.Generator().manual_seed(seed)
        return [[batch.targets["a"].tolist() for batch in numbered(20).batches(7, True, generator)] for _ in range(2)]

    assert epochs(1) == epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        list(numbered(3).batches(0))


def own(lengths):
    return TensorSplit({name: torch.arange(n).float()[:, None] for name, n in lengths.items()},
                       {name: torch.arange(n) for name, n in lengths.items()})


@given(st.integers(1, 9), st.integers(1, 25), st.integers(1, 6), st.integers(0, 99))
def test_with_own_inputs_an_epoch_is_the_longest_task_and_shorter_ones_start_again(a, b, batch_size, seed):
    lengths = {"a": a, "b": b}
    batches = list(own(lengths).batches(batch_size, True, torch.Generator().manual_seed(seed)))
    assert len(own(lengths)) == max(a, b)
    assert len(batches) == -(-max(a, b) // batch_size)
    for name, n in lengths.items():
        seen = torch.cat([batch.targets[name] for batch in batches]).tolist()
        assert torch.cat([batch.inputs[name] for batch in batches])[:, 0].long().tolist() == seen
        assert len(seen) == max(a, b)
        for start in range(0, len(seen) - n + 1, n):  # each round is a whole order of its own
            assert sorted(seen[start : start + n]) == list(range(n))


@given(st.integers(1, 9), st.integers(1, 25), st.integers(1, 6))
def test_with_own_inputs_in_order_each_sample_comes_once(a, b, batch_size):
    batches = list(own({"a": a, "b": b}).batches(batch_size))
    for name, n in {"a": a, "b": b}.items():
        parts = [batch.targets[name] for batch in batches if name in batch.targets]
        assert torch.cat(parts).tolist() == list(range(n))
        assert len(parts) == -(-n // batch_size)  # a task that has run out is missing
        assert all((name in batch.inputs) == (name in batch.targets) for batch in batches)


def test_tasks_of_own_inputs_are_shuffled_apart():
    generator = torch.Generator().manual_seed(0)
    batch = next(iter(own({"a": 50, "b": 50}).batches(50, True, generator)))
    assert batch.targets["a"].tolist() != batch.targets["b"].tolist()


def test_a_split_counts_its_labels():
    voids = TensorSplit(torch.zeros(4, 1), {"a": torch.tensor([VOID, 1, VOID, 2]), "b": torch.zeros(4).long()})
    assert [voids.count(name) for name in "abc"] == [2, 4, 0]


def test_subsets():
    whole = numbered(6)
    assert whole.subset([4, 0, 4]).targets["a"].tolist() == [4, 0, 4]
    assert whole.subset(torch.tensor([5])).inputs.tolist() == [[5.0]]
    assert whole.subset(range(2)).targets["a"].tolist() == [0, 1]
    both = own({"a": 5, "b": 3})
    assert both.subset({"a": [4], "b": [1, 2]}).targets["b"].tolist() == [1, 2]
    assert both.subset([2, 0]).targets["a"].tolist() == [2, 0] == both.subset([2, 0]).inputs["b"][:, 0].tolist()


@pytest.mark.parametrize("indices, error, message", [
    ({"a": [0]}, TypeError, "share their inputs: give one list of indices"),
    (torch.tensor([True] * 6), TypeError, r"takes indices, not a mask: give mask.nonzero\(\).flatten\(\)"),
    ([], ValueError, "'a' has no samples"),
])
def test_subsets_that_cannot_be_are_refused(indices, error, message):
    with pytest.raises(error, match=message):
        numbered(6).subset(indices)


PAIRS = torch.tensor([[0, 1], [0, 2], [3, 1], [4, 4], [5, 0], [2, 6]])


def grouped(groups=PAIRS):
    return TensorSplit(torch.arange(6).float()[:, None], {"a": torch.arange(6)}, groups)


@pytest.fixture
def no_look(monkeypatch):
    """A split may be moved to the device that has no data, which stands here for one that is not the host."""
    monkeypatch.setattr(tasks, "_labelled", lambda target: None)


def test_groups_go_with_their_samples(no_look):
    whole = grouped()
    assert torch.equal(whole.groups, PAIRS) and numbered(6).groups is None
    assert torch.equal(whole.subset([4, 0, 4]).groups, PAIRS[[4, 0, 4]])
    assert torch.equal(whole.first(2).groups, PAIRS[:2]) and whole.first(9).groups.tolist() == PAIRS.tolist()
    assert whole.to("cpu") is whole and torch.equal(whole.to("meta").groups, PAIRS)  # for no device ever needs them
    assert numbered(6).subset([1]).groups is None and numbered(6).to("meta").groups is None
    cut = problem(TASKS[:1], grouped_split(8), val=grouped_split(8), test=grouped_split(8)).sized(5, 3)
    assert [part.groups.tolist() for part in (cut.train, cut.val)] == [[[0], [0], [1], [1], [2]], [[0], [0], [1]]]


def grouped_split(samples):
    made = split(samples, ("kind",))
    return TensorSplit(made.inputs, made.targets, torch.arange(samples)[:, None] // 2)


def test_groups_of_tasks_with_own_inputs_go_with_them(no_look):
    ids = {"a": torch.tensor([[0], [0], [1], [1], [2]]), "b": torch.tensor([[7], [7], [8]], dtype=torch.int32)}
    both = own({"a": 5, "b": 3})
    whole = TensorSplit(both.inputs, both.targets, ids)
    assert {task: some.flatten().tolist() for task, some in whole.subset({"a": [4], "b": [2, 0]}).groups.items()} == {
        "a": [2], "b": [8, 7]}
    assert whole.subset([2, 0]).groups["a"].tolist() == [[1], [0]] and len(whole.first(4).groups["b"]) == 3
    assert whole.to("meta").groups["b"].tolist() == [[7], [7], [8]]


@pytest.mark.parametrize("groups, error, message", [
    (torch.zeros(5, 1).long(), ValueError, r"groups have shape \(5, 1\); it must be \(6, 1\) or \(6, 2\)"),
    (torch.zeros(6).long(), ValueError, r"groups have shape \(6,\)"),
    (torch.zeros(6, 3).long(), ValueError, r"groups have shape \(6, 3\)"),
    (torch.zeros(6, 0).long(), ValueError, r"groups have shape \(6, 0\)"),
    (torch.zeros(6, 1), TypeError, "groups are torch.float32, and must be a tensor of whole numbers"),
    (torch.zeros(6, 1).bool(), TypeError, "groups are torch.bool"),
    ([[0]] * 6, TypeError, "groups are list, and must be a tensor"),
    ({"a": PAIRS}, TypeError, "one tensor where tasks share their inputs.*these are dict"),
])
def test_groups_that_cannot_be_are_refused(groups, error, message):
    with pytest.raises(error, match=message):
        grouped(groups)


@pytest.mark.parametrize("groups, error, message", [
    (PAIRS, TypeError, "{task: tensor} where each has its own; these are torch.Tensor"),
    ({"a": torch.zeros(5, 1).long()}, TypeError, "groups of 'b' are NoneType, and must be a tensor"),
    ({"a": torch.zeros(5, 1).long(), "b": torch.zeros(5, 1).long()}, ValueError, r"groups of 'b'.*must be \(3, 1\)"),
])
def test_groups_of_own_inputs_that_cannot_be_are_refused(groups, error, message):
    both = own({"a": 5, "b": 3})
    with pytest.raises(error, match=message):
        TensorSplit(both.inputs, both.targets, groups)


def test_the_first_samples():
    assert numbered(6).first(2).targets["a"].tolist() == [0, 1]
    assert len(numbered(6).first(10)) == 6
    few = own({"a": 5, "b": 3}).first(4)
    assert (len(few.targets["a"]), len(few.targets["b"])) == (4, 3)


def test_a_split_stays_itself_on_its_own_device():
    whole = numbered(3)
    assert whole.to("cpu") is whole
    assert whole.device == torch.device("cpu")


# --- problems ------------------------------------------------------------------------------------------

def problem(tasks, train, **changes):
    return Problem("mine", tasks, **{"train": train, "val": train, "test": train, "input_shape": (4,),
                                     "encoder": {"name": "mlp"}, **changes})


class NoSamples:
    def __len__(self):
        return 0


@pytest.mark.parametrize("tasks, train, changes, message", [
    ([], None, {}, "has no tasks; give at least one Task"),
    ([TASKS[0], TASKS[0]], None, {}, r"tasks of the same name: \['kind', 'kind'\]"),
    (TASKS, NoSamples(), {}, "split 'train' has no samples"),
    (TASKS, split(5), {}, r"split 'train' has no labels for \['big'\]"),
    (TASKS[:1], split(5), {"val": TensorSplit(torch.zeros(2, 4), {"kind": torch.tensor([VOID, VOID])})},
     r"split 'val' has no labels for \['kind'\]"),
    (TASKS[:1], split(5), {"input_shape": (5,)}, r"split 'train': inputs have shape \(5, 4\), expected \(samples, 5\)"),
    (TASKS[:2], split(5, own=True), {"input_shape": (3, 2)}, r"kind have shape \(5, 4\), expected \(samples, 3, 2\)"),
    (TASKS[:1], split(5), {"test": TensorSplit(torch.zeros(2, 4), {"kind": torch.tensor([0, 9])})},
     "split 'test': Task 'kind': labels run from 0 to 9"),
])
def test_problems_that_cannot_be_are_refused(tasks, train, changes, message):
    with pytest.raises(ValueError, match=f"Problem 'mine'.*{message}"):
        problem(tasks, train, **changes)


def test_a_target_of_the_wrong_dtype_is_told_with_problem_and_split():
    wrong = TensorSplit(torch.zeros(2, 4), {"kind": torch.zeros(2)})
    with pytest.raises(TypeError, match="Problem 'mine', split 'train': Task 'kind': class targets are torch.float32"):
        problem(TASKS[:1], wrong)


def test_a_batch_of_another_kind_of_split_can_be_checked():
    with pytest.raises(ValueError, match="Problem 'small', first training batch: Task 'kind': labels run"):
        small().check(Batch(torch.zeros(1, 4), {"kind": torch.tensor([7])}), "first training batch")


def test_a_problem_cut_to_size():
    whole = small()
    cut = whole.sized(7, 3)
    assert [len(part) for part in (cut.train, cut.val, cut.test)] == [7, 3, 3]
    assert torch.equal(cut.train.inputs, whole.train.inputs[:7])
    assert (cut.name, cut.tasks, cut.encoder) == (whole.name, whole.tasks, whole.encoder)
    assert whole.sized(None).train is whole.train and whole.sized(1000, 1000).val is whole.val


def test_a_split_of_another_class_is_cut_by_subset():
    class Memory:
        def __init__(self, rows):
            self.rows = list(rows)

        def __len__(self):
            return len(self.rows)

        def subset(self, indices):
            return Memory(self.rows[i] for i in indices)

    assert problem(TASKS, Memory("abcd")).sized(2).train.rows == ["a", "b"]


def test_tasks_keep_their_order():
    names = ["size", "big", "kind"]
    ordered = problem([next(t for t in TASKS if t.name == name) for name in names], split(5, ("kind", "size", "big")))
    assert ordered.task_names == names


def test_every_metric_of_a_task_starts_afresh():
    t = task(metrics={"iou": partial(metrics.MeanIoU, 3)})
    assert t.metrics["iou"]() is not t.metrics["iou"]()


X = torch.zeros(4, 2)


@pytest.mark.parametrize("inputs, targets, message", [
    (X.numpy(), {"a": X}, r"inputs are numpy.ndarray, and must be a tensor: give torch.from_numpy\(...\)"),
    (X, {"a": X.numpy()}, "targets of 'a' are numpy.ndarray"), (X.tolist(), {"a": X}, r"list.*torch.tensor\(...\)"),
    ({"a": X.numpy()}, {"a": X}, "inputs of 'a' are numpy.ndarray"), (X, X, "targets are torch.Tensor; give a dict"),
])
def test_what_is_no_tensor_is_told_what_to_become(inputs, targets, message):
    with pytest.raises(TypeError, match=message):
        TensorSplit(inputs, targets)


@pytest.mark.parametrize("task, target, remedy", [
    (data.classification("a", 3), torch.zeros(4, 1).long(), "squeeze\\(1\\)"),
    (data.binary("a"), torch.zeros(4, 1), "squeeze\\(1\\)"),
    (data.classification("a", 3), torch.zeros(4, 3).long(), "argmax\\(1\\)"),
    (data.segmentation("a", 3), torch.zeros(4, 1, 5, 6).long(), "squeeze\\(1\\)"),
    (data.regression("a"), torch.zeros(4), "unsqueeze\\(1\\)"),
    (data.depth("a"), torch.zeros(4, 5, 6), "unsqueeze\\(1\\)"),
])
def test_targets_that_are_nearly_right_are_told_what_to_become(task, target, remedy):
    with pytest.raises(ValueError, match=f"expected .*give target.{remedy}"):
        task.check(target, (3, 5, 6))
    fixed = {"squeeze\\(1\\)": target.squeeze, "argmax\\(1\\)": target.argmax, "unsqueeze\\(1\\)": target.unsqueeze}
    made = fixed[remedy](1)
    task.check(made.long() if task.kind == "classification" else made, (3, 5, 6))


# --- what is outside, and probes ------------------------------------------------------------------------

def test_what_is_outside_is_cut_like_the_splits():
    problem = replace(small(), outside={name: torch.zeros(30, 4) for name in ("lower", "upper", "test")})
    sized = problem.sized(12, 5)
    assert {name: len(inputs) for name, inputs in sized.outside.items()} == {"lower": 12, "upper": 12, "test": 5}
    assert {len(inputs) for inputs in problem.sized(None).outside.values()} == {30}


@pytest.mark.parametrize(("inputs", "kind", "message"), [
    (torch.zeros(5, 1, 28, 28), ValueError, r"outside set 'upper' has shape \(5, 1, 28, 28\), expected \(samples, 4\)"),
    (torch.zeros(0, 4), ValueError, r"outside set 'upper' has shape \(0, 4\)"),
    (torch.zeros(5, 4, dtype=torch.uint8), TypeError, r"is torch.uint8, .* convert it with .to\(torch.float32\)"),
])
def test_what_is_outside_must_look_like_the_inputs(inputs, kind, message):
    with pytest.raises(kind, match=message):
        replace(small(), outside={"upper": inputs})


def test_a_probe_must_say_which_way_is_better():
    with pytest.raises(TypeError, match="probe 'attack' does not say whether more is better"):
        replace(small(), probes={"attack": lambda model, problem: {}})


# --- shares ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("batch_size", "size"), [(4, 2), (5, 3), (3, 3), (7, 1), (41, 8)])
def test_a_split_gives_the_shares_that_its_batches_have(own, shuffle, batch_size, size):
    part = split(13, ("kind", "size", "big"), void=0.6, own=own)

    def epoch(**options):
        return list(part.batches(batch_size, shuffle, torch.Generator().manual_seed(3), **options))

    whole = epoch()
    for rank in range(size):
        for batch, share in zip(whole, epoch(share=(rank, size)), strict=True):
            wanted = batch.parts(size)[rank]
            assert share.counts == batch.counts and share.samples == batch.samples and share.shares == size
            assert list(share.targets) == list(batch.targets) == list(wanted.targets)
            for name in batch.targets:
                torch.testing.assert_close(share.targets[name], wanted.targets[name], rtol=0, atol=0, equal_nan=True)
                assert share.labelled[name].equal(batch.labelled[name])
            if own:
                assert all(share.inputs[name].equal(wanted.inputs[name]) for name in batch.targets)
            else:
                assert share.inputs.equal(wanted.inputs)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 11])
def test_losses_and_gradients_of_shares_add_up_to_those_of_the_batch(own, k):
    problem = doubled(small(("kind", "size", "big"), void=0.8, own=own))
    model = models.HPS(problem).double()
    for batch in problem.train.batches(7, shuffle=True, generator=torch.Generator().manual_seed(0)):
        def all_of(some):
            losses = mean_losses(problem.tasks, model(some.inputs), some)
            return losses, torch.autograd.grad(sum(losses.values()), list(model.parameters()), allow_unused=True,
                                               materialize_grads=True)

        losses, gradients = all_of(batch)
        shares = [all_of(share) for share in batch.parts(k)]
        for name, loss in losses.items():
            assert sum(share[name] for share, _ in shares).item() == pytest.approx(loss.item(), abs=1e-12)
        for gradient, *parts in zip(gradients, *(found for _, found in shares), strict=True):
            assert torch.allclose(sum(parts), gradient.to(parts[0]), atol=1e-12)


def test_parts_of_a_share_are_shares_of_the_whole_batch():
    batch = next(split(10, void=0.5).batches(9))
    parts = [part for share in batch.parts(2) for part in share.parts(3)]
    assert torch.cat([part.inputs for part in parts]).equal(batch.inputs)
    assert {part.shares for part in parts} == {6} and {part.samples for part in parts} == {9}
    assert all(part.counts == batch.counts for part in parts)


def test_a_share_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"share=\(2, 2\) is none"):
        next(split(10).batches(4, share=(2, 2)))
