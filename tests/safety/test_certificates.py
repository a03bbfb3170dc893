"""Certificates of two trained networks: right at the boundary, never confidently wrong, and the same twice."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from mtlcourse import data, models
from mtlcourse.safety import certificate_of, certify
from mtlcourse.safety.certificates import COLUMNS
from mtlcourse.safety.scope import inflation
from mtlcourse.tasks import Task
from mtlcourse.training import evaluate
from mtlcourse.training.samples import per_sample
from tests.problems import pixels, small
from tests.safety.stored import NAN, Ratio, mean, pair, problem, samples

TWO, ONE = problem(), problem(data.classification("left", 10))
WRONG = 29  # of 300, each wrong with probability 0.05: hardly ever more


def row(certificate, task="left"):
    return certificate.frame.set_index("task").loc[task]


def of(own, other, where=ONE, **options):
    return certificate_of(own, other, where, **options)


def test_the_frame_has_the_promised_columns():
    found = of(*pair(40, 5, 1000), TWO)
    assert list(found.frame.columns) == COLUMNS == [
        "task", "measure", "n", "difference", "low", "high", "verdict", "method", "exact", "needed"]
    assert list(found.frame["task"]) == ["left", "right"]
    left = row(found)
    assert (left["measure"], left["n"], left["method"], left["exact"]) == ("accuracy", 1000, "binomial", True)
    assert left["difference"] == pytest.approx(0.035) and left["low"] < 0.035 < left["high"]
    assert found.verdict == left["verdict"] == "safe" and "1,000 samples of split 'test'" in found.scope
    assert all(word in str(found) for word in ("safe", "binomial", "certify_method"))
    assert "with confidence 95 % for the 2 rows together." in found.scope
    assert "with confidence 95 %." in of(*pair(40, 5, 1000)).scope  # one row is not together with others


@pytest.mark.parametrize(("gained", "lost"), [(5, 0), (4, 0), (30, 20), (32, 18), (20, 30), (2, 9), (1, 9), (0, 0)])
def test_at_margin_0_the_binomial_test_decides(gained, lost):
    """"safe" at delta; "unsafe", of two tasks, at half of it."""
    left = row(of(*pair(gained, lost, 500), TWO))
    better, worse = (binomtest(gained, gained + lost, alternative=side).pvalue if gained + lost else 1
                     for side in ("greater", "less"))
    assert left["verdict"] == ("safe" if better <= 0.05 else "unsafe" if worse <= 0.025 else "undecided")


def test_verdicts_are_read_off_the_bounds():
    for gained, lost in ((50, 5), (5, 50), (20, 25), (0, 0)):
        for margin in (0.0, 0.01, 0.2):
            left = row(of(*pair(gained, lost, 1000), margin=margin))
            expected = "safe" if left["low"] > -margin else "unsafe" if left["high"] < -margin else "undecided"
            assert left["verdict"] == expected
    left = row(of(*pair(5, 60, 1000), margin=0.01))
    assert (left["method"], row(of(*pair(5, 60, 1000)))["method"]) == ("betting", "binomial")
    assert left["verdict"] == "unsafe" and left["high"] < -0.01  # worse by more than the margin
    assert row(of(*pair(5, 60, 1000), margin=0.2))["verdict"] == "safe"
    assert row(of(*pair(5, 60, 1000), margin=0.055))["verdict"] == "undecided"


@pytest.mark.parametrize("bound", ["auto", "betting", "bernstein", "bootstrap"])
@pytest.mark.parametrize("measure", ["accuracy", "brier", "loss"])
def test_equal_networks_are_never_safe_at_margin_0(measure, bound):
    values = np.random.default_rng(0).uniform(0, 1, 4000)
    own = samples({"left": {measure: (values > 0.5) if measure == "accuracy" else values}})
    left = row(of(own, own, measures=[measure], bound=bound))
    assert left["verdict"] == "undecided" and left["low"] < 0 < left["high"]
    assert row(of(own, own, measures=[measure], bound=bound, margin=0.03))["verdict"] == (
        "undecided" if bound == "bootstrap" else "safe")  # which without a spread knows nothing


def boundary(kind, random):
    """Two networks that are equally good, exactly, on 60 samples."""
    if kind == "accuracy":
        both = random.choice(4, p=[0.1, 0.1, 0.4, 0.4], size=60)
        return [samples({"left": {"accuracy": values}}) for values in (np.isin(both, (0, 2)), np.isin(both, (1, 2)))]
    lost = np.where(random.random(60) < 0.02, 1.0, 0.0)  # rarely, and then all; three samples of ten have none
    return [samples({"left": {"brier": values}}) for values in (lost, np.full(60, 0.02))]


@pytest.mark.parametrize("kind", ["accuracy", "rare large losses"])
def test_at_the_boundary_it_is_wrong_at_most_as_often_as_it_says(kind):
    """Of 300 problems in which the networks are equally good; the bounds themselves are tested on 1,000, or exactly."""
    random, measures = np.random.default_rng(0), ["accuracy" if kind == "accuracy" else "brier"]
    verdicts = [of(*boundary(kind, random), measures=measures).verdict for _ in range(300)]
    assert verdicts.count("safe") <= WRONG and verdicts.count("unsafe") <= WRONG


def test_it_decides_where_there_is_something_to_decide():
    assert of(*pair(10, 40, 2000)).verdict == "unsafe" and of(*pair(40, 10, 2000)).verdict == "safe"
    random = np.random.default_rng(0)
    own, other = (samples({"left": {"brier": random.uniform(0, 0.2, 2000) + shift}}) for shift in (0.0, 0.02))
    assert of(own, other, measures=["brier"]).verdict == "safe"
    assert of(other, own, measures=["brier"]).verdict == "unsafe"


def test_safe_needs_every_task_and_unsafe_is_shared_among_them():
    """One task that is clearly worse makes the network unsafe, with as many tasks less clearly; others do not help."""
    tasks = [data.classification(f"t{i}", 3) for i in range(10)]
    rights = {f"t{i}": pair(*(0, 6) if i == 3 else (30, 0), 200, (f"t{i}",)) for i in range(10)}
    own, other = (samples({task: {"accuracy": both[k].rows[task]["accuracy"]} for task, both in rights.items()})
                  for k in (0, 1))
    assert of(own, other, problem(tasks[3])).verdict == "unsafe"
    whole = of(own, other, problem(*tasks))
    assert whole.verdict == "undecided" and list(whole.frame["verdict"]).count("safe") == 9
    clear = pair(0, 30, 200, ("t3",))
    own, other = (replace(kept, rows={**kept.rows, **new.rows}) for kept, new in zip((own, other), clear, strict=True))
    assert of(own, other, problem(*tasks)).verdict == "unsafe"
    alone, among = (row(of(own, other, problem(*chosen)), "t0") for chosen in (tasks[:1], tasks))
    assert alone["low"] == among["low"] and alone["high"] < among["high"]


def test_needed_says_what_would_decide():
    found = row(of(*pair(30, 24, 2000)))
    assert found["verdict"] == "undecided" and 2000 < found["needed"] < 40_000
    factor = math.ceil(found["needed"] / 2000)
    assert row(of(*pair(30 * factor, 24 * factor, 2000 * factor)))["verdict"] == "safe"
    assert row(of(*pair(30 * factor // 4, 24 * factor // 4, 2000 * factor // 4)))["verdict"] == "undecided"
    assert row(of(*pair(9, 9, 100)))["needed"] == math.inf and row(of(*pair(50, 0, 100)))["needed"] < 100


def test_more_of_the_same_samples_narrow_it():
    widths = [row(of(*pair(10 * k, 6 * k, 300 * k))).pipe(lambda left: left["high"] - left["low"]) for k in (1, 4, 16)]
    assert widths[0] > 1.7 * widths[1] > 1.7**2 * widths[2]


def test_exchanging_the_networks_exchanges_the_bounds():
    own, other = pair(30, 12, 500)
    random = np.random.default_rng(0)
    for kept in (own, other):
        kept.rows["left"]["brier"] = mean(random.uniform(0, 1, 500))
    for measure in ("accuracy", "brier"):
        first, second = (row(of(*both, measures=[measure])) for both in ((own, other), (other, own)))
        assert first["low"] == pytest.approx(-second["high"])
        assert first["difference"] == pytest.approx(-second["difference"])


def test_what_a_measure_is_decides_how_it_is_certified():
    random = np.random.default_rng(0)
    n, tasks = 200, [data.segmentation("parts", 3), data.regression("size", measures=("mse", "rmse", "mae"))]

    def rows():
        hits = random.integers(50, 100, n)
        return {"parts": {"miou": random.integers(0, 20, (n, 9)), "loss": random.uniform(0, 3, n),
                          "pixel_accuracy": np.stack([hits, np.full(n, 100)], 1)},
                "size": {name: random.exponential(size=n) for name in ("mse", "rmse", "mae", "loss")}}

    own, other = samples(rows()), samples(rows())
    every = ["miou", "pixel_accuracy", "mse", "rmse", "mae", "loss"]
    found = of(own, other, problem(*tasks), measures=every, draws=200)
    methods = found.frame.set_index(["task", "measure"])["method"].to_dict()
    assert methods == {("parts", "miou"): "bootstrap", ("parts", "pixel_accuracy"): "betting",
                       ("parts", "loss (clipped at 2.2)"): "betting", ("size", "mse"): "bootstrap",
                       ("size", "rmse"): "bootstrap", ("size", "mae"): "bootstrap", ("size", "loss"): "bootstrap"}
    assert (found.frame["exact"] == (found.frame["method"] == "betting")).all()
    assert "Not exact: miou, mse, rmse, mae, loss." in found.scope
    clipped = of(own, other, problem(tasks[1]), measures=["mse"], clip={"mse": 1.5})
    assert list(clipped.frame["measure"]) == ["mse (clipped at 1.5)"] and list(clipped.frame["method"]) == ["betting"]
    values = [np.minimum(kept.rows["size"]["mse"][:, 0], 1.5).mean() for kept in (own, other)]
    assert clipped.frame["difference"][0] == pytest.approx(values[1] - values[0])
    whole = of(own, other, problem(tasks[0]), measures=["loss"], clip={"loss": math.inf}, draws=200)
    assert list(whole.frame["measure"]) == ["loss"] and list(whole.frame["method"]) == ["bootstrap"]
    own.rows["parts"]["pixel_accuracy"][0, 1] = other.rows["parts"]["pixel_accuracy"][0, 1] = 300
    uneven = of(own, other, problem(tasks[0]), measures=["pixel_accuracy"], draws=200)
    assert list(uneven.frame["method"]) == ["bootstrap"]  # an image counts by its labelled pixels: a ratio of means


def test_differences_are_those_of_the_measures():
    """Whatever the measure, it is its value for the network less that for the baseline, positive where better."""
    random = np.random.default_rng(0)
    tasks = [data.binary("cat", measures=("accuracy", "auc", "f1")), data.segmentation("parts", 3), data.normals("up")]
    where = problem(*tasks)
    rows = [{task.name: {name: random.integers(1, 5, (60, factory().k)) for name, factory in task.metrics.items()
                         if factory().interval is None} for task in tasks} for _ in range(2)]
    own, other = map(samples, rows)
    found = of(own, other, where, draws=100)
    assert len(found.frame) == 4
    for line in found.frame.itertuples():
        metric = {task.name: task for task in tasks}[line.task].metrics[line.measure]()
        a, b = (metric.value(torch.from_numpy(kept.rows[line.task][line.measure].sum(0))) for kept in (own, other))
        assert line.difference == pytest.approx((a - b) * (1 if metric.higher_is_better else -1))
    assert "Not among what was kept, so not judged: accuracy of cat" in found.scope


def test_resampled_bounds_of_a_ratio_are_about_right():
    """F1 of two equally good networks, 80 data sets: about one of twenty is wrong on either side."""
    random, task = np.random.default_rng(0), data.binary("cat", measures=("f1",))
    signs = []
    for _ in range(80):
        truth = random.random(150) < 0.3
        both = []
        for _ in range(2):
            said = np.where(random.random(150) < 0.8, truth, ~truth)
            rows = np.stack([~truth & ~said, truth & said, ~said, said, ~truth, truth], 1)
            both.append(samples({"cat": {"f1": rows}}))
        found = row(of(*both, problem(task), draws=150), "cat")
        signs.append(int(found["low"] > 0) - int(found["high"] < 0))
    assert signs.count(1) <= 10 and signs.count(-1) <= 10 and signs.count(0) < 80


def test_resampling_decides_nothing_where_networks_hardly_differ():
    values = np.random.default_rng(0).exponential(size=1000)
    better = values.copy()
    better[:20] *= 0.1
    task = problem(data.regression("size", measures=("mse",)))
    own, other = (samples({"size": {"mse": kept}}) for kept in (better, values))
    found = row(of(own, other, task), "size")
    assert (found["verdict"], found["low"], found["high"]) == ("undecided", -math.inf, math.inf)
    better[:40] *= 0.1
    assert row(of(samples({"size": {"mse": better}}), other, task), "size")["verdict"] == "safe"


def test_the_same_twice_and_from_what_was_stored():
    where = small(("kind", "size"))
    own, other = (models.HPS(where).eval() for _ in range(2))
    torch.nn.init.normal_(next(other.parameters()))
    options = {"measures": ["accuracy", "brier", "mse"], "draws": 200}
    found, again = certify(own, other, where, **options), certify(own, other, where, **options)
    stored = certificate_of(per_sample(own, where), per_sample(other, where),
                            replace(where, train=None, val=None, test=None), **options)
    for other_one in (again, stored):
        assert found.frame.equals(other_one.frame)
        assert (found.verdict, found.scope) == (other_one.verdict, other_one.scope)
    accuracy = found.frame[found.frame["measure"] == "accuracy"]["difference"].item()
    values = [evaluate(model, where)["kind"]["accuracy"] for model in (own, other)]
    assert accuracy == pytest.approx(values[0] - values[1])
    assert "split 'val'" in certify(own, other, where, split="val", **options).scope


def test_dense_tasks():
    where = pixels(40)
    found = certify(models.HPS(where), models.STL(where), where, draws=100)
    assert set(found.frame["task"]) == {"bright", "depth", "mean"}
    assert found.frame.set_index("measure").loc["pixel_accuracy", "method"] == "betting"


def test_what_is_not_a_number_is_not_safe():
    whole, broken = (samples({"left": {"accuracy": np.array([1.0] * 49 + [last])}}) for last in (1.0, NAN))
    assert row(of(broken, whole))["verdict"] == of(broken, whole).verdict == "unsafe"
    assert row(of(whole, broken))["verdict"] == row(of(broken, broken))["verdict"] == "undecided"
    assert row(of(broken, whole))["method"] == "not a number" and math.isnan(row(of(broken, whole))["low"])
    lost, fine = (samples({"left": {"loss": np.array([0.1] * 49 + [last])}}) for last in (math.inf, 0.1))
    assert math.isfinite(row(of(lost, fine, measures=["loss"]))["low"])  # a clipped loss is a number
    assert row(of(lost, fine, measures=["loss"], clip={"loss": math.inf}))["verdict"] == "unsafe"


def test_samples_without_the_task_do_not_count():
    rights = {"left": {"accuracy": np.concatenate([mean([1] * 60 + [0] * 40), np.zeros((50, 2))])}}
    labelled = {"left": np.arange(150) < 100}
    own = samples(rights, labelled)
    assert row(of(own, own))["n"] == 100


def groups_of(n, columns, sources=50, seed=0):
    return {"*": np.random.default_rng(seed).integers(sources, size=(n, columns))}


def test_copies_of_samples_prove_no_more_than_the_samples():
    """With each sample eight times as a group of its own, the cluster bootstrap says what it says without copies."""
    random = np.random.default_rng(0)
    values = [random.uniform(0, 1, 200) + shift for shift in (0.0, 0.1)]
    once = [samples({"left": {"brier": own / 2}}, groups={"*": np.arange(200)[:, None]}) for own in values]
    often = [samples({"left": {"brier": np.repeat(own / 2, 8)}}, groups={"*": np.repeat(np.arange(200), 8)[:, None]})
             for own in values]
    for over in ("groups", "samples"):
        first, second = (row(of(*both, measures=["brier"], over=over, bound="auto")) for both in (once, often))
        alike = first["low"] == pytest.approx(second["low"]) and first["high"] == pytest.approx(second["high"])
        assert alike == (over == "groups")
    assert (second["method"], second["exact"]) == ("betting", True) and first["n"] == 200
    grouped = of(*often, measures=["brier"], over="groups")
    assert (row(grouped)["method"], row(grouped)["exact"]) == ("cluster bootstrap", False)
    assert "200 sources" in grouped.scope and "new sources" in grouped.scope
    assert "2.8 times as large" in of(*often, measures=["brier"]).scope  # the root of eight


def test_two_sources_widen_it_as_much_as_they_matter():
    random = np.random.default_rng(0)
    groups = groups_of(2000, 2, 100)
    effect = random.normal(size=100) * 0.1
    errors = (0.4 + effect[groups["*"]].sum(1) + random.normal(size=2000) * 0.05).clip(0, 1)
    own, other = (samples({"left": {"brier": values}}, groups=groups) for values in (errors, np.full(2000, 0.4)))
    by_samples, by_groups = (row(of(own, other, measures=["brier"], over=over, bound="bootstrap"))
                             for over in ("samples", "groups"))
    widths = [found["high"] - found["low"] for found in (by_samples, by_groups)]
    factor = inflation(errors - 0.4, groups["*"])
    assert factor > 3 and widths[1] / widths[0] == pytest.approx(factor, rel=0.2)
    noise = random.normal(size=2000)
    assert inflation(noise, groups["*"]) == pytest.approx(1, abs=0.2)
    assert math.isnan(inflation(np.ones(5), np.eye(5, 1, dtype=int)))


def loss_of(values, **options):
    return samples({"left": {"accuracy": np.ones(len(values)), "loss": values}}, **options)


FINE = np.linspace(0, 1, 40)


@pytest.mark.parametrize(("own", "other", "where", "options", "words"), [
    (loss_of(FINE), loss_of(FINE, content="abcdef"), ONE, {}, "hash of its data"),
    (loss_of(FINE), loss_of(FINE, content=None), ONE, {}, "hash of its data"),
    (loss_of(FINE), loss_of(FINE, split="val"), ONE, {}, "split 'test', its baseline on 'val'"),
    (loss_of(FINE, split="train"), loss_of(FINE, split="train"), ONE, {}, "trained on"),
    (loss_of(FINE), loss_of(FINE[:30]), ONE, {}, "other labelled samples"),
    (loss_of(FINE), loss_of(FINE), TWO, {}, "'right' has no labelled sample"),
    (*[loss_of(FINE, labelled={"left": np.zeros(40, bool)})] * 2, ONE, {}, "no labelled sample"),
    (loss_of(FINE), loss_of(FINE), ONE, {"measures": ["acuracy"]}, "No task has a measure 'acuracy'"),
    (loss_of(FINE), loss_of(FINE), ONE, {"measures": "loss"}, r"give a list, such as \['loss'\]"),
    (loss_of(FINE), loss_of(FINE), ONE, {"measures": []}, "none of the measures"),
    (loss_of(FINE), loss_of(FINE), ONE, {"measures": ["loss"], "clip": {"loss": math.inf}, "bound": "betting"},
     "no bound by betting"),
    (loss_of(FINE), loss_of(FINE), ONE, {"measures": ["loss"], "clip": {"loss": math.inf}, "bound": "bernstein"},
     "no bound by bernstein"),
    (loss_of(FINE), loss_of(FINE), ONE, {"clip": {"accuracy": 0.5}}, "only a mean of errors or losses"),
    (loss_of(FINE), loss_of(FINE), ONE, {"measures": ["loss"], "clip": {"loss": 0.0}}, "only above 0"),
    (loss_of(FINE), loss_of(FINE), ONE, {"clip": {"lost": 1.0}}, "No task has a measure 'lost'"),
    (loss_of(FINE), loss_of(FINE), ONE, {"delta": 0.0}, "delta=0.0"),
    (loss_of(FINE), loss_of(FINE), ONE, {"delta": 0.5}, "delta=0.5"),
    (loss_of(FINE), loss_of(FINE), ONE, {"margin": -0.1}, "margin=-0.1"),
    (loss_of(FINE), loss_of(FINE), ONE, {"margin": NAN}, "margin=nan"),
    (loss_of(FINE), loss_of(FINE), ONE, {"margin": {"loss": 0.1}}, "not certified"),
    (loss_of(FINE), loss_of(FINE), ONE, {"bound": "hoeffding"}, "bound='hoeffding' is not known"),
    (loss_of(FINE), loss_of(FINE), ONE, {"over": "digits"}, "over='digits' is not known"),
    (loss_of(FINE), loss_of(FINE), ONE, {"over": "groups"}, "does not know from which sources"),
    (loss_of(FINE), loss_of(FINE), ONE, {"over": "groups", "bound": "betting"}, "takes samples to be independent"),
    (loss_of(FINE), loss_of(FINE), ONE, {"draws": 3}, "draws=3"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_compared_is_refused(own, other, where, options, words):
    with pytest.raises(ValueError, match=words):
        certificate_of(own, other, where, **options)


def test_margins_by_measure():
    own, other = pair(0, 20, 2000, ("left",))
    for kept in (own, other):
        kept.rows["left"]["loss"] = np.zeros((2000, 1))
    found = of(own, other, measures=["accuracy", "loss"], margin={"accuracy": 0.05})
    assert list(found.frame["verdict"]) == ["safe", "undecided"]
    assert "at most 0.05 (accuracy), 0 (loss)" in found.scope and "at most 0.05," in of(own, other, margin=0.05).scope


def test_a_measure_that_is_no_mean_although_it_says_so_is_refused():
    task = Task("size", data.regression("size").loss, {"ratio": Ratio}, 1, kind="regression")
    own = samples({"size": {"ratio": FINE}})
    with pytest.raises(ValueError, match="not a mean of values"):
        of(own, own, problem(task))
    beyond = samples({"left": {"brier": FINE * 3}})
    with pytest.raises(ValueError, match="not a mean of values"):
        of(beyond, beyond, measures=["brier"])


def test_few_samples_are_undecided():
    for n in (1, 2, 4):
        assert of(*pair(n, 0, n)).verdict == of(*pair(0, n, n)).verdict == "undecided"
        own, other = (samples({"left": {"brier": np.full(n, value)}}) for value in (0.0, 1.0))
        for bound in ("bernstein", "bootstrap"):
            assert of(own, other, measures=["brier"], bound=bound).verdict == "undecided"
