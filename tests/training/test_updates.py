"""One update: hooks in their order, optimisers, precision, absent tasks, and state that comes back."""

import copy

import pytest
import torch
from torch import nn

from mtlcourse import models
from mtlcourse.files import seed_everything
from mtlcourse.strategies import Strategy, TaskWeights
from mtlcourse.tasks import Batch, mean_losses
from mtlcourse.training.updates import make_step
from mtlcourse.void import VOID
from tests.problems import small

PROBLEM = small()


def model(kind=models.HPS, problem=PROBLEM, seed=0):
    seed_everything(seed)
    return kind(problem)


def batch(samples=10, problem=PROBLEM):
    return next(iter(problem.train.batches(samples)))


def flat(net):
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


# --- the update itself -----------------------------------------------------------------------------

def test_a_step_is_one_optimiser_step_on_the_sum_of_the_losses():
    net, twin = model(), model()
    values = make_step(PROBLEM.tasks, net, optimizer="sgd", lr=0.1)(batch())
    losses = mean_losses(PROBLEM.tasks, twin(batch().inputs), batch())
    sum(losses.values()).backward()
    torch.optim.SGD(twin.parameters(), lr=0.1, fused=True).step()
    assert torch.equal(flat(net), flat(twin))
    assert values == {name: loss.item() for name, loss in losses.items()}


class Watched(models.HPS):
    """Notes when its hooks are called."""

    def __init__(self, problem):
        super().__init__(problem)
        self.calls = []

    def forward(self, inputs, tasks=None):
        self.calls.append("forward")
        return super().forward(inputs, tasks)

    def auxiliary_loss(self, batch, predictions):
        self.calls.append(("auxiliary_loss", len(batch), list(predictions)))
        return 3 * self.heads["kind"].weight.square().sum()

    def param_groups(self, lr, weight_decay):
        self.calls.append(("param_groups", lr, weight_decay))
        return [{"params": list(self.shared.parameters()), "lr": 10 * lr}, {"params": list(self.heads.parameters())}]

    def after_backward(self, losses, weights):
        assert all(parameter.grad is not None for parameter in self.parameters())
        self.calls.append(("after_backward", list(losses), weights.shared.tolist()))

    def after_step(self, step):
        self.calls.append(("after_step", step))

    def on_epoch_end(self, epoch, mean_losses):
        self.calls.append(("on_epoch_end", epoch, mean_losses))


def test_the_models_hooks_are_called_in_their_order():
    net = model(Watched)
    step = make_step(PROBLEM.tasks, net, lr=0.5, weight_decay=0.1)
    step(batch(10))
    step(batch(7))
    step.on_epoch_end(1, {"kind": 0.5, "size": 0.25})
    middle = ("after_backward", ["kind", "size"], [1.0, 1.0])
    assert net.calls == [
        ("param_groups", 0.5, 0.1),
        "forward", ("auxiliary_loss", 10, ["kind", "size"]), middle, ("after_step", 1),
        "forward", ("auxiliary_loss", 7, ["kind", "size"]), middle, ("after_step", 2),
        ("on_epoch_end", 1, {"kind": 0.5, "size": 0.25})]


def test_auxiliary_loss_and_parameter_groups_act():
    net, twin = model(Watched), model(Watched)
    make_step(PROBLEM.tasks, net, optimizer="sgd", lr=0.01)(batch())
    predictions = twin(batch().inputs)
    losses = mean_losses(PROBLEM.tasks, predictions, batch())
    (sum(losses.values()) + 3 * twin.heads["kind"].weight.square().sum()).backward()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter -= (0.1 if name.startswith("shared") else 0.01) * parameter.grad
    torch.testing.assert_close(flat(net), flat(twin))


def test_frozen_parameters_stay():
    net = model()
    net.shared.stages[0].requires_grad_(False)
    frozen = net.shared.stages[0][0].weight.clone()
    make_step(PROBLEM.tasks, net, lr=0.1, weight_decay=0.1)(batch())
    assert torch.equal(net.shared.stages[0][0].weight, frozen)


# --- absent tasks ------------------------------------------------------------------------------------

def test_a_task_that_is_absent_has_no_loss_and_no_step():
    net = model()
    head = net.heads["size"].weight.clone()
    values = make_step(PROBLEM.tasks, net, lr=0.1)(Batch(batch().inputs, {"kind": batch().targets["kind"]}))
    assert list(values) == ["kind"]
    assert torch.equal(net.heads["size"].weight, head)


def test_a_batch_without_any_label_changes_nothing():
    net = model()
    before = flat(net)
    step = make_step(PROBLEM.tasks, net, lr=0.1, weight_decay=0.1)
    assert step(Batch(torch.rand(3, 4), {"kind": torch.full((3,), VOID)})) == {}
    assert torch.equal(flat(net), before)


# --- strategies in a step -------------------------------------------------------------------------------

