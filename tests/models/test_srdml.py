"""Saliency against a loop over samples, the regulariser against finite differences, and the limits that are other
models."""

import copy
import math

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mtlcourse import data, methods, models, strategies
from mtlcourse.encoders import StagedEncoder
from mtlcourse.files import seed_everything
from mtlcourse.models.saliency import DISTANCES, between, lengths, normalised
from mtlcourse.models.srdml import RELATIONS
from mtlcourse.strategies import Engine
from mtlcourse.tasks import Batch, Problem, TensorSplit, mean_losses
from mtlcourse.training import fit, make_step
from mtlcourse.void import VOID

TASKS = (data.classification("kind", 3), data.regression("size"), data.binary("big"), data.binary("odd"))
SMOOTH = {"name": "mlp", "widths": [6, 5], "head": [7], "activation": "softplus"}


def answers(x: Tensor) -> dict[str, Tensor]:
    return {"kind": x[:, :3].argmax(1), "size": x[:, :1] * x[:, 1:2], "big": (x.sum(1) > 0).long(),
            "odd": (x[:, 0] > x[:, 3]).long()}


def problem(names=("kind", "size", "big"), encoder=SMOOTH, train=40, own=False, shape=(4,), void=()) -> Problem:
    splits = []
    for seed, samples in enumerate((train, 24, 30)):
        generator = torch.Generator().manual_seed(seed)
        if own:
            inputs = {name: torch.randn(samples - 4 * t, *shape, generator=generator) for t, name in enumerate(names)}
            targets = {name: answers(x.flatten(1))[name] for name, x in inputs.items()}
        else:
            inputs = torch.randn(samples, *shape, generator=generator)
            targets = {name: y for name, y in answers(inputs.flatten(1)).items() if name in names}
        for name in void:
            targets[name] = targets[name].masked_fill(torch.arange(len(targets[name])).remainder(3) == 1, VOID)
        splits.append(TensorSplit(inputs, targets))
    return Problem("tiny", [task for task in TASKS if task.name in names], *splits, shape, encoder)


def batch_of(p: Problem, samples: int | None = None) -> Batch:
    return next(iter(p.train.batches(samples or len(p.train))))


def made(p: Problem, **options) -> models.SRDML:
    seed_everything(0)
    return models.SRDML(p, **options)


def regulariser(model: models.SRDML, batch: Batch) -> Tensor:
    return model.auxiliary_loss(batch, model(batch.inputs))


# --- saliency ------------------------------------------------------------------------------------------

def one_by_one(model: models.SRDML, batch: Batch) -> Tensor:
    """The same as `SRDML.saliency`, a sample and a task at a time, trunk in the mode it is in for the whole batch."""
    z = batch.inputs
    for stage in model.shared:
        z = stage(z)
    rows = []
    for n in range(len(z)):
        for name in model.task_names:
            a = z[n : n + 1].detach().requires_grad_()
            out = model.heads[name](model.behind(name, a))
            number = out[0, batch.targets[name][n]] if out.shape[1] > 1 else out[0, 0]
            rows.append(torch.autograd.grad(number, a)[0].flatten())
    return torch.stack(rows).unflatten(0, (len(z), len(model.task_names)))


IMAGES = {"name": "conv", "channels": [4, 6], "features": 5, "head": [7], "activation": "softplus"}


@pytest.mark.parametrize(("encoder", "shape", "options"), [
    (SMOOTH, (4,), {}), (SMOOTH, (4,), {"leave_after": 0}), (SMOOTH, (4,), {"leave_after": 1}),
    (SMOOTH | {"activation": "relu"}, (4,), {}), ({"name": "mlp", "widths": [6, 5]}, (4,), {}),
    (IMAGES, (1, 6, 6), {})])
def test_saliency_is_that_of_a_loop_over_samples(encoder, shape, options):
    p = problem(encoder=encoder, shape=shape)
    model, batch = made(p, **options), batch_of(p)
    torch.testing.assert_close(model.saliency(batch, model(batch.inputs)), one_by_one(model, batch), atol=1e-6, rtol=0)


def test_saliency_with_batch_norm_in_the_trunk():
    p = problem(encoder=None)
    trunk = StagedEncoder([nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())], (4,))
    model, batch = made(p, encoder=trunk), batch_of(p)
    found = model.saliency(batch, model(batch.inputs))
    torch.testing.assert_close(found, one_by_one(model, batch), atol=1e-6, rtol=0)


