"""Networks of all sorts in loops of one's own, what is shared in them, and what cannot be used, a sentence each."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtlcourse.data import regression
from mtlcourse.strategies import FixedWeighting, NonFiniteLoss, make
from mtlcourse.training import Loop
from mtlcourse.training.network import parts, tensors

STRATEGIES = [("uw", "parameters"), ("gradnorm", "parameters"), ("pcgrad", "parameters"), ("mgda", "features"),
              ("notice", "parameters"), ("db-mtl", "parameters")]


def falls(loop, net, losses, steps=30):
    """Whether the sum of the losses is less after some steps."""
    told = [sum(loop.step(losses(net)).values()) for _ in range(steps)]
    return told[-1] < 0.9 * told[0]


# --- three networks as they are met ----------------------------------------------------------------------------

class Backbone(nn.Module):
    """Vision: batch norm in residual blocks, a dense and a global head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True))
                                      for _ in range(2)))
        self.depth, self.kind = nn.Conv2d(8, 1, 1), nn.Linear(8, 3)

    def forward(self, x):
        z = F.relu(self.stem(x))
        for layer in self.layers:
            z = z + layer(z)
        return self.depth(z), self.kind(z.mean((2, 3)))


class Vision(Backbone):
    """The same with a module whose output is shared."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(self.stem, self.layers)
        del self.stem, self.layers

    def forward(self, x):
        z = self.trunk(x)
        return self.depth(z), self.kind(z.mean((2, 3)))


def vision_losses(net):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 3, 8, 8, generator=generator)
    depth, kind = net(x)
    return {"depth": (depth - x.mean(1, keepdim=True)).abs().mean((1, 2, 3)),
            "kind": F.cross_entropy(kind, torch.arange(6) % 3)}


@pytest.mark.parametrize("name, at", STRATEGIES)
def test_a_vision_backbone_with_two_heads(name, at):
    torch.manual_seed(0)
    net = Vision()
    loop = Loop(net, name, tasks={"depth": "regression", "kind": "classification"}, cut="trunk", at=at, lr=0.01,
                clip=5.0)
    assert falls(loop, net, vision_losses)
    assert loop.shared == [["trunk.0.weight", "trunk.0.bias"],
                           [f"trunk.1.{n}.{k}.{kind}" for n in (0, 1) for k in (0, 1) for kind in ("weight", "bias")]]


class Words(nn.Module):
    """A transformer's encoder: an answer a token, an answer a sentence."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.token, self.sentence = nn.Linear(8, 4), nn.Linear(8, 2)

    def forward(self, words):
        z = self.encoder(self.rows(words))
        return {"token": self.token(z), "sentence": self.sentence(z[:, 0])}


def words_losses(net):
    words = torch.randint(0, 20, (6, 5), generator=torch.Generator().manual_seed(1))
    found = net(words)
    return {"token": F.cross_entropy(found["token"].transpose(1, 2), words % 4, reduction="none").mean(1),
            "sentence": F.cross_entropy(found["sentence"], words[:, 0] % 2, reduction="none")}


@pytest.mark.parametrize("name, at", STRATEGIES)
def test_a_transformer_with_token_and_sentence_tasks(name, at):
    torch.manual_seed(0)
    net = Words()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    loop = Loop(net, name, tasks=["token", "sentence"], cut=net.encoder, at=at, optimizer=optimizer)
    schedule = torch.optim.lr_scheduler.LinearLR(loop.optimizer, 0.1, total_iters=5)
    loop.step(words_losses(net))
    schedule.step()
    assert falls(loop, net, words_losses)
    assert [names[0] for names in loop.shared] == ["rows.weight", "encoder.layers.0.self_attn.in_proj_weight",
                                                   "encoder.layers.1.self_attn.in_proj_weight"]


class Detector(nn.Module):
    """Gives a dict of losses while it trains, of a pyramid of features; a batch without boxes has no box loss."""

    def __init__(self):
        super().__init__()
        self.body = nn.ModuleDict({"fine": nn.Conv2d(3, 4, 3, padding=1), "coarse": nn.Conv2d(4, 4, 3, 2, 1)})
        self.pyramid = Pyramid(self.body)
        self.scores, self.boxes = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x, boxes=None):
        features = self.pyramid(x)
        scores = torch.cat([self.scores(z).flatten(2) for z in features.values()], 2)
        losses = {"score": F.cross_entropy(scores, torch.zeros(scores[:, 0].shape, dtype=torch.long))}
        if boxes is not None:
            losses["box"] = torch.stack([F.smooth_l1_loss(self.boxes(z).mean((2, 3)), boxes)
                                         for z in features.values()]).sum()
        return losses


