"""The figures with sliders. Imports `plots` only through what it is given; ipywidgets where it is used."""

import base64
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
    What is stored of it, for pages without a kernel, is a strip of pictures along the first slider.
    """
    import ipywidgets

    class Explored(ipywidgets.VBox):
        """A box that leaves a strip of its states where no widget can be."""

        def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            name, states = _states(values)
            now = {other: widget.value for other, widget in controls.items()}
            strip = _strip([_png(draw(**{**now, name: state})) for state in states])
            alt = f"The figure at {name} = {', '.join(map(str, states))}."
            return {**super()._repr_mimebundle_(**options), "image/png": strip}, {"image/png": {"alt": alt}}

    def control(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return ipywidgets.Dropdown(options=value, description=name)
        low, high, start = value
        if all(isinstance(number, int) for number in value):
            return ipywidgets.IntSlider(start, low, high, description=name)
        return ipywidgets.FloatSlider(start, min=low, max=high, step=(high - low) / 100, description=name)

    def redraw(_: Any = None) -> None:
        image.value = _png(draw(**{name: widget.value for name, widget in controls.items()}))

    controls = {name: control(name, value) for name, value in values.items()}
    image = ipywidgets.Image(format="png")
    for widget in controls.values():
        widget.observe(redraw, names="value")
    redraw()
    box = Explored([*controls.values(), image])
    box.controls, box.image = controls, image
    return box


def _states(values: dict[str, Any]) -> tuple[str, list[Any]]:
    """The first control, and what a strip shows of it: its choices, or four values from low to high."""
    name, value = next(iter(values.items()))
    if isinstance(value, list):
        return name, value
    low, high, _ = value
    steps = [low + (high - low) * part / 3 for part in range(4)]
    whole = all(isinstance(number, int) for number in value)
    return name, [round(step) if whole else round(step, 2) for step in steps]


def _strip(pictures: list[bytes]) -> str:
    """Pictures below one another, as base64: so wide figures stay readable."""
    from PIL import Image

    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    strip = Image.new("RGB", (max(one.width for one in opened), sum(one.height for one in opened)), "white")
    height = 0
    for one in opened:
        strip.paste(one, (0, height))
        height += one.height
    buffer = io.BytesIO()
    strip.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
