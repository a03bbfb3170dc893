"""Cross-stitch networks: identity is STL to the bit, equal mixing is averaging, and the definition by hand."""

import pytest
import torch

from mtlcourse import data, methods, models
from mtlcourse.files import seed_everything
from mtlcourse.training.updates import make_step
from tests.models.test_sharing import PROBLEMS, batch_of, image
from tests.problems import small

NAMES = ("kind", "size", "big")
KINDS = ("vector", "image", "dense")


def built(kind, problem, seed=0, **options):
    seed_everything(seed)
    return kind(problem, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channelwise", [True, False])
def test_with_the_identity_it_is_single_task_learning_to_the_bit(kind, channelwise):
    problem = PROBLEMS[kind]()
    net = built(models.CrossStitch, problem, own=1.0, channelwise=channelwise)
    alone, x = built(models.STL, problem), batch_of(problem).inputs
    found, expected = net(x), alone(x)
    assert all(torch.equal(found[task], expected[task]) for task in problem.task_names)


@pytest.mark.parametrize("kind", KINDS)
def test_with_equal_mixing_all_go_on_from_the_average(kind):
    problem = PROBLEMS[kind]()
    m = len(problem.tasks)
    net, x = built(models.CrossStitch, problem, own=1 / m), batch_of(problem).inputs
    average = x
    for stage in range(1, net.private[problem.task_names[0]].points):
        average = sum(encoder(average, stage, stage) for encoder in net.private.values()) / m
    for task, prediction in net(x).items():
        torch.testing.assert_close(prediction, net.heads[task](average), rtol=1e-5, atol=1e-6)


def test_the_definition_by_hand():
    problem = small(NAMES)
    net = built(models.CrossStitch, problem, encoder={"name": "mlp", "widths": [6, 5, 4]}, after=[1, 3]).double()
    for parameter in net.mixers.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    x = torch.randn(7, 4, dtype=torch.float64)
    features = {task: x for task in NAMES}
    for stage in (1, 2, 3):
        features = {task: net.private[task](z, stage, stage) for task, z in features.items()}
        if stage != 2:
            w = {task: net.mixers[str(stage)][0][task].weight for task in NAMES}
            features = {task: sum(w[task][j] * z for j, z in enumerate(features.values())) for task in NAMES}
    for task, prediction in net(x).items():
        torch.testing.assert_close(prediction, net.heads[task](features[task]), rtol=1e-12, atol=1e-12)


def test_training_starts_near_the_identity():
    net = built(models.CrossStitch, small(NAMES))
    expected = torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    assert list(net.mixing()) == [1, 2]
    for w in net.mixing().values():
        torch.testing.assert_close(w, expected)
    alone = built(models.CrossStitch, small(("kind",)))
    assert all(torch.equal(w, torch.ones(1, 1)) for w in alone.mixing().values())  # nobody to take the rest


def test_encoders_start_as_those_of_single_task_learning_and_shared_stages_as_those_of_hard_sharing():
    problem = image()
    net = built(models.CrossStitch, problem, share_first=1)
    hps, stl = built(models.HPS, problem), built(models.STL, problem)
    x = batch_of(problem).inputs
    first = hps.shared(x, last=1)
    assert torch.equal(net.shared[0](x), first)
    for task in problem.task_names:
        assert torch.equal(net.private[task](first), stl.private[task](first, first=2))
    assert net.after == [2, 3]


def test_shared_stages_then_mixed_ones_then_a_tasks_own():
    problem = image(2)
    net, x = built(models.CrossStitch, problem, own=0.5, share_first=1, after=[2]), batch_of(problem).inputs
    first = net.shared[0](x)
    both = sum(encoder(first, last=1) for encoder in net.private.values()) / 2
    for task, prediction in net(x).items():
        torch.testing.assert_close(prediction, net.heads[task](net.private[task](both, first=2)))


def test_behind_the_last_stitch_stages_are_a_tasks_own():
    net = built(models.CrossStitch, small(NAMES), after=[1])
    for task in NAMES:
        own = {id(p) for p in net.task_parameters(task)}
        assert own == {id(p) for module in (net.private[task].stages[1], net.mixers["1"][0][task], net.heads[task])
                       for p in module.parameters()}
    assert [len(group) for group in net.shared_modules()] == [2 * 3]  # weight and bias of three first stages


@pytest.mark.parametrize("options", [{}, {"speed": 100}, {"speed": 0.5, "share_first": 1}])
def test_units_have_a_speed_of_their_own_and_no_weight_decay(options):
    net = built(models.CrossStitch, small(NAMES), **options)
    network, units = net.param_groups(0.01, 0.3)
    assert (network["lr"], network["weight_decay"]) == (0.01, 0.3)
    assert (units["lr"], units["weight_decay"]) == (options.get("speed", 1) * 0.01, 0.0)
    assert {id(p) for p in units["params"]} == {id(p) for p in net.mixers.parameters()}
    both = [id(p) for group in (network, units) for p in group["params"]]
    assert sorted(both) == sorted(id(p) for p in net.parameters())


def test_what_is_frozen_is_in_no_group():
    net = built(models.CrossStitch, small(NAMES))
    net.mixers.requires_grad_(False)
    (network,) = net.param_groups(0.01, 0.3)
    assert {id(p) for p in network["params"]} == {id(p) for p in [*net.private.parameters(), *net.heads.parameters()]}


def test_a_step_moves_units_at_their_speed_and_nothing_draws_them_to_zero():
    problem = small(NAMES)
    moved = {}
    for speed in (1, 50):
        net = built(models.CrossStitch, problem, speed=speed)
        before = {key: p.detach().clone() for key, p in net.named_parameters()}
        make_step(problem.tasks, net, optimizer="sgd", lr=1e-3, weight_decay=10.0)(batch_of(problem))
        moved[speed] = {key: p.detach() - before[key] for key, p in net.named_parameters()}
        for key, p in net.named_parameters():
            decay = 0.0 if key.startswith("mixers") else 10.0
            rate = speed if key.startswith("mixers") else 1
            torch.testing.assert_close(moved[speed][key], -rate * 1e-3 * (p.grad + decay * before[key]))
    assert any(change.any() for key, change in moved[1].items() if key.startswith("mixers"))


def test_how_many_numbers_a_stitch_has():
    problem = small(NAMES)
    alone = methods.build("stl", problem)
    sizes = {True: 9 * (6 + 5), False: 9 * 2}
    for channelwise, more in sizes.items():
        net = models.CrossStitch(problem, channelwise=channelwise)
        assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in alone.parameters()) + more


@pytest.mark.parametrize(("options", "message"), [
    ({"own": 1.5}, "own=1.5: the starting weight"),
    ({"speed": 0}, "speed=0: the learning rate of what mixes features, .* must be positive"),
    ({"after": [0]}, r"after=\[0\]: CrossStitch cannot stand after stage 0. Possible are the stages \[1, 2\]"),
    ({"after": [1, 3]}, "stage 3"),
    ({"after": []}, "needs at least one stage"),
    ({"share_first": 2}, "share_first=2: of the encoder's 2 stages 0 to 1"),
    ({"share_first": 1, "after": [1]}, r"Possible are the stages \[2\]"),
])
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        models.CrossStitch(small(), **options)


def test_options_in_a_methods_name():
    net = methods.build("cross-stitch(after=[2], channelwise=False)", data.describe("multidigits"))
    assert net.after == [2] and net.mixing()[2].shape == (2, 2)
