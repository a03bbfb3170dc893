"""What every sharing architecture must do, whatever it shares: on vectors, images and maps, alone and among many."""

import pytest
import torch

from mtlcourse import data, methods, models, strategies
from mtlcourse.files import load_state, save_state, seed_everything
from mtlcourse.strategies import Engine, make
from mtlcourse.tasks import Problem, TensorSplit, mean_losses
from mtlcourse.training.updates import make_step
from tests.problems import NEEDS_MAPS, SHALLOW, small

# The architectures that a name is enough for: classes of the models' folder, none of the searches, and none of the
# shallow ones, which are solved and take few kinds of tasks.
NAMES = [name for name in methods.names() if getattr(methods._METHODS[name].build, "__module__", "").startswith(
    models.__name__) and isinstance(methods._METHODS[name].build, type) and name not in SHALLOW]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def image(m: int = 3, samples: int = 8) -> Problem:
    """m answers an image, from convolutions that end in a vector."""
    x = normal(samples, 1, 10, 12)
    splits = [TensorSplit(x, {f"mean{t}": x.mean((1, 2, 3))[:, None] * (t + 1) for t in range(m)})] * 3
    encoder = {"name": "conv", "channels": [4, 8], "features": 6}
    return Problem("image", [data.regression(f"mean{t}") for t in range(m)], *splits, (1, 10, 12), encoder)


def dense(samples: int = 4) -> Problem:
    """Two answers a pixel."""
    x = normal(samples, 3, 8, 12)
    splits = [TensorSplit(x, {"bright": (x.mean(1) > 0).long(), "depth": x[:, :1].abs()})] * 3
    tasks = [data.segmentation("bright", 2), data.depth("depth")]
    return Problem("dense", tasks, *splits, (3, 8, 12), {"name": "conv", "channels": [4, 8], "strides": [1, 2]})


def own_images() -> Problem:
    problem = image(2)
    x = {"mean0": normal(6, 1, 10, 12), "mean1": normal(4, 1, 10, 12, seed=1)}
    split = TensorSplit(x, {name: inputs.mean((1, 2, 3))[:, None] for name, inputs in x.items()})
    return Problem("own", problem.tasks, split, split, split, problem.input_shape, problem.encoder)


PROBLEMS = {"vector": lambda: small(("kind", "size", "big"), train=8), "image": image, "dense": dense,
            "own": lambda: small(own=True), "own images": own_images}
# What an architecture refuses, and the words in which it does.
REFUSED = {(name, kind): "needs maps" for name in NEEDS_MAPS for kind in ("vector", "own")} | {
    ("srdml", "vector"): "2 real outputs", ("srdml", "own"): "2 real outputs", ("srdml", "dense"): "every pixel"}
CASES = [(name, kind) for name in NAMES for kind in PROBLEMS if (name, kind) not in REFUSED]
SHARED_INPUTS = [(name, kind) for name, kind in CASES if not kind.startswith("own")]
KINDS = dict(SHARED_INPUTS)  # for each architecture one kind of problem that it takes


def built(name: str, problem: Problem, seed: int = 0) -> models.MTLModel:
    seed_everything(seed)
    return methods.build(name, problem)


def batch_of(problem: Problem):
    return next(problem.train.batches(100))


def losses_of(model: models.MTLModel, problem: Problem) -> dict[str, torch.Tensor]:
    batch = batch_of(problem)
    return mean_losses(problem.tasks, model(batch.inputs), batch)


def gradients(model: models.MTLModel) -> dict[str, torch.Tensor]:
    """A copy of all gradients, which are cleared."""
    found = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[key], second[key]) for key in first)


# --- who shares what ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "kind"), SHARED_INPUTS)
def test_shared_and_own_parameters_are_those_that_autograd_reaches(name, kind):
    problem = PROBLEMS[kind]()
    model = built(name, problem)
    users: dict[int, set[str]] = {id(p): set() for p in model.parameters()}
    for task, loss in losses_of(model, problem).items():
        everything = list(model.parameters())
        for p, gradient in zip(everything, torch.autograd.grad(loss, everything, retain_graph=True, allow_unused=True),
                               strict=True):
            if gradient is not None:
                users[id(p)].add(task)
    shared = [id(p) for p in model.shared_parameters()]
    assert sorted(shared) == sorted(key for key, tasks in users.items() if len(tasks) > 1)
    for task in problem.task_names:
        own = [id(p) for p in model.task_parameters(task)]
        assert sorted(own) == sorted(key for key, tasks in users.items() if tasks == {task})


@pytest.mark.parametrize("at", ["parameters", "features"])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_gradients_cut_at_the_exits_are_those_of_the_whole_graph(name, kind, at):
    """Equal weighting measures nothing and goes straight through; with diagnostics it goes the way of all others."""
    problem = PROBLEMS[kind]()
    model = built(name, problem).double()
    problem = Problem(problem.name, problem.tasks, *[_double(problem.train)] * 3, problem.input_shape, problem.encoder)
    sum(losses_of(model, problem).values()).backward()
    expected = gradients(model)
    Engine(model, "ew", at, diagnostics=True).backward(losses_of(model, problem))
    for key, found in gradients(model).items():
        if expected[key] is None:
            assert found is None or not found.any(), key
        else:
            torch.testing.assert_close(found, expected[key], rtol=1e-9, atol=1e-12, msg=key)


