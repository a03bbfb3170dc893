"""AuxiLearn: the implicit hypergradient against the closed form, and what the combination of losses learns."""

import pytest
import torch
from torch import Tensor, nn

from mtlcourse import data, methods, models
from mtlcourse.files import seed_everything
from mtlcourse.search.bilevel import BilevelStep
from mtlcourse.search.sharing.auxilearn import ImplicitStep, LearnedCombination, combined, validation
from mtlcourse.tasks import Batch, Problem, TensorSplit
from mtlcourse.training import fit
from mtlcourse.training.updates import make_step
from tests.problems import small


def bound(combination: str = "linear", tasks: tuple[str, ...] = ("kind", "size", "big")) -> LearnedCombination:
    return LearnedCombination(combination).bind(tasks, torch.Generator().manual_seed(0))


# --- implicit differentiation ----------------------------------------------------------------------------

class Quadratic(nn.Module):
    """Two tasks pull `w` to `places` with Hessians diag(1, 3) and diag(2, 0.5); validation wants it at the first."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.tasks, self.exits = problem.tasks, {"good": [], "bad": []}
        self.heads = nn.ModuleDict({name: nn.Identity() for name in ("good", "bad")})
        self.w = nn.Parameter(torch.tensor([0.5, -0.5], dtype=torch.float64))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scale = {"good": (1.0, 3.0), "bad": (2.0, 0.5)}
        return {name: (self.w * torch.tensor(row, dtype=torch.float64).sqrt()).expand(len(x), 2)
                for name, row in scale.items()}

    def shared_modules(self) -> list[list[nn.Parameter]]:
        return [[self.w]]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        return []


H = torch.tensor([[1.0, 3.0], [2.0, 0.5]], dtype=torch.float64)
PLACES = torch.tensor([[1.0, 1.0], [-1.0, 2.0]], dtype=torch.float64)


def pulled() -> Problem:
    """With the squared error (mean over two numbers), task t's loss is `(w - place)^T diag(H_t) (w - place) / 2`."""
    tasks = [data.regression("good", 2), data.regression("bad", 2)]
    targets = {name: (H[t].sqrt() * PLACES[t]).expand(4, 2).clone() for t, name in enumerate(("good", "bad"))}
    split = TensorSplit(torch.ones(4, 1, dtype=torch.float64), targets)
    return Problem("pulled", tasks, split, split, split, (1,), {"name": "mlp", "widths": [2]})


def step_on(problem: Problem, terms: int, xi: float = 0.3, lr: float = 0.05) -> ImplicitStep:
    combination = bound(tasks=("good", "bad"))
    lower = make_step(problem.tasks, Quadratic(problem), combination, optimizer="sgd", lr=0.2)
    return ImplicitStep(lower, list(combination.parameters()), validation(lower, "good"), problem.val, lr=lr,
                        batch_size=4, lower_objective=combined(lower, combination), terms=terms, xi=xi,
                        combination=combination)


def test_the_series_converges_to_the_closed_form():
    problem = pulled()
    batch = next(problem.train.batches(4))
    phi = torch.tensor([1.0, 0.4], dtype=torch.float64, requires_grad=True)

    def optimum(phi: Tensor) -> Tensor:
        return (phi[:, None] * H * PLACES).sum(0) / (phi[:, None] * H).sum(0)

    outer = (H[0] * (optimum(phi) - PLACES[0]).square()).sum() / 2
    expected, = torch.autograd.grad(outer, phi)
    found = {}
    for terms in (0, 3, 300):
        step = step_on(problem, terms)
        step.upper[0].data.copy_(phi.detach())
        step.lower.model.w.data.copy_(optimum(phi).detach())
        found[terms], = step.upper_gradient(batch, batch)
    torch.testing.assert_close(found[300], expected, rtol=1e-6, atol=1e-9)
    errors = [(found[terms] - expected).norm() for terms in (0, 3, 300)]
    assert errors[0] > errors[1] > errors[2]


def test_without_terms_it_is_one_step_back():
    problem = pulled()
    batch = next(problem.train.batches(4))
    implicit = step_on(problem, terms=0, xi=1e-6)
    lower = implicit.lower
    look = BilevelStep(lower, implicit.upper, validation(lower, "good"), problem.val, lr=0.1, batch_size=4,
                       order="exact", lower_objective=combined(lower, implicit.combination), xi=1e-6)
    torch.testing.assert_close(implicit.upper_gradient(batch, batch), look.upper_gradient(batch, batch), rtol=1e-4,
                               atol=0)


def test_a_batch_without_labels_says_nothing_about_the_combination():
    problem = pulled()
    step, batch = step_on(problem, terms=3), next(problem.train.batches(4))
    empty = Batch(batch.inputs, {})
    assert not any(gradient.any() for gradient in step.upper_gradient(batch, empty))
    assert step(empty) == {}


def test_the_task_that_does_not_help_loses_its_weight():
    problem = pulled()
    step = step_on(problem, terms=10, lr=0.15)
    fit(problem, step.lower.model, "ew", step=step, epochs=60, progress=False)
    weights = step.combination.used()
    assert weights["bad"] < 0.05 * weights["good"]
    torch.testing.assert_close(step.lower.model.w.detach(), PLACES[0], atol=0.1, rtol=0)


def test_the_weights_of_a_step_are_projected_before_they_are_used():
    problem = pulled()
    step = step_on(problem, terms=3, lr=5.0)
    step.lower.model.w.data.copy_((H * PLACES).sum(0) / H.sum(0))  # the optimum of equal weights
    step(next(problem.train.batches(4)))
    assert step.combination.used()["bad"] == 0.0 < step.combination.used()["good"]


