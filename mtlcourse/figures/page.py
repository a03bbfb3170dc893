"""Safety reports on a folder of runs, and as one HTML file that can be sent to a colleague.

Imports `data`, `files`, `methods`, `runs`, `safety`, `figures.safety`. Nothing on the page is linked: tables, words and
figures are all in the file.
"""

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import data
from ..files import write_text
from ..methods import canonical, parse_part
from ..runs import families, load_samples, selected, table, tuning
from ..safety import SafetyReport, report, tally, words
from ..safety.certificates import Margin
from .safety import heat_map, relative_performance, size_and_improvement

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222 }}
table {{ border-collapse: collapse; font-size: 13px }}
th, td {{ border-bottom: 1px solid #ccc; padding: 3px 10px; text-align: left; white-space: nowrap }}
.wide {{ overflow-x: auto }} img {{ max-width: 100% }}
.better {{ background: #d9d3e8 }} .worse {{ background: #fbd9b0 }}
</style></head><body>
{body}
</body></html>
"""


def from_folder(folder: str | Path, problems: Sequence[str] = (), methods: Sequence[str] = (),
                seeds: Sequence[int] = (), budget: str | None = None, baseline: str = "stl",
                per_comparison: bool = False, certificates: bool = True, delta: float = 0.05, margin: Margin = 0.0,
                over: str = "samples") -> list[SafetyReport]:
    """A report for each problem and budget in a folder of runs; what is given restricts which runs count.

    Of a grid of learning rates, and of tuned weights, each method's best on validation is taken, and a note says which.
    per_comparison: as for `safety.report`.
    certificates: certify every network from what its run kept of each sample, with `delta`, `margin` and `over` as
        for `safety.certify`. Neither models nor data are read.
    Raises ValueError when there is no such folder, when no runs are left, for a margin of a measure that no problem
    has, and as `safety.report` does.
    """
    found = runs_in(folder, problems, [*methods, baseline] if methods else [], seeds, budget)
    measures = set(found["metric"]) - {"loss"}
    if isinstance(margin, Mapping) and (others := sorted(set(margin) - measures)):
        raise ValueError(f"A margin is given for {', '.join(others)}; measures here are {', '.join(sorted(measures))}.")
    reports = []
    for (problem, _), rows in found.groupby(["problem", "budget"]):
        best = selected(rows)
        made = report(best, baseline, per_comparison=per_comparison)
        if rows["lr"].nunique(dropna=False) > 1:
            chosen = best.drop_duplicates("method").set_index("method")["lr"]
            made.notes.append("Learning rates, chosen on validation: "
                              + ", ".join(f"{method} {'as the problem has it' if lr != lr else f'{lr:g}'}"
                                          for method, lr in chosen.items()) + ".")
        made.notes += tuning(best, rows)
        if certificates:
            _certify(made, str(problem), best, folder, delta=delta, margin=margin, over=over)
        reports.append(made)
    return reports


def runs_in(folder: str | Path, problems: Sequence[str] = (), methods: Sequence[str] = (), seeds: Sequence[int] = (),
            budget: str | None = None) -> Any:
    """The table of all runs in a folder, the smallest models first; what is given restricts which count.

    Raises ValueError when there is no such folder, and when no runs are left.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is a file, not a folder of runs." if Path(folder).exists() else
                         f"There is no folder {folder}. `mtlcourse bench` makes one; name the one that you gave it.")
    found = table(folder)
    wanted = {"problem": {str(parse_part(problem)) for problem in problems}, "seed": set(seeds),
              "method": {canonical(method) for method in methods},
              "budget": {str(parse_part(budget))} if budget else set()}
    for column, values in wanted.items():
        asked = found[column].isin(values) | (families(found).isin(values) if column == "method" else False)
        found = found[asked] if values else found
    if found.empty:
        raise ValueError(f"There are no such runs in {folder}. `mtlcourse bench` makes them: give it the same folder, "
                         "problems, methods and seeds.")
    return found.sort_values(["parameters", "method", "seed"], kind="stable")


def _certify(made: SafetyReport, problem: str, rows: Any, folder: str | Path, **options: Any) -> None:
    """Add the certificates of all networks, or a note that says why there are none."""
    part = parse_part(problem)
    try:
        description = data.describe(part.name, **part.options)
    except (ValueError, OSError, ImportError) as error:
        made.notes.append(f"No certificates: what the measures of {problem} mean is not known ({error}).")
        return
    if isinstance(description, data.DomainProblem):
        description = description.sealed()  # it is there that measures are taken
    kept = {method: {seed: load_samples(Path(folder) / name)
                     for seed, name in zip(own["seed"], own["configuration"], strict=True)}
            for method, own in rows.drop_duplicates(["method", "seed"]).groupby("method", sort=False)}
    made.certificates = tally(kept, made.baseline, description, **options)


def page(reports: Sequence[SafetyReport]) -> str:
    """The whole page: a chapter for each report."""
    chapters = [_chapter(report) for report in reports]
    title = words.title(reports[0]) if len(reports) == 1 else "Safety reports"
    return PAGE.format(title=html.escape(title), body="\n".join(chapters))


def write(reports: Sequence[SafetyReport], path: str | Path) -> None:
    """Write `page(reports)` to `path`."""
    write_text(path, page(reports))


def _chapter(report: SafetyReport) -> str:
    parts = [f"<h1>{html.escape(words.title(report))}</h1>"]
    parts.append(_list([words.verdict(report, method) for method in report.methods]))
    parts += [f"<p>{html.escape(note)}</p>" for note in report.notes]
    parts += ["<h2>Overall</h2>", _table(words.overall(report)), "<h2>Task by task</h2>", _table(words.cells(report))]
    if report.certificates is not None:
        parts += ["<h2>Certificates</h2>", _list(words.certified(report))]
        if len(report.certificates.frame):
            parts.append(_table(words.certificates(report)))
        parts += [f"<p>{_text(part)}</p>" for part in words.about_certificates(report)]
    parts += ["<h2>What to do</h2>", _list(words.advice(report)), "<h2>Figures</h2>"]
    parts += [_figure(draw(report), draw.__doc__) for draw in (heat_map, relative_performance, size_and_improvement)]
    parts += ["<h2>How to read this</h2>"]
    parts += [f"<p>{_text(part)}</p>" for part in words.how_to_read(report).split("\n\n")]
    return "\n".join(parts)


def _text(line: str) -> str:
    """A line with Markdown's stars as HTML."""
    line = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(line))
    return re.sub(r"\*(.+?)\*", r"<i>\1</i>", line)


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


def _table(frame: Any) -> str:
    def cell(value: Any) -> str:
        last = str(value).rsplit(" ", 1)[-1]
        mark = f' class="{last}"' if last in ("better", "worse") else ""
        return f"<td{mark}>{html.escape(str(value))}</td>"

    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in frame.columns)
    rows = ["".join(map(cell, row)) for row in frame.itertuples(index=False)]
    return f'<div class="wide"><table><tr>{head}</tr>' + "".join(f"<tr>{row}</tr>" for row in rows) + "</table></div>"


def _figure(figure: Any, caption: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    picture = base64.b64encode(buffer.getvalue()).decode()
    first = html.escape(caption.split("\n")[0])
    return (f'<figure><img alt="{first}" src="data:image/png;base64,{picture}">'
            f"<figcaption>{first}</figcaption></figure>")
