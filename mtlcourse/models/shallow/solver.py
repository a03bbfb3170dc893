"""Losses plus a penalty, minimised to their optimum: accelerated proximal gradient with restarts.

Imports `strategies` for its error, `losses` and `penalties` of this folder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ...strategies.algebra import NotConverged
from .losses import Losses
from .penalties import Penalty

Point = Float64[np.ndarray, "rows tasks"]


@dataclass(frozen=True)
class Solution:
    """Where `losses(W, b) + strength * penalty(parts)` is least, W the sum of the parts.

    residual: how far the optimality conditions are from holding, see `solve`.
    """

    strength: float
    parts: Float64[np.ndarray, "parts features tasks"]
    bias: Float64[np.ndarray, "tasks"]
    objective: float
    residual: float
    iterations: int

    @property
    def weights(self) -> Float64[np.ndarray, "features tasks"]:
        return self.parts.sum(0)


class Composite:
    """The objective in the solver's coordinates: rows of all parts, one after another, then a row of biases.

    Biases are those of centred inputs, in a unit in which they curve as much as the weights may: with steps of one
    over the Lipschitz constant none is slower than another.
    """

    def __init__(self, losses: Losses, penalty: Penalty, strength: float):
        self.losses, self.penalty, self.strength = losses, penalty, strength
        self.form = (penalty.parts, *losses.shape)
        self.step = 1 / (penalty.parts * losses.lipschitz)  # each part moves the prediction
        self.unit = np.sqrt(1 / (self.step * losses.curvature))

    def start(self) -> Point:
        """No weights, the best constants."""
        return np.vstack([np.zeros((self.form[0] * self.form[1], self.form[2])), self.losses.level / self.unit])

    def parts(self, z: Point) -> Float64[np.ndarray, "parts features tasks"]:
        return z[:-1].reshape(self.form)

    def bias(self, z: Point) -> Float64[np.ndarray, "tasks"]:
        return z[-1] * self.unit - (self.losses.centre * self.parts(z).sum(0)).sum(0)

    def gradient(self, z: Point) -> Point:
        """That of the losses."""
        by_W, by_v = self.losses.slope(self.parts(z).sum(0), z[-1] * self.unit)
        return np.vstack([by_W] * self.form[0] + [by_v * self.unit])

    def advance(self, z: Point) -> Point:
        """One proximal gradient step."""
        moved = z - self.step * self.gradient(z)
        moved[:-1] = self.penalty.prox(self.parts(moved), self.step * self.strength).reshape(-1, self.form[2])
        return moved

    def residual(self, z: Point) -> float:
        """The length of the gradient mapping `(z - prox(z - step * gradient)) / step`: 0 at the optimum only."""
        return float(np.linalg.norm(z - self.advance(z))) / self.step


def solve(losses: Losses, penalty: Penalty, strength: float, start: Point | None = None, tolerance: float = 1e-8,
          max_iterations: int = 50_000) -> tuple[Solution, Point]:
    """The solution, and the point from which a solver for a near strength would start.

    FISTA: from y, a proximal gradient step `z = prox(y - gradient / L)`, then `y = z + momentum (z - z_before)`.
    Momentum starts anew where it leads uphill, `(y - z) . (z - z_before) > 0`; L is exact, no step is searched.
    It ends where the KKT residual (`Composite.residual`) is at most `tolerance` times the length of the gradient at
    zero weights: `Solution.residual`, which is the same in all units of inputs and targets, is their quotient.

    start: a point as this function returns it.
    Raises `NotConverged` after `max_iterations`, with advice.
    Source: Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm, 2009, section 4; O'Donoghue and
    Candes, Adaptive Restart for Accelerated Gradient Schemes, 2015, section 3.2, the gradient scheme.
    """
    composite = Composite(losses, penalty, strength)
    enough = tolerance * float(np.linalg.norm(losses.slope(np.zeros(losses.shape), losses.level)[0]))
    z = composite.start() if start is None else start
    y, t = z, 1.0
    for iteration in range(max_iterations + 1):
        new = composite.advance(y)
        gap = y - new
        if np.linalg.norm(gap) <= enough * composite.step and (residual := composite.residual(new)) <= enough:
            parts, bias = composite.parts(new), composite.bias(new)
            objective = losses.value(parts.sum(0), bias) + strength * penalty.value(parts)
            relative = residual * tolerance / enough if enough else 0.0
            return Solution(strength, parts, bias, objective, relative, iteration), new
        if np.vdot(gap, new - z) > 0:
            y, t = new, 1.0
        else:
            following = (1 + np.sqrt(1 + 4 * t * t)) / 2
            y, t = new + (t - 1) / following * (new - z), following
        z = new
    raise NotConverged(
        f"Strength {strength:g} was not solved to {tolerance:g} within {max_iterations} iterations: the residual is "
        f"{composite.residual(z) * tolerance / enough:.1e}. Bring the features to one scale (here they differ, or go "
        f"together, so much that some weights hardly move the losses), take a larger strength, or a tolerance of "
        f"{tolerance * 100:g}.")


def path(losses: Losses, penalty: Penalty, strengths: Sequence[float], tolerance: float = 1e-8,
         max_iterations: int = 50_000) -> Iterator[Solution]:
    """A solution for each of `strengths`, each from where the one before it ended: strongest first is quickest."""
    point = None
    for strength in strengths:
        solution, point = solve(losses, penalty, strength, point, tolerance, max_iterations)
        yield solution


def grid(losses: Losses, penalty: Penalty, count: int = 17, decades: float = 4.0) -> list[float]:
    """Strengths to choose from, evenly spaced in their logarithm, from `Penalty.largest` down."""
    G = losses.slope(np.zeros(losses.shape), losses.level)[0]
    first = penalty.largest(G, losses.lipschitz) * (1 + 1e-9)  # where rounding leaves no weight
    return [float(strength) for strength in first * np.logspace(0, -decades, count)]
