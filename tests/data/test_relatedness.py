"""`relatedness` against the printed formula, recovered from the data by least squares."""

import math

import numpy as np
import pytest
import torch

from mtlcourse import data, methods
from mtlcourse.data.relatedness import ACTIVATIONS, _target

BENT = [("bent", 1.0)]


def bent_inverse(y):
    # With r = sqrt(u^2 + 1): y + 1/2 = r/2 + u, so u solves (3/4) u^2 - 2 c u + c^2 - 1/4 = 0 with c = y + 1/2.
    c = y + 0.5
    return (2 * c - np.sqrt(4 * c**2 - 3 * (c**2 - 0.25))) / 1.5


def regress(split, task="bent", phi=200.0):
    """Z and the variance of (x + d) * Z / phi - x * Z / phi, from targets whose activation can be undone."""
    x, u = split.inputs.double().numpy(), bent_inverse(split.targets[task].double().numpy()[:, 0])
    z, *_ = np.linalg.lstsq(x, u * phi, rcond=None)
    residual = u * phi - x @ z
    return z, (residual**2).sum() / (len(x) - x.shape[1])


@pytest.mark.parametrize("name, formula", [
    ("sinc", lambda x: math.sin(x) / x if x else 1.0),
    ("bent", lambda x: (math.sqrt(x**2 + 1) - 1) / 2 + x),
    ("square", lambda x: x * x),
])
def test_activations(name, formula):
    points = np.array([-7.3, -1.0, -0.01, 0.0, 0.5, 3.14, 20.0])
    np.testing.assert_allclose(ACTIVATIONS[name](points), [formula(x) for x in points], rtol=1e-12)


def test_the_three_products():
    random = np.random.default_rng(0)
    x, z, phi = random.normal(size=(4, 200)), random.normal(size=200), 7.0
    bent = ACTIVATIONS["bent"]
    inner = [[bent(sum(x[i, k] * z[k] for k in range(200)) / phi)] for i in range(4)]
    elementwise = [[bent(x[i, k] * z[k] / phi) for k in range(200)] for i in range(4)]
    first = [[sum(bent(x[i, k] * z[k]) for k in range(200)) / phi] for i in range(4)]
    for product, expected in (("inner", inner), ("elementwise", elementwise), ("activate-first", first)):
        np.testing.assert_allclose(_target(bent, x * z, product, phi), expected, rtol=1e-10)


@pytest.mark.parametrize("spread, x_variance, noise_variance", [("variance", 10, 2), ("deviation", 100, 4)])
def test_inputs_and_noise_have_the_printed_spread(spread, x_variance, noise_variance):
    train = data.load("relatedness", tasks=BENT, train=5_000, spread=spread).train
    assert train.inputs.var().item() == pytest.approx(x_variance, rel=0.02)
    assert abs(train.inputs.mean().item()) < 0.02 * math.sqrt(x_variance)
    z, residual = regress(train)
    assert residual == pytest.approx(noise_variance * (z**2).sum(), rel=0.1)  # d * Z has this variance
    assert z.std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_noise_is_a_factor_and_leaves_the_inputs_alone(noise):
    plain, changed = (data.load("relatedness", tasks=BENT, train=2_000, noise=f).train for f in (1.0, noise))
    assert torch.equal(plain.inputs, changed.inputs)
    z, residual = regress(changed)
    assert residual == pytest.approx(noise**2 * 2 * (z**2).sum(), rel=0.15, abs=1e-3)


def test_standardised_targets_are_those_of_the_training_split_but_for_two_numbers():
    tasks = [("bent", 1.0), ("square", -3.0)]
    plain, changed = (data.load("relatedness", tasks=tasks, phi=20.0, standardise=s) for s in (False, True))
    for name, scale in (("bent", 1.0), ("square", 3.0)):
        target = changed.train.targets[name]
        assert abs(target.mean().item()) < 1e-5 and target.std().item() == pytest.approx(scale, rel=1e-5)
        before = plain.train.targets[name]
        for split in ("val", "test"):
            expected = (getattr(plain, split).targets[name] - before.mean()) / before.std() * scale
            torch.testing.assert_close(getattr(changed, split).targets[name], expected, rtol=1e-4, atol=1e-5)


