"""The book in Chromium, from its files, without a network: loads, links between pages, themes, widths, access."""

import html5lib
import pytest
from playwright.sync_api import expect

from mtlcourse.course import lessons
from tests.browser import browsing
from tests.browser.browsing import ROOT, watched

BOOK = ROOT / "build" / "book"
PAGES = sorted(path.relative_to(BOOK).as_posix() for path in BOOK.rglob("*.html") if "_static" not in path.parts)
NARROW = {"width": 400, "height": 800}
SHOWN = {"index.html", "lessons/11_gradient_combination.html", "lessons/00_start_here.html", "reference/losses.html",
         "lessons/index.html", "guides/own_tasks.html"}
SECONDS = 1.0  # of computing, until the first page is ready
STRIPS = {path.stem: count for path in lessons.find(ROOT / "notebooks")
          if (count := path.read_text(encoding="utf-8").count("explore("))}


def address(name: str) -> str:
    return (BOOK / name).as_uri()


def test_there_is_a_book():
    assert len(PAGES) > 80, "run `make book` first"


def keep(page, name: str, how: str) -> None:
    if name in SHOWN:
        page.screenshot(path=browsing.SCREENSHOTS / f"book-{name.removesuffix('.html').replace('/', '-')}-{how}.png")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_offline_and_open_to_all(browser, name: str):
    with watched(browser, color_scheme="light") as one:
        one.page.goto(address(name))
        found = browsing.structure(one.page) + browsing.headings(one.page)
        keep(one.page, name, "light")
        found += browsing.colours(one.page)
    with watched(browser, color_scheme="dark", viewport=NARROW) as two:
        two.page.goto(address(name))
        found += [f"wider than 400 pixels: {tag}" for tag in browsing.overflow(two.page)]
        found += [f"scrolls without a hint: {tag}" for tag in browsing.unhinted(two.page)]
        found += browsing.findings(two.page, runOnly=["scrollable-region-focusable"])
        keep(two.page, name, "dark-narrow")
        found += browsing.colours(two.page)
    assert not one.faults + two.faults + found


@pytest.mark.parametrize("name", PAGES)
def test_html_is_valid(name: str):
    parser = html5lib.HTMLParser()
    parser.parse((BOOK / name).read_text(encoding="utf-8"))
    assert not parser.errors


def test_search_leads_to_a_page(browser):
    with watched(browser) as one:
        one.page.goto(address("index.html"))
        one.page.keyboard.press("Control+k")
        one.page.keyboard.type("conflict")
        one.page.keyboard.press("Enter")
        results = one.page.locator("#search-results li a")
        expect(results.nth(5)).to_be_visible()  # they come one after another
        results.first.click()
        expect(one.page.locator("h1")).to_be_visible()
        assert one.page.url.startswith(BOOK.as_uri()) and "search.html" not in one.page.url
    assert not one.faults


def test_a_search_for_nothing_says_so(browser):
    with watched(browser) as one:
        one.page.goto(address("search.html") + "?q=xylophone")
        expect(one.page.locator("#search-results")).to_contain_text("did not match any documents")
    assert not one.faults


def test_previous_and_next_lead_through_the_lessons(browser):
    with watched(browser) as one:
        one.page.goto(address("lessons/01_two_tasks_one_network.html"))
        one.page.locator("a.right-next").click()
        expect(one.page.locator("h1")).to_contain_text("Safe multi-task learning")
        one.page.locator("a.left-prev").click()
        expect(one.page.locator("h1")).to_contain_text("Two tasks, one network")
    assert not one.faults


def test_code_is_copied(browser):
    with watched(browser) as one:
        one.page.goto(address("lessons/11_gradient_combination.html"))
        code = one.page.locator("div.cell_input div.highlight").first
        code.hover()
        code.locator("button.copybtn").click()
        one.page.keyboard.press("Control+k")
        one.page.keyboard.press("Control+v")
        pasted = one.page.locator("dialog input[type=search], .search-button__wrapper input[type=search]").first
        assert pasted.input_value().split() == code.locator("pre").inner_text().split()
    assert not one.faults


def test_the_theme_can_be_chosen(browser):
    with watched(browser, color_scheme="light") as one:
        one.page.goto(address("index.html"))
        seen = {}
        for theme in ("light", "dark"):
            one.page.get_by_role("button", name="Color mode").first.click()
            one.page.locator(f"button[data-mode={theme}]:visible, [data-mode-value={theme}]:visible").first.click()
            assert one.page.evaluate("document.documentElement.dataset.theme") == theme
            seen[theme] = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert seen["light"] != seen["dark"]
        one.page.reload()
        assert one.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert not one.faults


def test_solutions_and_sources_are_behind_a_click(browser):
    with watched(browser) as one:
        one.page.goto(address("reference/losses.html"))
        source = one.page.locator("details").first
        expect(source.locator("pre")).not_to_be_visible()
        source.locator("summary").click()
        expect(source.locator("pre")).to_be_visible()
        one.page.goto(address("lessons/11_gradient_combination.html"))
        one.page.get_by_role("link", name="Solutions of the exercises").click()
        expect(one.page.locator("h1")).to_contain_text("Gradient combination: solutions")
    assert not one.faults


@pytest.mark.parametrize("lesson", STRIPS)
def test_a_slider_is_a_strip_of_pictures(browser, lesson: str):
    with watched(browser) as one:
        one.page.goto(address(f"lessons/{lesson}.html"))
        strips = one.page.locator("main img[alt^='The figure at']")
        assert strips.count() == STRIPS[lesson]
        for strip in strips.all():
            strip.scroll_into_view_if_needed()
            assert strip.evaluate("one => one.complete && one.naturalHeight > one.naturalWidth / 4")
    assert not one.faults


def test_the_first_page_is_ready_in_a_second_on_one_core(browser):
    """Computing time of all of the browser's processes, so that other work on this machine does not count."""
    session = browser.new_browser_cdp_session()

    def computed() -> dict[int, float]:
        return {one["id"]: one["cpuTime"] for one in session.send("SystemInfo.getProcessInfo")["processInfo"]}

    took = []
    for _ in range(3):
        with watched(browser) as one:
            before = computed()
            one.page.goto(address("index.html"))  # until the load event
            took.append(sum(seconds - before.get(process, 0.0) for process, seconds in computed().items()))
    assert 0 < min(took) < SECONDS, took
