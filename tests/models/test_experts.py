"""Mixtures of experts: the printed formulas, their ends (hard sharing, single-task learning), and what is refused."""

import pytest
import torch
from torch import nn

from mtlcourse import models
from mtlcourse.files import seed_everything
from mtlcourse.models import experts
from mtlcourse.models.experts import Gate
from tests.problems import pixels, small

PROBLEMS = {"vector": lambda: small(("kind", "size", "big")), "pixels": pixels}
ENCODER = {"name": "mlp", "widths": [6, 5, 4]}


def built(kind, problem, **options) -> models.MTLModel:
    seed_everything(3)
    return kind(problem, **options)


def inputs_of(problem) -> torch.Tensor:
    return next(problem.test.batches(5)).inputs


def same(first: dict, second: dict) -> bool:
    return list(first) == list(second) and all(torch.equal(first[task], second[task]) for task in first)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def choose(gate: Gate, expert: int) -> None:
    """Make the gate take this expert, whatever it sees."""
    linear = gate.layers[1]
    nn.init.zeros_(linear.weight)
    linear.bias.data = torch.where(torch.arange(gate.choices) == expert, 0.0, -1e4)


# --- gates ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(4,), (3, 8, 12), (2, 40, 9), (5, 7)])
def test_gates_sum_to_one_and_look_at_the_sample(shape):
    torch.manual_seed(0)
    gate, s = Gate(shape, 3), torch.randn(6, *shape)
    shares = gate(s)
    assert shares.shape == (6, 3) and (shares > 0).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert len({tuple(row) for row in shares.tolist()}) == 6
    torch.testing.assert_close(gate(s[[2]])[0], shares[2])


def test_a_gate_is_a_softmax_of_what_it_sees():
    torch.manual_seed(0)
    gate, s = Gate((2, 20, 17), 3), torch.randn(4, 2, 20, 17)
    # Squares of 3 x 3 pixels, the last ones of a row or column smaller.
    squares = [s[:, :, i : i + 3, j : j + 3] for i in range(0, 20, 3) for j in range(0, 17, 3)]
    seen = torch.stack([square.mean((2, 3)) for square in squares], 2)
    linear = gate.layers[1]
    expected = torch.softmax(seen.flatten(1) @ linear.weight.T + linear.bias, 1)
    torch.testing.assert_close(gate(s), expected)
    assert linear.in_features == 2 * 7 * 6


def test_a_choice_among_one_is_no_choice():
    gate = Gate((4,), 1)
    assert not list(gate.parameters()) and torch.equal(gate(torch.randn(3, 4)), torch.ones(3, 1))


# --- the formulas --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize(("shared", "own"), [(1, 1), (2, 3), (2, 0)])
def test_cgc_mixes_own_and_shared_experts(kind, shared, own):
    problem = PROBLEMS[kind]()
    model, x = built(models.CGC, problem, shared=shared, own=own), inputs_of(problem)
    for task, prediction in model(x).items():
        mine = [*model.own[task], *model.shared]
        assert len(mine) == shared + own
        for n in range(len(x)):
            shares = model.gates[task](x)[n]
            z = sum(share * expert(x)[n] for share, expert in zip(shares, mine, strict=True))
            torch.testing.assert_close(model.heads[task](z[None])[0], prediction[n], rtol=1e-4, atol=1e-5)


def test_mmoe_is_cgc_without_own_experts():
    problem = small()
    first, second = built(models.MMoE, problem, experts=3), built(models.CGC, problem, shared=3, own=0)
    assert same(first(inputs_of(problem)), second(inputs_of(problem)))
    assert len(built(models.MMoE, problem).shared) == 3 and len(built(models.MMoE, small(("kind",))).shared) == 2


