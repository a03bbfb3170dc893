"""Two gradients in conflict: random ones, the steps of MAMG and PCGrad on them, and MAMG's clip without rounding.

Imports `strategies`, `statements`. What the statements on interference share. A pair `g_i`, `g_j` has the sum g, the
difference P, and a cosine; a loss that is L-smooth and takes a step `s / L` is looked at in units in which L = 1.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.random import Generator

from ..strategies import GradientClipping, ProjectConflicting
from ..strategies.surgery import Surgery
from .statements import Form

DIGITS = 50  # of the decimal arithmetic of counter-examples in which roots stand
STEPS = 8  # of a descent, enough for plain descent to arrive in `bowls`
SPREAD = 1.0  # lengths of random gradients cover so many powers of ten

Vector = np.ndarray
NAN = float("nan")


def pair(random: Generator) -> dict[str, Any]:
    """Two gradients in conflict in the plane, of different lengths."""
    g_i, g_j = random.normal(size=(2, 2)) * 10 ** (SPREAD * random.uniform(-0.5, 0.5, size=(2, 1)))
    return {"g_i": g_i, "g_j": -g_j if g_i @ g_j > 0 else g_j}


def even_pair(random: Generator) -> dict[str, Any]:
    """Two gradients in conflict in the plane, of one length up to rounding."""
    found = pair(random)
    return {**found, "g_j": found["g_j"] * np.linalg.norm(found["g_i"]) / np.linalg.norm(found["g_j"])}


def any_pair(random: Generator) -> dict[str, Any]:
    """Two gradients in the plane, in conflict or not."""
    return dict(zip(("g_i", "g_j"), random.normal(size=(2, 2)), strict=True))


def shorter_first(random: Generator) -> dict[str, Any]:
    """Nearly opposite gradients, the shorter of which is clipped: it pulls g^MG far beyond g."""
    turn = random.uniform(0.05, 0.5)
    g_i = random.uniform(0.1, 0.6) * np.array([-np.cos(turn), np.sin(turn)])
    return {"g_i": g_i, "g_j": np.array([random.uniform(0.9, 1.1), 0.0])}


def longer_first(random: Generator) -> dict[str, Any]:
    """Barely a conflict, the much longer gradient clipped: an angle below 60 degrees is not rare then."""
    turn = np.pi / 2 + random.uniform(0.0, 0.5)
    return {"g_i": np.array([random.uniform(0.8, 2), 0.0]), "g_j": np.array([np.cos(turn), np.sin(turn)])}


def conflict(g_i: Vector, g_j: Vector) -> bool:
    """Definition 1: a negative product."""
    return bool(g_i @ g_j < 0)


def lengths(g_i: Vector, g_j: Vector) -> float:
    """`|g_i|^2 + |g_j|^2`, the scale on which losses of a pair change."""
    return float(g_i @ g_i + g_j @ g_j)


def cosine(a: Vector, b: Vector) -> float:
    """Of the angle between a and b; NaN where one of them has no length."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 0 else NAN


def bound(strategy: Surgery) -> Surgery:
    strategy.bind(["i", "j"])
    return strategy


CLIPS = {(reading, delta): bound(GradientClipping(reading=reading, delta=delta))
         for reading in ("running", "one", "longer") for delta in ("vector", "scalar", "leftover")}
PROJECT = bound(ProjectConflicting())


def step(strategy: Surgery, g_i: Vector, g_j: Vector) -> Vector:
    """The direction in which the package's strategy goes with two gradients; zero if both are."""
    G = np.stack([g_i, g_j]).astype(float)
    return strategy.solve(G @ G.T, np.ones(2), np.arange(2)) @ G


def clipped(g_i: Vector, g_j: Vector, reading: str = "one", delta: str = "vector") -> Vector:
    """MAMG's direction for two tasks, as the package computes it.

    The readings are those of `GradientClipping`, and "shorter": one gradient is clipped, the shorter.
    """
    if reading == "shorter":
        reading, (g_i, g_j) = "one", sorted((g_i, g_j), key=np.linalg.norm)
    return step(CLIPS[reading, delta], g_i, g_j)


def projected(g_i: Vector, g_j: Vector) -> Vector:
    """PCGrad's direction for two tasks, as the package computes it."""
    return step(PROJECT, g_i, g_j)


def change(g: Vector, d: Vector, s: float, curvature: Vector | float = 1.0) -> float:
    """By how much `L(theta) = g . theta + sum_k curvature_k theta_k^2 / 2` changes from zero to -s d.

    With curvature in [-1, 1] its gradient is Lipschitz with constant 1; with curvature 1 everywhere the change is
    the largest that any loss with the gradient g and this constant can have.
    """
    return float(-s * (g @ d) + s**2 / 2 * (curvature * d**2).sum())


# --- forms of statements ----------------------------------------------------------------------------------

Draw = Callable[[Generator], dict[str, Any]]


