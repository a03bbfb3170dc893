"""Every method for which a document prints results on a set runs on that set's sample."""

from dataclasses import replace

import numpy as np
import pytest

from mtlcourse import data, methods, published
from mtlcourse.published.table import load

CONV = {"name": "conv", "channels": [4, 4, 8]}
# Deep Safe Multi-Task Learning, and chapters 5 and 6 of the thesis: the rows of their tables.
TABLES = {
    "cityscapes": ("dsmtl-1", "thesis-5.2", "thesis-6.1"),
    "nyuv2": ("dsmtl-2", "dsmtl-6", "dsmtl-7", "thesis-5.3", "thesis-5.4", "thesis-5.5", "thesis-5.11", "thesis-6.2",
              "thesis-6.6", "thesis-6.7"),
    "pascal_context": ("dsmtl-3", "thesis-5.9", "thesis-6.3"),
    "taskonomy": ("dsmtl-4", "thesis-5.10", "thesis-6.4"),
    "celeba": ("thesis-5.8",),
}
OF_RUNS = ("dsmtl-5", "thesis-6.5")  # learned numbers, on all sets at once
ROWS = {
    "NDDR-CNN": "nddr", "UW": "hps+uw", "PCGrad": "hps+pcgrad", "CAGrad": "hps+cagrad",
    "HPS-PCGrad": "hps+pcgrad", "HPS-CAGrad": "hps+cagrad", "CoNAL-PCGrad": "conal+pcgrad",
    "CoNAL-CAGrad": "conal+cagrad", "DSMTL-AL+lw": "dsmtl-al", "CoNAL+": "conal", "HPS+": "hps-wide",
    "DSMTL-IL w/o learnable gate": "dsmtl-il(gate=fixed)", "DSMTL-JL w/o learnable gate": "dsmtl-jl(gate=fixed)",
    "DSMTL-AL w/o learnable gate": "dsmtl-al(gate=fixed)",
    "DSMTL-AL w/o learnable task weighting": "dsmtl-al(weighting=False)",
    "CoNAL w/o conflict-notice": "conal(notice=False)",
    "CoNAL w/o conflict-notice and pure": "conal(notice=False, pure=False)",
    "CoNAL w/o module splitting": "conal(splitting=False)",
    "CoNAL w/o random loss weighting": "conal(random_weights=False)",
}
NOT_HERE = {"TAG-2"}  # a grouping of tasks by runs of its own
# A Model-Agnostic Approach to Mitigate Gradient Interference for Multi-Task Learning: tables I to IV, figure 3.
DENSE = ("stl", "hps", "cross-stitch", "nddr", "hps+pcgrad", "adashare", "auxilearn", "hps+mamg")
LABELS = ("hps", "hps+mgda", "hps+pcgrad", "hps+mamg")
# Saliency-Regularized Deep Multi-Task Learning: table 2. The linear ones are solved roughly, at one strength.
ROUGHLY = "(strength=0.1, tolerance=0.1)"
SALIENCY = ("stl", "hps", *(f"{name}{ROUGHLY}" for name in ("lasso", "l21", "rmtl")), "mrn", "mmoe", "ple", "hps+mgda",
            "hps+pcgrad", "srdml", "srdml+pcgrad")
# A Simple General Approach to Balance Task Difficulty in Multi-Task Learning: figures 1 to 3 and 5.
MODELS = ("hps", *(f"{name}={kind})" for name in ("dmtrl(tensor", "tnrmtl(norm") for kind in ("tucker", "tt", "laf")),
          "mrn")
BALANCE = (*MODELS, *(f"{model}+bmtl" for model in MODELS),
           *(f"hps+{strategy}" for strategy in ("dwa", "max", "smax", "cl", "mgda")))
PRINTED = [("cityscapes", DENSE), ("nyuv2", DENSE), ("taskonomy", DENSE), ("multimnist", LABELS),
           ("celeba(attributes=forty)", LABELS), ("cifar100_mtl", LABELS),
           ("cifar_mtl(train=40, val=20, test=30)", SALIENCY), ("celeba(attributes=sixteen)", SALIENCY),
           ("coco", SALIENCY), *((name, BALANCE) for name in ("office31", "office_home", "imageclef", "sarcos"))]
# Learning Architecture for Multiple Tasks in Transfer Learning: tables 4.1 to 4.8, figure 4.3.
ADAPTS = ("source-only", "dan", "dann", "jan", "cdan", "a-distance", "kl", "mmd", "coral", "cmd", "pc", "aaspc")
DOMAINS = [(name, ADAPTS) for name in ("image_domains(collection=office31)",
           "image_domains(collection=office_home, source=Art, target=Real_World)", "visda2017")]


def method_of(row: str) -> str:
    return ROWS.get(row, row.lower())


def printed() -> list[tuple[str, str]]:
    """Every pair of a set and a method, once."""
    rows = [(name, method_of(row)) for name, tables in TABLES.items() for table in tables
            for row in load(table).cells.index if row not in NOT_HERE]
    others = [(name, method) for name, several in (*PRINTED, *DOMAINS) for method in several]
    return list(dict.fromkeys([*rows, *others]))


def test_no_table_is_forgotten():
    assert sorted([*(table for tables in TABLES.values() for table in tables), *OF_RUNS]) == sorted(published.names())
    rows = {row for tables in TABLES.values() for table in tables for row in load(table).cells.index}
    assert NOT_HERE | set(ROWS) <= rows
    for _, method in printed():
        methods.parse(method)  # each name is one that is known


@pytest.fixture(scope="module")
def problem(root):
    """The problem of a name with options, read once, on an encoder that is quick."""
    read: dict[str, object] = {}

    def of(name: str):
        if name not in read:
            part = methods.parse_part(name)
            script = part.options.get("collection", part.name)
            options = part.options | ({"side": 12} if script != part.name or part.name == "visda2017" else {})
            found = data.registry.load_any(part.name, {**options, "root": root(script)})
            read[name] = replace(found, encoder=CONV) if len(found.input_shape) == 3 else found
        return read[name]

    return of


@pytest.mark.parametrize(("name", "method"), printed(), ids=lambda value: value)
def test_what_is_printed_runs(name, method, problem):
    run = methods.run(method, problem(name), budget="smoke", progress=False, device="cpu")
    assert set(run.metrics) == set(problem(name).task_names) and run.test_data
    for values in run.metrics.values():
        assert all(np.isfinite(value) for key, value in values.items() if key == "loss")
