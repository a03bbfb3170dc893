"""The API reference, from signatures and docstrings: a page for each part of the package, as MyST Markdown.

Imports the package, and this folder's `examples` and `formulas`. A docstring here is prose, with lines `name: what it
is` for arguments and fields; both become Markdown. What stands in single backticks is code in both, except formulas,
which are drawn.
"""

import ast
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import formulas
from .examples import Examples, read

PARTS = ("tasks", "data", "encoders", "models", "strategies", "training", "search", "safety", "theory", "methods",
         "runs", "bench", "metrics", "losses", "published", "figures")
APART = re.compile(r"(Raises|Returns|Source|No source|Departs?|Departure|Scale)\b")  # what a new paragraph begins with
ITEM = re.compile(r"(?P<names>\*{0,2}\w+(?:\(\w+(?:, \w+)*\))?(?:, \*{0,2}\w+)*): (?P<text>.*)")


def public(part: str) -> dict[str, Any]:
    """The public names of `mtlcourse.<part>` that are functions and classes, in alphabetical order: those of
    `__all__`, or what the file defines itself."""
    module = importlib.import_module(f"mtlcourse.{part}")
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
    found = {name: getattr(module, name) for name in getattr(module, "__all__", own) if not name.startswith("_")}
    return {name: thing for name, thing in sorted(found.items(), key=lambda item: item[0].lower())
            if inspect.isfunction(thing) or inspect.isclass(thing)}


