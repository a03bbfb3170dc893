"""The measures of safety against brute force, and the definitions' implications."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlcourse import metrics, safety

CHANGES = st.lists(st.tuples(st.sampled_from("abcd"), st.floats(-2, 2)), min_size=1, max_size=12)


def brute_force(pairs, score):
    """The printed double sum, term by term."""
    tasks = {group for group, _ in pairs}
    total = 0.0
    for task in tasks:
        m_t = sum(group == task for group, _ in pairs)
        for group, change in pairs:
            if group == task:
                total += score(change) / m_t
    return total / len(tasks)


@given(CHANGES)
def test_both_measures_equal_the_printed_double_sum(pairs):
    groups, changes = zip(*pairs, strict=True)
    assert safety.delta_i(changes, groups) == pytest.approx(brute_force(pairs, lambda c: c), abs=1e-12)
    eta = 100 * brute_force(pairs, lambda c: 0 if c < 0 else 1)
    assert safety.safeness_coefficient(changes, groups) == pytest.approx(eta, abs=1e-9)


@given(CHANGES)
def test_order_of_metrics_does_not_matter_and_bounds_hold(pairs):
    groups, changes = zip(*pairs, strict=True)
    assert safety.delta_i(changes, groups) == pytest.approx(safety.delta_i(changes[::-1], groups[::-1]), abs=1e-12)
    assert min(changes) - 1e-12 <= safety.delta_i(changes, groups) <= max(changes) + 1e-12
    assert 0 <= safety.safeness_coefficient(changes, groups) <= 100
    safe = safety.safeness_coefficient(changes, groups) == 100
    assert safe == (safety.negative_sharing(changes, groups) == []) == (min(changes) >= 0)


def test_tasks_weigh_the_same_whatever_their_number_of_metrics():
    assert safety.delta_i([0.1, -0.3, -0.3, -0.3], ["a", "b", "b", "b"]) == pytest.approx(-0.1)
    assert safety.safeness_coefficient([0.1, -0.3, -0.3, -0.3], ["a", "b", "b", "b"]) == 50


def test_a_row_of_the_paper_by_hand():
    # Deep Safe Multi-Task Learning, table 1, HPS: printed Delta_I -0.0035, eta 25.
    stl = {("seg", "miou", True): 67.48, ("seg", "err", False): 9.00, ("depth", "abs", False): 0.0139,
           ("depth", "rel", False): 46.2507}
    improvements = [-0.08, -0.08, -0.0003, 0.8245]
    values = [s + (d if up else -d) for ((_, _, up), s), d in zip(stl.items(), improvements, strict=True)]
    changes = [safety.relative_change(v, s, up) for v, ((_, _, up), s) in zip(values, stl.items(), strict=True)]
    groups = [task for task, _, _ in stl]
    assert round(safety.delta_i(changes, groups), 4) == -0.0035
    assert safety.safeness_coefficient(changes, groups) == 25
    assert safety.negative_sharing(changes, groups) == ["seg", "depth"]


def test_equality_and_negative_zero_count_as_safe():
    assert safety.safeness_coefficient([0.0, -0.0], ["a", "b"]) == 100
    assert safety.safeness_coefficient([-1e-300, 0.0], ["a", "b"]) == 50


def test_an_undefined_change_makes_the_measures_undefined_but_hides_no_worse_task():
    undefined = safety.relative_change(0.3, 0.0, higher_is_better=True)
    assert math.isnan(undefined)
    assert math.isnan(safety.delta_i([0.1, undefined], ["a", "b"]))
    assert math.isnan(safety.safeness_coefficient([0.1, undefined], ["a", "b"]))
    assert safety.negative_sharing([undefined, -0.1], ["a", "b"]) == ["b"]


def test_tensors_arrays_and_generators_are_taken():
    for changes in (torch.tensor([0.5, -0.25]), np.array([0.5, -0.25]), (c for c in (0.5, -0.25))):
        assert safety.delta_i(changes, ["a", "b"]) == pytest.approx(0.125)


def test_relative_change_is_the_one_of_metrics():
    assert safety.relative_change is metrics.relative_change


@pytest.mark.parametrize("measure", [safety.delta_i, safety.safeness_coefficient, safety.negative_sharing])
@pytest.mark.parametrize("changes, groups", [([], []), ([0.1], []), ([0.1, 0.2], ["a"])])
def test_each_change_needs_a_group(measure, changes, groups):
    with pytest.raises(ValueError, match="one task name for each change"):
        measure(changes, groups)


@given(st.dictionaries(st.sampled_from("abc"), st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1))
def test_individually_safe_implies_safe_on_average(pairs):
    losses, stl = ({task: pair[i] for task, pair in pairs.items()} for i in (0, 1))
    found = safety.empirically_safe(losses, stl)
    assert found.individual == all(losses[task] <= stl[task] for task in losses)
    assert found.average or not found.individual
    if not math.isclose(sum(losses.values()), sum(stl.values())):
        assert found.average == (sum(losses.values()) < sum(stl.values()))
    assert safety.empirically_safe(losses, losses) == (True, True)


def test_average_safety_does_not_imply_individual_safety():
    assert safety.empirically_safe({"a": 0.9, "b": 0.2}, {"a": 1.0, "b": 0.15}) == (False, True)
    assert safety.empirically_safe({"a": math.nan}, {"a": 1.0}) == (False, False)


@pytest.mark.parametrize("losses, stl", [({}, {}), ({"a": 1.0}, {"b": 1.0}), ({"a": 1.0}, {"a": 1.0, "b": 1.0})])
def test_both_sides_need_the_same_tasks(losses, stl):
    with pytest.raises(ValueError, match="same tasks"):
        safety.empirically_safe(losses, stl)
