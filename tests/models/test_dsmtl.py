"""DSMTL: its two ends are STL and HPS to the bit, its stages change what they should and nothing else."""

import functools

import pytest
import torch
from torch import nn

from mtlcourse import data, methods, models
from mtlcourse.files import seed_everything
from mtlcourse.models.dsmtl import GATES, Gate
from mtlcourse.tasks import Problem, mean_losses
from mtlcourse.training import evaluate, fit, procedures, train_losses
from mtlcourse.training.updates import make_step
from tests.interrupted import cut_off
from tests.problems import OFFLINE, small

SIZES = {"multidigits": {"train": 300, "val": 40, "test": 40}, "rooms": {"train": 40, "val": 10, "test": 10},
         "digits_mtl": {"train": 100, "val": 40, "test": 40}, "twins": {"magnitudes": [2]}}


@functools.cache
def offline(name: str) -> Problem:
    return data.load(name, **SIZES.get(name, {}))


def built(kind, problem: Problem, seed: int = 3, **options) -> nn.Module:
    seed_everything(seed)
    return kind(problem, **options)


def set_gates(model: models.DSMTL, *alphas: float) -> None:
    for gate, alpha in zip(model.gates.values(), alphas, strict=True):
        gate.value.data.fill_(alpha)


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[key], second[key]) for key in first)


def gradients(model: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def statistical() -> list[nn.Module]:
    """Modules that have more than parameters: running statistics, and chance."""
    return [nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()),
            nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.4))]


# --- the model -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", OFFLINE)
def test_closed_gates_are_single_task_learning_to_the_bit(name: str):
    problem = offline(name)
    alone, inputs = built(models.STL, problem), next(problem.test.batches(8)).inputs
    for p in range(1, len(alone.route(problem.tasks[0].name))):
        model = built(models.DSMTL, problem, gate_after=p)
        for gate in model.gates.values():
            gate.close()
        for parameter in model.shared.parameters():
            parameter.data.fill_(float("inf"))  # whatever the public encoder says
        found, expected = model(inputs), alone(inputs)
        assert all(torch.equal(found[task], expected[task]) for task in problem.task_names)


@pytest.mark.parametrize("name", OFFLINE)
def test_open_gates_are_hard_parameter_sharing_to_the_bit(name: str):
    problem = offline(name)
    model, shared = built(models.DSMTL, problem), built(models.HPS, problem)
    set_gates(model, *[1.0] * len(problem.tasks))
    for parameter in model.private.parameters():
        parameter.data.fill_(float("nan"))
    inputs = next(problem.test.batches(8)).inputs
    found, expected = model(inputs), shared(inputs)
    assert all(torch.equal(found[task], expected[task]) for task in problem.task_names)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_printed_equation_at_every_position_of_the_gate(p: int):
    problem = small()
    model = built(models.DSMTL, problem, encoder={"name": "mlp", "widths": [6, 5, 4]}, gate_after=p).double()
    set_gates(model, 0.3, 0.8)
    x = problem.test.inputs.double()
    found = model(x)
    for task, alpha in {"kind": 0.3, "size": 0.8}.items():
        public, own = x, x
        for stage in model.shared.stages:
            public = stage(public)
        for stage in model.private[task].stages[:p]:
            own = stage(own)
        z = alpha * public + (1 - alpha) * own
        for stage in model.private[task].stages[p:]:
            z = stage(z)
        torch.testing.assert_close(found[task], model.heads[task](z), rtol=1e-12, atol=1e-12)


def test_it_has_one_encoder_and_m_gates_more_than_single_task_learning():
    problem = small()
    alone, shared, model = (sum(p.numel() for p in built(kind, problem).parameters())
                            for kind in (models.STL, models.HPS, models.DSMTL))
    heads = sum(p.numel() for p in built(models.HPS, problem).heads.parameters())
    assert model == alone + (shared - heads) + 2
    assert methods.count_parameters("dsmtl-jl(gate=fixed)", "multidigits") == (
        methods.count_parameters("dsmtl-il", "multidigits") - 2)


def test_own_inputs_for_each_task():
    problem = small(own=True)
    model, batch = built(models.DSMTL, problem), next(small(own=True).test.batches(100))
    together = model(batch.inputs)
    for task, x in batch.inputs.items():
        assert torch.equal(together[task], model(x, [task])[task])


