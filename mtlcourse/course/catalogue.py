"""What every architecture and strategy says about itself. Imports `data`, `methods`, `procedures`, `strategies`.

Nothing here is written down a second time: names come from the registries, sentences from the docstrings.
"""

import inspect
import re
from dataclasses import replace

import pandas as pd

from .. import data, methods, strategies
from ..training.procedures import train_once


def architectures() -> pd.DataFrame:
    """One row a registered architecture: `name`, `what it is`, `source`.

    `what it is` is the first sentence of its class, then that of its procedure where it is not trained plainly.
    `source` is what the docstring of its procedure or else of its class names after "Source:", "" if neither does.
    """
    # Some architectures need images, others tasks with one answer.
    pictures = replace(data.describe("multidigits"), tasks=[data.binary("one"), data.binary("other")])
    rows = []
    for name in methods.names():
        things = [type(methods.build(name, pictures)), methods.procedure(name)]
        said = [thing for thing in things if thing is not train_once]
        rows.append({"name": name, "what it is": " ".join(map(first_sentence, said)),
                     "source": next(filter(None, map(source, reversed(said))), "")})
    return pd.DataFrame(rows)


def ways() -> pd.DataFrame:
    """One row a registered strategy: `name`, `kind` and what it needs, `what it is`, `source`."""
    made = {name: strategies.make(name) for name in strategies.names()}
    return pd.DataFrame([{"name": name, "kind": f"{way.kind}, needs {way.needs}",
                          "what it is": first_sentence(type(way)), "source": source(type(way))}
                         for name, way in made.items()])


def first_sentence(thing: object) -> str:
    """The first sentence of the docstring of a class or function, on one line.

    >>> first_sentence(first_sentence)
    'The first sentence of the docstring of a class or function, on one line.'
    """
    return re.split(r"(?<=\.)\s", " ".join(_docstring(thing).split()))[0]


def source(thing: object) -> str:
    """What the docstring of a class or function names after "Source:", to the end of the sentence.

    A full stop after a single capital letter is an initial, and ends none.
    """
    found = re.search(r"Source: (.*?)(\n\n|$)", _docstring(thing), re.DOTALL)
    return re.split(r"(?<![A-Z])\. (?=[A-Z])", " ".join(found[1].split()))[0].rstrip(".") if found else ""


def _docstring(thing: object) -> str:
    return inspect.getdoc(thing) or ""