@pytest.mark.parametrize(("shared", "own"), [(1, 1), (2, 2), (2, 0)])
def test_ple_is_the_recursion_that_is_printed(shared, own):
    problem = small(("kind", "size", "big"))
    model, x = built(models.PLE, problem, encoder=ENCODER, shared=shared, own=own), inputs_of(problem)

    def mixture(gate, s, outputs):
        return torch.stack([sum(share * output[n] for share, output in zip(gate(s)[n], outputs, strict=True))
                            for n in range(len(x))])

    z, common = dict.fromkeys(problem.task_names, x), x
    for p, level in enumerate(model.levels, start=1):
        mine = {task: [expert(z[task]) for expert in level.own[task]] for task in z}
        public = [expert(common) for expert in level.shared]
        after = {task: mixture(level.gates[task], z[task], mine[task] + public) for task in z}
        if p < len(model.levels):
            common = mixture(level.gate, common, [out for task in z for out in mine[task]] + public)
        z = after
    for task, prediction in model(x).items():
        torch.testing.assert_close(model.heads[task](z[task]), prediction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stages", [1, 3])
def test_the_shared_gate_is_on_all_levels_but_the_last(stages):
    model = built(models.PLE, small(), encoder={"name": "mlp", "widths": [6] * stages})
    assert [hasattr(level, "gate") for level in model.levels] == [True] * (stages - 1) + [False]
    assert [level.gate.choices for level in model.levels[:-1]] == [3] * (stages - 1)  # two tasks, and the shared one
    assert all(gate.choices == 2 for level in model.levels for gate in level.gates.values())


def test_ple_of_one_level_is_cgc():
    problem = small()
    ple, cgc = (built(kind, problem, encoder={"name": "mlp", "widths": [6]}) for kind in (models.PLE, models.CGC))
    for task in problem.task_names:
        cgc.gates[task].load_state_dict(ple.levels[0].gates[task].state_dict())
    assert same(ple(inputs_of(problem)), cgc(inputs_of(problem)))


# --- the ends ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize(("model", "options"), [(models.MMoE, {"experts": 1}), (models.CGC, {"own": 0}),
                                                (models.PLE, {"shared": 1, "own": 0})])
def test_a_single_shared_expert_is_hard_sharing_to_the_bit(kind, model, options):
    problem = PROBLEMS[kind]()
    alone, expert, x = built(models.HPS, problem), built(model, problem, **options), inputs_of(problem)
    assert same(alone(x), expert(x)) and size(alone) == size(expert)
    assert [len(group) for group in alone.shared_modules()] == [len(group) for group in expert.shared_modules()]


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("model", [models.CGC, models.PLE])
def test_gates_that_take_own_experts_only_are_single_task_learning_to_the_bit(kind, model):
    problem = PROBLEMS[kind]()
    private, mixture, x = built(models.STL, problem), built(model, problem), inputs_of(problem)
    for gates in [level.gates for level in mixture.levels] if model is models.PLE else [mixture.gates]:
        for gate in gates.values():
            choose(gate, 0)
    assert same(private(x), mixture(x))


def test_by_default_there_are_as_many_encoders_as_dsmtl_has():
    problem = small(("kind", "size", "big"))
    dsmtl = size(built(models.DSMTL, problem, gate="fixed"))
    for kind in (models.CGC, models.MMoE):
        model = built(kind, problem)
        assert size(model) - size(model.gates) == dsmtl
    ple = built(models.PLE, problem)
    gates = [gate for level in ple.levels for gate in (*level.gates.values(), *([level.gate] if level is ple.levels[0]
                                                                               else []))]
    assert size(ple) - sum(map(size, gates)) == dsmtl


# --- refusals ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "options", "message"), [
    (models.MMoE, {"experts": True}, "experts=True: the number of experts must be a whole number, at least 1"),
    (models.MMoE, {"experts": 0}, "experts=0: the number of experts must be a whole number, at least 1"),
    (models.CGC, {"shared": 0}, "shared=0: .* at least 1"),
    (models.CGC, {"own": -1}, "own=-1: .* at least 0"),
    (models.PLE, {"shared": 0}, "shared=0"),
])
def test_numbers_that_cannot_be(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(small(), **options)


@pytest.mark.parametrize(("kind", "options", "count"), [
    (models.MMoE, {"experts": 8}, 8), (models.CGC, {"shared": 2, "own": 3}, 8), (models.PLE, {"own": 4}, 9)])
@pytest.mark.parametrize("modules", [False, True])
def test_more_experts_than_the_memory_holds_are_refused_before_anything_is_allocated(monkeypatch, kind, options, count,
                                                                                     modules):
    problem = small()
    encoder = [nn.Linear(4, 6), nn.Linear(6, 5)] if modules else None
    each = 4 * (4 * 6 + 6 + 6 * 5 + 5)
    monkeypatch.setattr(experts, "available_memory", lambda: 4 * count * each)
    kind(problem, encoder, **options)
    monkeypatch.setattr(experts, "available_memory", lambda: 4 * count * each - 1)
    monkeypatch.setattr(models.MTLModel, "new_encoder", lambda *_: pytest.fail("an encoder was made"))
    with pytest.raises(ValueError, match=rf"{count} experts of {each} bytes each .* Use at most {count - 1} experts"):
        kind(problem, encoder, **options)


def test_the_meta_device_holds_any_number(monkeypatch):
    problem = small()
    monkeypatch.setattr(experts, "available_memory", lambda: 1)
    with torch.device("meta"):
        assert size(models.MMoE(problem, experts=50)) > 50 * 60


def test_the_memory_of_this_machine():
    assert 2**20 < experts.available_memory() < 2**50
