"""Two-task landscapes in closed form: two losses of two numbers, whose Pareto-optimal points are known.

Imports nothing of this package. Not problems to be learned but maps to walk on: a method's whole
trajectory, and what both tasks could still gain where it ends, can be drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from scipy.optimize import brentq
from torch import Tensor

FLOOR = 5e-6  # below it the logarithms of the valleys are cut off
FRONT = 201  # points by which a front is given


@dataclass(frozen=True)
class Landscape:
    """Two losses over the plane.

    first, second: functions of two coordinate tensors of equal shape, to losses of that shape.
    starts: points to start from.  window: `(low, high)` of each coordinate, for drawing.
    front: Pareto-optimal points: at each, no point of the plane is better for one task and no worse for the other.
        Their losses are all that Pareto-optimal points have; points that share losses are represented by one.
    """

    name: str
    about: str
    first: Callable[[Tensor, Tensor], Tensor]
    second: Callable[[Tensor, Tensor], Tensor]
    starts: tuple[tuple[float, float], ...]
    window: tuple[tuple[float, float], tuple[float, float]]
    front: Float64[Tensor, "points 2"]

    def losses(self, theta: Float64[Tensor, "*points 2"]) -> Float64[Tensor, "*points 2"]:
        """`(L_1, L_2)` at each point."""
        x, y = theta.unbind(-1)
        return torch.stack([self.first(x, y), self.second(x, y)], dim=-1)

    def gradients(self, theta: Float64[Tensor, "*points 2"]) -> Float64[Tensor, "*points 2 2"]:
        """The matrix G at each point: row t is the gradient of L_t."""
        theta = theta.detach().requires_grad_()
        losses = self.losses(theta)
        rows = [torch.autograd.grad(losses[..., t].sum(), theta, retain_graph=True)[0] for t in (0, 1)]
        return torch.stack(rows, dim=-2)

    def room(self, theta: Float64[Tensor, "*points 2"]) -> Float64[Tensor, "*points"]:
        """How much both tasks could gain at once: `max_f min_t L_t(theta) - L_t(f)` over the points f of the front.

        Zero on the front, positive elsewhere, as far as the front's points are dense.
        """
        gains = self.losses(theta)[..., None, :] - self.losses(self.front)
        return gains.amin(-1).amax(-1).clamp(min=0)


def landscapes() -> dict[str, Landscape]:
    """The landscapes by name: `valleys`, `cliff`, `bowls`, `loud`.

    >>> list(landscapes())
    ['valleys', 'cliff', 'bowls', 'loud']
    """
    return {landscape.name: landscape for landscape in (_valleys(), _cliff(), _bowls(), _loud())}


def _log(z: Tensor) -> Tensor:
    return z.abs().clamp(min=FLOOR).log()


def _valleys() -> Landscape:
    """`L_1 = 20 log|x/2 + tanh y|`, `L_2 = 25 log|x/2 - tanh y + 2|`, both cut off at FLOOR.

    Both are at their least where both logarithms are cut off, which is on a thin strip without end, about x = -2
    and y > atanh(1 - FLOOR) = 6.4: the front is that strip, and the point of it at y = 8 stands for all.
    Source: Yu et al., Gradient Surgery for Multi-Task Learning, 2020, figure 1.
    """
    return Landscape(
        "valleys", "two curved valleys that meet far up",
        lambda x, y: 20 * _log(x / 2 + torch.tanh(y)),
        lambda x, y: 25 * _log(x / 2 - torch.tanh(y) + 2),
        starts=((0.5, -3.0), (-1.0, 0.5), (-6.0, -3.0)), window=((-8.0, 4.0), (-5.0, 9.0)),
        front=torch.tensor([[-2.0, 8.0]], dtype=torch.float64))


def _cliff() -> Landscape:
    """Valleys in the upper half plane, bowls in the lower one; both fade out towards y = 0.

    With `a = max(tanh(y/2), 0)` and `b = max(tanh(-y/2), 0)`:
    `L_1 = a (log|(-x - 7)/2 - tanh(-y)| + 6) + b (((x - 7)^2 + 0.1 (y + 8)^2)/10 - 20)`,
    `L_2 = a (log|(-x + 3)/2 + tanh(-y) + 2| + 6) + b (((x + 7)^2 + 0.1 (y + 8)^2)/10 - 20)`.
    Source: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, 2021, figure 1.
    """
    def half(valley: Callable, side: float) -> Callable[[Tensor, Tensor], Tensor]:
        def loss(x: Tensor, y: Tensor) -> Tensor:
            above, below = torch.tanh(y / 2).clamp(min=0), torch.tanh(-y / 2).clamp(min=0)
            return above * (_log(valley(x, y)) + 6) + below * (((x - side) ** 2 + 0.1 * (y + 8) ** 2) / 10 - 20)
        return loss

    return Landscape(
        "cliff", "a valley for each task above, two bowls below",
        half(lambda x, y: (-x - 7) / 2 - torch.tanh(-y), 7.0),
        half(lambda x, y: (-x + 3) / 2 + torch.tanh(-y) + 2, -7.0),
        starts=((-8.5, 7.5), (-8.5, 5.0), (9.0, 9.0)), window=((-11.0, 11.0), (-12.0, 10.0)),
        front=torch.tensor([[7 * u, _cliff_height(u)] for u in torch.linspace(-1, 1, FRONT).tolist()],
                           dtype=torch.float64))


def _cliff_height(u: float) -> float:
    """y of the Pareto-optimal point with x = 7u, where `(1 + u)/2` and `(1 - u)/2` weight the two losses.

    The weighted sum is `b(y) q(y)`, `q = 4.9 (1 - u^2) + (y + 8)^2 / 100 - 20`, and least where its derivative is zero.
    """
    def slope(y: float) -> float:
        b = torch.tanh(torch.tensor(-y / 2, dtype=torch.float64)).item()
        return -(1 - b**2) / 2 * (4.9 * (1 - u**2) + (y + 8) ** 2 / 100 - 20) + b * (y + 8) / 50

    return brentq(slope, -12.0, -6.0, xtol=1e-14)


def _quadratic(A: Tensor, centre: Tensor, scale: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        z = torch.stack([x, y], dim=-1) - centre
        return scale / 2 * torch.einsum("...i,ij,...j->...", z, A, z)
    return loss


def _two_bowls(name: str, about: str, A: list[Tensor], centres: list[Tensor], scale: float,
               starts: tuple[tuple[float, float], ...]) -> Landscape:
    """`L_t = s_t/2 (theta - c_t)^T A_t (theta - c_t)`, s = (1, scale).

    Convex, so each Pareto-optimal point minimises `l L_1 + (1 - l) L_2 / scale` for some l in [0, 1]:
    `theta = (l A_1 + (1 - l) A_2)^-1 (l A_1 c_1 + (1 - l) A_2 c_2)`.
    """
    front = [torch.linalg.solve(share * A[0] + (1 - share) * A[1],
                                share * A[0] @ centres[0] + (1 - share) * A[1] @ centres[1])
             for share in torch.linspace(0, 1, FRONT, dtype=torch.float64)]
    return Landscape(name, about, _quadratic(A[0], centres[0]), _quadratic(A[1], centres[1], scale), starts,
                     window=((-5.0, 5.0), (-5.0, 5.0)), front=torch.stack(front))


def _bowls() -> Landscape:
    """Curvatures 1 and 25 along the axes, for the second task the other way round; minima at (2, 2) and (-2, -2)."""
    narrow = torch.diag(torch.tensor([1.0, 25.0], dtype=torch.float64))
    centre = torch.tensor([2.0, 2.0], dtype=torch.float64)
    return _two_bowls("bowls", "two long bowls across each other", [narrow, narrow.flip(0, 1)], [centre, -centre], 1.0,
                      starts=((4.0, -4.0), (-4.0, 4.0), (4.5, 1.0)))


def _loud() -> Landscape:
    """Two round bowls with minima at (2, 0) and (-2, 0), the second a hundred times as loud."""
    round_, centre = torch.eye(2, dtype=torch.float64), torch.tensor([2.0, 0.0], dtype=torch.float64)
    return _two_bowls("loud", "two round bowls, one a hundred times as loud", [round_, round_], [centre, -centre],
                      100.0, starts=((4.0, 4.0), (0.0, -4.0), (-4.0, 3.0)))
