"""Many searches at once are the package's searches, one by one."""

import pytest
import torch

from mtlcourse import data, methods
from mtlcourse.course import supernets

PRINTED = {"lr": 0.02, "epochs": 30, "batch_size": 10}
SAME = {"tasks": [["sinc", 1.0]] * 3, "noise": 0.0}


@pytest.mark.parametrize("notice", [True, False])
def test_they_are_the_searches_of_the_package(notice: bool):
    problem, seeds = data.load("relatedness"), [3, 5]
    found = supernets.search(problem, seeds, notice=notice, **PRINTED)
    for seed, probabilities, points in zip(seeds, found.probabilities, found.points(), strict=True):
        run = methods.run(f"conal(architecture_lr=0.02, notice={notice})", problem, seed=seed, budget="paper",
                          progress=False)
        history = run.history[(run.history["stage"] == "search") & (run.history["epoch"] == 30)]
        rows = history[history["name"].str.startswith("beta_")]
        theirs = rows.pivot(index="task", columns="name", values="value").loc[problem.task_names]
        assert torch.allclose(probabilities, torch.tensor(theirs.values), atol=2e-5)
        assert points == tuple(run.learned["points"].values())
    assert found.conflicts.shape == (150, 2, 2)


def test_what_is_equal_does_not_conflict_and_branches_alike():
    problem = data.load("relatedness", **SAME)
    one = {**PRINTED, "epochs": 1}
    assert supernets.search(problem, range(8), **one).conflicts.any()
    equal = supernets.search(problem, range(8), heads="equal", encoders="equal", **one)
    assert not equal.conflicts.any()
    assert torch.allclose(equal.probabilities, equal.probabilities[:, :1].expand_as(equal.probabilities), atol=1e-12)


def test_one_sign_for_all_heads_takes_most_first_conflicts_away():
    problem = data.load("relatedness", **SAME)
    first = {heads: supernets.search(problem, range(30), heads=heads, lr=0.02, epochs=1, batch_size=50).conflicts[0]
             for heads in supernets.HEADS}
    share = {heads: found.any(0).double().mean() for heads, found in first.items()}
    assert share["own"] > 0.7 and share["positive"] < 0.4 and share["equal"] < 0.4


def test_what_cannot_be_searched_is_said():
    problem = data.load("relatedness")
    with pytest.raises(ValueError, match="equals.*equal"):
        supernets.search(problem, [0], heads="equals", **PRINTED)
    with pytest.raises(ValueError, match="Unknown start of encoders"):
        supernets.search(problem, [0], encoders="positive", **PRINTED)
    with pytest.raises(ValueError, match="one number a target.*seed by seed"):
        supernets.search(data.load("relatedness", product="elementwise"), [0], **PRINTED)
