"""The measures against scikit-learn, torchmetrics and brute force; merging, resampling, void labels."""

import math
from functools import partial

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jaxtyping import config

from mtlcourse import metrics
from mtlcourse.void import VOID, valid_mask

NAN = float("nan")


def make(kind, pixels=(), seed=0, batch=30):
    """Predictions that know something, targets with gaps, and one sample without any label.

    kind: "classes" (5 logits, class 4 never labelled), "positive" (a logit), "logits" (two), "values",
    "depth" (some of it 0: not measured), "normals".
    """
    rng = np.random.default_rng(seed)
    if kind in ("classes", "positive", "logits"):
        target = rng.integers(0, 4 if kind == "classes" else 2, (batch, *pixels))
        logits = rng.normal(size=(batch, 5 if kind == "classes" else 2, *pixels)) * 2
        np.put_along_axis(logits, target[:, None], np.take_along_axis(logits, target[:, None], 1) + 1.5, 1)
        prediction = logits[:, 1:] - logits[:, :1] if kind == "positive" else logits
        void = VOID
    else:
        shape = (batch, {"values": 2, "depth": 1, "normals": 3}[kind], *pixels)
        target = rng.normal(size=shape) if kind != "depth" else rng.uniform(1, 9, shape) * (rng.random(shape) < 0.8)
        prediction = target + rng.normal(size=shape) * (rng.random((batch, 1, *[1] * len(pixels))) + 0.1)
        void = NAN
    target[rng.random(target.shape) < 0.2] = void
    target[-1] = void
    prediction = torch.tensor(prediction, dtype=torch.float32)
    return prediction, torch.tensor(target, dtype=torch.float32 if void is NAN else torch.long)


def labelled(prediction, target):
    """What scikit-learn wants: labels, predicted classes and probabilities of class 1 of the labelled elements."""
    logits = np.moveaxis(prediction.double().numpy(), 1, -1).reshape(target.numel(), -1)
    labels = target.numpy().reshape(-1)
    keep = labels != VOID
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    odds = logits[keep, 1] - logits[keep, 0]
    return labels[keep], logits[keep].argmax(1), 1 / (1 + np.exp(-odds))


def known(prediction, target):
    """True and predicted values, where there is a true one."""
    keep = ~np.isnan(target.numpy())
    return target.numpy()[keep].astype(float), prediction.numpy()[keep].astype(float)


def positive_depth(prediction, target):
    truth, guess = known(prediction, target)
    return truth[truth > 0], guess[truth > 0]


def angles(prediction, target):
    """Degrees between vectors, from the sine and the cosine, where no channel is unknown."""
    p, t = (np.moveaxis(x.double().numpy(), 1, -1).reshape(-1, 3) for x in (prediction, target))
    keep = ~np.isnan(t).any(1)
    p, t = p[keep], t[keep]
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(p, t), axis=1), (p * t).sum(1)))


def of_classes(score, **options):
    def oracle(prediction, target):
        labels, decided, _ = labelled(prediction, target)
        return score(labels, decided, **options)
    return oracle


def r2(prediction, target):
    channels = [known(prediction[:, c], target[:, c]) for c in range(prediction.shape[1])]
    return np.mean([sk.r2_score(truth, guess) for truth, guess in channels])


def within(power):
    def oracle(prediction, target):
        truth, guess = positive_depth(prediction, target)
        ratio = np.array([max(p / t, t / p) if p > 0 else np.inf for t, p in zip(truth, guess, strict=True)])
        return (ratio < 1.25**power).mean()
    return oracle


def max_f(beta_squared):
    def oracle(prediction, target):
        labels, _, probability = labelled(prediction, target)
        return max(sk.fbeta_score(labels, probability >= j / 256, beta=math.sqrt(beta_squared), zero_division=0)
                   for j in range(256))
    return oracle


def brier(prediction, target):
    """Half of the printed sum over classes, with a softmax of our own."""
    logits = np.moveaxis(prediction.double().numpy(), 1, -1).reshape(target.numel(), -1)
    labels = target.numpy().reshape(-1)
    odds = np.exp(logits[labels != VOID])
    p = odds / odds.sum(1, keepdims=True)
    return ((p - np.eye(p.shape[1])[labels[labels != VOID]]) ** 2).sum(1).mean() / 2


