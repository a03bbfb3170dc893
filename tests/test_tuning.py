"""Weights tuned on validation: which are tried, which is chosen, and who is told."""

import pandas as pd
import pytest

from mtlcourse import bench, figures, methods, runs

TINY = "relatedness(train=20, val=10, test=10)"



def test_a_grid_of_weights_has_equal_ones_and_one_sum():
    for problem, tasks, size in (("multidigits", 2, 5), ("relatedness", 3, 13), ("twins", 12, 49)):
        names = bench.weightings("hps(epochs=2)+pcgrad+fixed", problem)
        assert len(names) == len(set(map(methods.canonical, names))) == size
        for name in names:
            first, *others = methods.parse(name)
            weights = next(part.options for part in others if part.name == "fixed")
            assert str(first) == "hps(epochs=2)" and "pcgrad" in [part.name for part in others]
            assert len(weights) == tasks and sum(weights.values()) == pytest.approx(tasks, rel=1e-3)
        assert "fixed(" in names[0] and set(next(p for p in methods.parse(names[0]) if p.options and p.name == "fixed"
                                                 ).options.values()) == {1.0}


def test_weights_are_tuned_on_validation_and_all_of_a_grid_is_one_row(tmp_path):
    done = bench.sweep([TINY], ["stl", "hps"], [0, 1], budget="smoke", folder=tmp_path, tune="weights", progress=False)
    assert not done.failures
    tried = done.table[done.table["tuned"] == "hps+fixed"]
    assert tried["method"].nunique() == 13 and set(tried.groupby("method")["seed"].nunique()) == {2}
    best = runs.selected(done.table)
    chosen, = set(best["method"]) - {"stl", "hps"}
    measured = tried[tried["metric"] != "loss"]
    means = measured.pivot_table(index="method", columns=["task", "metric"], values="validation")
    sign = pd.Series({(t, m): 1 if h else -1 for t, m, h in zip(tried["task"], tried["metric"],
                                                                 tried["higher_is_better"], strict=True)})
    changes = (means - means.mean()) / means.mean().abs() * sign[means.columns]
    assert chosen == changes.T.groupby(level="task").mean().mean().idxmax()
    # Whatever the test split says: the choice stays.
    turned = done.table.assign(value=-done.table["value"], higher_is_better=done.table["higher_is_better"])
    assert set(runs.selected(turned)["method"]) == set(best["method"])

    note, = runs.tuning(best, done.table)
    assert "among 13, each with the same seeds" in note and chosen.partition("(")[2].rstrip(")") in note
    made, = figures.page.from_folder(tmp_path)
    assert set(made.frame["method"]) == {"hps", chosen} and note in made.notes
    made, = figures.page.from_folder(tmp_path, methods=["hps+fixed"])
    assert set(made.frame["method"]) == {chosen}
    before = sorted(path.name for path in tmp_path.iterdir())
    bench.sweep([TINY], ["stl", "hps"], [0, 1], budget="smoke", folder=tmp_path, tune="weights", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_weights_that_were_asked_for_one_by_one_are_rows_of_their_own(tmp_path):
    names = ["hps+fixed(sinc=2)", "hps+fixed(bent=2)"]
    done = bench.sweep([TINY], names, [0], budget="smoke", folder=tmp_path, progress=False)
    assert set(runs.selected(done.table)["method"]) == {methods.canonical(name) for name in names}
    assert "tuned" not in done.table and runs.tuning(done.table, done.table) == []


def test_weights_and_learning_rates_are_chosen_together(tmp_path):
    done = bench.sweep([TINY], ["hps+fixed"], [0], budget="smoke", folder=tmp_path, tune="weights", progress=False,
                       learning_rates=[1e-3, 1e-2])
    assert len(done.table.drop_duplicates(["method", "lr"])) == 26
    assert len(runs.selected(done.table).drop_duplicates(["method", "lr"])) == 1


@pytest.mark.parametrize("name, words", [("hps+fixed(sin=2)", "Unknown task 'sin'. Known: sinc"),
                                         ("hps+fixed(sinc=0, bent=0, square=0)", "All fixed weights are zero"),
                                         ("hps+pcd(primary=sin)", "PCD is not there. Unknown task 'sin'")])
def test_weights_of_unknown_tasks_are_told_before_anything_runs(name, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        bench.sweep([TINY], [name], [0], budget="smoke", folder=tmp_path, progress=False)
    done = bench.sweep([TINY], ["hps", name], [0], budget="smoke", folder=tmp_path, progress=False)
    assert set(done.table["method"]) == {"hps"} and words.split()[-1] in done.failures[0][1]


def test_what_cannot_be_tuned_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="Unknown thing to tune 'heads'. Known: weights"):
        bench.sweep([TINY], ["hps"], [0], budget="smoke", folder=tmp_path, tune="heads")
    with pytest.raises(ValueError, match="The weight of task 'sinc' is -1"):
        bench.sweep([TINY], ["hps+fixed(sinc=-1)"], [0], budget="smoke", folder=tmp_path)
