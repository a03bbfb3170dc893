"""What a Gram matrix says, against the same said of the gradients themselves."""

import itertools

import pytest
import torch

from mtlcourse.strategies import gram
from tests.strategies.vectors import gradients


@pytest.mark.parametrize("seed", range(5))
def test_measures_equal_brute_force_over_pairs(seed):
    rows = gradients(4, rank=2, uneven=3, seed=seed)
    pairs = list(itertools.combinations(rows, 2))
    K = rows @ rows.T
    cosine = [torch.cosine_similarity(a, b, dim=0) for a, b in pairs]
    assert gram.mean_cosine(K).item() == pytest.approx(sum(cosine).item() / 6)
    assert gram.conflict_rate(K).item() == sum(c < 0 for c in cosine) / 6
    similarity = [2 * a.norm() * b.norm() / (a.norm() ** 2 + b.norm() ** 2) for a, b in pairs]
    assert gram.magnitude_similarity(K).item() == pytest.approx(sum(similarity).item() / 6)
    torch.testing.assert_close(gram.norms(K), rows.norm(dim=1))


def test_condition_number_is_that_of_the_gradients():
    rows = gradients(3, uneven=1, seed=1)
    values = torch.linalg.svdvals(rows)
    assert gram.condition_number(rows @ rows.T).item() == pytest.approx((values[0] / values[-1]).item())
    dependent = gradients(3, rank=2)
    assert gram.condition_number(dependent @ dependent.T).item() == float("inf")


def test_measures_take_stacks_of_matrices():
    stack = torch.stack([(rows := gradients(3, seed=seed)) @ rows.T for seed in range(4)])
    for measure in gram.MEASURES.values():
        torch.testing.assert_close(measure(stack), torch.stack([measure(K) for K in stack]))
        assert measure(stack[:0]).shape == (0,)


def test_zero_gradients_have_no_conflict_and_a_single_task_none_either():
    K = torch.zeros(3, 3, dtype=torch.float64)
    K[0, 0] = 1.0
    assert gram.conflict_rate(K).item() == 0 and gram.mean_cosine(K).item() == 0
    assert gram.cosines(K).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    one = torch.ones(1, 1, dtype=torch.float64)
    assert [measure(one).item() for measure in gram.MEASURES.values()] == [0, 0, 0, 1]


def test_averages_over_steps():
    steps = [{name: torch.tensor(value) for name in gram.MEASURES}
             | {f"module_{name}": torch.tensor([value, 1.0]) for name in gram.MEASURES} for value in (1.0, 4.0)]
    means = gram.average(steps)
    assert list(means) == ["shared", "module_1", "module_2"]
    assert means["shared"]["cosine"] == 2.5
    assert means["module_1"]["condition_number"] == pytest.approx(2.0)  # the geometric mean
    assert gram.average([]) == {}
