"""Safety reports on a folder of runs, and as one HTML file that can be sent to a colleague.

Imports `data`, `files`, `grammar`, `methods`, `runs`, `safety`, `figures.safety`. Nothing on the page is linked:
tables, words, figures, and the numbers as comma-separated values are all in the file. It leads with the decision, can
be printed, and says in words whatever it says by colour.
"""

import base64
import contextlib
import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import data
from ..files import write_text
from ..grammar import parse_part, parse_parts
from ..methods import canonical
from ..runs import families, load_samples, selected, table, tuning
from ..safety import SafetyReport, report, tally, words
from ..safety.certificates import Margin
from ..safety.report import VERDICTS
from .safety import heat_map, relative_performance, size_and_improvement

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222;
  background: #fff; overflow-wrap: break-word }}
h1 {{ font-size: 1.5em; line-height: 1.25 }} h2 {{ font-size: 1.2em; margin-top: 2em }}
table {{ border-collapse: collapse; font-size: 13px }} caption {{ text-align: left; color: #555; padding-bottom: 4px }}
th, td {{ border-bottom: 1px solid #ccc; padding: 3px 10px; text-align: left; white-space: nowrap }}
tbody th {{ font-weight: normal }} figure {{ margin: 1.5em 0 }} figcaption {{ color: #555 }}
.wide {{ overflow-x: auto }} img {{ max-width: 100% }} pre {{ font-size: 12px }}
.decision {{ border: 2px solid #222; padding: .2em 1em; margin: 1.5em 0 }} .decision .do {{ font-size: 1.25em }}
dt {{ font-weight: bold }} dd {{ margin: 0 0 .6em }} dd ul {{ margin: 0; padding-left: 1.2em }}
.better {{ background: #d9d3e8 }} .worse {{ background: #fbd9b0; font-weight: bold }}
@media (max-width: 600px) {{ .wide img {{ max-width: none; width: 640px }} }}
@media print {{
  body {{ font-size: 10pt; max-width: none; margin: 0; padding: 0 }} table {{ font-size: 8pt }}
  th, td {{ white-space: normal; padding: 2px 5px }} .wide {{ overflow: visible }} details {{ display: none }}
  tr, figure, .decision {{ break-inside: avoid }} h2 {{ break-after: avoid }}
  .better, .worse {{ print-color-adjust: exact; -webkit-print-color-adjust: exact }}
}}
</style></head><body><main>
{body}
</main></body></html>
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

    Raises ValueError when there is no such folder, for an unknown method, and when no runs are left.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is a file, not a folder of runs." if Path(folder).exists() else
                         f"There is no folder {folder}. `mtlcourse bench` makes one; name the one that you gave it.")
    found = table(folder)
    wanted = {"problem": {str(parse_part(problem)) for problem in problems}, "seed": set(seeds),
              "method": _spelt(methods, found),
              "budget": {str(parse_part(budget))} if budget else set()}
    for column, values in wanted.items():
        asked = found[column].isin(values) | (families(found).isin(values) if column == "method" else False)
        found = found[asked] if values else found
    if found.empty:
        raise ValueError(f"There are no such runs in {folder}. `mtlcourse bench` makes them: give it the same folder, "
                         "problems, methods and seeds.")
    return found.sort_values(["parameters", "method", "seed"], kind="stable")


def _spelt(methods: Sequence[str], found: Any) -> set[str]:
    """The methods' names in their one spelling, checked: names in the folder, or else known ones that were not run.

    The former need no file that registers them: runs are read where they were not made, too.
    """
    spelt = {"+".join(map(str, parse_parts(method))) for method in methods}
    if absent := spelt - set(found["method"]) - set(families(found)):
        for problem in found["problem"].unique():
            with contextlib.suppress(ValueError, ImportError):  # its file is not here
                data.introduce(problem)
        for method in absent:
            canonical(method)
    return spelt


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
    parts = [f"<article><h1>{html.escape(words.title(report))}</h1>", _decision(report)]
    parts += ["<h2>Each method</h2>", _list([words.verdict(report, method) for method in report.methods])]
    parts += ["<h2>Overall</h2>", _table(words.overall(report), "A row a method, the baseline first")]
    parts += ["<h2>Task by task</h2>", _table(words.cells(report), "The baseline's value; then each method's "
                                              "difference, positive is better, with its 95% interval and verdict")]
    if report.certificates is not None:
        parts += ["<h2>Certificates</h2>", _list(words.certified(report))]
        if len(report.certificates.frame):
            parts.append(_table(words.certificates(report), "A row a method, task and measure"))
        parts += [f"<p>{_text(part)}</p>" for part in words.about_certificates(report)]
    parts += ["<h2>What to do</h2>", _list(words.advice(report)), "<h2>Figures</h2>"]
    said = {heat_map: _said, relative_performance: _range, size_and_improvement: _sizes}
    parts += [_figure(draw(report), draw.__doc__, alt(report)) for draw, alt in said.items()]
    parts += ["<h2>The numbers</h2>", _numbers(report), "<h2>How to read this</h2>"]
    parts += [f"<p>{_text(part)}</p>" for part in words.how_to_read(report).split("\n\n")]
    return "\n".join([*parts, "</article>"])


def _decision(report: SafetyReport) -> str:
    made = report.decision
    rows = {"Why": _text(made.reason), "Price": _text(made.price), "Doubts": _list(made.doubts)}
    named = "".join(f"<dt>{name}</dt><dd>{row}</dd>" for name, row in rows.items())
    return f'<section class="decision"><p class="do">{_text(made.sentence)}</p><dl>{named}</dl></section>'


def _text(line: str) -> str:
    """A line with Markdown's stars and ticks as HTML."""
    line = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(line))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", re.sub(r"\*(.+?)\*", r"<i>\1</i>", line))


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


def _table(frame: Any, caption: str) -> str:
    def cell(place: int, value: Any) -> str:
        text, last = html.escape(str(value)), str(value).rsplit(" ", 1)[-1]
        mark = f' class="{last}"' if last in ("better", "worse") else ""
        return f'<th scope="row">{text}</th>' if place == 0 else f"<td{mark}>{text}</td>"

    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in frame.columns)
    rows = "".join(f"<tr>{''.join(cell(*one) for one in enumerate(row))}</tr>" for row in frame.itertuples(index=False))
    return _scrolling(f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
                      f"<tbody>{rows}</tbody></table>", caption)


def _scrolling(inside: str, label: str) -> str:
    """What may be wider than the page, in a box that scrolls, by keyboard too."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(label)}">{inside}</div>'


def _numbers(report: SafetyReport) -> str:
    """All comparisons as comma-separated values, to copy and to save."""
    text = report.to_csv()
    name = "-".join(re.findall(r"\w+", report.problem or "report")) + ".csv"
    link = f'<a download="{name}" href="data:text/csv;base64,{base64.b64encode(text.encode()).decode()}">{name}</a>'
    return (f"<details><summary>All {len(report.frame)} comparisons as comma-separated values</summary>"
            f"<p>To save as a file: {link}</p>{_scrolling(f'<pre>{html.escape(text)}</pre>', 'Comma-separated values')}"
            "</details>")


def _figure(figure: Any, caption: str, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    picture = base64.b64encode(buffer.getvalue()).decode()
    first = html.escape(caption.split("\n")[0])
    image = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{picture}">'
    return f"<figure>{_scrolling(image, 'Figure')}<figcaption>{first}</figcaption></figure>"


def _said(report: SafetyReport) -> str:
    """The heat map in words: how many verdicts of each kind a method has."""
    counts = report.frame.groupby("method", sort=False)["verdict"].value_counts()
    return "Verdicts by method. " + " ".join(
        f"{method}: {', '.join(f'{counts.get((method, verdict), 0)} {verdict}' for verdict in VERDICTS)}."
        for method in report.methods)


def _range(report: SafetyReport) -> str:
    """The relative changes in words: the lowest and the highest."""
    known = report.frame.dropna(subset="change").sort_values("change", kind="stable")
    if known.empty:
        return "No relative change is known."
    ends = [f"{100 * row.change:+.1f} % ({row.metric} of {row.task}, {row.method})"
            for row in (known.iloc[0], known.iloc[-1])]
    return f"Relative changes with intervals, from {ends[0]} to {ends[1]}; all are in the table task by task."


def _sizes(report: SafetyReport) -> str:
    """Sizes and Delta_I in words, a method after the other."""
    return "Parameters and Delta_I. " + "; ".join(
        f"{method}: {row['parameters']:,.0f}, {words.percent(row, ' %') if method != report.baseline else '0'}"
        for method, row in report.overview.iterrows()) + "."
