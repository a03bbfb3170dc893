"""The command line: `mtlcourse course | bench | report | params | doctor`.

The top floor. Every command imports what it needs when it runs, so that `--help` answers at once and
`doctor` also works where torch does not import.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from . import __version__

BUDGETS = ["smoke", "fast", "full", "paper"]  # as `methods.BUDGETS`, which would take seconds to import


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Mistakes in what was typed, and files that are not there, are sentences and not tracebacks."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _split(context: click.Context | None, parameter: click.Parameter | None, text: str) -> list[str]:
    """Split at commas, but not at those within brackets.

    >>> _split(None, None, "stl, hps+bmtl(T=5, b=(1, 2))")
    ['stl', 'hps+bmtl(T=5, b=(1, 2))']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _some(context: click.Context | None, parameter: click.Parameter | None, text: str) -> list[str]:
    """As `_split`; an empty list is refused, for it would do nothing and call that a success."""
    parts = _split(context, parameter, text)
    if not parts:
        raise click.BadParameter("the list is empty; name at least one.")
    return parts


def _seeds(context: click.Context | None, parameter: click.Parameter | None, text: str) -> list[int]:
    """Seeds and ranges of seeds, both ends included.

    >>> _seeds(None, None, "7, 0-3")
    [7, 0, 1, 2, 3]
    """
    seeds = []
    for part in _some(context, parameter, text):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdecimal() for end in ends) or int(ends[0]) > int(ends[-1]):
            raise click.BadParameter(f"{part!r} is no seed, a whole number from 0 upwards, nor a range such as 0-4.")
        seeds += range(int(ends[0]), int(ends[-1]) + 1)
    return seeds


def _rates(context: click.Context, parameter: click.Parameter, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in _some(context, parameter, text)]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as 1e-3,3e-3.") from None


def _margin(context: click.Context | None, parameter: click.Parameter | None, text: str) -> float | dict[str, float]:
    """One number, or one for each measure that is named; none below 0.

    >>> _margin(None, None, "0.01"), _margin(None, None, "accuracy=0.01, mse=2")
    (0.01, {'accuracy': 0.01, 'mse': 2.0})
    """
    pairs = [(name.strip(), number) for name, _, number in (part.rpartition("=") for part in _some(None, None, text))]
    try:
        margins = {name: float(number) for name, number in pairs}
    except ValueError:
        margins = {}
    mixed = len(margins) < len(pairs) or ("" in margins and len(margins) > 1)
    if mixed or not all(0 <= value < float("inf") for value in margins.values()):
        raise click.BadParameter(f"{text!r} is no number of at least 0, nor one for each measure, such as "
                                 "accuracy=0.01,mse=0.1.")
    return margins.get("", margins)


