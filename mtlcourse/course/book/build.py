"""The book: executed lessons, solutions, guides and the reference, put together and handed to Sphinx.

`python -m mtlcourse.course.book.build` makes `build/book` from `build/course`; a lesson that has not been run is taken
with its stored outputs. Nothing is executed here. Imports `course.lessons` and `course.running`, and this folder's
`contents`, `cover`, `glossary`, `ran` and `reference`.
"""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .. import running
from ..lessons import Lesson, find, load, read
from . import contents, cover, glossary, ran, reference

PICTURE = "image/png"


def build(root: Path = Path("."), executed: Path = Path("build/course"), out: Path = Path("build/book")) -> Path:
    """Make the book of the course at `root` in the folder `out`; returns its first page.

    executed: where `mtlcourse course` has left the notebooks it ran.
    Raises RuntimeError with Sphinx's words for anything it warns of, such as a link that leads nowhere.
    """
    pages = out.parent / "book-pages"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(root / "book", pages, ignore=shutil.ignore_patterns("examples"))
    lessons = [read(path) for path in find(root / "notebooks")]
    outcomes = running.last(root / "notebooks", executed)
    (pages / "ran.md").write_text(ran.page(lessons, outcomes), encoding="utf-8")
    for lesson in lessons:
        own = executed / lesson.path.name
        ran_here = lesson.path.stem in outcomes and own.exists()
        _notebook(own if ran_here else lesson.path, pages / "lessons", solution=lesson)
        solution = root / "notebooks" / "solutions" / lesson.path.name
        if solution.exists():
            _notebook(solution, pages / "solutions")
    (pages / "lessons" / "index.md").write_text(contents.page(lessons), encoding="utf-8")
    names = "\n".join(lesson.path.stem for lesson in lessons)
    (pages / "solutions" / "index.md").write_text(
        f"# Solutions\n\nTry first; each lesson has two hints for every exercise.\n\n```{{toctree}}\n:maxdepth: 1\n\n"
        f"{names}\n```\n", encoding="utf-8")
    _guides(root, pages)
    _cover(root, pages)
    reference.write(pages / "reference", root / "book" / "examples")
    (pages / "glossary.md").write_text(glossary.page(root / "notebooks"), encoding="utf-8")
    (pages / "changes.md").write_text((root / "CHANGELOG.md").read_text(encoding="utf-8"), encoding="utf-8")
    _sphinx(pages, out)
    return out / "index.html"


def anchor(heading: str) -> str:
    """The name of a place in a page, as Jupyter makes it of a heading, without signs that HTML takes for its own.

    >>> anchor('3. "Models" & more')
    '3.-Models--more'
    """
    return re.sub(r'["<>&]', "", heading.strip()).replace(" ", "-")


def _guides(root: Path, pages: Path) -> None:
    """The guides with the book's links, and those that are made of files in the project's first folder."""
    for guide in (pages / "guides").glob("*.md"):
        guide.write_text(_as_guide(guide.read_text(encoding="utf-8")), encoding="utf-8")
    adding = (root / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](book/guides/", "](")
    (pages / "guides" / "adding.md").write_text(adding, encoding="utf-8")
    cite = (root / "CITATION.cff").read_text(encoding="utf-8")
    (pages / "guides" / "citing.md").write_text(
        f"# How to cite\n\nThis course, and the papers whose methods you use; their titles stand with each method.\n\n"
        f"```yaml\n{cite}```\n", encoding="utf-8")


def _cover(root: Path, pages: Path) -> None:
    figure, alt = cover.draw(root / "notebooks" / "results")
    figure.savefig(pages / "cover.png", dpi=130, bbox_inches="tight")
    index = pages / "index.md"
    index.write_text(index.read_text(encoding="utf-8").replace("COVER", f"![{alt}](cover.png)"), encoding="utf-8")


def _as_guide(text: str) -> str:
    """A guide with links that lead to the book's pages; as it stands, they lead to the project's files.

    >>> _as_guide("[One](../../notebooks/01_a.ipynb), [all](../../notebooks/README.md), [and](../../CONTRIBUTING.md)")
    '[One](../lessons/01_a.ipynb), [all](../lessons/index.md), [and](adding.md)'
    """
    text = text.replace("](../../notebooks/README.md)", "](../lessons/index.md)")
    text = re.sub(r"\]\(\.\./\.\./notebooks/(\d\d_\w+\.ipynb)", r"](../lessons/\1", text)
    return text.replace("](../../CONTRIBUTING.md)", "](adding.md)")


def _notebook(path: Path, folder: Path, solution: Lesson | None = None) -> None:
    """Copy a notebook, with pictures as files that have their texts, and links that lead to the book's pages."""
    folder.mkdir(parents=True, exist_ok=True)
    notebook = load(path)
    number = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _formulas(_links(cell["source"]))
            continue
        shown: list[dict[str, Any]] = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PICTURE in data:
                picture = folder / "pictures" / f"{path.stem}-{(number := number + 1)}.png"
                picture.parent.mkdir(exist_ok=True)
                picture.write_bytes(base64.b64decode("".join(data[PICTURE])))
                alt = output.get("metadata", {}).get(PICTURE, {}).get("alt", "")
                output = _markdown(f"![{_plain(alt)}](pictures/{picture.name})")
            elif "text/markdown" in data:
                output = _markdown(_formulas(_links("".join(data["text/markdown"]))))
            elif "<table" in (text := "".join(data.get("text/html", ""))):
                output = output | {"data": {"text/html": _table(text)}}
            shown.append(output)
        cell["outputs"] = shown
    notebook["metadata"].pop("widgets", None)
    if solution is not None:
        notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "id": "solution-link",
                                  "source": f"[Solutions of the exercises](../solutions/{path.name})"})
    (folder / path.name).write_text(json.dumps(notebook), encoding="utf-8")


def _markdown(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": text}}


def _table(text: str) -> str:
    """A table of pandas in a box that scrolls, as the book's other tables are, without what HTML no longer has."""
    (table,) = re.findall(r"<table.*</table>", re.sub(r' (border|halign|valign)="\w+"', "", text), flags=re.DOTALL)
    return f'<div class="pst-scrollable-table-container">{table.replace("dataframe", "dataframe table")}</div>'


def _plain(text: str) -> str:
    """A text that may stand between the brackets of a picture."""
    return re.sub(r"([\[\]])", r"\\\1", " ".join(text.split()))


def _links(text: str) -> str:
    text = re.sub(r"\]\(README\.md\)", "](index.md)", text)
    text = re.sub(r"\]\(\.\./(\d\d_\w+\.ipynb)", r"](../lessons/\1", text)
    return re.sub(r"\]\(solutions/(\d\d_\w+\.ipynb)", r"](../solutions/\1", text)


def _formulas(text: str) -> str:
    """Display formulas as paragraphs of their own, with the stop behind them inside, as MyST wants them."""
    return re.sub(r"^(?P<mark>[> ]*)(?P<formula>\$\$[^$]+)\$\$(?P<stop>[.,;:]?)[ \t]*$",
                  r"\g<mark>\n\g<mark>\g<formula>\g<stop>$$\n\g<mark>", text, flags=re.MULTILINE)


def _sphinx(pages: Path, out: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", str(pages),
                           str(out)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The book could not be built:\n{done.stderr.strip()}")


def main() -> None:
    print(f"The book: {build()}")


if __name__ == "__main__":
    main()