MACRO = {"average": "macro", "zero_division": 0}
POSITIVE = {"average": "binary", "zero_division": 0}
# name: (factory, kind of data, shapes of pixels, what an independent computation gives, its tolerance)
CASES = {
    "accuracy": (metrics.Accuracy, "classes", ((), (3, 4)), of_classes(sk.accuracy_score), 0),
    "accuracy, one logit": (metrics.Accuracy, "positive", ((), (3, 4)), of_classes(sk.accuracy_score), 0),
    "pixel accuracy": (metrics.PixelAccuracy, "classes", ((3, 4),), of_classes(sk.accuracy_score), 0),
    "error rate": (metrics.ErrorRate, "positive", ((),), of_classes(sk.zero_one_loss), 0),
    "Brier": (metrics.Brier, "classes", ((), (3, 4)), lambda p, y: brier(p, y), 0),
    "Brier, one logit": (metrics.Brier, "positive", ((),), lambda p, y: sk.brier_score_loss(*labelled(p, y)[::2]), 0),
    "pixel error": (metrics.PixelError, "classes", ((3, 4),), of_classes(sk.zero_one_loss), 0),
    "F1": (partial(metrics.F1, 5), "classes", ((), (3, 4)), of_classes(sk.f1_score, **MACRO), 0),
    "F1, one logit": (metrics.F1, "positive", ((), (3, 4)), of_classes(sk.f1_score, **POSITIVE), 0),
    "F1, two logits": (metrics.F1, "logits", ((),), of_classes(sk.f1_score, **POSITIVE), 0),
    "precision": (partial(metrics.Precision, 5), "classes", ((), (3, 4)), of_classes(sk.precision_score, **MACRO), 0),
    "precision, one logit": (metrics.Precision, "positive", ((),), of_classes(sk.precision_score, **POSITIVE), 0),
    "recall": (partial(metrics.Recall, 5), "classes", ((), (3, 4)), of_classes(sk.recall_score, **MACRO), 0),
    "recall, one logit": (metrics.Recall, "positive", ((),), of_classes(sk.recall_score, **POSITIVE), 0),
    "mIoU": (partial(metrics.MeanIoU, 5), "classes", ((), (3, 4)), of_classes(sk.jaccard_score, **MACRO), 0),
    "mIoU, one logit": (metrics.MeanIoU, "positive", ((3, 4),), of_classes(sk.jaccard_score, **MACRO), 0),
    "AUC": (metrics.AUC, "positive", ((), (3, 4)), lambda p, y: sk.roc_auc_score(*labelled(p, y)[::2]), 1e-3),
    "AUC, two logits": (metrics.AUC, "logits", ((),), lambda p, y: sk.roc_auc_score(*labelled(p, y)[::2]), 1e-3),
    "maxF": (metrics.MaxF, "positive", ((), (3, 4)), max_f(0.3), 0),
    "maxF, beta 1": (partial(metrics.MaxF, 1.0), "logits", ((),), max_f(1.0), 0),
    "MSE": (metrics.MSE, "values", ((), (3, 4)), lambda p, y: sk.mean_squared_error(*known(p, y)), 0),
    "RMSE": (metrics.RMSE, "values", ((),), lambda p, y: sk.root_mean_squared_error(*known(p, y)), 0),
    "MAE": (metrics.MAE, "values", ((), (3, 4)), lambda p, y: sk.mean_absolute_error(*known(p, y)), 0),
    "R2": (partial(metrics.R2, 2), "values", ((), (3, 4)), r2, 0),
    "abs error": (metrics.AbsError, "depth", ((3, 4),), lambda p, y: sk.mean_absolute_error(*known(p, y)), 0),
    "rel error": (metrics.RelError, "depth", ((), (3, 4)),
                  lambda p, y: sk.mean_absolute_percentage_error(*positive_depth(p, y)), 0),
    "within 1.25": (metrics.DepthWithin, "depth", ((), (3, 4)), within(1), 0),
    "within 1.25^3": (partial(metrics.DepthWithin, 3), "depth", ((3, 4),), within(3), 0),
    "mean angle": (metrics.MeanAngle, "normals", ((), (3, 4)), lambda p, y: angles(p, y).mean(), 0),
    "median angle": (metrics.MedianAngle, "normals", ((), (3, 4)), lambda p, y: np.median(angles(p, y)), 0.1),
    "RMSE angle": (metrics.RMSEAngle, "normals", ((3, 4),), lambda p, y: np.sqrt((angles(p, y) ** 2).mean()), 0),
    "angle within": (partial(metrics.AngleWithin, 22.5), "normals", ((3, 4),),
                     lambda p, y: (angles(p, y) < 22.5).mean(), 0),
}
every_measure = pytest.mark.parametrize("name", CASES)


