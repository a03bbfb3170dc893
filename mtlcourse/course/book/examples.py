"""Examples of public names that have none in their docstrings: `book/examples/PART.md`, one page a part.

A page is Markdown. Its section `Before` makes what its examples share, and each section after it has the name of one
function or class; all have code as a prompt shows it. An example stands on the `Before` alone, never on another.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

BEFORE = "Before"
FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Examples:
    """The examples of one part, as Markdown: what they share, and `{name: its section}`."""

    before: str = ""
    of: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> Examples:
    """The examples in the file at `path`; none if there is no file.

    Raises ValueError, with the place, for a section that is there twice, that has no code or code without a prompt,
    and for text that belongs to no section.
    """
    if not path.exists():
        return Examples()
    opening, *pieces = re.split(r"^## (.+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not re.fullmatch(rf"# {path.stem}\n\s*", opening):
        raise ValueError(f"{path} must begin with '# {path.stem}', then '## {BEFORE}' or the first name; given was "
                         f"{opening!r}.")
    sections: dict[str, str] = {}
    for name, text in zip(pieces[::2], pieces[1::2], strict=True):
        if name in sections:
            raise ValueError(f"{path} has two sections {name!r}; a name has one example.")
        blocks = FENCED.findall(text)
        if not blocks or not all(block.startswith(">>> ") for block in blocks) or "```" in FENCED.sub("", text):
            raise ValueError(f"{path}, section {name!r}: an example is code between ```python and ```, which begins "
                             "with >>>; this has none, or a fence too many.")
        sections[name] = text.strip()
    return Examples(sections.pop(BEFORE, ""), sections)


def code(text: str) -> str:
    """What is typed and shown in a section, as doctest reads it.

    >>> code("One more:\\n\\n```python\\n>>> 1 + 1\\n2\\n```").splitlines()[:2]
    ['>>> 1 + 1', '2']
    """
    return "\n".join(FENCED.findall(text))
