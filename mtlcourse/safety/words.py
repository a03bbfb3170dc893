"""The safety report in words and tables that people read. Imports nothing of the project."""

import math
from typing import Any

import pandas as pd

HOW_TO_READ = """\
Every number compares a method with {baseline} on the same seed. Differences and changes are signed so that
positive is better; +- is the 95% t-interval over seeds. *better* and *worse*: the interval lies on one side of
zero; of a hundred comparisons where there is no difference, chance decides about five. *undecided*: it does
not, which is no proof of safety; more seeds narrow it. Delta_I is the mean relative
change over tasks and their metrics, eta the share of metrics that are no worse, both for each seed and then
averaged. Empirically safe: losses on the whole training split are no larger than those of {baseline}, for each
task (individual) or in the mean (average); it says nothing about new data."""


def markdown(report: Any) -> str:
    """The whole report as Markdown."""
    lines = [f"# {title(report)}", ""]
    lines += [f"- {sentence}" for method in report.methods for sentence in [verdict(report, method)]]
    lines += ["", "## Overall", "", table(overall(report)), "", "## Task by task", "", table(cells(report)), ""]
    lines += ["## What to do", "", *[f"- {line}" for line in advice(report)], ""]
    lines += ["## How to read this", "", HOW_TO_READ.format(baseline=report.baseline)]
    return "\n".join([*lines, *[f"\n{note}" for note in report.notes], ""])


def title(report: Any) -> str:
    """What was compared with what."""
    where = report.problem or "own runs"
    budget = f", budget {report.budget}" if report.budget else ""
    return f"Safety report: {where}{budget}, {_count(len(report.seeds), 'seed')}, against {report.baseline}"


def verdict(report: Any, method: str) -> str:
    """One method in one sentence."""
    row, mine = report.overview.loc[method], report.frame[report.frame["method"] == method]
    sure = mine[mine["verdict"] == "worse"]
    text = f"**{method}**: Delta_I {_percent(row)}%, eta {row['eta']:.0f}%. "
    if len(sure):
        metrics = {task: ", ".join(rows["metric"]) for task, rows in sure.groupby("task", sort=False)}
        text += "Negative sharing: worse on " + "; ".join(f"{task} ({names})" for task, names in metrics.items()) + "."
    elif row["negative_sharing"]:
        text += f"Worse in the mean on {', '.join(row['negative_sharing'])}, but that may be chance."
    else:
        text += "No task is worse in the mean."
    open_ones = (mine["verdict"] == "undecided").sum()
    return text + (f" {open_ones} of {len(mine)} comparisons undecided." if open_ones else "")


def overall(report: Any) -> pd.DataFrame:
    """One row a method: Delta_I, eta, safety on the training data, size and time."""
    rows = {}
    for method, row in report.overview.iterrows():
        own = method != report.baseline
        rows[method] = {
            "Delta_I (%)": _percent(row) if own else "0",
            "eta (%)": f"{row['eta']:.0f}" if own else "-",
            "worse tasks": (", ".join(row["worse"]) or "none certain") if own else "-",
            "empirically safe: individual": _share(row["individual"], len(report.seeds)) if own else "-",
            "average": _share(row["average"], len(report.seeds)) if own else "-",
            "parameters": f"{row['parameters']:,.0f} ({row['times_parameters']:.2f} x)",
            "seconds": f"{row['seconds']:.1f} ({row['times_seconds']:.2f} x)"}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method").reset_index()


def cells(report: Any) -> pd.DataFrame:
    """One row a metric: the baseline's value, then each method's difference, interval and verdict."""
    rows = {}
    for row in report.frame.itertuples():
        own = rows.setdefault((row.task, row.metric), {report.baseline: f"{row.baseline:.4g}"})
        own[row.method] = f"{_signed(row.difference, (row.high - row.low) / 2)} {row.verdict}"
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["task", "metric"]).reset_index()


def advice(report: Any) -> list[str]:
    """For each task that is certainly worse with a method: where it is not, the cheapest first."""
    lines = []
    for method, tasks in report.remedies.items():
        for task, names in tasks.items():
            offers = "; ".join(_offer(report, name, task) for name in names)
            instead = f"not certainly worse with {offers}; or" if offers else "no method of this table avoids it:"
            lines.append(f"{task} is worse with {method}: {instead} train it alone.")
    return lines or ["Nothing: no task is certainly worse with any method. What is undecided stays so until there are "
                     "more seeds."]


def _offer(report: Any, method: str, task: str) -> str:
    """What a method that does not certainly hurt `task` costs, and how it does there."""
    row = report.overview.loc[method]
    doubt = ", though worse in the mean" if task in row["negative_sharing"] else ""
    return f"{method} ({row['times_parameters']:.2f} x parameters, {row['times_seconds']:.2f} x time{doubt})"


def table(frame: pd.DataFrame) -> str:
    """A frame of texts as a Markdown table."""
    rows = [frame.columns, ["---"] * frame.shape[1], *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def _signed(value: float, half_width: float) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:+.3g}" + ("" if math.isnan(half_width) else f" +- {half_width:.2g}")


def _percent(row: pd.Series) -> str:
    value, width = 100 * row["delta_i"], 100 * row["delta_i_half_width"]
    if math.isnan(value):
        return "undefined "
    return f"{value:+.1f}" + ("" if math.isnan(width) else f" +- {width:.1f}")


def _share(value: float, seeds: int) -> str:
    return "not known" if math.isnan(value) else f"{round(value * seeds)} of {_count(seeds, 'seed')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
