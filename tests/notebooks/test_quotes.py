"""What the prose of a lesson quotes stands in its outputs, so prose cannot rot."""

import tomllib
from pathlib import Path

import pytest
from nbformat import v4

from mtlcourse.course import lessons
from tests.notebooks import quotes
from tests.notebooks.samples import notebook, write

FOLDER = Path(__file__).parents[2] / "notebooks"
COURSE = sorted(path for path in FOLDER.glob("*.ipynb") if lessons.NAME.fullmatch(path.name))
ALLOWED = tomllib.loads((FOLDER / "allowed_numbers.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_what_a_lesson_quotes_it_prints(path: Path):
    assert not quotes.unfounded(path, ALLOWED["everywhere"] | ALLOWED.get(path.name[:2], {}))


def test_every_allowance_is_needed_and_has_a_reason():
    said = {path.name[:2]: [quote.number.text for quote in quotes.quotes(lessons.load(path))] for path in COURSE}
    for number, allowed in ALLOWED.items():
        quoted = sum(said.values(), []) if number == "everywhere" else said[number]
        assert allowed.keys() <= set(quoted), f"[{number}] allows what is not quoted: {allowed.keys() - set(quoted)}"
        assert all(allowed.values())


@pytest.mark.parametrize(("prose", "numbers"), [
    ("Sharing has .26, alone 0.31 (12 %, 1,234 steps, -0.3).", [".26", "0.31", "12 %", "1,234", "-0.3"]),
    ("two of three tasks, conv2, 3x3, x1", []),
    ("See section 6, equations 7 and 8, (equation 9), Table 5, theorems 1-5 and definition 5.2.1.", []),
    ("Table 5 of the paper prints 0.03.", ["0.03"]),
    ("ICLR 2019, in 1993 and (2026)", []),
    ("# 3. A heading with 0.5\n\nText 0.4", ["0.4"]),
    ("1. first\n2. second 7", ["7"]),
    ("[lesson](13_deep.ipynb#0.5) and `x = 0.25`, <img width=\"90\">", []),
    ("```\n0.5\n0.6\n```\n0.7", ["0.7"]),
    (r"$p = 2$ reaches $w = 0.65$, $$\tfrac12 + 10^{-5} = 0.91$$ and $-0.1$", ["0.65", "0.91", "-0.1"]),
    ("**Time.** 50 minutes.\n\nIt has 40.", ["40"]),
    ("## Exercises\n\n**Exercise 14.1** Take 77.\n\n## After\n\n5\n\n## References\n\nSection 99 of 98.", ["5"]),
    ("| a | notebook |\n| --- | --- |\n| 0.25 | 13 |\n\n| a | 12 |", ["0.25", "12"]),
    ("Lessons 02 and 13, notebook 14, exercise 14.1", []),
])
def test_what_is_quoted(prose: str, numbers: list[str]):
    assert [quote.number.text for quote in quotes.quoted(prose)] == numbers


@pytest.mark.parametrize(("prose", "said", "found"), [
    ("miou .26", "0.2597", True),
    ("miou .25", "0.2597", False),
    ("miou .2597", "0.26", False),
    ("12 % more", "0.12", True),
    ("12 % more", "12.3", True),
    ("12 % more", "0.126", False),
    ("12 % more", "12.6 %", False),
    ("between 11 and 18 points", "0.11 0.18", True),
    ("between 11 and 18 points", "0.11 0.19", False),
    ("11 runs", "0.11", False),
    ("1,234 steps", "1234", True),
    ("a loss of 2.3", "-2.3", True),
    ("it is -2.3", "2.3", False),
    ("3 of 10", "seed 3, 10 in all", True),
    ("3 of 10", "conv3, 10 in all", False),
])
def test_a_quotation_is_found_within_its_precision(tmp_path: Path, prose: str, said: str, found: bool):
    made = notebook("show()", parameters=None)
    made.cells[1].outputs = [v4.new_output("stream", name="stdout", text=said)]
    made.cells.append(v4.new_markdown_cell(prose))
    assert (quotes.unfounded(write(tmp_path, "00_a", made), {}) == []) is found


def test_code_html_and_allowances_are_sources_and_prose_is_none(tmp_path: Path):
    made = notebook("rate = 0.125", parameters=None)
    made.cells[1].outputs = [v4.new_output("display_data", {"text/html": "<td>0.75</td>", "image/png": "0.5"})]
    made.cells += [v4.new_markdown_cell("0.125, 0.75, 0.5, 95 %"), v4.new_markdown_cell("0.5")]
    found = quotes.unfounded(write(tmp_path, "00_a", made), {"95 %": "a level"})
    assert found == [f"quotes 0.5, which no cell prints: {sentence}" for sentence in ("0.125, 0.75, 0.5, 95 %", "0.5")]
