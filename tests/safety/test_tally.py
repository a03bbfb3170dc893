"""How many networks are certainly safe: counted from certificates of stored samples, and said in words."""

from dataclasses import replace

import numpy as np
import pytest

from mtlcourse import data, safety
from mtlcourse.safety import words
from mtlcourse.training import Samples

PROBLEM = data.describe("multidigits")
N = 2_000


def network(left: float, right: float, seed: int, groups=None, **changes) -> Samples:
    """One that is right on these shares of samples; those of one seed agree where they can."""
    place = np.random.default_rng(seed).random((2, N))
    rows = {task: {"accuracy": np.stack([own < share, np.ones(N)], 1).astype(float)}
            for task, own, share in zip(("left", "right"), place, (left, right), strict=True)}
    return Samples(**{"split": "test", "data": "abc", "rows": rows, "labelled": {t: np.ones(N, bool) for t in rows},
                      "groups": groups, **changes})


ALONE = {seed: network(0.8, 0.8, seed) for seed in range(4)}
WORSE = {seed: network(0.8 - 0.01 * seed, 0.9, seed) for seed in range(4)}
METHODS = {"stl": ALONE, "hps": WORSE, "better": {seed: network(0.9, 0.9, seed) for seed in range(4)}}


def test_networks_are_counted_as_their_certificates_say():
    made = safety.tally(METHODS, "stl", PROBLEM, margin=0.005)
    for method, networks in (("hps", WORSE), ("better", METHODS["better"])):
        each = [safety.certificate_of(networks[s], ALONE[s], PROBLEM, margin=0.005) for s in range(4)]
        mean = safety.certify_method(list(networks.values()), list(ALONE.values()), PROBLEM, margin=0.005)
        row = made.networks.loc[method]
        assert [row["safe"], row["unsafe"], row["undecided"]] == [
            [c.verdict for c in each].count(v) for v in ("safe", "unsafe", "undecided")] and row["seeds"] == 4
        assert row["verdict"] == mean.verdict
        for number, own in enumerate(made.frame[made.frame["method"] == method].itertuples()):
            column = [c.frame.iloc[number] for c in each]
            assert (own.task, own.metric, own.seeds) == (column[0]["task"], "accuracy", 4)
            assert [own.safe, own.unsafe, own.undecided] == [
                [c["verdict"] for c in column].count(v) for v in ("safe", "unsafe", "undecided")]
            assert own.low == min(c["low"] for c in column)
            assert own.difference == pytest.approx(np.mean([c["difference"] for c in column]))
            row = mean.frame.iloc[number]
            assert (own.mean_low, own.mean_high, own.mean_verdict) == (row["low"], row["high"], row["verdict"])
    assert made.networks.loc["better", "safe"] == 4 and made.networks.loc["hps", "unsafe"] == 2
    assert made.scope == safety.certificate_of(WORSE[0], ALONE[0], PROBLEM, margin=0.005).scope and not made.notes


def test_seeds_without_samples_are_left_out_and_named():
    made = safety.tally({**METHODS, "hps": {**WORSE, 2: None}}, "stl", PROBLEM)
    assert made.networks["seeds"].to_dict() == {"hps": 3, "better": 4}
    assert len(made.notes) == 1 and "No certificates for hps (seed 2): these runs, or those of stl" in made.notes[0]
    nobody = safety.tally({**METHODS, "stl": dict.fromkeys(range(4))}, "stl", PROBLEM)
    assert nobody.frame.empty and nobody.networks.empty and nobody.scope is None
    assert "hps (seeds 0, 1, 2, 3); better (seeds 0, 1, 2, 3)" in nobody.notes[0]


def test_a_method_that_cannot_be_certified_does_not_hide_the_others():
    other = {seed: replace(samples, data="other") for seed, samples in WORSE.items()}
    made = safety.tally({**METHODS, "hps": other}, "stl", PROBLEM)
    assert list(made.networks.index) == ["better"] and set(made.frame["method"]) == {"better"}
    assert made.notes[0].startswith("No certificates for hps: The two networks cannot be compared: the hash of")