def write(folder: Path, examples: Path) -> list[Path]:
    """Write a page for each part into `folder`, and one that lists them; returns their paths.

    examples: the folder with `PART.md` for the parts whose docstrings do not have all examples.
    Raises ValueError for an example of what is not public.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for part in PARTS:
        pages.append(folder / f"{part}.md")
        pages[-1].write_text(page(part, read(examples / f"{part}.md")), encoding="utf-8")
    rows = [f"- [{part}]({part}.md): {_first(importlib.import_module(f'mtlcourse.{part}'))}" for part in PARTS]
    index = folder / "index.md"
    toctree = "\n".join(("```{toctree}", ":hidden:", ":maxdepth: 1", "", *PARTS, "```"))
    index.write_text("# Reference\n\nEvery public name of the package, from its own docstring, with its source behind "
                     "a click.\n\n" + "\n".join(rows) + f"\n\n{toctree}\n", encoding="utf-8")
    return [*pages, index]


def page(part: str, examples: Examples) -> str:
    """The page of one part. Raises ValueError for an example of what is not public."""
    module = importlib.import_module(f"mtlcourse.{part}")
    named = public(part)
    if lost := sorted(examples.of.keys() - named):
        raise ValueError(f"mtlcourse.{part} has no public {', '.join(lost)}, and book/examples/{part}.md has an "
                         "example of it. Rename or remove the section.")
    blocks = [f"# {part}", markdown(inspect.getdoc(module) or ""),
              ", ".join(f"[`{name}`](#mtlcourse.{part}.{name})" for name in named)]
    if examples.before:
        blocks.append(f"The examples below begin with\n\n{examples.before}")
    for name, thing in named.items():
        blocks.append("\n".join(_entry(f"mtlcourse.{part}", name, thing, examples.of.get(name, ""))))
    return "\n\n".join(blocks) + "\n"


def _entry(module: str, name: str, thing: Any, example: str) -> Iterator[str]:
    kind = "class" if inspect.isclass(thing) else "function"
    yield f"````````{{py:{kind}}} {name}{signature(thing)}"
    yield f":module: {module}\n"
    yield markdown(inspect.getdoc(thing) or "")
    if example:
        yield f"\n**Example**\n\n{example}"
    if inspect.isclass(thing):
        for method, function in vars(thing).items():
            function = getattr(function, "__func__", function)  # of class and static methods
            if inspect.isfunction(function) and not method.startswith("_") and function.__doc__:
                yield f"\n```````{{py:method}} {method}{signature(function)}"
                yield f":module: {module}\n" + markdown(inspect.getdoc(function))
                yield "```````"
    yield "\n" + source(thing)
    yield "````````"


def signature(thing: Any) -> str:
    """`(arguments) -> result` as the source has it; of a class those of `__init__`.

    >>> signature(public)
    '(part: str) -> dict[str, Any]'
    """
    function = thing
    if inspect.isclass(thing):
        function = vars(thing).get("__init__")
        if not inspect.isfunction(function) or "__dataclass_fields__" in vars(thing):
            try:
                return str(inspect.signature(thing).replace(return_annotation=inspect.Signature.empty)).replace("'", "")
            except (TypeError, ValueError):
                return "()"
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body
    assert isinstance(node, ast.FunctionDef)
    arguments = node.args
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments.args = arguments.args[1:]
    result = f" -> {ast.unparse(node.returns)}" if node.returns and function is thing else ""
    return f"({ast.unparse(arguments)}){result}"


def source(thing: Any) -> str:
    """The source behind a click, and where it stands."""
    thing = inspect.unwrap(thing)
    lines, first = inspect.getsourcelines(thing)
    path = Path(inspect.getsourcefile(thing)).as_posix()
    place = path[path.rindex("mtlcourse/"):]
    code = "".join(lines).rstrip()
    return (f"<details><summary>Source: {place}, line {max(first, 1)}</summary>\n\n``````python\n{code}\n``````\n\n"
            "</details>\n")


def markdown(docstring: str) -> str:
    """A docstring as Markdown.

    Lines `name: text` become items of a list, two of them may stand in one line behind a full stop and two blanks;
    indented paragraphs, and what begins with `>>>`, become code; what surely is a formula is one in Markdown, too.

    >>> print(markdown("Adds.\\n\\na: one.  b: the other.\\nRaises ValueError for none."))
    Adds.
    <BLANKLINE>
    - **a**: one.
    - **b**: the other.
    <BLANKLINE>
    Raises ValueError for none.
    """
    paragraphs = re.split(r"\n\s*\n", docstring.strip("\n"))
    blocks: list[str] = []
    code = False
    for number, paragraph in enumerate(paragraphs):
        indented = all(line.startswith("    ") for line in paragraph.splitlines())
        if indented or paragraph.lstrip().startswith(">>>"):
            text = textwrap.dedent(paragraph)
            if drawn := formulas.lines(text):
                blocks += [f"```{{math}}\n{latex}\n```" for latex in drawn]
                code = False
                continue
            if code:
                blocks[-1] = f"{blocks[-1][:-4]}\n\n{text}\n```"
            else:
                blocks.append(f"```{'python' if '>>>' in text else 'text'}\n{text}\n```")
            code = indented
            continue
        code = False
        blocks += _prose(paragraph, opening=number == 0)
    return "\n\n".join(blocks)


def _prose(paragraph: str, opening: bool) -> list[str]:
    """Sentences, and lists of what is named, in turns; the first line of a docstring is a sentence."""
    lines: list[str] = []
    paragraph = re.sub(r"`[^`]+`", lambda span: " ".join(span[0].split()), paragraph)
    for line in paragraph.splitlines():
        lines += re.split(r"(?<=[.\w`)])  (?=[\w, *]+: )", line)
    blocks: list[list[str]] = []
    kind = ""
    for number, line in enumerate(lines):
        item, before, apart = ITEM.match(line), kind, APART.match(line)
        if item and not apart and not (opening and number == 0):
            kind, text = "items", f"- **{escaped(item['names'])}**: {escaped(item['text'])}"
        elif before == "items" and not apart:
            text = f"  {escaped(line.strip())}"  # goes on
        else:
            kind, text = "sentences", escaped(line.strip())
        if kind != before or apart:
            blocks.append([])
        blocks[-1].append(text)
    return ["\n".join(block) for block in blocks]


def escaped(line: str) -> str:
    """A line of prose, with its formulas drawn, and what Markdown would take for its own made plain outside of code."""
    pieces = line.split("`")
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            pieces[number] = re.sub(r"([<*_$\[\]|])", r"\\\1", piece)
        else:
            drawn = None if _named() & set(re.findall(r"\w*_\w+", piece)) else formulas.formula(piece)
            pieces[number] = f"{{math}}`{drawn}`" if drawn else f"`{piece}`"
    return "".join(pieces)


@functools.cache
def _named() -> set[str]:
    """Every public name, which is code even where it could be a formula, as `delta_i`."""
    return {name for part in PARTS for name in public(part)}


def _first(thing: Any) -> str:
    said = " ".join((inspect.getdoc(thing) or "").split())
    return re.split(r"(?<=[.:])\s", said)[0].rstrip(":.") + "."
