"""The safety report in words and tables that people read. Imports `files`, `evidence`."""

import math
from typing import Any

import pandas as pd

from ..files import printed
from .evidence import MANY

UNEQUAL = 1.1  # times the baseline's update steps or samples, above which a comparison is said to be unequal

DECISION = """\
The decision follows from the verdicts. A method is *out* if it is worse or not a number anywhere, or certified unsafe
in the mean. It is *safe* if each of its comparisons is better, or certified in the mean to be no worse than the margin
allows, and if it had at most {unequal:g} times the update steps and samples of {baseline}. Of the safe ones the
cheapest is taken: fewest parameters, then fewest steps, then least time; they are not compared with one another. If
none is safe, {baseline} remains: for good if all others are out, for now if some are undecided."""

HOW_TO_READ = """\
Every number compares a method with {baseline} on the same seed. Differences and changes are signed so that
positive is better; +- is the 95% t-interval over seeds of that one comparison. {rule} *undecided*: neither,
which is no proof of safety; more seeds narrow the intervals.

Interval and verdict cover what a seed changes: initial weights, the order of batches, and whatever else is
drawn. They do not cover the test sample, which all seeds share. Where two methods err on different samples,
chance decides a comparison without a true difference in about 11 to 13 cases of 100 instead of 5, at five
seeds, and more often with more seeds, which narrow only their own part.

Delta_I is the mean relative change over tasks and their metrics, eta the share of metrics that are no worse,
both for each seed and then averaged. Empirically safe: losses on the whole training split are no larger than
those of {baseline}, for each task (individual) or in the mean (average); it says nothing about new data."""

FAMILY = """\
*better* and *worse*: a paired t-test decides, at 5% for this report as a whole and its {comparisons}
({methods}, Holm's procedure within each); so an interval may lie on one side of zero and its comparison still
be undecided."""
SINGLE = """\
*better* and *worse*: the interval lies on one side of zero, each comparison by itself. Of a hundred
comparisons where there is no difference chance decides about five; here are {comparisons} ({methods})."""


CERTIFIED = """\
{number} of trained networks, each {baseline}'s and a method's of the same seed, on the samples of the test split. A
network is *safe* if no task is worse than allowed, *unsafe* if some task certainly is. Each of these verdicts is wrong
with a probability of at most {delta}, so of {number} about {wrong} may be. They tell of these networks and of new
samples; another seed makes another network, and that many are safe is no promise for the next. *Mean* asks about
the method instead: the mean over new seeds and new samples, approximately. A method that is safe there may still
make a network that is not. *At least*: the lowest bound of all seeds."""


def how_to_read(report: Any) -> str:
    """What the numbers and verdicts mean, and what they do not cover."""
    rule = (SINGLE if report.per_comparison else FAMILY).format(comparisons=count(len(report.frame), "comparison"),
                                                               methods=count(len(report.methods), "method"))
    return "\n\n".join((DECISION.format(unequal=UNEQUAL, baseline=report.baseline),
                        HOW_TO_READ.format(baseline=report.baseline, rule=rule)))


def markdown(report: Any) -> str:
    """The whole report as Markdown: the decision first, then the evidence."""
    made = report.decision
    lines = [f"# {title(report)}", "", made.sentence, "", f"Why: {made.reason}", "", f"Price: {made.price}", "",
             "Doubts:", "", *[f"- {doubt}" for doubt in made.doubts], "", "## Each method", ""]
    lines += [f"- {verdict(report, method)}" for method in report.methods]
    lines += ["", "## Overall", "", table(overall(report)), "", "## Task by task", "", table(cells(report)), ""]
    if report.certificates is not None:
        lines += ["## Certificates", "", *[f"- {line}" for line in certified(report)]]
        if len(report.certificates.frame):
            lines += ["", table(certificates(report))]
        lines += ["", *[f"{part}\n" for part in about_certificates(report)]]
    lines += ["## What to do", "", *[f"- {line}" for line in advice(report)], ""]
    return "\n".join([*lines, "## How to read this", "", how_to_read(report), ""])


def title(report: Any) -> str:
    """What was compared with what."""
    where = report.problem or "own runs"
    budget = f", budget {report.budget}" if report.budget else ""
    return f"Safety report: {where}{budget}, {count(len(report.seeds), 'seed')}, against {report.baseline}"


def baseline(report: Any) -> str:
    """What it means to stay with the baseline, as an order."""
    name = report.baseline
    return f"Train each task alone ({name})" if single(name) else f"Stay with {name}"


def single(method: str) -> bool:
    """Whether a method is single-task learning, of whatever size and length."""
    return method.partition("(")[0] in ("stl", "stl-wide")


