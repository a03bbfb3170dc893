"""Refresh the stored outputs of the notebooks, then their index: `make notebooks`.

Run in the environment of constraints/core.txt, whose outputs are the ones that are stored. Names or
numbers as arguments choose notebooks: `make notebooks ARGS="01 13"`. Each is run as it comes and under every smaller
instruction set (`machines.SETS`): what is stored as exact must come out everywhere, and how far the numbers of a
cell tagged `about` may move is measured, and stored with it. A notebook that fails keeps its old outputs.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from mtlcourse.course import lessons, machines, outputs, parameters, tolerances, verdicts
from mtlcourse.files import write_text

FOLDER = Path(__file__).parent
STRIP = ["--keep-output", "--keep-count", "--extra-keys",
         "metadata.papermill metadata.widgets cell.metadata.papermill cell.metadata.execution"]


def refresh(notebook: Path) -> bool:
    """Store what `notebook` prints, without traces of the machine, and how far its numbers move. True if it went well.

    It stays as it was if a cell fails, or says on another instruction set what its kind does not allow.
    """
    with tempfile.TemporaryDirectory() as folder:
        ran = {}
        for name, variables in {"as it comes": {}, **machines.SETS}.items():
            ran[name] = Path(folder) / f"{len(ran)}.ipynb"
            error = _execute(notebook, ran[name], variables)
            if error:
                return _say("failed", f"{notebook.stem}, {name}", error)
        stored = next(iter(ran.values()))
        faults, found = _judge({name: lessons.load(path) for name, path in ran.items()})
        if faults:
            return _say("refused", notebook.stem, "\n".join(faults))
        _store(stored, found)
        write_text(notebook, stored.read_text(encoding="utf-8"))
    print("\n".join([f"ok       {notebook.stem}", *(f"         [{count}] about, numbers may move by {tolerance}"
                                                   for count, tolerance in found.items())]), flush=True)
    return True


def _say(verdict: str, what: str, why: str) -> bool:
    print(f"{verdict:8} {what}", flush=True)
    print(why, file=sys.stderr, flush=True)
    return False


def _execute(notebook: Path, target: Path, variables: dict[str, str]) -> str:
    """Run `notebook` with more variables of the environment and write what came to `target`; what went wrong.

    Whoever refreshes may have solved exercises; that is not stored (`progress` is kept in Jupyter's data folder).
    """
    variables = {"JUPYTER_DATA_DIR": str(target.parent)} | variables
    command = [sys.executable, "-m", "jupyter", "execute", f"--output={target}", "--timeout=600", str(notebook)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=os.environ | variables)
    return done.stderr or "It stopped without a word." if done.returncode else ""


def _judge(ran: dict[str, dict]) -> tuple[list[str], dict[int, tolerances.Tolerance]]:
    """What the runs of one notebook contradict each other in, and by execution count the tolerances of its cells.

    ran: by the name of the instruction set; the first is the one to store.
    """
    clean = outputs.sanitiser(FOLDER / outputs.SANITIZE)
    faults, found = [], {}
    here, *elsewhere = ran
    for cells in zip(*map(lessons.code_cells, ran.values()), strict=True):
        stored, count = cells[0], cells[0]["execution_count"]
        if outputs.ABOUT in lessons.tags(stored):
            try:
                found[count] = tolerances.measure(cells, clean)
            except ValueError as error:
                faults.append(f"[{count}] is 'about', but {error}: print what is the same on every machine, in a fixed "
                              f"order, numbers instead of words. It begins: {_begin(stored)}")
            continue
        for name, cell in zip(elsewhere, cells[1:], strict=True):
            changed = outputs.change(stored, cell, clean)
            if changed:
                faults.append(f"[{count}] is exact, but {here} (-) it says something else than with {name} (+): tag it "
                              f"'about' if numbers come of training, else make it stable. It begins: {_begin(stored)}\n"
                              f"{changed}")
    return faults, found


def _begin(cell: dict) -> str:
    return cell["source"].strip().splitlines()[0]


def _store(path: Path, found: dict[int, tolerances.Tolerance]) -> None:
    """Write the tolerances, by execution count, into the cells' metadata, and strip what tells of this machine."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("mtlcourse", None)
        tolerance = found.get(cell.get("execution_count"))
        if tolerance:
            cell.metadata["mtlcourse"] = {name: value for name, value in vars(tolerance).items() if value}
    nbformat.write(notebook, path)
    subprocess.run([sys.executable, "-m", "nbstripout", *STRIP, str(path)], check=True)


def write_index(folder: Path = FOLDER) -> None:
    """Write `README.md` of the notebooks from their front matter, and the verdicts on the papers' statements."""
    text = lessons.index([lessons.read(path) for path in lessons.find(folder)])
    (folder / "README.md").write_text(f"{text}\n{verdicts.section(folder)}", encoding="utf-8")


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
