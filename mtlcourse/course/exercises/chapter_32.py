"""Checks of notebook 32, your own tasks. Imports `exercises`."""

import math
from collections import Counter
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from . import NotYet, exercise, expect

IMAGE = np.array([[0, 51, 255], [102, 204, 0]], np.uint8)
SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


@exercise("32.1",
          "The digit may be NaN too, and then it is a float: what is it where it is no NaN?",
          "math.isnan tells a hole; give None for it, and int(...) of the digit where there is one.")
def sample_with_holes(answer: Callable) -> None:
    """Input and targets of one photo, with None or NaN for what is not known."""
    for row in ({"digit": 7, "tilt": -20.0}, {"digit": 7.0, "tilt": math.nan}, {"digit": math.nan, "tilt": 10.0}):
        image, targets = answer((IMAGE, row))
        if not isinstance(image, Tensor) or image.dtype != torch.float32:
            raise NotYet(f"the input: expected a tensor of float32, got {getattr(image, 'dtype', type(image))}")
        expect((IMAGE / 255)[None], image, "the input")
        digit, tilt = (targets.get(task) for task in ("digit", "tilt"))
        if math.isnan(row["digit"]):
            if digit is not None:
                raise NotYet(f"for {row}: expected None for the digit, got {digit!r}")
        elif isinstance(digit, bool) or not isinstance(digit, int | np.integer) or digit != row["digit"]:
            raise NotYet(f"for {row}: expected the whole number {int(row['digit'])} for the digit, got {digit!r}")
        if not math.isnan(row["tilt"]):
            expect(row["tilt"] / 40, tilt, f"for {row}: the tilt")
        elif not (tilt is None or math.isnan(tilt)):
            raise NotYet(f"for {row}: expected None or NaN for the tilt, got {tilt!r}")


@exercise("32.2",
          "The part must depend on the source alone: turn its text into a number, the same in every Python.",
          "hashlib has sha256 for bytes; the first byte of a digest, as a share of 256, is a lot for the source.")
def part_of(answer: Callable) -> None:
    """A part for each photo, decided by its source alone."""
    some = [f"dial {number}" for number in range(600)]
    photos = [source for source in some for _ in range(1 + len(source) % 3)]
    parts = _parts(answer, photos)
    by_source: dict[str, set[str]] = {}
    for source, part in zip(photos, parts, strict=True):
        by_source.setdefault(source, set()).add(part)
    torn = [source for source, found in by_source.items() if len(found) > 1]
    if torn:
        raise NotYet(f"all photos of {torn[0]!r}: expected one part, got {', '.join(sorted(by_source[torn[0]]))}")
    more = [*(f"dial {number}" for number in range(5000, 5300)), *photos]
    if _parts(answer, more)[300:] != parts:
        raise NotYet("photos of other dials were added: expected the old ones in their parts, and some have moved")
    with mock.patch("builtins.hash", lambda value: len(str(value))):  # as another Python would salt it
        if _parts(answer, photos) != parts:
            raise NotYet("on another day: expected the same parts, and hash() of a text is another one in every Python")
    counted = Counter(next(iter(found)) for found in by_source.values())
    for part, share in SHARES.items():
        if abs(counted[part] / len(some) - share) > 0.07:
            raise NotYet(f"of {len(some)} dials: expected about {share:.0%} in {part!r}, got {counted[part]}")


def _parts(answer: Callable, sources: list[str]) -> list[str]:
    parts = list(answer(list(sources)))
    strange = set(parts) - set(SHARES)
    if len(parts) != len(sources) or strange:
        raise NotYet(f"for {len(sources)} photos: expected as many of {', '.join(SHARES)}, got {len(parts)} parts"
                     f"{f', among them {min(map(str, strange))}' if strange else ''}")
    return parts


@exercise("32.3",
          "What did sample do to an image and to a tilt before the network saw them? Do the first, undo the second.",
          "Divide the photo by 255 on the way in, and multiply the tilt by the 40 degrees it was divided by.")
def read_dial(answer: Callable) -> None:
    """The digit and the degrees that a program reads in a photo."""
    for digit, tilt in ((3, -0.25), (8, 0.5)):
        seen: list[Tensor] = []

        def program(inputs: Tensor, digit: int = digit, tilt: float = tilt, seen: list = seen) -> dict[str, Tensor]:
            seen.append(inputs)
            return {"digit": torch.nn.functional.one_hot(torch.tensor([digit]), 10).float(),
                    "tilt": torch.tensor([[tilt]])}

        said = answer(program, IMAGE)
        if not seen or seen[0].dtype != torch.float32:
            raise NotYet("the program: expected to be given a tensor of float32")
        expect((IMAGE / 255)[None, None], seen[0], "what the program is given")
        expect(digit, said["digit"], "the digit")
        expect(40 * tilt, said["tilt"], "the tilt in degrees")
