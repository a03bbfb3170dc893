"""Encoders and decoders: shapes, branch points, and what is said when they do not fit."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from mtlcourse import data, encoders, methods, models
from mtlcourse.encoders import StagedEncoder, build, decoder, size
from tests.encoders.own import ENCODER, head
from tests.problems import small

SPECS = {
    "mlp": ({"name": "mlp", "widths": [6, 5, 3]}, (4,)),
    "mlp on images": ({"name": "mlp", "widths": [6]}, (2, 5, 4)),
    "mlp with dropout": ({"name": "mlp", "widths": [6, 5], "dropout": 0.5}, (4,)),
    "conv": ({"name": "conv", "channels": [4, 8], "strides": [1, 2]}, (3, 9, 7)),
    "conv without norm": ({"name": "conv", "channels": [4], "norm": None, "kernel": 5}, (1, 6, 6)),
    "conv to features": ({"name": "conv", "channels": [4, 6, 6], "features": 10}, (1, 11, 36)),
}


@pytest.mark.parametrize("spec, input_shape", SPECS.values(), ids=SPECS)
def test_shapes_are_those_of_the_branch_points(spec, input_shape):
    encoder = build(spec, input_shape)
    z = torch.rand(3, *input_shape)
    assert encoder.points == len(encoder.stages) + 1 == len(encoder.shapes)
    for stage, shape in zip(encoder.stages, encoder.shapes, strict=False):
        assert z.shape == (3, *shape)
        z = stage(z)
    assert z.shape == (3, *encoder.out_shape)


def test_a_spec_says_what_hidden_layers_every_architectures_heads_have():
    spec = SPECS["conv"][0] | {"head": [7, 5], "activation": "softplus"}
    head = build(spec, (3, 9, 7)).decoder(data.binary("big"), (8, 5, 4), (3, 9, 7))
    assert [type(layer).__name__ for layer in head] == ["Flatten", *["Linear", "Softplus"] * 2, "Linear"]
    assert [layer.out_features for layer in head if isinstance(layer, nn.Linear)] == [7, 5, 1]
    assert head(torch.rand(2, 8, 5, 4)).shape == (2, 1)
    problem = small()
    for architecture in (models.STL, models.HPS, models.DSMTL, models.CrossStitch, models.MMoE, models.MRN):
        model = architecture(problem, problem.encoder | {"head": [9]})
        assert all(isinstance(made[2], nn.ReLU) and made[1].out_features == 9 for made in model.heads.values())
    assert isinstance(build({"name": "mlp", "widths": [6, 5]}, (4,)).decoder(data.binary("big"), (5,), (4,)), nn.Linear)


@pytest.mark.parametrize(("change", "message"), [
    ({"head": 128}, "a list of widths"), ({"head": [0]}, "a list of widths"), ({"activation": "tanh"}, "give their"),
    ({"head": [5], "activation": "sine"}, "Unknown activation of a head 'sine'"), ({"heads": [5]}, "'heads'")])
def test_heads_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build({"name": "mlp", "widths": [6]} | change, (4,))


def test_dense_tasks_have_decoders_of_their_own():
    encoder = build(SPECS["conv"][0] | {"head": [5]}, (3, 9, 7))
    with pytest.raises(ValueError, match="'depth' predicts every pixel"):
        encoder.decoder(data.depth("depth"), encoder.out_shape, (3, 9, 7))


@pytest.mark.parametrize("spec, input_shape", SPECS.values(), ids=SPECS)
def test_the_first_and_the_other_stages_make_the_whole(spec, input_shape):
    encoder = build(spec, input_shape).eval()
    x = torch.rand(3, *input_shape)
    for p in range(1, encoder.points + 1):  # branch point p lies before stage p
        z = encoder(x, last=p - 1)
        assert z.shape == (3, *encoder.shapes[p - 1])
        assert torch.equal(encoder(z, first=p), encoder(x))
    assert encoder(x, last=0) is x


def test_strides_features_and_widths_are_those_asked_for():
    encoder = build({"name": "conv", "channels": [4, 8], "strides": [1, 2], "features": 10}, (3, 9, 7))
    assert encoder.shapes == [(3, 9, 7), (4, 9, 7), (8, 5, 4), (10,)]
    assert encoders.mlp((4,), [6, 5]).shapes == [(4,), (6,), (5,)]


def test_halves_of_a_batch_equal_the_whole():
    encoder = build({"name": "conv", "channels": [4, 8], "features": 10}, (1, 12, 12))
    x = torch.rand(6, 1, 12, 12)
    torch.testing.assert_close(torch.cat([encoder(x[:2]), encoder(x[2:])]), encoder(x))


def test_dropout_acts_while_training_only():
    encoder = encoders.mlp((50,), [50], dropout=0.5)
    x = torch.rand(4, 50)
    assert not torch.equal(encoder(x), encoder(x))
    assert torch.equal(encoder.eval()(x), encoder(x))


def test_own_modules_are_measured_and_not_changed():
    norm = nn.BatchNorm2d(4)
    stages = [nn.Sequential(nn.Conv2d(3, 4, 3), norm), nn.Sequential(nn.Flatten(), nn.Dropout())]
    before = torch.get_rng_state()
    encoder = StagedEncoder(stages, (3, 8, 8))
    assert torch.equal(before, torch.get_rng_state())
    assert encoder.shapes == [(3, 8, 8), (4, 6, 6), (144,)]
    assert norm.num_batches_tracked == 0 and not norm.running_mean.any()
    assert norm.training and norm.weight.device.type == "cpu"


@pytest.mark.parametrize("spec, input_shape, message", [
    ({"name": "covn"}, (1, 8, 8), "Unknown encoder 'covn'. Known: conv, bert, deeplab_resnet, mlp, mobilenet, "),
    ({}, (4,), "Unknown encoder 'None'"),
    ({"name": "mlp", "width": [5]}, (4,), "Unknown option of encoder 'mlp' 'width'. Known: widths, dropout."),
    ({"name": "conv", "input_shape": (1, 2, 3)}, (1, 8, 8), "Unknown option of encoder 'conv' 'input_shape'"),
    ({"name": "mlp", "widths": []}, (4,), "needs at least one stage"),
    ({"name": "conv"}, (4,), r"'conv' needs images .* inputs of shape \(4,\). Use .*'mlp'"),
    ({"name": "conv", "channels": [4, 4], "strides": [2]}, (1, 8, 8), "2 channel counts and 1 strides; give one"),
    ({"name": "conv", "kernel": 4}, (1, 8, 8), "kernel=4; use an odd size"),
    ({"name": "conv", "norm": "batch"}, (1, 8, 8), "norm='batch' is not known; 'conv' has 'group' and None"),
    ({"name": "conv", "channels": [4] * 5}, (1, 8, 9),
     "too deep for images of 8 x 9 pixels: stage 4 would shrink a map of 1 x 2. Use fewer stages or stride 1"),
])
def test_specs_that_cannot_be_are_refused(spec, input_shape, message):
    with pytest.raises(ValueError, match=message):
        build(spec, input_shape)


def test_a_stage_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"Stage 2 of the encoder cannot take samples of shape \(5,\)"):
        StagedEncoder([nn.Linear(4, 5), nn.Linear(6, 2)], (4,))
    with pytest.raises(ValueError, match=r"Stage 1 of the encoder cannot take samples of shape \(3, 2, 2\)"):
        StagedEncoder([nn.Conv2d(3, 4, 5)], (3, 2, 2))


# --- decoders ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("task, shape, expected", [
    (data.classification("a", 7), (5,), (7,)),
    (data.classification("a", 7), (5, 3, 4), (7,)),
    (data.regression("a", 2), (3, 4), (2,)),
    (data.segmentation("a", 7), (5, 3, 4), (7, 12, 16)),
    (data.depth("a"), (5, 12, 16), (1, 12, 16)),
    (data.normals("a"), (5, 6, 8), (3, 12, 16)),
])
def test_heads_predict_in_the_shape_of_the_task(task, shape, expected):
    head = decoder(task, shape, (3, 12, 16))
    prediction = head(torch.rand(2, *shape))
    assert prediction.shape == (2, *expected)
    targets = torch.zeros(2, *expected) if task.kind == "regression" else torch.zeros(2, *expected[1:]).long()
    assert task.loss(prediction, targets).shape == (2,)


def test_the_head_on_a_map_averages_its_pixels():
    head, z = decoder(data.classification("a", 7), (5, 3, 4), (3, 12, 16)), torch.rand(2, 5, 3, 4)
    torch.testing.assert_close(head(z), head[-1](z.mean((2, 3))))


def test_a_dense_task_needs_a_map():
    with pytest.raises(ValueError, match=r"'depth' predicts every pixel, but the encoder ends in .* shape \(32,\)"):
        decoder(data.depth("depth"), (32,), (3, 12, 16))


# --- an encoder's own decoders -------------------------------------------------------------------------

class Own(nn.Linear):
    """A head that only one kind of encoder has."""


def own_decoder(task, shape, input_shape):
    return Own(shape[0], task.out_channels)


def test_models_take_the_decoders_of_their_encoder(monkeypatch):
    def special(input_shape):
        return StagedEncoder([nn.Linear(4, 5)], input_shape, own_decoder)

    monkeypatch.setitem(encoders.BUILDERS, "special", special)
    given = special((4,))
    for encoder in ({"name": "special"}, given):
        model = models.DSMTL(small(), encoder)
        assert {type(head) for head in model.heads.values()} == {Own}
        assert model.private["kind"].decoder is own_decoder
        assert {type(head) for head in model.single_task(small()).heads.values()} == {Own}
        assert type(copy.deepcopy(model).heads["kind"]) is Own
    # A given encoder is a pattern, not a part: its weights are copied into the model and it keeps its own.
    model = models.HPS(small(), given)
    assert torch.equal(model.shared.stages[0].weight, given.stages[0].weight)
    assert not {id(p) for p in given.parameters()} & {id(p) for p in model.parameters()}
    assert sum(p.numel() for p in model.shared.parameters()) == sum(p.numel() for p in given.parameters())
    for encoder in (None, list(given)):
        assert {type(head) for head in models.HPS(small(), encoder).heads.values()} == {nn.Linear}


# --- of one's own, by address and in memory ---------------------------------------------------------------

STAGES = {"name": "tests.encoders.own:stages", "width": 5}


def test_an_address_alone_is_a_spec():
    assert build("tests.encoders.own:stages", (4,)).shapes == build({"name": "tests.encoders.own:stages"}, (4,)).shapes
    problem = small()
    for encoder in ("tests.encoders.own:stages", {"name": "tests.encoders.own:stages"}):
        torch.manual_seed(0)
        model = models.HPS(problem, encoder)
        assert model.shared.shapes == [(4,), (6,), (6,)]
    assert models.WideHPS(problem, "mlp").shared.points == 3
    assert methods.build("hps(encoder='tests.encoders.own:stages')", problem).shared.shapes == [(4,), (6,), (6,)]


def test_a_spec_says_where_to_cut_a_model_and_what_learns():
    encoder = build(ENCODER, (3, 8, 8))
    assert encoder.shapes == [(3, 8, 8), *[(3, 4, 4)] * 3]
    assert not any(weight.requires_grad for weight in encoder.stages[0].parameters())
    learning = [name for name, weight in encoder.stages[1].named_parameters() if weight.requires_grad]
    assert len(learning) == 4 and all("parametrizations" in name for name in learning)
    assert all(weight.requires_grad for weight in encoder.stages[2].parameters())
    assert build({**STAGES, "lora": 2}, (4,)).stages[1].parametrizations.weight[0].scale == 1


def test_heads_of_ones_own_by_address_by_function_and_by_task():
    for given in ("tests.encoders.own:head", head, {"kind": head, "size": "tests.encoders.own:head"}):
        model = models.HPS(small(), {**STAGES, "head": given})
        assert isinstance(model.heads["kind"][1], nn.Tanh) and isinstance(model.heads["size"][1], nn.Softplus)
    some = models.DSMTL(small(), {**STAGES, "head": {"kind": [7]}, "activation": "tanh"})
    assert isinstance(some.heads["kind"][2], nn.Tanh) and isinstance(some.heads["size"], nn.Linear)
    named = methods.build("cross-stitch(encoder={'name': 'mlp', 'head': 'tests.encoders.own:head'})", small())
    assert isinstance(named.heads["kind"][1], nn.Tanh) and named(torch.randn(2, 4))["kind"].shape == (2, 3)


@pytest.mark.parametrize(("spec", "kind", "message"), [
    ({"name": nn.Linear(4, 4)}, TypeError, "name is Linear: name what is your own by its address"),
    ({"name": head}, TypeError, "name is function"),
    ({"name": "mlp", "cuts": ["a"]}, ValueError, r"cuts=\['a'\] divide a model of your own, and 'mlp' has its stages"),
    ({**STAGES, "cuts": ["a"]}, TypeError, "'tests.encoders.own:stages' returned list; with cuts it returns one model"),
    ({"name": "tests.encoders.own:network"}, TypeError, r"returned ResNet; an encoder's stages are a list .*'cuts'"),
    ({"name": "tests.encoders.own:problem"}, TypeError, "returned Problem; an encoder's stages are a list of modules"),
    ({**STAGES, "lora": {"r": 2}}, ValueError, "Unknown option of lora 'r'. Known: alpha, rank"),
    ({**STAGES, "lora": {}}, ValueError, "rank=None of lora"), ({**STAGES, "frozen": 3}, ValueError, "has 2 stages"),
    ({**STAGES, "head": "tests.encoders.own:heads"}, ValueError, "Unknown function .*head"),
    ({**STAGES, "head": "head"}, ValueError, "'head' is not the address of a function"),
    ({**STAGES, "head": head, "activation": "tanh"}, ValueError, "a function of your own makes the whole head")])
def test_specs_of_ones_own_that_cannot_be(spec, kind, message):
    with pytest.raises(kind, match=message):
        build(spec, (4,))


def test_a_head_that_is_none_and_an_encoder_that_is_none():
    with pytest.raises(TypeError, match="no_head returned str for task 'kind'; a head's function returns a module"):
        models.HPS(small(), {**STAGES, "head": "tests.encoders.own:no_head"})
    with pytest.raises(TypeError, match=r"The encoder is Linear; .*from_module\(model, cuts=.*\[model\] is a"):
        models.HPS(small(), nn.Linear(4, 4))
    assert models.HPS(small(), [nn.Linear(4, 4)]).shared.points == 2


def test_what_the_guides_show_is_taken():
    guides = [Path(__file__).parents[2] / "book" / "guides" / f"{name}.md" for name in ("own_tasks", "large_encoders")]
    blocks = [block for guide in guides for block in re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)]
    exec(next(block for block in blocks if "Packing(" in block), scope := {})
    assert scope["x"].shape == scope["packing"].shape
    exec(next(block for block in blocks if '"lora"' in block), scope)
    own = {**scope["encoder"], "name": "tests.encoders.own:network", "cuts": ["pool", "layer1", "blocks.1"]}
    learning = [size(stage, learning=True) for stage in build(own, (3, 8, 8))]
    assert learning[:2] == [0, 0] and learning[2] > 0
