"""What the browser tests look for is seen where it is, and not where it is not."""

import pytest

from tests.browser import browsing

PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Page</title>
<style>body {{ color: #222; background: #fff }} .wide {{ overflow-x: auto }}</style></head><body><main><h1>Page</h1>
<h2>Part</h2><p>Words with a <a href="#">link</a>.</p><pre><code>code</code></pre>{}</main></body></html>"""
LONG = "<div style='width: 900px'>a</div>"
BROKEN = {
    "a script from elsewhere": ("<script src='https://example.org/a.js'></script>", "asks for https://example.org"),
    "a style from elsewhere": ("<style>@import 'http://example.org/a.css';</style>", "asks for http://example.org"),
    "a fetch": ("<script>fetch('https://example.org/').catch(() => 0)</script>", "asks for https://example.org"),
    "a file that is not there": ("<img src='nowhere.png' alt='Nothing'>", "failed: file:"),
    "an error on the console": ("<script>console.error('oh no')</script>", "console: oh no"),
    "a script that fails": ("<script>undefined.x</script>", "script: Cannot read properties"),
    "a picture without a text": ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>", "image-alt (critical)"),
    "pale words": ("<p style='color: #ccc'>Pale</p>", "color-contrast (serious)"),
    "a pale token of code": ("<div class=highlight><pre><span class=k>if</span> <span class=c style='color: #ccc'>why"
                             "</span></pre></div>", "color-contrast (serious)"),
    "pale words in a closed box": ("<details><summary>More</summary><p style='color: #ccc'>Pale</p></details>",
                                   "color-contrast (serious)"),
    "a button without a name": ("<button></button>", "button-name (critical)"),
    "a level left out": ("<h4>Deep</h4>", "a heading of level 4 after one of 2"),
    "a second title": ("<h1>Again</h1>", "headings of the first level: [1, 2, 1]"),
    "a page too wide": (LONG, "wider: <div style="),
    "a box that scrolls and does not say so": (f"<div style='overflow-x: auto; scrollbar-width: none'>{LONG}</div>",
                                               "hidden: <div style="),
}


def seen(browser, folder, more: str) -> list[str]:
    (folder / "page.html").write_text(PAGE.format(more), encoding="utf-8")
    with browsing.watched(browser, viewport={"width": 400, "height": 600}) as one:
        one.page.goto((folder / "page.html").as_uri())
        found = [f"wider: {tag}" for tag in browsing.overflow(one.page)]
        found += [f"hidden: {tag}" for tag in browsing.unhinted(one.page)]
        found += browsing.structure(one.page) + browsing.headings(one.page) + browsing.colours(one.page)
    return one.faults + found


def test_a_good_page_has_no_faults(browser, tmp_path):
    assert seen(browser, tmp_path, f"<div class='wide' tabindex='0'>{LONG}</div>") == []


@pytest.mark.parametrize("kind", BROKEN)
def test_a_fault_is_seen(browser, tmp_path, kind: str):
    more, said = BROKEN[kind]
    assert any(fault.startswith(said) for fault in seen(browser, tmp_path, more))
