"""The engine against plain autograd, one call a task, on models of every shape."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mtlcourse import models, strategies
from mtlcourse.strategies import Engine, NonFiniteGradient, NonFiniteLoss, backward
from mtlcourse.tasks import mean_losses
from tests.problems import small
from tests.strategies.nets import (
    EVERY,
    NAMES,
    Branched,
    Fixed,
    Interleaved,
    Leaking,
    Normed,
    Plain,
    SameExit,
    Sum,
    Talking,
    model_and_batch,
    shared_of,
    task_gradients,
)

W, HEADS = [2.0, -0.5, 0.7], [1.0, 3.0, 0.25]


def check(model, losses, weights, heads=None, here=(0, 1, 2), extra=()):
    """`.grad` of `model` is what autograd gives one task at a time, for the weights said."""
    weights = torch.tensor(weights, dtype=torch.float64)[list(here)]
    heads = weights if heads is None else torch.tensor(heads, dtype=torch.float64)[list(here)]
    rows = task_gradients(model, losses)
    for parameter, row in zip(shared_of(model), rows, strict=True):
        torch.testing.assert_close(parameter.grad, torch.tensordot(weights.to(row), row, 1), rtol=1e-5, atol=1e-6)
    for weight, (name, loss) in zip(heads, losses.items(), strict=True):
        own = model.task_parameters(name)
        for parameter, expected in zip(own, torch.autograd.grad(loss, own, retain_graph=True), strict=True):
            torch.testing.assert_close(parameter.grad, weight.item() * expected, rtol=1e-5, atol=1e-6)


# --- what autograd saw ---------------------------------------------------------------------------------

@pytest.mark.parametrize("build", EVERY)
@pytest.mark.parametrize("needs", ["losses", "gram", "module_grams"])
def test_weights_reach_shared_parameters_and_heads(build, needs):
    model, losses = model_and_batch(build)
    used = Engine(model, Fixed(W, HEADS, needs)).backward(losses())
    assert used.shared.tolist() == W and used.heads.tolist() == HEADS
    check(model, losses(), W, HEADS)


@pytest.mark.parametrize("build", EVERY)
def test_the_gram_matrix_is_that_of_the_task_gradients_by_module(build):
    model, losses = model_and_batch(build)
    engine = Engine(model, Fixed(W, needs="module_grams"))
    engine.backward(losses())
    rows = iter(task_gradients(model, losses()))
    expected = [torch.zeros(3, 3, dtype=torch.float64) for _ in model.shared_modules()]
    for gram, group in zip(expected, model.shared_modules(), strict=True):
        for _ in group:
            flat = next(rows).flatten(1).double()
            gram += flat @ flat.T
    (_, found, _), = engine.strategy.looked_at
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-10)
        assert torch.equal(one, one.T)
    assert torch.equal(engine.seen["module_grams"], found) and torch.equal(engine.seen["gram"], found.sum(0))


@pytest.mark.parametrize("build", [models.HPS, Branched, Talking, Plain])
def test_rows_reach_strategies_that_need_them(build):
    model, losses = model_and_batch(build)
    engine = Engine(model, Sum())
    engine.backward(losses())
    check(model, losses(), [1.0, 1.0, 1.0])
    expected = torch.cat([row.flatten(1) for row in task_gradients(model, losses())], 1)
    torch.testing.assert_close(engine.strategy.rows, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("build", [models.HPS, models.DSMTL, Branched, Interleaved, Plain])
@pytest.mark.parametrize("needs", ["losses", "gram", "gradients"])
def test_absent_tasks_have_no_part(build, needs):
    model, losses = model_and_batch(build)
    some = {name: loss for name, loss in losses().items() if name != "size"}
    strategy = Sum() if needs == "gradients" else Fixed([2.0, 0.0, 0.7], HEADS, needs)
    engine = Engine(model, strategy)
    engine.backward(some)
    assert engine.losses.isnan().tolist() == [False, True, False]
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.task_parameters("size"))
    if needs == "gradients":
        assert strategy.rows.shape[0] == 3 and not strategy.rows[1].any()
        return
    (_, gram, present), = strategy.looked_at
    assert present.tolist() == [True, False, True]
    if needs == "gram":
        assert not gram[1].any() and not gram[:, 1].any() and gram[0, 2] != 0
        assert engine.seen["conflict_rate"].item() in (0.0, 1.0)  # over the one pair that is there
    check(model, {name: loss for name, loss in losses().items() if name != "size"}, [2.0, 0.0, 0.7], HEADS, (0, 2))


@pytest.mark.parametrize("at", ["parameters", "features"])
def test_tasks_with_inputs_of_their_own(at):
    model, losses = model_and_batch(models.HPS, own=True)
    engine = Engine(model, Fixed(W, HEADS), at)
    engine.backward(losses())
    check(model, losses(), W, HEADS)
    cosines = engine.seen["cosines"]
    assert (cosines[0, 1] == 0) == (at == "features")  # different samples share no entry of the representation


@pytest.mark.parametrize("build", [models.HPS, models.DSMTL, Branched, Normed, SameExit, Talking, Interleaved])
def test_at_features_measures_at_the_exits_and_uses_the_same_weights(build):
    model, losses = model_and_batch(build)
    engine = Engine(model, Fixed(W, HEADS), "features")
    scalars = losses()
    signals = []
    for name, loss in scalars.items():
        exits = [z for zs in model.exits.values() for z in zs] if build is Talking else model.exits[name]
        signals.append(torch.autograd.grad(loss, exits, retain_graph=True, materialize_grads=True))
    engine.backward(scalars)
    check(model, losses(), W, HEADS)
    if build not in (Branched, Interleaved):  # all tasks leave at one place
        flat = torch.stack([sum(parts).flatten() for parts in signals]).double()
        torch.testing.assert_close(engine.seen["gram"], flat @ flat.T, rtol=1e-5, atol=1e-10)
    if build is Branched:
        assert engine.seen["gram"][0, 1:].tolist() == [0.0, 0.0] and engine.seen["gram"][1, 2] != 0


def test_a_direction_at_features_goes_on_through_the_trunk():
    model, losses = model_and_batch(models.HPS)
    Engine(model, Sum(), "features").backward(losses())
    check(model, losses(), [1.0, 1.0, 1.0])


@pytest.mark.parametrize("rows", [4, 6])
def test_features_equal_parameters_for_one_linear_stage_on_orthonormal_inputs(rows):
    """`g_t = C_t^T X`, so `g_s . g_t = C_s . (X X^T) C_t`: the Gram matrices agree if X X^T is the identity."""
    torch.manual_seed(0)
    x = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0][:rows]
    for inputs, equal in ((x, True), (torch.randn(rows, 6, dtype=torch.float64), False)):
        model, _ = model_and_batch(lambda problem: models.HPS(problem, [nn.Linear(4, 3, bias=False)]))
        model.double()
        model.shared.stages[0].weight = nn.Parameter(torch.randn(3, 6, dtype=torch.float64))
        grams = []
        for at in ("parameters", "features"):
            engine = Engine(model, "pcgrad", at)
            engine.backward({name: output.square().mean() for name, output in model(inputs).items()})
            grams.append(engine.seen["gram"])
        assert torch.allclose(*grams, rtol=1e-9) == equal


@pytest.mark.parametrize("needs", ["losses", "gram"])
@pytest.mark.parametrize("at", ["parameters", "features"])
@pytest.mark.parametrize("heads", [W, HEADS])
def test_an_auxiliary_loss_is_added_as_it_is(needs, at, heads):
    model, losses = model_and_batch(models.HPS)
    model.extra = nn.Parameter(torch.ones(3))  # what only the auxiliary loss reaches learns too

    def auxiliary(scalars):
        decay = sum(p.square().sum() for p in model.shared_parameters())
        return 0.1 * decay + 0.5 * scalars["kind"] * model.extra.sum()

    scalars = losses()
    Engine(model, Fixed(W, heads, needs), at).backward(scalars, auxiliary(scalars))
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    scalars = losses()
    shared, own = (sum(w * loss for w, loss in zip(ws, scalars.values(), strict=True)) + auxiliary(scalars)
                   for ws in (W, heads))
    for name, parameter in model.named_parameters():
        expected, = torch.autograd.grad(shared if name.startswith("shared") else own, parameter, retain_graph=True)
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_module_with_zero_weights_makes_no_step(auxiliary):
    model, losses = model_and_batch(models.HPS)
    scalars = losses()
    extra = sum(p.square().sum() for p in model.shared_parameters()) if auxiliary else None
    used = Engine(model, Fixed([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], HEADS, "module_grams")).backward(scalars, extra)
    first, second = model.shared_modules()
    assert all(parameter.grad is None for parameter in second)
    assert all(parameter.grad is not None for parameter in first)
    assert used.shared[1].tolist() == [0, 0, 0]
    if not auxiliary:
        rows = task_gradients(model, losses())
        torch.testing.assert_close(first[0].grad, torch.tensordot(torch.tensor([1.0, 2.0, 3.0]), rows[0], 1))


@pytest.mark.parametrize("needs", ["losses", "gram"])
def test_gradients_are_added_to_those_that_are_there(needs):
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, Fixed(W, HEADS, needs))
    engine.backward(losses())
    once = [parameter.grad.clone() for parameter in model.parameters()]
    engine.backward(losses())
    for parameter, before in zip(model.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * before)


def test_losses_of_single_samples_are_averaged():
    model, losses = model_and_batch(models.HPS)
    scalars = losses()
    Engine(model, Fixed(W)).backward({name: torch.stack([loss, 3 * loss]) for name, loss in scalars.items()})
    check(model, losses(), [2 * w for w in W])


def test_gradients_are_memory_of_their_own():
    """Optimisers and clipping write into `.grad`; two parameters must not share one."""
    model, losses = model_and_batch(models.HPS)
    Engine(model, "mgda").backward(losses())
    places = [parameter.grad.untyped_storage().data_ptr() for parameter in model.parameters()]
    assert len(set(places)) == len(places)
    assert all(parameter.grad.is_contiguous() for parameter in model.parameters())


# --- precision, compilation, cost ------------------------------------------------------------------------

@pytest.mark.parametrize("build", [models.HPS, Normed, models.DSMTL])
@pytest.mark.parametrize("at", ["parameters", "features"])
def test_bfloat16_autocast(build, at):
    model, losses = model_and_batch(build)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scalars = losses()
    engine = Engine(model, "mgda", at)
    used = engine.backward(scalars)
    exact = Engine(model, "mgda", at)
    found = torch.cat([parameter.grad.flatten() for parameter in shared_of(model)])
    model.zero_grad()
    check_weights = exact.backward(losses())
    expected = torch.cat([parameter.grad.flatten() for parameter in shared_of(model)])
    assert found.dtype == torch.float32 and torch.isfinite(found).all()
    assert torch.cosine_similarity(found, expected, dim=0) > 0.95
    torch.testing.assert_close(used.shared, check_weights.shared, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("build, name", [(models.HPS, "ew"), (models.HPS, "mgda"), (models.HPS, "graddrop"),
                                         (Normed, "mgda"), (Branched, "gradnorm")])
def test_compiled_forward_gives_the_same_gradients(build, name):
    torch._dynamo.reset()
    model, losses = model_and_batch(build)
    gradients = []
    for compiled in (False, True):
        engine = Engine(model, strategies.make(name).bind(NAMES, torch.Generator().manual_seed(0)))
        model.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own
            engine.backward(losses(torch.compile(model, backend="aot_eager") if compiled else None))
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["ew", "mgda"])
def test_compiling_with_gradients_of_gradients_is_told(name):
    torch._dynamo.reset()
    model, losses = model_and_batch(models.HPS)
    compiled = torch.compile(model.shared, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        x = torch.randn(4, *model.input_shape, requires_grad=True)
        slope, = torch.autograd.grad(compiled(x).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="compile=False"):
            Engine(model, name).backward(losses(), auxiliary=slope.square().sum())


class Copies(TorchDispatchMode):
    """Counts what would wait for a device: copies of tensors to another one, and single numbers fetched."""

    def __init__(self):
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        self.copies += "_local_scalar_dense" in name or name.startswith(("is_nonzero", "nonzero", "equal"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["ew", "mgda", "pcgrad", "gradnorm"])
def test_one_copy_to_the_host_a_step(name, monkeypatch):
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, name)
    copies = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self, *a, **k: copies.append(self.shape) or original(self, *a, **k))
    scalars = losses()
    engine.backward(scalars)
    assert copies == [(3,) if name == "ew" else (3 + 2 * 9,)]  # the losses, with one matrix a module


@pytest.mark.parametrize("name", ["mgda", "cagrad", "mamg"])
def test_no_operation_before_the_copy_waits_for_a_number(name, monkeypatch):
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, name)
    scalars = losses()
    with Copies() as counter:
        monkeypatch.setattr(torch.Tensor, "cpu", lambda self: (_ for _ in ()).throw(InterruptedError))
        with pytest.raises(InterruptedError):
            engine.backward(scalars)
    assert counter.copies == 0


def test_heads_are_passed_once_and_the_trunk_once_a_task():
    calls = {"trunk": 0, "head": 0}
    model, losses = model_and_batch(models.HPS)
    for name, module in (("trunk", model.shared.stages[0][0]), ("head", model.heads["kind"])):
        def count(gradient, name=name):
            calls[name] += 1

        module.register_forward_hook(lambda module, inputs, output, count=count: output.register_hook(count) and None)
    Engine(model, "mgda").backward(losses())
    assert calls == {"trunk": 3, "head": 1}
    Engine(model, "mgda", "features").backward(losses())
    assert calls == {"trunk": 4, "head": 2}
    Engine(model, "uw").backward(losses())
    assert calls == {"trunk": 5, "head": 3}


# --- what it saw -------------------------------------------------------------------------------------------

def test_seen_measures_the_task_gradients():
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, "ew", diagnostics=True)
    engine.backward(losses())
    check(model, losses(), [1.0, 1.0, 1.0])
    rows = torch.cat([row.flatten(1) for row in task_gradients(model, losses())], 1).double()
    seen = engine.seen
    expected = torch.nn.functional.normalize(rows)
    torch.testing.assert_close(seen["cosines"], expected @ expected.T, rtol=1e-5, atol=1e-6)
    values = torch.linalg.svdvals(rows)
    assert seen["condition_number"].item() == pytest.approx((values[0] / values[-1]).item(), rel=1e-3)
    assert seen["module_conflict_rate"].shape == seen["module_cosine"].shape == (2,)
    assert "gram" not in Engine(model, "ew").seen


def test_models_without_shared_parameters_have_zero_gradients_to_combine():
    model, losses = model_and_batch(models.STL)
    for name in strategies.names():
        model.zero_grad()
        engine = Engine(model, name)
        used = engine.backward(losses())
        assert torch.isfinite(used.heads).all()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
        if engine.strategy.needs == "gram":
            assert used.shared.tolist() == [1, 1, 1] and engine.seen["module_grams"].shape == (0, 3, 3)


# --- what is refused -----------------------------------------------------------------------------------------

def test_what_cannot_be_combined_is_refused_when_constructed():
    model, _ = model_and_batch(models.HPS)
    with pytest.raises(ValueError, match="at='head'"):
        Engine(model, "ew", "head")
    with pytest.raises(ValueError, match="Unknown strategy"):
        Engine(model, "pcgard")
    with pytest.raises(ValueError, match="GradNorm looks at the gradients of single modules"):
        Engine(model, "gradnorm", "features")
    for name in ("moco", "db-mtl", "excess-mtl"):
        for strategy in (strategies.make(name), strategies.Chain(strategies.make("uw"), strategies.make(name))):
            with pytest.raises(ValueError, match="looks at the gradients .* of earlier steps"):
                Engine(model, strategy, "features")
    plain, _ = model_and_batch(Plain)
    with pytest.raises(ValueError, match="`needs` of Fixed 'everything'. Known"):
        Engine(model, Fixed(W, needs="everything"))
    plain.heads = nn.ModuleDict()
    with pytest.raises(ValueError, match="no heads"):
        Engine(plain)


@pytest.mark.parametrize("build", [Leaking, Plain])
def test_exits_with_a_way_around_them_cannot_be_measured_at(build):
    model, losses = model_and_batch(build)
    with pytest.raises(ValueError, match="'kind' reaches shared parameters past the model's `exits`"):
        Engine(model, "mgda", "features").backward(losses())


@pytest.mark.parametrize("name", ["ew", "mgda"])
def test_losses_that_cannot_be_used_are_refused(name):
    model, losses = model_and_batch(models.HPS)
    engine = Engine(model, name)
    with pytest.raises(KeyError, match="depth"):
        engine.backward({"depth": torch.zeros(())})
    with pytest.raises(ValueError, match="No losses"):
        engine.backward({})
    with pytest.raises(ValueError, match="'kind' does not depend on any trainable parameter"):
        engine.backward({**losses(), "kind": torch.ones(())})
    with pytest.raises(ValueError, match="has shape \\(2, 2\\)"):
        engine.backward({**losses(), "kind": torch.ones(2, 2, requires_grad=True)})
    scalars = losses()
    engine.backward(scalars)
    with pytest.raises(RuntimeError, match="The graph behind these losses is gone"):
        engine.backward(scalars)


@pytest.mark.parametrize("name", ["ew", "mgda"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_losses_that_are_no_numbers_stop_before_any_gradient(name, value):
    model, losses = model_and_batch(models.HPS)
    scalars = losses()
    scalars["size"] = scalars["size"] * value
    with pytest.raises(NonFiniteLoss, match="loss of task 'size' is") as caught:
        Engine(model, name).backward(scalars)
    assert caught.value.task == "size"
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradients_that_are_no_numbers_stop_before_any_gradient():
    model, losses = model_and_batch(models.HPS)
    scalars = losses()
    scalars["size"] = scalars["size"] + torch.sqrt(0 * scalars["size"])  # a finite loss with an infinite slope
    with pytest.raises(NonFiniteGradient, match="squared gradient norm of task 'size'"):
        Engine(model, "mgda").backward(scalars)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_by_module_need_gradients_by_module():
    model, losses = model_and_batch(models.HPS)
    with pytest.raises(ValueError, match="needs='module_grams'"):
        Engine(model, Fixed([W, W], HEADS, "losses")).backward(losses())


def test_backward_is_the_engine_in_one_call():
    model, losses = model_and_batch(models.HPS)
    used = backward(losses(), model, Fixed(W, HEADS))
    assert used.shared.tolist() == W
    check(model, losses(), W, HEADS)


@pytest.mark.parametrize("at", ["parameters", "features"])
def test_gradients_lie_in_memory_as_their_parameters_do(at):
    """Fused optimisers go through memory in its order, and would give one number's gradient to another."""
    problem = small(("kind", "size", "big"))
    model = models.HPS(problem)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.T.contiguous().T
    batch = next(problem.train.batches(8))
    Engine(model, "pcgrad", at).backward(mean_losses(problem.tasks, model(batch.inputs), batch))
    assert all(parameter.grad.stride() == parameter.stride() for parameter in model.parameters())
    before = [parameter.detach() - 0.1 * parameter.grad for parameter in model.parameters()]
    torch.optim.SGD(model.parameters(), lr=0.1, fused=True).step()
    for parameter, wanted in zip(model.parameters(), before, strict=True):
        assert torch.allclose(parameter, wanted, rtol=0, atol=1e-6)
