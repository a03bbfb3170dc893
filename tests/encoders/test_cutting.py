"""Models cut into stages: to the bit what the whole computes, and a sentence where there is no place to cut."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtlcourse import models, training
from mtlcourse.encoders import StagedEncoder, from_module
from tests.encoders.own import Block, ResNet, Text, ViT, problem

IMAGE = (3, 8, 8)


class Unrolled(nn.Module):
    """Sizes that grow with the batch, an attribute that is a property, a list of what was made, writing into places."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 4)
        self.shaped, self.rnn = nn.Identity(), nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        n, steps, _ = x.shape
        flat = self.first(x.reshape(n * steps, 6))
        flat[:, 0] = flat[:, 1] + torch.arange(n * steps, device=x.device) * 0
        parts = flat.chunk(2, dim=1)
        x = self.shaped(self.second(torch.cat([parts[1], parts[0].mT.mT], dim=-1)).view(n, steps, 4))
        out, (hidden, _) = self.rnn(x)
        return out[:, -1] + hidden[0] + x.new_zeros(n, 3)


class Unmet(nn.Module):
    """Tied weights, a cut in a loop, tuples, a skip connection, a value that nobody can follow."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.tied, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.tied.weight = self.a.weight
        self.never, self.same, self.two = nn.Linear(4, 4), nn.Identity(), Two()
        self.turned = Turned()

    def forward(self, x):
        a = self.same(self.a(x))
        b = self.b(a)
        pair = self.two(b)
        x = self.tied(self.turned(pair[0]).T)
        for _ in range(3):
            x = self.c(x) + 1
        return x + b


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)

    def forward(self, x):
        return self.one(x), x


class Turned(nn.Module):
    def forward(self, x):
        return x.T


class Deciding(nn.Module):
    """Does what the values say, or the number of samples."""

    def __init__(self, by: str):
        super().__init__()
        self.by, self.a, self.b = by, nn.Linear(4, 4), nn.Linear(4, 4)
        self.table = torch.ones(4)

    def forward(self, x):
        x = self.a(x)
        if self.by == "values" and x.sum() > 0:
            x = -x
        if self.by == "samples" and len(x) > 2:
            x = -x
        if self.by == "share":
            x = x * (1 / len(x))
        if self.by == "table":
            x = F.linear(x, torch.diag(self.table))
        return self.b(x)


WHOLE = {
    "residual, in place": (ResNet, ["norm", "layer1.0", "layer1", "blocks.1"], IMAGE, None),
    "residual, its own output": (ResNet, ["pool", "blocks.0", ""], IMAGE, None),
    "class token": (ViT, ["encoder.layers.0", "encoder.layers.1", "norm"], IMAGE, None),
    "class token, whole": (ViT, ["patches", ""], IMAGE, None),
    "transformer": (lambda: nn.Sequential(nn.Embedding(9, 8), nn.TransformerEncoder(nn.TransformerEncoderLayer(
        8, 2, 16, 0.1, batch_first=True), 3)), ["0", "1.layers.0", "1.layers.2"], (5,), torch.long),
    "chain": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), ["1", "2"], (4,), None),
    "sizes that grow": (Unrolled, ["shaped", ""], (5, 6), None),
}


def inputs(shape, dtype, samples=4):
    return torch.randint(9, (samples, *shape)) if dtype == torch.long else torch.randn(samples, *shape)


@pytest.mark.parametrize(("make", "cuts", "shape", "dtype"), WHOLE.values(), ids=WHOLE)
def test_stages_compute_what_the_model_does_to_the_bit(make, cuts, shape, dtype):
    torch.manual_seed(1)
    model = make()
    whole, before = copy.deepcopy(model), torch.get_rng_state()
    encoder = StagedEncoder(from_module(model, cuts, shape, dtype), shape, dtype=dtype)
    assert torch.equal(before, torch.get_rng_state()) and encoder.points == len(cuts) + 1
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())
    last = []
    whole.get_submodule(cuts[-1]).register_forward_hook(lambda module, args, out: last.append(out.clone()))
    for learns in (True, False):
        whole.train(learns), encoder.train(learns)
        for samples in (4, 7):
            x = inputs(shape, dtype, samples)
            kept = x.clone()
            torch.manual_seed(2)
            whole(x)
            torch.manual_seed(2)
            z = encoder(x)
            assert torch.equal(z, last[-1]) and torch.equal(x, kept)
        signal = torch.randn_like(z)
        whole.zero_grad(), encoder.zero_grad()
        (last[-1] * signal).sum().backward(), (z * signal).sum().backward()
        theirs, state = dict(whole.named_parameters()), whole.state_dict()
        for stage in encoder:
            assert all(torch.equal(weight.grad, theirs[name].grad) for name, weight in stage.named_parameters())
            assert all(torch.equal(value, state[name]) for name, value in stage.state_dict().items())  # statistics, too
    with torch.no_grad():  # where torch's encoder takes another way
        whole(x)
        assert torch.equal(encoder(x), last[-1]) and torch.equal(copy.deepcopy(encoder)(x), last[-1])


def test_weights_keep_their_names_and_belong_to_one_stage_each():
    model = ViT()
    stages = from_module(model, ["encoder.layers.1", "norm"], IMAGE)
    first, second = (list(stage.state_dict()) for stage in stages)
    assert {"token", "positions", "scale", "patches.weight", "encoder.layers.0.linear1.weight"} < set(first)
    assert {name.rsplit(".", 1)[0] for name in second} >= {"encoder.layers.2.norm1", "norm"}
    assert not set(first) & set(second)
    assert {*first, *second} == {name for name in model.state_dict() if not name.startswith("head")}
    assert all(a is b for a, b in zip(stages[1].norm.parameters(), model.norm.parameters(), strict=True))
    assert [name for name in model.state_dict() if name in set(first)] == first  # in the model's order
    for stage in stages:
        stage.load_state_dict({name: value for name, value in ViT().state_dict().items() if name in stage.state_dict()})


def test_what_a_later_stage_does_in_place_does_not_reach_the_branch_point():
    encoder = StagedEncoder(from_module(ResNet(), ["norm", "layer1"], IMAGE), IMAGE)
    z = encoder(torch.randn(4, *IMAGE), last=1)
    kept = z.clone()
    encoder(z, first=2)
    assert torch.equal(z, kept) and (z < 0).any()


def test_buffers_that_are_not_saved_stay_so():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.ones(4), persistent=False)
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x - self.mean)

    stage, = from_module(Scaled(), ["layer"], (4,))
    assert list(stage.state_dict()) == ["layer.weight", "layer.bias"] and stage.mean.sum() == 4


@pytest.mark.parametrize("kept", [True, False])
def test_constants_may_be_in_two_stages_and_what_a_state_has_may_not(kept):
    class Turning(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("angles", torch.rand(4), persistent=kept)
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.second(self.first(x * self.angles) * self.angles)

    if kept:
        with pytest.raises(ValueError, match="'angles' is used before cut 'first' and again before 'second'"):
            from_module(Turning(), ["first", "second"], (4,))
        return
    net, x = Turning(), torch.rand(3, 4)
    one, two = from_module(net, ["first", "second"], (4,))
    assert one.angles is two.angles and two(one(x)).equal(net(x))


def test_of_many_names_the_nearest_are_shown():
    net = nn.ModuleDict({f"layer{number}": nn.Linear(2, 2) for number in range(200)})
    with pytest.raises(ValueError, match=r"module of ModuleDict 'layer1999'\. Known: layer199, .* 8 of 201;") as error:
        from_module(net, ["layer1999"], (2,))
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("kind", [models.HPS, models.STL, models.DSMTL, models.CrossStitch, models.MTAN, models.Tree])
def test_architectures_take_a_cut_model_and_train_it(kind):
    own = problem(from_module(ResNet(), ["pool", "layer1", "blocks.1"], IMAGE))
    model = kind(own)
    before = copy.deepcopy(model.state_dict())
    training.fit(own, model, "pcgrad", epochs=1, batch_size=16, device="cpu", progress=False)
    assert not any(torch.equal(value, before[name]) for name, value in model.state_dict().items()
                   if name.endswith("conv.weight"))


def test_stages_are_exported_for_every_number_of_samples():
    encoder = StagedEncoder(from_module(ViT(), ["encoder.layers.0", "norm"], IMAGE), IMAGE).eval()
    samples = {0: torch.export.Dim("n", min=2)}
    exported = torch.export.export(encoder, (torch.rand(5, *IMAGE),), dynamic_shapes=(samples,))
    for number in (2, 9):
        x = torch.rand(number, *IMAGE)
        torch.testing.assert_close(exported.module()(x), encoder(x))


class Placed(nn.Module):
    """Adds to each of two stages what no sample went into; spoiled: what it does so that this is no constant."""

    def __init__(self, spoiled: str = ""):
        super().__init__()
        self.spoiled, self.first, self.second, self.drop = spoiled, nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout(0.5)
        self.scale, self.free = nn.Parameter(torch.ones(4)), nn.Softmax(0)
        self.register_buffer("angles", torch.rand(4), persistent=False)

    def forward(self, x):
        n = len(x)
        places = self.free(torch.arange(4, device=x.device, dtype=x.dtype)) * self.angles
        rows = torch.arange(n, device=x.device).unsqueeze(1) + places
        if self.spoiled == "by lot":
            rows = rows + torch.rand(n, 4)
        if self.spoiled == "dropped":
            rows = self.drop(rows)
        if self.spoiled == "written":
            rows[0] = 3.0
        if self.spoiled == "written through a view":
            rows.mT.zero_()
        if self.spoiled == "learned":
            rows = rows * self.scale
        if self.spoiled == "sample":
            rows = rows * x.mean()
        return self.second(self.first(x + rows) + rows.sin())


def test_what_constants_give_is_made_by_each_stage_that_needs_it():
    net = Placed()
    one, two = from_module(net, ["first", "second"], (4,))
    for samples in (1, 4, 9):
        x = torch.rand(samples, 4)
        assert two(one(x)).equal(net(x))
    assert len(two._programs[True].calls) == 9  # six for rows, then a sine, a sum, the module


@pytest.mark.parametrize("spoiled", ["by lot", "dropped", "written", "written through a view", "learned", "sample"])
def test_what_is_no_constant_is_not_made_again(spoiled):
    with pytest.raises(ValueError, match=r"is needed behind cut 'first' as well, by 'sin'"):
        from_module(Placed(spoiled), ["first", "second"], (4,))


# --- where there is no place to cut --------------------------------------------------------------------

REFUSED = {
    "none": (Unmet, [], "cuts=.* is no list of names"),
    "text": (Unmet, "a", "cuts='a' is no list of names"),
    "unknown": (Unmet, ["a", "bb"], "Unknown module of Unmet 'bb'. Known: b"),
    "twice": (Unmet, ["a", "a"], "Cut 'a' is named twice"),
    "order": (Unmet, ["b", "a"], "Cut 'b' does not come before 'a': give cuts in the order"),
    "never": (Unmet, ["a", "never"], "a module 'never', at which to cut, and does not call it"),
    "loop": (Unmet, ["c"], "'c' is called more than once in one forward pass, as in a loop"),
    "loop behind": (Unmet, ["c", ""], "'c' is called more than once"),
    "tuple": (Unmet, ["two"], "'two' gives no tensor but a tuple of 2, .* Cut at a module inside it"),
    "residual": (Unmet, ["two.one", ""], r"What 'b' gives, of shape \(2, 4\), is needed behind cut 'two.one' as well, "
                                         "by 'add'.* Cut before it is made or behind"),
    "tied": (Unmet, ["a", "tied"], "'tied.weight' is used before cut 'a' and again before 'tied'"),
    "turned": (Unmet, ["a", "turned"], r"'turned' gives a tensor of shape \(4, 2\) for 2 samples, .* first dimension"),
    "values": (lambda: Deciding("values"), ["a", "b"], "Deciding cannot be followed .*no values to decide by"),
    "samples": (lambda: Deciding("samples"), ["b"], "something else with another number of samples"),
    "share": (lambda: Deciding("share"), ["b"], "'mul' takes 0.5 with 2 samples and 0.33.* with 3"),
    "no buffer": (lambda: Deciding("table"), ["b"], "neither computed from the input nor a parameter or buffer"),
    "skip": (lambda: Block(3), ["conv", "relu"],
             r"The model's input, of shape \(2, 3, 8, 8\), is needed behind cut 'conv' as well, by 'add'"),
    "empty": (ResNet, ["layer1.1", "layer1"], "Between 'layer1' and the cut before it nothing is computed"),
    "list": (ResNet, ["layer1", "blocks"], "does not call it in its forward pass.* the last one of a ModuleList"),
}


@pytest.mark.parametrize(("make", "cuts", "message"), REFUSED.values(), ids=REFUSED)
def test_a_sentence_says_why_a_model_cannot_be_cut_there(make, cuts, message):
    shape = IMAGE if make is ResNet or isinstance(make(), Block) else (4,)
    with pytest.raises(ValueError, match=message):
        from_module(make(), cuts, shape)


def test_a_mask_that_every_layer_needs_crosses_cuts():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.layers = nn.Embedding(9, 4), nn.ModuleList(
                nn.TransformerEncoderLayer(4, 2, 8, batch_first=True) for _ in range(2))

        def forward(self, ids):
            x, mask = self.words(ids), ids == 0
            for layer in self.layers:
                x = layer(x, src_key_padding_mask=mask)
            return x

    with pytest.raises(ValueError, match="What 'eq' gives, .* is needed behind cut 'layers.0' as well, by 'layers.1'"):
        from_module(Masked(), ["layers.0", "layers.1"], (5,), torch.long)
    assert len(from_module(Masked(), ["layers.1"], (5,), torch.long)) == 1
    assert Text()(torch.ones(2, 3).long(), torch.ones(2, 3).bool()).shape == (2, 8)
