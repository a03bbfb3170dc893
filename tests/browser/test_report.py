"""The page of a safety report in Chromium: one file, offline, open to all, readable at 400 pixels."""

import subprocess
import sys

import pytest

from tests.browser import browsing
from tests.browser.browsing import watched

MADE = """
from mtlcourse import bench, figures
bench.sweep(["relatedness(train=20, val=10, test=10)"], ["stl", "hps", "dsmtl-jl"], [0, 1], budget="smoke",
            folder="runs", progress=False)
figures.page.write(figures.page.from_folder("runs"), "report.html")
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("report")
    subprocess.run([sys.executable, "-c", MADE], cwd=folder, check=True)  # apart, for it takes torch
    return (folder / "report.html").as_uri()


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_whole_offline_and_open_to_all(browser, report: str, width: int):
    with watched(browser, viewport={"width": width, "height": 900}) as one:
        one.page.goto(report)
        found = browsing.structure(one.page) + browsing.headings(one.page)
        found += [f"wider than the window: {tag}" for tag in browsing.overflow(one.page)]
        found += [f"scrolls without a hint: {tag}" for tag in browsing.unhinted(one.page)]
        one.page.screenshot(path=browsing.SCREENSHOTS / f"report-{width}.png", full_page=True)
        found += browsing.colours(one.page)
    assert not one.faults + found
