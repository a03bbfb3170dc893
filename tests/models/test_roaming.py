"""Maximum Roaming: masks of a fixed size that visit every unit, reproducibly, at hard sharing's size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlcourse import models
from mtlcourse.files import seed_everything
from mtlcourse.models.roaming import Masks
from mtlcourse.training import fit
from mtlcourse.training.updates import make_step
from tests.problems import pixels, small

NAMES = ("kind", "size", "big")
PROBLEMS = {"vector": lambda: small(NAMES), "pixels": pixels, "own": lambda: small(own=True)}
ENCODER = {"name": "mlp", "widths": [20, 10]}


def built(problem, seed: int = 3, **options) -> models.MaxRoam:
    seed_everything(seed)
    return models.MaxRoam(problem, **options)


def inputs_of(problem):
    return next(problem.test.batches(5)).inputs


def buffers(model: models.MaxRoam) -> list[list[list[bool]]]:
    return [buffer.tolist() for masks in model.masks for buffer in (masks.active, masks.visited)]


def swap(masks: Masks, task: int, seed: int) -> None:
    masks.swap(task, torch.Generator().manual_seed(seed))


# --- masks ---------------------------------------------------------------------------------------------------

@given(tasks=st.integers(1, 40), units=st.integers(1, 50), share=st.floats(0.01, 1.0), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_masks_have_one_size_and_leave_no_unit_out_if_they_can(tasks, units, share, seed):
    masks = Masks(tasks, units, share, seed)
    used = max(1, round(share * units))
    assert masks.active.sum(1).tolist() == [used] * tasks and torch.equal(masks.active, masks.visited)
    assert masks.active.any(0).all() == (tasks * used >= units)


@given(units=st.integers(1, 30), share=st.floats(0.05, 1.0), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_every_unit_is_visited_one_swap_at_a_time(units, share, seed):
    masks = Masks(2, units, share, seed)
    used = int(masks.active[0].sum())
    for number in range(units - used):
        before, seen = masks.active[0].clone(), masks.visited[0].clone()
        swap(masks, 0, seed + number)
        given_up, new = (before & ~masks.active[0]).nonzero(), (masks.active[0] & ~before).nonzero()
        assert len(given_up) == len(new) == 1 and not seen[new.item()] and masks.visited[0][new.item()]
    assert masks.visited[0].all() and int(masks.active[0].sum()) == used
    final = masks.active.clone()
    swap(masks, 0, seed)
    assert torch.equal(masks.active, final)
    assert int(masks.visited[1].sum()) == used  # the other task has not moved


def test_which_unit_comes_and_goes_is_chance():
    found = set()
    for seed in range(200):
        masks = Masks(1, 4, 0.5, seed=0)
        before = masks.active[0].clone()
        swap(masks, 0, seed)
        found.add(((before & ~masks.active[0]).nonzero().item(), (masks.active[0] & ~before).nonzero().item()))
    assert len(found) == 4


# --- the model -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", PROBLEMS)
def test_predictions_pass_masked_stages(kind):
    problem = PROBLEMS[kind]()
    model, inputs = built(problem, share=0.5), inputs_of(problem)
    for t, (task, prediction) in enumerate(model(inputs).items()):
        z = inputs if isinstance(inputs, torch.Tensor) else inputs[task]
        for stage, masks in zip(model.shared.stages, model.masks, strict=True):
            z = stage(z)
            hidden = [unit for unit in range(z.shape[1]) if not masks.active[t, unit]]
            assert hidden
            z = z.clone()
            z[:, hidden] = 0.0
        torch.testing.assert_close(model.heads[task](z), prediction)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_with_all_units_it_is_hard_sharing_to_the_bit(kind):
    problem = PROBLEMS[kind]()
    seed_everything(3)
    shared, model, inputs = models.HPS(problem), built(problem, share=1.0), inputs_of(problem)
    assert all(torch.equal(shared(inputs)[task], prediction) for task, prediction in model(inputs).items())


def test_it_is_as_large_as_hard_sharing():
    problem = small(NAMES)
    assert [p.shape for p in built(problem).parameters()] == [p.shape for p in models.HPS(problem).parameters()]


def test_units_that_a_task_does_not_use_learn_nothing_from_it():
    problem = small()
    model = built(problem, share=0.5)
    linear, masks = model.shared.stages[0][0], model.masks[0]
    for t, task in enumerate(problem.task_names):
        (gradient,) = torch.autograd.grad(model(inputs_of(problem))[task].sum(), linear.weight)
        assert not gradient[~masks.active[t]].any()


def test_training_visits_every_unit_of_every_stage():
    problem = small(NAMES)
    model = built(problem, encoder=ENCODER, share=0.5, interval=3)
    assert 0 < model.report()["kind"]["visited"] < 1
    run = fit(problem, model, epochs=30, batch_size=40, progress=False)  # 30 steps, 10 swaps
    assert all(masks.visited.all() for masks in model.masks)
    visited = run.history[run.history["name"] == "visited"].pivot(index="epoch", columns="task", values="value")
    for task in NAMES:
        # Swaps after steps 3, 6, ..., 30: five find something in the small stage, ten in the large one.
        assert visited[task].tolist() == pytest.approx(
            [(15 + min(5, epoch // 3) + epoch // 3) / 30 for epoch in range(1, 31)])


def test_swaps_come_at_their_interval_only():
    problem = small()
    model = built(problem, encoder=ENCODER, share=0.5, interval=4)
    first = buffers(model)
    for step in (1, 2, 3):
        model.after_step(step)
    assert buffers(model) == first
    model.after_step(4)
    assert buffers(model) != first


# --- reproducible --------------------------------------------------------------------------------------------

def test_the_seed_decides_and_nothing_else_does():
    problem = small()
    first, second, other = (built(problem, seed, encoder=ENCODER, share=0.5, interval=1) for seed in (3, 3, 4))
    torch.rand(5)
    state = torch.get_rng_state()
    for step in range(1, 4):
        for model in (first, second, other):
            model.after_step(step)
    assert torch.equal(state, torch.get_rng_state())
    assert buffers(first) == buffers(second) != buffers(other)
    assert first.masks[0].active[0].tolist() != first.masks[0].active[1].tolist()
    second.seed += 1  # from the same masks, other swaps
    for model in (first, second):
        model.after_step(4)
    assert buffers(first) != buffers(second)


def test_a_training_that_was_cut_off_makes_the_same_swaps(tmp_path):
    problem = small(NAMES)
    options = {"encoder": ENCODER, "share": 0.5, "interval": 3}
    settings = {"lr": 0.01, "batch_size": 20, "progress": False}
    whole = fit(problem, built(problem, **options), epochs=6, **settings).model
    fit(problem, built(problem, **options), epochs=2, checkpoint=tmp_path / "half", **settings)
    seed_everything(99)
    torch.rand(3)
    resumed = fit(problem, models.MaxRoam(problem, **options), epochs=6, checkpoint=tmp_path / "half", **settings).model
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(),
                                                 strict=True))


def test_masks_are_kept_and_not_learned():
    problem = small()
    model = built(problem)
    state = model.state_dict()
    assert {"seed", "masks.0.active", "masks.0.visited"} <= set(state)
    before = buffers(model)
    make_step(problem.tasks, model, lr=1.0)(next(problem.train.batches(40)))
    assert buffers(model) == before


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 1.2}, {"interval": 0}])
def test_options_that_cannot_be(options):
    with pytest.raises(ValueError, match=r"must be in \(0, 1\], and interval=.* at least 1 step"):
        models.MaxRoam(small(), **options)
