"""The papers' image sets, as described; without their images."""

import math

import pytest
import torch

from mtlcourse import data, methods
from mtlcourse.data import benchmarks
from mtlcourse.published import load
from mtlcourse.void import valid_mask

# Channels of each task's prediction, as the papers have the tasks, and the size of the images.
PRINTED = {
    "cityscapes": ({"segmentation": 7, "depth": 1}, (128, 256), 50, 8, "dsmtl-1"),
    "nyuv2": ({"segmentation": 13, "depth": 1, "normals": 3}, (288, 384), 50, 8, "dsmtl-2"),
    "pascal_context": ({"segmentation": 21, "human_parts": 7, "saliency": 1, "normals": 3}, (512, 512), 18, 32,
                       "dsmtl-3"),
    "taskonomy": ({"segmentation": 17, "depth": 1, "keypoints": 1, "edges": 1, "normals": 3}, (256, 256), 18, 128,
                  "dsmtl-4"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_tasks_net_and_settings_are_the_printed_ones(name: str):
    channels, size, depth, batch_size, table = PRINTED[name]
    problem = data.describe(name)
    assert {task.name: task.out_channels for task in problem.tasks} == channels
    assert problem.input_shape == (3, *size) and all(task.dense for task in problem.tasks)
    assert problem.encoder == {"name": "deeplab_resnet", "depth": depth}
    assert methods.budget_arguments(problem, "paper") == {
        "lr": 1e-4, "weight_decay": 1e-5, "batch_size": batch_size, "epochs": 200}
    assert [task.replace(" ", "_") for task in load(table).tasks] == problem.task_names


@pytest.mark.parametrize("name", [*PRINTED, "celeba"])
def test_losses_and_measures_take_predictions_of_their_tasks(name: str):
    problem = data.describe(name)
    for task in problem.tasks:
        pixels = (4, 5) if task.dense else ()
        prediction = torch.rand(2, task.out_channels, *pixels)
        target = torch.rand_like(prediction) if task.kind == "regression" else torch.ones(2, *pixels).long()
        assert task.loss(prediction, target).shape == (2,)
        for factory in task.metrics.values():
            measure = factory()
            measure.update(prediction, target)
            assert not math.isnan(measure.compute())


@pytest.mark.parametrize("table", ["thesis-5.2", "thesis-5.3", "thesis-5.9", "thesis-5.10"])
def test_measures_are_those_of_the_thesis(table: str):
    names = {"mIoU": "miou", "pixel accuracy": "pixel_accuracy", "absolute error": "abs_error",
             "relative error": "rel_error", "mean angle": "mean_angle", "median angle": "median_angle",
             "RMSE angle": "rmse_angle", "max F": "max_f", "within 11.25": "within_11.25", "within 22.5": "within_22.5",
             "within 30": "within_30"}
    printed = load(table)
    problem = data.describe(next(name for name, facts in PRINTED.items() if [*facts[0]] == [
        task.replace(" ", "_") for task in printed.tasks]))
    for task, columns in zip(problem.tasks, printed.tasks.values(), strict=True):
        assert list(task.metrics) == [names[column.metric] for column in columns]
        for column in columns:
            assert task.metrics[names[column.metric]]().higher_is_better == column.higher_is_better


def test_celeba_has_nine_attributes():
    problem = data.describe("celeba")
    assert len(problem.tasks) == 9 and {task.out_channels for task in problem.tasks} == {2}
    assert problem.encoder["stem"] == "3x3" and problem.input_shape == (3, 64, 64)


def test_zero_depth_and_zero_normals_are_no_labels():
    depth = torch.tensor([[[[1.0, 0.0], [2.0, 0.0]]]])
    normals = torch.zeros(1, 3, 2, 2)
    normals[0, :, 0, 0], normals[0, :, 1, 0] = torch.tensor([0.6, -0.6, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    for target, task in ((depth, "depth"), (normals, "normals")):
        masked = benchmarks.zero_is_void(target)
        here = valid_mask(masked).all(1)
        assert here.tolist() == [[[True, False], [True, False]]]  # a true normal whose sum is zero stays
        wanted = next(t for t in data.describe("nyuv2").tasks if t.name == task)
        guess = torch.full_like(target, 0.25)
        other = torch.where(here[:, None], guess, 99.0)  # what is said at pixels without label counts for nothing
        assert torch.equal(wanted.loss(guess, masked), wanted.loss(other, masked))
        for metric in wanted.metrics.values():
            assert torch.equal(metric().statistics(guess, masked), metric().statistics(other, masked))
    assert not torch.isnan(depth).any()  # the reader's tensor is left alone
