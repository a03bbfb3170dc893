"""RotoGrad: rotations that stay rotations, constants to the head, and a gradient that makes tasks agree."""

import pytest
import torch

from mtlcourse import models
from mtlcourse.files import seed_everything
from mtlcourse.models.rotograd import Rotation, turn
from mtlcourse.strategies import Engine, names
from mtlcourse.tasks import mean_losses
from mtlcourse.training import fit
from mtlcourse.training.updates import make_step
from tests.problems import pixels, small

NAMES = ("kind", "size", "big")
PROBLEMS = {"vector": lambda: small(NAMES), "pixels": pixels, "own": lambda: small(own=True)}


def built(problem, turned: bool = False, **options) -> models.RotoGrad:
    """With `turned`, the rotations are not at the identity any more."""
    seed_everything(3)
    model = models.RotoGrad(problem, **options)
    if turned:
        for parameter in model.rotations.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch_of(problem):
    return next(problem.train.batches(7))


def losses_of(model, problem):
    batch = batch_of(problem)
    return mean_losses(problem.tasks, model(batch.inputs), batch)


# --- rotations -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_rotations_stay_orthogonal_with_determinant_one_over_1000_steps(optimizer):
    generator = torch.Generator().manual_seed(0)
    rotation = Rotation(6)
    assert torch.equal(rotation(), torch.eye(6, dtype=torch.float64))
    steps = optimizer(rotation.parameters(), lr=0.05)
    for _ in range(1000):
        steps.zero_grad()
        R = rotation()
        (R * torch.randn(6, 6, generator=generator)).sum().backward()
        steps.step()
        assert (R @ R.T - torch.eye(6)).abs().max() < 1e-12 and abs(torch.linalg.det(R).item() - 1) < 1e-12
    assert (rotation() - torch.eye(6)).norm() > 1


def test_training_keeps_them_rotations():
    problem = small(NAMES)
    model = built(problem, speed=5.0)
    step, batch = make_step(problem.tasks, model, lr=0.01), batch_of(problem)
    for _ in range(200):
        step(batch)
    for rotation in model.rotations.values():
        R = rotation()
        assert (R @ R.T - torch.eye(5)).abs().max() < 1e-12 and abs(torch.linalg.det(R).item() - 1) < 1e-12
        assert (R - torch.eye(5)).norm() > 0.1


def test_channels_are_turned_pixel_by_pixel():
    R, z = Rotation(3), torch.randn(2, 5, 2, 4)
    torch.nn.init.normal_(R.M)
    matrix = R().float().detach()
    found = turn(matrix, z)
    for n in range(2):
        for i in range(2):
            for j in range(4):
                torch.testing.assert_close(found[n, :3, i, j], matrix @ z[n, :3, i, j])
    assert torch.equal(found[:, 3:], z[:, 3:])


# --- prediction ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", PROBLEMS)
def test_it_starts_as_hard_sharing(kind):
    problem = PROBLEMS[kind]()
    seed_everything(3)
    shared, model, inputs = models.HPS(problem), built(problem), batch_of(problem).inputs
    assert all(torch.equal(shared(inputs)[task], prediction) for task, prediction in model(inputs).items())


@pytest.mark.parametrize("rotate", [None, 3, 1000])
def test_heads_see_the_representation_rotated(rotate):
    problem = small(NAMES)
    model, x = built(problem, turned=True, rotate=rotate), batch_of(problem).inputs
    z, d = model.shared(x), 3 if rotate == 3 else 5
    for task, prediction in model(x).items():
        R = model.rotations[task]().float()
        assert R.shape == (d, d)
        seen = torch.cat([z[:, :d] @ R.T, z[:, d:]], 1)
        torch.testing.assert_close(model.heads[task](seen), prediction)


def test_no_task_loss_reaches_a_rotation():
    problem = small(NAMES)
    model = built(problem, turned=True)
    sum(losses_of(model, problem).values()).backward()
    assert all(parameter.grad is None for parameter in model.rotations.parameters())
    assert all(parameter.grad.any() for parameter in [*model.shared.parameters(), *model.heads.parameters()])


# --- the rotations' gradient ---------------------------------------------------------------------------------

def printed_gradient(model, problem) -> dict[str, torch.Tensor]:
    """By autograd, of the objective as it is printed: sample by sample, or for the sums where samples differ."""
    rotations = {task: model.rotations[task]() for task in problem.task_names}
    inputs, gradients = batch_of(problem).inputs, {}
    batch = batch_of(problem)
    for task in problem.tasks:
        z = model.shared(inputs if isinstance(inputs, torch.Tensor) else inputs[task.name])
        r = turn(rotations[task.name].detach().to(z.dtype), z).detach().requires_grad_()
        loss = mean_losses([task], {task.name: model.heads[task.name](r)}, batch)[task.name]
        g = torch.autograd.grad(loss, r)[0].movedim(1, -1).flatten(0, -2)
        g = g if isinstance(inputs, torch.Tensor) else g.sum(0, keepdim=True)
        gradients[task.name] = (g / g.norm())[:, : model.size].double()
    v = sum(g @ rotations[task].detach() for task, g in gradients.items()) / len(gradients)
    objective = sum((g[n] @ rotations[task] * v[n]).sum() for task, g in gradients.items() for n in range(len(v)))
    parameters = [model.rotations[task].M for task in problem.task_names]
    found = torch.autograd.grad(-objective, parameters)
    return dict(zip(problem.task_names, found, strict=True))


