"""Refresh the stored sweeps that are stale: what `make results` runs.

Names as arguments refresh just those; `--workers` says how many runs go at once. Runs are kept under
build/runs, so an interrupted refresh goes on where it stopped.
"""

from pathlib import Path

import click

from mtlcourse.course import results

HERE = Path(__file__).parent


@click.command()
@click.argument("names", nargs=-1)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Runs at the same time.")
@click.option("--again", multiple=True, metavar="METHOD", help="Run this method again, though it is stored.")
def main(names: tuple[str, ...], workers: int, again: tuple[str, ...]) -> None:
    """Refresh the stored sweeps NAMES, by default those that are stale: only runs that are not stored yet."""
    for name in names or [name for name in results.definitions(HERE) if results.stale(name, HERE)]:
        print(f"{name}.csv")
        results.refresh(name, HERE, HERE.parents[1] / "build" / "runs", workers, again)


if __name__ == "__main__":  # spawned workers import this file again
    main()
