"""AFA: weights are shares that depend on the input, own features only are STL, and the definition by hand."""

import pytest
import torch
from torch import nn

from mtlcourse import models
from tests.models.test_cross_stitch import built
from tests.models.test_sharing import PROBLEMS, batch_of, dense, image
from tests.problems import small

KINDS = ("image", "dense")


def layers(net: models.AFA, task: str):
    """The two layers of a task after each stage."""
    return [(channels[task], pixels[task]) for channels, pixels in net.mixers.values()]


def choose_own(net: models.AFA) -> None:
    """Logits so far apart that a softmax is exactly one for the task itself."""
    for t, task in enumerate(net.task_names):
        for channels, pixels in layers(net, task):
            channels.choose.bias.data.view(len(net.tasks), -1)[t] += 1e4
            pixels.conv.bias.data[t] += 1e4


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_takes_only_its_own_features_is_alone_to_the_bit(kind):
    problem = PROBLEMS[kind]()
    net, alone, x = built(models.AFA, problem), built(models.STL, problem), batch_of(problem).inputs
    choose_own(net)
    found, expected = net(x), alone(x)
    assert all(torch.equal(found[task], expected[task]) for task in problem.task_names)


@pytest.mark.parametrize("own", [0.5, 0.9])
def test_weights_are_shares_of_one_that_depend_on_the_sample(own):
    net = built(models.AFA, image(3), own=own)
    z = torch.rand(3, 5, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    for t, task in enumerate(net.task_names):
        for weights in (layer.weights(z) for layer in layers(net, task)[0]):
            assert (weights >= 0).all()
            torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))
            assert weights.std(0).max() > 1e-4  # over samples
            assert weights.mean((0, *range(2, weights.dim())))[t].item() == pytest.approx(own, abs=0.15)
    channels, pixels = layers(net, "mean0")[0]
    assert channels.weights(z).shape == (5, 3, 4) and pixels.weights(z).shape == (5, 3, 6, 7)


def test_equal_features_are_left_as_they_are():
    net = built(models.AFA, dense())
    z = torch.rand(1, 5, 4, 6, 7).expand(2, -1, -1, -1, -1)
    for layer in layers(net, "depth")[0]:
        torch.testing.assert_close(layer(z), z[0])


def test_the_definition_by_hand():
    problem = dense()
    net = built(models.AFA, problem).double()
    tasks, features = problem.task_names, dict.fromkeys(problem.task_names, batch_of(problem).inputs.double())
    for stage in (1, 2):
        features = {task: net.private[task](z, stage, stage) for task, z in features.items()}
        channels, pixels = net.mixers[str(stage)]
        means = torch.cat([z.mean((2, 3)) for z in features.values()], 1)
        c = {task: channels[task].choose(channels[task].squeeze(means).relu()).chunk(2, 1) for task in tasks}
        c = {task: torch.stack(logits).softmax(0)[..., None, None] for task, logits in c.items()}
        features = {task: sum(c[task][j] * z for j, z in enumerate(features.values())) for task in tasks}
        means = torch.stack([z.mean(1) for z in features.values()], 1)
        s = {task: nn.functional.conv2d(means, pixels[task].conv.weight, pixels[task].conv.bias, padding=3).softmax(1)
             for task in tasks}
        features = {task: sum(s[task][:, j, None] * z for j, z in enumerate(features.values())) for task in tasks}
    for task, prediction in net(batch_of(problem).inputs.double()).items():
        torch.testing.assert_close(prediction, net.heads[task](features[task]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_how_many_parameters_a_layer_has(m):
    net = models.AFA(image(m), {"name": "conv", "channels": [512], "features": 6})
    per_task = (m * 512 * 64 + 64) + (64 * m * 512 + m * 512) + (49 * m * m + m)
    assert sum(p.numel() for p in net.mixers.parameters()) == m * per_task


@pytest.mark.parametrize(("problem", "options", "message"), [
    (small, {}, r"AFA needs maps \(channels, height, width\).*or an architecture for vectors"),
    (image, {"after": [3]}, r"AFA cannot stand after stage 3. Possible are the stages \[1, 2\]"),
    (image, {"own": 1.0}, "own=1.0: a softmax starts between 0 and 1"),
])
def test_what_cannot_be_is_refused(problem, options, message):
    with pytest.raises(ValueError, match=message):
        models.AFA(problem(), **options)
