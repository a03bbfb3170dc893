"""The book's glossary: every letter and term of the course with a place that can be linked to. Imports
`course.notation`.
"""

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from .. import notation


def places(names: pd.Series) -> list[str]:
    """A place in the page for each name, the same whatever other names there are, but for names that are spelt alike.

    >>> places(pd.Series(["gate", "m; tasks, number of", "k", "K", "k"]))
    ['term-gate', 'term-m', 'term-k', 'term-capital-k', 'term-k-2']
    """
    made: list[str] = []
    for name in names:
        first = re.split(r"[;,]", name)[0].strip()
        capital = "capital-" if len(first) == 1 and first.isupper() else ""
        words = "-".join(re.findall(r"[^\W_]+", first.lower()))
        place = f"term-{capital}{words}"
        same = sum(re.fullmatch(rf"{re.escape(place)}(-\d+)?", other) is not None for other in made)
        made.append(f"{place}-{same + 1}" if same else place)
    return made


def page(lessons: Path) -> str:
    """The page: entries in the order of the alphabet, each with its symbol, meaning, code and lessons.

    lessons: the folder of the notebooks.  Raises KeyError for a lesson that is not there.
    """
    rows = notation.entries()
    rows = rows.assign(place=places(rows["names"]), key=rows["names"].str.casefold())
    rows = rows.sort_values(["key", "names"], kind="stable")
    found = notation.files(lessons)
    letters = {letter: list(own) for letter, own in groupby(rows.itertuples(), key=lambda row: _letter(row.names))}
    lines = ["# Glossary", "", f"All {len(rows)} letters and terms of the course. A letter with several meanings has "
             "several entries. Of the lessons that are named the first introduces the word; "
             f"[lesson {notation.OWN}](lessons/{found[notation.OWN]}) has them by subject, beside the letters of the "
             "papers.", "", " ".join(f"[{letter}](#letter-{letter.lower()})" for letter in letters), ""]
    for letter, own in letters.items():
        lines += [f"(letter-{letter.lower()})=", f"## {letter}", ""]
        for row in own:
            lines += [f"({row.place})=", _entry(row, found), ""]
    return "\n".join(lines)


def _letter(names: str) -> str:
    return re.search(r"[^\W_]", names)[0].upper()


def _entry(row: Any, found: Mapping[str, str]) -> str:
    """One entry: its names and symbol, what it means, what it is in the code, where it is explained."""
    names = ", ".join(name.strip() for name in row.names.split(";"))
    symbol = f" {row.symbol}" if row.symbol not in ("", row.names) else ""
    code = f" In the code: {row.code}." if row.code else ""
    links = ", ".join(f"[{number}](lessons/{found[number]})" for number in row.lessons.split())
    return f"**{names}**{symbol}: {row.meaning.rstrip('.')}.{code} Lesson {links}."
