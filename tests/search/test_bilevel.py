"""Bilevel optimisation: hypergradients against brute force, the known solution of a toy, exact resumption."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mtlcourse import data, models
from mtlcourse.files import seed_everything
from mtlcourse.search.bilevel import (
    ORDERS,
    BilevelStep,
    NonFiniteObjective,
    central_difference,
    halves,
    joined,
    summed,
)
from mtlcourse.tasks import Batch, Problem, TensorSplit, mean_losses
from mtlcourse.training import TrainingDiverged, fit
from mtlcourse.training.updates import make_step
from mtlcourse.void import VOID
from tests.problems import doubled, small, split


class Scaled(nn.Module):
    """A smooth net that shares its trunk; its upper parameters are one factor a task, and a shift of the trunk."""

    def __init__(self, problem: Problem, dropout: float = 0.0):
        super().__init__()
        self.tasks = problem.tasks
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Dropout(dropout), nn.Linear(6, 5), nn.Softplus())
        self.heads = nn.ModuleDict({task.name: nn.Linear(5, task.out_channels) for task in problem.tasks})
        self.factors = nn.Parameter(torch.tensor([0.7, 1.3][: len(problem.tasks)]))
        self.shift = nn.Parameter(torch.full((5,), 0.1))
        self.exits = None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = self.trunk(x) + self.shift
        self.exits = {name: [z.view_as(z)] for name in self.heads}
        return {name: head(factor * self.exits[name][0])
                for (name, head), factor in zip(self.heads.items(), self.factors, strict=True)}

    def shared_modules(self) -> list[list[nn.Parameter]]:
        return [list(self.trunk.parameters())]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        return list(self.heads[task].parameters())

    def param_groups(self, lr: float, weight_decay: float) -> list[dict]:
        weights = [*self.trunk.parameters(), *self.heads.parameters()]
        return [{"params": weights, "lr": lr, "weight_decay": weight_decay}]

    def upper(self) -> list[nn.Parameter]:
        return [self.factors, self.shift]


def levels(order: str, dropout: float = 0.0, optimizer: str = "sgd", weight_decay: float = 0.0,
           **options) -> tuple[BilevelStep, Batch, Batch]:
    """A step on the smooth net in float64, and a batch of either level."""
    seed_everything(2)
    problem = doubled(small())
    model = Scaled(problem, dropout).double()
    lower = make_step(problem.tasks, model, optimizer=optimizer, lr=0.05, weight_decay=weight_decay)
    step = BilevelStep(lower, model.upper(), summed(lower), problem.val, lr=0.01, batch_size=24, order=order,
                       lower_objective=summed(lower), **options)
    return step, next(problem.val.batches(24)), next(problem.train.batches(40))


def brute_force(step: BilevelStep, above: Batch, below: Batch, xi: float, decay: float = 0.0,
                drift: float = 0.0) -> list[Tensor]:
    """The gradient of F(w - xi (dL/dw + decay w + drift), u) in u, with autograd through the step itself."""
    model = step.lower.model
    weights = {name: p for name, p in model.named_parameters() if name not in ("factors", "shift")}

    def loss(values: dict[str, Tensor], batch: Batch) -> Tensor:
        predictions = torch.func.functional_call(model, values, (batch.inputs,))
        return torch.stack(list(mean_losses(model.tasks, predictions, batch).values())).sum()

    slopes = torch.autograd.grad(loss(weights, below), list(weights.values()), create_graph=True)
    ahead = {name: w - xi * (slope + decay * w.detach() + drift)
             for (name, w), slope in zip(weights.items(), slopes, strict=True)}
    return list(torch.autograd.grad(loss(ahead, above), step.upper))


# --- hypergradients ------------------------------------------------------------------------------------

def test_exact_is_double_backward_through_the_step_of_the_weights():
    step, above, below = levels("exact")
    for found, expected in zip(step.upper_gradient(above, below), brute_force(step, above, below, 0.05), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_second_order_is_close_to_exact_and_first_is_not():
    step, above, below = levels("second")
    expected = torch.cat(brute_force(step, above, below, 0.05))
    second = torch.cat(step.upper_gradient(above, below))
    first = torch.cat(levels("first")[0].upper_gradient(above, below))
    assert (second - expected).norm() < 1e-4 * expected.norm()
    assert (first - expected).norm() > 1e-2 * expected.norm()


@pytest.mark.parametrize("order", ["second", "exact"])
def test_without_a_look_ahead_it_is_first_order(order: str):
    step, above, below = levels(order, xi=0.0)
    first = levels("first")[0].upper_gradient(above, below)
    assert all(torch.equal(a, b) for a, b in zip(step.upper_gradient(above, below), first, strict=True))


@pytest.mark.parametrize("order", ["second", "exact"])
def test_decay_and_momentum_are_part_of_the_look_ahead(order: str):
    step, above, below = levels(order, weight_decay=0.3)
    expected = brute_force(step, above, below, 0.05, decay=0.3)
    for found, right in zip(step.upper_gradient(above, below), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-5)
    heavy, above, below = levels(order, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9))
    for weight, _ in heavy._weights():
        heavy.lower.optimizer.state[weight]["momentum_buffer"] = torch.ones_like(weight)
    expected = brute_force(heavy, above, below, 0.05, drift=0.9)
    for found, right in zip(heavy.upper_gradient(above, below), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_looking_ahead_leaves_the_weights_and_their_gradients_alone(order: str):
    step, above, below = levels(order)
    before = [weight.clone() for weight in step.lower.model.parameters()]
    step.upper_gradient(above, below)
    assert all(torch.equal(a, b) for a, b in zip(before, step.lower.model.parameters(), strict=True))
    assert all(weight.grad is None for weight in step.lower.model.parameters())


def test_both_sides_of_the_difference_see_the_same_noise():
    u, w, v = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def loss() -> Tensor:
        return (u * w).sum() + (u * torch.rand(3)).sum()

    found, = central_difference(loss, [u], [w], [v.detach()])
    torch.testing.assert_close(found, v.detach())  # other noise on the other side would be divided by 2 eps
    before = torch.get_rng_state()
    torch.rand(3)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    central_difference(loss, [u], [w], [v.detach()])
    assert torch.equal(torch.get_rng_state(), after)  # and the next batch sees new noise


def test_several_objectives_share_one_look_ahead():
    step, above, below = levels("exact")
    kind, size = (lambda batch, name=name: step.lower.losses(batch)[0][name] for name in ("kind", "size"))
    separate = step.hypergradients([kind, size], above, below)
    total = step.hypergradients([step.objective], above, below)[0]
    for a, b, both in zip(*separate, total, strict=True):
        torch.testing.assert_close(a + b, both, rtol=1e-10, atol=1e-12)


# --- learning ------------------------------------------------------------------------------------------

class Quadratic(nn.Module):
    """`w` is pulled to `u` by the training loss `|w - u|^2 / 2` and should be at `goal` for validation."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.tasks = problem.tasks
        self.heads = nn.ModuleDict({"y": nn.Linear(1, 2, bias=False)})
        self.u = nn.Parameter(torch.zeros(2))
        self.exits = {"y": []}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        w = self.heads["y"].weight.T  # one row
        # Training inputs are ones and their targets zeros: the loss is |w - u|^2. Validation inputs are twos.
        return {"y": w - self.u * (x == 1) + 0 * x}

    def shared_modules(self) -> list:
        return []

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        return list(self.heads[task].parameters())

    def param_groups(self, lr: float, weight_decay: float) -> list[dict]:
        return [{"params": list(self.heads.parameters()), "lr": lr, "weight_decay": weight_decay}]