@pytest.mark.parametrize(("options", "message"), [
    ({"gate": "open"}, "Unknown gate 'open'. Known: "),
    ({"gate_after": 0}, "one of the encoder's 2 modules, numbered 1 to 2"),
    ({"gate_after": 3}, "gate_after=3"),
    ({"gate_after": -1}, "gate_after=-1"),
])
def test_gates_that_cannot_be(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        models.DSMTL(small(), **options)


# --- the gate ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.7, 1.0])
def test_the_gradient_of_the_gate_is_that_of_the_formula(alpha: float):
    def both(formula):
        torch.manual_seed(0)
        gate = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        public, private = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
        out = formula(gate, public, private)
        first = torch.autograd.grad(out.square().sum(), [gate, public, private], create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), [gate, public, private])
        return [out, *first, *second]

    module = Gate().double()
    del module.value

    def ours(alpha, public, private):
        module.value = alpha
        return module(public, private)

    for found, expected in zip(both(ours), both(lambda a, s, t: a * s + (1 - a) * t), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_closed_gate_stops_the_public_encoder_but_not_itself():
    problem = small()
    model = built(models.DSMTL, problem)
    set_gates(model, 0.0, 0.0)
    batch = next(problem.train.batches(40))
    sum(mean_losses(problem.tasks, model(batch.inputs), batch).values()).backward()
    assert all(not parameter.grad.any() for parameter in model.shared.parameters())
    assert all(gate.value.grad != 0 for gate in model.gates.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_projected_gates_reach_both_ends_and_leave_them_again():
    gate, public, private = Gate(), torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, 0.5]])
    optimizer = torch.optim.SGD(gate.parameters(), lr=0.05)

    def towards(target: torch.Tensor, steps: int = 40) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            (gate(public, private) - target).square().sum().backward()
            optimizer.step()
            gate.project()
        return gate.alpha.item()

    # Beyond the ends, so that a gradient still pushes there; then to a mixture in between.
    beyond = private - (public - private)
    assert towards(beyond) == 0.0 and torch.equal(gate(public, private), private)
    assert towards(public + (public - private)) == 1.0 and torch.equal(gate(public, private), public)
    assert towards(0.25 * public + 0.75 * private) == pytest.approx(0.25, abs=1e-4)
    assert towards(beyond) == 0.0
    assert towards(0.75 * public + 0.25 * private) == pytest.approx(0.75, abs=1e-4)


def test_training_projects_after_each_step():
    problem = small()
    model = built(models.DSMTL, problem)
    step = make_step(problem.tasks, model, lr=20.0, optimizer="sgd")
    batch = next(problem.train.batches(40))
    step(batch)
    assert set(model.alphas().values()) <= {0.0, 1.0}  # such a step leads far outside


def test_a_sigmoid_never_gets_there_but_can_be_closed():
    gate = Gate("sigmoid")
    assert gate.alpha == 0.5
    for logit in (-80.0, 10.0):
        gate.value.data.fill_(logit)
        gate.project()
        assert gate.value == logit and 0 < gate.alpha < 1
    gate.close()
    public, private = torch.full((2, 3), float("nan")), torch.randn(2, 3)
    assert gate.alpha == 0 and torch.equal(gate(public, private), private)


def test_a_fixed_gate_does_not_learn():
    problem = small()
    model = built(models.DSMTL, problem, gate="fixed")
    fit(problem, model, epochs=2, lr=0.1, progress=False)
    assert model.alphas() == {"kind": 0.5, "size": 0.5} and not list(model.gates.parameters())


@pytest.mark.parametrize("gate", GATES)
def test_gates_know_no_weight_decay_and_everything_is_in_one_group(gate: str):
    model = built(models.DSMTL, small(), gate=gate)
    groups = model.param_groups(0.01, 0.3)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    without = [p for group in groups if group["weight_decay"] == 0 for p in group["params"]]
    assert [id(p) for p in without] == [id(p) for p in model.gates.parameters()]
    assert all(group["lr"] == 0.01 for group in groups)


def test_half_precision_mixes_what_it_gets():
    gate = Gate()
    public, private = torch.randn(2, 3, dtype=torch.bfloat16), torch.randn(2, 3, dtype=torch.bfloat16)
    out = gate(public, private)
    out.sum().backward()
    assert out.dtype == torch.bfloat16 and gate.value.grad.dtype == torch.float32


