"""Sliders redraw, with nobody there to drag them."""

from mtlcourse import figures
from mtlcourse.course.widgets import explore


def drawer(calls):
    def draw(**values):
        calls.append(values)
        figure, axes = figures.panels(1, 1, 1.0, 1.0)
        axes[0, 0].plot([0, values["height"]])
        return figure
    return draw


def test_a_slider_redraws_off_screen():
    calls = []
    box = explore(drawer(calls), height=(0.0, 2.0, 1.0), kind=["a", "b"])
    before = bytes(box.image.value)
    assert before.startswith(b"\x89PNG")
    box.controls["height"].value = 2.0
    assert box.image.value != before
    box.controls["kind"].value = "b"
    assert calls == [{"height": 1.0, "kind": "a"}, {"height": 2.0, "kind": "a"}, {"height": 2.0, "kind": "b"}]


def test_whole_numbers_stay_whole():
    calls = []
    explore(drawer(calls), height=(0, 5, 3))
    assert calls == [{"height": 3}]
    assert isinstance(calls[0]["height"], int)
