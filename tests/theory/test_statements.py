"""The search for counter-examples, and that every statement is what its verdict says."""

from fractions import Fraction

import numpy as np
import pytest

from mtlcourse import theory
from mtlcourse.theory.statements import STATEMENTS, CounterExample, Form, Statement, shrunk, state

LESSONS = {"02", "03", "04", "05", "06", "11", "13"}


def every(wanted=lambda statement: True):
    return [one for one in STATEMENTS.values() if wanted(one)]


def triangle(x, y):
    """Excess of the false claim |x + y| = |x| + |y|."""
    return float(np.linalg.norm(x) + np.linalg.norm(y) - np.linalg.norm(x + y))


@pytest.fixture
def sketch():
    """A statement of our own, for as long as a test runs."""
    draw = Form(lambda random: {"x": random.normal(size=2), "y": random.normal(size=2)}, triangle)
    statement = Statement("sketch", "none", "nowhere", "03", (), "lengths add", "false", "they do not",
                          CounterExample({"x": [1, 0], "y": [-1, 0]}, lambda x, y: Fraction(2)),
                          forms={"printed": draw,
                                 "repaired": Form(draw.draw, lambda x, y: -triangle(x, y)),
                                 "rarely": Form(draw.draw, lambda x, y: float(x[0] - 1.0), allowed=0.2)})
    state(statement)
    yield statement
    del STATEMENTS["sketch"]


def test_a_false_claim_is_found_and_the_worst_is_readable(sketch):
    found = theory.check("sketch", instances=200)
    assert found.violations == found.instances == 200 and not found.holds
    assert triangle(**found.worst) > found.excess / 10
    numbers = np.concatenate(list(found.worst.values()))
    assert (numbers == numbers.round(1)).all()


def test_a_true_claim_is_not_violated(sketch):
    found = theory.check("sketch", "repaired", instances=200)
    assert found.holds and found.violations == 0 and found.worst is None and np.isnan(found.excess)


def test_a_share_may_be_allowed(sketch):
    found = theory.check("sketch", "rarely", instances=2000)
    assert 0.1 < found.share < 0.2 and found.holds  # a normal number exceeds 1 in 15.9 % of all cases


def test_the_same_seed_gives_the_same_instances(sketch):
    one, two, other = (theory.check("sketch", seed=seed) for seed in (1, 1, 2))
    assert one.excess == two.excess != other.excess


def test_instances_outside_the_assumptions_are_no_violations():
    form = Form(lambda random: {"x": random.normal()}, lambda x: float("nan") if x < 0 else 1.0)
    STATEMENTS["half"] = Statement("half", "", "", "", (), "", "false", "", forms={"printed": form})
    try:
        found = theory.check("half", instances=100)
    finally:
        del STATEMENTS["half"]
    assert 30 < found.instances == found.violations < 70


def test_a_form_may_propose_smaller_instances():
    form = Form(lambda random: {"x": random.normal(size=5)}, lambda x: float(np.abs(x).sum()),
                smaller=lambda instance: iter([{"x": instance["x"][:-1]}] if len(instance["x"]) > 1 else []))
    assert len(shrunk({"x": np.array([3.14159, 1.0, 1.0, 1.0, 1.0])}, form)["x"]) == 1


@pytest.mark.parametrize(("arguments", "words"), [
    (("nothing",), "nothing"), (("sketch", "neat"), "neat"), (("sketch", "printed", 0), "at least 1")])
def test_what_cannot_be_checked_is_refused(sketch, arguments, words):
    with pytest.raises(ValueError, match=words):
        theory.check(*arguments)


def test_ids_are_used_once(sketch):
    with pytest.raises(ValueError, match="already"):
        state(sketch)


# --- every statement of the papers ------------------------------------------------------------------------

@pytest.mark.parametrize("statement", every(), ids=lambda one: one.id)
def test_a_statement_is_whole(statement):
    assert statement.claim and statement.because and statement.document and statement.place
    assert statement.lesson in LESSONS
    if statement.verdict == "cannot be checked":
        assert "printed" not in statement.forms
    if statement.verdict in ("false", "missing assumption"):
        assert statement.counter_example is not None


@pytest.mark.parametrize("statement", every(lambda one: one.counter_example is not None), ids=lambda one: one.id)
def test_a_counter_example_refutes(statement):
    assert statement.counter_example.refutes()


@pytest.mark.parametrize(("statement", "form"), [(one, form) for one in every() for form in one.forms],
                         ids=lambda value: getattr(value, "id", value))
def test_the_search_agrees_with_the_verdict(statement, form):
    """What holds or is repaired is violated by no instance; what is refuted as printed by some."""
    found = theory.check(statement.id, form)
    assert found.instances > 0
    if form == "repaired" or (form == "printed" and statement.verdict in ("holds", "gap in the proof")):
        assert found.holds, found
    elif form == "printed":
        assert not found.holds


def test_the_table_has_a_row_for_each_statement():
    assert list(theory.table().index) == list(STATEMENTS)
