"""The map of the lessons: every one a box with a link, every prerequisite a line or a chain of lines."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from mtlcourse.course import lessons
from mtlcourse.course.book import contents

LESSONS = [lessons.read(path) for path in lessons.find(Path(__file__).parents[2] / "notebooks")]
PAGE = contents.page(LESSONS)
PICTURE = BeautifulSoup(contents.picture(LESSONS), "html.parser")
NEEDS = {lesson.number: lesson.needs for lesson in LESSONS}


def test_every_lesson_is_a_box_that_leads_to_it_and_says_what_it_builds_on():
    links = {link["href"]: link["aria-label"] for link in PICTURE.find_all("a")}
    direct = contents.direct(NEEDS)
    assert links == {f"{lesson.path.stem}.html": f"{lesson.number} {lesson.title}; builds on "
                     f"{', '.join(direct[lesson.number]) or 'nothing'}" for lesson in LESSONS}
    assert len(PICTURE.find_all("path")) == sum(map(len, direct.values()))


def test_lines_lead_downwards_and_boxes_do_not_overlap():
    for line in PICTURE.find_all("path"):
        numbers = [float(number) for number in re.findall(r"[\d.]+", line["d"])]
        assert numbers[1] < numbers[-1]
    boxes = [(float(box["x"]), float(box["y"])) for box in PICTURE.find_all("rect")]
    for k, (x, y) in enumerate(boxes):
        assert not any(abs(x - a) < contents.WIDTH and abs(y - b) < contents.HEIGHT for a, b in boxes[:k])
    width, height = (float(PICTURE.svg[side]) for side in ("width", "height"))
    assert width <= 640  # what a page has room for
    assert all(0 <= x <= width - contents.WIDTH and 0 <= y <= height - contents.HEIGHT for x, y in boxes)


@pytest.mark.parametrize(("needs", "expected"), [
    ({"a": [], "b": ["a"], "c": ["a", "b"]}, {"a": [], "b": ["a"], "c": ["b"]}),
    ({"a": [], "b": [], "c": ["a", "b"]}, {"a": [], "b": [], "c": ["a", "b"]}),
    ({"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"]}, {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}),
])
def test_what_follows_from_the_rest_is_no_line(needs, expected):
    assert contents.direct(needs) == expected


def test_what_a_row_has_no_room_for_goes_down_if_nothing_builds_on_it():
    needs = {"00": [], **{f"{k:02}": ["00"] for k in range(1, 9)}, "20": ["08"]}
    assert list(map(sorted, contents.rows(needs))) == [["00"], ["01", "02", "03", "04", "05", "08"],
                                                       ["06", "07", "20"]]


def test_no_prerequisite_is_lost():
    def all_of(needs, number):
        return {found for need in needs[number] for found in {need, *all_of(needs, need)}}

    direct = contents.direct(NEEDS)
    assert all(all_of(direct, number) == all_of(NEEDS, number) for number in NEEDS)


def test_the_table_has_times_and_links_of_every_lesson():
    for lesson in LESSONS:
        row = re.search(rf"^\| \[{lesson.number} .*$", PAGE, re.MULTILINE)[0]
        assert f"| {lesson.fast_seconds:g} s | {lesson.full_minutes:g} min |" in row
        assert all(f"[{need}]({need}_" in row for need in lesson.needs)
        assert f"| {contents.reading(lesson) or '-'} |" in row and contents.reading(lesson) or lesson.number == "90"
        assert all(f"- {goal}\n" in PAGE for goal in lesson.goals)