# --- combinations --------------------------------------------------------------------------------------

def test_a_new_linear_combination_is_equal_weighting():
    problem = small(("kind", "size", "big"))
    trained = {}
    for strategy in ("ew", LearnedCombination()):
        seed_everything(0)
        model = models.HPS(problem)
        fit(problem, model, strategy, epochs=2, progress=False)
        trained[str(strategy)] = model.state_dict()
    first, second = trained.values()
    assert all(torch.allclose(first[key], second[key], rtol=1e-5, atol=1e-6) for key in first)


@pytest.mark.parametrize("combination", ["linear", "monotone"])
def test_weights_are_the_derivatives_of_the_combination(combination: str):
    learned = bound(combination)
    losses = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
    if combination == "linear":
        learned.phi.data.copy_(torch.tensor([0.2, 1.0, 3.0]))
        value = 0.2 * 0.5 + 1.0 * 2.0 + 3.0 * 1.0
    else:
        inner = learned.a @ losses + learned.c
        value = (losses.mean() + (learned.b * torch.log1p(inner.exp())).sum()).item()
    combined_loss = learned.combine(losses)
    assert combined_loss.item() == pytest.approx(value)
    slopes, = torch.autograd.grad(combined_loss, losses)
    weights = learned.weights(losses.detach())
    assert torch.equal(weights.shared, slopes) and torch.equal(weights.heads, slopes)
    assert learned.used() == dict(zip(learned.tasks, slopes.tolist(), strict=True))


@pytest.mark.parametrize("combination", ["linear", "monotone"])
def test_absent_tasks_have_no_weight(combination: str):
    learned = bound(combination)
    losses = torch.tensor([0.5, float("nan"), 1.0], dtype=torch.float64)
    weights = learned.weights(losses, present=~losses.isnan())
    assert weights.shared[1] == 0 and weights.shared[0] > 0 and weights.shared.isfinite().all()


def test_a_monotone_combination_grows_with_every_loss_whatever_is_learned():
    learned = bound("monotone")
    for parameter in learned.parameters():
        parameter.data.normal_(std=3.0)
    learned.project()
    losses = torch.rand(20, 3, dtype=torch.float64)
    assert all((learned.weights(row).shared >= 0).all() for row in losses)
    learned = bound()
    learned.phi.data.copy_(torch.tensor([-1.0, 0.0, 2.0]))
    learned.project()
    assert learned.phi.tolist() == [0.0, 0.0, 2.0]


@pytest.mark.parametrize("combination", ["linear", "monotone"])
def test_everything_in_the_combination_learns_and_nothing_else_learns_with_it(combination: str):
    problem = small(("kind", "size", "big"))
    learned = LearnedCombination(combination)
    model = models.HPS(problem)
    lower = make_step(problem.tasks, model, learned)
    step = ImplicitStep(lower, list(learned.parameters()), validation(lower, None), problem.val, lr=0.1, batch_size=24,
                        lower_objective=combined(lower, learned), combination=learned)
    above, below = next(problem.val.batches(24)), next(problem.train.batches(40))
    found = step.upper_gradient(above, below)
    assert all(gradient.isfinite().all() and gradient.all() for gradient in found)
    del below.targets["big"]  # a batch may lack a task
    assert all(gradient.isfinite().all() for gradient in step.upper_gradient(above, below))
    held = {id(p) for group in lower.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}


# --- the method ----------------------------------------------------------------------------------------

def test_what_is_validated():
    problem = small(void=0.0)
    lower = make_step(problem.tasks, models.HPS(problem))
    batch = next(problem.val.batches(24))
    losses, _ = lower.losses(batch)
    torch.testing.assert_close(validation(lower, None)(batch), (losses["kind"] + losses["size"]) / 2)
    torch.testing.assert_close(validation(lower, "size")(batch), losses["size"])
    without = Batch(batch.inputs, {"kind": batch.targets["kind"]})
    assert validation(lower, "size")(without) == 0


def test_the_held_out_share_is_not_trained_on(monkeypatch):
    seen = []
    whole = methods.Setting.fit
    monkeypatch.setattr(methods.Setting, "fit", lambda self, problem, model, strategy, *a, **k: seen.append(
        (len(problem.train), len(k["step"].split))) or whole(self, problem, model, strategy, *a, **k))
    for name in ("auxilearn", "auxilearn(held_out=0.4)"):
        methods.run(name, small(train=50), budget="smoke", progress=False)
    assert seen == [(45, 5), (30, 20)]


def test_what_was_learned_is_in_the_run():
    run = methods.run("auxilearn+pcgrad", small(train=60), budget="fast(epochs=6)", progress=False)
    last = run.history[(run.history["name"] == "weight") & (run.history["epoch"] == 6)]
    assert dict(zip(last["task"], last["value"], strict=True)) == run.learned["weights"]
    assert run.learned["parameters"]["phi"] == pytest.approx(list(run.learned["weights"].values()))


@pytest.mark.parametrize(("name", "message"), [
    ("auxilearn(main=sise)", "Unknown main task 'sise'. Known: size, kind"),
    ("auxilearn(combination=linnear)", "Unknown combination 'linnear'. Known: linear"),
    ("auxilearn+uw", "another loss strategy cannot be added"),
    ("auxilearn+uw+pcgrad", "another loss strategy cannot be added"),
])
def test_what_cannot_be_is_said(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        methods.run(name, small(), budget="smoke", progress=False)
