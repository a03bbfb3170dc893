"""The search space of alignment cells is the printed one, and each configuration has one number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlcourse.search.alignment import AlignmentSpace

SPACES = [AlignmentSpace(cells, tied) for cells in (1, 2, 3) for tied in (False, True)]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_there_are_as_many_configurations_as_printed_each_once(space: AlignmentSpace):
    n = space.cells
    printed = (2 * 3) ** n * 2 ** (n - 1) * n**2
    found = {tuple(configuration.items()) for configuration in space}
    assert len(found) == len(space) == printed // (n if space.tied else 1)


def test_three_cells_have_7776():
    assert sum(1 for _ in AlignmentSpace(cells=3)) == 7776


def test_a_cell_takes_one_of_the_two_outputs_before():
    choices = AlignmentSpace(cells=3).choices
    assert choices["input_1"] == ("backbone", "cell_0") and choices["input_2"] == ("cell_0", "cell_1")
    assert choices["align"] == choices["classify"] == ("cell_0", "cell_1", "cell_2")
    assert list(choices) == ["size_0", "skip_0", "input_1", "size_1", "skip_1", "input_2", "size_2", "skip_2", "align",
                             "classify"]


@given(st.sampled_from(SPACES), st.integers(0))
def test_numbers_name_configurations(space: AlignmentSpace, number: int):
    number %= len(space)
    assert space.number(space[number]) == number
    assert space.named(space.picks(space[number])) == space[number] == space.check(number)


def test_numbers_follow_the_enumeration():
    space = AlignmentSpace(cells=2)
    assert [space.number(configuration) for configuration in space] == list(range(len(space)))


def test_the_printed_architecture_is_in_it():
    """Figure 4.5: cells 0 and 1 as wide as their inputs, skips from norm and from input; aligned at cell 0."""
    space = AlignmentSpace()
    found = {"size_0": "same", "skip_0": "norm", "input_1": "cell_0", "size_1": "same", "skip_1": "input",
             "input_2": "cell_1", "size_2": "half", "skip_2": "input", "align": "cell_0", "classify": "cell_1"}
    assert space.check(found) == found
    assert space.path(found, space.classified(found)) == [0, 1] and not space.beside(found)


def test_a_path_leaves_out_what_data_do_not_pass():
    space = AlignmentSpace()
    configuration = space[0] | {"input_1": "backbone", "input_2": "cell_1", "align": "cell_0", "classify": "cell_2"}
    assert space.path(configuration, 2) == [1, 2] and space.beside(configuration)
    assert not space.beside(configuration | {"input_1": "cell_0"})
    assert not space.beside(configuration | {"align": "cell_1"})
    assert space.beside(configuration | {"align": "cell_2", "classify": "cell_1"})


def test_tied_spaces_are_never_beside():
    space = AlignmentSpace(tied=True)
    assert not any(space.beside(configuration) for configuration in space)


@pytest.mark.parametrize("cells", [0, -1, 1.5, True, "three"])
def test_no_cells_are_refused(cells):
    with pytest.raises(ValueError, match="number of cells"):
        AlignmentSpace(cells=cells)


@pytest.mark.parametrize(("given_", "message"), [
    ({"size_0": "same"}, "says nothing of skip_0, classify"),
    ({"size_0": "same", "skip_0": "nrom", "classify": "cell_0"}, "norm"),
    ({"size_0": "same", "skip_0": "norm", "classify": "cell_1"}, "cell_0"),
    ({"size_0": "same", "skip_0": "norm", "classify": "cell_0", "align": "cell_0"}, "align"),
    ("best", "neither a number"), (6, "from 0 to 5"), (-1, "from 0 to 5"), (True, "from 0 to 5"),
])
def test_what_is_no_configuration_is_refused(given_, message):
    with pytest.raises(ValueError, match=message):
        AlignmentSpace(cells=1, tied=True).check(given_)


@pytest.mark.parametrize("number", [-1, 6])
def test_numbers_end(number: int):
    with pytest.raises(IndexError, match="numbered from 0"):
        AlignmentSpace(cells=1)[number]
