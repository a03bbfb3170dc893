"""Counts of parameters and FLOPs against sums by hand; what is said without torchvision, and beside printed figures."""

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtlcourse import cli, counts, data, methods
from mtlcourse.encoders import ShapesOnly
from mtlcourse.published import counted, load
from tests.problems import OFFLINE


def of(frame: pd.DataFrame, what: str, column: str = "parameters") -> dict[str, int]:
    rows = frame[(frame["what"] == what) & (frame["refused"] == "")]
    return dict(zip(rows["name"], rows[column], strict=True))


@pytest.fixture
def no_torchvision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)


# --- counting ------------------------------------------------------------------------------------------

def test_flops_are_two_for_a_multiply_add_of_convolutions_and_matrix_products():
    with torch.device("meta"):
        convolution, linear = nn.Conv2d(3, 5, 3, padding=1, stride=2), nn.Linear(7, 4)
        whole = nn.Sequential(convolution, nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 6, 2))
    assert counts.flops(convolution, (3, 8, 12)) == 2 * 3 * 9 * 5 * (4 * 6)
    assert counts.flops(linear, (7,)) == 2 * 7 * 4
    assert counts.flops(whole, (3, 8, 12)) == 2 * 3 * 9 * 5 * 4 * 6 + 2 * 120 * 2
    assert counts.size(linear) == 32


def test_passing_batch_norms_by_changes_no_count_and_hides_no_mistake():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)).eval()
        wrong, x = nn.BatchNorm2d(5).eval(), torch.empty(2, 8, 6, 6)
        with FlopCounterMode(display=False) as counter:
            expected = model(torch.empty(1, 3, 9, 9))
        assert counts.flops(model, (3, 9, 9)) == counter.get_total_flops()
        with ShapesOnly():
            assert model(torch.empty(1, 3, 9, 9)).shape == expected.shape
            with pytest.raises(RuntimeError):
                wrong(x)


@pytest.mark.parametrize("name", OFFLINE)
def test_methods_are_sums_of_modules_and_heads(name: str):
    frame, m = counts.count(name, ["stl", "hps", "dsmtl-il"]), len(data.describe(name).tasks)
    for column in ("parameters", "flops"):
        encoder, heads = (sum(of(frame, what, column).values()) for what in ("module", "head"))
        gates = m if column == "parameters" else 0
        assert of(frame, "method", column) == {
            "stl": m * encoder + heads, "hps": encoder + heads, "dsmtl-il": (m + 1) * encoder + heads + gates}
    assert of(frame, "method")["hps"] == methods.count_parameters("hps", name)


def test_a_real_forward_pass_costs_what_was_counted():
    problem = data.describe("multidigits")
    model = methods.build("dsmtl-jl", problem)
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(3, *problem.input_shape))
    assert counter.get_total_flops() == 3 * of(counts.count("multidigits", ["dsmtl-jl"]), "method", "flops")["dsmtl-jl"]


def test_all_methods_or_the_reason_why_not():
    frame = counts.count("relatedness")
    chosen = frame[frame["what"] == "method"]
    assert list(chosen["name"]) == methods.names()
    refused = chosen[chosen["refused"] != ""]
    assert "mtan" in set(refused["name"]) and refused["parameters"].isna().all() and refused["flops"].isna().all()
    assert refused["refused"].str.contains("needs maps|Cells need images").all()


def test_a_pass_that_depends_on_values_has_no_count():
    class Choosing(nn.Linear):
        def forward(self, x):
            return super().forward(x) if self.bias.sum().item() > 0 else x

    with torch.device("meta"):
        assert counts.flops(Choosing(2, 2), (2,)) is None


def test_mistakes_are_not_taken_for_refusals():
    with pytest.raises(ValueError, match="Unknown architecture 'hsp'"):
        counts.count("rooms", ["hsp"])
    with pytest.raises(ValueError, match="Unknown problem 'room'"):
        counts.count("room")
    with torch.device("meta"), pytest.raises(RuntimeError):
        counts.flops(nn.Linear(3, 2), (4,))


def test_options_of_problems_and_methods_count():
    frame = counts.count("multidigits", ["dsmtl-il( gate_after = 1)", "dsmtl-il"])
    small, whole = of(frame, "method").values()
    assert list(of(frame, "method")) == ["dsmtl-il(gate_after=1)", "dsmtl-il"] and small < whole


# --- without torchvision ---------------------------------------------------------------------------------

def test_every_architecture_is_among_the_stored_counts():
    """If not: see tests/extras/test_counts.py, which counts them again where torchvision is."""
    assert set(counted.stored()["problem"]) == set(counted.TABLES) <= set(data.names())
    for problem in counted.TABLES:
        of_it = counted.stored()[counted.stored()["problem"] == problem]
        assert set(methods.names()) <= set(of_it["name"]), problem


