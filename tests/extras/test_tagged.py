"""The treebanks' two tasks through transformers' BERT: every method by name, and why the others are refused."""

import dataclasses
import math
import warnings

import pytest

from mtlcourse import data, methods, safety

PLACES, EXPERTS = "predicts every pixel", "whole numbers that are looked up"
CELLS, MAPS = "Cells need images", "fuses vectors and maps, but a stage of this encoder gives samples of shape"
REFUSED = {"nddr": MAPS, "mtl-nas": MAPS, "mtan": "MTAN needs maps", "afa": "AFA needs maps", "tsn": "from the maps",
           "mmoe": EXPERTS, "cgc": EXPERTS, "ple": EXPERTS, "srdml": PLACES, "lasso": PLACES, "l21": PLACES,
           "rmtl": PLACES, "mtrl": PLACES, "theta": PLACES, "darts": CELLS, "p-darts": CELLS, "pc-darts": CELLS,
           "e2rnas": CELLS, "random-cells": CELLS}
WIDE = ("hps-wide", "stl-wide")  # what these do with an encoder that has no widths, their own tests say


@pytest.fixture(scope="module")
def sentences():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* places were cut")
        problem = data.load("tagged", length=12, words=60)
    spec = {"name": "bert", "layers": 2, "width": 8, "blocks": 1, "heads": 2, "positions": 12}
    return dataclasses.replace(problem, encoder={**spec, "vocabulary": problem.encoder["vocabulary"]})


@pytest.mark.parametrize("method", [name for name in (*methods.names(), "hps+pcgrad", "dsmtl-jl+mamg", "tree+uw")
                                    if name not in WIDE])
def test_methods_run_by_name_or_say_why_not(sentences, method):
    if method in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[method]):
            methods.run(method, sentences, budget="smoke", progress=False)
        return
    run = methods.run(method, sentences, budget="smoke", progress=False)
    for own in run.metrics.values():
        assert set(own) == {"accuracy", "chunk_f1", "loss"} and all(math.isfinite(value) for value in own.values())


def test_the_report_has_both_measures(sentences):
    runs = {name: [methods.run(name, sentences, seed=seed, budget="smoke", progress=False) for seed in (0, 1)]
            for name in ("stl", "hps")}
    report = safety.report({"hps": runs["hps"]}, baseline=runs["stl"]).to_frame()
    assert {"accuracy", "chunk_f1"} <= set(report["metric"]) and set(report["task"]) == {"web", "wiki"}
