"""One Chromium for the tests of a process; the book that `make book` has left."""

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser import browsing

expect.set_options(timeout=1000 * browsing.PATIENCE)


@pytest.fixture(scope="session")
def playwright():
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright) -> Browser:
    launched = browsing.launch(playwright)
    yield launched
    launched.close()


@pytest.fixture(scope="session", autouse=True)
def screenshots():
    browsing.SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return browsing.SCREENSHOTS
