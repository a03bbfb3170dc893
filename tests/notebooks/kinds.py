"""A plugin of pytest that makes nbval compare as the course does: `-p tests.notebooks.kinds`.

nbval runs the cells, and says which failed; what a stored output means is decided in one place, for the tests and for
`mtlcourse course --diff`: `mtlcourse.course.outputs`.
"""

from typing import Any

from nbval.plugin import IPyNbCell

from mtlcourse.course import outputs


def compare(cell: IPyNbCell, said: list[dict[str, Any]], stored: list[dict[str, Any]]) -> bool:
    """True if `said` agrees with what is stored in the cell; else its `comparison_traceback` says what changed."""
    changed = outputs.change({**cell.cell, "outputs": stored}, {"outputs": said}, cell.sanitize)
    cell.comparison_traceback = changed.splitlines()
    return not changed


def pytest_configure(config: Any) -> None:
    IPyNbCell.compare_outputs = compare