def collected(factory, *batches):
    metric = factory()
    for prediction, target in batches:
        metric.update(prediction, target)
    return metric


@pytest.mark.parametrize(("name", "pixels"), [(name, pixels) for name in CASES for pixels in CASES[name][2]], ids=str)
def test_equals_an_independent_computation(name, pixels):
    factory, kind, _, oracle, tolerance = CASES[name]
    prediction, target = make(kind, pixels)
    value = collected(factory, (prediction, target)).compute()
    assert isinstance(value, float)
    assert value == pytest.approx(oracle(prediction, target), rel=1e-9, abs=tolerance)


def test_segmentation_equals_torchmetrics():
    from torchmetrics.functional.classification import multiclass_f1_score, multiclass_jaccard_index

    prediction, target = make("classes", (6, 8))
    for measure, theirs in ((metrics.MeanIoU, multiclass_jaccard_index), (metrics.F1, multiclass_f1_score)):
        expected = theirs(prediction, target, num_classes=5, average="macro", ignore_index=VOID).item()
        assert collected(partial(measure, 5), (prediction, target)).compute() == pytest.approx(expected, rel=1e-6)


@every_measure
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 29))
@settings(max_examples=12, deadline=None)
def test_parts_merge_to_the_whole(name, seed, cut):
    factory, kind, shapes, _, _ = CASES[name]
    prediction, target = make(kind, shapes[-1], seed)
    whole = collected(factory, (prediction, target))
    assert whole.total.dtype == torch.float64 and whole.total.shape == (whole.k,)

    rows = whole.statistics(prediction, target)
    assert rows.shape == (len(target), whole.k)
    torch.testing.assert_close(rows.sum(0), whole.total)
    assert (rows[-1] == 0).all()  # the sample without labels

    batches = [(prediction[:cut], target[:cut]), (prediction[cut:], target[cut:])]
    in_turn = collected(factory, *batches)
    first, second = (collected(factory, batch) for batch in batches)
    first.merge(second)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    shuffled = collected(factory, (prediction[order], target[order]))
    for other in (in_turn, first, shuffled):
        torch.testing.assert_close(other.total, whole.total)
        assert other.compute() == pytest.approx(whole.compute(), rel=1e-9, nan_ok=True)


@every_measure
@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_resampling_rows_is_resampling_samples(name, seed):
    factory, kind, shapes, _, _ = CASES[name]
    prediction, target = make(kind, shapes[-1], seed)
    drawn = torch.randint(len(target), (len(target),), generator=torch.Generator().manual_seed(seed))
    metric = factory()
    rows = metric.statistics(prediction, target)
    expected = collected(factory, (prediction[drawn], target[drawn])).compute()
    assert metric.value(rows[drawn].sum(0)) == pytest.approx(expected, rel=1e-9, nan_ok=True)
    weights = torch.bincount(drawn, minlength=len(target)).double()
    assert metric.value(weights @ rows) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@every_measure
def test_many_totals_at_once_have_the_values_of_each(name):
    factory, kind, shapes, _, _ = CASES[name]
    rows = factory().statistics(*make(kind, shapes[-1]))
    weights = torch.from_numpy(np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), 20))
    totals = torch.cat([weights.double() @ rows, rows[:3], 0 * rows[:1], math.nan * rows[:1]])
    each = [factory().value(total) for total in totals]
    assert factory().values(totals).tolist() == pytest.approx(each, rel=1e-12, nan_ok=True)


