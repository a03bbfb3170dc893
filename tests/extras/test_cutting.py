"""Models of torchvision, timm and transformers, cut into stages that compute what they do, to the bit, and trained."""

import copy
import math

import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

from mtlcourse import methods
from mtlcourse.encoders import StagedEncoder, build, from_module
from mtlcourse.encoders.language import place_decoder
from mtlcourse.files import seed_everything
from tests.encoders.own import problem as images
from tests.encoders.test_language import words

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 3}
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {
    "torchvision resnet18": (["maxpool", "layer1.0", "layer4", ""], 64, {}),
    "torchvision vit_b_32": (["encoder.layers.encoder_layer_3", "encoder.layers.encoder_layer_7", "encoder.ln"], 224,
                             {}),
    "torchvision swin_t": (["features.1", "features.3", "features.7", "avgpool"], 64, {}),
    "torchvision efficientnet_b0": (["features.2", "features.8"], 64, {}),
    "torchvision convnext_tiny": (["features.1", "features.7", ""], 64, {}),
    "torchvision densenet121": (["features.denseblock1", "features.denseblock3", "features"], 64, {}),
    "torchvision shufflenet_v2_x0_5": (["maxpool", "stage2", "conv5"], 64, {}),
    "timm resnet18": (["maxpool", "layer1", "layer2", "layer3", "layer4"], 64, {}),
    "timm vit_tiny_patch16_224": (["patch_embed", "blocks.1", "norm"], 32, {**SMALL, "drop_path_rate": 0.2}),
    "timm deit_tiny_distilled_patch16_224": (["norm_pre", "blocks.3", "norm"], 32, SMALL),
    "timm eva02_tiny_patch14_224": (["norm_pre", "blocks.1", "norm"], 32, SMALL),  # its rotary angles are a constant
    "timm eva02_tiny_patch14_224 anew": (["norm_pre", "blocks.1", "norm"], 32, {**SMALL, "dynamic_img_size": True}),
    "timm convnext_atto": (["stem", "stages.1", "norm_pre"], 64, {}),
}


def made(name: str, options: dict) -> nn.Module:
    library, name = name.split()[:2]
    if library == "timm":
        return timm.create_model(name, pretrained=False, **options)
    return getattr(torchvision.models, name)(weights=None, **options)


@pytest.mark.parametrize("name", VISION)
def test_stages_in_turn_are_the_librarys_model(name: str):
    cuts, side, options = VISION[name]
    seed_everything(3)
    model = made(name, options)
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
    assert set(whole.state_dict()) - set(kept) == {key for key in whole.state_dict() if cuts[-1] and key.startswith(
        ("heads.", "head.", "head_dist.", "classifier.", "fc.", "fc_norm."))}


def test_a_cut_resnet_has_the_stages_of_ours():
    seed_everything(3)
    net = torchvision.models.resnet18(weights=None)
    seed_everything(3)
    ours = build({"name": "resnet"}, (3, 64, 64))
    theirs = StagedEncoder(from_module(net, ["maxpool", "layer1", "layer2", "layer3", "layer4"], (3, 64, 64)),
                           (3, 64, 64))
    assert theirs.shapes == ours.shapes
    assert torch.equal(theirs.eval()(x := torch.rand(2, 3, 64, 64)), ours.eval()(x))


# --- transformers ---------------------------------------------------------------------------------------------------

def bert(**options) -> nn.Module:
    config = transformers.BertConfig(vocab_size=30, max_position_embeddings=12, **SIZES)
    return transformers.BertModel(config, **options)


def distilbert() -> nn.Module:
    return transformers.DistilBertModel(transformers.DistilBertConfig(
        vocab_size=30, max_position_embeddings=12, dim=16, n_layers=3, n_heads=2, hidden_dim=32))


def vit() -> nn.Module:
    return transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, **SIZES), add_pooling_layer=False)


def modernbert() -> nn.Module:
    return transformers.ModernBertModel(transformers.ModernBertConfig(
        vocab_size=30, max_position_embeddings=12, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
        sep_token_id=2, **SIZES))


def gpt2() -> nn.Module:
    return transformers.GPT2Model(transformers.GPT2Config(vocab_size=30, n_positions=12, n_embd=16, n_layer=3, n_head=2,
                                                          bos_token_id=1, eos_token_id=2))


