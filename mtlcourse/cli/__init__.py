"""The command line: `mtlcourse course | progress | bench | pareto | report | params | train | export | data | doctor`.

The top floor. Every command imports what it needs when it runs, so that `--help` answers at once and
`doctor` also works where torch does not import.
"""

import sys
from pathlib import Path

import click

from .. import __version__
from . import checking, options

BUDGETS = ["smoke", "fast", "full", "paper"]  # as `methods.BUDGETS`, which would take seconds to import


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="mtlcourse")
def main() -> None:
    """Multi-task learning that does not hurt: a course and its tools."""


main.add_command(checking.data)


@main.command()
@click.option("--only", callback=options.split, default="", metavar="01,13", show_default="all",
              help="Notebooks to run.")
@click.option("--parameter", "assignments", multiple=True, metavar="01:seed=3",
              help="A parameter of one notebook, or without 01: of all that have it. May be given again.")
@click.option("--jobs", default=2, type=click.IntRange(1), help="Notebooks that run at the same time.")
@click.option("--fresh", is_flag=True, help="Run also what ran without error before and has not changed since.")
@click.option("--diff", is_flag=True, help="Compare the outputs with the stored ones and fail if they differ.")
@click.option("--execution-timeout", default=600, type=click.IntRange(1), metavar="SECONDS",
              help="Time that one cell may take.")
@click.option("--limit", type=click.IntRange(1), metavar="SECONDS", show_default="none; 900 with --grade",
              help="Time that one notebook may take in all.")
@click.option("--notebooks", default="notebooks", type=click.Path(path_type=Path), help="Where the notebooks are.")
@click.option("--out", type=click.Path(path_type=Path), show_default="build/course; build/grades with --grade",
              help="Where executed notebooks go. The book made of them goes beside this folder.")
@click.option("--book/--no-book", default=True, help="Make the book of what ran; its first page is book/index.html.")
@click.option("--student", type=click.Path(path_type=Path), metavar="DIR",
              help="Instead: write the lessons for a class into this new folder, without outputs and solutions.")
@click.option("--grade", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
              help="Instead: run and judge what a class handed in, a folder for each student; writes grades.csv too.")
def course(only, assignments, jobs, fresh, diff, execution_timeout, limit, notebooks, out, book, student,
           grade) -> None:
    """Run all notebooks headlessly.

    Prints a verdict and a time for each, and makes the book, which is what people read.

    What ran without error is kept until the notebook, its parameters or the package change, so an
    interrupted run goes on where it stopped.
    """
    if (student or grade) and (fresh or diff or (student and (grade or assignments or limit or out))):
        raise click.UsageError("With --student go --only and --notebooks; with --grade all but --fresh and --diff; "
                               "and one of both.")
    if student:
        _hand_out(notebooks, student, only)
    elif grade:
        _grade(grade, notebooks, out or Path("build/grades"), only, assignments, jobs, execution_timeout, limit or 900)
    else:
        out = out or Path("build/course")
        ok = _run(notebooks, out, only, assignments, jobs, fresh, diff, execution_timeout, limit)
        if book:
            _make_book(notebooks.absolute().parent, out)
        sys.exit(0 if ok else 1)


def _hand_out(notebooks: Path, student: Path, only: list[str]) -> None:
    from ..course import handout

    with options.plain_errors():
        written = handout.write(notebooks, student, only)
    click.echo(f"{len(written)} lessons for a class: {student}. To judge them: mtlcourse course --grade DIR, with a "
               "folder for each student in DIR.")


def _grade(folder: Path, notebooks: Path, out: Path, only: list[str], assignments: tuple[str, ...], jobs: int,
           timeout: int, limit: int) -> None:
    from tqdm import tqdm

    from ..course import grading

    verdicts = []
    with options.plain_errors(), tqdm(bar_format="{n_fmt} notebooks judged, {elapsed}{postfix}", disable=None,
                               leave=False) as bar:
        for some in grading.grade(folder, notebooks, out, only, assignments, at_once=jobs, timeout=timeout, limit=limit,
                                  watch=lambda names: bar.set_postfix_str("running " + ", ".join(sorted(names)))):
            verdicts += some
            bar.update()
        verdicts = grading.of_this_class(verdicts)
        grading.write_csv(verdicts, out / "grades.csv")
    click.echo(f"{grading.table(verdicts)}\n\nEach exercise: {out / 'grades.csv'}. What ran: {out}/STUDENT/NOTEBOOK.")


