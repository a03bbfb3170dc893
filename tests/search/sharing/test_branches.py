"""The supernet against every branch computed on its own, and its passes counted."""

import copy

import pytest
import torch
from torch import nn

from mtlcourse import methods, models
from mtlcourse.files import seed_everything
from mtlcourse.search.sharing.branches import Supernet
from mtlcourse.strategies import Engine, make
from mtlcourse.tasks import mean_losses
from mtlcourse.training import fit
from tests.problems import small
from tests.strategies.nets import NAMES, shared_of, task_gradients

ENCODER = {"name": "mlp", "widths": [6, 5, 4]}  # P = 4


def problem(**options):
    return small(NAMES, **options)


def built(seed=3, encoder=ENCODER, **options):
    """A supernet whose logits are not all equal, in float64."""
    seed_everything(seed)
    net = Supernet(problem(), encoder, **options).double()
    for parameter in net.architecture_parameters():
        nn.init.normal_(parameter)
    return net


def inputs(samples=5):
    return torch.randn(samples, 4, generator=torch.Generator().manual_seed(0)).double()


def through(modules, z):
    for module in modules:
        z = module(z)
    return z


def by_hand(net, task, x):
    """The printed sum, branch by branch, one module at a time."""
    beta = torch.softmax(net.beta[task], 0)
    owners = [task] if net.pure else NAMES
    gamma = [1.0] if net.pure else torch.softmax(net.gamma[task], 0)
    total = 0.0
    for probability, p in zip(beta, net.candidates, strict=True):
        entry = through(net.shared[: p - 1], x)
        for share, owner in zip(gamma, owners, strict=True):
            total = total + probability * share * through(net.private[owner][p - net.candidates[0] :], entry)
    return net.heads[task](total)


OPTIONS = {"all": {}, "some": {"candidates": [2, 4]}, "not the last": {"candidates": [1, 3]}, "last two": {
    "candidates": [-2, -1]}, "unsplit": {"splitting": False}, "impure": {"pure": False},
    "impure, unsplit": {"pure": False, "splitting": False}}
EVERY = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@EVERY
def test_it_is_the_sum_over_branches(options):
    net, x = built(**options), inputs()
    found = net(x)
    for task in NAMES:
        torch.testing.assert_close(found[task], by_hand(net, task, x), rtol=0, atol=1e-12)


@EVERY
def test_so_are_its_gradients(options):
    net, x = built(**options), inputs()
    parameters = list(net.parameters())
    batch = next(problem(train=5).train.batches(5))
    batch.targets["size"] = batch.targets["size"].double()
    found, expected = (
        torch.autograd.grad(sum(mean_losses(net.tasks, predictions, batch).values()), parameters)
        for predictions in (net(x), {task: by_hand(net, task, x) for task in NAMES}))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def images(norm):
    return {"name": "conv", "channels": [4, 6, 8], "norm": norm}


@pytest.mark.parametrize("norm", ["group", None])
def test_convolutions_do_not_notice_the_other_branches(norm):
    seed_everything(0)
    rooms = methods.load_problem("rooms(train=4, val=2, test=2)")
    net = Supernet(rooms, images(norm)).double()
    x = rooms.train.inputs.double()
    found = net(x)
    for task in net.task_names:
        z = 0.0
        for p, probability in zip(net.candidates, torch.softmax(net.beta[task], 0), strict=True):
            z = z + probability * through(net.private[task][p - 1 :], through(net.shared[: p - 1], x))
        torch.testing.assert_close(found[task], net.heads[task](z), rtol=0, atol=1e-10)


def test_a_tree_is_the_supernet_with_all_weight_on_one_branch():
    points = {"kind": 1, "size": 3, "big": 4}
    net = built()
    for task, p in points.items():
        net.beta[task].data = torch.full((4,), -1e4, dtype=torch.float64).index_fill_(0, torch.tensor(p - 1), 0.0)
    assert net.points() == points
    seed_everything(3)
    tree = net.tree(problem()).double()
    x = inputs()
    for task in NAMES:
        torch.testing.assert_close(tree(x)[task], net(x)[task], rtol=0, atol=1e-12)
    assert net.tree(problem(), "fixed").alphas() == {"kind": 0.5, "size": 0.5}


