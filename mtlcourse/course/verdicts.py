"""What became of the papers' statements, as tables with links to the lessons that work through them.

Imports `safety.words`, `theory`, its neighbour `lessons`. The lesson on notation and the index of notebooks show them.
"""

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
    rows = [{"statement": one.place if document else f"{one.place}, *{one.document}*", "claim": one.claim,
             "verdict": one.verdict, "why": f"{one.because} Repair: {one.repair}" if one.repair else one.because,
             "lesson": f"[{one.lesson}]({files[one.lesson]})" if one.lesson in files else one.lesson}
            for one in theory.STATEMENTS.values() if document in (None, one.document)]
    return pd.DataFrame(rows, columns=["statement", "claim", "verdict", "why", "lesson"])


def counts() -> pd.DataFrame:
    """How many statements of each document have each verdict; one row a document."""
    all_of_them = theory.table()
    return pd.crosstab(all_of_them["document"], all_of_them["verdict"]).reindex(
        columns=list(theory.VERDICTS), fill_value=0).rename_axis(columns=None)


def section(folder: str | Path = ".") -> str:
    """All statements by document, as Markdown with headings."""
    lines = ["## What the papers state, and what became of it", "",
             "Made from the package's `theory.STATEMENTS`; `theory.check(id)` tries one on random instances."]
    for document in dict.fromkeys(one.document for one in theory.STATEMENTS.values()):
        lines += ["", f"### {document}", "", table(frame(folder, document))]
    return "\n".join(lines) + "\n"