def _run(notebooks: Path, out: Path, only: list[str], assignments: tuple[str, ...], jobs: int, fresh: bool, diff: bool,
         timeout: int, limit: int | None) -> bool:
    """Run the notebooks, print how they went, and return whether all are ok."""
    from tqdm import tqdm

    from ..course import running

    with options.plain_errors():
        planned = running.plan(notebooks, out, only, assignments)
    width = max(len(job.name) for job in planned)
    by_name = {job.name: job for job in planned}
    outcomes = {}
    form = "{n_fmt} of {total_fmt} notebooks |{bar}| {elapsed}{postfix}"
    with tqdm(total=len(planned), bar_format=form, disable=None, leave=False) as bar:
        events = running.run(planned, at_once=jobs, fresh=fresh, timeout=timeout, limit=limit,
                             watch=lambda names: bar.set_postfix_str("running " + ", ".join(sorted(names))))
        try:
            for outcome in events:
                job = by_name[outcome.name]
                with options.plain_errors():
                    outcomes[job.name] = outcome = running.compare(job, outcome) if diff else outcome
                verdict = f"{outcome.verdict} (kept)" if outcome.kept else outcome.verdict
                bar.write(f"{outcome.name:{width}}  {verdict:13}  {outcome.seconds:4.0f} s", file=sys.stdout)
                bar.update()
        except KeyboardInterrupt:
            events.close()
            click.echo("Interrupted. What had finished is kept: the same command goes on from there.", err=True)
            sys.exit(130)
    bad = [outcome for outcome in outcomes.values() if outcome.verdict != "ok"]
    for outcome in sorted(bad, key=lambda outcome: outcome.name):
        click.echo(f"\n{outcome.name} {outcome.verdict}:\n{outcome.message}")
    click.echo(f"\n{len(outcomes) - len(bad)} of {len(outcomes)} notebooks ok. Executed notebooks: {out}")
    return not bad


def _make_book(root: Path, executed: Path) -> None:
    """Make the book of the course at `root`, or say why there is none."""
    from ..course import book

    if reason := book.lacking(root):
        click.echo(f"No book was made: {reason}.")
        return
    from ..course.book.build import build

    click.echo("Making the book, which takes a minute or two.")
    click.echo(f"The book: {build(root, executed, executed.with_name('book'))}")


@main.command()
def progress() -> None:
    """Show which exercises you have solved.

    Counted is what you checked in JupyterLab yourself; what programs run is not.
    """
    from ..course import progress as notes

    with options.plain_errors():
        click.echo(notes.summary(notes.load()))
    click.echo(f"Kept in {notes.path()}; to begin anew, delete that file.")


@main.command(cls=options.Naming)
@click.option("--problem", "problems", callback=options.some, default="multidigits",
              help="Problems: names, or package.module:function for your own.")
@click.option("--methods", callback=options.some, default="stl,hps", help="Methods, such as stl,hps,dsmtl-il+pcgrad.")
@click.option("--seeds", callback=options.seeds, default="0,1,2", help="Seeds, such as 0,1,2 or 0-4; one run for each.")
@click.option("--budget", default="fast", type=click.Choice(BUDGETS), help="How many epochs and samples.")
@options.of_budget
@click.option("--lr", "learning_rates", callback=options.rates, help="Learning rates to try, such as 1e-3,3e-3.")
@click.option("--tune", type=click.Choice(["weights"]),
              help="Try hps+fixed, and what else ends in +fixed, with a small grid of task weights.")
