"""Backbones: stages and their borders, torchvision's own results, ImageNet weights, one training step."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from mtlcourse import data, models, training
from mtlcourse.encoders import backbones, build, decoder
from mtlcourse.encoders.backbones import ASPPDecoder, Normalise, deeplab_decoder, pretrained
from mtlcourse.files import seed_everything
from mtlcourse.tasks import Problem, TensorSplit

SHAPE = (3, 64, 64)
# Shapes behind each stage for 64 x 64 pixels, and the number of parameters.
NETS = {
    "resnet18": ({"name": "resnet"}, [(64, 16), (64, 16), (128, 8), (256, 4), (512, 2)], 11_176_512),
    "resnet34": ({"name": "resnet", "depth": 34}, [(64, 16), (64, 16), (128, 8), (256, 4), (512, 2)], 21_284_672),
    "resnet50": ({"name": "resnet", "depth": 50}, [(64, 16), (256, 16), (512, 8), (1024, 4), (2048, 2)], 23_508_032),
    "deeplab18": ({"name": "deeplab_resnet", "depth": 18}, [(64, 16), (64, 16), (128, 8), (256, 8), (512, 8)],
                  11_176_512),
    "deeplab50": ({"name": "deeplab_resnet"}, [(64, 16), (256, 16), (512, 8), (1024, 8), (2048, 8)], 23_508_032),
    "vgg16": ({"name": "vgg"}, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)], 14_714_688),
    "vgg19": ({"name": "vgg", "depth": 19}, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)], 20_024_384),
    "mobilenet": ({"name": "mobilenet"}, [(16, 32), (24, 16), (32, 8), (96, 4), (1280, 2)], 2_223_872),
    "wide_resnet": ({"name": "wide_resnet"}, [(64, 16), (256, 16), (512, 8), (1024, 4), (2048, 2)], 66_834_240),
}
UNDIVIDED = {"resnet18": "resnet18", "resnet34": "resnet34", "resnet50": "resnet50", "vgg16": "vgg16",
             "vgg19": "vgg19", "mobilenet": "mobilenet_v2", "wide_resnet": "wide_resnet50_2"}


def seeded(make, *arguments, **options):
    seed_everything(5)
    return make(*arguments, **options)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", NETS)
def test_five_stages_with_the_shapes_and_sizes_of_the_papers(name: str):
    spec, stages, size = NETS[name]
    encoder = build(spec, SHAPE).eval()
    assert encoder.points == 6
    assert encoder.shapes == [SHAPE, *((channels, pixels, pixels) for channels, pixels in stages)]
    assert parameters(encoder) == size
    x = torch.rand(2, *SHAPE)
    for p in (2, 4, 6):  # what two halves compute is what the whole does
        assert torch.equal(encoder(encoder(x, last=p - 1), first=p), encoder(x))


@pytest.mark.parametrize("name", UNDIVIDED)
def test_the_stages_in_turn_are_torchvisions_net(name: str):
    ours = seeded(build, NETS[name][0], SHAPE)
    theirs = seeded(getattr(torchvision.models, UNDIVIDED[name]), weights=None)
    x = torch.rand(2, *SHAPE)
    for net in (ours, theirs):
        net.eval()
    if hasattr(theirs, "features"):
        expected = theirs.features(x)
    else:
        theirs.avgpool = theirs.fc = nn.Identity()
        expected = theirs(x).reshape(2, -1, 2, 2)
    assert torch.equal(ours(x), expected)


def test_deeplab_with_its_decoder_is_torchvisions_deeplabv3():
    theirs = seeded(torchvision.models.segmentation.deeplabv3_resnet50, weights=None, weights_backbone=None,
                    num_classes=7, aux_loss=False).eval()
    encoder = build({"name": "deeplab_resnet"}, SHAPE).eval()
    head = encoder.decoder(data.segmentation("a", 7), encoder.out_shape, SHAPE).eval()
    assert parameters(encoder) + parameters(head) == parameters(theirs) == 39_635_271
    encoder.load_state_dict(dict(zip(encoder.state_dict(), theirs.backbone.state_dict().values(), strict=True)))
    head.layers.load_state_dict(theirs.classifier.state_dict())
    x = torch.rand(2, *SHAPE)
    features = theirs.backbone(x)["out"]
    assert torch.equal(encoder(x), features) and torch.equal(head(features), theirs(x)["out"])


def test_small_resnets_are_dilated_like_the_large_one():
    for depth in (18, 34):
        encoder = build({"name": "deeplab_resnet", "depth": depth}, SHAPE)
        plain = build({"name": "resnet", "depth": depth}, SHAPE)
        for stage, first, others in ((3, 1, 2), (4, 2, 4)):
            spread = [m.dilation[0] for m in encoder.stages[stage].modules()
                      if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
            assert spread == [first] + [others] * (len(spread) - 1)
        # One output of a dilated net at every second pixel: what the strided net computes on the same weights.
        encoder.load_state_dict(plain.state_dict())
        x = torch.rand(2, *SHAPE)
        dense, strided = encoder.eval()(x, last=4), plain.eval()(x, last=4)
        torch.testing.assert_close(dense[..., ::2, ::2], strided)


def test_the_resnet_for_small_images():
    encoder = build({"name": "resnet", "stem": "3x3", "pool": 4}, SHAPE)
    assert encoder.shapes[1:] == [(64, 64, 64), (64, 64, 64), (128, 32, 32), (256, 16, 16), (2048,)]
    assert parameters(encoder) == 11_176_512 - 64 * 3 * (49 - 9)


@pytest.mark.parametrize("spec, shape, message", [
    ({"name": "resnet", "depth": 101}, SHAPE, "depth=101 is not there; choose from 18, 34, 50"),
    ({"name": "vgg", "depth": 11}, SHAPE, "depth=11 is not there; choose from 16, 19"),
    ({"name": "resnet", "stem": "5x5"}, SHAPE, "stem='5x5' is not there; choose from '7x7', '3x3'"),
    ({"name": "resnet"}, (1, 36, 36), r"resnet18 needs colour images .* inputs of shape \(1, 36, 36\)"),
    ({"name": "mobilenet"}, (8,), r"mobilenet_v2 needs colour images .* inputs of shape \(8,\)"),
    ({"name": "resnet", "weights": "coco"}, SHAPE, "weights='coco' is not known; use 'imagenet', or None"),
    ({"name": "resnet", "weights": "imagenet", "stem": "3x3"}, SHAPE, "weights belong to stem='7x7'"),
    ({"name": "vgg"}, (3, 8, 8), r"Stage 4 of the encoder cannot take samples of shape \(256, 1, 1\)"),
])
def test_backbones_that_cannot_be(spec: dict, shape: tuple, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbones, "pretrained", lambda name: getattr(torchvision.models, name)().state_dict())
    with pytest.raises(ValueError, match=message):
        build(spec, shape)


# --- decoders ----------------------------------------------------------------------------------------

def test_dense_tasks_get_the_pyramid_and_others_the_usual_head():
    shape, x = (512, 8, 8), torch.rand(2, 512, 8, 8)
    head = deeplab_decoder(data.normals("normals"), shape, SHAPE)
    assert isinstance(head, ASPPDecoder) and head(x).shape == (2, 3, 64, 64)
    for task in (data.classification("kind", 4), data.regression("size", 2)):
        assert parameters(deeplab_decoder(task, shape, SHAPE)) == parameters(decoder(task, shape, SHAPE))
    with pytest.raises(ValueError, match="'depth' predicts every pixel, but the encoder ends in a vector"):
        deeplab_decoder(data.depth("depth"), (2048,), SHAPE)


# --- weights -----------------------------------------------------------------------------------------

@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of weights, and no network: what is fetched comes from `file://`."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_imagenet_weights_come_from_the_cache(hub):
    theirs = torchvision.models.resnet18()
    for parameter in theirs.parameters():
        parameter.data.uniform_(-0.1, 0.1)
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    torch.save(theirs.state_dict(), hub / url.rsplit("/", 1)[-1])
    encoder = build({"name": "resnet", "weights": "imagenet"}, SHAPE).eval()
    assert torch.equal(encoder.stages[0].conv1.weight, theirs.conv1.weight)
    assert torch.equal(encoder.stages[4][1].conv2.weight, theirs.layer4[1].conv2.weight)
    x = torch.rand(2, *SHAPE)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(Normalise()(x), normalise(x))
    plain = build({"name": "resnet"}, SHAPE).eval()
    plain.load_state_dict(encoder.state_dict())  # the same names with and without weights
    torch.testing.assert_close(encoder(x), plain(normalise(x)))


def test_weights_that_cannot_be_had(hub, monkeypatch):
    weights = torchvision.models.get_model_weights("resnet18")["IMAGENET1K_V1"]
    nowhere = (hub / "nothing-12345678.pth").as_uri()
    monkeypatch.setattr(type(weights), "url", property(lambda self: nowhere), raising=False)
    monkeypatch.setattr(type(weights), "get_state_dict",
                        lambda self, **options: torch.hub.load_state_dict_from_url(self.url, **options))
    with pytest.raises(OSError) as error:
        pretrained("resnet18")
    said = str(error.value)
    assert "of resnet18 cannot be had" in said and f"in {hub}" in said and nowhere in said and "weights=None" in said


def test_nothing_is_fetched_on_the_meta_device(hub, monkeypatch):
    monkeypatch.setattr(backbones, "pretrained", lambda name: pytest.fail("it was"))
    with torch.device("meta"):
        build({"name": "resnet", "weights": "imagenet"}, SHAPE)


# --- training ----------------------------------------------------------------------------------------

def dense_problem() -> Problem:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(4, *SHAPE, generator=generator)
    split = TensorSplit(x, {"bright": (x.mean(1) > 0.5).long(), "grey": x.mean(1, keepdim=True)})
    return Problem("dense", [data.segmentation("bright", 2), data.depth("grey")], split, split, split, SHAPE,
                   {"name": "deeplab_resnet", "depth": 18})


@pytest.mark.parametrize("kind", [models.HPS, models.DSMTL])
def test_one_training_step_moves_every_parameter(kind: type):
    problem = dense_problem()
    model = seeded(kind, problem)
    before = copy.deepcopy(dict(model.named_parameters()))
    run = training.fit(problem, model, "ew", epochs=1, batch_size=4, device="cpu", progress=False)
    assert set(run.metrics) == {"bright", "grey"}
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []
    state = model.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())
