"""The executed course as web pages: one for each notebook, and an index of them.

Imports the standard library, and nbconvert where it is used.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.time { text-align: right; font-variant-numeric: tabular-nums; }
.ok { color: #00695c; } .failed, .differs { color: #b3261e; font-weight: 600; } .not-run { color: #777; }
pre { margin: .3rem 0; white-space: pre-wrap; font-size: .8rem; }
"""


@dataclass(frozen=True)
class Row:
    """What the index says about one notebook; `page` tells whether there is one to link to."""

    name: str
    title: str
    verdict: str
    seconds: float | None
    message: str
    page: bool


def write_page(executed: Path) -> Path:
    """Write the executed notebook as HTML beside it and return the path; links between lessons stay links."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_filename(str(executed))
    page = executed.with_suffix(".html")
    page.write_text(re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', body), encoding="utf-8")
    return page


def write_index(rows: Sequence[Row], out: Path) -> Path:
    """Write `index.html` in `out`: every notebook with its verdict and time, linked to its page."""
    body = "\n".join(map(_row, rows))
    page = out / "index.html"
    page.write_text(
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>The course, executed</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>The course, executed</h1>\n"
        f"<table>\n<tr><th></th><th>notebook</th><th>verdict</th><th>time</th></tr>\n{body}\n</table>\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return page


def _row(row: Row) -> str:
    title = html.escape(row.title)
    link = f'<a href="{row.name}.html">{title}</a>' if row.page else title
    message = f"<pre>{html.escape(row.message)}</pre>" if row.message else ""
    seconds = "" if row.seconds is None else f"{row.seconds:.0f} s"
    return (f'<tr><td>{row.name[:2]}</td><td>{link}{message}</td>'
            f'<td class="{row.verdict.replace(" ", "-")}">{row.verdict}</td><td class="time">{seconds}</td></tr>')