@pytest.mark.parametrize("rotate", [None, 3])
@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize(("strategy", "at"), [("ew", "parameters"), ("rlw", "parameters"), ("pcgrad", "parameters"),
                                              ("mgda", "features"), ("graddrop", "features")])
def test_the_gradient_is_that_of_the_printed_objective_whatever_differentiates(kind, rotate, strategy, at):
    problem = PROBLEMS[kind]()
    model = built(problem, turned=True, rotate=rotate)
    engine, losses = Engine(model, strategy, at), losses_of(model, problem)
    model.after_backward(losses, engine.backward(losses))
    for task, expected in printed_gradient(model, problem).items():
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(model.rotations[task].M.grad, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("strategy", names())
def test_every_strategy_gives_rotations_a_gradient(strategy):
    """But for tasks whose losses have no weight in this step: an ordinary backward pass leaves nothing of them."""
    problem = small(NAMES)
    model = built(problem, turned=True)
    engine, losses = Engine(model, strategy), losses_of(model, problem)
    weights = engine.backward(losses)
    model.after_backward(losses, weights)
    for t, rotation in enumerate(model.rotations.values()):
        if engine.strategy.needs == "losses" and weights.shared[t] == 0:
            assert rotation.M.grad is None
        else:
            assert rotation.M.grad.isfinite().all() and (rotation.M.grad.any() or strategy == "max")


def test_a_gradient_may_come_in_parts():
    problem = small(NAMES)
    model = built(problem, turned=True)
    losses = losses_of(model, problem)
    for share in (0.25, 0.75, 0.0):
        (share * sum(losses.values())).backward(retain_graph=True)
    model.after_backward(losses, None)
    for task, expected in printed_gradient(model, problem).items():
        torch.testing.assert_close(model.rotations[task].M.grad, expected, rtol=1e-3, atol=1e-5)


def test_rotations_make_the_tasks_agree():
    """With everything else held still, the gradients that arrive at z turn towards each other."""
    problem = small(("kind", "size"))
    model = built(problem)
    optimizer = torch.optim.Adam(model.rotations.parameters(), lr=0.05)

    def cosine() -> float:
        x, batch = batch_of(problem).inputs, batch_of(problem)
        z = model.shared(x).detach().requires_grad_()
        found = []
        for task in problem.tasks:
            r = turn(model.rotations[task.name]().detach().float(), z)
            loss = mean_losses([task], {task.name: model.heads[task.name](r)}, batch)[task.name]
            found.append(torch.autograd.grad(loss, z)[0].flatten())
        return torch.cosine_similarity(*found, dim=0).item()

    before = cosine()
    for _ in range(60):
        optimizer.zero_grad()
        losses = losses_of(model, problem)
        sum(losses.values()).backward()
        model.after_backward(losses, None)
        optimizer.step()
    assert cosine() > before + 0.2


def test_a_task_that_is_not_there_keeps_its_rotation():
    problem = small(NAMES)
    model, batch = built(problem, turned=True), batch_of(problem)
    del batch.targets["size"]
    make_step(problem.tasks, model, "pcgrad")(batch)
    assert model.rotations["size"].M.grad is None
    assert model.rotations["kind"].M.grad.any() and model.rotations["big"].M.grad.any()


def test_one_task_agrees_with_itself():
    problem = small(("kind",))
    model = built(problem, turned=True)
    make_step(problem.tasks, model)(batch_of(problem))
    assert model.rotations["kind"].M.grad.abs().max() < 1e-6


# --- its own optimiser ---------------------------------------------------------------------------------------

def test_rotations_are_slower_and_know_no_weight_decay():
    model = built(small(NAMES), speed=0.2)
    network, rotations = model.param_groups(0.01, 0.3)
    assert (network["lr"], network["weight_decay"]) == (0.01, 0.3)
    assert (rotations["lr"], rotations["weight_decay"]) == (0.2 * 0.01, 0.0)
    assert [id(p) for p in rotations["params"]] == [id(p) for p in model.rotations.parameters()]
    both = [id(p) for group in (network, rotations) for p in group["params"]]
    assert sorted(both) == sorted(id(p) for p in model.parameters())


def test_a_training_that_was_cut_off_goes_on_to_the_bit(tmp_path):
    problem = small(NAMES)
    settings = {"strategy": "pcgrad", "lr": 0.01, "batch_size": 20, "progress": False}
    whole = fit(problem, built(problem), epochs=4, **settings).model
    fit(problem, built(problem), epochs=2, checkpoint=tmp_path / "half", **settings)
    resumed = fit(problem, built(problem), epochs=4, checkpoint=tmp_path / "half", **settings).model
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert all(p.any() for p in whole.rotations.parameters())


def test_autocast():
    problem = small(NAMES)
    model = built(problem, turned=True)
    step = make_step(problem.tasks, model, precision="bfloat16")
    expected = printed_gradient(model, problem)
    step(batch_of(problem))
    for task, rotation in model.rotations.items():
        torch.testing.assert_close(rotation.M.grad, expected[task], rtol=0.1, atol=0.02)


@pytest.mark.parametrize("options", [{"rotate": 1}, {"rotate": 0}, {"speed": 0.0}])
def test_options_that_cannot_be(options):
    with pytest.raises(ValueError, match="must be None .* or at least 2 features, and speed=.* positive"):
        models.RotoGrad(small(), **options)
