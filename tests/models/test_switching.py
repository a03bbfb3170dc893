"""The task switching network: codes, conditioned blocks, a decoder that all tasks share, and its size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlcourse import data, models
from mtlcourse.encoders import StagedEncoder
from mtlcourse.files import seed_everything
from mtlcourse.models.switching import Conditioned, ConditionedDecoder, embedding, orthogonal_codes
from mtlcourse.published import load
from mtlcourse.tasks import Problem
from tests.problems import pixels, small

SMALL = {"latent": 12, "layers": 2}
PROBLEMS = {"vector": lambda: small(("kind", "size", "big")), "pixels": pixels, "own": lambda: small(own=True)}


def built(problem, **options) -> models.TSN:
    seed_everything(3)
    return models.TSN(problem, **{**SMALL, **options})


def inputs_of(problem):
    return next(problem.test.batches(5)).inputs


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


# --- codes and conditions ------------------------------------------------------------------------------------

@given(tasks=st.integers(1, 40), more=st.integers(0, 60))
def test_codes_are_orthogonal_and_of_one_size(tasks, more):
    codes = orthogonal_codes(tasks, tasks + more)
    products = codes @ codes.T
    torch.testing.assert_close(products, (tasks + more) * torch.eye(tasks))
    assert codes.shape == (tasks, tasks + more)


def test_the_embedding_keeps_codes_apart_and_their_size():
    torch.manual_seed(0)
    w = embedding(256, 8)(orthogonal_codes(4, 256))
    assert 0.3 < w.square().mean().sqrt() < 3
    cosines = torch.cosine_similarity(w[:, None], w[None], dim=-1)
    assert (cosines - torch.eye(4)).max() < 0.95


@pytest.mark.parametrize("shape", [(6,), (6, 3, 4)])
def test_a_block_scales_and_shifts_each_channel(shape):
    torch.manual_seed(0)
    layer, norm = nn.Identity(), nn.GroupNorm(1, 6, affine=False)
    block, z, w = Conditioned(layer, norm, 6, 5), torch.randn(2, *shape), torch.randn(5)
    scale, shift = (block.style.weight @ w + block.style.bias).chunk(2)
    normal = norm(z)
    for c in range(6):
        y = scale[c] * normal[:, c] + shift[c]
        torch.testing.assert_close(block(z, w)[:, c], torch.where(y > 0, y, 0.01 * y))
    torch.testing.assert_close(block(z, torch.zeros(5)), nn.functional.leaky_relu(normal))


# --- prediction ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", PROBLEMS)
def test_predictions_come_from_what_is_shared_and_one_own_layer(kind):
    problem = PROBLEMS[kind]()
    model, inputs = built(problem), inputs_of(problem)
    w = model.embedding(model.codes)
    for t, (task, prediction) in enumerate(model(inputs).items()):
        x, maps = inputs if isinstance(inputs, torch.Tensor) else inputs[task], []
        for stage in model.shared.stages:
            x = stage(x)
            maps.append(x)
        z = model.decoder(maps, w[t]) if problem.tasks[t].dense else model.block(x, w[t])
        torch.testing.assert_close(model.heads[task](z), prediction)


def test_the_decoder_goes_from_the_deepest_map_to_the_shallowest():
    torch.manual_seed(0)
    shapes = [(4, 8, 12), (6, 4, 6), (8, 2, 3)]
    decoder = ConditionedDecoder(shapes, (16, 24), 5)
    first, second, third = (torch.randn(2, *shape) for shape in shapes)
    w = torch.randn(5)

    def enlarged(z, height, width):
        return nn.functional.interpolate(z, (height, width), mode="bilinear", align_corners=False)

    deepest, middle, shallowest = decoder.skips
    one, two, three = decoder.joins
    z = one(torch.cat([enlarged(deepest(third, w), 4, 6), middle(second, w)], 1), w)
    z = two(torch.cat([enlarged(z, 8, 12), shallowest(first, w)], 1), w)
    z = three(enlarged(z, 16, 24), w)
    torch.testing.assert_close(decoder([first, second, third], w), z)
    assert z.shape == (2, 4, 16, 24) and [join.layer.out_channels for join in decoder.joins] == [6, 4, 4]
    wide = ConditionedDecoder(shapes, (16, 24), 5, widths=(9, 7, 3))
    assert wide([first, second, third], w).shape == (2, 3, 16, 24) and wide.channels == 3


@pytest.mark.parametrize("kind", ["vector", "pixels"])
def test_the_code_switches_the_task(kind):
    """With the same last layers and exchanged codes, the tasks exchange their predictions."""
    same = {"vector": [data.regression("a"), data.regression("b")],
            "pixels": [data.depth("a"), data.depth("b")]}[kind]
    base = PROBLEMS[kind]()
    problem = Problem(kind, same, None, None, None, base.input_shape, base.encoder)
    model, x = built(problem), inputs_of(base)
    model.heads["b"].load_state_dict(model.heads["a"].state_dict())
    before = model(x)
    assert not torch.allclose(before["a"], before["b"], rtol=1e-2)
    model.codes.copy_(model.codes.flip(0))
    after = model(x)
    torch.testing.assert_close(after["a"], before["b"])
    torch.testing.assert_close(after["b"], before["a"])


def test_a_head_is_the_encoders_own():
    def deep(task, shape, input_shape):
        return nn.Sequential(nn.Linear(shape[0], 7), nn.ReLU(), nn.Linear(7, task.out_channels))

    problem = small()
    model = built(problem, encoder=StagedEncoder([nn.Linear(4, 5)], (4,), deep))
    assert [head[0].out_features for head in model.heads.values()] == [7, 7]
    assert model(inputs_of(problem))["kind"].shape == (5, 3)


# --- size ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("encoder", [{"name": "mlp", "widths": [6, 5]}, {"name": "conv", "channels": [4, 6]}])
def test_a_task_more_costs_its_last_layer_and_nothing_else(encoder):
    dense = encoder["name"] == "conv"
    sizes = []
    for m in (1, 2, 40):
        tasks = [(data.depth if dense else data.regression)(f"task_{t}") for t in range(m)]
        problem = Problem("sized", tasks, None, None, None, (3, 8, 12), encoder)
        model = built(problem, latent=40)
        sizes.append(size(model) - size(model.heads))
        assert size(model.heads) == m * size(model.heads["task_0"]) == m * ((4 if dense else 5) + 1)
    assert sizes[0] == sizes[1] == sizes[2]


CHANNELS = [64, 64, 128, 256, 512]  # behind the five stages of a ResNet-18


@pytest.mark.parametrize("table", ["dsmtl-1", "dsmtl-2", "dsmtl-3", "dsmtl-4"])
def test_the_printed_sizes_are_a_whole_single_task_net_and_the_switching_parts_of_a_resnet_18(table):
    """On ResNet-50 as well, where the decoder's channels do not fit; so the printed sizes are of no network."""
    printed = load(table)
    shapes = [(channels, 2**k, 2**k) for k, channels in zip(range(5, 0, -1), CHANNELS, strict=True)]
    with torch.device("meta"):
        parts = size(embedding(512, 8), ConditionedDecoder(shapes, (64, 64), 512, (512, 256, 256, 128, 64)))
    single = float(printed.text("STL", "parameters")) / len(printed.tasks)
    assert float(printed.text("TSN", "parameters")) == pytest.approx(single + parts / 1e6, abs=0.01)


# --- refusals ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("problem", "options", "message"), [
    (small(), {"latent": 1}, "latent=1 .* the codes of 2 tasks need at least as many numbers"),
    (small(), {"layers": 0}, "at least one layer"),
    (pixels(), {"widths": [4, 4]}, r"widths=\[4, 4\] has 2 channel counts; .* each of the encoder's 3 stages"),
    (pixels(), {"encoder": [nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)]}, "two pixels or more"),
    (small(), {"encoder": [nn.Unflatten(1, (2, 2))]}, r"conditions vectors and maps, but the encoder ends in \(2, 2\)"),
])
def test_what_does_not_apply(problem, options, message):
    with pytest.raises(ValueError, match=message):
        built(problem, **options)


def test_dense_tasks_need_maps_behind_every_stage():
    problem = pixels()
    stages = [nn.Sequential(nn.Flatten(), nn.Linear(288, 48)), nn.Unflatten(1, (3, 4, 4))]
    with pytest.raises(ValueError, match=r"maps behind all stages, .*\(48,\), \(3, 4, 4\)"):
        built(problem, encoder=stages)
