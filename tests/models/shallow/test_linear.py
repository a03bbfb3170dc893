"""The models that hold solutions: what they predict, what they refuse, and the features of a trained encoder."""

import numpy as np
import pytest
import torch
from torch import nn

from mtlcourse import data, models
from mtlcourse.encoders import build
from mtlcourse.files import seed_everything
from mtlcourse.models.shallow import collect, solve
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.training import evaluate, fit
from tests.models.shallow.problems import KINDS, covariance, problem
from tests.problems import pixels, small

MODELS = (models.Lasso, models.L21, models.RMTL, models.MTRL, models.FeatureCovariance)


def solved(kind: type, made: Problem, strength: float = 0.1, **options) -> models.Shallow:
    model = kind(made, **options)
    found = collect(made.train, made.tasks, model.features)
    model.load(solve(found, model.penalty, strength)[0])
    return model


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_predicts_what_was_solved_and_evaluates_as_any_other(kind, model):
    made = problem(kind)
    shallow = model(made)
    found = collect(made.train, made.tasks, shallow.features)
    solution, _ = solve(found, shallow.penalty, 0.1)
    shallow.load(solution)
    np.testing.assert_allclose(shallow.weights(), solution.weights, atol=1e-6)
    measured = evaluate(shallow, made, "train")
    np.testing.assert_allclose([measured[name]["loss"] for name in made.task_names],
                               found.each(solution.weights, solution.bias), rtol=1e-4)


def test_images_are_flattened():
    x = torch.rand(20, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    split = TensorSplit(x, {"mean": x.mean((1, 2, 3))[:, None], "corner": x[:, 0, 0, :1]})
    made = Problem("maps", [data.regression("mean"), data.regression("corner")], split, split, split, (2, 3, 4),
                   {"name": "conv"})
    model = solved(models.Lasso, made, 1e-3)
    assert model.weights().shape == (24, 2)
    assert np.abs(model.weights()[:, 1]).argmax() == 0 and model.weights()[0, 1] > 0.9


# --- features of an encoder ---------------------------------------------------------------------------------------

def test_the_features_are_those_of_the_given_encoder_and_stay_so():
    made = problem("mixed")
    seed_everything(0)
    encoder = nn.ModuleList([nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU())])
    encoder.train()
    for _ in range(3):
        encoder[0](made.train.inputs)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    model = models.L21(made, encoder=list(encoder))
    expected = encoder.eval()[0](made.train.inputs)
    model.train()
    torch.testing.assert_close(model.features(made.train.inputs), expected)
    solved(models.L21, made, encoder=list(encoder))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert not any(p.requires_grad for p in model.features.parameters())
    assert [p.shape for p in model.learning()] == [torch.Size([1, 6]), torch.Size([1])] * 3


def test_every_method_sees_the_same_features_of_a_trained_network():
    made = problem("shared")
    net = fit(made, models.HPS(made), epochs=2, batch_size=10, progress=False).model
    found = [model(made, encoder=net.shared).features(made.test.inputs) for model in MODELS]
    assert all(torch.equal(features, net.shared(made.test.inputs)) for features in found)


def test_a_description_of_an_encoder_is_refused():
    with pytest.raises(ValueError, match="is a description, and would give random features. Hand in a trained encoder"):
        models.Lasso(problem(), encoder={"name": "mlp", "widths": [3]})


def test_an_encoder_may_look_whole_numbers_up_but_features_are_real():
    x = torch.arange(12).reshape(6, 2) % 4
    split = TensorSplit(x, {"sum": x.sum(1, keepdim=True).float()})
    made = Problem("words", [data.regression("sum")], split, split, split, (2,), {"name": "mlp"})
    model = solved(models.Lasso, made, 1e-3, encoder=[nn.Embedding(4, 3)])
    assert model.weights().shape == (6, 1)
    with pytest.raises(ValueError, match="features are torch.int64.*give inputs with .float"):
        models.Lasso(made)


# --- what is said of the weights -------------------------------------------------------------------------------------

