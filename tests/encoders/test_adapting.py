"""Frozen stages and low-rank additions: what learns, what stays, what it counts as, in every architecture."""

import copy

import pytest
import torch
from torch import nn

from mtlcourse import methods, models, training
from mtlcourse.encoders import StagedEncoder, freeze, from_module, lora, merge, size, stays
from mtlcourse.files import seed_everything
from mtlcourse.strategies import Engine
from mtlcourse.training.updates import check_shares
from tests.encoders.own import ResNet, ViT, problem
from tests.problems import small

IMAGE = (3, 8, 8)


def encoder() -> StagedEncoder:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    return StagedEncoder([first, nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 3)], (4,))


def losses(problem, model):
    batch = next(problem.train.batches(16))
    predictions = model(batch.inputs)
    return {t.name: t.loss(predictions[t.name], batch.targets[t.name]).mean() for t in problem.tasks}


# --- frozen --------------------------------------------------------------------------------------------

def test_what_is_frozen_learns_nothing_and_stays_in_evaluation_mode():
    frozen = freeze(encoder(), 1)
    model = models.HPS(small(), frozen)  # takes a copy of each stage
    assert stays(model.shared.stages[0][1]) and not stays(model.shared.stages[1])
    assert model.shared.stages[0][1] is not frozen.stages[0][1]
    before = copy.deepcopy(model.state_dict())
    training.fit(small(), model, "pcgrad", epochs=2, batch_size=8, device="cpu", progress=False)
    for name, value in model.state_dict().items():  # running statistics among them
        assert torch.equal(value, before[name]) == name.startswith("shared.stages.0"), name
    x = torch.randn(6, 4)
    for mode in (model.train(), copy.deepcopy(model).train(), models.HPS(small(), list(frozen)).train()):
        first = mode.shared.stages[0]
        assert mode.training and not first.training and not first[2].training and not first[1].training
        assert torch.equal(first(x), first(x))
    for module in model.modules():  # one by one
        module.train()
    assert not model.shared.stages[0][1].training and model.shared.stages[1].training


def test_frozen_weights_are_nobodys():
    model, problem = models.HPS(small(), freeze(encoder(), 2)), small()
    assert [len(group) for group in model.shared_modules()] == [2]
    for at in ("parameters", "features"):
        engine = Engine(model, "pcgrad", at=at)
        engine.backward(losses(problem, model))
        assert all(weight.grad is None for stage in model.shared.stages[:2] for weight in stage.parameters())
        assert len(engine.seen["module_grams"]) == 1 and engine.seen["gram"].diagonal().min() > 0
    step = training.make_step(problem.tasks, model, "uw")
    held = {id(weight) for group in step.optimizer.param_groups for weight in group["params"]}
    assert not held & {id(weight) for stage in model.shared.stages[:2] for weight in stage.parameters()}
    assert not model.shared(torch.randn(2, 4), last=2).requires_grad  # the backward pass ends behind them


@pytest.mark.parametrize("at", ["parameters", "features"])
@pytest.mark.parametrize("strategy", ["ew", "pcgrad", "cagrad", "famo", "imtl-g"])
def test_with_all_frozen_only_heads_learn_and_each_as_alone(at, strategy):
    problem, shared = small(), encoder()
    model = models.HPS(problem, freeze(copy.deepcopy(shared), 3))
    alone = copy.deepcopy(model)
    Engine(model, strategy, at=at).backward(losses(problem, model))
    sum(losses(problem, alone).values()).backward()
    for name in problem.task_names:
        theirs = alone.heads[name].weight.grad
        mine = model.heads[name].weight.grad
        torch.testing.assert_close(mine / mine.norm(), theirs / theirs.norm())
    assert size(model, learning=True) == size(model.heads) < size(model)


