"""Who shares what, by the graph: tasks that reach nothing, heads that others use, gradients that are there already."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtlcourse import data, models, strategies
from mtlcourse.strategies import Chain, Engine, NonFiniteGradient, NonFiniteLoss, make
from mtlcourse.tasks import Problem
from tests.problems import small
from tests.strategies.nets import NAMES, Chained, Plain, model_and_batch, shared_of, task_gradients

GRADIENT = [name for name in strategies.names() if make(name).needs != "losses"]
FOUR = ("kind", "size", "big", "odd")
DEEP = {"name": "mlp", "widths": [6, 5, 5, 4]}
few = settings(max_examples=20)


def tree(points, names=NAMES):
    """A tree whose tasks leave at these points, and their losses on random inputs, anew at each call."""
    problem = Problem("trees", [data.regression(name, 2) for name in names], None, None, None, (4,), DEEP)
    torch.manual_seed(0)
    model = models.Tree(problem, points=dict(zip(names, points, strict=True)))
    x = torch.randn(20, 4)
    wanted = torch.randn(len(names), 20, 2)

    def losses():
        return {name: (z - wanted[t]).square().mean() for t, (name, z) in enumerate(model(x).items())}

    return model, losses


def gradients(model):
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def step(model, losses, strategy, seed=0):
    """What one backward pass writes, and the weights."""
    model.zero_grad()
    engine = Engine(model, strategy.bind(list(model.heads), torch.Generator().manual_seed(seed)))
    used = engine.backward(losses)
    return gradients(model), used


def alone(strategy, model, losses, reaching):
    """Weights that the tasks `reaching` would have if there were no others: the strategy on their Gram matrices."""
    rows = iter(task_gradients(model, {name: losses[name] for name in reaching}))
    flat = [torch.cat([next(rows).flatten(1) for _ in group], 1).double() for group in model.shared_modules()]
    grams = torch.stack([g @ g.T for g in flat])
    gram = {"gram": grams.sum(0), "module_grams": grams}.get(strategy.needs)
    strategy.bind(list(reaching), torch.Generator().manual_seed(0))
    return strategy.weights(torch.stack([losses[name].detach().double() for name in reaching]), gram)


# --- tasks that reach nothing -----------------------------------------------------------------------------------

def test_a_task_that_shares_nothing_does_not_stop_the_trunk():
    model, losses = tree((1, 4, 4))
    before = [p.detach().clone() for p in shared_of(model)]
    optimizer, engine = torch.optim.SGD(model.parameters(), lr=0.1), Engine(model, "mgda")
    for _ in range(10):
        optimizer.zero_grad()
        used = engine.backward(losses())
        optimizer.step()
    assert max((p - old).norm() for p, old in zip(shared_of(model), before, strict=True)) > 1e-3
    assert used.shared[0] == 0 and used.shared.sum().item() == pytest.approx(2) and used.heads.tolist() == [1, 1, 1]


# Not those with random orders, those that give a direction and no weights, and PCD, whose first task goes first.
@pytest.mark.parametrize("name", [name for name in GRADIENT if name not in ("pcgrad", "mamg", "gradvac", "pcd")
                                  and make(name).needs != "gradients"])
@pytest.mark.parametrize("points", [(1, 5, 5), (5, 1, 5), (3, 4, 1), (1, 2, 3)])
def test_weights_are_those_of_the_tasks_that_reach(name, points):
    model, losses = tree(points)
    reaching = [task for task, p in zip(NAMES, points, strict=True) if p > 1]
    _, used = step(model, losses(), make(name))
    expected = alone(make(name), model, losses(), reaching)
    places = [NAMES.index(task) for task in reaching]
    if used.shared.dim() == 2 or name == "gradnorm":
        return  # module by module, tested below
    torch.testing.assert_close(used.shared[places], expected.shared, rtol=1e-6, atol=1e-8)
    assert used.heads.tolist() == [1, 1, 1] and not used.shared[[t for t in range(3) if t not in places]].any()


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("leaving", [0, 1, 2, 3])
def test_a_task_that_leaves_first_changes_nothing_for_the_others(name, leaving):
    """The trunk's gradient is as if that task were absent from the step, and its own parameters have theirs."""
    points = [5, 3, 5, 4]
    points[leaving] = 1
    model, losses = tree(points, FOUR)
    scalars = losses()
    with_it, used = step(model, scalars, make(name))
    task = FOUR[leaving]
    expected = torch.autograd.grad(losses()[task], model.task_parameters(task))
    torch.testing.assert_close([p.grad for p in model.task_parameters(task)], list(expected))
    without, _ = step(model, {name: loss for name, loss in losses().items() if name != task}, make(name))
    mine = {id(p) for p in model.task_parameters(task)}
    for name_of, p in model.named_parameters():
        if id(p) not in mine:
            torch.testing.assert_close(with_it[name_of], without[name_of], rtol=1e-5, atol=1e-7)
    assert used.heads[leaving] == 1


