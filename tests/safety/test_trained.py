"""How long a run trained and whether it was done, read off its history."""

import math

import pandas as pd
import pytest

from mtlcourse.safety.trained import falling, trained
from mtlcourse.training import Run

COLUMNS = ["stage", "epoch", "split", "task", "name", "value"]


def run(losses: dict, stages: tuple[str, ...] = ("train",), **cost) -> Run:
    rows = [(stage, epoch, split, task, name, loss) for stage in stages for task, curve in losses.items()
            for epoch, loss in enumerate(curve, 1) for split in ("train", "val") for name in ("loss", "accuracy")]
    return Run(pd.DataFrame(rows, columns=COLUMNS), {}, None, {}, cost=cost)


@pytest.mark.parametrize("curve, expected", [
    ([5.0, 4.0, 3.0, 2.0, 1.0], 0.25),  # as fast as ever
    ([0.695, 0.686, 0.678, 0.670, 0.661, 0.651], 10 / 44),  # hardly begun: slow beside its level, fast beside its fall
    ([1.64, 0.68, 0.52, 0.46, 0.44, 0.42], 0.02 / 1.22),  # nearly done
    ([1.0, 0.5, 0.5, 0.5], 0.0),
    ([1.0, 0.2, 0.4, 0.6], -0.25),  # rises again
    ([1.0, 1.0, 1.0], 0.0),
    ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0], 2 / 7),  # two epochs are a quarter of eight
])
def test_the_part_of_the_fall_that_came_last(curve: list[float], expected: float):
    assert falling(run({"a": curve, "b": [1.0, 1.0]})) == {"a": pytest.approx(expected), "b": 0.0}


def test_less_than_two_epochs_tell_nothing():
    assert falling(run({"a": [1.0]})) == {} and falling(Run(pd.DataFrame(), {}, None, {})) == {}


def test_the_last_stage_counts_for_falling_and_all_for_epochs():
    first, second = (run({"a": curve}).history.assign(stage=name)
                     for name, curve in (("one", [1.0, 0.5]), ("two", [0.5, 0.5, 0.5])))
    staged = Run(pd.concat([first, second]), {}, None, {}, cost={"steps": 10, "samples": 640})
    assert falling(staged) == {"a": 0.0} and trained(staged) == {"steps": 10, "samples": 640, "epochs": 5}


def test_a_measured_stage_without_training_is_no_epoch():
    guard = pd.DataFrame([("guard", 2, "val", "a", "loss", 0.5)], columns=COLUMNS)
    whole = Run(pd.concat([run({"a": [1.0, 0.5]}).history, guard]), {}, None, {}, cost={"steps": 4})
    assert trained(whole)["epochs"] == 2 and falling(whole) == {"a": 1.0}


def test_what_is_not_known_is_nan():
    assert all(math.isnan(value) for value in trained(Run(pd.DataFrame(), {}, None, {})).values())