def test_one_z_for_all_tasks_and_splits_but_fresh_x_and_noise():
    problem = data.load("relatedness", tasks=[("bent", 1.0), ("bent", 1.0)], train=4_000, val=4_000, test=4_000)
    z, _ = regress(problem.train)
    for split in (problem.train, problem.val, problem.test):
        for task in ("bent", "bent_2"):
            assert np.corrcoef(z, regress(split, task)[0])[0, 1] > 0.95
    assert not torch.equal(problem.train.inputs, problem.val.inputs)
    assert not torch.equal(problem.val.inputs, problem.test.inputs)
    difference = problem.train.targets["bent"] - problem.train.targets["bent_2"]
    assert difference.std() > 0.01  # the noise is the task's own


def test_a_further_task_changes_nothing_for_the_others():
    one, two = data.load("relatedness", tasks=BENT), data.load("relatedness", tasks=[*BENT, ("sinc", 1.0)])
    assert torch.equal(one.test.inputs, two.test.inputs)
    assert torch.equal(one.test.targets["bent"], two.test.targets["bent"])


def test_scale_multiplies_the_target():
    plain = data.load("relatedness", tasks=[("sinc", 1.0), ("square", 1.0)], phi=20.0).val.targets
    scaled = data.load("relatedness", tasks=[("sinc", 3), ("square", -0.5)], phi=20.0).val.targets
    torch.testing.assert_close(scaled["sinc"], 3 * plain["sinc"])
    torch.testing.assert_close(scaled["square"], -0.5 * plain["square"])


def test_as_printed():
    problem = data.load("relatedness")
    assert problem.task_names == ["sinc", "bent", "square"] and problem.input_shape == (200,)
    assert (len(problem.train), len(problem.val), len(problem.test)) == (100, 1_000, 1_000)
    assert problem.encoder == {"name": "mlp", "widths": [5, 5]}
    assert problem.train.inputs.dtype == problem.train.targets["sinc"].dtype == torch.float32
    assert problem.training["paper"] == {"epochs": 30, "samples": 100, "lr": 0.02, "optimizer": "sgd", "batch_size": 10}


def test_the_paper_budget_trains_as_printed():
    run = methods.run("hps", "relatedness(val=10, test=10)", budget="paper", progress=False)
    assert {key: run.config[key] for key in ("epochs", "batch_size", "lr", "optimizer", "weight_decay")} == {
        "epochs": 30, "batch_size": 10, "lr": 0.02, "optimizer": "sgd", "weight_decay": 0.0}
    assert run.cost["steps"] == 30 * 10


def test_widths_and_batch_size():
    problem = data.describe("relatedness", widths=(8, 4), batch_size=200)
    assert problem.encoder == {"name": "mlp", "widths": [8, 4]}
    assert {problem.training[budget]["batch_size"] for budget in ("paper", "fast", "full")} == {200}
    assert data.describe("relatedness").training["fast"]["batch_size"] == 50


def test_names_count_up_and_elementwise_has_a_target_for_each_product():
    problem = data.load("relatedness", tasks=[["sinc", 1], ["bent", 1], ["sinc", 2], ["sinc", 3]],
                        product="elementwise")
    assert problem.task_names == ["sinc", "bent", "sinc_2", "sinc_3"]
    assert [task.out_channels for task in problem.tasks] == [200] * 4
    assert problem.options["tasks"][2] == ["sinc", 2]


@pytest.mark.parametrize("options, words", [
    ({"tasks": []}, "tasks is empty"),
    ({"tasks": ["sinc"]}, r"a pair \(activation, scale\).*got 'sinc'"),
    ({"tasks": [("sinc", 1, 2)]}, "a pair"),
    ({"tasks": [("sine", 1.0)]}, "Unknown activation 'sine'. Known: sinc"),
    ({"tasks": [("sinc", 0)]}, "scale of 'sinc' is 0"),
    ({"tasks": [("sinc", "2")]}, "scale of 'sinc' is '2'"),
    ({"phi": 0}, "phi is 0"),
    ({"phi": float("inf")}, "phi is inf"),
    ({"product": "outer"}, "Unknown product 'outer'. Known: .*inner"),
    ({"spread": "std"}, "Unknown spread 'std'"),
    ({"noise": -1}, "noise is -1"),
    ({"noise": float("nan")}, "noise is nan"),
    ({"standardise": 1}, "standardise=1 is neither"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"batch_size": True}, "batch_size=True"),
])
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        data.describe("relatedness", **options)
