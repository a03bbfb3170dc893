"""What is typed on the command line: callbacks that read options, and say what is wrong with them.

Imports click; the package only where help lists its names.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Mistakes in what was typed, and files that are not there, are sentences and not tracebacks."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def split(context: click.Context | None, parameter: click.Parameter | None, text: str) -> list[str]:
    """Split at commas, but not at those within brackets.

    >>> split(None, None, "stl, hps+bmtl(T=5, b=(1, 2))")
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


def some(context: click.Context | None, parameter: click.Parameter | None, text: str) -> list[str]:
    """As `split`; an empty list is refused, for it would do nothing and call that a success."""
    parts = split(context, parameter, text)
    if not parts:
        raise click.BadParameter("the list is empty; name at least one.")
    return parts


def seeds(context: click.Context | None, parameter: click.Parameter | None, text: str) -> list[int]:
    """Seeds and ranges of seeds, both ends included.

    >>> seeds(None, None, "7, 0-3")
    [7, 0, 1, 2, 3]
    """
    seeds = []
    for part in some(context, parameter, text):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdecimal() for end in ends) or int(ends[0]) > int(ends[-1]):
            raise click.BadParameter(f"{part!r} is no seed, a whole number from 0 upwards, nor a range such as 0-4.")
        seeds += range(int(ends[0]), int(ends[-1]) + 1)
    return seeds


def numbers(context: click.Context, parameter: click.Parameter, text: str) -> list[int | float]:
    try:
        numbers = [float(part) for part in split(context, parameter, text)]
        return [int(number) if number.is_integer() else number for number in numbers]  # one spelling in names of runs
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as 3000,6000.") from None


def rates(context: click.Context, parameter: click.Parameter, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in some(context, parameter, text)]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as 1e-3,3e-3.") from None


def margin(context: click.Context | None, parameter: click.Parameter | None, text: str) -> float | dict[str, float]:
    """One number, or one for each measure that is named; none below 0.

    >>> margin(None, None, "0.01"), margin(None, None, "accuracy=0.01, mse=2")
    (0.01, {'accuracy': 0.01, 'mse': 2.0})
    """
    pairs = [(name.strip(), number) for name, _, number in (part.rpartition("=") for part in some(None, None, text))]
    try:
        margins = {name: float(number) for name, number in pairs}
    except ValueError:
        margins = {}
    mixed = len(margins) < len(pairs) or ("" in margins and len(margins) > 1)
    if mixed or not all(0 <= value < float("inf") for value in margins.values()):
        raise click.BadParameter(f"{text!r} is no number of at least 0, nor one for each measure, such as "
                                 "accuracy=0.01,mse=0.1.")
    return margins.get("", margins)


def shard(context: click.Context | None, parameter: click.Parameter | None, text: str) -> tuple[int, int]:
    number, _, shards = text.partition("/")
    if not number.isdecimal() or not shards.isdecimal():
        raise click.BadParameter(f"{text!r} is no part such as 2/8, the second of eight.")
    return int(number), int(shards)


def of_budget(command: Callable) -> Callable:
    """The options that change a budget's settings; the command takes them as `**changes`, for `changed`."""
    for option in reversed((
            click.option("--epochs", type=click.IntRange(1), show_default="the budget's", help="Epochs of a training."),
            click.option("--batch-size", type=click.IntRange(1), show_default="the budget's",
                         help="Samples of one step."),
            click.option("--clip", type=click.FloatRange(0, min_open=True), metavar="NORM", show_default="no bound",
                         help="The largest norm of a step's gradient; a longer one is scaled down."),
            click.option("--warmup", type=click.IntRange(0), metavar="STEPS", show_default="none",
                         help="Steps in which learning rates grow to what they are."),
            click.option("--sampling", callback=sampling, show_default="cycle", metavar="cycle|proportional|NUMBER",
                         help="How often tasks with inputs of their own come: a number is a temperature."))):
        command = option(command)
    return command


def sampling(context: click.Context, parameter: click.Parameter, text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text  # what is none is told with the other settings


def changed(budget: str, changes: Mapping[str, Any]) -> str:
    """The budget with these settings, as its name says it: "fast(epochs=50)"; None changes nothing.

    Raises ValueError for a budget that cannot be read.
    """
    from ..methods import Part, parse_part

    part = parse_part(budget)
    return str(Part(part.name, part.options | {key: value for key, value in changes.items() if value is not None}))


class Naming(click.Command):
    """A command whose help ends with the names that it takes; only then are they looked up."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in self.names().items():
            with formatter.section(title):
                formatter.write_text(", ".join(names))

    def names(self) -> dict[str, list[str]]:
        """The names under their headings."""
        from .. import data, methods, strategies

        return {"Problems": data.names(), "Methods": methods.names(),
                "Strategies, behind a method and a plus": strategies.names(),
                "Problems of several domains": data.names(domains=True),
                "Methods that adapt to these": methods.names(domains=True)}


class NamingProblems(Naming):
    """One that takes problems, and no methods."""

    def names(self) -> dict[str, list[str]]:
        """The problems."""
        return {title: names for title, names in super().names().items() if title.startswith("Problems")}


def target(context: click.Context | None, parameter: click.Parameter | None, path: Path | None) -> Path | None:
    """A file to write: a mistyped folder elsewhere is an error, and not made; one in the working folder is made."""
    if path is not None and path.is_dir():
        raise click.BadParameter(f"{path} is a folder; give the name of a file.")
    if path is not None and not path.parent.is_dir() and not path.resolve().is_relative_to(Path.cwd().resolve()):
        raise click.BadParameter(f"There is no folder {path.parent}, and it is outside the working folder; make it, or "
                                 "correct the path.")
    return path