class Curious(Strategy):
    """Has a parameter of its own, a buffer, and looks at the losses a second time."""

    looks_again = True

    def __init__(self):
        super().__init__()
        self.own = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("drawn", torch.zeros((), dtype=torch.float64))
        self.seen, self.epochs = [], []

    def weights(self, losses, gram=None, present=None):
        self.own.grad = losses.clone()
        self.drawn = torch.rand((), generator=self.generator, dtype=torch.float64)
        weights = 1 + self.drawn * torch.ones(2, dtype=torch.float64)
        return TaskWeights(weights, weights)

    def after_step(self, losses_again):
        self.seen.append(losses_again.tolist())

    def on_epoch_end(self, mean_losses):
        self.epochs.append(mean_losses.tolist())

    def param_groups(self):
        return [{"params": [self.own], "lr": 0.5, "weight_decay": 0.0}]


def test_a_strategy_may_learn_and_look_again():
    net, strategy = model(), Curious()
    step = make_step(PROBLEM.tasks, net, strategy, optimizer="sgd", lr=0.1)
    before = step(batch())
    assert strategy.own.tolist() == pytest.approx([-0.5 * before["kind"], -0.5 * before["size"]])
    again = mean_losses(PROBLEM.tasks, net(batch().inputs), batch())
    assert strategy.seen == [pytest.approx([again["kind"].item(), again["size"].item()])]
    step.on_epoch_end(1, {"size": 0.5})
    assert strategy.epochs[0][1] == 0.5 and strategy.epochs[0][0] != strategy.epochs[0][0]  # NaN: it never came


def test_equal_seeds_draw_equally_and_others_do_not():
    def drawn(seed):
        strategy = Curious()
        make_step(PROBLEM.tasks, model(), strategy, seed=seed)(batch())
        return strategy.drawn.item()

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_step_that_was_saved_goes_on_as_it_was(optimizer):
    net = model()
    step = make_step(PROBLEM.tasks, net, Curious(), optimizer=optimizer, lr=0.05)
    step(batch())
    state, weights = copy.deepcopy((step.state_dict(), net.state_dict()))  # as a file would keep them
    twin = model(seed=1)
    other = make_step(PROBLEM.tasks, twin, Curious(), optimizer=optimizer, lr=0.05, seed=7)
    twin.load_state_dict(weights)
    other.load_state_dict(state)
    for _ in range(3):
        assert step(batch()) == other(batch())
    assert torch.equal(flat(net), flat(twin))
    assert other.steps == 4


# --- optimisers and precision -----------------------------------------------------------------------------

@pytest.mark.parametrize("name, reference", [
    ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_optimisers_by_name_are_torchs_own(name, reference):
    net, twin = model(), model()
    step = make_step(PROBLEM.tasks, net, optimizer=name, lr=0.02, weight_decay=0.1)
    own = make_step(PROBLEM.tasks, twin, lr=0.02, optimizer=lambda groups: reference(groups, lr=9.0))
    own.optimizer.param_groups[0]["weight_decay"] = 0.1
    for _ in range(3):
        step(batch())
        own(batch())
    torch.testing.assert_close(flat(net), flat(twin), rtol=1e-4, atol=1e-6)
    assert type(step.optimizer) is reference


def test_nesterov_momentum_begins_for_each_weight_with_its_first_gradient():
    """The fused step of torch fails where it begins for some weights later than for others."""
    nets = [model(), model()]
    step = make_step(PROBLEM.tasks, nets[0], optimizer="nesterov", lr=0.02)
    own = make_step(PROBLEM.tasks, nets[1], lr=0.02,
                    optimizer=lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True))
    whole = batch()
    one_task = Batch(whole.inputs, dict(list(whole.targets.items())[:1]))
    for given in (one_task, whole, one_task, whole):
        step(given)
        own(given)
    torch.testing.assert_close(flat(nets[0]), flat(nets[1]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("changes, message", [
    ({"optimizer": "adamm"}, "Unknown optimizer 'adamm'. Known: adam, adamw, nesterov, sgd. Or give a function"),
    ({"precision": "float8"}, "precision='float8' is not known; use 'auto', 'float32', 'bfloat16' or 'float16'"),
    ({"strategy": "wee"}, "Unknown strategy 'wee'. Known: .*ew"),
    ({"at": "heads"}, "at='heads' is not known; use 'parameters' or 'features'"),
])
def test_unknown_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_step(PROBLEM.tasks, model(), **changes)


@pytest.mark.parametrize("precision, dtype", [
    ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_precision_is_that_of_the_forward_pass(precision, dtype):
    net = model()
    seen = []
    net.heads["kind"].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    step = make_step(PROBLEM.tasks, net, precision=precision)
    losses, auxiliary = step.losses(batch())
    assert seen == [dtype]
    assert {loss.dtype for loss in losses.values()} == {torch.float32} and auxiliary is None
    assert all(p.dtype == torch.float32 for p in net.parameters())
