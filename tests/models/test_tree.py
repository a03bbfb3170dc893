"""Trees: their two ends are STL and HPS to the bit, every printed path is the one that is taken."""

import pytest
import torch
from torch import nn

from mtlcourse import methods, models
from mtlcourse.files import seed_everything
from mtlcourse.models import Tree
from mtlcourse.models.dsmtl import GATES
from mtlcourse.strategies import Engine
from mtlcourse.tasks import mean_losses
from mtlcourse.training import fit
from tests.problems import small
from tests.strategies.nets import NAMES

ENCODER = {"name": "mlp", "widths": [6, 5, 4]}  # P = 4
POINTS = {"kind": 1, "size": 3, "big": 4}


def problem(**options):
    return small(NAMES, **options)


def built(kind, seed=3, **options):
    seed_everything(seed)
    return kind(problem(), ENCODER, **options)


def through(modules, z):
    for module in modules:
        z = module(z)
    return z


def inputs():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


# --- what it computes ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("p", "kind"), [(4, models.HPS), (1, models.STL)])
def test_the_ends_are_hard_sharing_and_single_task_learning_to_the_bit(p, kind):
    tree, other = built(Tree, points=dict.fromkeys(NAMES, p)), built(kind)
    found, expected = tree(inputs()), other(inputs())
    assert all(torch.equal(found[task], expected[task]) for task in NAMES)
    assert sum(q.numel() for q in tree.parameters()) == sum(q.numel() for q in other.parameters())


def test_by_default_everything_is_shared():
    assert built(Tree).groups() == [dict.fromkeys(NAMES, "shared")] * 3


@pytest.mark.parametrize("gate", [None, *GATES])
def test_the_printed_equation_with_and_without_gates(gate):
    """Modules of f_S are those of HPS, private ones those of STL, so both stand in for the formula's parts."""
    tree, shared, alone = built(Tree, points=POINTS, gate=gate), built(models.HPS), built(models.STL)
    x = inputs()
    for task, p in POINTS.items():
        own = through(list(alone.private[task].stages)[p - 1 :], through(list(shared.shared.stages)[: p - 1], x))
        expected = own if gate is None or p == 4 else 0.5 * shared.shared(x) + 0.5 * own
        torch.testing.assert_close(tree(x)[task], tree.heads[task](expected))
    assert set(tree.gates) == (set() if gate is None else {"kind", "size"})
    assert tree.alphas() == dict.fromkeys(tree.gates, 0.5)


def test_an_unknown_gate_is_told_even_where_no_task_has_one():
    with pytest.raises(ValueError, match="projected"):
        models.Tree(small(), gate="projcted")


def test_a_gate_weighs_by_alpha():
    tree = built(Tree, points=POINTS, gate="projected").double()
    tree.gates["size"].value.data.fill_(0.3)
    x = inputs().double()
    public = through([parts["shared"] for parts in tree.parts], x)
    own = through([tree.parts[0]["shared"], tree.parts[1]["shared"], tree.parts[2]["private-size"]], x)
    torch.testing.assert_close(tree(x)["size"], tree.heads["size"](0.3 * public + 0.7 * own))


def test_groups_say_who_goes_together():
    groups = [dict(kind=0, size=0, big=0), dict(kind="a", size="b", big="b"), dict(kind=7, size=8, big=7)]
    tree = built(Tree, groups=groups[:2] + [dict(kind=7, size=8, big=9)])
    assert tree.groups() == [
        dict.fromkeys(NAMES, "shared"),
        {"kind": "private.kind", "size": "group.size.big", "big": "group.size.big"},
        {"kind": "private.kind", "size": "private.size", "big": "private.big"}]
    again = built(Tree, groups=tree.groups())
    assert all(torch.equal(again(inputs())[task], tree(inputs())[task]) for task in NAMES)
    with pytest.raises(ValueError, match=r"Stage 3 puts 'kind' together with \['big'\], from which it has parted"):
        built(Tree, groups=groups)


def test_a_module_that_is_shared_is_computed_once():
    tree = built(Tree, points=POINTS, gate="projected")
    calls = []
    for stage, parts in enumerate(tree.parts):
        for name, module in parts.items():
            module.register_forward_hook(lambda *_, place=(stage, name): calls.append(place))
    tree(inputs())
    assert sorted(calls) == sorted({*calls}) and len(calls) == sum(len(parts) for parts in tree.parts) == 7


def test_some_tasks_and_inputs_of_their_own():
    tree = built(Tree, points=POINTS, gate="sigmoid")
    everything = tree(inputs())
    assert torch.equal(tree(inputs(), ["big"])["big"], everything["big"])
    assert torch.equal(tree({"size": inputs()})["size"], everything["size"])


# --- what is shared ----------------------------------------------------------------------------------------

TREES = {
    "gates": {"points": POINTS, "gate": "projected"}, "no gates": {"points": POINTS}, "early": {"points": {
        "kind": 1, "size": 1, "big": 4}}, "early with gates": {"points": {"kind": 1, "size": 1, "big": 3},
                                                              "gate": "fixed"},
    "groups": {"groups": [dict(kind=0, size=0, big=1), dict(kind=0, size=0, big=1), dict(kind=0, size=2, big=1)]},
}


def reached(tree, task):
    losses = mean_losses(tree.tasks, tree(inputs()), next(problem(train=5).train.batches(5)))
    parameters = list(tree.parameters())
    found = torch.autograd.grad(losses[task], parameters, allow_unused=True)
    return {id(p) for p, g in zip(parameters, found, strict=True) if g is not None}