def test_a_network_that_is_no_number_is_unsafe():
    lost = network(0.9, 0.9, 1)
    lost.rows["left"]["accuracy"][7] = np.nan
    made = safety.tally({"stl": ALONE, "m": {**METHODS["better"], 1: lost}}, "stl", PROBLEM)
    assert made.networks.loc["m", "unsafe"] == 1 and made.networks.loc["m", "verdict"] == "unsafe"
    left = made.frame.iloc[0]
    assert np.isnan(left["low"]) and left["bound"] == "binomial, not a number" and left["mean_verdict"] == "unsafe"


def test_settings_are_passed_on():
    strict, wide = (safety.tally(METHODS, "stl", PROBLEM, margin={"accuracy": m, "miou": 9.0}) for m in (0.0, 0.1))
    assert strict.networks.loc["hps", "safe"] == 0 and wide.networks.loc["hps", "safe"] == 4
    assert (safety.tally(METHODS, "stl", PROBLEM, delta=0.2).frame["low"] > strict.frame["low"]).all()
    none = safety.tally(METHODS, "stl", PROBLEM, over="groups")
    assert none.frame.empty and "does not know from which sources" in none.notes[0]
    pairs = {"*": np.random.default_rng(0).integers(0, 200, (N, 2))}
    grouped = {method: {seed: replace(own, groups=pairs) for seed, own in networks.items()}
               for method, networks in METHODS.items()}
    assert set(safety.tally(grouped, "stl", PROBLEM, over="groups").frame["bound"]) == {"cluster bootstrap"}


@pytest.fixture(scope="module")
def report() -> safety.SafetyReport:
    from tests.safety.test_report import run

    def runs(networks):
        return [run({task: {"accuracy": own["accuracy"][:, 0].mean(), "loss": 1.0} for task, own in s.rows.items()},
                    seed, higher_is_better={"left": {"accuracy": True}, "right": {"accuracy": True}})
                for seed, s in networks.items()]

    made = safety.report({"hps": runs(WORSE), "better": runs(METHODS["better"])}, runs(ALONE))
    made.baseline = "stl"
    made.certificates = safety.tally(METHODS, "stl", PROBLEM)
    return made


def test_the_report_says_it_in_words(report):
    text = report.to_markdown()
    assert "- **better**: of 4 networks 4 certainly safe, 0 unsafe, 0 undecided. The mean over new seeds" in text
    assert "8 pairs of trained networks, each stl's and a method's" in text and "so of 8 pairs about 0.4 may be" in text
    assert "The first of them in full: Two trained networks, compared on 2,000 samples" in text
    shown = words.certificates(report)
    assert list(shown["method"]) == ["hps", "hps", "better", "better"]
    assert shown["safe / unsafe / undecided"].tolist()[2:] == ["4 / 0 / 0"] * 2
    assert shown["bound"].tolist() == ["binomial"] * 4


def test_where_a_method_is_unsafe_in_the_mean_is_named():
    networks = {seed: network(0.7, 0.9, seed) for seed in range(4)}
    made = safety.tally({"stl": ALONE, "m": networks}, "stl", PROBLEM)
    report = safety.SafetyReport("stl", [0, 1, 2, 3], None, None, made.frame, made.networks, {}, [], certificates=made)
    assert words.certified(report) == ["**m**: of 4 networks 0 certainly safe, 4 unsafe, 0 undecided. The mean over "
                                       "new seeds and samples: unsafe on left (accuracy)."]


def test_the_table_of_the_report_has_them(report, tmp_path):
    frame = report.to_frame()
    assert len(frame) == len(report.frame) and {"certified_safe", "certified_mean_verdict"} <= set(frame.columns)
    first = frame[(frame["method"] == "better") & (frame["task"] == "left")].iloc[0]
    assert first["certified_safe"] == 4 and "certified_safe" in report.to_csv()
    assert "certified_safe" not in replace(report, certificates=None).to_frame()
