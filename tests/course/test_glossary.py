"""The book's glossary: every entry of the notation once, at a place of its own, with links to its lessons."""

import re
from pathlib import Path

import pandas as pd
import pytest

from mtlcourse.course import notation
from mtlcourse.course.book import glossary

FOLDER = Path(__file__).parents[2] / "notebooks"
PAGE = glossary.page(FOLDER)


def test_every_entry_stands_once_at_a_place_of_its_own():
    found = re.findall(r"^\((term-[\w-]+)\)=\n\*\*(.+?)\*\*", PAGE, re.MULTILINE)
    assert len({place for place, _ in found}) == len(found) == len(notation.entries())
    assert sorted(names for _, names in found) == sorted(", ".join(name.strip() for name in names.split(";"))
                                                         for names in notation.entries()["names"])
    assert all(re.fullmatch(r"[a-z\d-]+", place) for place, _ in found)


def test_entries_are_alphabetical_below_their_letters():
    letters = re.findall(r"^## (.)$", PAGE, re.MULTILINE)
    assert letters == sorted(set(letters)) and "A" in letters
    for letter in letters:
        own = PAGE.split(f"\n## {letter}\n")[1].split("\n## ")[0]
        names = re.findall(r"^\*\*(.+?)\*\*", own, re.MULTILINE)
        assert names and all(re.search(r"[^\W_]", name)[0].upper() == letter for name in names)
    for target in re.findall(r"\]\(#([\w-]+)\)", PAGE):
        assert f"({target})=" in PAGE


def test_each_entry_leads_to_its_lessons():
    targets = re.findall(r"\]\(lessons/([^)]+)\)", PAGE)
    assert all((FOLDER / target).exists() for target in targets)
    gate = re.search(r"^\*\*alpha, gate\*\*.*$", PAGE, re.MULTILINE)[0]
    assert gate == (r"**alpha, gate** $\alpha_t$: the **gate**: the share of $f_S$, in $[0, 1]$. In the code: "
                    "`model.alphas()[name]`. Lesson [13](lessons/13_deep_safe_mtl.ipynb).")


@pytest.mark.parametrize(("names", "expected"), [
    (["K", "k"], ["term-capital-k", "term-k"]), (["k", "k, other", "k; third"], ["term-k", "term-k-2", "term-k-3"]),
    (["y hat; prediction", "Pareto front"], ["term-y-hat", "term-pareto-front"]),
])
def test_places_do_not_depend_on_what_comes_later(names: list[str], expected: list[str]):
    assert glossary.places(pd.Series(names)) == expected
    assert glossary.places(pd.Series(names[:-1])) == expected[:-1]