@click.option("--folder", default="runs", type=click.Path(path_type=Path), help="Where runs are kept.")
@click.option("--workers", default=1, type=click.IntRange(1), help="Runs at the same time.")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="A Dask scheduler that runs them on other machines.")
@click.option("--shard", default="1/1", callback=options.shard, metavar="K/N",
              help="Only the K-th of N parts of the runs, for N jobs that know nothing of each other.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def bench(problems, methods, seeds, budget, learning_rates, tune, folder, workers, scheduler, shard, device, progress,
          **changes) -> None:
    """Compare methods over seeds.

    Prints each metric's mean and 95% interval over seeds; of several learning rates, and of tuned weights, those
    that do best on validation. A run that is in the folder already is not run again.
    """
    from .. import bench as sweeps
    from .. import runs

    with options.plain_errors():
        budget = options.changed(budget, changes)
        done = sweeps.sweep(problems, methods, seeds, budget=budget, folder=folder, workers=workers,
                            learning_rates=learning_rates, scheduler=scheduler, device=device, progress=progress,
                            tune=tune, shard=shard)
    if len(done.table):
        best = runs.selected(done.table)
        click.echo(runs.show(runs.summary(best)))
        for note in runs.tuning(best, done.table):
            click.echo(f"\n{note}")
    for config, reason in done.failures:
        click.echo(f"\nfailed: {config}\n{reason}", err=True)
    sys.exit(1 if done.failures else 0)


@main.command()
@click.option("--problem", default="robust_digits", help="A problem whose probes measure parameters.")
@click.option("--method", default="e2rnas", help="A search that takes L and F, such as 'e2rnas(order=first)'.")
@click.option("--L", "least", callback=options.numbers, required=True, metavar="3000,6000",
              help="Wanted parameters; one search for each.")
@click.option("--F", "flops", callback=options.numbers, default="", metavar="2e5,4e5",
              show_default="those that go with L", help="Wanted multiply-adds, one for each L.")
