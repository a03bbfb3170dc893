"""The book's page on the run behind it: which lessons ran here, how long, and what failed. Imports the course."""

from collections.abc import Mapping, Sequence

from ..lessons import Lesson
from ..running import Outcome


def page(lessons: Sequence[Lesson], outcomes: Mapping[str, Outcome]) -> str:
    """A row a lesson with its verdict and seconds, then what went wrong in full.

    outcomes: by the stem of the lesson's file; a lesson that is not there shows its stored outputs.
    """
    lines = ["# What ran here", "", "Each lesson shows the outputs of its last run on this machine, or, where it has "
             "not run, those that are stored with it.", "", "| lesson | verdict | seconds |", "| --- | --- | --- |"]
    for lesson in lessons:
        one = outcomes.get(lesson.path.stem)
        said = f"{one.verdict} | {one.seconds:.0f}" if one else "not run, stored outputs | -"
        lines.append(f"| [{lesson.number} {lesson.title}](lessons/{lesson.path.name}) | {said} |")
    for one in outcomes.values():
        if one.message:
            lines += ["", f"## {one.name}: {one.verdict}", "", "``````text", one.message, "``````"]
    return "\n".join(lines) + "\n"