def on_pairs(excess: Callable[..., float], draw: Draw = pair) -> Form:
    """A form about two gradients in conflict; `excess(g_i, g_j)` is asked only where they are."""
    return Form(draw, lambda g_i, g_j: excess(g_i, g_j) if conflict(g_i, g_j) else NAN)


def stepping(excess: Callable[..., float], least: float = 0.0, draw: Draw = pair) -> Form:
    """A form about one step from a pair: `excess(g_i, g_j, s, curvature)`, relative to the squared gradients.

    s in (least, 1]; curvatures in [-1, 1], in half of the instances all 1, the worst case.
    """
    def drawn(random: Generator) -> dict[str, Any]:
        curvature = np.ones(2) if random.random() < 0.5 else random.uniform(-1, 1, size=2)
        return {**draw(random), "s": random.uniform(least, 1), "curvature": curvature}

    def asked(g_i: Vector, g_j: Vector, s: float, curvature: Vector) -> float:
        met = conflict(g_i, g_j) and 0 < s <= 1 and np.abs(curvature).max() <= 1
        return excess(g_i, g_j, s, curvature) / lengths(g_i, g_j) if met else NAN
    return Form(drawn, asked)


def with_step(excess: Callable[..., float], draw: Draw = pair) -> Form:
    """A form about one step of size s / L in (0, 1 / L]: `excess(g_i, g_j, s)`."""
    return Form(lambda random: {**draw(random), "s": random.uniform(0.05, 1)},
                lambda g_i, g_j, s: excess(g_i, g_j, s) if conflict(g_i, g_j) and 0 < s <= 1 else NAN)


# --- losses whose bottom is known -------------------------------------------------------------------------

def bowls(random: Generator) -> dict[str, Any]:
    """A start, and two round bowls `a_t |theta - c_t|^2 / 2`."""
    theta, c_1, c_2 = random.normal(size=(3, 2))
    a_1, a_2 = random.uniform(1, 1.2, size=2).tolist()
    return {"theta": theta, "c_1": c_1, "c_2": c_2, "a_1": a_1, "a_2": a_2}


def descend(theta: Vector, c_1: Vector, c_2: Vector, a_1: float, a_2: float, reading: str, delta: str,
            s: float = 0.9, steps: int = STEPS) -> tuple[Vector, Vector]:
    """Where MAMG's steps of `s / L` end, and the nearest point to zero between the two gradients there."""
    g_1, g_2 = a_1 * (theta - c_1), a_2 * (theta - c_2)
    for _ in range(steps):
        d = clipped(g_1, g_2, reading, delta)
        if not d.any():
            break
        theta = theta - s / (a_1 + a_2) * d
        g_1, g_2 = a_1 * (theta - c_1), a_2 * (theta - c_2)
    P = g_1 - g_2
    return theta, g_1 - np.clip(g_1 @ P / max(P @ P, 1e-300), 0, 1) * P


def two_valleys(x: Any, tilt: Any) -> Any:
    """A loss with slopes x + 2, -x, x - 2 on three pieces, and a tilt: valleys near -2 and 2, the left one deeper."""
    side = abs(x)
    return ((side - 2) ** 2 / 2 if side >= 1 else 1 - side**2 / 2) + tilt * x


def slope_of_valleys(x: Any, tilt: Any) -> Any:
    """The derivative of `two_valleys`; its Lipschitz constant is 1."""
    return (-x if abs(x) < 1 else x - 2 if x > 0 else x + 2) + tilt


# --- without rounding -------------------------------------------------------------------------------------

def dot(a: Sequence, b: Sequence) -> Any:
    """The product of two lists of numbers, in their own arithmetic."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def clipped_exactly(g_i: Sequence, g_j: Sequence, delta: str = "vector") -> list[Decimal]:
    """`g_i' + g_j` of MAMG with 50 digits; the first gradient is the one that is clipped, conflict or not."""
    with localcontext() as context:
        context.prec = DIGITS
        a, b = ([Decimal(x) for x in g] for g in (g_i, g_j))
        P = [x - y for x, y in zip(a, b, strict=True)]
        length = dot(P, P).sqrt()
        along_i, along_j = dot(a, P) / length, dot(b, P) / length  # |g| cos phi
        size_i, size_j = dot(a, a).sqrt(), dot(b, b).sqrt()
        pulled = [along_i / size_i * x - along_j / size_j * y for x, y in zip(a, b, strict=True)]
        clip = {"vector": dot(pulled, pulled).sqrt(), "scalar": abs(along_i - along_j),
                "leftover": abs(along_i + along_j)}[delta]
        return [x + y - clip * p / length for x, y, p in zip(a, b, P, strict=True)]


def twice_change_exactly(g: Sequence, d: Sequence, s: Any) -> Any:
    """Twice `change` with curvature 1, in the arithmetic of its arguments: nothing is divided."""
    return s * s * dot(d, d) - 2 * s * dot(g, d)
