"""A class gets the lessons as they are before anybody worked: nothing of outputs, solutions or answers is in them."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mtlcourse import cli
from mtlcourse.course import handout, lessons
from tests.notebooks.lint import _resolves

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return handout.write(NOTEBOOKS, tmp_path_factory.mktemp("class") / "lessons")


def test_every_lesson_is_there_and_runs_the_same_code(written: list[Path]):
    assert [path.name for path in written] == [path.name for path in lessons.find(NOTEBOOKS)]
    for path in written:
        before, after = lessons.load(NOTEBOOKS / path.name), lessons.load(path)
        assert [c["source"] for c in lessons.code_cells(after)] == [c["source"] for c in lessons.code_cells(before)]
        assert [lessons.tags(c) for c in after["cells"]] == [lessons.tags(c) for c in before["cells"]]
        assert lessons.read(path).goals == lessons.read(NOTEBOOKS / path.name).goals


def test_nothing_was_worked_out(written: list[Path]):
    for path in written:
        notebook = lessons.load(path)
        assert not any(cell["outputs"] or cell["execution_count"] for cell in lessons.code_cells(notebook))
        assert not any("mtlcourse" in cell["metadata"] for cell in notebook["cells"])
        text = path.read_text(encoding="utf-8")
        for left in ("<summary>Answer", "<summary>What to expect", "solutions/"):
            assert left not in text, f"{path.name} still has {left}"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Lessons 02 and 14 alone."""
    return handout.write(NOTEBOOKS, tmp_path_factory.mktemp("two") / "lessons", ["02", "14_branching"])


def test_part_of_the_course_brings_the_results_that_it_reads_and_no_others(two: list[Path], tmp_path: Path):
    folder = two[0].parent
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "02_safe_multi_task_learning.ipynb", "14_branching.ipynb", "README.md", "results/01_negative_sharing.csv",
        "results/14_branching.csv", "results/learned/14_branching.csv"}
    alone = handout.write(NOTEBOOKS, tmp_path / "alone", ["90"])[0].parent
    assert not (alone / "results").exists()


@pytest.mark.parametrize("path", lessons.find(NOTEBOOKS), ids=lambda path: path.stem)
def test_a_lesson_alone_finds_every_table_that_it_asks_for(path: Path, tmp_path: Path):
    (made,) = handout.write(NOTEBOOKS, tmp_path / "alone", [path.stem])
    for kind, name in re.findall(r"results\.(stored|learned)\(\"(\w+)\"", made.read_text().replace('\\"', '"')):
        assert (made.parent / "results" / ("learned" * (kind == "learned")) / f"{name}.csv").exists(), name


def test_no_link_leads_nowhere(written: list[Path], two: list[Path]):
    last = [lessons.load(path)["cells"][-1]["source"] for path in (written[1], two[0])]
    assert "[Safe multi-task learning](02_safe_multi_task_learning.ipynb)" in last[0]
    assert "**Previous:** Two tasks, one network" in last[1]
    for path in [*written, *two]:
        prose = "\n".join(c["source"] for c in lessons.load(path)["cells"] if c["cell_type"] == "markdown")
        dead = [target for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose) if not _resolves(path, target)]
        assert not dead, f"{path.name}: {dead}"


def test_what_lessons_read_is_there_and_nothing_that_made_it(written: list[Path]):
    folder = written[0].parent
    stored = {path.relative_to(NOTEBOOKS) for path in (NOTEBOOKS / "results").rglob("*.csv")}
    assert stored and {path.relative_to(folder) for path in folder.rglob("*.csv")} == stored
    assert not list(folder.rglob("*.py")) and not (folder / "solutions").exists()
    assert f"[{lessons.read(written[0]).title}](00_start_here.ipynb)" in (folder / "README.md").read_text()


def test_work_is_never_written_over(tmp_path: Path):
    options = ["course", "--notebooks", str(NOTEBOOKS), "--only", "00", "--student", str(tmp_path / "class")]
    done = CliRunner().invoke(cli.main, options)
    assert done.exit_code == 0 and done.output.startswith("1 lessons for a class")
    before = sorted(path.name for path in (tmp_path / "class").iterdir())
    assert before == ["00_start_here.ipynb", "README.md"]
    done = CliRunner().invoke(cli.main, options)
    assert done.exit_code == 1 and "somebody may have worked in it" in done.stderr
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="not an empty folder"):
        handout.write(NOTEBOOKS, tmp_path / "file")
    with pytest.raises(ValueError, match="Unknown notebook '77'"):
        handout.write(NOTEBOOKS, tmp_path / "other", ["77"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("options", [["--student", "a", "--grade", "."], ["--student", "a", "--fresh"],
                                     ["--grade", ".", "--diff"], ["--student", "a", "--parameter", "seed=1"]])
def test_options_that_would_do_nothing_are_refused(options: list[str]):
    done = CliRunner().invoke(cli.main, ["course", *options])
    assert done.exit_code == 2 and "With --student go" in done.stderr
