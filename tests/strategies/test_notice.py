"""Conflict noticing against a brute-force reading of equation 5.3, with every optimiser's memory."""

import pytest
import torch

from mtlcourse import methods, models
from mtlcourse.strategies import Chain, Engine, make
from mtlcourse.strategies.gram import MEASURES, average
from mtlcourse.training import fit
from tests.problems import small
from tests.strategies.nets import NAMES, model_and_batch, task_gradients

DEEP = {"name": "mlp", "widths": [6, 6, 5, 5]}


class Deep(models.HPS):
    def __init__(self, problem):
        super().__init__(problem, DEEP)


def cosine(one, other):
    size = one.norm() * other.norm()
    return (one @ other / size).item() if size > 0 else 0.0


def allowed(rows):
    """For each module whether it may move. rows: for each module the gradients, one row a task."""
    found, conflict = [], False
    for gradients in rows:
        m = len(gradients)
        conflict = conflict or any(cosine(gradients[i], gradients[j]) < 0 for i in range(m) for j in range(i))
        found.append(not conflict)
    return found


def by_module(model, losses):
    rows = iter(task_gradients(model, losses))
    return [torch.cat([next(rows).flatten(1) for _ in group], 1).double() for group in model.shared_modules()]


@pytest.mark.parametrize("seed", range(20))
def test_random_gradients(seed):
    generator = torch.Generator().manual_seed(seed)
    m, modules = 2 + seed % 3, 5
    # A common part makes agreement likely enough that the first conflict is anywhere.
    rows = [torch.randn(m, 6, generator=generator, dtype=torch.float64) + 1.2 for _ in range(modules)]
    rows[seed % modules][0] = 0.0  # a gradient of zero is no conflict
    gram = torch.stack([g @ g.T for g in rows])
    weights = make("notice").bind(["a", "b", "c", "d"][:m]).weights(torch.ones(m, dtype=torch.float64), gram)
    assert weights.heads.tolist() == [1.0] * m
    assert weights.shared.tolist() == [[float(free)] * m for free in allowed(rows)]


def test_the_random_gradients_above_have_their_first_conflict_anywhere():
    ends = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        rows = [torch.randn(2 + seed % 3, 6, generator=generator, dtype=torch.float64) + 1.2 for _ in range(5)]
        rows[seed % 5][0] = 0.0
        ends.add(sum(allowed(rows)))
    assert len(ends) >= 4 and 5 in ends


def test_the_walk_may_begin_later():
    gram = torch.eye(2, dtype=torch.float64).repeat(4, 1, 1)
    gram[0, 0, 1] = gram[0, 1, 0] = gram[2, 0, 1] = gram[2, 1, 0] = -0.5
    losses = torch.ones(2, dtype=torch.float64)
    found = {first: make("notice", first=first).bind(["a", "b"]).weights(losses, gram).shared[:, 0].tolist()
             for first in (1, 2, 3, 4)}
    assert found == {1: [0, 0, 0, 0], 2: [1, 1, 0, 0], 3: [1, 1, 0, 0], 4: [1, 1, 1, 1]}


def opposed(model, module):
    """Losses of three tasks whose gradients agree before shared module number `module` and conflict there.

    Two tasks' losses are linear in all shared parameters, with coefficients chosen by hand; heads take part too.
    """
    signs = []
    for number, group in enumerate(model.shared_modules()):
        signs += [(1.0, -1.0 if number == module else 1.0) for _ in group]

    def losses():
        shared = [p for group in model.shared_modules() for p in group]
        found = {}
        for t, task in enumerate(model.heads):
            own = sum((p * p).sum() for p in model.task_parameters(task))
            found[task] = own + sum((sign[min(t, 1)] * p).sum() for sign, p in zip(signs, shared, strict=True))
        return found

    return losses


OPTIMIZERS = {"momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
              "adam": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)}


def values(parameters):
    return [p.detach().clone() for p in parameters]


