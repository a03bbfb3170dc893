"""Sentences about the tables that can be held against their cells.

Imports `findings`, `table`. Only claims that fail are findings; the others were checked and hold: which
methods are safe on which data set, DSMTL-JL above DSMTL-IL on three of four, AFA best on keypoints and edges.
"""

from .findings import Finding, finding
from .table import load


def check() -> list[Finding]:
    """The claims that do not hold as printed."""
    return [*_ratio(), *_circumvents()]


def _ratio() -> list[Finding]:
    """Deep Safe Multi-Task Learning, section 7.3: on Taskonomy AFA has 2.66 times the parameters of DSMTL-IL."""
    table = load("dsmtl-4")
    follows = table.number("AFA", "parameters") / table.number("DSMTL-IL", "parameters")
    if follows.low < 2.665:
        return []
    return [Finding(table.name, "AFA", "parameters over DSMTL-IL's", "2.66", str(follows), "rounding",
                    "section 7.3 cuts the ratio off instead of rounding it")]


def _circumvents() -> list[Finding]:
    """Thesis, section 5.4.1: hand-designed architectures, MTAN for one, avoid negative transfer on CityScapes."""
    table = load("thesis-5.2")
    worse = [column for column in table.columns if table.improvement("MTAN", column).high < 0]
    return [finding(table, "MTAN", column.header, "0 or less", "different definition",
                    "section 5.4.1 counts MTAN as free of negative transfer; in dsmtl-1 it is")
            for column in worse]
