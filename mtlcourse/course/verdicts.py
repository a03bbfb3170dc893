"""What became of the papers' statements, as tables with links to the lessons that work through them.

Imports `safety.words`, `theory`, its neighbour `lessons`. The lesson on notation and the index of notebooks show them.
"""

import re
from pathlib import Path

import pandas as pd

from .. import theory
from ..safety.words import table
from . import lessons


def frame(folder: str | Path = ".", document: str | None = None) -> pd.DataFrame:
    """Statements, of one `document` or all: `statement`, `claim`, `verdict`, `why`, `lesson` with a link.

    folder: of the lessons; one that is not there has its number without a link.
    """
    files = {path.name[:2]: path.name for path in lessons.find(folder)}
    rows = [{"statement": one.place if document else f"{one.place}, *{one.document}*", "claim": _barred(one.claim),
             "verdict": one.verdict,
             "why": _barred(f"{one.because} Repair: {one.repair}" if one.repair else one.because),
             "lesson": f"[{one.lesson}]({files[one.lesson]})" if one.lesson in files else one.lesson}
            for paper in ([document] if document else documents())
            for one in theory.STATEMENTS.values() if one.document == paper]
    return pd.DataFrame(rows, columns=["statement", "claim", "verdict", "why", "lesson"])


def _barred(text: str) -> str:
    r"""The text with the bars of its formulas by name: in a table a bar ends the cell, and `\|` is a double one.

    >>> print(_barred("where $|x| < 1$"))
    where $\vert{}x\vert{} < 1$
    """
    return re.sub(r"\$[^$]*\$", lambda formula: formula[0].replace(r"\|", r"\Vert{}").replace("|", r"\vert{}"), text)


def documents() -> list[str]:
    """The papers, in the order of the first lessons that work through them."""
    return list(dict.fromkeys(one.document for one in sorted(theory.STATEMENTS.values(), key=lambda one: one.lesson)))


def counts() -> pd.DataFrame:
    """How many statements of each document have each verdict; one row a document."""
    all_of_them = theory.table()
    return pd.crosstab(all_of_them["document"], all_of_them["verdict"]).reindex(
        index=documents(), columns=list(theory.VERDICTS), fill_value=0).rename_axis(columns=None)


def section(folder: str | Path = ".") -> str:
    """All statements by document, as Markdown with headings."""
    lines = ["## What the papers state, and what became of it", "",
             "Made from the package's `theory.STATEMENTS`; `theory.check(id)` tries one on random instances."]
    for document in documents():
        lines += ["", f"### {document}", "", table(frame(folder, document))]
    return "\n".join(lines) + "\n"
