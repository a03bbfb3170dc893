"""`darts`, `e2rnas` and their kin by name: what is found, what is refused, resumption and comparison."""

import json
from dataclasses import replace

import pytest
import torch

from mtlcourse import bench, data, methods, runs, safety
from mtlcourse.search.cells.genotype import CellSpace, Genotype
from mtlcourse.search.cells.network import CellNetwork
from mtlcourse.search.cells.objectives import OBJECTIVES
from mtlcourse.search.cells.resources import Resources, size_conflict
from mtlcourse.search.cells.sizes import CellSearch
from tests.interrupted import cut_off
from tests.problems import pixels, small
from tests.search.cells.images import TINY, images

LOT = TINY.removesuffix(", order=first")
QUICK = {"darts": f"darts({TINY}, retrain=1)", "e2rnas": f"e2rnas({TINY}, retrain=1)",
         "p-darts": f"p-darts({LOT}, order=first, retrain=1, stages=(2, 3, 4))",
         "pc-darts": f"pc-darts({TINY}, retrain=1)", "random-cells": f"random-cells({LOT}, retrain=1)"}


def train(name: str, problem=None, **options):
    return methods.run(name, images() if problem is None else problem, progress=False, device="cpu", **options)


@pytest.fixture(scope="module")
def found():
    """One run of each method, with probes."""
    return {name: train(full, images(probes=True)) for name, full in QUICK.items()}


# --- what a run says ------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", QUICK)
def test_what_was_found_is_in_the_run(found, name):
    run = found[name]
    learned = json.loads(json.dumps(run.learned))
    genotype = Genotype.from_dict(learned["genotype"])
    problem = images()
    space = CellSpace(1)
    space.check(genotype)
    assert isinstance(run.model, CellNetwork) and run.model.genotype == genotype
    assert learned["derived"] == {"parameters": run.metrics["row"]["parameters"],
                                  "multiply_adds": run.metrics["row"]["multiply_adds"]}
    resources = Resources.of(problem, space, 3, 2)
    assert list(learned["derived"].values()) == list(resources.counts(genotype))
    assert list(map(tuple, learned["reachable"].values())) == list(resources.reachable())
    stages = {"random-cells": ["train"], "p-darts": ["search_1", "search_2", "search_3", "retrain"]}
    assert run.stages == stages.get(name, ["search", "retrain"])
    assert set(run.metrics["row"]) == {"accuracy", "loss", "pgd_accuracy", "ood_aupr", "parameters", "multiply_adds"}
    searching = run.history[run.history["stage"].str.startswith("search")]
    assert "pgd_accuracy" not in set(searching["name"]), "attacks are for the derived network"


def test_e2rnas_says_what_it_weighed(found):
    learned = found["e2rnas"].learned
    for which in ("first", "mean", "last"):
        assert list(learned["upper_weight"][which]) == list(OBJECTIVES)
        assert sum(learned["upper_weight"][which].values()) == pytest.approx(1)
    problem = images()
    torch.manual_seed(0)
    model = CellSearch(problem, cells=3, channels=2, nodes=1, derived_cells=3, derived_channels=2)
    resources = model.resources(problem)
    least, most = resources.reachable()[0]
    assert learned["wanted"]["parameters"] == pytest.approx(least + 0.3 * (most - least))
    assert -1 <= learned["size_conflict"] <= 1
    contrary = size_conflict(resources, model.alphas(), float(most), float(resources.reachable()[1][0]))
    assert contrary < -0.5, "L at the most and F at the least contradict each other"


def test_alphas_say_the_genotype(found):
    for name in ("darts", "e2rnas"):
        learned = found[name].learned
        logs = [torch.tensor(learned["alphas"][kind]).log() for kind in ("normal", "reduction")]
        assert CellSpace(1).genotype(logs).to_dict() == learned["genotype"]


def test_searches_and_lots_train_as_long():
    """Each epoch of a search is half an epoch's steps of retraining."""
    problem = replace(images(train=64), training={"fast": {"epochs": 2, "batch_size": 8}})
    search, lot = (train(name, problem) for name in (f"darts({TINY}, retrain=2)", f"random-cells({LOT}, retrain=2.5)"))
    assert search.cost["steps"] == 2 * 4 + 4 * 8 == lot.cost["steps"] == 5 * 8