def test_a_measure_of_ones_own_that_changes_the_value_changes_it_for_many_totals():
    class Halved(metrics.MSE):
        def value(self, total):
            return super().value(total) / 2

    class Same(Halved):
        pass

    class Twice(metrics.R2):
        def value(self, total):
            return 2 * super().value(total)

    class Missed(metrics.F1):
        def value(self, total):
            return 1 - super().value(total)

    for own, parent in ((Twice(), metrics.R2()), (Missed(), metrics.F1())):
        total = torch.arange(1.0, 1 + own.k, dtype=torch.float64) ** 2
        assert own.values(total[None]).tolist() == [own.value(total)] != parent.values(total[None]).tolist()
    totals = torch.tensor([[8.0, 2.0], [3.0, 1.0]], dtype=torch.float64)
    assert Halved().values(totals).tolist() == Same().values(totals).tolist() == [2.0, 1.5]
    assert metrics.MSE().values(totals).tolist() == [4.0, 3.0]


@every_measure
@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_a_measure_with_an_interval_is_a_mean_of_the_samples_own_values(name, seed):
    """And one without an interval is not, so that nobody takes its mean over samples for the measure."""
    factory, kind, shapes, _, _ = CASES[name]
    prediction, target = make(kind, shapes[-1], seed)
    metric = factory()
    rows = metric.statistics(prediction, target)
    if metric.interval is None:
        assert metric.k != 2 or abs(metric.value(rows.sum(0)) - _mean_of_own(metric, rows)) > 1e-6
        return
    low, high = metric.interval
    own = [metric.value(row) for row in rows if row[1]]
    assert metric.k == 2 and low <= min(own) and max(own) <= high
    assert metric.value(rows.sum(0)) == pytest.approx(_mean_of_own(metric, rows))


def _mean_of_own(metric, rows):
    counted = rows[rows[:, 1] > 0]
    return np.average([metric.value(row) for row in counted], weights=counted[:, 1])


@every_measure
def test_what_is_predicted_at_void_elements_does_not_matter(name):
    factory, kind, shapes, _, _ = CASES[name]
    prediction, target = make(kind, shapes[-1])
    valid = valid_mask(target) if target.is_floating_point() else valid_mask(target).unsqueeze(1)
    changed = torch.where(valid.expand_as(prediction), prediction, 50 * torch.randn(prediction.shape))
    if kind == "normals":  # one unknown channel makes the whole direction unknown
        changed = torch.where(valid.all(1, keepdim=True), prediction, changed)
    expected = collected(factory, (prediction, target)).total
    assert torch.equal(collected(factory, (changed, target)).total, expected)


@every_measure
def test_nothing_collected_is_nan_and_reset_forgets(name):
    factory, kind, shapes, _, _ = CASES[name]
    prediction, target = make(kind, shapes[-1])
    metric = collected(factory, (prediction[-1:], target[-1:]))
    assert math.isnan(factory().compute()) and math.isnan(metric.compute())
    metric.update(prediction, target)
    assert not math.isnan(metric.compute())
    metric.reset()
    assert math.isnan(metric.compute()) and metric.total.shape == (metric.k,)


@every_measure
def test_a_broken_prediction_gives_nan(name):
    factory, kind, shapes, _, _ = CASES[name]
    prediction, target = make(kind, shapes[-1])
    prediction[3].view(-1)[0] = NAN
    metric = collected(factory, (prediction, target))
    assert math.isnan(metric.compute())
    rows = metric.statistics(prediction, target)
    assert rows[3].isnan().all() and not rows[[0, 1, 2, 4]].isnan().any()


@every_measure
def test_half_precision_and_gradients_and_devices(name):
    """bfloat16 predictions are as good as their float32 copies; no graph is kept; no value is asked for."""
    factory, kind, shapes, _, _ = CASES[name]
    prediction, target = make(kind, shapes[-1])
    half = prediction.bfloat16().requires_grad_()
    metric = collected(factory, (half, target))
    assert not metric.total.requires_grad
    assert torch.equal(metric.total, collected(factory, (half.float(), target)).total)
    assert factory().statistics(prediction.to("meta"), target.to("meta")).shape == (len(target), metric.k)


