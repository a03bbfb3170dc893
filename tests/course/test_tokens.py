"""Printed texts are compared as words and numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlcourse.course.tokens import Number, Tolerance, agree, split


def numbers(text: str) -> list[float]:
    return [token.value for token in split(text) if isinstance(token, Number)]


@pytest.mark.parametrize(("text", "values"), [
    ("0.25 .25 25. 1e-3 2.5E+4", [0.25, 0.25, 25, 1e-3, 2.5e4]),
    ("+0.3 -0.3 −0.3 1.0 ± 0.2", [0.3, -0.3, -0.3, 1.0, 0.2]),
    ("12 % 12% (3.5%)", [0.12, 0.12, 0.035]),
    ("1,234 1,234,567.5 [1, 234] 1,2345", [1234, 1234567.5, 1, 234, 1, 2345]),
    ("[22, 26,43] x=7 <td>8</td>", [22, 26, 43, 7, 8]),
    ("3-5, 3 - 5, x-1, 2026-11-29", [3, 5, 3, 5, 1, 2026, 11, 29]),
    ("conv2 e1 3x3 2nd v1.5 task_1 0x7f 10k", []),
    ("1.9x as long, tensor(0.5)", [1.9, 0.5]),
    ("nan NaN inf", []),
])
def test_numbers_are_found_and_words_are_left(text: str, values: list[float]):
    assert numbers(text) == values


def test_the_unit_is_that_of_the_last_digit():
    units = [token.unit for token in split("7 0.25 1e-3 1.5e-3 12 % 1,234") if isinstance(token, Number)]
    assert units == pytest.approx([0, 0.01, 1e-3, 1e-4, 0.01, 0])


@given(st.floats(-1e9, 1e9), st.sampled_from(["{:.4f}", "{:+.3f}", "{:,.2f}", "{:g}", "{:.3e}", "{}"]))
def test_every_printed_number_is_read(value: float, layout: str):
    text = layout.format(value)
    assert numbers(text) == [float(text.replace(",", ""))]


SAME_TO_THE_LETTER = [("[-0.0, 1.0]", "[0.0, 1.0]"), ("error 1e-17", "error 0"), ("a  -0.0", "a 0.0"),
                      ("4.4e-16", "-2.2e-16"), ("nan", "nan"), ("NaN -inf", "NaN -inf")]
SAME_AS_NUMBERS = [("12 %", "12%"), ("1,234", "1234"), ("+0.3", "0.3"), ("−0.3", "-0.3"), ("0.5", "0.50")]
OTHER = [("hps wins", "stl wins"), ("a b", "b a"), ("1.0 2.0", "1.0"), ("1.0", "1.0 2.0"), ("conv2", "conv3"),
         ("nan", "0.5"), ("0.5", "nan"), ("inf", "-inf"), ("0.5", "-0.5"), ("a,b", "a;b"), ("3x3", "4x4"),
         ("12 %", "1.2 %"), ("1,234", "1.234"), ("a", ""), ("0.0 a", "0.0\na")]


@pytest.mark.parametrize(("stored", "said"), SAME_TO_THE_LETTER)
def test_zeros_are_zeros_and_nan_is_nan(stored: str, said: str):
    assert agree(stored, said) and agree(said, stored) and agree(stored, said, Tolerance())


@pytest.mark.parametrize(("stored", "said"), SAME_AS_NUMBERS)
def test_numbers_are_compared_as_numbers_only_where_they_may_move(stored: str, said: str):
    assert agree(stored, said, Tolerance()) and not agree(stored, said)


@pytest.mark.parametrize(("stored", "said"), OTHER)
def test_other_words_and_numbers_differ(stored: str, said: str):
    assert not agree(stored, said) and not agree(stored, said, Tolerance(absolute=0.03, relative=0.03))


@pytest.mark.parametrize(("stored", "said", "tolerance", "fine"), [
    (".25", ".27", Tolerance(absolute=0.02), True),
    (".25", ".28", Tolerance(absolute=0.02), False),
    ("100.0", "119.9", Tolerance(relative=0.2), True),
    ("100.0", "120.1", Tolerance(relative=0.2), False),
    ("0.001", "0.009", Tolerance(relative=0.2), False),
    ("1.00 100.00", "1.02 119.00", Tolerance(absolute=0.02, relative=0.2), True),
    ("1.0", "1.1", Tolerance(), True),  # the unit of the last digit
    ("1.0", "1.2", Tolerance(), False),
    ("0.5", "0.52", Tolerance(), False),  # zeros left out
    ("22 of 50", "21 of 50", Tolerance(), False),  # what counts was not rounded
    ("22 of 50", "21 of 50", Tolerance(absolute=1), True),
    ("22 of 50", "20 of 50", Tolerance(absolute=1), False),
    ("93 %", "92 %", Tolerance(), True),
    ("93 %", "90 %", Tolerance(absolute=0.03), True),
    ("93 %", "89 %", Tolerance(absolute=0.03), False),
])
def test_a_number_moves_within_its_tolerance(stored: str, said: str, tolerance: Tolerance, fine: bool):
    assert agree(stored, said, tolerance) is fine


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), st.floats(0.01, 10))
def test_any_number_just_outside_is_found(values: list[float], absolute: float):
    stored = " ".join(f"{value:.4f}" for value in values)
    near = " ".join(f"{value + 0.99 * absolute:.4f}" for value in values)
    far = " ".join([*(f"{value:.4f}" for value in values[1:]), f"{values[0] + 1.01 * absolute + 2e-4:.4f}"])
    last = " ".join([*(f"{value:.4f}" for value in values[1:]), f"{values[0]:.4f}"])
    assert agree(stored, near, Tolerance(absolute)) and not agree(last, far, Tolerance(absolute))