def test_random_cells_are_near_to_what_is_wanted():
    problem = images()
    resources = CellSearch(problem, cells=3, channels=2, nodes=1, derived_cells=3,
                           derived_channels=2).resources(problem)
    (least, most), _ = resources.reachable()
    for L in (least, most):
        learned = train(f"random-cells({LOT}, retrain=1, L={L}, draws=200)").learned
        assert abs(learned["derived"]["parameters"] - L) < 0.1 * (most - least)
    any_one = [train(f"random-cells({LOT}, retrain=1, draws=1)", seed=seed).learned["genotype"] for seed in (0, 0, 1)]
    assert any_one[0] == any_one[1] != any_one[2]


def test_progressive_search_grows_drops_and_limits_skips(monkeypatch):
    seen = []
    build = CellSearch.__init__

    def noting(self, *arguments, **options):
        build(self, *arguments, **options)
        if isinstance(self, CellSearch):
            seen.append((len(self.cells), int((~self.dropped_normal).sum(1).max()), self.skip_dropout))

    monkeypatch.setattr(CellSearch, "__init__", noting)
    run = train(QUICK["p-darts"])
    assert seen[-3:] == [(3, 8, 0.0), (3, 5, 0.4), (4, 3, 0.7)]
    skips = sum(operation == "skip_connect" for node in run.model.genotype.normal for operation, _ in node)
    assert skips <= 2


def test_partial_channels_have_weights_of_edges():
    model = methods.build(QUICK["pc-darts"], images())
    assert model.partial == 2 and len(model.architecture_parameters()) == 4
    on = methods.build(f"e2rnas({TINY}, on=pc-darts)", images())
    assert on.partial == 2 and on.on == "pc-darts"
    assert train(f"e2rnas({TINY}, on=pc-darts, retrain=1)").learned["upper_weight"]["mean"]


def test_five_objectives_on_progressive_search():
    run = train(f"e2rnas({LOT}, order=first, retrain=1, on=p-darts, stages=(2, 3, 4))")
    assert run.stages == ["search_1", "search_2", "search_3", "retrain"]
    rows = run.history[run.history["task"] == "upper_weight"]
    assert list(dict.fromkeys(rows["stage"])) == run.stages[:3]
    assert rows.groupby(["stage", "epoch"])["value"].sum().tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("options", ["combine=equal", "combine=exact, normalise=l2", "lower=none", "lower=adversarial",
                                     "attack=pgd", "units=millions", "units=(100, 1000)", "weights_first=False",
                                     "epsilon=0", "L=900, F=15000"])
def test_options_change_the_search(options, found):
    run = train(f"e2rnas({TINY}, retrain=1, {options})")
    assert run.learned["upper_loss"] != found["e2rnas"].learned["upper_loss"] or \
        run.learned["upper_weight"] != found["e2rnas"].learned["upper_weight"]


