"""The book: built once from the stored notebooks, then read as a browser without a network would read it."""

import re
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from mtlcourse.course import lessons, notation
from mtlcourse.course.book import build, glossary, reference
from mtlcourse.course.book.mathml import mathml

ROOT = Path(__file__).parent.parent.parent
LARGEST = 1.5e6  # bytes of a page


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> dict[str, BeautifulSoup]:
    """`{path inside the book: page}`."""
    out = tmp_path_factory.mktemp("book") / "book"
    build.build(ROOT, out / "nothing", out)
    pages = sorted(out.rglob("*.html"))
    assert max(page.stat().st_size for page in pages) < LARGEST
    return {page.relative_to(out).as_posix(): BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
            for page in pages if "_static" not in page.parts} | {"": out}


def pages(book):
    return {name: page for name, page in book.items() if name}


def test_every_lesson_solution_and_guide_is_a_page(book):
    for path in lessons.find(ROOT / "notebooks"):
        assert f"lessons/{path.stem}.html" in book
        assert (f"solutions/{path.stem}.html" in book) == (ROOT / "notebooks" / "solutions" / path.name).exists()
    for guide in (ROOT / "book" / "guides").glob("*.md"):
        assert f"guides/{guide.stem}.html" in book
    linked = {link["href"].partition("#")[0] for link in book["guides/index.html"].select("main a[href]")}
    assert {name.removeprefix("guides/") for name in book if name.startswith("guides/")} <= linked | {"index.html"}


@pytest.mark.parametrize("part", reference.PARTS)
def test_every_public_name_is_in_the_reference_with_its_source(book, part):
    page = book[f"reference/{part}.html"]
    for name in reference.public(part):
        entry = page.find(id=f"mtlcourse.{part}.{name}")
        assert entry is not None and entry.parent.find("summary", string=re.compile("^Source: mtlcourse/")), name


def test_every_term_of_the_glossary_can_be_linked_to(book):
    for place in glossary.places(notation.entries()["names"]):
        assert book["glossary.html"].find(id=place) is not None, place


def test_nothing_is_asked_of_a_network(book):
    for name, page in pages(book).items():
        for tag in page.find_all(["script", "img", "iframe", "source"], src=True):
            assert not re.match(r"(https?:)?//", tag["src"]), f"{name} loads {tag['src']}"
        for tag in page.find_all("link", href=True):
            assert not re.match(r"(https?:)?//", tag["href"]), f"{name} loads {tag['href']}"


def test_every_link_leads_to_a_place_that_is_there(book):
    known = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in pages(book).items()}
    for name, page in pages(book).items():
        for tag in page.select("main a[href]"):
            target, anchor = urldefrag(unquote(tag["href"]))
            if re.match(r"[a-z]+:", target):
                continue
            path = (book[""] / name).parent / target if target else book[""] / name
            inside = path.resolve().relative_to(book[""].resolve()).as_posix()
            assert path.exists(), f"{name}: {tag['href']} is not there"
            assert not anchor or inside not in known or anchor in known[inside], f"{name}: no {anchor} in {inside}"


def test_every_picture_has_a_text(book):
    for name, page in pages(book).items():
        for picture in page.select("main img"):
            assert picture.get("alt", "").strip(), f"{name}: {picture['src']}"
            assert ((book[""] / name).parent / picture["src"]).exists()


def test_formulas_are_drawn_and_not_shown_as_they_are_typed(book):
    formulas = 0
    for name, page in pages(book).items():
        formulas += len(page.find_all("math"))
        for tag in page.select("main p, main li"):
            for code in tag.find_all(["code", "math"]):
                code.extract()
            assert not re.search(r"\\(frac|sum|theta|mathrm|alpha)\b", tag.get_text()), f"{name}: {tag.get_text()[:80]}"
    assert formulas > 1_500


def test_what_cannot_be_translated_is_an_error_and_not_left_out():
    for latex in (r"\unheardof x", r"x^", ""):
        with pytest.raises(ValueError, match="cannot be translated"):
            mathml(latex)
    assert "<mi>arg</mi>" in mathml(r"\arg\min_b") or "arg" in mathml(r"\arg\min_b")


def test_a_table_of_pandas_becomes_one_of_the_books():
    frame = pd.DataFrame({("lr", "a"): [1], ("lr", "b"): [2]})
    made = build._table(frame.to_html(notebook=True))
    assert "style scoped" in frame.to_html(notebook=True) and "style scoped" not in made and "align=" not in made
    assert made.startswith('<div class="pst-scrollable-table-container"><table class="dataframe table">')
    assert made.endswith("</table></div>") and made.count("<t") == frame.to_html().count("<t")


def test_a_place_has_no_sign_of_html_in_its_name():
    for heading in ('4. What "in turn" leaves out', "a < b & c > d", "plain"):
        assert not set('"<>& ') & set(build.anchor(heading)) and build.anchor(heading)
    assert build.anchor("3. Models") == "3.-Models"


def test_a_docstring_becomes_sentences_lists_and_code():
    text = ("Takes `x`: all of it.\n\nx: one.\n    It goes on.  y, z: two, of *any* kind.\n"
            "Raises ValueError for none.\n\n    code()\n\n>>> 1 + 1\n2")
    assert reference.markdown(text) == (
        "Takes `x`: all of it.\n\n- **x**: one.\n  It goes on.\n- **y, z**: two, of \\*any\\* kind.\n\n"
        "Raises ValueError for none.\n\n```text\ncode()\n\n>>> 1 + 1\n2\n```")


def test_a_broken_link_stops_the_build(tmp_path: Path):
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "conf.py").write_text((ROOT / "book" / "conf.py").read_text())
    (pages / "_static").mkdir()
    (pages / "_static" / "book.css").touch()
    (pages / "index.md").write_text("# Title\n\n[There](nowhere.md)\n")
    with pytest.raises(RuntimeError, match="nowhere.md"):
        build._sphinx(pages, tmp_path / "out")
