"""Each lesson in JupyterLab, as a learner has it: run whole, sliders dragged, an exercise answered, links followed."""

import json
import re

import pytest
from playwright.sync_api import expect

from mtlcourse.course import lessons
from tests.browser import browsing, lab
from tests.browser.browsing import ROOT, watched

LESSONS = [path.name for path in lessons.find(ROOT / "notebooks")]
CHECK = re.compile(r'^check\("([\w.]+)", (\w+)', re.MULTILINE)
SHOWN = {"11_gradient_combination.ipynb", "00_start_here.ipynb"}
WIDE = {"width": 1400, "height": 900}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with lab.serving(tmp_path_factory.mktemp("lab")) as started:
        yield started


@pytest.fixture
def opened(browser, server):
    """Opens a lesson in a new window; what the console says of it is a fault."""
    allowed = (server.url, server.url.replace("http", "ws"), "data:", "blob:")
    with watched(browser, allowed, viewport=WIDE) as one:
        def opened(name: str):
            lab.open_lesson(one.page, server, name)
            return one.page
        yield opened
        seen = list(one.faults)  # a kernel that ends is none
        one.page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    assert not seen


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_whole_and_takes_answers(opened, server, name: str):
    page = opened(name)
    came = lab.run_all(page)
    assert came["errors"] == [] and came["ran"] == came["cells"] > 5
    if name in SHOWN:
        page.screenshot(path=browsing.SCREENSHOTS / f"lab-{name[:2]}.png")
    drag_all(page, explored(name))
    number, answer, solved = exercise(name)
    assert f"Exercise {number}: not yet" in lab.type_and_run(page, lab.cell_with(page, f'check("{number}"'))
    said = lab.type_and_run(page, lab.cell_with(page, f"def {answer}("), solved)
    assert said.strip().endswith(f"Exercise {number}: correct.")
    noted = json.loads(server.progress.read_text(encoding="utf-8"))[number]
    assert noted["solved"] and noted["tries"] >= 2


def exercise(name: str) -> tuple[str, str, str]:
    """The first exercise of a lesson: its number, the name of its answer, and the solution's cells up to its check, as
    a learner would check them."""
    before: list[str] = []
    for cell in lessons.code_cells(lessons.load(ROOT / "notebooks" / "solutions" / name)):
        if found := CHECK.search(cell["source"]):
            solved = [*before, cell["source"][:found.start()], f'check("{found[1]}", {found[2]})']
            return found[1], found[2], "\n".join(solved).replace('"../results"', '"results"')  # a lesson's folder
        before.append(cell["source"])
    raise AssertionError(f"{name} has no exercise")


def explored(name: str) -> int:
    """How many figures of a lesson have sliders."""
    return sum(cell["source"].count("explore(") for cell in lessons.code_cells(lessons.load(ROOT / "notebooks" / name)))


def drag_all(page, figures: int) -> None:
    """Drag each slider while its picture changes; at first it stands inside its range, as its text says."""
    handles = page.locator(".widget-slider .noUi-handle")
    assert page.locator(".widget-vbox:has(img)").count() == figures <= handles.count()
    for handle in handles.all():
        handle.scroll_into_view_if_needed()
        low, high, now = (float(handle.get_attribute(f"aria-value{what}")) for what in ("min", "max", "now"))
        assert low < now < high, f"the slider stands at its end: {now} in {low} to {high}"
        picture = handle.locator("xpath=ancestor::*[contains(@class, 'jupyter-widgets')][.//img][1]").locator("img")
        before, box, track = picture.get_attribute("src"), handle.bounding_box(), handle.locator(
            "xpath=ancestor::*[contains(@class, 'noUi-target')]").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(track["x"] + 0.9 * track["width"], box["y"] + box["height"] / 2, steps=8)
        expect(picture).not_to_have_attribute("src", before, timeout=30_000)  # the button is still held
        page.mouse.up()
        assert float(handle.get_attribute("aria-valuenow")) != now


def test_links_lead_from_lesson_to_lesson(opened):
    page = opened("00_start_here.ipynb")
    page.locator(".jp-Notebook a[href*='01_two_tasks']").last.click()
    expect(page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) h1")).to_contain_text("Two tasks, one network")
    page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook a[href*='02_safe']").last.click()
    expect(page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) h1")).to_contain_text("Safe multi-task learning")
