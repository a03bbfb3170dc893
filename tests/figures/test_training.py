"""Figures say what the numbers say: what is drawn is read back from the axes."""

import dataclasses
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from mtlcourse import data, figures, models, training


def table(differences):
    """Runs of two methods on one task and metric, `differences` apart, seed by seed."""
    rows = []
    for seed, difference in enumerate(differences):
        for method, value in (("stl", 0.5), ("hps", 0.5 + difference)):
            rows.append({"problem": "p", "method": method, "seed": seed, "budget": "fast", "lr": None, "task": "t",
                         "metric": "accuracy", "value": value, "higher_is_better": True})
            rows.append({**rows[-1], "metric": "error", "value": 1 - value, "higher_is_better": False})
            rows.append({**rows[-1], "metric": "loss", "value": 9.0})
    return pd.DataFrame(rows)


def test_differences_are_paired_signed_and_leave_losses_out():
    paired = figures.paired_differences(table([0.1, -0.2, 0.3]), "hps")
    assert set(paired["metric"]) == {"accuracy", "error"}
    for _, rows in paired.groupby("metric"):
        assert rows["difference"].tolist() == pytest.approx([0.1, -0.2, 0.3])


def test_differences_pair_by_seed_and_not_by_row():
    shuffled = table([0.1, -0.2, 0.3]).sample(frac=1, random_state=0)
    paired = figures.paired_differences(shuffled, "hps").sort_values(["metric", "seed"])
    assert paired[paired["metric"] == "accuracy"]["difference"].tolist() == pytest.approx([0.1, -0.2, 0.3])


def test_figure_of_differences_shows_every_seed_and_the_mean():
    figure = figures.differences(table([0.1, -0.2, 0.4]), "hps")
    axis = figure.axes[0]
    dots = axis.collections[0].get_offsets()[:, 1]
    assert sorted(dots.tolist()) == pytest.approx([-0.2, 0.1, 0.4])
    assert axis.containers[0].lines[0].get_ydata()[0] == pytest.approx(0.1)


def test_budgets_of_a_metric_stand_side_by_side_on_one_scale():
    short, long = table([0.4, 0.2]), table([0.01, 0.02]).assign(budget="full")
    figure = figures.differences(pd.concat([short, long]), "hps")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:2] == ["accuracy, fast budget", "error, fast budget"]
    assert figure.axes[0].get_ylim() == figure.axes[titles.index("accuracy, full budget")].get_ylim()


def test_missing_method_is_named():
    with pytest.raises(ValueError, match="no runs of 'dsmtl'; it has hps, stl"):
        figures.differences(table([0.1]), "dsmtl")


def test_learning_curves_draw_each_method_on_each_task():
    history = pd.DataFrame([{"epoch": e, "split": s, "task": t, "name": "loss", "value": e + (s == "val")}
                            for e in (1, 2) for s in ("train", "val") for t in ("a", "b")])
    figure = figures.learning_curves({"one": history, "two": history})
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[2, 3], [2, 3]]


def test_learning_curves_leave_out_what_has_no_such_value():
    rows = [{"epoch": 1, "split": "val", "task": "a", "name": "loss", "value": 1.0},
            {"epoch": 1, "split": "train", "task": "shared", "name": "cosine", "value": 1.0}]
    assert [axis.get_title() for axis in figures.learning_curves({"one": pd.DataFrame(rows)}).axes] == ["a"]


def measured(epochs=(1, 2)):
    return pd.DataFrame([{"epoch": e, "split": "train", "task": task, "name": name, "value": e + 0.1 * k}
                         for e in epochs for k, task in enumerate(["shared", "module_2", "module_10"])
                         for name in figures.DIAGNOSTICS])


def test_diagnostics_draw_a_line_a_method_in_a_panel_a_measure():
    figure = figures.diagnostics({"one": measured(), "two": measured((1, 2, 3))})
    assert [axis.get_ylabel() for axis in figure.axes] == list(figures.DIAGNOSTICS.values())
    for axis in figure.axes:
        assert [line.get_ydata().tolist() for line in axis.lines[:2]] == [[1, 2], [1, 2, 3]]
    assert figure.axes[3].get_yscale() == "log"


def test_diagnostics_of_modules_run_from_the_input_side():
    figure = figures.diagnostics({"one": measured(), "two": measured()}, modules=True)
    assert len(figure.axes) == 2 * len(figures.DIAGNOSTICS)
    labels = [line.get_label() for line in figure.axes[1].lines]
    assert labels == ["module 2", "module 10", "all shared"]
    assert figure.axes[1].lines[1].get_ydata().tolist() == pytest.approx([1.2, 2.2])


