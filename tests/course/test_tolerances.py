"""Tolerances come of what was measured, and never fall below it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import v4

from mtlcourse.course import outputs
from mtlcourse.course.tokens import Tolerance
from mtlcourse.course.tolerances import SAFETY, measure


def cell(text: str, *html: str) -> dict[str, Any]:
    said = [v4.new_output("stream", name="stdout", text=text)]
    return {"outputs": said + [v4.new_output("display_data", {"text/html": table}) for table in html]}


def measured(*texts: str) -> Tolerance:
    return measure([cell(text) for text in texts], str)


@pytest.mark.parametrize(("texts", "tolerance"), [
    ((".2542", ".2597", ".2626"), Tolerance(absolute=0.03)),  # three times .0084, up
    (("0.50", "0.50", "0.50"), Tolerance(absolute=0.01)),  # nothing moved: the unit
    (("[22, 26, 43]", "[22, 26, 42]", "[22, 26, 43]"), Tolerance(absolute=3.0)),
    (("7 of 50", "7 of 50", "7 of 50"), Tolerance(absolute=1.0)),
    (("12 %", "13 %", "12 %"), Tolerance(absolute=0.03)),
    (("0.0021 19.1", "0.0023 21.0", "0.0021 19.1"), Tolerance(relative=0.3)),  # by size
    (("0.02 19.16", "0.03 19.14", "0.02 19.16"), Tolerance(absolute=0.06)),
    (("0.00 19.16", "0.03 21.16", "0.00 19.16"), Tolerance(absolute=6.0)),  # from zero nothing is relative
    (("1e-17 nan 5", "0 nan 5", "-0.0 nan 5"), Tolerance(absolute=3e-17)),
])
def test_the_tolerance_is_measured(texts: tuple[str, ...], tolerance: Tolerance):
    found = measured(*texts)
    assert (found.absolute, found.relative) == pytest.approx((tolerance.absolute, tolerance.relative), abs=0)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=3, max_size=3))
def test_what_was_measured_agrees_with_it(machines: list[list[float]]):
    texts = [" ".join(f"{value:.3f}" for value in values) for values in machines]
    found = measured(*texts)
    stored = {**cell(texts[0]), "metadata": {"tags": ["about"], "mtlcourse": vars(found)}, "execution_count": 1}
    assert not any(outputs.change(stored, cell(text), str) for text in texts)
    spread = max(abs(float(a) - float(b)) for a, b in zip(texts[0].split(), texts[1].split(), strict=True))
    sizes = [abs(float(text)) for text in texts[0].split()]
    assert found.absolute >= min(SAFETY * spread, 1e9) or found.relative * max(sizes) >= spread


@pytest.mark.parametrize(("here", "there", "message"), [
    ("hps 1.0", "stl 1.0", "'hps' here and 'stl' there"),
    ("a b 1.0", "b a 1.0", "'a' here and 'b' there"),
    ("1.0 2.0", "1.0", "more on one machine than on another: 2.0"),
    ("1.0", "1.0\n2.0", "more on one machine than on another: the end of a line"),
    ("1.0", "nan", "1.0 here and 'nan' there"),
    ("a", "a", "no number"),
])
def test_other_words_have_no_tolerance(here: str, there: str, message: str):
    with pytest.raises(ValueError, match=message):
        measured(here, here, there)


def test_every_kind_of_output_counts():
    with pytest.raises(ValueError, match="'b' here and 'c' there"):
        measure([cell("1.0", "<b>2.0</b>"), cell("1.0", "<c>2.0</c>")], str)
    with pytest.raises(ValueError, match="stdout, text/html here and stdout there"):
        measure([cell("1.0", "<b>2.0</b>"), cell("1.0")], str)
    found = measure([cell("1.00", "<b>0.50</b>"), cell("1.00", "<b>0.53</b>")], str)
    assert found.absolute == pytest.approx(0.09)
