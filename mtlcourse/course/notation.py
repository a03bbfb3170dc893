"""What letters and terms of the course mean, and where: the tables and the index of the lesson on notation.

Imports its neighbour `lessons`. `notation.csv` holds each of them once, with the plain words that people look for:
a Greek letter cannot be typed into a search box.
"""

from pathlib import Path

import pandas as pd

from . import lessons

SECTIONS = {  # what the entries call a section of the lesson, and its heading there
    "problems": "1. Problems and data", "losses": "2. Losses and metrics", "models": "3. Models",
    "branching": "3. Models", "soft": "3. Models", "letters": "4. The same thing in other letters",
    "gradients": "5. Gradients", "strategies": "6. Strategies and their scale", "safety": "7. Safety",
    "searches": "8. Searches", "methods": "9. Architectures by name"}
OWN = "90"  # the lesson that these tables stand in: it links to its sections, not to itself


def entries() -> pd.DataFrame:
    """All of them, as texts: `section`, `names` (divided by semicolons), `symbol`, `meaning`, `code`, `lessons`."""
    return pd.read_csv(Path(__file__).with_suffix(".csv"), dtype=str, keep_default_na=False)


def section(name: str, folder: str | Path = ".") -> pd.DataFrame:
    """The symbols of one of `SECTIONS`: `symbol`, `meaning`, `in the code`, `lesson` with links.

    folder: of the lessons.  Raises KeyError for another section.
    """
    rows, found = entries(), files(folder)
    rows = rows[(rows["section"] == name) & (rows["symbol"] + rows["code"] != "")]
    if rows.empty:
        raise KeyError(f"No symbols in section {name!r}; sections are {', '.join(SECTIONS)}.")
    return pd.DataFrame({"symbol": rows["symbol"], "meaning": rows["meaning"], "in the code": rows["code"],
                         "lesson": [_links(numbers, "", found) for numbers in rows["lessons"]]})


def index(folder: str | Path = ".") -> pd.DataFrame:
    """Every name, in the order of the alphabet: `look for`, `symbol`, `meaning`, `explained in` with links.

    A letter with several meanings has a row for each.
    """
    found = files(folder)
    rows = [{"look for": name.strip(), "symbol": row.symbol, "meaning": row.meaning,
             "explained in": _links(row.lessons, row.section, found)}
            for row in entries().itertuples() for name in row.names.split(";")]
    rows.sort(key=lambda row: (row["look for"].casefold(), row["look for"]))
    return pd.DataFrame(rows)


def files(folder: str | Path) -> dict[str, str]:
    """The file names of the lessons in a folder, by number."""
    return {path.name[:2]: path.name for path in lessons.find(folder)}


def _links(numbers: str, name: str, found: dict[str, str]) -> str:
    """Lessons, and the section of this one, as Markdown. Raises KeyError for a lesson that is not there."""
    links = [f"[{number}]({found[number]})" for number in numbers.split() if number != OWN]
    if name:
        heading = SECTIONS[name]
        links.append(f"[section {heading.partition('.')[0]}](#{heading.replace(' ', '-')})")
    return ", ".join(links)
