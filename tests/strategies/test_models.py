"""Every strategy on every model of the project, in the training loop and out of it."""

import pytest
import torch

from mtlcourse import methods, models, strategies
from mtlcourse.strategies import Chain, Engine, make
from mtlcourse.training import fit
from tests.problems import small
from tests.strategies.nets import NAMES, model_and_batch, shared_of, task_gradients

# Those that need maps are tested in tests/models/test_sharing.py, SRDML, which takes tasks of one output, in
# tests/models/test_srdml.py; shallow models are solved, without a strategy, a Fallback is not trained, and models of
# domains have one task.
ELSEWHERE = ("AFA", "Aligned", "DomainModel", "Fallback", "MTAN", "MTLModel", "SRDML", "Seen")
ARCHITECTURES = [build for name in models.__all__ if name not in ELSEWHERE
                 and not issubclass(build := getattr(models, name), models.Shallow)]


@pytest.mark.parametrize("build", ARCHITECTURES, ids=lambda build: build.__name__)
@pytest.mark.parametrize("name", strategies.names())
def test_every_trainable_parameter_gets_a_finite_gradient_and_weights_are_those_reported(build, name):
    model, losses = model_and_batch(build, double=True)
    engine = Engine(model, make(name).bind(NAMES, torch.Generator().manual_seed(0)))
    values = losses()
    used = engine.backward(values)
    if isinstance(model, models.RotoGrad):  # no loss trains its rotations
        model.after_backward(values, used)
    modules = model.shared_modules()
    by_module = used.shared if used.shared.dim() == 2 else used.shared.expand(len(modules), -1)
    still = {id(p) for row, group in zip(by_module, modules, strict=True) if not row.any() for p in group}
    if isinstance(model, models.RotoGrad):  # nor does a task with weight zero
        still |= {id(p) for task, weight in zip(NAMES, used.heads, strict=True) if weight == 0
                  for p in model.rotations[task].parameters()}
    for parameter in model.parameters():
        if id(parameter) in still:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
    assert any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)
    scalars = losses()
    for weight, (task, loss) in zip(used.heads, scalars.items(), strict=True):
        own = model.task_parameters(task)
        for parameter, expected in zip(own, torch.autograd.grad(loss, own, retain_graph=True), strict=True):
            torch.testing.assert_close(parameter.grad, weight.item() * expected, rtol=1e-9, atol=1e-11)
    if engine.strategy.needs != "gradients":
        weights = [row for row, group in zip(by_module, modules, strict=True) for _ in group]
        for parameter, w, rows in zip(shared_of(model), weights, task_gradients(model, scalars), strict=True):
            if id(parameter) not in still:
                expected = torch.tensordot(w.to(rows), rows, 1)
                torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5 * rows.abs().max().item())


@pytest.mark.parametrize("name", strategies.names())
@pytest.mark.parametrize("own", [False, True])
def test_every_strategy_trains_with_labels_missing_and_tasks_of_their_own(name, own):
    problem = small(NAMES, train=40, void=0.4, own=own)
    run = fit(problem, models.HPS(problem), name, epochs=2, batch_size=8, progress=False)
    assert run.history["value"].notna().all()


@pytest.mark.parametrize("name", [name for name in strategies.names()
                                  if make(name).needs != "module_grams" and not make(name).by_entry])
def test_every_strategy_works_at_features(name):
    problem = small(NAMES)
    run = fit(problem, models.HPS(problem), name, at="features", epochs=1, batch_size=20, progress=False)
    assert run.history["value"].notna().all()


@pytest.mark.parametrize("name", strategies.names())
def test_a_training_that_was_cut_off_ends_as_if_nothing_had_happened(name, tmp_path):
    problem = small(NAMES)
    arguments = {"batch_size": 10, "progress": False, "seed": 3}

    def model():
        torch.manual_seed(0)
        return models.HPS(problem)

    whole = fit(problem, model(), make(name), epochs=4, **arguments)
    fit(problem, model(), make(name), epochs=2, checkpoint=tmp_path / "c", **arguments)
    resumed = fit(problem, model(), make(name), epochs=4, checkpoint=tmp_path / "c", **arguments)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_and_a_gradient_strategy_go_together_by_name():
    problem = small(NAMES)
    run = methods.run("hps + pcgrad + uw", problem, budget="smoke", progress=False)
    assert run.history["value"].notna().all()
    assert methods.canonical("hps + pcgrad + uw") != methods.canonical("hps + uw")
    with pytest.raises(ValueError, match="at most one"):
        methods.parse("hps+uw+dwa")
    with pytest.raises(ValueError, match="at most one"):
        methods.parse("hps+pcgrad+mgda")
    assert len(methods.parse("hps+gradnorm+pcgrad")) == 3


def test_a_strategys_own_parameters_learn_with_the_model():
    problem = small(NAMES)
    for name, parameters in (("uw", "log_variances"), ("gradnorm", "w")):
        strategy = make(name)
        fit(problem, models.HPS(problem), Chain(strategy, make("pcgrad")), epochs=2, progress=False)
        values = [parameter.item() for parameter in getattr(strategy, parameters)]
        assert len(set(values)) == 3


def test_uw_learns_the_kind_of_each_task_from_the_problem():
    problem = small(NAMES)
    strategy = make("uw")
    fit(problem, models.HPS(problem), strategy, epochs=1, progress=False)
    assert strategy.kinds == ["classification", "regression", "classification"]


def test_diagnostics_are_in_the_history_epoch_by_epoch():
    problem = small(NAMES)
    plain = fit(problem, models.HPS(problem), "ew", epochs=2, batch_size=10, progress=False)
    torch.manual_seed(0)
    history = fit(problem, models.HPS(problem), "ew", epochs=2, batch_size=10, progress=False, diagnostics=True).history
    seen = history[history["name"].isin(["cosine", "conflict_rate", "magnitude_similarity", "condition_number"])]
    assert len(seen) == 2 * 3 * 4 and set(seen["task"]) == {"shared", "module_1", "module_2"}
    assert seen["value"].notna().all() and set(seen["epoch"]) == {1, 2} and set(seen["split"]) == {"train"}
    assert not plain.history["task"].eq("shared").any()
    rates = seen[seen["name"] == "conflict_rate"]["value"]
    assert rates.between(0, 1).all()