GOAL = torch.tensor([0.6, -0.4])


def quadratic() -> Problem:
    task = data.regression("y", 2)
    train = TensorSplit(torch.ones(4, 1), {"y": torch.zeros(4, 2)})
    above = TensorSplit(torch.full((4, 1), 2.0), {"y": GOAL.expand(4, 2).clone()})
    return Problem("quadratic", [task], train, above, above, (1,), {"name": "mlp", "widths": [2]})


@pytest.mark.parametrize(("order", "there"), [("second", True), ("exact", True), ("first", False)])
def test_the_known_solution_of_a_quadratic_toy(order: str, there: bool):
    """F(w, u) = |w - goal|^2 with w*(u) = u: the solution is u = goal; first order gets no gradient at all."""
    problem = quadratic()
    seed_everything(0)
    model = Quadratic(problem)

    def squares(batch: Batch) -> Tensor:
        return (model(batch.inputs)["y"] - batch.targets["y"]).square().mean()

    lower = make_step(problem.tasks, model, optimizer="sgd", lr=0.3)
    step = BilevelStep(lower, [model.u], squares, problem.val, lr=0.02, batch_size=4, order=order,
                       lower_objective=squares)
    fit(problem, model, step=step, epochs=300, progress=False)
    if there:
        torch.testing.assert_close(model.u.detach(), GOAL, atol=0.02, rtol=0)
        torch.testing.assert_close(model.heads["y"].weight.detach()[:, 0], GOAL, atol=0.02, rtol=0)
    else:
        assert not model.u.any()