def verdict(report: Any, method: str) -> str:
    """One method in one sentence or two."""
    row, mine = report.overview.loc[method], report.frame[report.frame["method"] == method]
    broken, sure = mine[mine["broken"]], mine[(mine["verdict"] == "worse") & ~mine["broken"]]
    doubtful = [task for task in row["negative_sharing"] if task not in row["broken"]]
    text = f"**{method}**: Delta_I {percent(row, '%')}, eta {_number(row['eta'], '.0f', '%')}."
    if len(broken):
        text += f" Not safe: not a number on {_named(broken)}."
    if len(sure):
        text += f" Negative sharing: worse on {_named(sure)}."
    elif doubtful:
        text += f" Worse in the mean on {', '.join(doubtful)}, but that may be chance."
    elif not len(broken):
        text += " No task is worse in the mean."
    held = int(mine["withheld"].sum())
    open_ones = int((mine["verdict"] == "undecided").sum()) - held
    if held:
        text += f" {held} of {count(len(mine), 'verdict')} withheld: {report.baseline} still learns."
    if open_ones:
        text += f" {open_ones} of {count(len(mine), 'comparison')} undecided."
    return text if held or open_ones else f"{text} {count(len(mine), 'comparison')}, none undecided."


def overall(report: Any) -> pd.DataFrame:
    """One row a method: Delta_I, eta, safety on the training data, size, training and time."""
    rows = {}
    for method, row in report.overview.iterrows():
        own = method != report.baseline
        rows[method] = {
            "Delta_I (%)": percent(row) if own else "0",
            "eta (%)": _number(row["eta"], ".0f") if own else "-",
            "worse tasks": (", ".join(row["worse"]) or "none certain") if own else "-",
            "empirically safe: individual": _share(row["individual"], len(report.seeds)) if own else "-",
            "average": _share(row["average"], len(report.seeds)) if own else "-",
            **{cost: _times(row, cost, style) for cost, style in
               (("parameters", ",.0f"), ("steps", ",.0f"), ("samples", ",.0f"), ("epochs", ".4g"), ("seconds", ".1f"))}}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method").reset_index()


def fairness(overview: pd.DataFrame, unknown_learning: bool) -> list[str]:
    """Notes on unequal training, and on what is not known of it.

    overview: as the report has it, the baseline first.  unknown_learning: nobody knows whether the baseline still
    learned.
    """
    baseline, notes = overview.index[0], []
    longer = [f"{method} had {more}" for method, more in unequal(overview).items()]
    if longer:
        notes.append(f"Warning, unequal training: against {baseline}, {'; '.join(longer)}. What looks like the "
                     "method's gain may be that of longer training: compare with a baseline that trains as long, such "
                     "as stl(epochs=2).")
    unknown = overview.index[overview["steps"].isna()]
    if len(unknown):
        notes.append(f"How many update steps {', '.join(unknown)} took is not known, so unequal training would not be "
                     "seen.")
    if unknown_learning:
        notes.append(f"Whether {baseline} had learned enough is not known for all tasks, so no verdict is withheld "
                     "there; its validation losses over two epochs or more would tell.")
    return notes


def unequal(overview: pd.DataFrame) -> dict[str, str]:
    """Of each method with more update steps or samples than `UNEQUAL` allows, how many more: `{method: "2.00 x ..."}`.

    overview: as the report has it, the baseline first.
    """
    baseline, found = overview.index[0], {}
    for method, row in overview.iloc[1:].iterrows():
        more = [f"{row[f'times_{what}']:.2f} x the {name} ({row[what]:,.0f} against {overview.at[baseline, what]:,.0f})"
                for what, name in (("steps", "update steps"), ("samples", "samples"))
                if row[f"times_{what}"] > UNEQUAL]
        if more:
            found[method] = " and ".join(more)
    return found


def cells(report: Any) -> pd.DataFrame:
    """One row a metric: the baseline's value, then each method's difference, interval and verdict."""
    rows = {}
    for row in report.frame.itertuples():
        own = rows.setdefault((row.task, row.metric), {report.baseline: _number(row.baseline, ".4g")})
        own[row.method] = (f"{_signed(row.difference, (row.high - row.low) / 2)} "
                           f"{'withheld' if row.withheld else row.verdict}")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["task", "metric"]).reset_index()


def certified(report: Any) -> list[str]:
    """How many of each method's networks are certainly safe, in a sentence."""
    lines = []
    for method, row in report.certificates.networks.iterrows():
        text = (f"**{method}**: of {count(row['seeds'], 'network')} {row['safe']} certainly safe, {row['unsafe']} "
                f"unsafe, {row['undecided']} undecided. The mean over new seeds and samples: {row['verdict']}")
        own = report.certificates.frame
        sure = own[(own["method"] == method) & (own["mean_verdict"] == "unsafe")]
        lines.append(f"{text} on {_named(sure)}." if len(sure) else f"{text}.")
    return lines


def certificates(report: Any) -> pd.DataFrame:
    """One row a method, task and measure: how many networks are safe there, by how much, and the method in the mean."""
    return pd.DataFrame([{
        "method": row.method, "task": row.task, "metric": row.metric,
        "safe / unsafe / undecided": f"{row.safe} / {row.unsafe} / {row.undecided}",
        "difference": _number(row.difference, "+.3g"), "at least": _bound(row.low),
        "bound": row.bound if row.exact else f"{row.bound} (not exact)",
        "mean": f"[{_bound(row.mean_low)}, {_bound(row.mean_high)}] {row.mean_verdict}"}
        for row in report.certificates.frame.itertuples()])


