"""`mtlcourse data check`: what is wrong with a problem's data.

Imports click, its folder's `options`; the package when the command runs.
"""

import sys
from pathlib import Path

import click

from . import options


@click.group()
def data() -> None:
    """Look at the data of a problem."""


@data.command(cls=options.NamingProblems)
@click.argument("problem", metavar="NAME")
@click.option("--limit", type=click.IntRange(1), metavar="SAMPLES", show_default="all",
              help="Read so many samples of each split, from all over it.")
@click.option("--csv", type=click.Path(path_type=Path), callback=options.target, help="Write the findings as a table.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def check(problem, limit, csv, progress) -> None:
    """Say what is wrong with the data of a problem, and what follows from it.

    NAME is a problem, such as rooms or 'sarcos(split=published)', or package.module:function for your own. Each split
    is read once. Exit status: 0 without errors, whatever else was found; 1 with errors, or if the data do not load.
    """
    from ..data import check as examine
    from ..data.registry import load_any
    from ..files import write_text
    from ..methods import parse_part

    with options.plain_errors():
        part = parse_part(problem)
        try:
            loaded = load_any(part.name, dict(part.options))
        except TypeError as error:  # an option that is not there, or what a function of one's own returned
            raise click.ClickException(str(error)) from error
        report = examine(loaded, limit, progress=progress)
        click.echo(str(report))
        if csv:
            write_text(csv, report.to_frame().to_csv(index=False))
    sys.exit(1 if report.errors else 0)
