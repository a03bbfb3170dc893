"""Tasks of the usual kinds: loss, measures and target shapes go together."""

import pytest
import torch
import torch.nn.functional as F

from mtlcourse import data, metrics

HEIGHT, WIDTH, SAMPLES = 4, 6, 5
PIXELS = (SAMPLES, HEIGHT, WIDTH)
labels = torch.Generator().manual_seed(0)


def classes(number, shape):
    return torch.randint(number, shape, generator=labels)


def reals(*shape):
    return torch.randn(*shape, generator=labels)


KINDS = {
    "classification": (data.classification("t", 4), reals(SAMPLES, 4), classes(4, (SAMPLES,)), ["accuracy"]),
    "dense classification": (data.classification("t", 3, dense=True), reals(SAMPLES, 3, HEIGHT, WIDTH),
                             classes(3, PIXELS), ["accuracy"]),
    "binary": (data.binary("t"), reals(SAMPLES, 1), classes(2, (SAMPLES,)), ["accuracy", "f1"]),
    "dense binary": (data.binary("t", dense=True), reals(SAMPLES, 1, HEIGHT, WIDTH), classes(2, PIXELS),
                     ["accuracy", "f1"]),
    "regression": (data.regression("t", 2), reals(SAMPLES, 2), reals(SAMPLES, 2), ["mse", "r2"]),
    "segmentation": (data.segmentation("t", 3), reals(SAMPLES, 3, HEIGHT, WIDTH), classes(3, PIXELS),
                     ["miou", "pixel_accuracy"]),
    "depth": (data.depth("t"), reals(SAMPLES, 1, HEIGHT, WIDTH), reals(SAMPLES, 1, HEIGHT, WIDTH).abs() + 1,
              ["abs_error", "rel_error"]),
    "normals": (data.normals("t"), reals(SAMPLES, 3, HEIGHT, WIDTH), reals(SAMPLES, 3, HEIGHT, WIDTH),
                ["mean_angle", "median_angle", "within_11.25", "within_22.5", "within_30"]),
    "rare": (data.binary("t", measures=("accuracy", "auc", "precision", "recall")),
             torch.tensor([[1.0], [-2.0], [0.5], [2.0], [-1.0]]), torch.tensor([1, 0, 0, 1, 0]),
             ["accuracy", "auc", "precision", "recall"]),
    "errors": (data.regression("t", 2, measures=("rmse", "mae")), reals(SAMPLES, 2), reals(SAMPLES, 2),
               ["rmse", "mae"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_measures_take_the_tasks_own_targets(kind):
    task, prediction, target, names = KINDS[kind]
    task.check(target, (3, HEIGHT, WIDTH))
    assert prediction.shape[1] == task.out_channels
    loss = task.loss(prediction, target)
    assert loss.shape == (SAMPLES,) and bool((loss > 0).all())
    assert list(task.metrics) == names
    for factory in task.metrics.values():
        metric = factory()
        metric.update(prediction, target)
        assert metric.compute() == metric.compute() != 0  # a number
        assert factory() is not metric


def test_losses_are_the_usual_ones():
    expected = {
        "classification": F.cross_entropy, "dense classification": F.cross_entropy, "segmentation": F.cross_entropy,
        "binary": lambda p, t: F.binary_cross_entropy_with_logits(p[:, 0], t.float()),
        "dense binary": lambda p, t: F.binary_cross_entropy_with_logits(p[:, 0], t.float()),
        "rare": lambda p, t: F.binary_cross_entropy_with_logits(p[:, 0], t.float()),
        "regression": F.mse_loss, "errors": F.mse_loss, "depth": F.l1_loss,
        "normals": lambda p, t: 1 - F.cosine_similarity(p, t, dim=1).mean(),
    }
    for kind, (task, prediction, target, _) in KINDS.items():
        torch.testing.assert_close(task.loss(prediction, target).mean(), expected[kind](prediction, target), msg=kind)


def test_measures_are_what_their_names_say():
    expected = {
        "accuracy": metrics.Accuracy, "f1": metrics.F1, "mse": metrics.MSE, "r2": metrics.R2, "miou": metrics.MeanIoU,
        "pixel_accuracy": metrics.PixelAccuracy, "abs_error": metrics.AbsError, "rel_error": metrics.RelError,
        "mean_angle": metrics.MeanAngle, "median_angle": metrics.MedianAngle, "within_11.25": metrics.AngleWithin,
        "within_22.5": metrics.AngleWithin, "within_30": metrics.AngleWithin, "auc": metrics.AUC,
        "precision": metrics.Precision, "recall": metrics.Recall, "rmse": metrics.RMSE, "mae": metrics.MAE,
    }
    found = {name: factory() for task, *_ in KINDS.values() for name, factory in task.metrics.items()}
    assert {name: type(metric) for name, metric in found.items()} == expected
    assert [found[f"within_{degrees}"].degrees for degrees in (11.25, 22.5, 30)] == [11.25, 22.5, 30]


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_prediction_is_the_best_value(kind):
    task, prediction, target, _ = KINDS[kind]
    if task.kind == "regression":
        perfect = target
    elif task.out_channels == 1:
        perfect = 20.0 * target.unsqueeze(1) - 10
    else:
        perfect = 20 * torch.nn.functional.one_hot(target, task.out_channels).movedim(-1, 1).float()
    assert task.loss(perfect, target).max() < 1e-3
    for name, factory in task.metrics.items():
        metric = factory()
        metric.update(perfect, target)
        assert metric.compute() == pytest.approx(1 if metric.higher_is_better else 0, abs=0.1), name


def test_one_class_is_no_choice():
    with pytest.raises(ValueError, match=r"classes=1.*binary\('t'\)"):
        data.classification("t", 1)


def test_measures_can_be_chosen_and_others_are_refused():
    assert list(data.binary("t", measures=["recall", "f1"]).metrics) == ["recall", "f1"]
    assert data.regression("t", 3, measures=["r2"]).metrics["r2"]().channels == 3
    for make in (data.binary, data.regression):
        with pytest.raises(ValueError, match="Unknown measure of task 't' 'aoc'. Known: "):
            make("t", measures=["aoc"])
        with pytest.raises(ValueError, match="'t' has no metric"):
            make("t", measures=[])