def test_with_inputs_of_their_own_every_head_is_asked_about_all_samples():
    p = problem(("big", "odd"), own=True)
    model, batch = made(p), batch_of(p)
    found = model.saliency(batch, model(batch.inputs))
    x = torch.cat([batch.inputs["big"], batch.inputs["odd"]])
    together = Batch(x, {"big": torch.zeros(len(x)).long(), "odd": torch.zeros(len(x)).long()})
    assert found.shape == (40 + 36, 2, 5)
    torch.testing.assert_close(found, one_by_one(model, together), atol=1e-6, rtol=0)
    assert (regulariser(model, batch) - 0.1 * between(found, "l2")[:, 0, 1].mean()).abs() < 1e-7


def test_the_default_place_is_behind_the_last_convolution():
    pooled = [nn.Conv2d(1, 3, 3), nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.AvgPool2d(2), nn.Flatten())]
    assert made(problem(shape=(1, 6, 6)), encoder=pooled).leave_after == 2
    assert made(problem(encoder=IMAGES, shape=(1, 6, 6))).leave_after == 2
    assert made(problem()).leave_after == 2
    assert made(problem(encoder={"name": "mlp", "widths": [3]}, shape=(1, 6, 6))).leave_after == 1


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_are_those_of_the_definitions(distance):
    p = problem()
    model, batch = made(p, distance=distance), batch_of(p)
    s = model.saliency(batch, model(batch.inputs)).detach().double()
    by_hand = {"l1": lambda a, b: (a - b).abs().sum(1), "l2": lambda a, b: (a - b).norm(dim=1),
               "cosine": lambda a, b: 1 - nn.functional.cosine_similarity(a, b), "inner": lambda a, b: (a * b).sum(1)}
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for i in range(3):
        for j in set(range(3)) - {i}:
            expected[i, j] = by_hand[distance](s[:, i], s[:, j]).mean()
    found = model.distances(batch, model(batch.inputs)).detach()
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)
    assert math.isclose(regulariser(model, batch).item(), 0.1 * expected.triu(1).sum().item() / 3, rel_tol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_heads_and_dead_ones_have_finite_gradients(distance):
    p = problem(("big", "odd", "size"))
    model, batch = made(p, distance=distance), batch_of(p)
    model.heads["odd"].load_state_dict(model.heads["big"].state_dict())
    with torch.no_grad():
        model.heads["size"][-1].weight.zero_()
    loss = regulariser(model, batch)
    loss.backward()
    assert loss.isfinite() and all(q.grad is None or q.grad.isfinite().all() for q in model.parameters())
    found = model.distances(batch, model(batch.inputs))
    big, odd, size = (model.task_names.index(name) for name in ("big", "odd", "size"))
    assert distance == "inner" or found[big, odd].abs() < 1e-6
    assert distance != "cosine" or math.isclose(found[big, size].item(), 1.0)
    assert lengths(torch.zeros(2, 3, 4), distance).eq(0).all() and normalised(torch.zeros(2, 3, 4)).eq(0).all()


def test_no_tensor_of_pairs_times_features_is_kept(monkeypatch):
    saved = []
    s = torch.randn(8, 12, 50, requires_grad=True)
    for distance in DISTANCES:
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
            between(s, distance).sum().backward()
    assert max(saved) <= 8 * 12 * max(50, 12)


# --- gradients -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{"distance": d} for d in DISTANCES] + [
    {"normalise": True}, {"relation": "uniform"}, {"relation": "floor"}, {"relation": "alone"}, {"leave_after": 1}],
    ids=str)
def test_the_gradient_is_that_of_finite_differences(options):
    p = problem(encoder={"name": "mlp", "widths": [6, 5], "head": [7], "activation": "tanh"}, train=12)
    model, batch = made(p, **options).double(), batch_of(p)
    batch = Batch(batch.inputs.double(), batch.targets, batch.counts)
    regulariser(model, batch).backward()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        along = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter += step * along
            ends.append(regulariser(model, batch).item())
            with torch.no_grad():
                parameter -= step * along
        slope = 0.0 if parameter.grad is None else (parameter.grad * along).sum().item()
        assert math.isclose((ends[0] - ends[1]) / 2e-5, slope, rel_tol=1e-5, abs_tol=1e-8), name