def about_certificates(report: Any) -> list[str]:
    """What the certificates mean, and for whom there is none, in paragraphs."""
    found = report.certificates
    if found.scope is None:
        return found.notes
    number = int(found.networks["seeds"].sum())
    meaning = CERTIFIED.format(number=count(number, "pair"), baseline=report.baseline, delta=f"{found.delta:g}",
                               wrong=f"{number * found.delta:.2g}")
    return [*found.notes, meaning, f"The first of them in full: {found.scope}"]


def advice(report: Any) -> list[str]:
    """What to do: about what is broken or worse, about training that was too short, about too little evidence."""
    lines = []
    for method, rows in report.frame[report.frame["broken"]].groupby("method", sort=False):
        lines.append(f"{method} is not a number on {_named(rows)}: look at its training before its other numbers.")
    for method, tasks in report.remedies.items():
        for task, names in tasks.items():
            offers = "; ".join(_offer(report, name, task) for name in names)
            instead = f"not certainly worse with {offers}; or" if offers else "no method of this table avoids it:"
            lines.append(f"{task} is worse with {method}: {instead} train it alone.")
    if report.withheld:
        lines.append(f"Train longer: {report.baseline} still learns {', '.join(report.withheld)}, and more seeds do "
                     "not tell what longer training would.")
    open_ones = report.frame[(report.frame["verdict"] == "undecided") & ~report.frame["withheld"]]
    return [*lines, _evidence(report, open_ones)] if len(open_ones) else lines or [
        "Nothing: every comparison is decided, and no task is worse with any method."]


def _evidence(report: Any, undecided: pd.DataFrame) -> str:
    """How much evidence is missing."""
    every, n = count(len(report.frame), "comparison"), len(report.seeds)
    lack = (f"The evidence is too little: none of {every} is decided by {count(n, 'seed')}"
            if len(undecided) == len(report.frame) else f"{len(undecided)} of {every} undecided, no proof of safety")
    needed = undecided["seeds_needed"].dropna().sort_values(kind="stable").clip(lower=least(report))
    if needed.empty:
        return (f"{lack}. These seeds tell nothing of the spread, and so not how many would decide: run at least "
                f"{least(report)}.")
    clearest, half = needed.iloc[0], needed.iloc[(len(needed) - 1) // 2]
    if clearest > MANY:
        return (f"{lack}. Differences are so small against their spread that even the clearest would take more than "
                f"{MANY} seeds: ask whether so small a difference matters.")
    row = undecided.loc[needed.index[0]]
    text = (f"{lack}. If means and spreads stay as they are, about {clearest:.0f} seeds would decide the clearest of "
            f"them ({row['metric']} of {row['task']}, {row['method']})")
    if len(needed) > 1 and half > clearest:
        text += f", {f'about {half:.0f}' if half <= MANY else f'more than {MANY}'} half of them"
    return text + "."


def least(report: Any) -> int:
    """The fewest seeds worth running: more than there were, and five, as fewer hardly know their spread."""
    return max(len(report.seeds) + 1, 5)


def _offer(report: Any, method: str, task: str) -> str:
    """What a method that does not certainly hurt `task` costs, and how it does there."""
    row = report.overview.loc[method]
    doubt = ", though worse in the mean" if task in row["negative_sharing"] else ""
    return f"{method} ({row['times_parameters']:.2f} x parameters, {row['times_seconds']:.2f} x time{doubt})"


def table(frame: pd.DataFrame) -> str:
    """A frame of texts as a Markdown table."""
    rows = [frame.columns, ["---"] * frame.shape[1], *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def _named(rows: pd.DataFrame) -> str:
    """The metrics of some rows of a frame by task: "left (accuracy); depth (error, within)"."""
    return "; ".join(f"{task} ({', '.join(own['metric'])})" for task, own in rows.groupby("task", sort=False))


def _number(value: float, style: str, unit: str = "") -> str:
    return "undefined" if math.isnan(value) else printed(f"{{:{style}}}", value) + unit


def _bound(value: float) -> str:
    return printed("{:+.3g}", value) if math.isfinite(value) else "unknown"


def _times(row: pd.Series, cost: str, style: str) -> str:
    """A cost, and how many times the baseline's it is."""
    value, times = row[cost], row[f"times_{cost}"]
    return "not known" if math.isnan(value) else f"{value:{style}}" + ("" if math.isnan(times) else f" ({times:.2f} x)")


def _signed(value: float, half_width: float) -> str:
    if math.isnan(value):
        return "undefined"
    return printed("{:+.3g}", value) + ("" if math.isnan(half_width) else f" +- {half_width:.2g}")


def percent(row: pd.Series, unit: str = "") -> str:
    value, width = 100 * row["delta_i"], 100 * row["delta_i_half_width"]
    return _number(value, "+.1f", ("" if math.isnan(width) else f" +- {width:.1f}") + unit)


def _share(value: float, seeds: int) -> str:
    return "not known" if math.isnan(value) else f"{round(value * seeds)} of {count(seeds, 'seed')}"


def count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