def test_without_torchvision_the_stored_counts_are_shown_and_said_to_be(no_torchvision):
    frame, note = counts.count_or_recall("nyuv2")
    assert "need torchvision" in note and "stored" in note
    assert of(frame, "method")["stl"] == 118_904_785
    frame, _ = counts.count_or_recall("nyuv2", ["hps", "stl"])
    assert set(of(frame, "method")) == {"stl", "hps"} and len(of(frame, "module")) == 5
    assert counts.count_or_recall("rooms", ["hps"])[1] == ""
    with pytest.raises(ValueError, match=r"no stored count of 'dsmtl-il\(gate_after=2\)' on 'nyuv2'; there are those"):
        counts.count_or_recall("nyuv2", ["dsmtl-il(gate_after=2)"])


def test_own_problems_that_need_torchvision_say_so(no_torchvision, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counted, "TABLES", {})
    with pytest.raises(ModuleNotFoundError, match="need torchvision"):
        counts.count_or_recall("nyuv2")


# --- beside the printed figures --------------------------------------------------------------------------

def test_the_table_has_the_printed_figures_and_the_differences(no_torchvision):
    rows = counts.table(counts.count_or_recall("cityscapes")[0]).set_index("method")
    printed = load("dsmtl-1")
    for method, row in {"stl": "STL", "hps": "HPS", "nddr": "NDDR-CNN", "dsmtl-il": "DSMTL-IL"}.items():
        assert rows.loc[method, "printed"] == printed.text(row, "parameters")
        assert abs(rows.loc[method, "difference"]) <= 0.005 and rows.loc[method, "explanation"] == ""
    assert rows.loc["mtan", "explanation"] == "the papers count mtan(after=[2, 3, 4, 5])"
    assert rows.loc["mtan(after=[2, 3, 4, 5])", "printed"] == "72.04"
    assert rows.loc["afa", "explanation"].startswith("unexplained: ") and rows.loc["afa", "difference"] < -2
    search = rows.loc["dsmtl-al"]
    assert search["printed"] == "79.04" and pd.isna(search["difference"]) and "what was found" in search["explanation"]
    wide = rows.loc["hps-wide"]
    assert wide["explanation"].startswith("Widening multiplies") and pd.isna(wide["flops"])


def test_figures_that_differ_between_tables_are_both_shown(no_torchvision):
    rows = counts.table(counts.count_or_recall("pascal_context", ["hps"])[0]).set_index("method")
    assert rows.loc["hps", "printed"] == "30.07 / 34.79"
    assert rows.loc["hps", "explanation"] == "34.79 misprint: it is the number of dsmtl-4, where it follows"


def test_where_nothing_is_printed_nothing_is_compared():
    rows = counts.table(counts.count("rooms", ["stl", "hps"]))
    assert (rows["printed"] == "").all() and rows["difference"].isna().all() and (rows["explanation"] == "").all()


def test_the_text_is_what_was_counted():
    frame = counts.count("multidigits", ["hps", "dsmtl-il"])
    first, second, head, *rows = counts.show(frame).splitlines()
    assert first == "multidigits, modules 1 to 4: 80 + 1,168 + 2,320 + 12,832 = 16,400 parameters"
    assert second == "multidigits, heads left, right: 330 + 330 = 660 parameters"
    assert head.split() == ["parameters", "printed", "(M)", "difference", "MFLOPs", "method", "explanation"]
    assert [row.split()[0] for row in rows] == ["17,060", "49,862"] and rows[0].endswith("hps")


def test_the_command(no_torchvision, tmp_path: Path):
    asked = ["params", "--problem", "rooms,nyuv2,cityscapes", "--methods", "stl,hps", "--csv", str(tmp_path / "c.csv")]
    done = CliRunner().invoke(cli.main, asked)
    assert done.exit_code == 0 and "118,904,785" in done.stdout and "71.89" in done.stdout
    assert done.stderr.count("need torchvision") == 1 and "stored" in done.stderr
    written = pd.read_csv(tmp_path / "c.csv")
    assert list(written.columns) == list(counted.COLUMNS)
    assert list(written["problem"].unique()) == ["rooms", "nyuv2", "cityscapes"]


def test_the_command_takes_all_problems_and_refuses_plainly(no_torchvision, monkeypatch: pytest.MonkeyPatch):
    done = CliRunner().invoke(cli.main, ["params", "--problem", "all", "--methods", "hps"])
    counted_ones = {name for name in data.names() if f"{name}, modules" in done.stdout}
    left_out = {line.split()[0] for line in done.stderr.splitlines() if " is left out: " in line}
    assert done.exit_code == 0 and counted_ones | left_out == set(data.names()) and not counted_ones & left_out
    assert {"coco", "office31"} <= left_out <= {"coco", "imageclef", "office31", "office_home", "tagged", "xtreme"}
    done = CliRunner().invoke(cli.main, ["params", "--problem", "rooom"])
    assert done.exit_code == 1 and done.stderr.startswith("Error: Unknown problem 'rooom'")
    monkeypatch.setattr(counted, "TABLES", {})
    done = CliRunner().invoke(cli.main, ["params", "--problem", "nyuv2"])
    assert done.exit_code == 1 and done.stderr.startswith("Error: These encoders need torchvision")