class _Naming(click.Command):
    """A command whose help ends with the names that it takes; only then are they looked up."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from . import data, methods, strategies

        for title, names in (("Problems", data.names()), ("Methods", methods.names()),
                             ("Strategies, behind a method and a plus", strategies.names())):
            with formatter.section(title):
                formatter.write_text(", ".join(names))


def _target(context: click.Context | None, parameter: click.Parameter | None, path: Path | None) -> Path | None:
    """A file to write: a mistyped folder elsewhere is an error, and not made; one in the working folder is made."""
    if path is not None and path.is_dir():
        raise click.BadParameter(f"{path} is a folder; give the name of a file.")
    if path is not None and not path.parent.is_dir() and not path.resolve().is_relative_to(Path.cwd().resolve()):
        raise click.BadParameter(f"There is no folder {path.parent}, and it is outside the working folder; make it, or "
                                 "correct the path.")
    return path


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="mtlcourse")
def main() -> None:
    """Multi-task learning that does not hurt: a course and its tools."""


@main.command()
@click.option("--only", callback=_split, default="", metavar="01,13", show_default="all", help="Notebooks to run.")
@click.option("--parameter", "assignments", multiple=True, metavar="01:seed=3",
              help="A parameter of one notebook, or without 01: of all that have it. May be given again.")
@click.option("--jobs", default=2, type=click.IntRange(1), help="Notebooks that run at the same time.")
@click.option("--fresh", is_flag=True, help="Run also what ran without error before and has not changed since.")
@click.option("--diff", is_flag=True, help="Compare the outputs with the stored ones and fail if they differ.")
@click.option("--execution-timeout", default=600, type=click.IntRange(1), metavar="SECONDS",
              help="Time that one cell may take.")
@click.option("--notebooks", default="notebooks", type=click.Path(path_type=Path), help="Where the notebooks are.")
@click.option("--out", default="build/course", type=click.Path(path_type=Path), help="Where the pages go.")
def course(only, assignments, jobs, fresh, diff, execution_timeout, notebooks, out) -> None:
    """Run all notebooks headlessly.

    Prints a verdict and a time for each and leaves pages to read.

    What ran without error is kept until the notebook, its parameters or the package change, so an
    interrupted run goes on where it stopped.
    """
    from tqdm import tqdm

    from .course import pages, running

    with _plain_errors():
        planned = running.plan(notebooks, out, only, assignments)
    width = max(len(job.name) for job in planned)
    by_name = {job.name: job for job in planned}
    outcomes = {}
    form = "{n_fmt} of {total_fmt} notebooks |{bar}| {elapsed}{postfix}"
    with tqdm(total=len(planned), bar_format=form, disable=None, leave=False) as bar:
        events = running.run(planned, at_once=jobs, fresh=fresh, timeout=execution_timeout,
                             watch=lambda names: bar.set_postfix_str("running " + ", ".join(sorted(names))))
        try:
            for outcome in events:
                job = by_name[outcome.name]
                with _plain_errors():
                    outcomes[job.name] = outcome = running.compare(job, outcome) if diff else outcome
                verdict = f"{outcome.verdict} (kept)" if outcome.kept else outcome.verdict
                bar.write(f"{outcome.name:{width}}  {verdict:13}  {outcome.seconds:4.0f} s", file=sys.stdout)
                bar.update()
                if job.executed.exists() and not outcome.kept:
                    pages.write_page(job.executed)
        except KeyboardInterrupt:
            events.close()
            click.echo("Interrupted. What had finished is kept: the same command goes on from there.", err=True)
            sys.exit(130)
    bad = [outcome for outcome in outcomes.values() if outcome.verdict != "ok"]
    for outcome in sorted(bad, key=lambda outcome: outcome.name):
        click.echo(f"\n{outcome.name} {outcome.verdict}:\n{outcome.message}")
    index = running.write_pages(notebooks, out, outcomes)
    click.echo(f"\n{len(outcomes) - len(bad)} of {len(outcomes)} notebooks ok. Pages: {index}")
    sys.exit(1 if bad else 0)


@main.command(cls=_Naming)
@click.option("--problem", "problems", callback=_some, default="multidigits",
              help="Problems: names, or package.module:function for your own.")
@click.option("--methods", callback=_some, default="stl,hps", help="Methods, such as stl,hps,dsmtl-il+pcgrad.")
@click.option("--seeds", callback=_seeds, default="0,1,2", help="Seeds, such as 0,1,2 or 0-4; one run for each.")
@click.option("--budget", default="fast", type=click.Choice(BUDGETS), help="How many epochs and samples.")
@click.option("--epochs", type=click.IntRange(1), show_default="the budget's", help="Epochs of each training.")
@click.option("--batch-size", type=click.IntRange(1), show_default="the budget's", help="Samples of one step.")
@click.option("--lr", "learning_rates", callback=_rates, help="Learning rates to try, such as 1e-3,3e-3.")
@click.option("--folder", default="runs", type=click.Path(path_type=Path), help="Where runs are kept.")
@click.option("--workers", default=1, type=click.IntRange(1), help="Runs at the same time.")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="A Dask scheduler that runs them on other machines.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def bench(problems, methods, seeds, budget, epochs, batch_size, learning_rates, folder, workers, scheduler, device,
          progress) -> None:
    """Compare methods over seeds.

    Prints each metric's mean and 95% interval over seeds; of several learning rates, those of the one that
    does best on validation. A run that is in the folder already is not run again.
    """
    from . import bench as sweeps
    from . import runs

    changes = [f"{key}={value}" for key, value in (("epochs", epochs), ("batch_size", batch_size)) if value]
    budget = f"{budget}({', '.join(changes)})" if changes else budget
    with _plain_errors():
        done = sweeps.sweep(problems, methods, seeds, budget=budget, folder=folder, workers=workers,
                            learning_rates=learning_rates, scheduler=scheduler, device=device, progress=progress)
    if len(done.table):
        click.echo(runs.show(runs.summary(runs.selected(done.table))))
    for config, reason in done.failures:
        click.echo(f"\nfailed: {config}\n{reason}", err=True)
    sys.exit(1 if done.failures else 0)


@main.command()
@click.option("--folder", default="runs", type=click.Path(path_type=Path), help="Where `bench` kept its runs.")
@click.option("--problem", "problems", callback=_split, default="", show_default="all", help="Problems to report on.")
@click.option("--methods", callback=_split, default="", show_default="all", help="Methods to compare.")
@click.option("--seeds", callback=lambda c, p, text: _seeds(c, p, text) if text else [], default="", show_default="all",
              help="Seeds that count, such as 0,1,2 or 0-4.")
@click.option("--budget", help="Runs of this budget only, such as fast or 'fast(epochs=50)'.")
@click.option("--baseline", default="stl", help="The method to measure against.")
@click.option("--per-comparison", is_flag=True,
              help="Each verdict at 5% by itself; else at 5% for the report as a whole, however many comparisons.")
@click.option("--certificates/--no-certificates", default=True,
              help="Say how many networks are certainly safe, from what their runs kept of each test sample.")
@click.option("--margin", callback=_margin, default="0", metavar="NUMBER",
              help="How much worse still counts as safe, in each measure's unit, or by measure: accuracy=0.01,mse=0.1.")
@click.option("--delta", default=0.05, type=click.FloatRange(0, 0.25, min_open=True),
              help="Share of certificates that may be wrong.")
@click.option("--over", default="samples", type=click.Choice(["samples", "groups"]),
              help="What certificates are about: new samples, or new sources where samples were made of some.")
@click.option("--html", "page", type=click.Path(path_type=Path), callback=_target,
              help="Write one page with figures, to send around.")
@click.option("--csv", type=click.Path(path_type=Path), callback=_target, help="Write all comparisons as a table.")
@click.option("--paper", is_flag=True, help="Instead: recompute the tables printed in the papers.")
def report(folder, problems, methods, seeds, budget, baseline, per_comparison, certificates, margin, delta, over, page,
           csv, paper) -> None:
    """Say which tasks got better or worse than alone.

    For each problem in the folder: better, worse or undecided for every task and metric, how many networks are
    certainly safe, and what to do.
    """
    if paper:
        from . import published

        click.echo(published.report())
        return
    import pandas as pd

    from . import figures
    from .files import write_text

    with _plain_errors():
        reports = figures.page.from_folder(folder, problems, methods, seeds, budget, baseline, per_comparison,
                                           certificates, delta, margin, over)
        click.echo("\n\n".join(made.to_markdown() for made in reports))
        if csv:
            frames = [made.to_frame().assign(problem=made.problem, budget=made.budget) for made in reports]
            write_text(csv, pd.concat(frames).to_csv(index=False))
        if page:
            figures.page.write(reports, page)
            click.echo(f"Page: {page}")


@main.command(cls=_Naming)
@click.option("--problem", "problems", callback=_some, default="multidigits", help="Problems: names, or all.")
@click.option("--methods", callback=_some, default="all", help="Methods, such as stl,hps; all takes every one.")
@click.option("--csv", type=click.Path(path_type=Path), callback=_target,
              help="Write the counts as a table, those of every module too.")
def params(problems, methods, csv) -> None:
    """Count parameters and FLOPs, without data.

    Prints for each method millions of parameters, the figures that the papers print for it, the difference and
    the reason for it, and billions of floating-point operations for a forward pass on one sample, a
    multiply-add counted as two.
    """
    import pandas as pd

    from . import counts, data
    from .files import write_text

    frames, said = [], {""}
    with _plain_errors():
        for problem in data.names() if "all" in problems else problems:
            try:
                frame, note = counts.count_or_recall(problem, methods)
            except ModuleNotFoundError as error:
                raise click.ClickException(str(error)) from error
            if note not in said:
                click.echo(note, err=True)
            said.add(note)
            click.echo(f"{counts.show(frame)}\n")
            frames.append(frame)
        if csv:
            write_text(csv, pd.concat(frames).to_csv(index=False))


@main.command()
def doctor() -> None:
    """Say whether this machine is ready."""
    from .course import doctor as examination

    findings = examination.examine()
    for finding in findings:
        click.echo(str(finding))
    missing = sum(finding.level == "missing" for finding in findings)
    click.echo(f"\n{missing} thing(s) missing." if missing else "\nReady.")
    sys.exit(1 if missing else 0)