def test_behind_relu_no_gradient_reaches_the_trunk_and_behind_softplus_one_does():
    for activation, reaches in {"relu": False, "softplus": True, "tanh": True}.items():
        p = problem(encoder=SMOOTH | {"activation": activation})
        model = made(p)
        regulariser(model, batch_of(p)).backward()
        found = [q.grad for q in model.shared.parameters() if q.grad is not None]
        assert any(gradient.any() for gradient in found) == reaches, activation
        assert all(head[1].weight.grad.any() for head in model.heads.values())


def test_halves_of_a_batch_average_to_the_batch():
    p = problem()
    model = made(p)
    whole, halves = batch_of(p), list(p.train.batches(20))
    assert math.isclose(sum(regulariser(model, half).item() for half in halves) / 2, regulariser(model, whole).item(),
                        rel_tol=1e-6)


def test_a_sample_without_label_leaves_the_pairs_of_that_task():
    p = problem(("kind", "big", "odd"), void=("kind",))
    model, batch = made(p), batch_of(p)
    known = batch.targets["kind"] != VOID
    s = model.saliency(batch, model(batch.inputs)).detach()
    apart = between(s, "l2")
    found = model.distances(batch, model(batch.inputs))
    assert torch.allclose(found[0, 1], apart[known, 0, 1].mean()) and torch.allclose(found[1, 2], apart[:, 1, 2].mean())
    assert 0 < known.sum() < len(known) and not s[~known, 0].any()