@few
@given(st.lists(st.integers(1, 5), min_size=4, max_size=4), st.sampled_from(GRADIENT),
       st.sampled_from(["", "smax", "uw"]))
def test_any_subset_of_tasks_may_reach(points, name, loss):
    model, losses = tree(points, FOUR)
    strategy = (lambda: make(name)) if not loss or make(name).kind == "loss" else lambda: Chain(make(loss), make(name))
    found, used = step(model, losses(), strategy())
    reaching = [task for task, p in zip(FOUR, points, strict=True) if p > 1]
    sharing = bool(shared_of(model))
    if loss == "smax" or not sharing:
        assert all(g is None or torch.isfinite(g).all() for g in found.values())
        return  # softmax over other tasks is another softmax
    without, other = step(model, {task: loss for task, loss in losses().items() if task in reaching}, strategy())
    for (key, p), first, second in zip(model.named_parameters(), found.values(), without.values(), strict=True):
        if any(p is q for q in shared_of(model)):
            if second is None:
                assert first is None, key
            else:
                torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_a_task_that_is_cut_off_by_hand_is_no_party_either():
    model, losses = model_and_batch(Plain)
    problem = small(NAMES, train=24)
    x = next(problem.train.batches(24)).inputs

    def detached():
        z = torch.relu(model.trunk(x))
        return {name: head(z if name != "size" else z.detach()).square().mean() for name, head in model.heads.items()}

    _, used = step(model, detached(), make("mgda"))
    assert used.shared[1] == 0 and used.shared.sum().item() == pytest.approx(2)


def test_a_task_that_reaches_and_is_solved_is_a_party():
    """Zero times a loss reaches everything, with a gradient of zero: MGDA's definition then moves nothing."""
    model, losses = model_and_batch(models.HPS)
    scalars = losses()
    _, used = step(model, {**scalars, "size": 0 * scalars["size"]}, make("mgda"))
    assert used.shared.tolist() == [0, 3, 0]
    assert not any(p.grad.any() for p in shared_of(model))


def test_module_by_module_gradnorm_balances_who_reaches_the_last_module():
    model, losses = tree((2, 4, 4))
    strategy = make("gradnorm")
    _, used = step(model, losses(), strategy)
    assert used.shared[0] == 1 and used.heads[0] == 1
    assert strategy.w[0].grad is None and all(w.grad is not None for w in list(strategy.w)[1:])
    assert strategy.first.isnan().tolist() == [True, False, False]
    other = make("gradnorm")
    scalars = losses()
    step(model, {name: scalars[name] for name in NAMES[1:]}, other)
    torch.testing.assert_close([w.grad for w in list(strategy.w)[1:]], [w.grad for w in list(other.w)[1:]])


def test_notice_weighs_in_each_module_who_reaches_it():
    model, losses = tree((1, 3, 5))
    scalars = {name: sum((p.sum() for p in model.shared_parameters() if name != "kind"), loss)
               for name, loss in losses().items()}
    _, used = step(model, {name: scalars[name] for name in NAMES}, make("notice", first=9))
    assert used.shared.tolist() == [[0, 1, 1], [0, 1, 1]] and used.heads.tolist() == [1, 1, 1]