class Pyramid(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        fine = F.relu(self.body["fine"](x))
        return {"fine": fine, "coarse": F.relu(self.body["coarse"](fine))}


@pytest.mark.parametrize("name, at", STRATEGIES)
def test_a_detector_with_a_dict_of_losses_that_may_lack_some(name, at):
    torch.manual_seed(0)
    net, x = Detector(), torch.randn(4, 3, 8, 8)
    loop = Loop(net, name, tasks=["score", "box"], cut="pyramid", at=at, lr=0.01, accumulate=1)
    first = loop.step(net(x))
    assert set(first) == {"score"} and loop.weights.heads[1] == 0
    assert {name for group in loop.shared for name in group} == {
        f"{place}.{kind}" for place in ("body.fine", "body.coarse") for kind in ("weight", "bias")}
    assert falls(loop, net, lambda net: net(x, torch.ones(4, 4)))


# --- what is shared ----------------------------------------------------------------------------------------------

def test_what_is_said_and_what_the_graph_says_is_one():
    trained = {}
    for key, options in {"nothing": {}, "module": {"shared": lambda net: net.trunk}, "name": {"shared": "trunk"},
                         "list": {"shared": lambda net: [net.trunk[0], "trunk.1"]}, "cut": {"cut": "trunk"},
                         "parameters": {"shared": lambda net: net.trunk.parameters()},
                         "both": {"shared": lambda net: [net.trunk[1]], "cut": lambda net: net.trunk}}.items():
        torch.manual_seed(0)
        net = Vision()
        options = {name: value(net) if callable(value) and not isinstance(value, nn.Module) else value
                   for name, value in options.items()}
        loop = Loop(net, "cagrad", tasks=["depth", "kind"], lr=0.01, **options)
        for _ in range(3):
            loop.step(vision_losses(net))
        trained[key] = nn.utils.parameters_to_vector(net.parameters()).detach(), loop.shared
    for vector, shared in trained.values():
        torch.testing.assert_close(vector, trained["nothing"][0], rtol=1e-4, atol=1e-6)
        assert sum(map(len, shared)) == 10
    assert {key: len(shared) for key, (_, shared) in trained.items()} == {
        "nothing": 1, "module": 2, "name": 2, "list": 2, "cut": 2, "parameters": 1, "both": 2}


def test_what_lies_earlier_than_what_is_said_is_a_module_in_front():
    torch.manual_seed(0)
    net = Backbone()
    loop = Loop(net, "gradnorm", tasks=["depth", "kind"], shared=[net.layers[1]])
    loop.step(vision_losses(net))
    assert [names[0] for names in loop.shared] == ["stem.weight", "layers.1.0.weight"]


def test_a_task_of_the_package_brings_its_kind():
    net = Vision()
    mine = regression("depth")
    loop = Loop(net, "uw", tasks=[mine, "kind"], cut="trunk")
    loop.step(vision_losses(net))
    assert loop.weights.heads.tolist() == [0.5, 1.0]


def test_a_network_is_taken_apart_by_its_own_parts():
    net = Words()
    assert [len(group) for group in parts(net)] == [1, 24, 2, 2]
    assert [len(group) for group in parts(net, [net.encoder])] == [1, 12, 12, 2, 2]
    x = torch.ones(1)
    assert len(list(tensors({"a": x, "b": [x, (x, None)], "c": 3}))) == 3


def test_what_is_unfrozen_must_be_given_to_the_optimiser():
    net = Vision()
    net.trunk[0].requires_grad_(False)
    loop = Loop(net, "pcgrad", tasks=["depth", "kind"], cut="trunk", lr=0.01)
    loop.step(vision_losses(net))
    loop.epoch_end()
    net.trunk[0].requires_grad_(True)
    with pytest.raises(ValueError, match="reaches 'trunk.0.(weight|bias)', which learns and is not in the optimiser"):
        loop.step(vision_losses(net))
    loop.optimizer.add_param_group({"params": list(net.trunk[0].parameters())})
    before = net.trunk[0].weight.detach().clone()
    loop.step(vision_losses(net))
    assert not torch.equal(net.trunk[0].weight, before) and loop.shared[0] == ["trunk.0.weight", "trunk.0.bias"]


# --- what cannot be used -------------------------------------------------------------------------------------------

def made(net=None, strategy="pcgrad", **options):
    net = net or Vision()
    return net, Loop(net, strategy, **{"tasks": ["depth", "kind"], **options})


@pytest.mark.parametrize("options, message", [
    ({"tasks": None}, "tasks is None; give the names of the losses"),
    ({"tasks": "depth"}, "tasks is 'depth'; give the names"),
    ({"tasks": []}, r"tasks is \[\]; give the names"),
    ({"tasks": ["depth", "depth"]}, "Two tasks have one name"),
    ({"tasks": {"depth": "regresion"}}, "Task 'depth' is of the kind 'regresion'; known are classification and regr"),
    ({"cut": "trnk"}, "Unknown module 'trnk'. Known: trunk, depth, kind"),
    ({"cut": "trunk.9"}, "Unknown module 'trunk.9'. Known: trunk.1, trunk.0, trunk, depth"),
    ({"cut": nn.Linear(2, 2)}, "This Linear is not a part of the Vision that the loop is made for"),
    ({"shared": "trnk"}, "Unknown module 'trnk'"),
    ({"shared": [nn.Parameter(torch.ones(3))]}, r"shared holds a parameter of shape \(3,\) that is not one of this Vi"),
    ({"shared": []}, "shared names nothing that learns: it is empty, or all of it is frozen"),
    ({"at": "features"}, "at='features' measures where the shared representation ends, so it needs cut="),
    ({"at": "features", "shared": "trunk"}, "needs cut="),
    ({"strategy": make("fixed", deep=2.0)}, "A fixed weight is given for no task of these. Unknown task 'deep'"),
    ({"optimizer": []}, "optimizer is list; a loop drives one"),
    ({"optimizer": "adamm"}, "Unknown optimizer 'adamm'"),
    ({"schedule": "linear"}, "Unknown schedule 'linear'. Known: inverse, cosine. Or give a function"),
    ({"schedule": "cosine", "steps_per_epoch": 3}, "needs to know how many epochs"),
    ({"epochs": 0}, "epochs is 0; it is the number of epochs"),
    ({"lr_of": {"trnk": 0.1}}, "Unknown part of Vision in lr_of 'trnk'. Known: trunk"),
    ({"lr_of": {"encoder": 0.1}}, "Unknown part of Vision in lr_of 'encoder'. Known: "),  # nobody says what heads are
    ({"lr_of": {"trunk": 0}}, r"lr_of\['trunk'\] is 0; it must be a positive number"),
    ({"warmup": -1}, "warmup is -1; it must be a whole number of steps"),
    ({"warmup": 6, "steps_per_epoch": 3, "epochs": 2}, "warmup is 6 steps, and the training has 6"),
    ({"warmup": 3, "steps_per_epoch": 3, "epochs": 2, "accumulate": 2}, "warmup is 3 steps, and the training has 3"),
    ({"steps_per_epoch": 0}, "steps_per_epoch is 0; it is the number of batches"),
    ({"accumulate": True}, "accumulate is True; it is the number of calls"),
    ({"steps_per_epoch": True}, "steps_per_epoch is True; it is the number of batches"),
    ({"accumulate": 0}, "accumulate is 0; it is the number of calls"),
    ({"clip": 0.0}, "clip is .*; it must be a positive number"),
    ({"strategy": "pcgard"}, "Unknown strategy 'pcgard'"),
    ({"strategy": "graddrop", "cut": "trunk", "at": "features", "accumulate": 2}, "cannot in shares of it")])
def test_what_cannot_be_made_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


@pytest.mark.parametrize("options", [{"shared": [3]}, {"cut": 3}])
def test_what_is_no_part_of_any_network_is_told(options):
    with pytest.raises(TypeError, match="give modules, parameters, or names|give a module of the network"):
        made(**options)


def test_weights_are_no_negative_numbers():
    with pytest.raises(ValueError, match="The weight of task 'depth' is -1; a fixed weight is a number of zero or mor"):
        FixedWeighting(depth=-1)


def test_one_optimiser_drives_all():
    net = Vision()
    with pytest.raises(ValueError, match="does not hold 'depth.weight', which learns. A loop drives one optimiser"):
        made(net, optimizer=torch.optim.SGD(net.trunk.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="lr, weight_decay and lr_of are settings of the optimiser that was gi"):
        made(net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), lr=0.1)
    with pytest.raises(ValueError, match="lr, weight_decay and lr_of are settings of the optimiser that was gi"):
        made(net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), lr_of={"trunk": 0.1})
    strategy = make("uw").bind(["depth", "kind"])
    with pytest.raises(ValueError, match="The optimiser holds parameters of this UncertaintyWeighting already"):
        made(net, strategy, optimizer=torch.optim.SGD([*net.parameters(), *strategy.parameters()], lr=0.1))