def test_a_task_that_is_not_in_the_batch_takes_no_part():
    p = problem(("kind", "big", "odd"))
    model, batch = made(p), batch_of(p)
    part = Batch(batch.inputs, {name: batch.targets[name] for name in ("big", "odd")})
    found = model.distances(part, model(batch.inputs))
    assert found[0].isnan().all() and found[1, 2] > 0
    assert math.isclose(regulariser(model, part).item(), 0.1 / 3 * found[1, 2].item(), rel_tol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_bfloat16_is_near(distance):
    p = problem(train=128)
    model, batch = made(p, distance=distance), batch_of(p)
    exact = regulariser(model, batch).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = regulariser(model, batch)
    rough.backward()
    assert math.isclose(rough.item(), exact, rel_tol=0.1, abs_tol=1e-4)


# --- relations -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("relation", RELATIONS)
def test_shares_are_symmetric_and_sum_to_one_over_pairs(relation):
    p = problem(("kind", "size", "big", "odd"))
    run = methods.run(f"srdml(relation={relation})", p, budget="smoke", progress=False)
    shares = run.model.relation()
    assert torch.equal(shares, shares.T) and not shares.diagonal().any()
    assert math.isclose(shares.triu(1).sum().item(), 0.0 if relation == "alone" else 1.0, abs_tol=1e-6)
    apart = run.model.eval().distances(batch := next(p.val.batches(24)), run.model(batch.inputs)).detach().double()
    found = torch.tensor(pd.DataFrame(run.learned["distances"]).to_numpy())
    torch.testing.assert_close(found, apart, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(run.model.distances_over(p.val, 7), found, atol=1e-6, rtol=1e-5)
    learned = pd.DataFrame(run.learned["relation"])
    assert (torch.tensor(learned.to_numpy()).float() == shares).all() and list(learned) == run.model.task_names
    rows = run.history[run.history["name"] == "relation_odd"]
    assert set(rows["task"]) == {"kind", "size", "big"}
    assert (rows["value"].to_numpy() == learned.loc[rows["task"], "odd"].to_numpy()).all()


def test_equation_4_sends_all_mass_to_the_closest_pair_and_the_remedies_do_not():
    distances = torch.tensor([1.0, 2.0, 3.0])
    for relation, expected in {"learned": [1.0, 0.0, 0.0], "floor": [2 / 3, 1 / 6, 1 / 6]}.items():
        model = made(problem(), relation=relation)
        optimizer = torch.optim.Adam([model.log_omega], lr=0.1)
        for _ in range(500):
            optimizer.zero_grad()
            (model._shares()[model.pairs[0], model.pairs[1]] * distances).sum().backward()
            optimizer.step()
        found = model.relation()[model.pairs[0], model.pairs[1]]
        assert torch.allclose(found, torch.tensor(expected), atol=1e-3), relation


def test_entropy_is_the_minimiser_that_it_says():
    p = problem()
    model, batch = made(p, relation="entropy", temperature=0.5), batch_of(p)
    assert torch.allclose(model.relation().triu(1).sum(), torch.tensor(1.0))  # before anything was seen: all alike
    regulariser(model, batch)
    d = model.distances(batch, model(batch.inputs)).detach()[model.pairs[0], model.pairs[1]]
    tau = 0.5 * d.mean()
    assert torch.allclose(model.relation()[model.pairs[0], model.pairs[1]].double(), (-d / tau).softmax(0).double())
    best = (-d / tau).softmax(0)
    for other in torch.distributions.Dirichlet(torch.ones(3)).sample((200,)).to(d):
        assert (best * d).sum() + tau * (best * best.log()).sum() <= (other * d).sum() + tau * torch.xlogy(
            other, other).sum() + 1e-9
    before = model.relation().clone()
    model.eval()
    regulariser(model, batch_of(p, 7))
    assert torch.equal(model.relation(), before)  # evaluation leaves the running means alone


def test_alone_is_the_length_of_single_saliencies():
    p = problem()
    model, batch = made(p, relation="alone", distance="l1"), batch_of(p)
    s = model.saliency(batch, model(batch.inputs))
    assert math.isclose(regulariser(model, batch).item(), 0.1 * s.abs().sum(-1).mean().item(), rel_tol=1e-6)


def test_omega_has_a_rate_of_its_own():
    groups = made(problem(), speed=3.0).param_groups(0.01, 0.5)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups[1:]] == [(0.03, 0.0, 1)]
    assert len(made(problem(), relation="uniform").param_groups(0.01, 0.0)) == 1


@pytest.mark.parametrize("leave_after", [0, 1, 2])
def test_shared_and_own_parameters_are_those_that_the_task_losses_reach(leave_after):
    p = problem()
    model, batch = made(p, leave_after=leave_after), batch_of(p)
    reached = {}
    for name, loss in mean_losses(p.tasks, model(batch.inputs), batch).items():
        model.zero_grad()
        loss.backward(retain_graph=True)
        reached[name] = {id(q) for q in model.parameters() if q.grad is not None}
    shared = {id(q) for q in model.shared_parameters()}
    assert shared == set.intersection(*reached.values()) and bool(shared) == (leave_after > 0)
    for name in p.task_names:
        assert {id(q) for q in model.task_parameters(name)} == reached[name] - shared


# --- limits, training ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "other"), [("srdml(strength=0)", "hps"), ("srdml(strength=0, leave_after=0)", "stl")])
@pytest.mark.parametrize("own", [False, True])
def test_strength_zero_is_another_model_to_the_bit(name, other, own):
    p = problem(("big", "odd"), own=own)
    mine, theirs = (methods.run(each, p, budget="smoke", progress=False) for each in (name, other))
    assert mine.metrics == theirs.metrics
    for t in p.task_names:
        for a, b in zip(mine.model.route(t), theirs.model.route(t), strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("strategy", ["ew", "famo", "uw", "pcgrad", "gradnorm", "graddrop"])
@pytest.mark.parametrize("options", ["", "leave_after=0", "leave_after=1"])
def test_it_trains_with_strategies_of_all_kinds(strategy, options):
    run = methods.run(f"srdml({options})+{strategy}", problem(), budget="smoke", progress=False)
    (value,) = run.history.query("task == 'model' and name == 'auxiliary_loss'")["value"]
    assert value > 0


def test_the_regulariser_is_added_as_it_is_whatever_the_strategy_does():
    p = problem()
    model, batch = made(p), batch_of(p)
    gradients = {}
    for with_it in (True, False):
        engine = Engine(model, "pcgrad")
        engine.strategy.generator.manual_seed(0)
        predictions = model(batch.inputs)
        losses = mean_losses(p.tasks, predictions, batch)
        model.zero_grad()
        engine.backward(losses, model.auxiliary_loss(batch, predictions) if with_it else None)
        gradients[with_it] = {n: q.grad.clone() for n, q in model.named_parameters() if q.grad is not None}
    model.zero_grad()
    regulariser(model, batch).backward()
    for name, parameter in model.named_parameters():
        alone = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradients[True][name], gradients[False].get(name, 0) + alone, atol=1e-6, rtol=1e-5)


def test_a_frozen_trunk_still_has_saliency():
    p = problem()
    model, batch = made(p), batch_of(p)
    model.shared.requires_grad_(False)
    step = make_step(p.tasks, model, "ew")
    before = copy.deepcopy(model.heads.state_dict())
    step(batch)
    assert regulariser(model, batch) > 0
    assert not all(torch.equal(a, b) for a, b in zip(before.values(), model.heads.state_dict().values(), strict=True))


@pytest.mark.parametrize("relation", ["learned", "entropy"])
def test_it_resumes_bit_for_bit(tmp_path, relation):
    def train(epochs, where):
        seed_everything(0)
        return fit(problem(), models.SRDML(problem(), relation=relation), epochs=epochs, batch_size=8, progress=False,
                   checkpoint=where)

    whole = train(3, None)
    train(1, tmp_path / "cut")
    resumed = train(3, tmp_path / "cut")
    assert resumed.metrics == whole.metrics and resumed.history.equals(whole.history)
    assert torch.equal(resumed.model.relation(), whole.model.relation())


# --- bad input -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("change", "message"), [
    ({"strength": -1.0}, "must not be negative"), ({"strength": math.nan}, "must not be negative"),
    ({"distance": "l3"}, "Unknown distance"), ({"relation": "none"}, "Unknown relation"),
    ({"leave_after": 3}, "stages 1 to"), ({"leave_after": True}, "stages 1 to"),
    ({"temperature": 0.0}, "must be positive"),
    ({"floor": 1.5}, r"in \[0, 1\]"),
    ({"relation": "alone", "normalise": True}, "use one of the two")])