def test_single_level_minimises_the_loss_on_both_halves_together():
    step, above, below = levels("single")
    both = joined(below, above)
    expected = torch.autograd.grad(summed(step.lower)(both), step.upper)
    weights = [p for p in step.lower.model.trunk.parameters()]
    slopes = torch.autograd.grad(summed(step.lower)(both), weights)
    before = [w.detach().clone() for w in weights]
    found = []
    step.optimizer.step = lambda: found.extend(p.grad.clone() for p in step.upper)  # looks, and does not move u
    step(below)
    for a, b in zip(found, expected, strict=True):  # 24 samples in another order
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    for w, old, slope in zip(weights, before, slopes, strict=True):
        torch.testing.assert_close(w.detach(), old - 0.05 * slope, rtol=1e-8, atol=1e-10)


def test_first_order_looks_at_validation_for_u_and_at_training_for_w():
    step, above, below = levels("first")
    expected = torch.autograd.grad(summed(step.lower)(above), step.upper)
    found = []
    step.optimizer.register_step_pre_hook(lambda *_: found.extend(p.grad.clone() for p in step.upper))
    losses = step(below)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert set(losses) == {"kind", "size"}
    assert all(parameter.grad is None for parameter in step.upper)


def test_a_warm_up_moves_the_weights_only():
    step, above, below = levels("first", warm_up=2)
    before = [p.detach().clone() for p in step.upper]
    weight = next(step.lower.model.trunk.parameters()).detach().clone()
    for epoch in (1, 2):
        step(below)
        step.on_epoch_end(epoch, {})
    assert all(torch.equal(a, b) for a, b in zip(before, step.upper, strict=True))
    assert not torch.equal(weight, next(step.lower.model.trunk.parameters()))
    step(below)
    assert not any(torch.equal(a, b) for a, b in zip(before, step.upper, strict=True))


@pytest.mark.parametrize("order, samples", [("first", 40), ("single", 40 + 24)])
def test_a_warm_up_learns_from_the_data_of_its_order(order: str, samples: int):
    step, above, below = levels(order, warm_up=1)
    seen = []
    step.lower = Spy(step.lower, seen)
    step(below)
    assert seen == [samples]


class Spy:
    """A step that notes how many samples its batches have."""

    def __init__(self, step, seen: list[int]):
        self.step, self.seen = step, seen

    def __getattr__(self, name: str):
        return getattr(self.step, name)

    def __call__(self, batch: Batch) -> dict[str, float]:
        self.seen.append(len(batch))
        return self.step(batch)


@pytest.mark.parametrize("order", ORDERS)
def test_a_training_that_was_cut_off_ends_bit_for_bit_as_if_it_was_not(order: str, tmp_path):
    def train(epochs: int, checkpoint=None) -> tuple[dict, list]:
        seed_everything(4)
        problem = small(dropout=0.2)
        model = Scaled(problem, dropout=0.3)
        lower = make_step(problem.tasks, model, "rlw", lr=0.02)
        # 24 samples in batches of 7 and 40 in batches of 8: an epoch below ends in the middle of one above.
        step = BilevelStep(lower, model.upper(), summed(lower), problem.val, lr=0.01, batch_size=7, order=order,
                           lower_objective=summed(lower))
        run = fit(problem, model, step=step, epochs=epochs, batch_size=8, checkpoint=checkpoint, progress=False)
        return model.state_dict(), run.history["value"].tolist()

    whole = train(5)
    train(2, tmp_path / "run")
    resumed = train(5, tmp_path / "run")
    assert all(torch.equal(whole[0][name], resumed[0][name]) for name in whole[0]) and whole[1] == resumed[1]


@pytest.mark.parametrize("order", ORDERS)
def test_a_batch_without_labels_below(order: str):
    step, above, below = levels(order)
    empty = Batch(below.inputs, {})
    found = step.upper_gradient(above, empty)
    first = torch.autograd.grad(summed(step.lower)(above), step.upper)
    assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True))  # w stays, there is no look-ahead
    before = [w.detach().clone() for w in step.lower.model.trunk.parameters()]
    assert bool(step(empty)) == (order == "single")  # in which w sees both batches
    stayed = all(torch.equal(a, b) for a, b in zip(before, step.lower.model.trunk.parameters(), strict=True))
    assert stayed == (order != "single")


def test_labels_of_tasks_that_are_not_searched_do_not_count():
    problem = small(void=0.0)
    half = torch.arange(24) < 12  # one task has labels in the first half of `split`, the other in the second
    targets = {"kind": problem.val.targets["kind"].masked_fill(half, VOID),
               "size": problem.val.targets["size"].masked_fill(~half[:, None], float("nan"))}
    inside = replace(problem, tasks=[task for task in problem.tasks if task.name == "kind"])
    lower = make_step(inside.tasks, models.HPS(inside))
    upper = [nn.Parameter(torch.zeros(1))]
    step = BilevelStep(lower, upper, summed(lower), TensorSplit(problem.val.inputs, targets), lr=0.1, batch_size=1)
    assert all(step.next_batch().count("kind") == 1 for _ in range(24))