# --- learning ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("p", [1, 2])
def test_joint_learning_reaches_everything(gate: str, p: int):
    problem = small()
    model = built(models.DSMTL, problem, gate=gate, gate_after=p)
    fit(problem, model, epochs=1, progress=False)
    for name, gradient in gradients(model).items():
        assert gradient is not None and gradient.isfinite().all() and gradient.any(), name


@pytest.mark.parametrize("strategy", ["ew", "uw", "rlw", "pcgrad", "gradnorm", "graddrop"])
@pytest.mark.parametrize("gate", GATES)
def test_the_second_stage_reaches_the_public_encoder_and_the_gates_and_nothing_else(gate: str, strategy: str):
    problem = small()
    alone, model = built(models.STL, problem), built(models.DSMTL, problem, gate=gate)
    model.build_on(alone)
    fit(problem, model, strategy, epochs=1, progress=False)
    for name, gradient in gradients(model).items():
        if name.startswith(("shared", "gates")):
            assert gradient is not None and gradient.isfinite().all() and gradient.any(), name
        else:
            assert gradient is None, name


@pytest.mark.parametrize("p", [1, 2])
def test_the_second_stage_changes_no_frozen_tensor(p: int):
    problem = small()
    alone = built(models.STL, problem, encoder=statistical())
    fit(problem, alone, epochs=2, lr=0.05, progress=False)
    model = built(models.DSMTL, problem, encoder=statistical(), gate_after=p)
    model.build_on(alone)
    frozen = [state(model.private), state(model.heads)]
    public = state(model.shared)
    fit(problem, model, epochs=3, lr=0.05, weight_decay=0.1, optimizer="adamw", progress=False)
    assert same(frozen[0], state(model.private)) and same(frozen[1], state(model.heads))
    moved = state(model.shared)
    assert all(not torch.equal(public[key], moved[key]) for key in public)  # running statistics among them
    model.train()
    assert all(module.training for module in model.shared.modules())
    assert not any(module.training for part in (model.private, model.heads) for module in part.modules())


def test_the_first_stage_is_single_task_learning():
    problem = small(train=100)
    together = methods.run("dsmtl-il+pcgrad", problem, seed=5, budget="fast(epochs=6)", progress=False)
    alone = methods.run("stl", problem, seed=5, budget="fast(epochs=6)", progress=False)
    history = together.history[together.history["stage"] == "private"].reset_index(drop=True)
    columns = ["epoch", "split", "task", "name", "value"]
    assert history[columns].equals(alone.history[columns])
    assert same(state(together.model.private), state(alone.model.private))
    assert same(state(together.model.heads), state(alone.model.heads))


def test_stages_add_up():
    problem = small()
    run = methods.run("dsmtl-il(gate=sigmoid, guard=True)", problem, budget="fast(epochs=6)", progress=False)
    assert run.stages == ["private", "public", "guard"] == list(dict.fromkeys(run.history["stage"]))
    epochs = methods.BUDGETS["fast"]["epochs"]
    assert run.cost["steps"] == 2 * epochs  # one batch an epoch
    assert run.cost["parameters"] == sum(parameter.numel() for parameter in run.model.parameters())
    public = run.history[run.history["stage"] == "public"]
    assert len(public[(public["name"] == "alpha") & (public["task"] == "kind")]) == epochs
    last = run.history[run.history["stage"] == "guard"]
    for task, values in evaluate(run.model, problem, "val").items():
        rows = last[(last["split"] == "val") & (last["task"] == task)].set_index("name")["value"]
        assert rows.to_dict() == values
    assert run.learned["alpha"] == run.model.alphas()
    assert run.metrics == evaluate(run.model, problem, "test")


def test_joint_learning_says_what_its_gates_learned():
    run = methods.run("dsmtl-jl(gate_after=1)", small(), budget="fast(epochs=6)", progress=False)
    alphas = run.history[run.history["name"] == "alpha"].pivot(index="epoch", columns="task", values="value")
    assert list(alphas.index) == [1, 2, 3, 4, 5, 6] and run.model.gate_after == 1
    assert alphas.iloc[-1].to_dict() == run.learned["alpha"]