def test_options_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        made(problem(), **change)


def test_tasks_that_have_no_saliency_are_refused():
    with pytest.raises(ValueError, match="only \\['big'\\]"):
        made(problem(("big",)))
    several = Problem("several", [TASKS[2], data.regression("place", 2)], None, None, None, (4,), SMOOTH)
    with pytest.raises(ValueError, match="'place' has 2 real outputs"):
        made(several)
    dense = Problem("dense", [TASKS[2], data.depth("depth")], None, None, None, (1, 8, 8), IMAGES)
    with pytest.raises(ValueError, match="'depth' predicts every pixel"):
        made(dense)
    p = problem(("kind", "big"), own=True)
    model, batch = made(p), batch_of(p)
    with pytest.raises(ValueError, match=r"\['kind'\] several classes"):
        regulariser(model, batch)


def test_constant_targets_are_refused_before_training():
    p = problem(("big", "odd"))
    p.train.targets["odd"] = torch.where(p.train.targets["odd"] == 1, 1, VOID)
    with pytest.raises(ValueError, match=r"training targets of \['odd'\] are all the same"):
        methods.run("srdml", p, budget="smoke", progress=False)


def test_batch_norm_behind_the_features_is_refused():
    stages = [nn.Linear(4, 6), nn.Sequential(nn.BatchNorm1d(6), nn.ReLU())]
    made(problem(), encoder=stages)
    with pytest.raises(ValueError, match="batch norm"):
        made(problem(), encoder=stages, leave_after=1)


def test_heads_that_do_not_look_and_predictions_without_a_graph_are_refused():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.answer = nn.Parameter(torch.zeros(1))

        def forward(self, a):
            return self.answer.expand(len(a), 1)

    p = problem(("big", "odd"))
    model, batch = made(p), batch_of(p)
    with torch.no_grad(), pytest.raises(ValueError, match="outside torch.no_grad"):
        regulariser(model, batch)
    model.heads["odd"] = Blind()
    with pytest.raises(ValueError, match="'odd' does not depend on the features"):
        regulariser(model, batch)


def test_a_compiled_model_is_refused():
    with pytest.raises(ValueError, match="compile=False"):
        make_step(TASKS[2:], made(problem(("big", "odd"))), compile=True)


def test_a_look_again_asks_for_no_auxiliary_loss():
    """FAMO's second look is without gradients, where this regulariser cannot be had."""
    p = problem()
    step = make_step(p.tasks, made(p), strategies.make("famo"))
    assert set(step(batch_of(p))) == {"kind", "size", "big"}


def test_a_batch_without_any_label_has_no_regulariser():
    some = problem()
    model = models.SRDML(some)
    batch = Batch(some.train.inputs[:1], {}, dict.fromkeys(some.task_names, 0))
    assert model.auxiliary_loss(batch, model(batch.inputs)) is None
