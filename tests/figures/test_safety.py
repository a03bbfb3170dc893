"""The figures of safety show the numbers of the report, and the page holds all of it in one file."""

import base64
import dataclasses
import itertools
import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from matplotlib.colors import to_rgb

from mtlcourse import bench, cli, data, figures, methods, runs, safety

METHODS = ["stl", "hps", "dsmtl-jl", "dsmtl-il(guard=True)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    done = bench.sweep(["relatedness(train=20, val=10, test=10)"], METHODS, [0, 1], budget="smoke", folder=path,
                       progress=False)
    assert done.failures == []
    return path


@pytest.fixture(scope="module")
def report(folder) -> safety.SafetyReport:
    return figures.page.from_folder(folder)[0]


def test_the_cheapest_method_comes_first(report: safety.SafetyReport):
    assert report.methods == ["hps", "dsmtl-il(guard=True)", "dsmtl-jl"]
    assert report.overview["parameters"].iloc[1:].is_monotonic_increasing


def test_relative_performance_shows_changes_and_intervals(report: safety.SafetyReport):
    figure = figures.safety.relative_performance(report)
    tasks = list(dict.fromkeys(report.frame["task"]))
    assert [axis.get_title() for axis in figure.axes] == tasks
    for axis, task in zip(figure.axes, tasks, strict=True):
        assert len(axis.containers) == len(report.methods)
        for container, method in zip(axis.containers, report.methods, strict=True):
            rows = report.frame[(report.frame["task"] == task) & (report.frame["method"] == method)]
            assert container.lines[0].get_xdata() == pytest.approx(100 * rows["change"].to_numpy())
            ends = [segment[:, 0] for segment in container.lines[2][0].get_segments()]
            assert [(b - a) / 2 for a, b in ends] == pytest.approx(100 * rows["change_half_width"].to_numpy())


def test_the_heat_map_says_what_is_certain(report: safety.SafetyReport):
    axis = figures.safety.heat_map(report).axes[0]
    texts = [text.get_text() for text in axis.texts]
    assert len(texts) == len(report.frame)
    first = report.frame.iloc[0]
    assert texts[0] == f"{100 * first['change']:+.1f}\n{figures.safety.SIGNS[first['verdict']]}"
    assert [label.get_text() for label in axis.get_yticklabels()] == report.methods


def test_size_and_improvement_has_a_point_a_method(report: safety.SafetyReport):
    axis = figures.safety.size_and_improvement(report).axes[0]
    found = {c.get_label(): (c.lines[0].get_xdata()[0], c.lines[0].get_ydata()[0]) for c in axis.containers}
    assert found["hps"] == pytest.approx((report.overview.at["hps", "parameters"], 100 * report.delta_i["hps"]))
    assert found["stl"][1] == 0
    assert found["dsmtl-jl"][0] != found["dsmtl-il(guard=True)"][0]  # of equal size, and both to be seen


def test_one_seed_and_undefined_changes_can_be_drawn(report: safety.SafetyReport):
    frame = report.frame.assign(change=math.nan, change_half_width=math.nan)
    empty = safety.SafetyReport(report.baseline, [0], None, None, frame,
                                report.overview.assign(delta_i_half_width=math.nan), {}, [])
    for draw in (figures.safety.heat_map, figures.safety.relative_performance, figures.safety.size_and_improvement):
        draw(empty)


def test_gates_over_time(folder):
    stored = {config["method"]: [] for config in map(_config, folder.glob("*/run.json"))}
    for path in sorted(folder.glob("*/run.json")):
        stored[_config(path)["method"]].append(runs.load(path.parent))
    chosen = {name: stored[name] for name in ("dsmtl-jl", "dsmtl-il(guard=True)")}
    figure = figures.safety.gates(chosen)
    for axis, made in zip(figure.axes, chosen.values(), strict=True):
        history = made[0].history
        tasks = list(dict.fromkeys(history.loc[history["name"] == "alpha", "task"]))
        assert sorted(text.get_text() for text in axis.texts) == sorted(tasks)
        means = [line for line in axis.lines if line.get_marker() == "o"]
        assert len(axis.lines) == len(tasks) * 3 + 1  # two seeds and their mean; where gates start
        heights = sorted(text.xy[1] for text in axis.texts)
        assert all(b - a > 0.079 for a, b in zip(heights, heights[1:], strict=False))
        ends = [pd.concat([run.history for run in made]).query("name == 'alpha' and stage != 'guard' and task == @task")
                .query("epoch == epoch.max()")["value"].mean() for task in tasks]
        assert [line.get_ydata()[-1] for line in means] == pytest.approx(ends)
        assert all((line.get_xdata()[0], line.get_ydata()[0]) == (0, 0.5) for line in means)
    figures.safety.gates({"one": chosen["dsmtl-jl"][0], "history": chosen["dsmtl-jl"][1].history})
    with pytest.raises(ValueError, match="history of 'hps' has no gates; it has loss"):
        figures.safety.gates({"hps": stored["hps"]})


