"""What the browser tests share: Chromium without a network, pages that are watched, and axe-core."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Browser, Page, Playwright

from tests.browser import chromium

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
OPTIONS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
           "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # no name leads anywhere
COLOURS = ["color-contrast", "link-in-text-block"]  # the rules that another theme may break
PATIENCE = 60  # seconds for what takes one, on a machine that has other things to do
GRAVE = ("serious", "critical")

# A page has thousands of tokens in a few dozen colours, and formulas in the colour of their text. One of each is
# enough to judge contrast, and to judge all takes minutes.
ONE_OF_EACH = """() => {
    document.querySelectorAll("details").forEach(one => one.open = true);
    document.querySelectorAll("math").forEach(one => one.replaceWith(one.textContent));
    const seen = new Set();
    for (const token of document.querySelectorAll(".highlight span, .sig span, .sig em, td, th, code span")) {
        const around = token.parentElement;
        const kind = [token.tagName, token.className, token.style.cssText, around.tagName, around.className].join(" ");
        if (seen.has(kind) && !token.querySelector("a, button")) token.replaceWith(...token.childNodes);
        seen.add(kind);
    }
    document.body.normalize();
}"""


def launch(playwright: Playwright, executable: str | None = None) -> Browser:
    """Chromium with a profile of its own, headless; its scroll bars are there, as for people."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=executable or chromium.find(), args=[*OPTIONS, *root],
                                      ignore_default_args=["--hide-scrollbars"])


@dataclass
class Watched:
    """A page, and what went wrong on it: errors of the console and of scripts, loads that failed, other addresses."""

    page: Page
    faults: list[str] = field(default_factory=list)


@contextlib.contextmanager
def watched(browser: Browser, allowed: Sequence[str] = ("file:", "data:"), **options: Any) -> Iterator[Watched]:
    """A new page in a context of its own. Only addresses that begin with `allowed` may be asked; `options` are the
    context's, such as `color_scheme`."""
    context = browser.new_context(offline="file:" in allowed, **options)
    context.set_default_timeout(1000 * PATIENCE)
    one = Watched(context.new_page())
    faults, page = one.faults, one.page

    def asked(request: Any) -> None:
        if not request.url.startswith(tuple(allowed)):
            faults.append(f"asks for {request.url}")

    context.on("request", asked)
    page.on("console", lambda message: message.type == "error" and faults.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url} ({request.failure})"))
    page.on("response", lambda answer: answer.status >= 400 and faults.append(f"{answer.status}: {answer.url}"))
    try:
        yield one
    finally:
        context.close()


def findings(page: Page, **options: Any) -> list[str]:
    """What axe-core finds serious or critical on a page, a line each; `options` are those of `axe.run`."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("options => axe.run(document, options)",
                          {"preload": False, "resultTypes": ["violations"]} | options)
    return [f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:120]} {node['failureSummary']}"
            for one in found["violations"] if one["impact"] in GRAVE for node in one["nodes"]]


def structure(page: Page) -> list[str]:
    """`findings` of all rules that do not depend on colours."""
    return findings(page, rules={rule: {"enabled": False} for rule in COLOURS})


def colours(page: Page) -> list[str]:
    """`findings` of contrast and links in text; it changes the page (`ONE_OF_EACH`), so ask for this last."""
    page.evaluate(ONE_OF_EACH)
    return findings(page, runOnly=COLOURS)


def headings(page: Page) -> list[str]:
    """What is wrong with the headings of the main part: not one of the first level, or a level left out."""
    levels = page.eval_on_selector_all("main :is(h1, h2, h3, h4, h5, h6), body > :is(h1, h2, h3, h4, h5, h6)",
                                       "all => all.map(one => Number(one.tagName[1]))")
    wrong = [] if levels[:1] == [1] and levels.count(1) == 1 else [f"headings of the first level: {levels}"]
    return wrong + [f"a heading of level {level} after one of {before}"
                    for before, level in zip(levels, levels[1:], strict=False) if level > before + 1]


def unhinted(page: Page) -> list[str]:
    """Tables, code and formulas with something beside what is seen, and no scroll bar that says so, as HTML."""
    return page.evaluate("""[...document.querySelectorAll("main :is(table, pre, .formula, div)")].filter(one => {
        const style = getComputedStyle(one);
        const border = parseFloat(style.borderTopWidth) + parseFloat(style.borderBottomWidth);
        return one.scrollWidth > one.clientWidth + 1 && ["auto", "scroll"].includes(style.overflowX) &&
               one.clientHeight > 0 && one.offsetHeight - one.clientHeight - border < 3;
    }).map(one => one.outerHTML.slice(0, 150))""")


def overflow(page: Page) -> list[str]:
    """What makes a page wider than its window, as HTML; empty if nothing does."""
    if page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"):
        return []
    return page.evaluate("""[...document.querySelectorAll("body *")]
        .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .slice(0, 5).map(one => one.outerHTML.slice(0, 150))""")
