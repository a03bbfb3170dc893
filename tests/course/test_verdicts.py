"""The tables of verdicts: every statement once, with a link that resolves."""

import re
from pathlib import Path

from mtlcourse import theory
from mtlcourse.course import verdicts

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def test_every_statement_stands_in_the_section_with_a_link_that_resolves():
    text = verdicts.section(NOTEBOOKS)
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    documents = text.count("\n### ")
    assert len(rows) == len(theory.STATEMENTS) + documents
    for row in rows:
        if not row.startswith("| statement"):
            (name,) = re.findall(r"\[\d\d\]\((\w+\.ipynb)\) \|$", row)
            assert (NOTEBOOKS / name).exists()


def test_formulas_survive_in_a_table():
    """A bar would end the cell, and a bar behind a backslash is another sign."""
    for row in verdicts.frame(NOTEBOOKS).itertuples():
        text = f"{row.claim} {row.why}"
        assert not re.search(r"\$[^$]*\|[^$]*\$", text) and text.count("$") % 2 == 0, row


def test_counts_add_up_to_all():
    assert verdicts.counts().to_numpy().sum() == len(theory.STATEMENTS)
