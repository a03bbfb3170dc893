"""The notation names every letter of the lessons, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from mtlcourse.course import lessons, notation
from mtlcourse.safety.words import table

FOLDER = Path(__file__).parents[2] / "notebooks"
LESSONS = lessons.find(FOLDER)
WORDS = re.compile(r"\\(mathrm|mathit|text|textrm|textit|texttt|operatorname|begin|end|tag)\*?\{[^}]*\}")
VARIANTS = {"varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "ell": "l"}
GREEK = {"alpha", "beta", "gamma", "Gamma", "delta", "Delta", "epsilon", "zeta", "eta", "theta", "Theta", "kappa",
         "lambda", "Lambda", "mu", "nu", "xi", "Xi", "pi", "Pi", "rho", "sigma", "Sigma", "tau", "phi", "Phi", "chi",
         "psi", "Psi", "omega", "Omega"}


def letters(prose: str) -> set[str]:
    """The letters that the formulas of a text use, Greek ones by name."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", " ", prose, flags=re.DOTALL)
    found = set()
    for block, inline in re.findall(r"\$\$(.+?)\$\$|\$([^$]+?)\$", prose, re.DOTALL):
        formula = WORDS.sub(" ", block or inline)
        commands = {VARIANTS.get(name, name) for name in re.findall(r"\\([A-Za-z]+)", formula)}
        found |= commands & (GREEK | {"l"})
        found |= set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", formula)))
    return found


def named() -> set[str]:
    """What the index lists: the first word of each name, which is the letter where there is one."""
    return {re.split(r"[ ,_]", name)[0] for name in notation.index(FOLDER)["look for"]}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_letter_of_a_lesson_is_in_the_index(path: Path):
    prose = "\n".join(cell["source"] for cell in lessons.load(path)["cells"] if cell["cell_type"] == "markdown")
    assert letters(prose) - named() == set(), "give these a row in mtlcourse/course/notation.csv"


def test_letters_are_read_from_formulas_only():
    prose = r"A `$q$` costs $\alpha_t \cdot \mathrm{cost}$ and $$\tfrac{1}{m} \ell(\hat y, \varepsilon).$$ No k."
    assert letters(prose) == {"alpha", "t", "m", "l", "y", "epsilon"}


def test_letters_that_were_missing_have_all_their_meanings():
    rows = notation.index(FOLDER)
    for letter, meanings in {"u": 2, "delta": 2, "c": 4, "k": 4, "r": 3, "S": 3, "n": 3}.items():
        mine = rows[[re.split(r"[ ,_]", name)[0] == letter for name in rows["look for"]]]
        assert len(set(mine["meaning"])) >= meanings, letter


def test_links_lead_to_lessons_and_to_headings_of_the_notation():
    prose = "\n".join(cell["source"] for cell in lessons.load(FOLDER / "90_notation.ipynb")["cells"])
    anchors = {heading.replace(" ", "-") for heading in re.findall(r"^## (.+?)$", prose, re.MULTILINE)}
    rows = notation.index(FOLDER)
    assert (rows["explained in"] != "").all()
    for target in re.findall(r"\]\((.+?)\)", " ".join(rows["explained in"])):
        assert target[1:] in anchors if target.startswith("#") else (FOLDER / target).exists(), target


def test_the_index_is_alphabetical_and_has_each_name_of_an_entry():
    names = list(notation.index(FOLDER)["look for"])
    assert names == sorted(names, key=lambda name: (name.casefold(), name)) and {"alpha", "gate"} <= set(names)
    assert len(names) == sum(row.names.count(";") + 1 for row in notation.entries().itertuples())


def test_entries_have_what_a_table_needs():
    rows = notation.entries()
    assert set(rows["section"]) - {""} <= notation.SECTIONS.keys()
    assert (rows["names"] != "").all() and (rows["meaning"] != "").all() and (rows["lessons"] != "").all()
    assert not rows.duplicated(["names"]).any()
    shown = table(notation.section("gradients", FOLDER))
    assert shown.splitlines()[2] == ("| $g_t$ | gradient of $L_t$ with respect to the shared parameters | a row of $G$ "
                                     "| [10](10_loss_weighting.ipynb) |")
    with pytest.raises(KeyError, match="sections are problems"):
        notation.section("methods", FOLDER)
