"""What a notebook of the course must look like, read from its JSON. `faults(path)` says what is not so.

No notebook is executed here: nbval proves that stored outputs are true, papermill that parameters work.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from mtlcourse.course import lessons, outputs
from mtlcourse.course.tokens import Number, split

MEGABYTE = 1_000_000
CODE_LINES, SETUP_LINES = 25, 8
CODE_CELLS, WORDS = (10, 30), (1_200, 2_600)
FAST_SECONDS, ALL_FAST_SECONDS = 90, 1_500
TAGS = {"parameters", "raises-exception", outputs.ABOUT, outputs.FREE}
SECTIONS = ("Learning goals", "Before you start", "Time", "Summary", "Exercises", "References")
# The first page orients and the glossary is looked up: neither has to be as long, or to set exercises.
BRIEF = {"00", "90"}
LOCAL_PATH = re.compile(r"""(/(home|Users|root|tmp|work|mnt|var/folders)/\w|\b[A-Z]:\\\w)""")


def faults(path: Path) -> list[str]:
    """Everything that is wrong with the notebook at `path`, a sentence each."""
    try:
        nbformat.validate(nbformat.read(path, as_version=4))
    except nbformat.ValidationError as error:
        return [f"is no valid notebook: {error.message}"]
    notebook = lessons.load(path)
    found = [*_whole(path, notebook), *_text(path, notebook), *_order(notebook), *_parameters(notebook)]
    for cell in lessons.code_cells(notebook):
        told = [*_source(cell["source"]), *_outputs(cell), *_kind(cell), *_alt_texts(cell)]
        found += [f"[{cell['execution_count']}] {fault}" for fault in told]
    return found


def _whole(path: Path, notebook: dict[str, Any]) -> Iterator[str]:
    front = notebook["metadata"].get("mtlcourse")
    yield from lessons.front_matter_faults(front)
    if not lessons.front_matter_faults(front):
        if front["fast_seconds"] > FAST_SECONDS:
            yield f"fast_seconds is {front['fast_seconds']}, allowed are {FAST_SECONDS}"
        for need in front["needs"]:
            if need >= path.name[:2] or not list(path.parent.glob(f"{need}_*.ipynb")):
                yield f"needs {need!r}, which is no earlier notebook"
    if path.stat().st_size > MEGABYTE:
        yield f"has {path.stat().st_size:,} bytes, allowed are {MEGABYTE:,}"
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "its kernel is not python3"
    title, question = lessons.heading(notebook)
    if not title or "?" not in question:
        yield "does not begin with a title and the one question it answers"


def _text(path: Path, notebook: dict[str, Any]) -> Iterator[str]:
    brief = path.name[:2] in BRIEF
    prose = "\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    for section in SECTIONS:
        if section not in prose and not (brief and section in ("Exercises", "References")):
            yield f"has no section {section!r}"
    words, cells = len(prose.split()), len(lessons.code_cells(notebook))
    for count, what, (least, most) in ((words, "words", WORDS), (cells, "code cells", CODE_CELLS)):
        if not (0 if brief else least) <= count <= most:
            yield f"has {count} {what}, {least} to {most} are allowed"
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose):
        if not _resolves(path, target):
            yield f"links to {target}, which is not there"
    if LOCAL_PATH.search(prose):
        yield f"names a path of one machine: {LOCAL_PATH.search(prose)[0]}"
    yield from _neighbours(path, notebook)


def _neighbours(path: Path, notebook: dict[str, Any]) -> Iterator[str]:
    """The last cell leads to the notebook before and to the one after."""
    course = lessons.find(path.parent)
    here = course.index(path)
    for neighbour in course[max(here - 1, 0):here] + course[here + 1:here + 2]:
        if f"({neighbour.name})" not in notebook["cells"][-1]["source"]:
            yield f"its last cell does not link to {neighbour.name}"


def _resolves(path: Path, target: str) -> bool:
    if re.match(r"https?:|mailto:|attachment:|data:", target):
        return True
    name, _, anchor = target.partition("#")
    file = path.parent / name if name else path
    if not file.exists():
        return False
    return not anchor or file.suffix != ".ipynb" or anchor in _anchors(file)


def _anchors(path: Path) -> set[str]:
    """The places in a notebook that can be linked to: headings, as Jupyter names them, and `id`s."""
    prose = "\n".join(c["source"] for c in lessons.load(path)["cells"] if c["cell_type"] == "markdown")
    headings = re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)
    return {heading.replace(" ", "-") for heading in headings} | set(re.findall(r'id="([^"]+)"', prose))


def _order(notebook: dict[str, Any]) -> Iterator[str]:
    cells = notebook["cells"]
    left = {"papermill", "widgets"} & set(notebook["metadata"])
    if left or any({"execution", "papermill"} & set(cell["metadata"]) for cell in cells):
        yield "its metadata says when and where it ran: store outputs with `make notebooks`"
    counts = [cell["execution_count"] for cell in lessons.code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"its cells were not run once, in order: execution counts {counts}"
    for cell, following in zip(cells, cells[1:] + [None], strict=True):
        if _has_picture(cell) and not (following and following["cell_type"] == "markdown"):
            yield f"[{cell['execution_count']}] draws a figure that no text reads"


def _has_picture(cell: dict[str, Any]) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def _parameters(notebook: dict[str, Any]) -> Iterator[str]:
    cells = lessons.code_cells(notebook)
    tagged = [index for index, cell in enumerate(cells) if "parameters" in lessons.tags(cell)]
    if len(tagged) != 1:
        yield f"has {len(tagged)} cells tagged 'parameters', one is needed"
        return
    values = {}
    for statement in _parse(cells[tagged[0]]["source"]).body:
        try:
            (target,) = statement.targets
            values[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, TypeError, ValueError):
            yield f"its parameters cell has more than literals: {ast.unparse(statement)}"
    for name, value in (("budget", "fast"), ("seed", 0)):
        if values.get(name) != value:
            yield f"its parameters cell must set {name} = {json.dumps(value)}"
    setup = cells[tagged[0] + 1]["source"] if tagged[0] + 1 < len(cells) else ""
    if "setup(seed)" not in setup or sum(bool(line.strip()) for line in setup.splitlines()) > SETUP_LINES:
        yield f"after the parameters comes no set-up cell of at most {SETUP_LINES} lines that calls setup(seed)"


def _parse(source: str) -> ast.Module:
    """The syntax tree of a cell; lines that are not Python (magics, shell) count as empty."""
    lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    return ast.parse("\n".join(lines))


def _source(source: str) -> Iterator[str]:
    lines = source.strip().splitlines()
    if len(lines) > CODE_LINES:
        yield f"has {len(lines)} lines, allowed are {CODE_LINES}"
    for line in lines:
        if line.rstrip().endswith(";"):
            yield f"a line ends with ';': {line.strip()}"
        if re.match(r"\s*(%%?time|%%?timeit)\b", line):
            yield f"times with a magic: {line.strip()}"
        if re.match(r"\s*(!|%pip|%conda|%%bash|%%sh)", line):
            yield f"calls the shell: {line.strip()}"
        if LOCAL_PATH.search(line):
            yield f"names a path of one machine: {line.strip()}"
    for node in ast.walk(_parse(source)):
        yield from _statement(node)


def _statement(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = ast.unparse(node.value.func)
        if re.search(r"(^|\.)(manual_seed(_all)?|random\.seed)$", called):
            yield f"a bare {called}(...) prints an address; write _ = {called}(...), or better setup(seed)"
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if re.search(r"(^|\.)(simplefilter|filterwarnings)$", called) and len(node.args) + len(node.keywords) < 2:
            yield f"silences all warnings: {ast.unparse(node)}"
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        if "tqdm" in modules:
            yield "imports plain tqdm, whose lines differ in every run; fit(progress=False), or tqdm.notebook"
        names = [part for name in modules for part in name.split(".")] + [alias.name for alias in node.names]
        if modules[0].partition(".")[0] == "mtlcourse" and any(name.startswith("_") for name in names):
            yield f"imports what is not public: {ast.unparse(node)}"


def _outputs(cell: dict[str, Any]) -> Iterator[str]:
    for output in cell["outputs"]:
        if output["output_type"] == "error" and "raises-exception" not in lessons.tags(cell):
            yield f"stores an error: {output['ename']}"
        if output["output_type"] == "stream" and output["name"] == "stderr":
            yield "stores output on stderr, such as a warning or a progress bar"
        data = output.get("data", {})
        texts = [output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")]
        for text in map("".join, texts):
            if LOCAL_PATH.search(text):
                yield f"its output names a path of one machine: {LOCAL_PATH.search(text)[0]}"


def _kind(cell: dict[str, Any]) -> Iterator[str]:
    """The tags say one thing that there is, and the tolerances of a cell of kind about were measured."""
    tags, tolerance = set(lessons.tags(cell)), cell["metadata"].get("mtlcourse")
    if tags - TAGS:
        yield f"has the tag {min(tags - TAGS)!r}, known are {', '.join(sorted(TAGS))}"
    if {outputs.ABOUT, outputs.FREE} <= tags:
        yield "is tagged 'about' and 'free', which exclude each other"
    if outputs.ABOUT in tags:
        said = outputs.texts(cell, str).values()
        if not any(isinstance(token, Number) for text in said for token in split(text)):
            yield "is tagged 'about' and stores no number"
        if not (isinstance(tolerance, dict) and len(tolerance) == 1 and tolerance.keys() <= {"absolute", "relative"}):
            yield f"is tagged 'about', but its tolerance is {tolerance}: `make notebooks` measures it"
    elif tolerance is not None:
        yield f"has a tolerance, {tolerance}, though it is not tagged 'about': `make notebooks` removes it"


def _alt_texts(cell: dict[str, Any]) -> Iterator[str]:
    for output in cell["outputs"]:
        alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
        if "image/png" in output.get("data", {}) and not alt.strip():
            yield "draws a figure without alt text: figures.show(figure, \"what it shows\")"
