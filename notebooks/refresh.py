"""Refresh the stored outputs of the notebooks, then their index: `make notebooks`.

Run in the environment of constraints/core.txt, whose outputs are the ones that are stored. Names or
numbers as arguments choose notebooks: `make notebooks ARGS="01 13"`. A notebook that fails keeps its
old outputs.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mtlcourse.course import lessons, parameters

FOLDER = Path(__file__).parent
STRIP = ["--keep-output", "--keep-count", "--extra-keys",
         "metadata.papermill metadata.widgets cell.metadata.papermill cell.metadata.execution"]


def refresh(notebook: Path) -> bool:
    """Execute `notebook` in place and strip what changes from machine to machine. True if it went well."""
    execute = [sys.executable, "-m", "jupyter", "execute", "--inplace", "--timeout=600", str(notebook)]
    done = subprocess.run(execute, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    print(f"{'ok' if done.returncode == 0 else 'failed':8} {notebook.stem}", flush=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return False
    subprocess.run([sys.executable, "-m", "nbstripout", *STRIP, str(notebook)], check=True)
    return True


def write_index(folder: Path = FOLDER) -> None:
    """Write `README.md` of the notebooks from their front matter."""
    text = lessons.index([lessons.read(path) for path in lessons.find(folder)])
    (folder / "README.md").write_text(text, encoding="utf-8")


def main(names: list[str]) -> int:
    try:
        chosen = parameters.choose(lessons.find(FOLDER), names)
    except ValueError as error:
        sys.exit(str(error))
    with ThreadPoolExecutor(2) as pool:
        fine = list(pool.map(refresh, chosen))
    write_index()
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
