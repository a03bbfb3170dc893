"""Stored tables belong to today's configurations, or give themselves away."""

from pathlib import Path

import pandas as pd
import pytest

from mtlcourse import bench, runs
from mtlcourse.course import results

FOLDER = Path(__file__).parents[2] / "notebooks" / "results"


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


def test_refresh_runs_only_what_is_not_stored(tmp_path, monkeypatch):
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke").replace('"hps"', '"hps", "conal"'))
    results.refresh("tiny", tmp_path, tmp_path / "runs", workers=1, progress=False)
    before, learned = results.stored("tiny", tmp_path), results.learned("tiny", tmp_path)
    ran = []
    monkeypatch.setattr(results, "complete", lambda configs, **rest: ran.extend(
        config["method"] for config in configs) or bench.complete(configs, **rest))
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke").replace('"hps"', '"stl", "conal", "hps"'))
    results.refresh("tiny", tmp_path, tmp_path / "elsewhere", workers=1, progress=False)
    after = results.stored("tiny", tmp_path)
    assert ran == ["stl"]
    assert after["method"].drop_duplicates().tolist() == ["stl", "conal", "hps"]  # the order of the definition
    for method in ("hps", "conal"):
        pd.testing.assert_frame_equal(after[after["method"] == method].reset_index(drop=True),
                                      before[before["method"] == method].reset_index(drop=True))
    pd.testing.assert_frame_equal(results.learned("tiny", tmp_path), learned)
    results.refresh("tiny", tmp_path, tmp_path / "third", workers=1, again=["conal"], progress=False)
    assert ran == ["stl", "conal"] and not results.stale("tiny", tmp_path)


def test_a_run_that_another_table_holds_is_not_run_again(tmp_path, monkeypatch):
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke").replace('"hps"', '"conal"'))
    results.refresh("tiny", tmp_path, tmp_path / "runs", workers=1, progress=False)
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke").replace('"hps"', '"conal"')
                                          + SWEEP.format("smoke").replace('"hps"', '"conal"').replace("tiny", "other"))
    monkeypatch.setattr(bench, "one_run", lambda *a, **k: pytest.fail("it was run again"))
    results.refresh("other", tmp_path, tmp_path / "elsewhere", workers=1, progress=False)
    pd.testing.assert_frame_equal(results.stored("other", tmp_path), results.stored("tiny", tmp_path))
    pd.testing.assert_frame_equal(results.learned("other", tmp_path), results.learned("tiny", tmp_path))


def test_what_many_runs_lack_is_said_once(tmp_path):
    asked = SWEEP.format("smoke").replace('"relatedness"', '"xtreme(folder=nowhere, net=window)"')
    (tmp_path / "sweeps.toml").write_text(asked.replace("[0]", "[0, 1, 2]"))
    with pytest.raises(RuntimeError, match="3 runs of tiny failed") as said:
        results.refresh("tiny", tmp_path, tmp_path / "runs", workers=1, progress=False)
    assert str(said.value).count("There is no train split of") == 1 and results.stale("tiny", tmp_path)


def test_tuned_weights_stand_in_the_table_as_tries_for_one_method(tmp_path):
    tried = bench.weightings("hps+fixed", "relatedness")
    tuned = SWEEP.format("smoke").replace('"hps"', '"hps+fixed"') + 'tune = "weights"\n'
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke") + tuned)
    results.refresh("tiny", tmp_path, tmp_path / "runs", workers=1, progress=False)
    table = results.stored("tiny", tmp_path)
    assert not results.stale("tiny", tmp_path)
    assert table["method"].drop_duplicates().tolist() == ["hps", *tried]
    assert set(table.loc[table["method"] == "hps", "tuned"]) == {""}
    assert set(table.loc[table["method"] != "hps", "tuned"]) == {"hps+fixed"}
    kept = runs.selected(table)["method"].unique()
    assert len(kept) == 2 and kept[0] == "hps" and kept[1] in tried
    (tmp_path / "sweeps.toml").write_text(tuned.replace('"weights"', '"wheights"'))
    with pytest.raises(ValueError, match="Unknown thing to tune in tiny 'wheights'. Known: weights"):
        results.wanted("tiny", tmp_path)


def test_a_table_of_another_machine_or_of_older_columns_is_not_stale(tmp_path):
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke"))
    table = results.refresh("tiny", tmp_path, tmp_path / "runs", workers=1, progress=False)
    assert set(table["capability"]) == {runs.capability()}
    table.assign(capability="another").drop(columns=["steps", "falling"]).to_csv(tmp_path / "tiny.csv", index=False)
    assert not results.stale("tiny", tmp_path)


def test_unknown_tables_are_named(tmp_path):
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke"))
    with pytest.raises(ValueError, match="Unknown stored table 'tinny'. Known: tiny"):
        results.refresh("tinny", tmp_path)
    with pytest.raises(ValueError, match="Unknown stored table 'nothing'"):
        results.stored("nothing", tmp_path)


def test_what_searches_learned_is_stored_beside_the_table(tmp_path):
    (tmp_path / "sweeps.toml").write_text(SWEEP.format("smoke").replace('"hps"', '"hps", "conal"'))
    results.refresh("tiny", tmp_path, tmp_path / "runs", workers=1, progress=False)
    found = results.learned("tiny", tmp_path)
    assert found["method"].tolist() == ["conal"]  # hard sharing learns no architecture
    run = runs.load(tmp_path / "runs" / found["configuration"][0])
    assert found["learned"][0] == run.learned
    searched = run.history[(run.history["stage"] == "search") & (run.history["split"] == "test")]
    assert len(searched) == sum(map(len, found["relaxed"][0]["search"].values()))
    for row in searched.itertuples():
        assert found["relaxed"][0]["search"][row.task][row.name] == pytest.approx(row.value, rel=1e-4)
    rates = run.history[(run.history["name"] == "conflict_rate") & (run.history["stage"] == "search")]
    assert found["conflicts"][0]["search"] == pytest.approx(rates.groupby("task")["value"].mean().to_dict(), rel=1e-4)
    with pytest.raises(ValueError, match="Unknown table of what was learned 'tinny'. Known: tiny"):
        results.learned("tinny", tmp_path)


@pytest.mark.parametrize("path", sorted((FOLDER / "learned").glob("*.csv")), ids=lambda path: path.stem)
def test_what_was_learned_belongs_to_the_table(path):
    assert set(results.learned(path.stem, FOLDER)["configuration"]) <= results.expected(path.stem, FOLDER)