def test_measures_are_over_the_tasks_that_reach_a_module():
    model, losses = tree((1, 3, 5))
    engine = Engine(model, "ew", diagnostics=True)
    engine.backward(losses())
    assert torch.isfinite(engine.seen["condition_number"])
    assert torch.isfinite(engine.seen["module_condition_number"]).all()
    assert engine.seen["conflict_rate"].item() in (0.0, 1.0)  # of the one pair


@pytest.mark.parametrize("name", ["mgda", "cagrad", "graddrop"])
def test_at_features_a_task_without_exit_is_no_party(name):
    model, losses = tree((1, 5, 5))
    engine = Engine(model, make(name).bind(NAMES, torch.Generator().manual_seed(0)), "features")
    engine.backward(losses())
    found = gradients(model)
    model.zero_grad()
    engine = Engine(model, make(name).bind(NAMES, torch.Generator().manual_seed(0)), "features")
    engine.backward({task: loss for task, loss in losses().items() if task != "kind"})
    for p, before in zip(model.parameters(), found.values(), strict=True):
        if any(p is q for q in shared_of(model)):
            torch.testing.assert_close(p.grad, before)


def test_a_module_that_no_task_of_the_step_reaches_gets_no_gradient():
    model, losses = tree((2, 4, 4))
    for name in ("ew", "mgda", "pcgrad"):
        found, _ = step(model, {"kind": losses()["kind"]}, make(name))
        late = {id(p) for group in model.shared_modules()[1:] for p in group}
        assert all(p.grad is None for p in model.parameters() if id(p) in late), name


# --- heads that other tasks use -----------------------------------------------------------------------------------

def autograd(model, losses, weights, heads):
    """Each parameter's gradient by one plain call a task: weights where several reach it, those of heads elsewhere."""
    rows = {name: torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
            for name, loss in losses.items()}
    found = []
    for one in zip(*rows.values(), strict=True):
        used = [t for t, g in enumerate(one) if g is not None]
        w = weights if len(used) > 1 else heads
        found.append(sum(w[t] * one[t] for t in used) if used else None)
    return found


@pytest.mark.parametrize("build", [Chained, models.HPS])
@pytest.mark.parametrize("needs", ["losses", "gram", "module_grams"])
def test_a_head_in_another_tasks_way_is_shared(build, needs):
    from tests.strategies.nets import Fixed
    model, losses = model_and_batch(build)
    weights, heads = [2.0, -0.5, 0.7], [1.0, 3.0, 0.25]
    Engine(model, Fixed(weights, heads, needs)).backward(losses())
    for p, expected in zip(model.parameters(), autograd(model, losses(), weights, heads), strict=True):
        torch.testing.assert_close(p.grad, expected, rtol=1e-5, atol=1e-6)


def test_the_head_makes_a_module_behind_the_others():
    model, losses = model_and_batch(Chained)
    engine = Engine(model, "ew", diagnostics=True)
    engine.backward(losses())
    grams = engine.seen["module_grams"]
    assert len(grams) == len(model.shared_modules()) + 1 and not grams[-1, 2].any() and grams[-1, 0, 1] != 0
    with pytest.raises(ValueError, match="'kind' reaches shared parameters.*a head that two tasks use"):
        Engine(model, "mgda", "features").backward(losses())


@pytest.mark.parametrize("name", GRADIENT)
def test_the_heads_gradient_is_the_sum_that_the_strategy_says(name):
    model, losses = model_and_batch(Chained)
    _, used = step(model, losses(), make(name))
    head = list(model.heads["kind"].parameters())
    if make(name).needs == "gradients":  # a direction, which is no sum with weights
        assert all(p.grad is not None for p in head)
        return
    w = used.shared[-1] if used.shared.dim() == 2 else used.shared
    if not w.any():
        assert all(p.grad is None for p in head)
        return
    rows = [torch.autograd.grad(loss, head, retain_graph=True, allow_unused=True, materialize_grads=True)
            for loss in losses().values()]
    expected = [sum(w[t].item() * row[k] for t, row in enumerate(rows)) for k in range(len(head))]
    torch.testing.assert_close([p.grad for p in head], expected, rtol=1e-4, atol=1e-6)


