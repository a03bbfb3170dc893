"""The book: executed lessons, solutions, guides and the reference, put together and handed to Sphinx.

`python -m mtlcourse.course.book.build` makes `build/book` from `build/course`; a lesson that has not been run is taken
with its stored outputs. Nothing is executed here. Imports `course.lessons`, and this folder's `cover` and
`reference`.
"""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..lessons import Lesson, find, load, read
from . import cover, reference

PICTURE = "image/png"
GUIDES = {"Your own tasks": "own_tasks", "A loop of your own": "own_loop", "Strategies": "strategies",
          "Large encoders, and how large models are": "large_encoders", "The published sets": "published_sets",
          "More than one process, machine or pass": "several_machines",
          "What is proved, and what is not": "what_is_proved"}  # sections of the README
PARTS = {"Start": "0", "Methods": "1", "Worlds": "2", "Benchmarks and your own tasks": "3", "Reference": "9"}


def build(root: Path = Path("."), executed: Path = Path("build/course"), out: Path = Path("build/book")) -> Path:
    """Make the book of the course at `root` in the folder `out`; returns its first page.

    executed: where `make course` has left the notebooks it ran.
    Raises RuntimeError with Sphinx's words for anything it warns of, such as a link that leads nowhere.
    """
    pages = out.parent / "book-pages"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(root / "book", pages)
    lessons = [read(path) for path in find(root / "notebooks")]
    for lesson in lessons:
        ran = executed / lesson.path.name
        _notebook(ran if ran.exists() else lesson.path, pages / "lessons", solution=lesson)
        solution = root / "notebooks" / "solutions" / lesson.path.name
        if solution.exists():
            _notebook(solution, pages / "solutions")
    (pages / "lessons" / "index.md").write_text(contents(lessons), encoding="utf-8")
    names = "\n".join(lesson.path.stem for lesson in lessons)
    (pages / "solutions" / "index.md").write_text(
        f"# Solutions\n\nTry first; each lesson has two hints for every exercise.\n\n```{{toctree}}\n:maxdepth: 1\n\n"
        f"{names}\n```\n", encoding="utf-8")
    _guides(root, pages)
    _cover(root, pages)
    reference.write(pages / "reference")
    (pages / "changes.md").write_text((root / "CHANGELOG.md").read_text(encoding="utf-8"), encoding="utf-8")
    _sphinx(pages, out)
    return out / "index.html"


def anchor(heading: str) -> str:
    """The name of a place in a page, as Jupyter makes it of a heading.

    >>> anchor("3. Models")
    '3.-Models'
    """
    return heading.strip().replace(" ", "-")


def contents(lessons: list[Lesson]) -> str:
    """The map of the lessons: what each answers, what it builds on, how long it takes."""
    lines = ["# The lessons", ""]
    for part, first in PARTS.items():
        some = [lesson for lesson in lessons if lesson.number.startswith(first)]
        if not some:
            continue
        lines += [f"## {part}", ""]
        for lesson in some:
            needs = ", ".join(lesson.needs) or "nothing"
            lines += [f"**[{lesson.number} {lesson.title}]({lesson.path.name})**", "",
                      f"{lesson.question} *Builds on {needs}; runs in {lesson.fast_seconds:g} s.*", "",
                      *[f"- {goal}" for goal in lesson.goals], ""]
        names = [lesson.path.stem for lesson in some]
        lines += ["```{toctree}", ":hidden:", f":caption: {part}", "", *names, "```", ""]
    return "\n".join(lines) + "\n"


def _guides(root: Path, pages: Path) -> None:
    """The README's sections as pages, beside what is written for the book alone. Raises KeyError for a lost section."""
    sections = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", (root / "README.md").read_text(encoding="utf-8"),
                               flags=re.MULTILINE | re.DOTALL))
    for title, name in GUIDES.items():
        (pages / "guides" / f"{name}.md").write_text(f"# {title}\n{_from_root(sections[title])}", encoding="utf-8")
    adding = _from_root((root / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    (pages / "guides" / "adding.md").write_text(adding, encoding="utf-8")
    cite = (root / "CITATION.cff").read_text(encoding="utf-8")
    (pages / "guides" / "citing.md").write_text(
        f"# How to cite\n\nThis course, and the papers whose methods you use; their titles stand with each method.\n\n"
        f"```yaml\n{cite}```\n", encoding="utf-8")
    names = "\n".join(["reading_a_report", *GUIDES.values(), "adding", "citing"])
    (pages / "guides" / "index.md").write_text(f"# Guides\n\n```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n",
                                              encoding="utf-8")


def _cover(root: Path, pages: Path) -> None:
    figure, alt = cover.draw(root / "notebooks" / "results")
    figure.savefig(pages / "cover.png", dpi=130, bbox_inches="tight")
    index = pages / "index.md"
    index.write_text(index.read_text(encoding="utf-8").replace("COVER", f"![{alt}](cover.png)"), encoding="utf-8")


def _from_root(text: str) -> str:
    """A text of the project's first folder, with links that lead to the book's pages."""
    text = re.sub(r"\]\(notebooks/README\.md\)", "](../lessons/index.md)", text)
    text = re.sub(r"\]\(notebooks/(\d\d_\w+\.ipynb)", r"](../lessons/\1", text)
    text = re.sub(r"\]\(CONTRIBUTING\.md\)", "](adding.md)", text)
    return re.sub(r"^####? ", "## ", text, flags=re.MULTILINE)


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
            shown.append(output)
        cell["outputs"] = shown
    notebook["metadata"].pop("widgets", None)
    if solution is not None:
        notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "id": "solution-link",
                                  "source": f"[Solutions of the exercises](../solutions/{path.name})"})
    (folder / path.name).write_text(json.dumps(notebook), encoding="utf-8")


def _markdown(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": text}}


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
