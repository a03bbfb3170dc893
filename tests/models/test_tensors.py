"""Tensor models of heads: factorisations that lose nothing at full rank, and trace norms against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtlcourse import models
from mtlcourse.encoders import StagedEncoder
from mtlcourse.encoders import decoder as usual
from mtlcourse.files import seed_everything
from mtlcourse.models.tensors import NORMS, TENSORS, LastAxis, TensorTrain, Tucker, output_layers, stack, trace_norm
from mtlcourse.training import fit
from mtlcourse.training.updates import make_step
from tests.models.test_sharing import dense
from tests.problems import pixels, small

PROBLEMS = {"vector": lambda: small(("kind", "size", "big")), "pixels": dense, "one task": lambda: small(("kind",))}
SHAPES = st.tuples(*[st.integers(1, 5)] * 3)


def built(kind, problem, **options) -> models.MTLModel:
    seed_everything(3)
    return kind(problem, **options)


def inputs_of(problem) -> torch.Tensor:
    return next(problem.test.batches(5)).inputs


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matricisations(W: np.ndarray) -> list[np.ndarray]:
    """All modes' matricisations, index by index."""
    found = []
    for mode in range(W.ndim):
        rows = [np.take(W, i, axis=mode).ravel() for i in range(W.shape[mode])]
        found.append(np.array(rows))
    return found


# --- the stack -----------------------------------------------------------------------------------------------