def test_a_head_whose_own_task_is_absent_belongs_to_who_uses_it():
    model, losses = model_and_batch(Chained)
    scalars = losses()
    _, used = step(model, {"size": scalars["size"], "big": scalars["big"]}, make("mgda"))
    expected = torch.autograd.grad(losses()["size"], list(model.heads["kind"].parameters()))
    torch.testing.assert_close([p.grad for p in model.heads["kind"].parameters()], list(expected))


class Wired(nn.Module):
    """Heads wired at random: task t's prediction adds those of the tasks in `wires[t]`; some layers nobody names."""

    exits = None

    def __init__(self, wires, extra):
        super().__init__()
        self.wires, self.extra = wires, extra
        self.trunk, self.more = nn.Linear(4, 5), nn.Linear(5, 5)
        self.heads = nn.ModuleDict({f"t{t}": nn.Linear(5, 1) for t in range(len(wires))})

    def losses(self, x):
        z = torch.tanh(self.trunk(x))
        own = [head(torch.tanh(self.more(z)) if t in self.extra else z) for t, head in enumerate(self.heads.values())]
        self.exits = {name: [z.view_as(z)] for name in self.heads}
        return {name: (own[t] + sum(own[s] for s in self.wires[t]) - t).square().mean()
                for t, name in enumerate(self.heads)}

    def shared_modules(self):
        return [list(self.trunk.parameters())]

    def task_parameters(self, task):
        return list(self.heads[task].parameters())


@few
@given(st.lists(st.sets(st.integers(0, 3), max_size=3), min_size=4, max_size=4), st.sets(st.integers(0, 3)),
       st.sampled_from(["losses", "gram", "module_grams"]))
def test_random_graphs_of_heads(wires, extra, needs):
    from tests.strategies.nets import Fixed
    torch.manual_seed(0)
    model, x = Wired(wires, extra), torch.randn(9, 4)
    weights, heads = [2.0, -0.5, 0.7, 1.2], [1.0, 3.0, 0.25, -1.0]
    Engine(model, Fixed(weights, heads, needs)).backward(model.losses(x))
    for p, expected in zip(model.parameters(), autograd(model, model.losses(x), weights, heads), strict=True):
        if expected is None:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, expected, rtol=1e-4, atol=1e-5)


def test_what_an_architecture_learns_is_left_to_it():
    model, losses = model_and_batch(models.HPS)
    model.logits = nn.Parameter(torch.zeros(3))
    for hook, expected in ((None, True), ("architecture_parameters", False)):
        if hook:
            model.architecture_parameters = lambda: [model.logits]
        model.zero_grad()
        scalars = {name: loss * (1 + model.logits.sum()) for name, loss in losses().items()}
        Engine(model, "mgda").backward(scalars)
        assert (model.logits.grad is not None) == expected


# --- gradients that are there already ---------------------------------------------------------------------------

def opposed(model):
    """Two losses that agree on the first module and conflict on the second."""
    first, second = model.shared_modules()
    return {name: sum(p.sum() for p in first) + sign * sum(p.sum() for p in second)
            for name, sign in zip(NAMES[:2], (1.0, -1.0), strict=True)}


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_notice_keeps_what_earlier_calls_have_added(literal, auxiliary):
    model, losses = model_and_batch(models.HPS, NAMES[:2])
    Engine(model, "ew").backward(losses())
    before = gradients(model)
    extra = sum(p.square().sum() for p in shared_of(model)) if auxiliary else None
    Engine(model, make("notice", literal=literal)).backward(opposed(model), extra)
    second = {id(p) for p in model.shared_modules()[1]}
    for p, old in zip(model.parameters(), before.values(), strict=True):
        if id(p) in second:
            assert torch.equal(p.grad, old)
    first = model.shared_modules()[0]
    names = {id(p): name for name, p in model.named_parameters()}
    for p in first:
        torch.testing.assert_close(p.grad, before[names[id(p)]] + 2 + (2 * p.detach() if auxiliary else 0))