# --- again, and interrupted -----------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "at"), [("darts", 2), ("e2rnas", 3), ("e2rnas", 8), ("pc-darts", 2)])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(tmp_path, monkeypatch, name, at):
    problem = replace(images(train=32), training={"fast": {"epochs": 2, "batch_size": 8}})
    whole = train(QUICK[name], problem)
    with monkeypatch.context() as patch:
        cut_off(CellSearch if at < 5 else CellNetwork, patch, at if at < 5 else 3)
        with pytest.raises(KeyboardInterrupt):
            train(QUICK[name], problem, checkpoint=tmp_path / "state")
        run = train(QUICK[name], problem, checkpoint=tmp_path / "state")
    ends = [one.model.state_dict() for one in (whole, run)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert run.learned == whole.learned and run.metrics == whole.metrics


def test_bfloat16():
    run = train(QUICK["e2rnas"], precision="bfloat16")
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert sum(run.learned["upper_weight"]["last"].values()) == pytest.approx(1)


def test_bench_and_report_compare_all_that_is_measured(tmp_path):
    problem = "tests.search.cells.test_procedures:probed"
    names = [QUICK["darts"], QUICK["random-cells"]]
    done = bench.sweep([problem], names, [0, 1, 2], budget="smoke", folder=tmp_path, progress=False)
    assert not done.failures
    assert set(done.table["metric"]) == {"accuracy", "loss", "pgd_accuracy", "ood_aupr", "parameters", "multiply_adds"}
    directions = done.table.groupby("metric")["higher_is_better"].first()
    assert directions["pgd_accuracy"] and not directions["parameters"]
    by_name = {runs.canonical(name): done.table[done.table["method"] == runs.canonical(name)] for name in names}
    first, other = by_name
    report = safety.report({other: by_name[other]}, baseline=by_name[first])
    assert {"pgd_accuracy", "ood_aupr", "parameters"} <= set(report.to_frame()["metric"])


def probed():
    return images(probes=True)


# --- bad input ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("options", "message"), [
    ("L=1", "L=1 parameters are out of reach: networks of this space have"),
    ("L=10000000", "L=10,000,000 parameters are out of reach: networks of this space have"),
    ("F=1", "F=1 multiply-adds are out of reach: networks of this space have"),
    ("L=-5", "L=-5 is not a number from 0 upwards"),
    ("epsilon=-0.1", "epsilon=-0.1 is the radius of a ball"),
    ("units=grams", "Unknown unit 'grams'"),
    ("units=(1, 0)", "give one of relative, millions, thousands, or two positive numbers"),
    ("combine=sum", "Unknown way to combine 'sum'"),
    ("combine=equal, normalise=l2", "combine='equal' has one fifth each"),
    ("lower=both", "Unknown loss of the lower level 'both'"),
    ("attack=cw", "Unknown attack 'cw'"),
    ("weights_first=1", "weights_first=1 is neither True nor False"),
    ("retrain=0", "retrain=0 is no multiple of the budget's epochs"),
    ("architecture_lr=-1", "architecture_lr=-1 is not a number"),
    ("sizes=huge", "Unknown sizes 'huge'"),
    ("on=enas", "Unknown search to build on 'enas'"),
])
def test_what_cannot_be_searched_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        train(f"e2rnas(cells=3, channels=2, nodes=1, derived_cells=3, derived_channels=2, {options})")


@pytest.mark.parametrize(("problem", "message"), [
    (lambda: replace(images(), outside={}), r"has no samples from elsewhere for \['upper', 'lower'\]"),
    (lambda: replace(images(), outside={"upper": torch.rand(4, 1, 8, 8)}), r"elsewhere for \['lower'\]"),
    (pixels, "has no task that names one of several classes|predict every pixel"),
    (small, "Cells need images"),
])
def test_problems_without_what_it_takes_are_refused(problem, message):
    with pytest.raises(ValueError, match=message):
        train(QUICK["e2rnas"], problem())


def test_an_outside_set_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"'upper' has shape \(4, 1, 9, 9\), expected \(samples, 1, 8, 8\)"):
        replace(images(), outside={"upper": torch.rand(4, 1, 9, 9)})


def test_a_genotype_of_another_space_is_refused():
    problem = images()
    two = Genotype(*[[[("skip_connect", 0), ("skip_connect", 1)]] * 2] * 2)
    with pytest.raises(ValueError, match="genotype's normal cell has 2 nodes"):
        CellSearch(problem, cells=3, channels=2, nodes=1).resources(problem).counts(two)


def test_draws_are_a_whole_number():
    with pytest.raises(ValueError, match="draws=0 must be a whole number"):
        train(f"random-cells({LOT}, draws=0)")


def test_the_course_has_the_problem_and_the_sizes_by_default():
    problem = data.describe("robust_digits")
    model = methods.build("e2rnas", problem)
    assert (len(model.cells), model.space.nodes) == (3, 2) and model.resources(problem).reachable()[0][0] > 1000
    printed = CellSearch.__init__.__doc__, methods.count_parameters("e2rnas(sizes=paper)", "robust_digits")
    assert printed[1] > 1_000_000
