"""JupyterLab for the browser tests: a server on a copy of the lessons, and what a learner does there."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.browser.browsing import ROOT

START, RUN = 300, 900  # seconds that a server, or a lesson, may take on a machine with other things to do
SETTINGS = {  # all cells are in the page at once; no news, which would be asked for elsewhere
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# What cells have come to: how many of them with code there are, ran, wait, failed.
CELLS = """() => {
    const notebook = window.jupyterapp.shell.currentWidget;
    const cells = notebook.content.widgets.filter(one => one.model.type === "code" &&
                                                         one.model.sharedModel.getSource().trim());
    const outputs = cells.flatMap(one => one.model.outputs.toJSON());
    return {cells: cells.length,
            ran: cells.filter(one => one.model.executionCount !== null).length,
            busy: cells.filter(one => one.model.executionState === "running").length,
            status: notebook.sessionContext.session?.kernel?.status ?? "none",
            errors: outputs.filter(one => one.output_type === "error").map(one => `${one.ename}: ${one.evalue}`)};
}"""


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: its address, its token, the folder with its notebooks, and where it keeps progress."""

    url: str
    token: str
    folder: Path
    progress: Path

    def address(self, name: str) -> str:
        return f"{self.url}lab/tree/{name}?reset&token={self.token}"


def copy_lessons(folder: Path) -> Path:
    """The lessons as a learner has them before running anything: without outputs."""
    copied = shutil.copytree(ROOT / "notebooks", folder / "notebooks",
                             ignore=shutil.ignore_patterns(".ipynb_checkpoints", "runs"))
    for path in copied.glob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        path.write_text(json.dumps(notebook), encoding="utf-8")
    return copied


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """JupyterLab on 127.0.0.1, with a token; it writes in `folder` alone. Raises RuntimeError if it does not start."""
    lessons = copy_lessons(folder)
    for name, values in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    token, runtime, log = secrets.token_hex(16), folder / "runtime", folder / "server.log"
    places = {"JUPYTER_DATA_DIR": folder / "data", "JUPYTER_CONFIG_DIR": folder / "config",
              "JUPYTER_RUNTIME_DIR": runtime, "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
              "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces", "IPYTHONDIR": folder / "ipython",
              "PYTHONPATH": ROOT}
    options = ["--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--IdentityProvider.token={token}",
               f"--ServerApp.root_dir={lessons}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url="]
    options += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with open(log, "w") as said:
        process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], cwd=lessons, stdout=said,
                                   stderr=said, stdin=subprocess.DEVNULL,
                                   env=os.environ | {name: str(place) for name, place in places.items()})
    try:
        yield Server(_url(process, runtime, log), token, lessons, folder / "data" / "mtlcourse" / "progress.json")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _url(process: subprocess.Popen, runtime: Path, log: Path) -> str:
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError, OSError):  # it is being written
                return json.loads(path.read_text())["url"]
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def open_lesson(page: Page, server: Server, name: str) -> None:
    """Open a notebook, and wait until its kernel is there."""
    page.goto(server.address(name), timeout=1000 * START)
    wait_for(page, "() => window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length > 3 && "
                   "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'", START)


def run_all(page: Page) -> dict[str, Any]:
    """Run > Run All Cells, as a learner does it; what came of it (`CELLS`)."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    return finished(page)


def finished(page: Page) -> dict[str, Any]:
    """Wait until every cell ran, or one failed; what came of it."""
    wait_for(page, f"() => {{ const now = ({CELLS})(); return now.status === 'idle' && now.busy === 0 && "
                   "(now.ran === now.cells || now.errors.length > 0); }", RUN)
    return page.evaluate(CELLS)


def wait_for(page: Page, condition: str, seconds: float) -> None:
    page.wait_for_function(condition, timeout=1000 * seconds, polling=200)


def cell_with(page: Page, text: str) -> int:
    """The place of the only cell whose source has a line that begins with `text`."""
    sources = page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets"
                            ".map(one => one.model.sharedModel.getSource())")
    found = [place for place, source in enumerate(sources)
             if any(line.startswith(text) for line in source.splitlines())]
    assert len(found) == 1, f"{len(found)} cells have a line {text!r}"
    return found[0]


def type_and_run(page: Page, place: int, source: str | None = None) -> str:
    """Write `source` into the cell at `place` with the keyboard, press Shift+Enter; the texts that the cell prints.

    Without `source` the cell is run as it stands.
    """
    cell = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell").nth(place)
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    before = _count(page, place)
    if source is not None:
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(source)
    page.keyboard.press("Shift+Enter")
    wait_for(page, f"""() => {{
        const notebook = window.jupyterapp.shell.currentWidget, cell = notebook.content.widgets[{place}].model;
        return cell.executionCount !== null && cell.executionCount !== {json.dumps(before)} &&
               cell.executionState !== "running" && notebook.sessionContext.session.kernel.status === "idle";
    }}""", RUN)
    return page.evaluate("place => window.jupyterapp.shell.currentWidget.content.widgets[place].model.outputs.toJSON()"
                         ".map(one => [].concat(one.text ?? one.evalue ?? '').join('')).join('')", place)


def _count(page: Page, place: int) -> int | None:
    return page.evaluate("place => window.jupyterapp.shell.currentWidget.content.widgets[place].model.executionCount",
                         place)
