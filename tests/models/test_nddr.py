"""NDDR: identity is STL, equal mixing is averaging, the definition by hand, and heads that see the input."""

import pytest
import torch
from torch import nn

from mtlcourse import methods, models
from mtlcourse.models.nddr import Fusion
from mtlcourse.training.updates import make_step
from tests.models.test_cross_stitch import KINDS, NAMES, built
from tests.models.test_sharing import PROBLEMS, batch_of, image
from tests.problems import small


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_identity_and_no_norm_it_is_single_task_learning(kind):
    problem = PROBLEMS[kind]()
    net, alone = built(models.NDDR, problem, own=1.0, norm="none"), built(models.STL, problem)
    x = batch_of(problem).inputs
    found, expected = net(x), alone(x)
    for task in problem.task_names:
        torch.testing.assert_close(found[task], expected[task], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_identity_it_is_single_task_learning_with_norms_and_rectifiers_between_stages(kind):
    problem = PROBLEMS[kind]()
    net, x = built(models.NDDR, problem, own=1.0), batch_of(problem).inputs
    alone = built(models.STL, problem)
    for task, prediction in net(x).items():
        z = x
        for stage in alone.private[task].stages:
            z = stage(z)
            groups = {True: 4, False: 1}[z.dim() == 4]  # all channel counts here are multiples of four
            z = nn.functional.group_norm(z, groups).relu()
        torch.testing.assert_close(prediction, alone.heads[task](z), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_with_equal_mixing_and_no_norm_it_is_averaging(kind):
    problem = PROBLEMS[kind]()
    m, x = len(problem.tasks), batch_of(problem).inputs
    net = built(models.NDDR, problem, own=1 / m, norm="none")
    stitched = built(models.CrossStitch, problem, own=1 / m)  # whose own test has averaging by hand
    for task, prediction in net(x).items():
        torch.testing.assert_close(prediction, stitched(x)[task], rtol=1e-5, atol=1e-6)


def test_training_starts_near_the_identity():
    net = built(models.NDDR, small(NAMES))
    eye = torch.eye(6)
    expected = {"kind": [0.9, 0.05, 0.05], "size": [0.05, 0.9, 0.05], "big": [0.05, 0.05, 0.9]}
    for task, weights in expected.items():
        found = net.mixers["1"][0][task].reduce.weight
        torch.testing.assert_close(found, torch.cat([w * eye for w in weights], 1))


def test_the_definition_by_hand_on_maps():
    problem = image(2)
    net = built(models.NDDR, problem, after=[1], norm="none").double()
    for parameter in net.mixers.parameters():
        parameter.data.normal_()
    x = batch_of(problem).inputs.double()
    first = torch.cat([net.private[task](x, last=1) for task in problem.task_names], 1)
    for task, prediction in net(x).items():
        weight = net.mixers["1"][0][task].reduce.weight[:, :, 0, 0]
        fused = torch.einsum("oi,bihw->bohw", weight, first)
        torch.testing.assert_close(prediction, net.heads[task](net.private[task](fused, first=2)))


@pytest.mark.parametrize("norm", ["group", "none"])
def test_a_fusion_is_a_linear_map_alone_or_with_norm_and_rectifier(norm):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 5, 8, 3, 4, generator=generator)
    fusion = Fusion([0.9, 0.1], (8, 3, 4), norm == "group")
    mixed = 0.9 * z[0] + 0.1 * z[1]
    torch.testing.assert_close(fusion(z), nn.functional.group_norm(mixed, 4).relu() if norm == "group" else mixed)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_head_that_averages_a_map_of_few_channels_sees_the_input(channels):
    """Of groups of single channels a norm leaves the same means for every input; the ReLU behind it does not."""
    problem, x = image(2), 3 * batch_of(image(2)).inputs
    net = built(models.NDDR, problem, encoder={"name": "conv", "channels": [4, channels]})
    for prediction in net(x).values():
        assert prediction.std(0).min() > 1e-3 * prediction.abs().max()


def test_heads_on_vectors_see_the_input_too():
    for prediction in built(models.NDDR, small(NAMES))(batch_of(small(NAMES)).inputs).values():
        assert prediction.std(0).min() > 1e-2


def test_how_many_parameters_it_adds():
    problem = image(3)
    alone = sum(p.numel() for p in methods.build("stl", problem).parameters())
    channels = [4, 8, 6]
    weights, norms = 9 * sum(c * c for c in channels), 3 * 2 * sum(channels)
    assert sum(p.numel() for p in models.NDDR(problem).parameters()) == alone + weights + norms
    assert sum(p.numel() for p in models.NDDR(problem, norm="none").parameters()) == alone + weights


def tokens():
    """An encoder whose first stage gives neither vectors nor maps."""
    return [nn.Unflatten(1, (2, 2)), nn.Flatten()]


@pytest.mark.parametrize(("options", "message"), [
    ({"norm": "batch"}, "Unknown norm 'batch'. Known: group, none."),
    ({"own": -0.1}, "own=-0.1"),
    ({"speed": 0}, "speed=0: the learning rate of what mixes features.*must be positive"),
    ({"after": [3]}, "NDDR cannot stand after stage 3"),
    ({"encoder": tokens()}, r"samples of shape \(2, 2\). Leave it out of `after`, or use 'cross-stitch'"),
    ({"encoder": {"name": "mlp", "widths": [1]}}, "a stage with one feature"),
])
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        models.NDDR(small(), **options)


def test_a_stage_that_cannot_be_fused_may_be_left_out_and_cross_stitch_takes_it():
    x = torch.randn(3, 4)
    assert models.NDDR(small(), tokens(), after=[2])(x)["kind"].shape == (3, 3)
    assert models.CrossStitch(small(), tokens())(x)["kind"].shape == (3, 3)


@pytest.mark.parametrize("speed", [1, 0.5, 100])
def test_layers_have_a_speed_of_their_own_and_decay_like_the_rest(speed):
    model = models.NDDR(small(), speed=speed)
    groups = model.param_groups(0.01, 0.1)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters())) == sum(len(group["params"]) for group in groups)
    for name, p in model.named_parameters():
        assert rates[id(p)] == (0.01 * (speed if name.startswith("mixers") else 1), 0.1)


def test_a_step_moves_the_layers_at_their_speed():
    problem, moved = small(), {}
    batch = next(problem.train.batches(40))
    for speed in (1, 50):
        torch.manual_seed(0)
        model = models.NDDR(problem, speed=speed)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        step = make_step(problem.tasks, model, "ew", lr=1e-3, optimizer="sgd")
        step(batch)
        moved[speed] = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for name, change in moved[1].items():
        factor = 50 if name.startswith("mixers") else 1
        torch.testing.assert_close(moved[50][name], factor * change, rtol=2e-2, atol=1e-6)