def test_without_pure_modules_who_leaves_together_for_the_same_modules_stays_together():
    net = built(pure=False)
    for task, (p, owner) in {"kind": (2, 0), "size": (2, 0), "big": (2, 1)}.items():
        net.beta[task].data.zero_()[p - 1] = 1.0
        net.gamma[task].data.zero_()[owner] = 1.0
    assert net.tree(problem()).groups()[1:] == [
        {"kind": "group.kind.size", "size": "group.kind.size", "big": "private.big"}] * 2
    net.beta["size"].data[2] = 2.0  # one stage later: no longer the same branch
    assert net.tree(problem()).groups()[2] == {task: f"private.{task}" for task in NAMES}
    with pytest.raises(ValueError, match="A gate mixes a task's own modules .* without pure modules"):
        net.tree(problem(), "fixed")


# --- passes ------------------------------------------------------------------------------------------------

def counted(net, x, **arguments):
    """Samples that went through shared and through private stages, and calls of either."""
    samples, calls = {"shared": 0, "private": 0}, {"shared": 0, "private": 0}

    def hook(kind):
        def count(_, given, __):
            samples[kind] += len(given[0])
            calls[kind] += 1
        return count

    handles = [stage.register_forward_hook(hook("shared")) for stage in net.shared]
    handles += [stage.register_forward_hook(hook("private")) for stages in net.private.values() for stage in stages]
    net(x, **arguments)
    for handle in handles:
        handle.remove()
    return samples, calls


def test_every_stage_runs_once_and_passes_are_those_of_the_formula():
    six = {"name": "mlp", "widths": [6, 6, 6, 6, 6]}  # P = 6
    net = built(encoder=six)
    samples, calls = counted(net, inputs(7))
    assert calls == {"shared": 5, "private": 5 * 3}
    assert samples == {"shared": 5 * 7, "private": 15 * 3 * 7}  # 5 + 15 m passes
    samples, calls = counted(net, inputs(7), tasks=["size"])
    assert calls == {"shared": 5, "private": 5}
    impure = counted(built(encoder=six, pure=False), inputs(7))
    assert impure == ({"shared": 35, "private": 15 * 3 * 7}, {"shared": 5, "private": 15})
    progressive = counted(built(encoder=six, candidates=[3, 6]), inputs(7))
    assert progressive == ({"shared": 35, "private": 3 * 3 * 7}, {"shared": 5, "private": 9})


def normed():
    return [nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh()),
            nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()), nn.Linear(6, 5)]


def test_batch_norm_has_statistics_by_branch_and_keeps_those_of_the_most_probable():
    net, x = built(encoder=normed()), inputs(9)
    for parameter in net.parameters():  # given modules are copied, so that all branches would be the same
        nn.init.normal_(parameter)
    for task, beta in {"kind": [0, 1, 2, 3], "size": [1, 0, 2, 0], "big": [1, 2, 0, 0]}.items():
        net.beta[task].data = torch.tensor(beta, dtype=torch.float64)
    apart, most = copy.deepcopy(net), {}
    found = net(x)
    entries = {1: x}
    for p, stage in enumerate(apart.shared, start=2):
        entries[p] = stage(entries[p - 1])
    for task in NAMES:
        outputs, beta = [], torch.softmax(apart.beta[task], 0)
        for p in (1, 2, 3, 4):
            own = copy.deepcopy(apart.private[task])
            outputs.append(through(own[p - 1 :], entries[p]))
            most[task, p] = own
        z = sum(b * o for b, o in zip(beta, outputs, strict=True))
        torch.testing.assert_close(found[task], apart.heads[task](z), rtol=0, atol=1e-12)
        for number, stage in enumerate(net.private[task][:2], start=1):
            best = max(range(1, number + 1), key=lambda p: beta[p - 1].item())
            for name, buffer in stage.named_buffers():
                torch.testing.assert_close(buffer, dict(most[task, best][number - 1].named_buffers())[name])
    assert all(stage[1].num_batches_tracked == 1 for stage in net.shared[:2])
    sum(p.sum() for p in found.values()).backward()  # changed statistics do not spoil the graph
    net.eval()
    assert counted(net, x)[1] == {"shared": 3, "private": 9}  # in evaluation all branches at once


# --- what learns, what is shared ---------------------------------------------------------------------------------

