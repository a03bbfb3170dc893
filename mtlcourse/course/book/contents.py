"""The book's page on its lessons: a map of what builds on what, a table to scan, and each lesson with its goals.
Imports `course.lessons`.
"""

import html
import re
import textwrap
from collections.abc import Mapping, Sequence

from ..lessons import Lesson, load

PARTS = {"Start": "0", "Methods": "1", "Worlds": "2", "Benchmarks and your own tasks": "3", "Reference": "9"}
WIDTH, HEIGHT, ACROSS, DOWN = 98, 56, 8, 34  # of a lesson's box, and between boxes, in pixels
MOST = 6  # boxes in a row, which a page has room for
READING = re.compile(r"\*\*Time\.\*\*\s+(\w+ (?:minutes?|hours?))\b")


def page(lessons: Sequence[Lesson]) -> str:
    """The whole page."""
    lines = ["# The lessons", "", "Each box is a lesson, and leads to it; lines come from those that it builds on.", "",
             picture(lessons), "", *table(lessons), ""]
    for part, first in PARTS.items():
        some = [lesson for lesson in lessons if lesson.number.startswith(first)]
        if not some:
            continue
        lines += [f"## {part}", ""]
        for lesson in some:
            lines += [f"**[{lesson.number} {lesson.title}]({lesson.path.name})**", "", f"{lesson.question} Goals:", "",
                      *[f"- {goal}" for goal in lesson.goals], ""]
        names = [lesson.path.stem for lesson in some]
        lines += ["```{toctree}", ":hidden:", f":caption: {part}", "", *names, "```", ""]
    return "\n".join(lines) + "\n"


def table(lessons: Sequence[Lesson]) -> list[str]:
    """A row a lesson: what it builds on, how long it is to read, how long it runs."""
    named = {lesson.number: lesson.path.name for lesson in lessons}
    lines = ["| lesson | builds on | reading | runs in, fast | runs in, full |", "| --- | --- | --- | --- | --- |"]
    for lesson in lessons:
        needs = ", ".join(f"[{number}]({named[number]})" for number in lesson.needs) or "nothing"
        lines.append(f"| [{lesson.number} {lesson.title}]({lesson.path.name}) | {needs} | {reading(lesson) or '-'} | "
                     f"{lesson.fast_seconds:g} s | {lesson.full_minutes:g} min |")
    return lines


def reading(lesson: Lesson) -> str:
    """How long a lesson is to read, as its first cell says; "" if it does not."""
    found = READING.search(load(lesson.path)["cells"][0]["source"])
    return found[1] if found else ""


def direct(needs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What each lesson builds on directly: what follows from the rest is left out.

    needs: `{number: numbers of lessons}`, which lead to no lesson back.

    >>> direct({"00": [], "01": ["00"], "02": ["00", "01"]})
    {'00': [], '01': ['00'], '02': ['01']}
    """
    def all_of(number: str) -> set[str]:
        return {found for need in needs[number] for found in {need, *all_of(need)}}

    return {number: [need for need in own if not any(need in all_of(other) for other in own if other != need)]
            for number, own in needs.items()}


def rows(needs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Lessons by how many stand before them in the longest chain; in a row below what they build on, on average.

    Where a row has more than `MOST`, those that no lesson builds on go further down.

    >>> rows({"00": [], "01": ["00"], "02": ["00", "01"], "90": ["00"]})
    [['00'], ['01', '90'], ['02']]
    """
    depth: dict[str, int] = {}
    for number in sorted(needs):  # a lesson builds on earlier ones
        depth[number] = 1 + max((depth[need] for need in needs[number]), default=-1)
    made: list[list[str]] = [[] for _ in range(1 + max(depth.values()))]
    for number, deep in depth.items():
        made[deep].append(number)
    ends = set(needs) - {need for own in needs.values() for need in own}
    for above, below in zip(made, made[1:], strict=False):
        for number in [number for number in reversed(above) if number in ends][:max(0, len(above) - MOST)]:
            above.remove(number)
            below.append(number)
    place: dict[str, float] = {}
    for row in made:
        row.sort(key=lambda number: (sum(place[need] for need in needs[number]) / max(len(needs[number]), 1), number))
        place |= {number: k - (len(row) - 1) / 2 for k, number in enumerate(row)}
    return made


def picture(lessons: Sequence[Lesson]) -> str:
    """The map as SVG inside the page: every box a link that says in words what its lines say."""
    known = {lesson.number: lesson for lesson in lessons}
    needs = direct({number: lesson.needs for number, lesson in known.items()})
    made = rows(needs)
    width = max(map(len, made)) * (WIDTH + ACROSS)
    corner = {number: ((width - len(row) * (WIDTH + ACROSS) + ACROSS) / 2 + k * (WIDTH + ACROSS),
                       r * (HEIGHT + DOWN) + 2) for r, row in enumerate(made) for k, number in enumerate(row)}
    lines = []
    for number, own in needs.items():
        x, y = corner[number]
        for need in own:
            a, b, c = corner[need][0] + WIDTH / 2, corner[need][1] + HEIGHT, x + WIDTH / 2
            half = (b + y) / 2
            lines.append(f'<path d="M{a:g} {b:g}C{a:g} {half:g} {c:g} {half:g} {c:g} {y:g}"/>')
    boxes = [_box(known[number], needs[number], *corner[number]) for row in made for number in row]
    height = len(made) * (HEIGHT + DOWN) - DOWN + 4
    return (f'<div class="map" tabindex="0" role="region" aria-label="Map of the lessons"><svg width="{width}" '
            f'height="{height}" viewBox="0 0 {width} {height}" role="group" aria-label="What builds on what, '
            f'{len(lessons)} lessons in {len(made)} rows">{"".join(lines)}{"".join(boxes)}</svg></div>')


def _box(lesson: Lesson, needs: Sequence[str], x: float | int, y: float | int) -> str:
    said = html.escape(f"{lesson.number} {lesson.title}; builds on {', '.join(needs) or 'nothing'}")
    words = textwrap.wrap(lesson.title.partition(":")[0], 16)[:3]
    after = f" \u2190 {', '.join(needs)}" if needs else ""
    text = "".join(f'<tspan x="{x + WIDTH / 2:g}" dy="12">{html.escape(word)}</tspan>' for word in words)
    return (f'<a href="{lesson.path.stem}.html" aria-label="{said}"><rect x="{x:g}" y="{y:g}" width="{WIDTH}" '
            f'height="{HEIGHT}" rx="4"/><text x="{x + WIDTH / 2:g}" y="{y + 13:g}"><tspan class="number">'
            f'{lesson.number}</tspan>{after}{text}</text></a>')