TEXT = {
    "bert": (lambda: bert(add_pooling_layer=False), ["embeddings", "encoder.layer.0", "encoder.layer.2"]),
    "bert, pooled": (bert, ["encoder.layer.1", "pooler"]),
    "distilbert": (distilbert, ["embeddings", "transformer.layer.0", "transformer.layer.2"]),
    "vit": (vit, ["embeddings", "layers.1", "layernorm"]),
}


@pytest.mark.parametrize("name", TEXT)
def test_stages_in_turn_are_what_transformers_has(name: str):
    make, cuts = TEXT[name]
    seed_everything(3)
    model = make()
    whole, shape, dtype = copy.deepcopy(model), (9,), torch.long
    x = torch.randint(1, 30, (4, 9))
    if name == "vit":
        x, shape, dtype = torch.rand(4, 3, 16, 16), (3, 16, 16), None
    encoder = StagedEncoder(from_module(model, cuts, shape, dtype), shape, dtype=dtype)
    for learns in (True, False):
        whole.train(learns), encoder.train(learns)
        seed_everything(4)
        found = whole(x)
        seed_everything(4)
        expected = found.pooler_output if cuts[-1] == "pooler" else found.last_hidden_state
        assert (encoder(x) - expected).abs().max() < 1e-6


def test_what_gives_no_tensor_is_named():
    with pytest.raises(ValueError, match="'encoder' gives no tensor but a BaseModelOutput.* Cut at a module inside it"):
        from_module(bert(), ["encoder.layer.0", "encoder"], (9,), torch.long)


@pytest.mark.parametrize(("make", "cuts", "said"), [
    (gpt2, ["drop", "h.0"], "'h.0' takes a DynamicCache.*use_cache=False"),
    (modernbert, ["layers.0", "final_norm"], "'rotary_emb' gives, .* is needed behind cut 'layers.0' as well, by")])
def test_what_goes_past_a_cut_is_named(make, cuts, said):
    with pytest.raises(ValueError, match=said):
        from_module(make(), cuts, (9,), torch.long)
    assert len(from_module(modernbert(), ["embeddings"], (9,), torch.long)) == 1


# --- training ---------------------------------------------------------------------------------------------------------

def sentences():
    stages = from_module(bert(add_pooling_layer=False), ["embeddings", "encoder.layer.0", "encoder.layer.2"], (6,),
                         torch.long)
    return words(encoder=StagedEncoder(stages, (6,), place_decoder, torch.long))


TRAINED = {
    "timm resnet18": lambda: images(from_module(timm.create_model("resnet18", zero_init_last=False), [  # all learn
        "maxpool", "layer1", "layer4"], (3, 8, 8))),
    "timm vit": lambda: images(from_module(timm.create_model("vit_tiny_patch16_224", **{
        **SMALL, "img_size": 8, "patch_size": 4}), ["patch_embed", "blocks.1", "norm"], (3, 8, 8))),
    "torchvision": lambda: images(from_module(torchvision.models.shufflenet_v2_x0_5(weights=None), [
        "maxpool", "stage2", "conv5"], (3, 8, 8))),
    "transformers": sentences,
}


@pytest.mark.parametrize("method", ["hps", "hps+pcgrad", "dsmtl-il"])
@pytest.mark.parametrize("name", TRAINED)
def test_cut_models_are_trained(name: str, method: str):
    seed_everything(2)
    problem = TRAINED[name]()
    run = methods.run(method, problem, budget="smoke", progress=False)
    assert all(math.isfinite(value) for values in run.metrics.values() for value in values.values())
    untrained = methods.build(method, problem).state_dict()
    shared = [key for key, weight in run.model.named_parameters() if key.startswith(("shared", "encoder"))]
    moved = [key for key in shared if not torch.equal(untrained[key], run.model.state_dict()[key])]
    assert len(moved) > 0.9 * len(shared) > 0


@pytest.mark.parametrize(("make", "cuts", "said"), [
    (lambda: timm.create_model("resnet18"), ["layer1", "layer9"], r"Unknown module of ResNet 'layer9'\. Known: layer4"),
    (lambda: timm.create_model("vit_tiny_patch16_224", **SMALL), ["blocks.7"], "of VisionTransformer 'blocks.7'"),
    (lambda: torchvision.models.resnet18(weights=None), ["Layer1"], "of ResNet 'Layer1'. Known: layer1"),
    (bert, ["encoder.layers.0"], "of BertModel 'encoder.layers.0'. Known: encoder.layer.0"),
])
def test_names_that_are_not_there(make, cuts: list[str], said: str):
    with pytest.raises(ValueError, match=said) as error:
        from_module(make(), cuts, (3, 32, 32))
    assert len(str(error.value)) < 600