def test_stages_have_numbers_and_names():
    def frozen(which):
        chosen = freeze(StagedEncoder(from_module(ResNet(), ["pool", "layer1", "blocks.1"], IMAGE), IMAGE), which)
        return [name for name, weight in chosen.named_parameters() if not weight.requires_grad]

    assert frozen(0) == [] and frozen([]) == []
    assert frozen(1) == frozen([1]) and all(name.startswith("stages.0") for name in frozen(1))
    assert {name.split(".")[1] for name in frozen([1, 3])} == {"0", "2"}
    assert frozen(["layer1"]) == frozen([2]) != []
    assert frozen(["layer1.1", "norm"]) == ["stages.0.norm.weight", "stages.0.norm.bias", *(
        f"stages.1.layer1.1.{name}" for name in ("conv.weight", "norm.weight", "norm.bias"))]


@pytest.mark.parametrize(("which", "message"), [
    (4, "frozen=4: the encoder has 3 stages; give 0 to 3"), (-1, "frozen=-1"), (True, "frozen=True: give a number"),
    ("all", "frozen='all': give a number of first stages"), ([4], "there is no stage 4. Stages have the numbers 1"),
    (["layer9"], "no stage 'layer9'"), (["0"], "stages 1, 2 all have a module '0'; give the number of one"),
    ([None], "there is no stage None")])
def test_stages_that_cannot_be_frozen(which, message):
    with pytest.raises(ValueError, match=message):
        freeze(encoder(), which)


def test_a_frozen_batch_norm_adds_up_over_shares():
    problem = small()
    frozen = models.HPS(problem, freeze(encoder(), 1))
    check_shares(frozen, Engine(frozen, "ew"))
    whole, parts = copy.deepcopy(frozen), copy.deepcopy(frozen)
    training.fit(problem, whole, "ew", epochs=1, batch_size=20, device="cpu", progress=False)
    training.fit(problem, parts, "ew", epochs=1, batch_size=20, accumulate=4, device="cpu", progress=False)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    awake = models.HPS(problem, encoder())
    with pytest.raises(ValueError, match="batch norm"):
        check_shares(awake, Engine(awake, "ew"))


# --- low rank ------------------------------------------------------------------------------------------

def test_low_rank_additions_start_at_nothing_and_alone_learn():
    plain = encoder().eval()
    adapted = lora(copy.deepcopy(plain), 2, 6).eval()
    x = torch.randn(5, 4)
    assert torch.equal(plain(x), adapted(x))
    learning = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert learning == [f"stages.{place}.parametrizations.weight.0.{matrix}"
                        for place in ("0.0", "1.0", "2") for matrix in "AB"]
    assert size(adapted) - size(plain) == size(adapted, True) == 2 * (4 + 6) + 2 * (6 + 5) + 2 * (5 + 3)


def test_the_weight_is_w_plus_alpha_over_r_times_b_a():
    layer = nn.Linear(7, 5)
    adapted = lora(StagedEncoder([copy.deepcopy(layer)], (7,)), 2, 6).stages[0]
    addition = adapted.parametrizations.weight[0]
    assert addition.A.shape == (2, 7) and addition.B.shape == (5, 2)
    nn.init.normal_(addition.B)
    torch.testing.assert_close(adapted.weight, layer.weight + 6 / 2 * addition.B @ addition.A)
    x = torch.randn(4, 7)
    torch.testing.assert_close(adapted(x), layer(x) + 3 * (x @ addition.A.T) @ addition.B.T)


@pytest.mark.parametrize("layer", [
    nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(6, 8, 1, stride=2, bias=False), nn.Conv2d(6, 6, 3, padding=1, groups=6),
    nn.Conv2d(6, 9, 3, padding=2, dilation=2, groups=3)], ids=["3x3", "1x1", "depthwise", "grouped"])
def test_convolutions_of_every_kind_are_adapted_as_a_convolution_with_the_addition(layer):
    base = copy.deepcopy(layer)
    adapted = lora(StagedEncoder([layer], (6, 8, 8)), 2).stages[0]
    addition = adapted.parametrizations.weight[0]
    nn.init.normal_(addition.B)
    x = torch.randn(3, 6, 8, 8)
    more = nn.functional.conv2d(x, (addition.B @ addition.A).view_as(base.weight), None, base.stride, base.padding,
                                base.dilation, base.groups)
    torch.testing.assert_close(adapted(x), base(x) + more)


