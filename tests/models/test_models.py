"""Sharing architectures: what they share, that equal parts start equal, where sharing ends."""

import copy

import pytest
import torch
from torch import nn

from mtlcourse import data, encoders, models
from mtlcourse.files import seed_everything
from mtlcourse.tasks import Problem, mean_losses
from tests.problems import small

MODELS = [models.STL, models.HPS]
NAMES = ("kind", "size", "big")


def built(model, problem, seed=0, **options):
    seed_everything(seed)
    return model(problem, **options)


def weights(module):
    return {name: tensor.tolist() for name, tensor in module.state_dict().items()}


# --- equal parts start equal -----------------------------------------------------------------------------

@pytest.mark.parametrize("model", MODELS)
def test_the_seed_decides_the_weights_and_nothing_else_does(model):
    first = weights(built(model, small()))
    seed_everything(0)
    torch.rand(17)
    assert weights(model(small())) == first != weights(built(model, small(), seed=1))


def test_the_same_part_starts_the_same_in_every_model():
    stl, hps = built(models.STL, small(NAMES)), built(models.HPS, small(NAMES))
    single = built(models.STL, small(("size",)))
    assert weights(stl.heads) == weights(hps.heads)
    assert weights(stl.private["size"]) == weights(single.private["size"])
    assert weights(stl.heads["size"]) == weights(single.heads["size"])
    assert weights(stl.private["size"]) != weights(stl.private["kind"])
    assert weights(hps.shared) not in [weights(encoder) for encoder in stl.private.values()]


# --- prediction --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", MODELS)
def test_predictions_are_heads_on_encoders(model):
    net = built(model, small())
    x = torch.rand(3, 4)
    predictions = net(x)
    assert list(predictions) == ["kind", "size"]
    for name, prediction in predictions.items():
        encoder = net.private[name] if model is models.STL else net.shared
        assert torch.equal(prediction, net.heads[name](encoder(x)))


@pytest.mark.parametrize("model", MODELS)
def test_some_tasks_may_be_asked_for(model):
    net, x = built(model, small()), torch.rand(3, 4)
    only = net(x, ["size"])
    assert list(only) == ["size"] == list(net.exits)
    assert torch.equal(only["size"], net(x)["size"])


@pytest.mark.parametrize("model", MODELS)
def test_tasks_with_own_inputs_predict_on_those(model):
    net, x = built(model, small()), {"kind": torch.rand(3, 4), "size": torch.rand(2, 4)}
    both = net(x)
    for name in x:
        assert torch.equal(both[name], net(x[name])[name])
    assert list(net({"size": x["size"]})) == ["size"]  # a task without data in this batch


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_task_is_told(model):
    net = built(model, small())
    with pytest.raises(ValueError, match="Unknown task 'sise'. Known: size, kind."):
        net(torch.rand(2, 4), ["sise"])
    with pytest.raises(ValueError, match="Unknown task 'kinds'. Known: kind, size."):
        net.task_parameters("kinds")


# --- what is shared --------------------------------------------------------------------------------------------