@every_measure
def test_better_predictions_have_better_values(name):
    factory, kind, shapes, _, _ = CASES[name]
    prediction, target = make(kind, shapes[-1])
    perfect = target.nan_to_num(1.0)
    if not target.is_floating_point():
        perfect = torch.nn.functional.one_hot(target.clamp(min=0), 5 if kind == "classes" else 2).movedim(-1, 1) * 30.0
        perfect = perfect[:, 1:] - 15.0 if kind == "positive" else perfect
    metric = factory()
    best, usual = (collected(factory, (p, target)).compute() for p in (perfect, prediction))
    assert best == pytest.approx(1.0 if metric.higher_is_better else 0.0, abs=0.1 if name == "median angle" else 1e-5)
    assert best > usual if metric.higher_is_better else best < usual


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32], ids=str)
def test_labels_may_be_short_integers(dtype):
    for kind, factory in (("positive", metrics.AUC), ("positive", metrics.F1), ("classes", metrics.Accuracy)):
        prediction, target = make(kind)
        prediction, target = prediction[target != VOID], target[target != VOID]
        expected = collected(factory, (prediction, target)).compute()
        assert collected(factory, (prediction, target.to(dtype))).compute() == expected


@given(scores=st.lists(st.sampled_from([-30.0, -3.0, -1.0, 0.0, 0.5, 2.0, 8.0, math.inf]), min_size=2, max_size=30),
       seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_auc_is_exact_when_no_two_scores_share_a_bin(scores, seed):
    labels = np.random.default_rng(seed).integers(0, 2, len(scores))
    labels[:2] = 0, 1
    value = collected(metrics.AUC, (torch.tensor(scores)[:, None], torch.tensor(labels))).compute()
    assert value == pytest.approx(sk.roc_auc_score(labels, np.minimum(scores, 1e9)), rel=1e-12)


@given(seed=st.integers(0, 10**6), spread=st.sampled_from([1e-4, 1e-2, 1.0, 100.0]))
@settings(max_examples=30, deadline=None)
def test_auc_is_within_its_bound(seed, spread):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 200)
    scores = torch.tensor(rng.normal(size=200) * spread + labels * spread)
    value = collected(metrics.AUC, (scores[:, None], torch.tensor(labels))).compute()
    bins = np.floor((0.5 + np.arctan(scores.numpy()) / np.pi) * 1000)
    shared = (bins[labels == 1][:, None] == bins[labels == 0]).mean()
    assert abs(value - sk.roc_auc_score(labels, scores)) <= shared / 2 + 1e-12


def test_auc_needs_both_classes():
    metric = collected(metrics.AUC, (torch.zeros(3, 1), torch.ones(3, dtype=torch.long)))
    assert math.isnan(metric.compute())


@given(degrees=st.lists(st.floats(0.001, 179.999), min_size=1, max_size=40))
@example(degrees=[10.0001] * 11 + [50.0] * 9)  # the median is at the far end of a bin, its pixels at the near end
@settings(max_examples=100, deadline=None)
def test_median_angle_is_within_a_tenth_of_a_degree(degrees):
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    prediction = torch.stack([radians.cos(), radians.sin()], dim=1)
    target = torch.tensor([1.0, 0.0], dtype=torch.float64).expand_as(prediction)
    value = collected(metrics.MedianAngle, (prediction, target)).compute()
    assert value == pytest.approx(np.median(degrees), abs=0.1 + 1e-6)


def test_median_angle_of_many_pixels_is_much_closer_than_its_bins():
    prediction, target = make("normals", (48, 64), batch=8)
    value = collected(metrics.MedianAngle, (prediction, target)).compute()
    assert value == pytest.approx(np.median(angles(prediction, target)), abs=0.01)


def test_maxf_tells_scores_apart_that_a_threshold_separates():
    def value(negative, positive):
        return collected(metrics.MaxF, (torch.tensor([[negative], [positive]]).logit(), torch.tensor([0, 1]))).compute()

    for j in range(1, 256):
        assert value((j - 0.25) / 256, (j + 0.25) / 256) == pytest.approx(1)
        assert value((j + 0.25) / 256, (j + 0.75) / 256) == pytest.approx(1.3 / 2.3)


def test_vectors_without_length_count_as_right_angles():
    target = torch.tensor([[0.0, 0.0, 1.0]])
    assert collected(metrics.MeanAngle, (torch.zeros(1, 3), target)).compute() == pytest.approx(90)
    assert collected(metrics.MeanAngle, (target, torch.zeros(1, 3))).compute() == pytest.approx(90)


