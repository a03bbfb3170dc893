"""What every strategy keeps, found from the registry: whoever adds one says its row in the table, or the test fails.

The design's four: how directions follow the scale of gradients, the order of tasks, one task, identical gradients.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from mtlcourse import strategies
from mtlcourse.strategies import Strategy, make
from tests.strategies.vectors import gradients

STEPS = 3
BY_LOT = ("rlw", "pcgrad", "mamg", "gradvac", "rgw")  # what they draw is drawn for places, not for tasks


@dataclass(frozen=True)
class Row:
    """scale: the degree in which directions follow the gradients, all steps multiplied by one number; None for none.

    identical: `(m, |g|)` to the first step's direction on m equal gradients g with losses of one, as a multiple of m g.
    """

    scale: float | None = 1.0
    identical: Callable[[int, float], float] = lambda m, length: 1.0


def always(value: float) -> Callable[[int, float], float]:
    return lambda m, length: value


ROWS = {
    **dict.fromkeys(["ew", "uw", "dwa", "gls", "rlw", "gradnorm", "max", "smax", "cl", "mgda", "pcgrad", "mamg",
                     "imtl-g", "aligned", "gradvac", "upgrad", "famo", "stch", "notice", "graddrop", "fixed", "imtl-l",
                     "cosmos", "pbi", "config", "dualproj", "sdmgrad", "rgw", "krum", "cr-mogm", "trimmed-mean",
                     "excess-mtl", "rotograd-scale"], Row()),
    "bmtl": Row(identical=always(math.exp(1 / 50) / 50)),  # the slope of exp(L / T)
    "cagrad": Row(identical=always(1.4)),  # 1 + c
    "nash": Row(0.0, lambda m, length: 1 / (math.sqrt(m) * length)),  # K w = 1 / w
    "fairgrad": Row(-1 / 3, lambda m, length: (m * length**2) ** (-2 / 3)),  # K w = w^(-1/2)
    "pcd": Row(identical=lambda m, length: 1 / m),  # a gradient, no sum of them
    "moco": Row(None, always(0.5)),  # the step of its weights is one of squared lengths
    "db-mtl": Row(identical=always(0.1)),  # the first step's share of a mean over steps
}


def test_every_strategy_has_its_row():
    assert sorted(ROWS) == sorted(strategies.names())


def bound(name: str, m: int) -> Strategy:
    return make(name).bind([f"t{t}" for t in range(m)], torch.Generator().manual_seed(0))


def directions(strategy: Strategy, steps: list[torch.Tensor], losses: torch.Tensor) -> list[torch.Tensor]:
    """Of several steps in a row, each with losses a bit lower than before."""
    found = []
    for number, rows in enumerate(steps):
        now, K = losses * 0.9**number, rows @ rows.T
        weights = strategy.weights(now, {"gram": K, "module_grams": K[None]}.get(strategy.needs)).shared
        if strategy.needs == "gradients":
            found.append(strategy.direction(rows, now))
        else:
            found.append((weights if weights.dim() == 1 else weights[0]) @ rows)
        if strategy.looks_again:
            strategy.after_step(0.95 * now)
    return found


def several(m: int, aligned: bool) -> list[torch.Tensor]:
    """Gradients of some steps; `aligned`: without conflicts, where `notice` makes a step."""
    steps = [gradients(m, seed=1) + number * gradients(m, seed=2) for number in range(STEPS)]
    return [0.1 * rows + gradients(1, seed=3) for rows in steps] if aligned else steps


def same(found: list[torch.Tensor], expected: list[torch.Tensor], rtol: float = 1e-6) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= rtol * other.norm(), (one, other)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("factor", [1e-4, 1e4])
@pytest.mark.parametrize("name", [name for name in ROWS if ROWS[name].scale is not None])
def test_directions_follow_the_scale_of_gradients_as_the_table_says(name, factor, aligned):
    losses, steps = torch.linspace(0.5, 2, 4, dtype=torch.float64), several(4, aligned)
    expected = [factor**ROWS[name].scale * d for d in directions(bound(name, 4), steps, losses)]
    same(directions(bound(name, 4), [factor * rows for rows in steps], losses), expected)


def test_what_follows_no_scale_does_not():
    losses, steps = torch.ones(4, dtype=torch.float64), several(4, False)
    for name in (name for name in ROWS if ROWS[name].scale is None):
        one, other = (directions(bound(name, 4), [f * rows for rows in steps], losses)[0] for f in (1, 100))
        assert torch.cosine_similarity(one, other, dim=0) < 0.9, name


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("name", [name for name in ROWS if name not in BY_LOT])
def test_tasks_may_come_in_any_order(name, aligned):
    losses, steps = torch.linspace(0.5, 2, 4, dtype=torch.float64), several(4, aligned)
    for order in ([2, 0, 3, 1], [3, 2, 1, 0]):
        one, other = bound(name, 4), bound(name, 4)
        if name == "pcd":
            other.first = order.index(0)  # the task that comes first goes by its place
        same(directions(other, [rows[order] for rows in steps], losses[order]), directions(one, steps, losses))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("name", ROWS)
def test_identical_gradients_and_one_task_give_the_tables_multiple_of_their_sum(name, m, scale):
    rows = scale * gradients(1, seed=3).repeat(m, 1)
    multiple = ROWS[name].identical(m, rows[0].norm().item())
    same(directions(bound(name, m), [rows], torch.ones(m, dtype=torch.float64)), [multiple * rows.sum(0)], 1e-4)


# --- RotoGrad's scaling -------------------------------------------------------------------------------------------

def scaled(steps: list[torch.Tensor], burn_in: int) -> list[torch.Tensor]:
    """By the vectors themselves: every gradient as a unit vector, times a mean length by what is left."""
    first, found = None, []
    for number, rows in enumerate(steps):
        lengths = [row.norm() for row in rows]
        if first is None or (burn_in and number == burn_in):
            first = lengths
        left = [now / then for now, then in zip(lengths, first, strict=True)]
        C = sum(share / sum(left) * length for share, length in zip(left, lengths, strict=True))
        found.append(sum(C * row / length for row, length in zip(rows, lengths, strict=True)))
    return found


@pytest.mark.parametrize("burn_in", [0, 1, 3, 20])
@pytest.mark.parametrize("m", [1, 2, 6])
def test_rotograds_scaling_equals_that_of_vectors(m, burn_in):
    steps = [gradients(m, uneven=2, seed=number) / (1 + number) for number in range(6)]
    strategy = make("rotograd-scale", burn_in=burn_in).bind([f"t{t}" for t in range(m)])
    same(directions(strategy, steps, torch.ones(m, dtype=torch.float64)), scaled(steps, burn_in), 1e-9)


def test_rotograds_scaling_gives_gradients_one_length_nearer_to_that_of_who_falls_least():
    strategy = bound("rotograd-scale", 2)
    (a, b), losses = gradients(2, seed=4), torch.ones(2, dtype=torch.float64)
    a, b = a / a.norm(), b / b.norm()
    strategy.weights(losses, torch.stack([a, b]) @ torch.stack([a, b]).T)
    now = torch.stack([a, 0.1 * b])  # a has not moved, b has fallen to a tenth
    w = strategy.weights(losses, now @ now.T).shared
    lengths = w * now.norm(dim=1)
    assert lengths[0].item() == pytest.approx(lengths[1].item()) == pytest.approx((1 + 0.1 * 0.1) / 1.1)


def test_a_first_gradient_of_zero_is_no_length_to_compare_with():
    strategy, losses = bound("rotograd-scale", 2), torch.ones(2, dtype=torch.float64)
    assert strategy.weights(losses, torch.diag(torch.tensor([4.0, 0.0])).double()).shared.tolist() == [0.5, 1.0]
    K = torch.diag(torch.tensor([1.0, 9.0])).double()
    found = strategy.weights(losses, K).shared  # the first has half of its length left, the second its first now
    C = (0.5 * 1 + 1.0 * 3) / 1.5
    torch.testing.assert_close(found, torch.tensor([C, C / 3], dtype=torch.float64))


@pytest.mark.parametrize("value", [-1, True])
def test_a_burn_in_that_is_none_is_told(value):
    with pytest.raises(ValueError, match="burn_in is .*a number of steps, zero or more"):
        make("rotograd-scale", burn_in=value)


def test_both_halves_of_rotograd_train_together():
    from mtlcourse import methods
    from tests.problems import small

    run = methods.run("rotograd+rotograd-scale(burn_in=1)", small(), budget="smoke", progress=False)
    assert run.history["value"].notna().all()
