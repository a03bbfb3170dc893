"""The best epoch: by a rule that every metric has, by one metric, by a function; and when to stop."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlcourse import losses, models
from mtlcourse.files import seed_everything
from mtlcourse.metrics import F1, Accuracy
from mtlcourse.tasks import Task, TensorSplit
from mtlcourse.training import Selection, evaluate, fit
from tests.problems import small

BOTH = small().tasks  # kind: accuracy; size: mse and r2


def pick(select, scores: list[dict], tasks=BOTH, patience=None) -> tuple[int, list[int]]:
    """The epoch that is kept of these epochs' scores, and those that were the best for a while."""
    selection, kept = Selection(select, patience, tasks), []
    for epoch, values in enumerate(scores, start=1):
        selection.note(epoch, values, dict)
        kept.append(selection.best["epoch"])
        if selection.is_over(epoch):
            break
    return kept[-1], kept


def test_a_metric_that_is_zero_at_first_counts():
    f1 = [0.0, 0.0, 0.0, 0.17, 0.3, 0.35, 0.5, 0.48, 0.6, 0.66, 0.7, 0.74, 0.78, 0.8, 0.82]
    rare = Task("rare", losses.binary_cross_entropy, {"f1": F1}, 1)
    assert pick("best-val", [{"rare": {"f1": value, "loss": 1.0}} for value in f1], [rare])[0] == 15


@pytest.mark.parametrize("values, best", [
    ([0.0, 0.0, 0.0], 1), ([0.2, 0.5, 0.5, 0.1], 2), ([-0.4, -0.1, 0.0, 0.3], 4), ([math.nan, math.nan, 0.1, 0.3], 4),
    ([0.3, math.nan], 1), ([math.nan, math.nan], 1), ([0.5, math.inf, 0.6], 3), ([-math.inf, 0.0, 0.0], 2),
])
def test_with_one_metric_it_is_the_first_of_the_best(values, best):
    tasks = [replace(BOTH[0], metrics={"accuracy": Accuracy})]
    scores = [{"kind": {"accuracy": value, "loss": 1.0}} for value in values]
    assert pick("best-val", scores, tasks)[0] == best == pick(("kind", "accuracy"), scores, tasks)[0]


def rows(*epochs):
    return [{"kind": {"accuracy": a, "loss": -a}, "size": {"mse": m, "r2": r, "loss": m}} for a, m, r in epochs]


def test_tasks_count_alike_however_many_metrics_they_have():
    assert pick("best-val", rows((0.5, 2.0, 0.0), (0.9, 3.0, 0.0), (0.9, 2.9, 0.1)))[0] == 3
    # accuracy over its whole range against one of two metrics of the other task over theirs
    assert pick("best-val", rows((0.5, 2.0, 0.1), (0.9, 3.0, 0.1)))[0] == 2
    assert pick("best-val", rows((0.5, 2.0, 0.1), (0.9, 3.0, 0.0)))[0] == 1  # one against one: the first stays


numbers = st.floats(-100, 100).map(lambda x: round(x, 2)) | st.just(0.0) | st.just(math.nan)
histories = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=8)


@given(histories)
def test_no_epoch_is_better_than_the_one_that_is_kept_in_one_metric_and_worse_in_none(epochs):
    def turned(values):
        accuracy, mse, r2 = values
        return [v if math.isfinite(v) else -math.inf for v in (accuracy, -mse, r2)]

    kept = turned(epochs[pick("best-val", rows(*epochs))[0] - 1])
    for other in map(turned, epochs):
        assert other == kept or any(a < b for a, b in zip(other, kept, strict=True))


whole = st.integers(-9, 9).map(float)


@given(st.lists(st.tuples(whole, whole, whole), min_size=1, max_size=8), st.integers(-3, 3), whole)
def test_units_and_offsets_do_not_matter(epochs, exponent, offset):
    other = [(a, 2.0**exponent * m + offset, r) for a, m, r in epochs]  # exact in binary
    assert pick("best-val", rows(*epochs))[0] == pick("best-val", rows(*other))[0]


@pytest.mark.parametrize("select, best", [
    (("kind", "accuracy"), 2), (["size", "mse"], 3), (("size", "loss"), 3), (("size", "r2"), 1),
    (lambda scores: scores["kind"]["accuracy"] - scores["size"]["mse"], 3), (lambda scores: -math.inf, 1),
])
def test_what_counts_may_be_said(select, best):
    assert pick(select, rows((0.5, 2.0, 0.9), (0.9, 3.0, 0.1), (0.7, 1.0, 0.2)))[0] == best


def test_patience_counts_epochs_without_a_better_one():
    scores = rows(*[(a, 1.0, 0.0) for a in (0.1, 0.3, 0.2, 0.3, 0.4, 0.9)])
    assert pick("best-val", scores, patience=2) == (2, [1, 2, 2, 2])
    assert pick("best-val", scores, patience=3) == (6, [1, 2, 2, 2, 5, 6])


