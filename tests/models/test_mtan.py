"""MTAN: masks lie in [0, 1], all ones are hard sharing to the bit, and the definition by hand."""

import pytest
import torch
from torch import nn

from mtlcourse import methods, models
from mtlcourse.models.mtan import pooled
from tests.models.test_cross_stitch import built
from tests.models.test_sharing import PROBLEMS, batch_of, dense, image
from tests.problems import small

KINDS = ("image", "dense")


def open_masks(net: models.MTAN, value: float = 100.0) -> None:
    """Set every mask to the sigmoid of `value`, whatever it sees."""
    for modules in net.attention.values():
        for module in modules:
            nn.init.zeros_(module[-2].weight)
            nn.init.constant_(module[-2].bias, value)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_lie_between_zero_and_one_and_look_like_the_maps(kind):
    problem = PROBLEMS[kind]()
    net, x = built(models.MTAN, problem), 100 * batch_of(problem).inputs
    masks = net.masks(x)
    assert list(masks) == problem.task_names
    for of_task in masks.values():
        assert [tuple(mask.shape[1:]) for mask in of_task] == [net.shared.shapes[k] for k in net.after]
        for mask in of_task:
            assert (mask >= 0).all() and (mask <= 1).all() and mask.std() > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [None, [1], [2]])
def test_masks_that_are_all_ones_are_hard_sharing_to_the_bit(kind, after):
    problem = PROBLEMS[kind]()
    net, hps = built(models.MTAN, problem, after=after), built(models.HPS, problem)
    x = batch_of(problem).inputs
    assert not any(torch.equal(net(x)[task], hps(x)[task]) for task in problem.task_names)
    open_masks(net)
    assert all(torch.equal(mask, torch.ones_like(mask)) for of_task in net.masks(x).values() for mask in of_task)
    assert all(torch.equal(net(x)[task], hps(x)[task]) for task in problem.task_names)


def test_masks_that_are_all_zeros_leave_nothing_of_the_input():
    problem = dense()
    net = built(models.MTAN, problem)
    open_masks(net, -200.0)
    x = batch_of(problem).inputs
    assert all(torch.equal(net(x)[task], net(x + 1)[task]) for task in problem.task_names)


def test_the_definition_by_hand():
    problem = dense()
    net = built(models.MTAN, problem).double()
    x = batch_of(problem).inputs.double()
    z1 = net.shared.stages[0](x)
    z2 = net.shared.stages[1](z1)
    for task, prediction in net(x).items():
        first, second = net.attention[task]
        carried = nn.functional.max_pool2d(net.carry[0](first(z1) * z1), 2)
        mask = second(torch.cat([z2, carried], 1))
        assert torch.equal(mask, net.masks(x)[task][1])
        torch.testing.assert_close(prediction, net.heads[task](mask * z2))


def test_later_masks_see_what_was_attended_before():
    problem = dense()
    net, x = built(models.MTAN, problem), batch_of(problem).inputs
    before = net.masks(x)
    nn.init.normal_(net.attention["depth"][0][0].weight)
    after = net.masks(x)
    assert not torch.allclose(after["depth"][1], before["depth"][1])
    assert torch.equal(after["bright"][1], before["bright"][1])


@pytest.mark.parametrize(("old", "new"), [((8, 12), (4, 6)), ((9, 7), (5, 4)), ((6, 6), (6, 3)), ((4, 4), (8, 8)),
                                          ((7, 7), (5, 5))])
def test_maps_are_pooled_to_the_size_of_the_next_stage(old, new):
    a = torch.arange(float(old[0] * old[1])).view(1, 1, *old)
    found = pooled(a, torch.Size(new))
    assert found.shape[-2:] == new and found.max() == a.max() and (found.diff(dim=2) >= 0).all()
    if all(o % n == 0 for o, n in zip(old, new, strict=True)):
        assert torch.equal(found, nn.functional.adaptive_max_pool2d(a, new))


@pytest.mark.parametrize("m", [2, 5])
def test_what_it_adds_to_hard_sharing(m):
    problem = image(m)  # channels 4 and 8, so bottlenecks of 2
    net = models.MTAN(problem)
    hard = sum(p.numel() for p in methods.build("hps", problem).parameters())
    norms = {c: 2 * c for c in (2, 4, 8)}
    first = (4 * 2 + 2) + norms[2] + (2 * 4 + 4) + norms[4]
    second = (16 * 2 + 2) + norms[2] + (2 * 8 + 8) + norms[8]
    carry = 4 * 2 + norms[2] + 9 * 2 * 2 + norms[2] + 2 * 8 + norms[8] + 4 * 8 + norms[8]
    assert sum(p.numel() for p in net.parameters()) == hard + m * (first + second) + carry


def test_the_carrying_blocks_are_shared_and_the_masks_are_not():
    net = models.MTAN(dense())
    shared = {id(p) for p in net.shared_parameters()}
    assert shared == {id(p) for module in (net.shared, net.carry) for p in module.parameters()}
    assert {id(p) for p in net.attention["depth"].parameters()} < {id(p) for p in net.task_parameters("depth")}
    net(batch_of(dense()).inputs)
    assert [len(points) for points in net.exits.values()] == [2, 2]  # the last map, and what was attended before


@pytest.mark.parametrize(("problem", "options", "message"), [
    (small, {}, r"MTAN needs maps \(channels, height, width\).*\(6,\), \(5,\).*Use an encoder with convolutions"),
    (image, {"after": [3]}, r"MTAN cannot stand after stage 3. Possible are the stages \[1, 2\]"),
])
def test_what_cannot_be_is_refused(problem, options, message):
    with pytest.raises(ValueError, match=message):
        models.MTAN(problem(), **options)