@pytest.mark.parametrize("options", TREES.values(), ids=TREES)
def test_autograd_reaches_exactly_what_the_model_says(options):
    tree = built(Tree, **options)
    users = {task: reached(tree, task) for task in NAMES}
    shared = {id(p) for p in tree.shared_parameters()}
    everything = {id(p) for p in tree.parameters()}
    assert shared == {p for p in everything if sum(p in users[task] for task in NAMES) > 1}
    for task in NAMES:
        assert {id(p) for p in tree.task_parameters(task)} == users[task] - shared
    assert set.union(*users.values()) == everything, "no module is kept that nobody passes"


@pytest.mark.parametrize("options", TREES.values(), ids=TREES)
def test_tasks_leave_where_sharing_ends(options):
    """The engine accepts the exits (it refuses ways around them), and behind an exit nothing is shared."""
    tree = built(Tree, **options)
    batch = next(problem(train=5).train.batches(5))
    losses = mean_losses(tree.tasks, tree(batch.inputs), batch)
    if tree.shared_parameters():
        Engine(tree, "mgda", "features").backward(losses)
    losses = mean_losses(tree.tasks, tree(batch.inputs), batch)
    shared = tree.shared_parameters()
    for task in NAMES:
        exits = tree.exits[task]
        signals = torch.autograd.grad(losses[task], exits, retain_graph=True) if exits else []
        found = torch.autograd.grad(losses[task], shared, retain_graph=True, materialize_grads=True) if shared else []
        again = (torch.autograd.grad(exits, shared, signals, retain_graph=True, materialize_grads=True) if exits
                 else [torch.zeros_like(p) for p in shared])
        for one, other in zip(found, again, strict=True):
            torch.testing.assert_close(one, other)
    assert (tree.exits["big"] == []) == (options == TREES["early"] or "groups" in options)


def test_modules_are_in_order_from_the_input_side():
    tree = built(Tree, points=POINTS, gate="projected")
    expected = [list(parts["shared"].parameters()) for parts in tree.parts]
    assert [[id(p) for p in group] for group in tree.shared_modules()] == [[id(p) for p in g] for g in expected]


# --- counts, training ------------------------------------------------------------------------------------------

def test_counts_follow_from_branch_points():
    """E + D plus, for every task, the modules from its point on; a gate one number more."""
    sizes = [sum(p.numel() for p in stage.parameters()) for stage in built(models.HPS).shared.stages]
    hps = sum(p.numel() for p in built(models.HPS).parameters())
    for points in (POINTS, {"kind": 2, "size": 2, "big": 4}):
        own = sum(sum(sizes[p - 1 :]) for p in points.values())
        gated = sum(p < 4 for p in points.values())
        for gate, more in ((None, 0), ("projected", gated)):
            tree = built(Tree, points=points, gate=gate)
            assert sum(p.numel() for p in tree.parameters()) == hps + own + more


def test_gates_learn_stay_in_range_and_are_reported():
    run = fit(problem(), built(Tree, points=POINTS, gate="projected"), "ew", epochs=2, lr=0.3, weight_decay=0.5,
              progress=False)
    history = run.history
    seen = history[history["name"] == "alpha"]
    assert set(seen["task"]) == {"kind", "size"} and seen["value"].between(0, 1).all()
    assert (seen["value"] != 0.5).any()
    groups = run.model.param_groups(0.1, 0.5)
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0] and len(groups[1]["params"]) == 2


def test_a_tree_runs_by_name():
    name = "tree(points={'left': 1, 'right': 4}, gate=projected)"
    run = methods.run(name, "multidigits(train=60, val=20, test=20)", budget="smoke", progress=False)
    assert run.config["method"] == "tree(gate='projected', points={'left': 1, 'right': 4})"
    assert methods.count_parameters(name, "multidigits") == run.cost["parameters"]


def test_modules_that_are_given_are_copied():
    stages = [nn.Linear(4, 3), nn.Linear(3, 3)]
    tree = Tree(problem(), stages, points={"kind": 1, "size": 2, "big": 3})
    assert torch.equal(tree.parts[0]["private-kind"].weight, stages[0].weight)
    assert not {id(p) for p in tree.parameters()} & {id(p) for stage in stages for p in stage.parameters()}


# --- what is refused ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("options", "message"), [
    ({"points": {**POINTS, "depth": 2}}, "Unknown task 'depth'. Known: .* The points are those of another problem"),
    ({"points": {"kind": 1, "size": 2}}, r"say nothing about \['big'\]"),
    ({"points": {**POINTS, "big": 5}}, r"'big' has branch point 5; this encoder has points 1 .* to 4"),
    ({"points": {**POINTS, "big": 0}}, "branch point 0"),
    ({"points": {**POINTS, "big": True}}, "branch point True"),
    ({"points": POINTS, "groups": [dict.fromkeys(NAMES, 0)] * 3}, "by groups or by points, not both"),
    ({"groups": [dict.fromkeys(NAMES, 0)] * 3, "gate": "fixed"}, "gates need points"),
    ({"groups": [dict.fromkeys(NAMES, 0)] * 2}, "2 groups for an encoder of 3 stages"),
    ({"groups": [dict.fromkeys(NAMES, 0)] * 2 + [{"kind": 0}]}, r"groups of stage 3 say nothing about \['size', 'big'"),
    ({"points": POINTS, "gate": "open"}, "Unknown gate 'open'"),
])
def test_what_is_no_tree_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        built(Tree, **options)