@pytest.mark.parametrize("name", [name for name in strategies.names() if name not in ("graddrop", "rlw")])
def test_two_calls_add_up_strategies_parameters_too(name):
    model, losses = model_and_batch(models.HPS, double=True)
    engine = Engine(model, make(name).bind(NAMES, torch.Generator().manual_seed(0)))
    second = copy.deepcopy(engine.strategy)
    everything = [*model.parameters(), *engine.strategy.parameters()]
    state = engine.strategy.generator.get_state()
    engine.backward(losses())
    once = [None if p.grad is None else p.grad.clone() for p in everything]
    engine.strategy.load_state_dict(second.state_dict())
    engine.strategy.generator.set_state(state)
    engine.backward(losses())
    for p, before in zip(everything, once, strict=True):
        if before is None:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, 2 * before)


# --- who is sick --------------------------------------------------------------------------------------------------

def steep(loss):
    """The same loss with a slope that is no number."""
    return loss + torch.sqrt(0 * loss)


@pytest.mark.parametrize("name", strategies.names())
@pytest.mark.parametrize("sick", NAMES)
@pytest.mark.parametrize("before", [False, True])
def test_the_sick_task_is_named_and_nothing_is_written(name, sick, before):
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, make(name).bind(NAMES, torch.Generator().manual_seed(0)))
    everything = [*model.parameters(), *engine.strategy.parameters()]
    if before:
        engine.backward(losses())
    grads = [None if p.grad is None else p.grad.clone() for p in everything]
    scalars = losses()
    with pytest.raises(NonFiniteGradient, match=f"task '{sick}'") as caught:
        engine.backward({**scalars, sick: steep(scalars[sick])})
    assert caught.value.task == sick
    for p, old in zip(everything, grads, strict=True):
        assert (p.grad is None) == (old is None) and (old is None or torch.equal(p.grad, old))


@pytest.mark.parametrize("name", ["ew", "uw", "mgda"])
def test_a_sick_auxiliary_loss_is_named(name):
    model, losses = model_and_batch(models.HPS)

    def size():
        return sum(p.square().sum() for p in shared_of(model))

    with pytest.raises(NonFiniteLoss, match="'auxiliary' is nan"):
        Engine(model, name).backward(losses(), size() * float("nan"))
    model.extra = nn.Parameter(torch.zeros(()))
    with pytest.raises(NonFiniteGradient, match="'auxiliary'"):
        Engine(model, name).backward(losses(), torch.sqrt(model.extra) * 0 + size())
    assert all(p.grad is None for p in model.parameters())


def test_where_nobody_is_alone_all_that_can_be_are_named():
    model, losses = tree((1, 4, 4))
    for head in model.heads.values():
        head.requires_grad_(False)
    scalars = losses()
    with pytest.raises(NonFiniteGradient, match="'kind'"):
        Engine(model, "ew").backward({**scalars, "kind": steep(scalars["kind"])})
    hps, losses = model_and_batch(models.HPS)
    for head in hps.heads.values():
        head.requires_grad_(False)
    scalars = losses()
    with pytest.raises(NonFiniteGradient, match="'kind or size or big'"):
        Engine(hps, "ew").backward({**scalars, "size": steep(scalars["size"])})


def test_a_chained_head_is_not_blamed_for_who_uses_it():
    model, losses = model_and_batch(Chained)
    scalars = losses()
    with pytest.raises(NonFiniteGradient, match="task 'size'"):
        Engine(model, "ew").backward({**scalars, "size": steep(scalars["size"])})


def test_a_large_finite_gradient_is_no_fault_and_sparse_ones_are_looked_at():
    model, losses = model_and_batch(models.HPS)
    scalars = losses()
    Engine(model, "ew").backward({name: loss * 1e25 for name, loss in scalars.items()})
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    model.words = nn.Embedding(5, 2, sparse=True)
    model.zero_grad()
    scalars = losses()
    scalars["size"] = scalars["size"] + model.words(torch.tensor([1, 1])).sum()
    Engine(model, "ew").backward(scalars)
    assert model.words.weight.grad.is_sparse and model.words.weight.grad.to_dense()[1].tolist() == [2, 2]
