"""Random task gradients of chosen rank and scale, as matrices with a row a task, and steps of strategies with them."""

import torch
from hypothesis import strategies as st

from mtlcourse.strategies import Strategy, make
from mtlcourse.strategies.gram import cosines


def gradients(tasks: int, n: int = 30, rank: int | None = None, scale: float = 1.0, uneven: float = 0.0,
              seed: int = 0) -> torch.Tensor:
    """`(tasks, n)` in float64; `uneven`: decades over which the lengths of the rows are spread."""
    generator = torch.Generator().manual_seed(seed)
    rank = tasks if rank is None else min(rank, tasks)
    mix = torch.randn(tasks, rank, generator=generator, dtype=torch.float64)
    rows = mix @ torch.randn(rank, n, generator=generator, dtype=torch.float64) / n**0.5
    lengths = 10 ** (uneven * (torch.rand(tasks, 1, generator=generator, dtype=torch.float64) - 0.5))
    return scale * lengths * rows


def random_gradients(most: int = 7, least: int = 1, uneven: float = 0.0, full_rank: bool = False):
    """Gradients of any rank, with scales from 1e-6 to 1e6."""
    return st.builds(
        lambda tasks, rank, scale, spread, seed: gradients(tasks, 30, tasks if full_rank else rank, 10.0**scale, spread,
                                                           seed),
        st.integers(least, most), st.integers(1, most), st.floats(-6, 6), st.floats(0, uneven), st.integers(0, 2**31))


def stationary_gradients(tasks: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Gradients of which one convex combination, with positive weights, is zero."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, 30, generator=generator, dtype=torch.float64)
    weights = torch.rand(tasks - 1, 1, generator=generator, dtype=torch.float64) + 0.2
    rows[-1] = -(weights * rows[:-1]).sum(0)
    return scale * rows


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def bound(name: str, m: int, **options) -> Strategy:
    return make(name, **options).bind([f"t{t}" for t in range(m)], torch.Generator().manual_seed(0))


def step(strategy, rows, losses=None, present=None):
    """One step as the engine makes it, rows and losses of absent tasks left out: direction and weights of heads."""
    losses = torch.ones(len(rows), dtype=torch.float64) if losses is None else losses
    if present is not None:
        rows, losses = rows * present[:, None], torch.where(present, losses, float("nan"))
    found = strategy.weights(losses, rows @ rows.T if strategy.needs == "gram" else None, present)
    if strategy.needs == "gradients":
        return strategy.direction(rows, losses), found.heads
    return found.shared @ rows, found.heads


def close(found, expected, scale, rtol=1e-6):
    assert (found - expected).norm() <= rtol * scale, (found, expected)


def longest(rows) -> float:
    return rows.norm(dim=1).max().item()


def spread(rows, least=1e-4) -> bool:
    """Whether gradients are far from depending on one another, where rounding decides."""
    return bool(torch.linalg.eigvalsh(cosines(rows @ rows.T))[0] > least)