def test_the_stack_holds_every_head_and_zeros():
    weights = [random(3, 4, seed=1), random(1, 4, seed=2), random(2, 2, 2, seed=3)]
    W = stack(weights)
    assert W.shape == (4, 3, 3)
    for t, weight in enumerate(weights):
        flat = weight.flatten(1)
        for c in range(3):
            assert torch.equal(W[:, c, t], flat[c] if c < len(flat) else torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("kind", PROBLEMS)
def test_output_layers_are_what_makes_the_outputs(kind):
    problem = PROBLEMS[kind]()
    model = built(models.HPS, problem)
    for task, (place, layer) in zip(problem.tasks, output_layers(model).values(), strict=True):
        assert model.heads[task.name].get_submodule(place) is layer and len(layer.weight) == task.out_channels


# --- factorisations ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", TENSORS)
@given(shape=SHAPES, seed=st.integers(0, 9))
@settings(max_examples=25)
def test_full_rank_reproduces_any_tensor(kind, shape, seed):
    W = random(*shape, seed=seed)
    torch.testing.assert_close(TENSORS[kind](W, 1.0)(), W, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_of_zeros(kind):
    W = torch.zeros(3, 2, 2)
    assert torch.equal(TENSORS[kind](W, 0.5)(), W)


def test_the_formulas():
    W = random(4, 3, 5)
    tucker, train, last = Tucker(W, 0.6), TensorTrain(W, 0.6), LastAxis(W, 0.6)
    for d, c, t in np.ndindex(4, 3, 5):
        U1, U2, U3 = tucker.factors
        torch.testing.assert_close(tucker()[d, c, t], sum(
            tucker.core[i, j, k] * U1[d, i] * U2[c, j] * U3[t, k] for i, j, k in np.ndindex(*tucker.core.shape)))
        torch.testing.assert_close(train()[d, c, t], train.first[d] @ train.second[:, c] @ train.third[:, t])
        torch.testing.assert_close(last()[d, c, t], sum(
            last.basis[d, c, k] * last.mixing[k, t] for k in range(len(last.mixing))))


def test_ranks_are_the_share_that_was_asked_for():
    W = random(6, 4, 8)
    tucker, train, last = Tucker(W, 0.5), TensorTrain(W, 0.5), LastAxis(W, 0.25)
    assert [np.linalg.matrix_rank(matrix) for matrix in matricisations(tucker().detach().numpy())] == [3, 2, 4]
    assert tucker.core.shape == (3, 2, 4)
    found = train().detach().numpy()
    assert [np.linalg.matrix_rank(found.reshape(6, -1)), np.linalg.matrix_rank(found.reshape(-1, 8))] == [3, 4]
    assert np.linalg.matrix_rank(last().detach().numpy().reshape(-1, 8)) == 2


@pytest.mark.parametrize("m", [1, 2, 8])
def test_the_rank_among_tasks_is_not_cut_below_two(m):
    W = random(6, 4, m)
    floor = min(m, 2)
    assert Tucker(W, 0.01).core.shape == (1, 1, floor)
    train = TensorTrain(W, 0.01)
    assert (train.first.shape, train.third.shape) == ((6, 1), (floor, m))
    assert LastAxis(W, 0.01).mixing.shape == (floor, m)


@pytest.mark.parametrize("kind", TENSORS)
def test_two_tasks_keep_what_tells_their_heads_apart(kind):
    W = random(6, 4, 2)
    found = TENSORS[kind](W, 0.5)().detach().numpy()
    singular = np.linalg.svd(found.reshape(-1, 2), compute_uv=False)
    assert singular[1] > 0.1 * singular[0]


@given(shape=SHAPES)
@settings(max_examples=25)
def test_no_rank_is_larger_than_the_full_one(shape):
    W = random(*shape)
    for kind in TENSORS:
        assert TENSORS[kind](W, 0.01)().shape == W.shape
    sizes = [min(size, W.numel() // size) for size in shape]
    assert all(rank <= size for rank, size in zip(Tucker(W, 0.01).core.shape, sizes, strict=True))
    assert len(TensorTrain(W, 0.01).third) <= min(shape[1], shape[2]) and len(LastAxis(W, 0.01).mixing) <= sizes[2]


def test_last_axis_flattening_starts_at_the_best_approximation():
    W = random(6, 4, 8)
    left = np.linalg.svd(W.reshape(-1, 8).numpy(), compute_uv=False)[2:]
    assert (LastAxis(W, 0.25)() - W).norm().item() == pytest.approx(np.linalg.norm(left))


# --- DMTRL ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("kind", PROBLEMS)
def test_full_rank_starts_as_hard_sharing(kind, tensor):
    problem = PROBLEMS[kind]()
    shared, model = built(models.HPS, problem), built(models.DMTRL, problem, tensor=tensor, share=1.0)
    x = inputs_of(problem)
    for task, prediction in shared(x).items():
        torch.testing.assert_close(model(x)[task], prediction, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("kind", PROBLEMS)
def test_full_rank_reproduces_any_stack_of_heads(kind, tensor):
    problem = PROBLEMS[kind]()
    shared, model = (built(models.HPS, problem).double(),
                     built(models.DMTRL, problem, tensor=tensor, share=1.0).double())
    for t, (name, (_, layer)) in enumerate(output_layers(shared).items()):  # whatever has become of the heads
        layer.weight.data, layer.bias.data = random(*layer.weight.shape, seed=t), random(*layer.bias.shape, seed=t)
        model.heads[name].head.load_state_dict(
            {key: value for key, value in shared.heads[name].state_dict().items() if key != model.heads[name].weight})
    wanted = TENSORS[tensor](stack([layer.weight.detach() for _, layer in output_layers(shared).values()]), 1.0)
    model.tensor.load_state_dict(wanted.state_dict())
    x = inputs_of(problem).double()
    for task, prediction in shared(x).items():
        torch.testing.assert_close(model(x)[task], prediction, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tensor", TENSORS)
def test_the_heads_of_two_tasks_are_not_multiples_of_one(tensor):
    weights = built(models.DMTRL, small(), tensor=tensor).tensor().detach().reshape(-1, 2).numpy()
    assert np.linalg.matrix_rank(weights) == 2


@pytest.mark.parametrize("tensor", TENSORS)
def test_tasks_share_the_factors_and_keep_their_biases(tensor):
    problem = small(("kind", "size", "big"))
    model = built(models.DMTRL, problem, tensor=tensor)
    shared = {id(p) for p in model.shared_parameters()}
    assert {id(p) for p in model.tensor.parameters()} <= shared
    for task in problem.tasks:
        assert [tuple(p.shape) for p in model.task_parameters(task.name)] == [(task.out_channels,)]
    assert not [name for name in model.state_dict() if name.startswith("heads") and name.endswith("weight")]


def test_what_one_task_learns_moves_the_heads_of_others():
    problem = small()
    model = built(models.DMTRL, problem, tensor="laf")
    batch = next(problem.train.batches(40))
    del batch.targets["size"]
    before = model.tensor()[..., 1].detach().clone()
    make_step(problem.tasks, model, lr=0.1, optimizer="sgd")(batch)
    assert not torch.equal(model.tensor()[:, :2, 1], before[:, :2])


# --- trace norms ---------------------------------------------------------------------------------------------

@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=40)
def test_trace_norms_against_numpy(shape, seed):
    W = random(*shape, seed=seed)
    array = W.numpy()

    def nuclear(matrix):
        return np.linalg.norm(matrix, "nuc")

    cuts = [array.reshape(int(np.prod(shape[:j])), -1) for j in range(1, len(shape))]
    expected = {"tucker": np.mean([nuclear(matrix) for matrix in matricisations(array)]),
                "tt": np.mean([nuclear(matrix) for matrix in cuts]), "laf": nuclear(matricisations(array)[-1])}
    for kind, value in expected.items():
        assert trace_norm(W, kind).item() == pytest.approx(value, rel=1e-10)


def test_the_norm_is_what_the_authors_code_adds_up_over_the_number_of_matricisations():
    W = torch.randn(4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrices = {"tucker": [W.movedim(mode, 0).flatten(1) for mode in range(3)],
                "tt": [W.reshape(4, 6), W.reshape(12, 2)], "laf": [W.reshape(12, 2)]}
    for kind, factor in (("tucker", 3), ("tt", 2), ("laf", 1)):
        added_up = sum(torch.linalg.svdvals(matrix).sum() for matrix in matrices[kind])
        torch.testing.assert_close(trace_norm(W, kind), added_up / factor)


@pytest.mark.parametrize("kind", NORMS)
def test_trace_norms_have_gradients_where_ranks_are_full_and_stay_finite_where_not(kind):
    W = random(4, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda W: trace_norm(W, kind), W)
    flat = torch.ones(4, 3, 2, requires_grad=True)
    trace_norm(flat, kind).backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("norm", NORMS)
def test_the_regulariser_is_the_trace_norm_of_the_heads(kind, norm):
    problem = PROBLEMS[kind]()
    model = built(models.TNRMTL, problem, norm=norm, strength=0.3)
    weights = [layer.weight.detach() for _, layer in output_layers(model).values()]
    expected = 0.3 * trace_norm(stack(weights), norm)
    batch = next(problem.train.batches(5))
    torch.testing.assert_close(model.auxiliary_loss(batch, model(batch.inputs)), expected)


def test_without_strength_it_is_hard_sharing_and_with_it_norms_shrink():
    problem = small()
    shared, none, much = (fit(problem, built(kind, problem, **options), epochs=10, lr=0.01, progress=False).model
                          for kind, options in ((models.HPS, {}), (models.TNRMTL, {"strength": 0.0}),
                                                (models.TNRMTL, {"strength": 1.0})))
    assert all(torch.equal(a, b) for a, b in zip(shared.parameters(), none.parameters(), strict=True))
    assert trace_norm(much.stacked()) < 0.8 * trace_norm(none.stacked())


# --- refusals ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "options", "message"), [
    (models.DMTRL, {"tensor": "tuker"}, "Unknown tensor factorisation 'tuker'. Known: tucker, "),
    (models.DMTRL, {"share": 0.0}, r"share=0.0 is the fraction of the full ranks; it must be in \(0, 1\]"),
    (models.DMTRL, {"share": 1.1}, "share=1.1"),
    (models.TNRMTL, {"norm": "ttt"}, "Unknown trace norm 'ttt'. Known: tt, "),
    (models.TNRMTL, {"strength": -1.0}, "strength=-1.0: .* must not be negative"),
])
def test_options_that_cannot_be(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(small(), **options)


@pytest.mark.parametrize("kind", [models.DMTRL, models.TNRMTL, models.MRN])
def test_dense_and_other_heads_are_not_stacked_even_where_they_would_fit(kind):
    problem = pixels()
    heads = models.HPS(problem).heads
    assert heads["mean"][-1].in_features == heads["depth"].layers[-1].in_channels
    message = r"stacks .* \['bright', 'depth'\] look at pixels and those of \['mean'\] at whole samples"
    with pytest.raises(ValueError, match=f"{kind.__name__} {message}"):
        kind(problem)


def narrow(task, shape, input_shape):
    """Heads that do not all look at the same number of features."""
    usual_head = usual(task, shape, input_shape)
    return usual_head if task.name == "kind" else nn.Sequential(nn.Linear(shape[0], 3), nn.Linear(3, task.out_channels))


@pytest.mark.parametrize("kind", [models.DMTRL, models.TNRMTL, models.MRN])
def test_heads_that_cannot_be_stacked(kind):
    encoder = StagedEncoder([nn.Linear(4, 5)], (4,), narrow)
    with pytest.raises(ValueError, match=f"{kind.__name__} stacks .* numbers of features: .*'kind': 5, 'size': 3"):
        kind(small(), encoder)