def reached(net, x):
    """Which tasks reach each parameter, found by autograd."""
    parameters = list(net.parameters())
    users = {id(p): set() for p in parameters}
    for name in net.heads:
        gradients = torch.autograd.grad(net(x)[name].sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                users[id(parameter)].add(name)
    return users


@pytest.mark.parametrize("model", MODELS)
def test_shared_and_own_parameters_are_those_that_autograd_reaches(model):
    net = built(model, small(NAMES))
    users = reached(net, torch.rand(5, 4))
    assert {id(p) for p in net.shared_parameters()} == {key for key, names in users.items() if len(names) > 1}
    for name in NAMES:
        assert {id(p) for p in net.task_parameters(name)} == {key for key, names in users.items() if names == {name}}
    everything = [*net.shared_parameters(), *(p for name in NAMES for p in net.task_parameters(name))]
    assert sorted(map(id, everything)) == sorted(map(id, net.parameters()))  # each once


def test_shared_modules_are_the_stages_input_side_first():
    net = built(models.HPS, small())
    expected = [[id(p) for p in stage.parameters()] for stage in net.shared.stages]
    assert [[id(p) for p in group] for group in net.shared_modules()] == expected
    assert built(models.STL, small()).shared_modules() == []
    assert built(models.HPS, small(("kind",))).shared_modules() == []  # one task shares with nobody


def test_frozen_parameters_are_nobodys():
    net = built(models.HPS, small())
    net.shared.stages[0].requires_grad_(False)
    net.heads["size"].requires_grad_(False)
    assert len(net.shared_modules()) == 1 and net.task_parameters("size") == []


class PartlyShared(models.MTLModel):
    """`kind` and `size` share two stages, `big` only the first of them."""

    def __init__(self, problem):
        super().__init__(problem)
        self.shared, self.private = self.new_encoder("shared"), self.new_encoder("private.big")
        self.add_heads(self.shared.out_shape)

    def route(self, task):
        second = self.private if task == "big" else self.shared
        return [self.shared.stages[0], second.stages[1], self.heads[task]]

    def represent(self, x, tasks):
        first = self.shared(x, last=1)
        both = self.shared(first, first=2)
        return {name: self.private(self.leave(name, first), first=2) if name == "big" else self.leave(name, both)
                for name in tasks}


def test_a_model_with_branches_says_who_shares_what():
    net = built(PartlyShared, small(NAMES))
    del net.private.stages[0]  # nobody goes through it
    net.private.stages.insert(0, nn.Identity())
    users = reached(net, torch.rand(5, 4))
    assert {id(p) for p in net.shared_parameters()} == {key for key, names in users.items() if len(names) > 1}
    assert {id(p) for p in net.task_parameters("big")} == {key for key, names in users.items() if names == {"big"}}
    assert [len(group) for group in net.shared_modules()] == [2, 2]  # weight and bias of either stage


def test_a_model_without_route_says_what_it_must_define():
    net = models.MTLModel(small())
    net.add_heads((4,))
    with pytest.raises(TypeError, match=r"MTLModel must define route\(task\)"):
        net.shared_parameters()
    with pytest.raises(TypeError, match=r"MTLModel must define represent\(x, tasks\)"):
        net(torch.rand(2, 4))


# --- where sharing ends ------------------------------------------------------------------------------------------

def test_exits_of_hard_sharing_hold_each_tasks_own_gradient():
    net, x = built(models.HPS, small()), torch.rand(3, 4)
    predictions = net(x)
    z = net.shared(x).detach()
    assert {name: len(points) for name, points in net.exits.items()} == {"kind": 1, "size": 1}
    total = sum(prediction.square().sum() for prediction in predictions.values())
    for name, (point,) in net.exits.items():
        assert torch.equal(point, z)
        (gradient,) = torch.autograd.grad(total, point, retain_graph=True)
        alone = z.clone().requires_grad_()
        net.heads[name](alone).square().sum().backward()
        torch.testing.assert_close(gradient, alone.grad)


def test_a_model_in_the_middle_of_a_step_can_be_copied():
    net = built(models.HPS, small())
    sum(prediction.sum() for prediction in net(torch.rand(3, 4)).values()).backward()
    twin = copy.deepcopy(net)
    assert weights(twin) == weights(net) and twin.exits is None and net.exits is not None


def test_single_task_nets_have_no_exits():
    net = built(models.STL, small())
    assert net.exits is None
    net(torch.rand(3, 4))
    assert net.exits == {"kind": [], "size": []}


# --- encoders of one's own -----------------------------------------------------------------------------------------

def modules():
    return [nn.Sequential(nn.Linear(4, 6), nn.ReLU()), nn.Linear(6, 5)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wrap", [list, lambda stages: encoders.StagedEncoder(stages, (4,))], ids=["list", "staged"])
def test_given_modules_are_copied_with_their_weights(model, wrap):
    stages = modules()
    before = weights(nn.ModuleList(stages))
    net = built(model, small(), encoder=wrap(stages))
    copies = list(net.private.values()) if model is models.STL else [net.shared]
    assert all(weights(copy.stages) == before for copy in copies)
    assert len(list(net.parameters())) == 4 * len(copies) + 4  # and nothing besides encoders and heads
    for parameter in net.parameters():
        parameter.data.zero_()
    assert weights(nn.ModuleList(stages)) == before


def test_an_encoder_may_be_a_spec():
    assert built(models.HPS, small(), encoder={"name": "mlp", "widths": [9]}).shared.shapes == [(4,), (9,)]
    with pytest.raises(ValueError, match="Stage 1 of the encoder cannot take samples of shape"):
        models.HPS(small(), encoder=[nn.Linear(5, 3)])


# --- every kind of problem -------------------------------------------------------------------------------------------

DENSE = Problem("dense", [data.segmentation("parts", 4), data.depth("far"), data.classification("scene", 3)],
                None, None, None, (3, 8, 10), {"name": "conv", "channels": [4, 6]})


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_gets_a_finite_gradient(model):
    x = torch.rand(3, *DENSE.input_shape)
    net = built(model, DENSE)
    targets = {"parts": torch.randint(4, (3, 8, 10)), "far": torch.rand(3, 1, 8, 10), "scene": torch.tensor([0, 1, 2])}
    losses = [task.loss(net(x)[task.name], targets[task.name]).mean() for task in DENSE.tasks]
    sum(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_models_can_be_built_without_memory_or_data(model):
    with torch.device("meta"):
        net = model(DENSE)
    assert all(p.is_meta for p in net.parameters())
    assert [(name, p.shape) for name, p in net.named_parameters()] == [
        (name, p.shape) for name, p in model(DENSE).named_parameters()]


@pytest.mark.parametrize("model", MODELS)
def test_void_labels_leave_gradients_finite(model):
    problem = small(void=0.6)
    net = built(model, problem)
    batch = next(iter(problem.train.batches(40)))
    sum(mean_losses(problem.tasks, net(batch.inputs), batch).values()).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