def test_a_model_that_knows_what_it_shares_is_not_told_otherwise():
    from mtlcourse import models
    from tests.problems import small

    model = models.HPS(small())
    with pytest.raises(ValueError, match="HPS knows itself what its tasks share; leave shared and cut out"):
        Loop(model, "ew", cut=model.shared)
    with pytest.raises(ValueError, match="The tasks given are .*'else'.*those of the model"):
        Loop(model, "ew", tasks=["kind", "else"])
    assert Loop(model, "uw", tasks=["size", "kind"]).strategy.kinds == ["classification", "regression"]


def broken(change):
    def losses(net):
        return change(vision_losses(net))
    return losses


@pytest.mark.parametrize("error, change, message", [
    (ValueError, lambda found: {**found, "kind": found["kind"].detach()}, "loss of task 'kind' does not depend on any"),
    (TypeError, lambda found: {**found, "kind": found["kind"].item()}, "loss of task 'kind' is float, and must be"),
    (TypeError, lambda found: list(found.values()), "losses are list; give a dict {task: loss}"),
    (KeyError, lambda found: {**found, "else": found["kind"]}, r"Losses for \['else'\], but the model's tasks are"),
    (ValueError, lambda found: {}, "No losses in this step; the model's tasks are"),
    (NonFiniteLoss, lambda found: {**found, "kind": found["kind"] * float("inf")}, "loss of task 'kind' is inf"),
    (ValueError, lambda found: {**found, "kind": found["kind"].expand(2, 2)}, r"'kind' has shape \(2, 2\)")])
