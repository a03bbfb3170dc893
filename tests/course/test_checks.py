"""Checks speak to learners: they never raise unless asked to, and they say what was expected."""

import pytest
import torch

from mtlcourse.course.checks import check
from mtlcourse.course.exercises import EXERCISES, expect, load


@pytest.fixture(autouse=True)
def count(monkeypatch):
    """An exercise of our own, whose judge the tests know: the parameters of m tasks on one encoder."""
    load("01")  # or what this test takes away again would be missing for all later ones
    monkeypatch.setitem(EXERCISES, "01.1", lambda answer: expect(
        17060.0, answer(2, 16400, 330), "for m=2, encoder=16400, head=330"))


def test_right_wrong_and_broken_answers(capsys):
    check("01.1", lambda m, encoder, head: encoder + m * head)
    check("01.1", lambda m, encoder, head: encoder + head)
    check("01.1", lambda m, encoder: 0)
    check("01.1", lambda m, encoder, head: "many")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Exercise 01.1: correct."
    assert said[1].startswith("Exercise 01.1: not yet: for m=2, encoder=16400, head=330: expected 17060.0, got 16730.0")
    assert "your code raised TypeError" in said[2]
    assert "got 'many'" in said[3]


def test_strict_raises():
    with pytest.raises(AssertionError, match="01.1"):
        check("01.1", lambda m, encoder, head: 0, strict=True)


def test_unknown_exercise_names_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown exercise '01.9'. Known: .*01\.1"):
        check("01.9", 0)
    with pytest.raises(ValueError, match="Unknown exercise '99.1'"):
        check("99.1", 0)


def test_a_price_on_modules_is_right_only_if_a_search_can_lower_it(capsys):
    def own_modules(betas):
        return sum((beta * torch.arange(len(beta) - 1, -1, -1)).sum() for beta in betas)

    check("14.2", own_modules)
    check("14.2", lambda betas: own_modules(betas).item())
    check("14.2", lambda betas: own_modules(betas).detach())
    right, *cut = capsys.readouterr().out.splitlines()
    assert right == "Exercise 14.2: correct."
    assert all("not yet: the number is right, but it has no derivative" in said for said in cut) and len(cut) == 2
