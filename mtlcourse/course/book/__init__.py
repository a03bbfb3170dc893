"""The course as a book: a static site that needs no network. Made by `mtlcourse course` of what it has run, and by
`make book` of what is there. This file imports the standard library only.
"""

from importlib.util import find_spec
from pathlib import Path

BUILDERS = ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx_copybutton", "latex2mathml")  # the extra `book`


def lacking(root: Path) -> str:
    """Why the course at `root` cannot be made a book here; empty if it can."""
    if not (root / "book" / "conf.py").exists():
        return f"there is no folder {root / 'book'}, which the course has beside its notebooks"
    if missing := [name for name in BUILDERS if find_spec(name) is None]:
        return f"{', '.join(missing)} cannot be imported; install the extra: pip install 'mtlcourse[book]'"
    return ""
