"""Every configuration has one row, with the reward and accuracy of a training of its own."""

import math

import pytest

from mtlcourse import methods
from mtlcourse.search.alignment import AlignmentSpace, agreement, every_configuration
from tests.domains import problem

EPOCHS = 3


def test_one_cell_has_six_rows():
    table, space = every_configuration(problem(), epochs=EPOCHS), AlignmentSpace(1)
    assert [{choice: row[choice] for choice in space.choices} for row in table.to_dict("records")] == list(space)
    assert table["number"].tolist() == list(range(6)) and not table["beside"].any()
    assert (table["reward"] == -table["risk"] - table["alignment"]).all() or table["reward"].tolist() == pytest.approx(
        (-table["risk"] - table["alignment"]).tolist())
    assert table["accuracy"].between(0, 1).all() and table["source"].between(0, 1).all()


def test_a_row_is_the_fixed_method():
    row = every_configuration(problem(), cells=2, numbers=[100], seed=1).iloc[0]
    run = methods.run("aaspc(controller=fixed, configuration=100, cells=2)", problem(), seed=1, progress=False)
    assert row["accuracy"] == run.metrics["there"]["accuracy"] and row["reward"] == run.learned["rewards"][-1]
    assert {"held_out": row["held_out"], "classified": row["classified"]} == run.learned["measured"]


def test_a_sample_is_drawn_once_each_by_seed():
    numbers = [every_configuration(problem(), cells=2, sample=5, seed=seed, epochs=1)["number"].tolist()
               for seed in (0, 0, 1)]
    assert len(set(numbers[0])) == 5 and numbers[0] == numbers[1] != numbers[2]


@pytest.mark.parametrize("sample", [0, 7])
def test_more_than_there_are_cannot_be_drawn(sample: int):
    with pytest.raises(ValueError, match="6 configurations"):
        every_configuration(problem(), sample=sample)


def test_what_diverges_has_a_row():
    table = every_configuration(problem(), numbers=[0], lr=1e30, epochs=EPOCHS)
    assert table["reward"].tolist() == [-math.inf]
    with pytest.raises(ValueError, match="five"):
        agreement(table["reward"], table["reward"])


def test_agreement_is_a_rank_correlation_with_an_interval():
    rewards, accuracies = [1, 2, 3, 4, 5, 6, 7, 8, math.nan, math.inf], [1, 3, 2, 4, 60, 5, 7, 8, 1, 1]
    r, low, high = agreement(rewards, accuracies)
    assert r == pytest.approx(1 - 6 * 14 / (8 * 63)) and low < r < high
    assert agreement(rewards, [-a for a in accuracies])[0] == pytest.approx(-r)
