"""The figures with sliders. Imports `plots` only through what it is given; ipywidgets where it is used."""

import io
from collections.abc import Callable
from typing import Any


def explore(draw: Callable[..., Any], **values: tuple[int | float, int | float, int | float] | list) -> Any:
    """A figure that is drawn again when a slider moves.

    draw(**chosen): returns a matplotlib `Figure`.
    values: for each argument of `draw` a range `(low, high, start)` (integers stay integers), or a list
        of choices.
    Returns a box with attributes `controls` (`{name: widget}`) and `image`. Drawing happens off-screen into
    an image widget, so a notebook can set `box.controls["T"].value` and look at what came of it, headless too.
    """
    import ipywidgets

    def control(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return ipywidgets.Dropdown(options=value, description=name)
        low, high, start = value
        if all(isinstance(number, int) for number in value):
            return ipywidgets.IntSlider(start, low, high, description=name, continuous_update=False)
        return ipywidgets.FloatSlider(start, min=low, max=high, step=(high - low) / 100, description=name,
                                      continuous_update=False)

    def redraw(_: Any = None) -> None:
        image.value = _png(draw(**{name: widget.value for name, widget in controls.items()}))

    controls = {name: control(name, value) for name, value in values.items()}
    image = ipywidgets.Image(format="png")
    for widget in controls.values():
        widget.observe(redraw, names="value")
    redraw()
    box = ipywidgets.VBox([*controls.values(), image])
    box.controls, box.image = controls, image
    return box


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