def _config(path) -> dict:
    return json.loads(path.read_text())["config"]


# --- the page and the command ------------------------------------------------------------------------------

def test_the_page_is_one_file_with_everything_in_it(report: safety.SafetyReport, tmp_path):
    figures.setup()
    figures.page.write([report], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("data:image/png;base64,") == 3
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and "<script" not in text
    assert "<h1>Safety report: relatedness" in text and "<b>hps</b>: Delta_I" in text
    rows = report.frame.groupby(["task", "metric"]).ngroups + len(report.certificates.frame)
    assert text.count("<tr>") == 3 + len(report.overview) + rows
    assert "<b>hps</b>: of 2 networks" in text and "<td>0 / 0 / 2</td>" in text  # ten samples decide nothing


def test_the_page_leads_with_the_decision_and_says_all_in_words(report: safety.SafetyReport):
    page = BeautifulSoup(figures.page.page([report]), "html.parser")
    first = page.h1.find_next_sibling()
    made = report.decision
    assert first["class"] == ["decision"] and first.p.text == made.sentence.replace("**", "")
    assert [term.text for term in first.find_all("dt")] == ["Why", "Price", "Doubts"]
    assert [doubt.text for doubt in first.find_all("li")] == made.doubts
    assert page.html["lang"] == "en" and page.find("meta", attrs={"name": "viewport"})
    levels = [int(tag.name[1]) for tag in page.find_all(re.compile("^h[1-6]$"))]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    for marked in page.select("td.better, td.worse"):
        assert marked.text.endswith(marked["class"][0])
    for wide in page.select("table, img, pre"):  # what may be wider than the page scrolls, by keyboard too
        box = wide.find_parent(class_="wide")
        assert box["tabindex"] == "0" and box["aria-label"]


def test_the_figures_of_the_page_have_words_that_are_true(report: safety.SafetyReport):
    page = BeautifulSoup(figures.page.page([report]), "html.parser")
    verdicts, changes, sizes = (picture["alt"] for picture in page.find_all("img"))
    undecided = (report.frame.query("method == 'hps'")["verdict"] == "undecided").sum()
    assert f"hps: 0 better, 0 worse, {undecided} undecided." in verdicts
    assert all(f"{100 * end:+.1f} %" in changes for end in (report.frame["change"].min(), report.frame["change"].max()))
    assert all(f"{method}: {row['parameters']:,.0f}, " in sizes for method, row in report.overview.iterrows())


def test_the_numbers_of_the_page_can_be_copied_and_saved(report: safety.SafetyReport):
    page = BeautifulSoup(figures.page.page([report]), "html.parser")
    link = page.find("a", download=True)
    saved = base64.b64decode(link["href"].removeprefix("data:text/csv;base64,")).decode()
    assert page.pre.text == saved == report.to_csv() and link["download"] == "relatedness-test-10-train-20-val-10.csv"


def test_every_method_has_a_shape_besides_its_colour(report: safety.SafetyReport):
    for figure in (figures.safety.relative_performance(report), figures.safety.size_and_improvement(report)):
        containers = figure.axes[0].containers
        assert len({container.lines[0].get_marker() for container in containers}) == len(containers)


def test_the_heat_map_can_be_read_on_every_colour(report: safety.SafetyReport):
    """Contrast of at least 4.5 by the formula of the guidelines; where there is no colour, black on white."""
    def luminance(colour) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    frame = report.frame.assign(change=np.linspace(-1.0, 1.0, len(report.frame)))
    frame.loc[0, "change"] = math.nan
    axis = figures.safety.heat_map(dataclasses.replace(report, frame=frame)).axes[0]
    image = axis.images[0]
    for text in axis.texts:
        column, row = map(round, text.get_position())
        value = image.get_array()[row, column]
        behind = "white" if np.ma.is_masked(value) else image.to_rgba(float(value))[:3]
        low, high = sorted((luminance(text.get_color()), luminance(behind)))
        assert high / low > 4.5


def test_names_cannot_break_the_page(report: safety.SafetyReport):
    name = "<b onload=x>&"
    renamed = safety.SafetyReport(
        report.baseline, report.seeds, name, None, report.frame.replace({"method": {"hps": name}}),
        report.overview.rename(index={"hps": name}), {}, [name])
    assert name not in figures.page.page([renamed])


def test_the_command_prints_and_writes_the_report(folder, tmp_path):
    written = ["--html", str(tmp_path / "a.html"), "--csv", str(tmp_path / "a.csv")]
    chosen = ["--folder", str(folder), "--methods", "hps, dsmtl-jl", "--seeds", "1"]
    done = CliRunner().invoke(cli.main, ["report", *chosen, *written])
    assert done.exit_code == 0, done.output
    assert "against stl" in done.output and "One seed" in done.output and (tmp_path / "a.html").exists()
    frame = pd.read_csv(tmp_path / "a.csv")
    assert set(frame["method"]) == {"hps", "dsmtl-jl"} and set(frame["budget"]) == {"smoke"}


def test_the_report_certifies_without_models_and_data(folder, tmp_path, monkeypatch):
    """What is stored gives the certificate that the networks themselves give."""
    name = "multidigits(train=300, val=40, test=300)"
    bench.sweep([name], ["stl", "hps"], [0, 1, 2], budget="smoke", folder=tmp_path, progress=False)
    problem = methods.load_problem(name).sized(None, 256)
    nets = {(row.method, row.seed): runs.load(tmp_path / row.configuration, methods.build(row.method, problem)).model
            for row in runs.table(tmp_path).itertuples()}
    live = [safety.certify(nets["hps", seed], nets["stl", seed], problem, delta=0.1, margin={"accuracy": 0.02})
            for seed in range(3)]
    for file in tmp_path.glob("*/model.safetensors"):
        file.unlink()
    monkeypatch.setattr(data.multidigits, "_splits", None)  # whoever makes the data fails
    made = figures.page.from_folder(tmp_path, delta=0.1, margin={"accuracy": 0.02})[0].certificates
    assert made.scope == live[0].scope and made.delta == 0.1
    for number, row in enumerate(made.frame.itertuples()):
        own = [certificate.frame.iloc[number] for certificate in live]
        assert (row.task, row.metric, row.bound) == tuple(own[0][key] for key in ("task", "measure", "method"))
        assert row.difference == pytest.approx(sum(one["difference"] for one in own) / 3)
        assert row.low == min(one["low"] for one in own)
        verdicts = [one["verdict"] for one in own]
        assert [row.safe, row.unsafe, row.undecided] == [verdicts.count(v) for v in ("safe", "unsafe", "undecided")]


def test_certificates_are_printed_and_can_be_left_out(folder, tmp_path):
    chosen = ["report", "--folder", str(folder), "--csv", str(tmp_path / "a.csv")]
    with_them = CliRunner().invoke(cli.main, [*chosen, "--margin", "mse=0.5", "--delta", "0.1"])
    assert with_them.exit_code == 0, with_them.output
    assert "## Certificates" in with_them.output and "confidence 90 %" in with_them.output
    assert "0.5 (mse)" in with_them.output
    frame = pd.read_csv(tmp_path / "a.csv")
    assert (frame[["certified_safe", "certified_unsafe", "certified_undecided"]].sum(axis=1) == 2).all()
    assert set(frame["certified_bound"]) == {"bootstrap"} and not frame["certified_exact"].any()
    without = CliRunner().invoke(cli.main, [*chosen, "--no-certificates"])
    assert without.exit_code == 0 and "ertificate" not in without.output
    assert not pd.read_csv(tmp_path / "a.csv").columns.str.startswith("certified").any()


def test_old_runs_say_how_to_get_certificates(folder, tmp_path):
    for run in folder.glob("[!.]*"):
        shutil.copytree(run, tmp_path / run.name, ignore=shutil.ignore_patterns("samples.safetensors"))
    done = CliRunner().invoke(cli.main, ["report", "--folder", str(tmp_path), "--html", str(tmp_path / "a.html")])
    assert done.exit_code == 0
    assert done.output.count("No certificates for hps (seeds 0, 1); dsmtl-il") == 1
    assert "Run them again in a new folder." in done.output
    assert "No certificates for hps" in (tmp_path / "a.html").read_text()


def test_what_cannot_be_described_has_a_report_without_certificates(folder, monkeypatch):
    def lost(*args, **options):
        raise ValueError("No module 'mine'")

    monkeypatch.setattr(data, "describe", lost)
    made = figures.page.from_folder(folder)[0]
    assert made.certificates is None and any("is not known (No module 'mine')" in note for note in made.notes)


def test_verdicts_one_by_one_are_an_option(folder):
    chosen = ["report", "--folder", str(folder), "--methods", "hps"]
    family, single = (CliRunner().invoke(cli.main, [*chosen, *more]).output for more in ([], ["--per-comparison"]))
    assert "for this report as a whole" in family and "each comparison by itself" not in family
    assert "for this report as a whole" not in single and "each comparison by itself" in single


@pytest.mark.parametrize("option", ["--html", "--csv"])
def test_folders_are_made_within_the_working_folder_only(folder, tmp_path, monkeypatch, option: str):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    chosen = ["report", "--folder", str(folder), "--methods", "hps", option]
    for path in (elsewhere / "a.html", here / ".." / "elsewhere" / "deep" / "a.html", "../elsewhere/a.html"):
        done = CliRunner().invoke(cli.main, [*chosen, str(path)])
        assert done.exit_code == 2 and "There is no folder" in done.output
        assert "outside the working" in done.output
        assert not elsewhere.exists() and "Safety report" not in done.output  # said before the work
    done = CliRunner().invoke(cli.main, [*chosen, str(here)])
    assert done.exit_code == 2 and "is a folder; give the name of a file" in done.output
    for path in ("new/deep/a.html", str(here / "other" / "a.html"), str(tmp_path / "a.html")):
        assert CliRunner().invoke(cli.main, [*chosen, path]).exit_code == 0
    assert (here / "new/deep/a.html").exists() and (tmp_path / "a.html").exists()


def test_what_is_broken_or_has_no_change_is_said_in_the_map(report: safety.SafetyReport):
    frame = report.frame.copy()
    frame.loc[0, ["change", "broken", "verdict"]] = math.nan, True, "worse"
    frame.loc[1, "change"] = math.nan
    overview = report.overview.copy()
    overview.loc["hps", "delta_i"] = math.nan
    made = safety.SafetyReport(report.baseline, report.seeds, None, None, frame, overview, {}, [])
    texts = [text.get_text() for text in figures.safety.heat_map(made).axes[0].texts]
    assert texts[0] == "no number\nworse" and texts[1] == "-\n?"
    legend = [c.get_label() for c in figures.safety.size_and_improvement(made).axes[0].containers]
    assert "hps (undefined)" in legend and "dsmtl-jl" in legend


@pytest.mark.parametrize(("arguments", "message"), [
    (["--problem", "rooms"], "no such runs"),
    (["--baseline", "hps-wide"], "There is no baseline 'hps-wide' among hps, stl"),
    (["--methods", "hsp"], "Unknown architecture 'hsp'"),
    (["--margin", "miou=0.1"], "A margin is given for miou; measures here are mse, r2"),
    (["--margin", "loss=0.1"], "A margin is given for loss; measures here are mse, r2"),
])
def test_the_command_refuses_in_a_sentence(folder, arguments, message: str):
    done = CliRunner().invoke(cli.main, ["report", "--folder", str(folder), *arguments])
    assert done.exit_code == 1 and message in done.output and "Traceback" not in done.output


@pytest.mark.parametrize("option", ["--margin=-1", "--margin=much", "--margin=nan", "--margin=0.1,0.2", "--margin=",
                                    "--margin=mse=0.1,0.2", "--margin=mse=inf", "--margin=mse=1,mse=2",
                                    "--delta=0", "--delta=0.5", "--over=digits"])
def test_settings_of_certificates_that_cannot_be_are_refused(folder, option: str):
    done = CliRunner().invoke(cli.main, ["report", "--folder", str(folder), option])
    assert done.exit_code == 2 and "Error: Invalid value for" in done.output and "Traceback" not in done.output


def test_the_command_recomputes_the_printed_tables():
    done = CliRunner().invoke(cli.main, ["report", "--paper"])
    assert done.exit_code == 0 and done.output.startswith("# The published tables, recomputed")


def test_learning_rates_of_a_grid_are_chosen_on_validation_and_said(tmp_path):
    problem, rates = "relatedness(train=20, val=10, test=10)", [1e-3, 1e-2]
    done = bench.sweep([problem], ["stl", "hps"], [0, 1], budget="smoke", folder=tmp_path, learning_rates=rates,
                       progress=False)
    assert set(done.table["lr"]) == set(rates)
    made = figures.page.from_folder(tmp_path)[0]
    chosen = runs.selected(done.table).drop_duplicates("method").set_index("method")["lr"]
    assert f"Learning rates, chosen on validation: hps {chosen['hps']:g}, stl {chosen['stl']:g}." in made.notes
    means = runs.selected(done.table).groupby(["method", "task", "metric"])["value"].mean()
    for row in made.frame.itertuples():
        assert row.value == pytest.approx(means["hps", row.task, row.metric])