def moved(parameters, before):
    return [not torch.equal(p, old) for p, old in zip(parameters, before, strict=True)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("module", range(4))
def test_nothing_at_or_behind_a_conflict_moves_and_all_else_does(optimizer, literal, module):
    model, _ = model_and_batch(Deep)
    step = optimizer(list(model.parameters()))
    engine = Engine(model, make("notice", literal=literal))
    for _ in range(2):  # so that there is momentum
        step.zero_grad()
        engine.backward(opposed(model, 99)())
        step.step()
    step.zero_grad()
    engine.backward(opposed(model, module)())
    groups = model.shared_modules()
    early, late = ([p for group in part for p in group] for part in (groups[:module], groups[module:]))
    heads = list(model.heads.parameters())
    assert all(p.grad is None or literal and not p.grad.any() for p in late)
    assert all((p.grad is None) != literal for p in late)
    torch.testing.assert_close([p.grad for p in early], [torch.full_like(p, 3.0) for p in early])
    torch.testing.assert_close([p.grad for p in heads], [2 * p.detach() for p in heads])
    before = values(early), values(late), values(heads)
    step.step()
    assert all(moved(early, before[0])) and all(moved(heads, before[2]))
    assert all(moved(late, before[1])) if literal else not any(moved(late, before[1]))


@pytest.mark.parametrize("seed", range(4))
def test_real_gradients_of_a_net(seed):
    model, losses = model_and_batch(Deep, seed=seed)
    scalars = losses()
    rows = by_module(model, scalars)
    model.zero_grad()
    Engine(model, "notice").backward(losses())
    for free, gradients, group in zip(allowed(rows), rows, model.shared_modules(), strict=True):
        if not free:
            assert all(p.grad is None for p in group)
        else:
            found = torch.cat([p.grad.flatten() for p in group]).double()
            torch.testing.assert_close(found, gradients.sum(0), rtol=1e-4, atol=1e-7)
    for task in NAMES:
        own = model.task_parameters(task)
        expected = torch.autograd.grad(losses()[task], own)
        torch.testing.assert_close([p.grad for p in own], list(expected))


def test_absent_tasks_have_no_conflict_and_no_weight():
    gram = torch.zeros(2, 3, 3, dtype=torch.float64)
    gram[:, [0, 2], [0, 2]] = 1.0
    here = torch.tensor([True, False, True])
    weights = make("notice").bind(list("abc")).weights(torch.ones(3, dtype=torch.float64), gram, here)
    assert weights.shared.tolist() == [[1, 0, 1]] * 2 and weights.heads.tolist() == [1, 0, 1]


def test_in_a_chain_the_weighted_gradients_are_summed():
    gram = torch.ones(2, 2, 2, dtype=torch.float64)
    gram[1, 0, 1] = gram[1, 1, 0] = -1.0
    losses = torch.tensor([1.0, 3.0], dtype=torch.float64)
    chain = Chain(make("smax"), make("notice", literal=True)).bind(["a", "b"])
    v = make("smax").bind(["a", "b"]).weights(losses).shared
    found = chain.weights(losses, gram)
    torch.testing.assert_close(found.shared, torch.stack([v, torch.zeros(2, dtype=torch.float64)]))
    torch.testing.assert_close(found.heads, v)
    assert chain.zero_is_a_step and not Chain(make("ew"), make("notice")).zero_is_a_step


def test_it_runs_by_name():
    run = methods.run("hps + notice(literal=True)", small(NAMES), budget="smoke", progress=False)
    assert run.history["value"].notna().all()
    with pytest.raises(ValueError, match="first=0: shared modules are numbered from 1"):
        make("notice", first=0)
    with pytest.raises(TypeError, match="needs the Gram matrix"):
        make("notice").bind(["a"]).weights(torch.ones(1, dtype=torch.float64))


# --- what diagnostics keep -----------------------------------------------------------------------------------

def test_conflicts_of_pairs_are_counted_over_steps():
    seen = []
    for sign in (1.0, -1.0, -1.0, 0.0):
        gram = torch.eye(3, dtype=torch.float64)
        gram[0, 2] = gram[2, 0] = 0.5 * sign
        modules = torch.stack([gram, torch.eye(3, dtype=torch.float64)])
        measured = {name: measure(modules.sum(0)) for name, measure in MEASURES.items()}
        measured |= {f"module_{name}": measure(modules) for name, measure in MEASURES.items()}
        seen.append({"gram": modules.sum(0), "module_grams": modules, **measured})
    found = average(seen, ["a", "b", "c"])
    assert {name: value for name, value in found["module_1"].items() if "-" in name} == {
        "conflict a-b": 0.0, "conflict a-c": 0.5, "conflict b-c": 0.0}
    assert found["module_2"]["conflict a-c"] == 0.0 and found["shared"]["conflict a-c"] == 0.5
    assert not any("conflict " in name for name in average(seen)["module_1"])


def test_conflicts_are_in_the_history():
    run = fit(small(NAMES), models.HPS(small(NAMES)), "notice", epochs=2, diagnostics=True, progress=False)
    rows = run.history[run.history["name"].str.startswith("conflict ")]
    assert set(rows["name"]) == {"conflict kind-size", "conflict kind-big", "conflict size-big"}
    assert set(rows["task"]) == {"shared", "module_1", "module_2"} and rows["value"].between(0, 1).all()
    rates = run.history[run.history["name"] == "conflict_rate"].set_index(["epoch", "task"])["value"]
    torch.testing.assert_close(torch.tensor(rows.groupby(["epoch", "task"])["value"].mean().sort_index().values),
                               torch.tensor(rates.sort_index().values))