@EVERY
def test_autograd_reaches_exactly_what_the_model_says(options):
    net = built(**options)
    batch = next(problem(train=5).train.batches(5))
    losses = mean_losses(net.tasks, net(batch.inputs.double()), batch)
    logits = {id(p) for p in net.architecture_parameters()}
    weights = [p for p in net.parameters() if id(p) not in logits]
    users = {task: {id(p) for p, g in zip(weights, torch.autograd.grad(
        losses[task], weights, retain_graph=True, allow_unused=True), strict=True) if g is not None} for task in NAMES}
    shared = {id(p) for p in net.shared_parameters()}
    assert shared == {p for p in map(id, weights) if sum(p in users[task] for task in NAMES) > 1}
    for task in NAMES:
        assert {id(p) for p in net.task_parameters(task)} == users[task] - shared
        own = [net.beta[task], *([] if net.pure else [net.gamma[task]])]
        assert all(g.any() for g in torch.autograd.grad(losses[task], own, retain_graph=True))
    assert {id(p) for group in net.param_groups(0.1, 0.0) for p in group["params"]} == set(map(id, weights))
    assert len(logits) == (3 if net.pure else 6)


@EVERY
@pytest.mark.parametrize("strategy", ["pcgrad", "notice"])
def test_the_engine_measures_the_gradients_of_single_branches(options, strategy):
    net = built(**options).float()
    batch = next(problem(train=5).train.batches(5))

    def losses():
        return mean_losses(net.tasks, net(batch.inputs), batch)

    engine = Engine(net, make(strategy))
    engine.backward(losses())
    assert {len(exits) for exits in net.exits.values()} == {sum(p > 1 for p in net.candidates) if net.pure else 1}
    rows = task_gradients(net, losses())
    whole = torch.cat([row.flatten(1) for row in rows], 1).double()
    torch.testing.assert_close(engine.seen["gram"], whole @ whole.T, rtol=1e-4, atol=1e-9)
    if net.pure:
        assert len(net.shared_modules()) == (len(net.shared) if net.splitting else 1)
    assert len(shared_of(net)) == sum(len(group) for group in net.shared_modules())


def test_own_inputs_for_each_task():
    own = problem(own=True)
    net = built()
    batch = next(own.train.batches(100))
    found = net({task: x.double() for task, x in batch.inputs.items()})
    for task, x in batch.inputs.items():
        torch.testing.assert_close(found[task], net(x.double(), [task])[task], rtol=0, atol=1e-12)


def test_probabilities_are_in_the_history():
    net = Supernet(problem(), ENCODER, pure=False)
    run = fit(problem(), net, "ew", epochs=1, progress=False)
    rows = run.history[run.history["task"] == "size"].set_index("name")["value"]
    assert [rows[f"beta_{p}"] for p in (1, 2, 3, 4)] == [0.25] * 4
    assert [rows[f"gamma_{task}"] for task in NAMES] == pytest.approx([1 / 3] * 3)
    assert net.points() == dict.fromkeys(NAMES, 1) and list(net.points()) == list(NAMES)


def test_it_starts_as_hard_sharing_and_single_task_learning_do():
    seed_everything(5)
    net = Supernet(problem(), ENCODER)
    seed_everything(5)
    shared, alone = models.HPS(problem(), ENCODER), models.STL(problem(), ENCODER)
    for one, other in zip(net.shared.parameters(), shared.shared.stages.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(net.private.parameters(), alone.private.parameters(), strict=True):
        assert torch.equal(one, other)


# --- what is refused ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("options", "message"), [
    ({"encoder": {"name": "mlp", "widths": [6]}}, "a single stage, so P = 2 and there is nothing between"),
    ({"encoder": []}, "at least one stage"),
    ({"candidates": [2]}, r"candidates=\[2\]: a search needs two or more of the branch points 1 to 4"),
    ({"candidates": [2, 5]}, "branch points 1 to 4"), ({"candidates": [0, 2]}, "branch points 1 to 4"),
    ({"candidates": [1, 4], "splitting": False}, "leaves the branch points 1 and P"),
    ({"pure": "no"}, "pure='no' is neither True nor False"),
])
def test_what_cannot_be_searched_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        built(**options)


def test_one_stage_is_a_choice_if_it_is_asked_for():
    net = built(encoder={"name": "mlp", "widths": [6]}, splitting=False)
    assert net.candidates == [1, 2] and net(inputs())["kind"].shape == (5, 3)