# --- the guard -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", OFFLINE)
def test_the_guard_keeps_its_promise_on_every_offline_problem(name: str):
    problem, settings = offline(name), {"seed": 1, "budget": "smoke", "progress": False}
    alone = methods.run("stl", problem, **settings).train_losses
    free = methods.run("dsmtl-il", problem, **settings).train_losses
    run = methods.run("dsmtl-il(guard=True)", problem, **settings)
    assert run.learned["guarded"] == [task for task in problem.task_names if free[task] > alone[task]]
    for task in problem.task_names:
        assert run.train_losses[task] <= alone[task]
        if task in run.learned["guarded"]:
            assert run.train_losses[task] == alone[task] and run.learned["alpha"][task] == 0
        else:
            assert run.train_losses[task] == free[task] and run.learned["alpha"][task] > 0


def test_the_guard_keeps_equality_and_closes_what_is_not_a_number():
    problem = small()
    model = built(models.DSMTL, problem)
    losses = train_losses(model, problem)
    assert procedures.close_harmful_gates(model, problem, losses) == []
    worse = {"kind": losses["kind"] * (1 - 1e-12), "size": losses["size"] + 1}
    assert procedures.close_harmful_gates(model, problem, worse) == ["kind"]
    assert model.alphas() == {"kind": 0.0, "size": 0.5}
    model.shared.stages[0][0].weight.data.fill_(float("nan"))
    assert procedures.close_harmful_gates(model, problem, losses) == ["size"]  # "kind" does not look any more


def test_whole_split_losses_are_means_over_samples_in_evaluation_mode():
    problem = small(train=70, void=0.3, dropout=0.5)
    model = built(models.DSMTL, problem).train()
    found = train_losses(model, problem)
    assert model.training
    model.eval()
    predictions = model(problem.train.inputs)
    for task in problem.tasks:
        losses = task.loss(predictions[task.name], problem.train.targets[task.name]).double()
        assert found[task.name] == pytest.approx(losses.sum().item() / problem.train.count(task.name), rel=1e-9)


# --- procedures ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("interrupted_in", ["private", "public"])
def test_a_staged_training_that_was_cut_off_ends_as_if_nothing_had_happened(interrupted_in, tmp_path, monkeypatch):
    problem, name = small(train=300), "dsmtl-il(guard=True)+rlw"
    whole = methods.run(name, problem, seed=2, budget="fast(epochs=6)", progress=False)
    kind = models.STL if interrupted_in == "private" else models.DSMTL
    calls = cut_off(kind, monkeypatch, at=8)  # three steps an epoch: in the third epoch of the stage
    with pytest.raises(KeyboardInterrupt):
        methods.run(name, problem, seed=2, budget="fast(epochs=6)", progress=False, checkpoint=tmp_path / "state")
    again = methods.run(name, problem, seed=2, budget="fast(epochs=6)", progress=False, checkpoint=tmp_path / "state")
    assert len(calls) == 8 + 6 * 3 - 6  # two epochs were kept
    assert same(state(whole.model), state(again.model)) and whole.learned == again.learned
    assert whole.history.equals(again.history) and whole.metrics == again.metrics
    assert whole.cost["steps"] == again.cost["steps"]


@pytest.mark.parametrize(("name", "message"), [
    ("dsmtl-jl(gaurd=True)", "does not take these options"),
    ("dsmtl-jl(guard=True)", "guard=True is no rule: use 'individual'"),  # closing its gates would be no guard
    ("dsmtl-il(gate=opne)", "Known: "),
    ("dsmtl-il(guard=perhaps)", "guard='perhaps' is no rule: use 'individual'"),
    ("dsmtl-il(guard=1)", "guard=1 is no rule"),
    ("dsmtl-il(guard=average, guard_split=test)", "'train' or 'val', not on 'test'"),
    ("dsmtl-il(guard_split=val)", "guard_split='val' says where a guard compares losses, and there is none"),
])
def test_options_in_names(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        methods.run(name, small(), budget="smoke", progress=False)


def test_options_of_the_procedure_do_not_reach_the_model():
    assert methods.count_parameters("dsmtl-il(guard=True, gate_after=1)", "multidigits") == (
        methods.count_parameters("dsmtl-jl(gate_after=1)", "multidigits"))