@pytest.mark.parametrize("settings, message", [
    ({"select": "best"}, r"select='best' is not known; use 'last', 'best-val', a pair such as \('kind', 'accuracy'\)"),
    ({"select": ("kind",)}, "is not known"),
    ({"select": ("kidn", "mse")}, "Unknown task to select by 'kidn'. Known: kind"),
    ({"select": ("size", "accuracy")}, "Unknown metric of task 'size' 'accuracy'. Known: .*mse"),
    ({"select": "nowhere_at_all:score"}, "No module 'nowhere_at_all' for select"),
    ({"patience": 2}, "patience counts epochs without a better one, so it needs .* select='best-val'"),
    ({"patience": 0, "select": "best-val"}, "patience=0 is no number of epochs"),
    ({"patience": True, "select": "best-val"}, "patience=True is no number of epochs"),
    ({"select": lambda scores: math.nan}, "select returned NaN for epoch 1"),
])
def test_a_rule_that_is_none_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        train(**settings)


# --- in a training ---------------------------------------------------------------------------------------

QUICK = {"epochs": 8, "batch_size": 16, "lr": 0.5, "progress": False}  # so fast that the last epoch is not the best


def train(problem=None, **changes):
    seed_everything(0)
    problem = problem or small()
    return fit(problem, models.HPS(problem), **{**QUICK, **changes})


def weights(run):
    return {name: tensor.tolist() for name, tensor in run.model.state_dict().items()}


def validation(run, task, name) -> list[float]:
    return run.history.query(f"split == 'val' and task == '{task}' and name == '{name}'")["value"].tolist()


@pytest.mark.parametrize("select", ["best-val", ("size", "mse"), ("kind", "loss"), lambda s: -s["size"]["mse"]])
def test_the_model_of_the_best_epoch_is_kept_and_tested(select: str | tuple | Callable):
    run = train(select=select)
    best = run.config["selected_epoch"]
    assert best < 8
    if select != "best-val":
        task, name = select if isinstance(select, tuple) else ("size", "mse")
        assert best == 1 + validation(run, task, name).index(min(validation(run, task, name)))
    assert weights(run) == weights(train(epochs=best))
    assert run.metrics == evaluate(run.model, small(), "test")
    assert weights(run) != weights(train())


def test_patience_stops_early_and_a_stopped_training_is_not_gone_on_with(tmp_path):
    errors = validation(train(epochs=12), "size", "mse")
    best = next(e for e in range(12) if errors[e] == min(errors[:e + 3]) and e + 3 <= 12) + 1
    run = train(select=("size", "mse"), patience=2, epochs=30, checkpoint=tmp_path / "state")
    assert best == run.config["selected_epoch"] and run.history["epoch"].max() == best + 2
    assert run.cost["steps"] == 3 * (best + 2) and run.cost["samples"] == 40 * (best + 2)
    again = train(select=("size", "mse"), patience=2, epochs=30, checkpoint=tmp_path / "state")
    assert again.cost == run.cost and weights(again) == weights(run)


def test_another_rule_or_patience_is_another_training(tmp_path):
    train(select=("size", "mse"), epochs=2, checkpoint=tmp_path / "state")
    for other in ({"select": ("size", "r2")}, {"select": "best-val"}, {"select": lambda s: -s["size"]["mse"]},
                  {"select": ("size", "mse"), "patience": 3}):
        with pytest.raises(ValueError, match="another training"):
            train(**other, epochs=2, checkpoint=tmp_path / "state")


def test_a_function_may_be_given_by_its_address(tmp_path, monkeypatch):
    (tmp_path / "own_rule.py").write_text("def score(scores):\n    return -scores['size']['mse']\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = train(select="own_rule:score")
    assert run.config["select"] == "own_rule:score"
    assert run.config["selected_epoch"] == train(select=("size", "mse")).config["selected_epoch"]


def test_a_rare_class_is_learned_at_last():
    """One class in twenty: macro F1 starts where no sample of it is found, and its best epoch is a late one."""
    whole = small(("big",), train=200)
    parts = {name: TensorSplit(split.inputs, {"rare": (split.inputs[:, 0] > 1.3).long()})
             for name, split in (("train", whole.train), ("val", whole.train), ("test", whole.test))}
    problem = replace(whole, tasks=[Task("rare", losses.binary_cross_entropy, {"f1": F1}, 1)], **parts)
    run = train(problem, select="best-val", epochs=15, lr=0.1)
    values = validation(run, "rare", "f1")
    assert values[0] == 0.0 < max(values)
    assert run.config["selected_epoch"] == 1 + values.index(max(values)) > 1
    assert run.metrics["rare"]["f1"] > 0
