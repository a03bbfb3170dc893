"""Every public name has one example, in its docstring or on a page of `book/examples`, and what they show is true."""

import doctest
from pathlib import Path

import pytest

from mtlcourse.course.book import examples, reference

FOLDER = Path(__file__).parent.parent.parent / "book" / "examples"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PAGES = {path.stem: examples.read(path) for path in sorted(FOLDER.glob("*.md"))}


def failures(before: str, section: str, name: str = "example") -> int:
    """How many of a section's lines show something else, after the `Before` of its page, in a world of their own."""
    world: dict = {}
    failed = 0
    for place, text in (("Before", before), (name, section)):
        told = doctest.DocTestParser().get_doctest(examples.code(text), world, place, None, 0)
        failed += doctest.DocTestRunner(optionflags=FLAGS).run(told, clear_globs=False).failed
        world = told.globs
    return failed


def faults(part: str, page: examples.Examples) -> list[str]:
    """What is wrong with how many examples the public names of a part have."""
    said = {name: (">>>" in (thing.__doc__ or ""), name in page.of) for name, thing in reference.public(part).items()}
    return ([f"{name}: none" for name, places in said.items() if sum(places) == 0]
            + [f"{name}: two" for name, places in said.items() if sum(places) == 2]
            + [f"{name}: not public" for name in page.of if name not in said])


@pytest.mark.parametrize("part", reference.PARTS)
def test_every_public_name_has_one_example(part: str):
    assert faults(part, PAGES.get(part, examples.Examples())) == []


def test_a_renamed_function_without_its_page_is_noticed():
    page = examples.Examples(of={"public_name_of_old": "", "mask": ""})
    assert {"public_name_of_old: not public", "Task: none", "mask: not public"} <= set(faults("tasks", page))
    with pytest.raises(ValueError, match="no public mask, public_name_of_old, .* Rename or remove"):
        reference.page("tasks", page)
    assert faults("losses", examples.Examples(of=dict.fromkeys(reference.public("losses"), "")))[0].endswith(": two")


def test_every_page_belongs_to_a_part():
    assert PAGES.keys() <= set(reference.PARTS)


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, page in PAGES.items() for name in page.of])
def test_example(part: str, name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert failures(PAGES[part].before, PAGES[part].of[name], name) == 0


def test_an_example_knows_what_is_before_it_and_must_be_true():
    before, true, false = (f"```python\n{code}\n```" for code in (">>> x = [1]", ">>> x\n[1]", ">>> x.pop()\n2"))
    assert failures(before, true) == 0
    assert failures(before, false) == 1
    assert failures("", true) == 1
    assert failures(f"{before}\n\n{false}", true) == 2


def test_an_example_stands_inside_its_entry_and_what_they_share_above_all():
    page = examples.Examples("```python\n>>> first = 1\n```", {"Task": "```python\n>>> first + 1\n2\n```"})
    text = reference.page("tasks", page)
    assert text.index("begin with\n\n```python\n>>> first = 1") < text.index("{py:class} Batch")
    assert text.index("{py:class} Task(") < text.index(">>> first + 1") < text.index("{py:class} TensorSplit")


@pytest.mark.parametrize(("text", "message"), [
    ("# part\n\n## A\n\n```python\n>>> 1\n1\n```\n\n## A\n\n```python\n>>> 1\n1\n```\n", "two sections 'A'"),
    ("# part\n\n## A\n\nNothing.\n", "'A': an example is code"),
    ("# part\n\n## A\n\n```python\nx = 1\n```\n", "begins with >>>"),
    ("# part\n\n## A\n\n```python\n>>> 1\n1\n```\n\n```\n>>> 2\n", "a fence too many"),
    ("# part\n\nLost.\n\n## A\n\n```python\n>>> 1\n1\n```\n", "must begin with '# part'"),
    ("# other\n\n## A\n\n```python\n>>> 1\n1\n```\n", "must begin with '# part'"),
])
def test_a_page_that_is_not_as_it_should_be_is_told(text: str, message: str, tmp_path: Path):
    (tmp_path / "part.md").write_text(text)
    with pytest.raises(ValueError, match=message):
        examples.read(tmp_path / "part.md")


def test_a_part_without_a_page_has_no_more_examples(tmp_path: Path):
    assert examples.read(tmp_path / "part.md") == examples.Examples()