def _double(split: TensorSplit) -> TensorSplit:
    inputs = split.inputs.double() if split.shared else {task: x.double() for task, x in split.inputs.items()}
    return TensorSplit(inputs, {task: y.double() if y.is_floating_point() else y for task, y in split.targets.items()})


# --- learning -------------------------------------------------------------------------------------------------

STEPS = [(*case, "mgda", "parameters") for case in CASES] + [(*case, "pcgrad", "features") for case in CASES] + [
    (name, kind, strategy, at) for name, kind in KINDS.items()
    for strategy, at in (("ew", "parameters"), ("pcgrad", "parameters"), ("mgda", "features"))]


@pytest.mark.parametrize(("name", "kind", "strategy", "at"), STEPS)
def test_a_step_reaches_every_trainable_parameter(name, kind, strategy, at):
    problem = PROBLEMS[kind]()
    model = built(name, problem)
    step = make_step(problem.tasks, model, strategy, at=at, precision="float32")
    losses = step(batch_of(problem))
    assert set(losses) == set(problem.task_names) and all(0 <= value < float("inf") for value in losses.values())
    for key, p in model.named_parameters():
        assert not p.requires_grad or p.grad is not None and p.grad.isfinite().all(), key
        assert p.isfinite().all(), key


@pytest.mark.parametrize("strategy", strategies.names())
@pytest.mark.parametrize("name", NEEDS_MAPS)
def test_every_strategy_works_where_vectors_are_refused(name, strategy):
    problem = image()
    step = make_step(problem.tasks, built(name, problem), make(strategy), precision="float32")
    assert all(0 <= value < float("inf") for value in step(batch_of(problem)).values())


# A regulariser moves a task's own parameters also in steps without the task.
@pytest.mark.parametrize("name", [n for n in NAMES if not hasattr(methods._METHODS[n].build, "auxiliary_loss")])
def test_a_task_that_is_not_in_the_step_keeps_what_is_its_own(name):
    problem = PROBLEMS[KINDS[name]]()
    model = built(name, problem)
    batch = batch_of(problem)
    absent = problem.task_names[0]
    del batch.targets[absent]
    before = [p.clone() for p in model.task_parameters(absent)]
    losses = make_step(problem.tasks, model, "pcgrad", precision="float32")(batch)
    assert set(losses) == set(problem.task_names) - {absent}
    assert all(torch.equal(old, p) for old, p in zip(before, model.task_parameters(absent), strict=True))


@pytest.mark.parametrize(("name", "m"), [(name, m) for name in NAMES for m in (1, 40) if (name, m) != ("srdml", 1)])
def test_one_task_and_forty(name, m):
    problem = image(m)
    model = built(name, problem)
    assert bool(model.shared_parameters()) == (m > 1 and name not in ("stl", "stl-wide"))
    step = make_step(problem.tasks, model, "mgda" if m == 1 else "ew", precision="float32")
    assert len(step(batch_of(problem))) == m
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


# --- prediction -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "kind"), CASES)
def test_some_tasks_may_be_asked_for_and_have_inputs_of_their_own(name, kind):
    problem = PROBLEMS[kind]()
    model, inputs = built(name, problem).eval(), batch_of(problem).inputs
    both = model(inputs)
    assert list(both) == problem.task_names
    for task in problem.task_names:
        x = inputs if isinstance(inputs, torch.Tensor) else inputs[task]
        alone = model(x, [task])
        assert list(alone) == [task] == list(model.exits)
        torch.testing.assert_close(alone[task], both[task], rtol=1e-5, atol=1e-6)


# --- state ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_weights_and_nothing_else_does(name):
    problem = PROBLEMS[KINDS[name]]()
    first = built(name, problem).state_dict()
    seed_everything(0)
    torch.rand(17)
    assert same(first, methods.build(name, problem).state_dict())
    assert not same(first, built(name, problem, seed=1).state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trips_to_the_bit(name, tmp_path):
    problem = PROBLEMS[KINDS[name]]()
    model, other = built(name, problem), built(name, problem, seed=1)
    make_step(problem.tasks, model, "ew", lr=0.1)(batch_of(problem))  # away from the start
    save_state(tmp_path / "model", dict(model.state_dict()))
    other.load_state_dict(load_state(tmp_path / "model"))
    assert same(model.state_dict(), other.state_dict())
    x = batch_of(problem).inputs
    assert same(model.eval()(x), other.eval()(x))


@pytest.mark.parametrize(("name", "kind"), SHARED_INPUTS)
def test_models_move_between_precisions_and_to_the_meta_device(name, kind):
    problem = PROBLEMS[kind]()
    model, x = built(name, problem).eval(), batch_of(problem).inputs
    expected = model(x)
    half = model.to(torch.bfloat16)(x.bfloat16())
    for task in expected:
        assert half[task].dtype == torch.bfloat16
        spread = expected[task].abs().max().item() + 0.1
        torch.testing.assert_close(half[task].float(), expected[task], rtol=0.1, atol=0.1 * spread)
    shapes = model.float().to("meta")(x.to("meta"))
    assert {task: y.shape for task, y in shapes.items()} == {task: y.shape for task, y in expected.items()}
    with torch.device("meta"):
        assert all(p.is_meta for p in methods.build(name, problem).parameters())


# --- refusals -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_what_does_not_apply_is_refused_when_constructed(name, kind):
    with pytest.raises(ValueError, match=REFUSED[name, kind]):
        built(name, PROBLEMS[kind]())
