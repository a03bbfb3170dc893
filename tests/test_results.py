"""Stored tables belong to today's configurations, or give themselves away."""

from pathlib import Path

import pytest

from mtlcourse import results, runs

FOLDER = Path(__file__).parents[1] / "notebooks" / "results"


@pytest.mark.parametrize("name", results.definitions(FOLDER))
def test_stored_table_belongs_to_todays_configurations(name):
    assert not results.stale(name, FOLDER), f"{name}.csv is stale: run `make results`"


def test_every_table_is_defined():
    assert {path.stem for path in FOLDER.glob("*.csv")} == set(results.definitions(FOLDER))


SWEEP = '[[tiny]]\nproblems = ["relatedness"]\nmethods = ["hps"]\nseeds = [0]\nbudget = "{}"\n'


def test_refresh_writes_what_the_definition_asks_for(tmp_path):
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke"))
    assert results.stale("tiny", tmp_path)
    results.refresh("tiny", tmp_path, tmp_path / "runs", workers=1, progress=False)
    assert not results.stale("tiny", tmp_path)
    assert list(results.stored("tiny", tmp_path).columns) == runs.COLUMNS
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("fast"))
    assert results.stale("tiny", tmp_path)


def test_unknown_tables_are_named(tmp_path):
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke"))
    with pytest.raises(ValueError, match="Unknown stored table 'tinny'. Known: tiny"):
        results.refresh("tinny", tmp_path)
    with pytest.raises(ValueError, match="Unknown stored table 'nothing'"):
        results.stored("nothing", tmp_path)