def test_diagnostics_that_were_not_taken_are_asked_for():
    with pytest.raises(ValueError, match="diagnostics=True"):
        figures.diagnostics({"one": table([0.1]).assign(name="loss")})


def test_predictions_show_input_truth_and_each_model():
    rooms = data.load("rooms", train=2, val=2, test=4)
    model = models.HPS(rooms).train()
    figure = figures.predictions(rooms, {"hps": model}, samples=(0, 2))
    assert len(figure.axes) == 2 * 3 * 3
    assert [axis.get_title() for axis in figure.axes[:3]] == ["input", "truth", "hps"]
    truth = next(rooms.test.batches(4)).targets["segmentation"][2]
    assert torch.equal(torch.as_tensor(figure.axes[10].images[0].get_array().data).long(), truth.long())
    assert model.training


def test_beside_a_prediction_stands_where_it_is_wrong():
    rooms = data.load("rooms", train=2, val=2, test=4)
    made = {name: models.HPS(rooms) for name in ("one", "two")}
    for parameter in made["two"].parameters():
        parameter.data.mul_(-2.0)  # else both would start from the same weights
    figure = figures.predictions(rooms, made, samples=(1,), errors=True)
    rows = [figure.axes[6 * row:6 * row + 6] for row in range(3)]
    assert [axis.get_title() for axis in rows[0][::2]] == ["input", "one", "two"]
    batch = next(rooms.test.subset([1]).batches(1))
    scores = training.evaluate(made["two"], _alone(rooms, 1))
    assert rows[0][5].get_title() == f"{1 - scores['segmentation']['pixel_accuracy']:.0%} wrong"
    assert rows[1][5].get_title() == f"off by {scores['depth']['abs_error']:.3g}"
    assert rows[2][5].get_title() == f"off by {scores['normals']['mean_angle']:.3g}"
    for row, task in zip(rows, rooms.tasks, strict=True):
        guess = made["one"].eval()(batch.inputs)[task.name][0].detach()
        drawn = torch.as_tensor(row[3].images[0].get_array().data)
        assert torch.equal(drawn, figures.error_map(task, guess, batch.targets[task.name][0]))
        assert row[3].images[0].get_clim() == row[5].images[0].get_clim()


def _alone(problem, sample):
    return dataclasses.replace(problem, test=problem.test.subset([sample]))


def test_pixels_without_a_label_are_no_errors():
    segment = data.segmentation("s", 2)
    logits, truth = torch.tensor([[[1.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]]]), torch.tensor([[0, 0, -1]])
    assert torch.equal(figures.error_map(segment, logits, truth)[0, :2], torch.tensor([0.0, 1.0]).double())
    assert figures.error_map(segment, logits, truth)[0, 2].isnan()
    metres = torch.tensor([[[1.0, float("nan")]]])
    assert figures.error_map(data.depth("d"), torch.zeros(1, 1, 2), metres)[0, 0] == 1.0
    assert figures.error_map(data.depth("d"), torch.zeros(1, 1, 2), metres)[0, 1].isnan()


def test_predictions_need_a_dense_task():
    digits = data.describe("multidigits")
    with pytest.raises(ValueError, match="no dense task"):
        figures.predictions(digits, {})


def test_void_pixels_are_left_blank():
    figure, axes = figures.panels(1, 1)
    target = torch.tensor([[0, 1], [-1, 2]])
    figures.draw_dense(axes[0, 0], data.segmentation("s", 3), target)
    assert axes[0, 0].images[0].get_array().mask.tolist() == [[False, False], [True, False]]


def test_a_shown_figure_has_words_that_stand_in_for_it(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda figure, metadata: shown.append((figure, metadata)))
    figure, _ = figures.panels(1, 1)
    figures.show(figure, "an empty panel")
    assert shown == [(figure, {"image/png": {"alt": "an empty panel"}})]
    with pytest.raises(ValueError, match="needs words"):
        figures.show(figure, " ")


def test_a_lesson_has_one_thread_whatever_the_machine_has():
    code = ("import numpy, scipy.linalg, torch; from mtlcourse import figures; figures.setup(3);"
            "import sklearn.cluster; from threadpoolctl import threadpool_info;"
            "print({pool['num_threads'] for pool in threadpool_info()} | {torch.get_num_threads()})")
    many = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "3")
    done = subprocess.run([sys.executable, "-c", code], env=many, capture_output=True, text=True, check=True)
    assert done.stdout == "{1}\n"
