"""torchvision's own models, cut into stages that compute what they do, to the bit."""

import copy

import pytest
import torch
import torchvision

from mtlcourse.encoders import StagedEncoder, build, from_module
from mtlcourse.files import seed_everything

CUTS = {
    "resnet18": (["maxpool", "layer1", "layer2.0", "layer4", ""], 64),
    "vit_b_32": (["encoder.layers.encoder_layer_3", "encoder.layers.encoder_layer_7", "encoder.ln"], 224),
    "swin_t": (["features.1", "features.3", "features.7", "avgpool"], 64),
    "efficientnet_b0": (["features.2", "features.8"], 64),
    "convnext_tiny": (["features.1", "features.7", ""], 64),
    "densenet121": (["features.denseblock1", "features.denseblock3", "features"], 64),
    "shufflenet_v2_x0_5": (["maxpool", "stage2", "conv5"], 64),
}


@pytest.mark.parametrize("name", CUTS)
def test_stages_in_turn_are_torchvisions_model(name: str):
    cuts, side = CUTS[name]
    seed_everything(3)
    model = getattr(torchvision.models, name)(weights=None)
    whole = copy.deepcopy(model)
    encoder = StagedEncoder(from_module(model, cuts, (3, side, side)), (3, side, side))
    last: list[torch.Tensor] = []
    whole.get_submodule(cuts[-1]).register_forward_hook(lambda module, args, out: last.append(out.clone()))
    x = torch.rand(2, 3, side, side)
    for learns in (True, False):
        whole.train(learns), encoder.train(learns)
        seed_everything(4)
        whole(x)
        seed_everything(4)
        assert torch.equal(encoder(x), last[-1])
    kept = {key: value for stage in encoder for key, value in stage.state_dict().items()}
    assert all(torch.equal(whole.state_dict()[key], value) for key, value in kept.items())
    assert set(whole.state_dict()) - set(kept) == {
        key for key in whole.state_dict() if cuts[-1] and key.startswith(("heads.", "head.", "classifier.", "fc."))}


def test_a_cut_resnet_has_the_stages_of_ours():
    seed_everything(3)
    net = torchvision.models.resnet18(weights=None)
    seed_everything(3)
    ours = build({"name": "resnet"}, (3, 64, 64))
    theirs = StagedEncoder(from_module(net, ["maxpool", "layer1", "layer2", "layer3", "layer4"], (3, 64, 64)),
                           (3, 64, 64))
    assert theirs.shapes == ours.shapes
    assert torch.equal(theirs.eval()(x := torch.rand(2, 3, 64, 64)), ours.eval()(x))