@click.option("--with", "others", callback=options.split, default="", help="Methods to draw besides, such as darts.")
@click.option("--seeds", callback=options.seeds, default="0,1,2", help="Seeds, such as 0,1,2 or 0-4; one run for each.")
@click.option("--budget", default="fast", type=click.Choice(BUDGETS), help="How many epochs and samples.")
@click.option("--folder", default="runs", type=click.Path(path_type=Path), help="Where runs are kept.")
@click.option("--workers", default=1, type=click.IntRange(1), help="Runs at the same time.")
@click.option("--figure", default="pareto.png", type=click.Path(path_type=Path), callback=options.target,
              help="The figure to write.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def pareto(problem, method, least, flops, others, seeds, budget, folder, workers, figure, progress) -> None:
    """Search for networks of several sizes, and draw what each is good for.

    Prints the mean of every measure and a mark at those that none beats in all of them: as good in each, and better
    in one. A run that is in the folder already is not run again.
    """
    from .. import bench as sweeps
    from .. import data, figures

    with options.plain_errors():
        if flops and len(flops) != len(least):
            raise click.UsageError(f"There are {len(least)} values of --L and {len(flops)} of --F; give one for each.")
        data.introduce(problem)
        names = [*sweeps.sized(method, list(zip(least, flops or [None] * len(least), strict=True))), *others]
        done = sweeps.sweep([problem], names, seeds, budget=budget, folder=folder, workers=workers, progress=progress)
        if len(done.table):
            table, ways = sweeps.by_run(done.table)
            if "parameters" not in ways:
                raise ValueError(f"The probes of {problem!r} do not measure parameters; 'robust_digits' has such.")
            means = table.groupby("method", sort=False)[list(ways)].mean()
            marks = ["*" if best else "" for best in figures.cells.front(means, ways)]
            click.echo(means.assign(unbeaten=marks).to_string(float_format=lambda value: f"{value:.4g}"))
            measures = {name: up for name, up in ways.items() if name not in ("parameters", "multiply_adds")}
            figure.parent.mkdir(parents=True, exist_ok=True)
            figures.cells.pareto(table, measures).savefig(figure, bbox_inches="tight")
            click.echo(f"Figure: {figure}")
    for config, reason in done.failures:
        click.echo(f"\nfailed: {config}\n{reason}", err=True)
    sys.exit(1 if done.failures else 0)


@main.command()
@click.option("--folder", default="runs", type=click.Path(path_type=Path), help="Where `bench` kept its runs.")
@click.option("--problem", "problems", callback=options.split, default="", show_default="all",
              help="Problems to report on.")
@click.option("--methods", callback=options.split, default="", show_default="all", help="Methods to compare.")
@click.option("--seeds", callback=lambda c, p, text: options.seeds(c, p, text) if text else [], default="",
              show_default="all", help="Seeds that count, such as 0,1,2 or 0-4.")
@click.option("--budget", help="Runs of this budget only, such as fast or 'fast(epochs=50)'.")
@click.option("--baseline", default="stl", help="The method to measure against.")
@click.option("--per-comparison", is_flag=True,
              help="Each verdict at 5% by itself; else at 5% for the report as a whole, however many comparisons.")
@click.option("--certificates/--no-certificates", default=True,
              help="Say how many networks are certainly safe, from what their runs kept of each test sample.")
@click.option("--margin", callback=options.margin, default="0", metavar="NUMBER",
              help="How much worse still counts as safe, in each measure's unit, or by measure: accuracy=0.01,mse=0.1.")
@click.option("--delta", default=0.05, type=click.FloatRange(0, 0.25, min_open=True),
              help="Share of certificates that may be wrong.")
@click.option("--over", default="samples", type=click.Choice(["samples", "groups"]),
              help="What certificates are about: new samples, or new sources where samples were made of some.")
@click.option("--html", "page", type=click.Path(path_type=Path), callback=options.target,
              help="Write one page with figures, to send around.")
@click.option("--csv", type=click.Path(path_type=Path), callback=options.target,
              help="Write all comparisons as a table.")
@click.option("--paper", is_flag=False, flag_value="", metavar="[TABLE]",
              help="Instead: recompute the tables printed in the papers; or, of a table such as dsmtl-2, print what "
                   "was measured beside it.")
def report(folder, problems, methods, seeds, budget, baseline, per_comparison, certificates, margin, delta, over, page,
           csv, paper) -> None:
    """Say which tasks got better or worse than alone.

    For each problem in the folder: better, worse or undecided for every task and metric, how many networks are
    certainly safe, and what to do.
    """
    if paper is not None:
        _paper(paper, folder, problems, methods, seeds, budget, page, csv)
        return
    import pandas as pd

    from .. import figures
    from ..files import write_text

    with options.plain_errors():
        reports = figures.page.from_folder(folder, problems, methods, seeds, budget, baseline, per_comparison,
                                           certificates, delta, margin, over)
        click.echo("\n\n".join(made.to_markdown() for made in reports))
        if csv:
            frames = [made.to_frame().assign(problem=made.problem, budget=made.budget) for made in reports]
            write_text(csv, pd.concat(frames).to_csv(index=False))
        if page:
            figures.page.write(reports, page)
            click.echo(f"Page: {page}")


def _paper(table: str, folder: Path, problems: list[str], methods: list[str], seeds: list[int], budget: str | None,
           page: Path | None, csv: Path | None) -> None:
    from .. import published

    if not table:
        click.echo(published.report())
        return
    from .. import figures, runs
    from ..files import write_text

    if page:
        raise click.UsageError("With --paper TABLE there is no page: leave --html out.")
    with options.plain_errors():
        published.problem_of(table)  # before any run is read
        measured = runs.summary(figures.page.runs_in(folder, problems, methods, seeds, budget))
        click.echo(published.show(table, measured))
        if csv:
            write_text(csv, published.beside(table, measured).to_csv())


@main.command(cls=options.Naming)
@click.option("--problem", default="multidigits", help="Problem: a name, or package.module:function for your own.")
@click.option("--method", default="hps", help="Method, such as dsmtl-il+pcgrad.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Seed of the run.")
@click.option("--budget", default="fast", help="How many epochs and samples, such as full or 'fast(epochs=50)'.")
@options.of_budget
@click.option("--lr", type=float, show_default="the problem's", help="Learning rate.")
@click.option("--folder", default="runs", type=click.Path(path_type=Path), help="Where runs are kept.")
@click.option("--save-every", type=click.IntRange(1), metavar="STEPS", show_default="after each epoch",
              help="How often to write the checkpoint from which a run goes on that was cut off.")
@click.option("--device", default="auto", help="cpu or cuda; auto takes GPUs if there are any.")
@click.option("--precision", default="auto", help="float32, bfloat16 or float16.")
def train(problem, method, seed, budget, lr, folder, save_every, device, precision, **changes) -> None:
    """Train one run, alone or in several processes.

    torchrun --nproc-per-node 2 -m mtlcourse train ... trains it in two, each with its share of every batch. The run
    lies where `bench` would have put it. The same command goes on with one that was cut off, with any number of
    processes.
    """
    import signal

    from .. import bench as sweeps
    from .. import runs
    from ..training.distributed import processes

    def told(*_) -> None:
        raise ConnectionError("This process was told to end, as torchrun does when another one has died. The same "
                              "command goes on from the checkpoint.")

    with options.plain_errors(), processes(device) as (total, own_device):
        if total.size > 1:
            signal.signal(signal.SIGTERM, told)
        config = runs.configuration(problem, method, seed, options.changed(budget, changes), lr)
        sweeps.one_run(config, str(folder), own_device, precision, save_every, total)
        if total.rank == 0:
            click.echo(runs.show(runs.summary(runs.table(folder, [config]))))
            click.echo(f"Run: {runs.folder_of(config, folder)}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", show_default="exported/RUN",
              help="The folder for the files.")
def export(run, out) -> None:
    """Write a stored run as files to serve.

    RUN is a folder that `bench` or `train` has left. Writes the weights and a description, which this package reads,
    and a program that torch alone runs; both are read again and compared with the run.
    """
    from .. import export as exporting

    with options.plain_errors():
        made = exporting.export(run, out or Path("exported") / run.resolve().name)
    click.echo(f"{made.folder}: {', '.join(made.files)}")
    if made.batch != 0:
        size = "any number of samples" if made.batch is None else "one sample"
        click.echo(f"The program takes {size} at once; its predictions differ from the run's by {made.difference:.1g} "
                   "at most.")
    if made.reason:
        click.echo(made.reason, err=True)


@main.command(cls=options.Naming)
@click.option("--problem", "problems", callback=options.some, default="multidigits", help="Problems: names, or all.")
@click.option("--methods", callback=options.some, default="all", help="Methods, such as stl,hps; all takes every one.")
@click.option("--csv", type=click.Path(path_type=Path), callback=options.target,
              help="Write the counts as a table, those of every module too.")
def params(problems, methods, csv) -> None:
    """Count parameters and FLOPs, without data.

    Prints for each method millions of parameters, the figures that the papers print for it, the difference and
    the reason for it, and billions of floating-point operations for a forward pass on one sample, a
    multiply-add counted as two. Of all problems, those that need what is not installed are named and left out.
    """
    import pandas as pd

    from .. import counts, data
    from ..files import write_text

    frames, said = [], {""}
    with options.plain_errors():
        for problem in data.names() if "all" in problems else problems:
            try:
                frame, note = counts.count_or_recall(problem, methods)
            except ModuleNotFoundError as error:
                if "all" not in problems:
                    raise click.ClickException(str(error)) from error
                click.echo(f"{problem} is left out: {error}", err=True)
                continue
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
    from ..course import doctor as examination

    findings = examination.examine()
    for finding in findings:
        click.echo(str(finding))
    missing = sum(finding.level == "missing" for finding in findings)
    click.echo(f"\n{missing} thing(s) missing." if missing else "\nReady.")
    sys.exit(1 if missing else 0)