def test_attention_is_adapted_at_its_projections():
    adapted = lora(StagedEncoder(from_module(ViT(), ["encoder.layers.0", "norm"], IMAGE), IMAGE), 2, which=[1])
    names = {name for name, weight in adapted.named_parameters() if weight.requires_grad and "stages.0" in name}
    attention = "stages.0.encoder.layers.0.self_attn.parametrizations.in_proj_weight.0"
    assert {f"{attention}.A", f"{attention}.B"} < names and "stages.0.token" not in names
    model = models.HPS(problem(), adapted)
    before = copy.deepcopy(model.state_dict())
    training.fit(problem(), model, "ew", epochs=1, batch_size=16, device="cpu", progress=False)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert f"shared.{attention}.B" in moved and "shared.stages.0.token" not in moved
    assert "shared.stages.0.encoder.layers.0.self_attn.parametrizations.in_proj_weight.original" not in moved


def test_merged_weights_compute_the_same_to_the_bit():
    problem = small()
    model = models.HPS(problem, lora(encoder(), 2, 5))
    training.fit(problem, model, "ew", epochs=2, batch_size=8, device="cpu", progress=False)
    x = torch.randn(7, 4)
    expected = model.eval()(x)
    assert merge(model) is model
    merged = model(x)
    assert all(torch.equal(merged[name], z) for name, z in expected.items())
    plain = models.HPS(problem, encoder())
    plain.load_state_dict(model.state_dict())  # the names are as before, too
    assert size(model) == size(plain) and size(model, learning=True) == size(model.heads)
    assert all(torch.equal(plain.eval()(x)[name], z) for name, z in expected.items())


@pytest.mark.parametrize(("arguments", "message"), [
    ({"rank": 0}, "rank=0 of lora must be a whole number"), ({"rank": 2.0}, "rank=2.0"), ({"rank": True}, "rank=True"),
    ({"rank": 2, "alpha": 0}, "alpha=0 of lora must be a positive number; 2, the rank"),
    ({"rank": 2, "alpha": float("inf")}, "alpha=inf"),
    ({"rank": 2, "which": [5]}, "stages of lora: there is no stage 5"),
    ({"rank": 2, "which": [3, 3]}, "frozen, or have it already"),
    ({"rank": 2, "which": 1}, "frozen, or have it already"),
    ({"rank": 2, "which": [4]}, "nothing to adapt in ReLU, of the stages")])
def test_additions_that_cannot_be(arguments, message):
    some = freeze(StagedEncoder([*encoder(), nn.ReLU()], (4,)), 1)
    with pytest.raises(ValueError, match=message):
        lora(some, **arguments)


# --- everywhere ----------------------------------------------------------------------------------------

SPECS = [{"frozen": [1, 2, 3]}, {"lora": {"rank": 2, "alpha": 4, "stages": [2]}, "frozen": [3]}]
WITHOUT = ("lasso", "l21", "rmtl", "mtrl", "theta", "darts", "p-darts", "pc-darts", "e2rnas", "random-cells")


@pytest.mark.parametrize("options", SPECS, ids=["frozen", "lora"])
@pytest.mark.parametrize("name", [name for name in methods.names() if name not in WITHOUT])
def test_every_architecture_leaves_what_is_frozen_as_it_is(name, options):
    own = problem({"name": "conv", "channels": [4, 4, 4], **options})
    run = methods.run(name, own, budget="fast(epochs=1, batch_size=24)", device="cpu", progress=False)
    seed_everything(0)
    start, end = methods.build(name, own), run.model.state_dict()
    frozen = [name for name, weight in start.named_parameters() if not weight.requires_grad]
    assert frozen and all(torch.isfinite(value).all() for value in end.values())
    if set(start.state_dict()) == set(end):  # a search ends with another model
        assert all(torch.equal(end[name], start.state_dict()[name]) for name in frozen)
        assert any(not torch.equal(end[name], value) for name, value in start.state_dict().items())


def test_a_seed_gives_the_same_additions_in_every_model():
    own = problem({"name": "conv", "channels": [4, 4], "lora": 2})
    found = []
    for kind in (models.STL, models.CrossStitch, models.DSMTL):
        torch.manual_seed(3)
        found.append([weight for name, weight in kind(own).private["kind"].named_parameters() if name.endswith(".A")])
    assert len(found[0]) == 2
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))