def test_what_was_learned_is_said_in_numbers():
    made = problem("shared")
    lasso, rows = solved(models.Lasso, made, 1.0), solved(models.L21, made, 3.0)
    assert lasso.learned() == {"weights": {f"t{t}": int((lasso.weights()[:, t] != 0).sum()) for t in range(3)}}
    assert 0 < sum(lasso.learned()["weights"].values()) < 15
    assert rows.learned() == {"features": int(rows.weights().any(1).sum())} and 0 < rows.learned()["features"] < 5
    robust = solved(models.RMTL, made, 0.5)
    S = robust.outliers.numpy()
    assert robust.learned()["rank"] == np.linalg.matrix_rank(robust.weights() - S, tol=1e-4)
    np.testing.assert_allclose(list(robust.learned()["outliers"].values()), np.linalg.norm(S, axis=0), rtol=1e-6)


def test_both_learned_covariances_come_with_the_same_weights():
    made = problem("own")
    tasks, features = solved(models.MTRL, made), solved(models.FeatureCovariance, made)
    np.testing.assert_allclose(tasks.weights(), features.weights(), atol=1e-7)
    assert tasks.covariance().shape == (3, 3) and features.covariance().shape == (5, 5)
    values = np.linalg.eigvalsh(tasks.learned()["covariance"])[::-1]
    np.testing.assert_allclose(features.learned()["variances"], values, atol=1e-7)
    assert np.trace(tasks.covariance()) == pytest.approx(1) == np.trace(features.covariance())


def test_a_given_covariance_is_used_and_not_learned():
    made, C = problem("shared"), covariance(3)
    model = solved(models.MTRL, made, 0.5, covariance=C.tolist())
    np.testing.assert_array_equal(model.covariance(), C)
    assert model.learned() == {} == solved(models.FeatureCovariance, made, covariance=covariance(5)).learned()
    assert np.abs(model.weights() - solved(models.MTRL, made, 0.5).weights()).max() > 1e-2


def test_without_weights_there_is_something_to_say_all_the_same():
    made = problem("shared")
    for model in MODELS[:3]:
        zero = solved(model, made, 1e6)
        assert not zero.weights().any()
        assert zero.learned() in ({"weights": dict.fromkeys(made.task_names, 0)}, {"features": 0},
                                  {"rank": 0, "outliers": dict.fromkeys(made.task_names, 0.0)})
    assert models.FeatureCovariance(made).learned()["variances"]  # a model that is not solved yet has random weights


def test_the_state_holds_all_that_was_solved():
    made = problem("shared")
    model, other = solved(models.RMTL, made, 0.3), models.RMTL(made)
    other.load_state_dict(model.state_dict())
    assert other.learned() == model.learned() and (other.weights() == model.weights()).all()


# --- refusals ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", MODELS)
def test_problems_that_are_not_linear_are_refused(model):
    with pytest.raises(ValueError, match="'kind' has 3 classes"):
        model(small())
    with pytest.raises(ValueError, match="'bright' predicts every pixel"):
        model(pixels())
    with pytest.raises(ValueError, match="'size' has 2 numbers a sample"):
        model(small(("size",)))


@pytest.mark.parametrize("balance", [0, -1.0, True, "many", float("inf"), float("nan")])
def test_a_balance_is_positive(balance):
    with pytest.raises(ValueError, match="is no positive number; for 3 tasks, those between 0.58 and 1"):
        models.RMTL(problem(), balance=balance)


@pytest.mark.parametrize(("given", "message"), [
    (np.eye(4), r"of the tasks has shape \(4, 4\); it must be \(3, 3\)"), ("many", "is no matrix of numbers"),
    ([[1, 2], [3]], "is no matrix of numbers"), (np.triu(np.ones((3, 3))), "must be finite and symmetric"),
    (np.full((3, 3), np.nan), "must be finite and symmetric"),
    (np.ones((3, 3)), "must be positive definite.*Add a small multiple"),
    (-np.eye(3), "must be positive definite; its least eigenvalue is -1"),
])
def test_what_is_no_covariance_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        models.MTRL(problem(), covariance=given)


def test_an_untrained_encoder_of_modules_is_taken_at_its_word():
    """Modules may be trained or not; only a description is sure to be not."""
    made = problem()
    assert models.Lasso(made, encoder=build({"name": "mlp", "widths": [3]}, (5,))).weights().shape == (3, 3)