def test_the_upper_level_sees_each_sample_once_an_epoch():
    step, _, _ = levels("first")
    step.batch_size = 7
    for _ in range(2):
        seen = torch.cat([step.next_batch().inputs for _ in range(4)])
        assert sorted(seen[:, 0].tolist()) == sorted(step.split.inputs[:, 0].tolist())


# --- bad input -----------------------------------------------------------------------------------------

def test_what_cannot_be_is_said():
    problem = small()
    model = Scaled(problem)
    lower = make_step(problem.tasks, model)
    options = {"lr": 0.1, "batch_size": 4}
    with pytest.raises(ValueError, match="Unknown order 'frist'. Known: first"):
        BilevelStep(lower, model.upper(), summed(lower), problem.val, order="frist", **options)
    with pytest.raises(ValueError, match="give lower_objective"):
        BilevelStep(lower, model.upper(), summed(lower), problem.val, order="exact", **options)
    with pytest.raises(ValueError, match="no labels for \\['size'\\]"):
        BilevelStep(lower, model.upper(), summed(lower), split(10, ("kind",)), **options)
    everything = make_step(problem.tasks, models.HPS(problem))
    with pytest.raises(ValueError, match="in the lower optimiser too"):
        BilevelStep(everything, list(everything.model.shared.parameters()), summed(everything), problem.val, **options)


def test_an_objective_that_is_not_a_number_stops_the_run():
    problem = small()
    model = Scaled(problem)
    lower = make_step(problem.tasks, model)
    step = BilevelStep(lower, model.upper(), lambda batch: model.factors.sum() / 0, problem.val, lr=0.1, batch_size=4)
    with pytest.raises(NonFiniteObjective, match="upper-level objective"):
        step(next(problem.train.batches(4)))
    with pytest.raises(TrainingDiverged, match="The upper-level objective .* in step 1 of epoch 1"):
        fit(problem, model, step=step, epochs=1, progress=False)


# --- halves --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("own", [False, True])
def test_every_sample_is_in_one_half(own: bool):
    problem = small(train=41, own=own)
    below, above = halves(problem, seed=3)
    for name in problem.task_names:
        parts = [part.inputs[name] if own else part.inputs for part in (below.train, above, problem.train)]
        assert len(parts[0]) - len(parts[1]) in (0, 1)
        assert sorted(torch.cat(parts[:2])[:, 0].tolist()) == sorted(parts[2][:, 0].tolist())
        pairs = {tuple(x): y for x, y in zip(parts[2].tolist(), problem.train.targets[name].tolist(), strict=True)}
        assert all(pairs[tuple(x)] == y for x, y in zip(parts[1].tolist(), above.targets[name].tolist(), strict=True))
    again, _ = halves(problem, seed=3)
    other, _ = halves(problem, seed=4)
    first = {name: part.train.targets["size"] for name, part in (("a", below), ("b", again), ("c", other))}
    assert torch.equal(first["a"], first["b"]) and not torch.equal(first["a"], first["c"])
    assert below.val is problem.val and below.test is problem.test


def test_halves_without_a_task_are_refused():
    problem = small(train=40)
    problem.train.targets["size"][1:] = float("nan")
    lonely = Problem("lonely", problem.tasks, TensorSplit(problem.train.inputs, problem.train.targets), problem.val,
                     problem.test, (4,), problem.encoder)
    for seed in range(4):
        with pytest.raises(ValueError, match="half of 'train', 20 of 40 samples, has no labels for \\['size'\\]"):
            halves(lonely, seed)
    with pytest.raises(ValueError, match="a single training sample"):
        halves(small(train=1))
    for share in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="cannot have the share .* between 0 and 1"):
            halves(small(), share=share)


def test_batches_are_joined_with_what_they_lack_unlabelled():
    first, second = (next(part.batches(5)) for part in (split(5), split(3, ("kind",), seed=1)))
    both = joined(first, second)
    assert torch.equal(both.inputs, torch.cat([first.inputs, second.inputs]))
    assert both.counts == {"kind": 8, "size": 5} and both.targets["size"][5:].isnan().all()
    own = joined(next(split(6, own=True).batches(6)), next(split(4, seed=1, own=True).batches(4)))
    assert {name: len(x) for name, x in own.inputs.items()} == {"kind": 10, "size": 5} == own.counts