@pytest.mark.parametrize("strategy", ["ew", "pcgrad"])
def test_losses_that_cannot_be_used_are_told_and_nothing_has_moved(error, change, message, strategy):
    net, loop = made(strategy=strategy, cut="trunk")
    before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    with pytest.raises(error, match=message):
        loop.step(broken(change)(net))
    assert torch.equal(nn.utils.parameters_to_vector(net.parameters()), before) and loop.updates == 0
    loop.step(vision_losses(net))


def test_shared_parameters_that_no_loss_reaches_are_told():
    net = Vision()
    net.spare = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="No loss reaches the shared parameters spare.weight, spare.bias. Are they"):
        made(net, shared=[net.trunk, net.spare])[1].step(vision_losses(net))
    with pytest.raises(ValueError, match="'spare', given as cut, had no output with a graph before this step"):
        made(net, cut="spare")[1].step(vision_losses(net))
    _, loop = made(net, cut="spare")
    net.spare(torch.ones(2))
    with pytest.raises(ValueError, match="No loss comes from the output of 'spare', given as cut"):
        loop.step(vision_losses(net))


def test_a_network_that_sees_no_training_has_no_cut():
    net, loop = made(cut="trunk", at="features")
    with pytest.raises(ValueError, match="in training mode"):
        loop.step(vision_losses(net.eval()))
    loop.step(vision_losses(net.train()))


def test_tasks_that_share_nothing_are_told():
    net = nn.ModuleDict({"depth": nn.Linear(2, 1), "kind": nn.Linear(2, 1)})

    def losses():
        return {name: layer(torch.ones(2)).square().sum() for name, layer in net.items()}

    with pytest.raises(ValueError, match=r"No parameter is reached by the losses of two tasks \(depth, kind\)"):
        made(net, "mgda")[1].step(losses())
    made(net, "ew")[1].step(losses())


def test_what_learns_outside_the_network_is_told():
    net, temperature = Vision(), nn.Parameter(torch.ones(()))
    _, loop = made(net)
    found = vision_losses(net)
    with pytest.raises(ValueError, match=r"'kind' reaches a parameter of shape \(\) that the network did not have"):
        loop.step({**found, "kind": found["kind"] * temperature})


def test_a_replica_is_refused(monkeypatch):
    class Replica(nn.Module):
        pass

    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", Replica)
    with pytest.raises(ValueError, match="wrapped in DistributedDataParallel"):
        made(Replica())