def test_depth_that_is_zero_or_negative():
    prediction, target = torch.tensor([[1.0], [-2.0], [0.0], [3.0]]), torch.tensor([[0.0], [2.0], [1.0], [3.0]])
    assert collected(metrics.RelError, (prediction, target)).compute() == pytest.approx((2 + 1 + 0) / 3)
    assert collected(metrics.DepthWithin, (prediction, target)).compute() == pytest.approx(1 / 3)
    assert collected(metrics.AbsError, (prediction, target)).compute() == pytest.approx((1 + 4 + 1 + 0) / 4)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_r2_of_constant_targets_is_undefined(constant):
    assert math.isnan(collected(metrics.R2, (torch.randn(50, 1), torch.full((50, 1), constant))).compute())


def test_a_class_that_never_occurs_is_left_out_and_one_only_predicted_counts():
    labels = torch.tensor([0, 0, 1, 1])
    right, wrong = 9.0 * torch.eye(4)[labels], 9.0 * torch.eye(4)[torch.tensor([0, 0, 1, 3])]
    for factory, expected in ((metrics.MeanIoU, (1 + 0.5 + 0) / 3), (metrics.Recall, (1 + 0.5 + 0) / 3),
                              (metrics.Precision, (1 + 1 + 0) / 3), (metrics.F1, (1 + 2 / 3 + 0) / 3)):
        assert collected(partial(factory, 4), (right, labels)).compute() == 1
        assert collected(partial(factory, 4), (wrong, labels)).compute() == pytest.approx(expected)


def test_no_positive_element_gives_zero_not_nan():
    never = (torch.full((3, 1), -5.0), torch.zeros(3, dtype=torch.long))
    for factory in (metrics.F1, metrics.Precision, metrics.Recall, metrics.MaxF):
        assert collected(factory, never).compute() == 0


@pytest.fixture
def without_type_checks():
    """As users run it: the annotations of shapes are not checked, so that our own errors are seen."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(("factory", "prediction", "target", "error", "words"), [
    (metrics.Accuracy, torch.zeros(3, 2), torch.zeros(3), TypeError, r"Accuracy\(\) needs integer targets"),
    (metrics.MSE, torch.zeros(3, 1), torch.zeros(3, dtype=torch.long), TypeError, r"MSE\(\) needs real targets"),
    (metrics.MSE, torch.zeros(3, 1), torch.zeros(3), ValueError, r"target of shape \(3, 1\), but was given \(3,\)"),
    (metrics.Accuracy, torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.long), ValueError, r"target of shape \(3,\)"),
    (partial(metrics.F1, 3), torch.zeros(3, 4), torch.zeros(3, dtype=torch.long), ValueError, "classes=3.*4 channels"),
    (metrics.AUC, torch.zeros(3, 3), torch.zeros(3, dtype=torch.long), ValueError, "binary tasks"),
    (metrics.R2, torch.zeros(3, 2), torch.zeros(3, 2), ValueError, "channels=1.*2 channels"),
])
def test_what_does_not_fit_is_refused(factory, prediction, target, error, words, without_type_checks):
    with pytest.raises(error, match=words):
        factory().update(prediction, target)


@pytest.mark.parametrize("factory", [
    partial(metrics.F1, 1), partial(metrics.R2, 0), partial(metrics.DepthWithin, 0), partial(metrics.AngleWithin, 0),
    partial(metrics.AngleWithin, 200), partial(metrics.MaxF, 0.0),
], ids=str)
def test_options_out_of_range_are_refused(factory):
    with pytest.raises(ValueError, match=r"needs .* but was given"):
        factory()


def test_different_measures_do_not_merge():
    for one, other in ((metrics.MSE(), metrics.MAE()), (metrics.AngleWithin(30), metrics.AngleWithin(22.5)),
                       (metrics.F1(3), metrics.F1(4))):
        with pytest.raises(ValueError, match="Cannot merge"):
            one.merge(other)


def test_relative_change_is_positive_when_better():
    change = metrics.relative_change
    assert change(0.6, 0.5, higher_is_better=True) == pytest.approx(0.2)
    assert change(0.6, 0.5, higher_is_better=False) == pytest.approx(-0.2)
    assert change(-0.1, -0.4, higher_is_better=True) == pytest.approx(0.75)  # R2 can be negative: still better
    assert change(0.5, 0.5, higher_is_better=False) == 0
    for undefined in ((0.5, 0.0), (0.0, 0.0), (NAN, 0.5), (0.5, NAN)):
        assert math.isnan(change(*undefined, higher_is_better=True))
