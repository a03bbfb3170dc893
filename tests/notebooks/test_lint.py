"""The notebooks look as they must, and the lint that says so notices when they do not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode, v4

from mtlcourse.course import lessons, verdicts
from tests.notebooks import lint
from tests.notebooks.samples import PARAMETERS, notebook, write

FOLDER = Path(__file__).parents[2] / "notebooks"
COURSE = sorted(path for path in FOLDER.glob("*.ipynb") if lessons.NAME.fullmatch(path.name))


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_notebook_is_in_shape(path: Path):
    assert not lint.faults(path)


def test_every_notebook_has_a_place_in_the_reading_order():
    strangers = {path.name for path in FOLDER.glob("*.ipynb")} - {path.name for path in COURSE}
    numbers = [path.name[:2] for path in COURSE]
    assert not strangers and len(set(numbers)) == len(numbers)


def test_the_course_is_short_enough():
    assert sum(lessons.read(path).fast_seconds for path in COURSE) <= lint.ALL_FAST_SECONDS


@pytest.mark.skipif(not COURSE, reason="there is no notebook to list")
def test_the_index_is_fresh():
    fresh = f"{lessons.index([lessons.read(path) for path in COURSE])}\n{verdicts.section(FOLDER)}"
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == fresh, "run `make notebooks`"


# --- the lint itself -------------------------------------------------------------------------------

PROSE = "\n\n".join(f"## {section}\n\n{'word ' * 250}" for section in lint.SECTIONS)


def good() -> NotebookNode:
    """A notebook that the lint has nothing against."""
    made = notebook("from mtlcourse import data\nsetup(seed)", *["x = 1"] * 9, needs=["01"])
    made.cells.insert(1, v4.new_markdown_cell(PROSE + "\n\n[the lesson before](01_before.ipynb#A-place)"))
    made.cells += [v4.new_markdown_cell("[before](01_before.ipynb) [after](03_after.ipynb) [here](#Time)")]
    for count, cell in enumerate((cell for cell in made.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
    return made


def check(folder: Path, made: NotebookNode) -> list[str]:
    """The faults of `made` in a course of three lessons."""
    for name in ("01_before", "03_after"):
        write(folder, name, notebook(title="Other\n\nWhat?\n\n## A place"))
    return lint.faults(write(folder, "02_here", made))


def test_a_good_notebook_has_no_faults(tmp_path: Path):
    assert check(tmp_path, good()) == []


def code(source: str) -> Callable[[NotebookNode], None]:
    def change(made: NotebookNode) -> None:
        made.cells[5].source = source
    return change


def parameters(source: str) -> Callable[[NotebookNode], None]:
    def change(made: NotebookNode) -> None:
        made.cells[2].source = source
    return change


def front(**values: object) -> Callable[[NotebookNode], None]:
    return lambda made: made.metadata.mtlcourse.update(values)


def prose(old: str, new: str) -> Callable[[NotebookNode], None]:
    def change(made: NotebookNode) -> None:
        for cell in made.cells:
            if cell.cell_type == "markdown":
                cell.source = cell.source.replace(old, new)
    return change


def output(kind: str, **content: object) -> Callable[[NotebookNode], None]:
    return lambda made: made.cells[5].outputs.append(v4.new_output(kind, **content))


def picture(*, alt: str = "a line that rises", read: bool = True) -> Callable[[NotebookNode], None]:
    def change(made: NotebookNode) -> None:
        metadata = {"image/png": {"alt": alt}} if alt else {}
        made.cells[5].outputs.append(v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata=metadata))
        if read:
            made.cells.insert(6, v4.new_markdown_cell("It rises."))
    return change


def kind(*tags: str, text: str = "miou 0.25", **tolerance: float) -> Callable[[NotebookNode], None]:
    """Tag a cell, let it say `text`, and store a tolerance if there is one."""
    def change(made: NotebookNode) -> None:
        made.cells[5].metadata.tags = list(tags)
        made.cells[5].outputs.append(v4.new_output("stream", name="stdout", text=text))
        if tolerance:
            made.cells[5].metadata.mtlcourse = tolerance
    return change


BROKEN = {
    "no front matter": (lambda made: made.metadata.pop("mtlcourse"), "no front matter"),
    "a field too many": (front(colour="red"), "unknown field 'colour'"),
    "two goals": (front(goals=["see", "try"]), "'goals' must be"),
    "goals as text": (front(goals="see"), "'goals' must be"),
    "time as text": (front(fast_seconds="25"), "'fast_seconds' must be"),
    "no time": (front(full_minutes=0), "'full_minutes' must be"),
    "too slow": (front(fast_seconds=91), "allowed are 90"),
    "needs a later one": (front(needs=["03"]), "'03', which is no earlier"),
    "needs an absent one": (front(needs=["00"]), "'00', which is no earlier"),
    "needs a name": (front(needs=["two"]), "'needs' must be"),
    "kernel": (lambda made: made.metadata.kernelspec.update(name="julia"), "kernel is not python3"),
    "no question": (prose("Does it run?", "It runs."), "the one question"),
    "no title": (prose("# A sample", "A sample"), "a title"),
    "too long": (prose("word", "word word"), "words, 1200 to 2600"),
    "too short": (prose("word ", ""), "words, 1200 to 2600"),
    "no summary": (prose("## Summary", "## End"), "no section 'Summary'"),
    "few cells": (lambda made: made.cells.__delitem__(slice(5, 7)), "9 code cells, 10 to 30"),
    "many cells": (lambda made: made.cells.extend(v4.new_code_cell("x = 1") for _ in range(20)),
                   "31 code cells, 10 to 30"),
    "dead link": (prose("[here](#Time)", "[here](04_gone.ipynb)"), "links to 04_gone.ipynb"),
    "dead anchor": (prose("#A-place", "#Another-place"), "links to 01_before.ipynb#Another-place"),
    "dead anchor here": (prose("#Time)", "#Place)"), "links to #Place"),
    "no way on": (prose("[after](03_after.ipynb)", ""), "does not link to 03_after.ipynb"),
    "local path in prose": (prose("## Time", "## Time\n\nLook into /home/me/runs."), "a path of one machine"),
    "not run": (lambda made: made.cells[5].update(execution_count=None), "not run once, in order"),
    "run again": (lambda made: made.cells[5].update(execution_count=30), "not run once, in order"),
    "times in a cell": (lambda made: made.cells[5].metadata.update(execution={}), "says when and where it ran"),
    "times in the notebook": (lambda made: made.metadata.update(papermill={}), "says when and where it ran"),
    "unread figure": (picture(read=False), "draws a figure that no text reads"),
    "no alt text": (picture(alt=""), "without alt text"),
    "blank alt text": (picture(alt=" "), "without alt text"),
    "unknown tag": (kind("nbval-check-output"), "has the tag 'nbval-check-output', known are about, free, param"),
    "two kinds": (kind("about", "free", absolute=0.1), "exclude each other"),
    "about nothing": (kind("about", text="conv2", absolute=0.1), "stores no number"),
    "not measured": (kind("about"), "its tolerance is None"),
    "unknown tolerance": (kind("about", percent=3.0), "its tolerance is {'percent': 3.0}"),
    "two tolerances": (kind("about", absolute=0.1, relative=0.1), "its tolerance is"),
    "needless tolerance": (kind(absolute=0.1), "though it is not tagged 'about'"),
    "no parameters": (lambda made: made.cells[2].metadata.update(tags=[]), "0 cells tagged"),
    "two of them": (lambda made: made.cells[5].metadata.update(tags=["parameters"]), "2 cells tagged"),
    "computed parameter": (parameters(PARAMETERS + "\nlr = 1 / 3"), "more than literals: lr = 1 / 3"),
    "import there": (parameters(PARAMETERS + "\nimport torch"), "more than literals: import torch"),
    "pair of parameters": (parameters(PARAMETERS + "\na, b = 1, 2"), "more than literals: a, b"),
    "no seed": (parameters('budget = "fast"'), "must set seed = 0"),
    "other budget": (parameters('budget = "full"\nseed = 0'), 'must set budget = "fast"'),
    "no set-up": (lambda made: made.cells[3].update(source="import torch"), "no set-up cell"),
    "long set-up": (lambda made: made.cells[3].update(source="setup(seed)\n" + "x = 1\n" * 8), "no set-up cell"),
    "long cell": (code("x = 1\n" * 26), "has 26 lines"),
    "semicolon": (code("plot(x);"), "ends with ';'"),
    "bare seed": (code("torch.manual_seed(0)"), "bare torch.manual_seed"),
    "bare numpy seed": (code("if x:\n    np.random.seed(0)"), "bare np.random.seed"),
    "timing": (code("%%timeit\nf(x)"), "times with a magic"),
    "shell": (code("!pip install x"), "calls the shell"),
    "plain tqdm": (code("from tqdm import tqdm"), "plain tqdm"),
    "plain tqdm module": (code("import tqdm"), "plain tqdm"),
    "private name": (code("from mtlcourse.training import _epoch"), "not public"),
    "all warnings": (code("warnings.simplefilter('ignore')"), "silences all warnings"),
    "local path in code": (code("open('/tmp/x')"), "a path of one machine"),
    "local path in output": (output("stream", name="stdout", text="saved in /home/me"), "output names a path"),
    "stderr": (output("stream", name="stderr", text="careful"), "on stderr"),
    "error": (output("error", ename="KeyError", evalue="x", traceback=[]), "stores an error: KeyError"),
    "big": (output("stream", name="stdout", text="x" * 1_000_001), "bytes, allowed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_lint_notices(tmp_path: Path, name: str):
    change, message = BROKEN[name]
    made = good()
    change(made)
    found = check(tmp_path, made)
    assert any(message in fault for fault in found), found


FINE = {
    "about": kind("about", absolute=0.03),
    "free": kind("free"),
    "figure": picture(),
    "generator": code("g = torch.Generator().manual_seed(seed)"),
    "kept seed": code("_ = torch.manual_seed(0)"),
    "one warning": code("warnings.filterwarnings('ignore', category=FutureWarning)"),
    "notebook bar": code("from tqdm.notebook import tqdm"),
    "semicolon in a line": code("text = 'a; b'"),
    "quotient": code("print(a /b, 'x/tmp')"),
    "web link": prose("[here](#Time)", "[here](https://pytorch.org/docs#x)"),
    "magic": code("%matplotlib inline"),
}


@pytest.mark.parametrize("name", FINE)
def test_the_lint_lets_pass(tmp_path: Path, name: str):
    made = good()
    FINE[name](made)
    assert check(tmp_path, made) == []


def test_the_first_notebook_may_be_brief(tmp_path: Path):
    made = good()
    prose("word ", "")(made)
    prose("## Exercises", "## Questions")(made)
    made.metadata.mtlcourse.needs = []
    prose("(01_before.ipynb#A-place)", "(#Time)")(made)
    made.cells = made.cells[:5] + made.cells[-1:]
    write(tmp_path, "01_before", notebook())
    prose("[after](03_after.ipynb)", "")(made)
    assert lint.faults(write(tmp_path, "00_first", made)) == []


def test_the_index_names_every_lesson(tmp_path: Path):
    first = write(tmp_path, "00_first", notebook(title="First things\n\n**What comes\nfirst?**", fast_seconds=12.5))
    second = write(tmp_path, "01_second", notebook(needs=["00"], goals=["a", "b", "fly"]))
    text = lessons.index([lessons.read(path) for path in lessons.find(tmp_path)])
    assert "| 00 | [First things](00_first.ipynb) | What comes first? | nothing | 12.5 s | 1 min |" in text
    assert "| 01 | [A sample](01_second.ipynb) | Does it run? | 00 | 5 s | 1 min |" in text
    assert "- fly" in text and "Together 0.3 minutes" in text
    assert [lessons.read(path).path for path in lessons.find(tmp_path)] == [first, second]


def test_a_lesson_with_bad_front_matter_is_named(tmp_path: Path):
    path = write(tmp_path, "00_first", notebook(full_minutes=0))
    with pytest.raises(ValueError, match=r"00_first.ipynb: 'full_minutes' must be .* not 0"):
        lessons.read(path)
    with pytest.raises(ValueError, match="No notebook"):
        lessons.find(tmp_path / "elsewhere")
