"""The parameters of the notebooks work: every one is given another value, and something comes of it."""

from pathlib import Path

import pytest

from mtlcourse.course import lessons, parameters, running

FOLDER = Path(__file__).parents[2] / "notebooks"
COURSE = sorted(path for path in FOLDER.glob("*.ipynb") if lessons.NAME.fullmatch(path.name))

# Other values for the parameters that are a notebook's own, by its number: {"01": ["batch_size=64"]}.
OWN = {"00": ["offset=5"], "01": ["seeds=[3, 5]"], "02": ["delta=0.2"], "03": ["delta=0.2", "seeds=[3]"],
       "04": ["spread=1.0"], "05": ["temperature=5.0", "tasks=3"], "06": ["instances=50"], "09": ["method=DSMTL-IL"],
       "11": ["angle=150", "length=0.3"], "22": ["lr=0.03"],
       "12": ["copy_seeds=[3]"],
       "13": ["seeds=[3]"],
       "14": ["factor=4.0"], "15": ["draws=12"], "16": ["draws=3"], "17": ["epsilon=0.06"],
       "18": ["shift=3.0"], "20": ["many=4"], "21": ["draws=20"],
       "30": ["problem=rooms", "methods=['stl', 'stl-wide']", "seeds=[4]", "folder=../build/benchmark"],
       "90": ["word=attention"],
       "10": ["seeds=[3]"], "23": ["seeds=[3, 5]"],
       "32": ["seeds=[3]", "copies=40"],
       "31": ["problem=rooms", "live_methods=['hps', 'dsmtl-il+pcgrad']", "seeds=[4]"]}


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_other_values_work(path: Path, tmp_path: Path):
    number = path.name[:2]
    assignments = ["budget=smoke", "seed=7", *OWN.get(number, [])]
    (job,) = running.plan(FOLDER, tmp_path, [number], [f"{number}:{assignment}" for assignment in assignments])
    stored = parameters.defaults(path)
    unchanged = [name for name in stored if job.values.get(name, stored[name]) == stored[name]]
    assert not unchanged, f"give these other values in OWN[{number!r}]: {unchanged}"

    (outcome,) = running.run([job])
    assert outcome.verdict == "ok", outcome.message
    before, after = lessons.load(path), lessons.load(job.executed)
    (given,) = [cell for cell in after["cells"] if "injected-parameters" in lessons.tags(cell)]
    assert all(f"{name} = {value!r}" in given["source"].replace('"', "'") for name, value in job.values.items())
    assert pictures(after) == pictures(before)
    assert sum(bool(cell["outputs"]) for cell in lessons.code_cells(after)) > len(lessons.code_cells(after)) / 3
    assert not [output for cell in lessons.code_cells(after) for output in cell["outputs"]
                if output.get("name") == "stderr"]


def pictures(notebook: dict) -> int:
    """How many pictures the notebook shows."""
    return sum("image/png" in output.get("data", {}) for cell in lessons.code_cells(notebook)
               for output in cell["outputs"])
