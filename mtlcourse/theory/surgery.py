"""What PCGrad's paper says of two tasks: the model of MAMG's theorems, and the ground that its theorem 3 stands on.

Imports `pairs`, `statements`. Document: Gradient Surgery for Multi-Task Learning, section 2.4. Losses have Lipschitz
constant 1 where a formula has L.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.random import Generator

from .pairs import NAN, STEPS, change, conflict, cosine, pair, projected
from .statements import CounterExample, Form, Statement, state

DOCUMENT = "Gradient Surgery for Multi-Task Learning"
LESSON = "04"


def stepped(random: Generator) -> dict[str, Any]:
    return {**pair(random), "s": random.uniform(0, 1), "curvature": random.uniform(-1, 1, size=2)}


def beyond_fall(g_i: np.ndarray, g_j: np.ndarray, s: float, curvature: np.ndarray) -> float:
    """Against `s / 2 (1 - cos^2) |g|^2`, by which L falls at least."""
    if not (conflict(g_i, g_j) and 0 < s <= 1 and np.abs(curvature).max() <= 1):
        return NAN
    g, c = g_i + g_j, cosine(g_i, g_j)
    fall = change(g, projected(g_i, g_j), s, curvature) + s / 2 * (1 - c**2) * float(g @ g)
    return fall / float(g_i @ g_i + g_j @ g_j)


def slopes_of_channel(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of `L_1 = (x + 1)^2 / 2 + E` and `L_2 = (x - 1)^2 / 2 + E`, convex, at (x, y).

    `E = r - y` with the distance r from the origin, for `r < 1` `(r^2 + 1) / 2 - y`: a channel along x = 0, ever wider
    as y grows. The gradient of `L = L_1 + L_2` has the constant 4, and L is least, 1, at `x = 0, y >= 1`.
    """
    e = theta / max(1.0, float(np.linalg.norm(theta))) - np.array([0.0, 1.0])
    return theta * [1, 0] + [1, 0] + e, theta * [1, 0] - [1, 0] + e


def never_below(x: Any, y: Any) -> Any:
    """What the first coordinate of PCGrad's steps in the channel stays above, from (x, y) on, for `0 < t <= 1/4`.

    With `A, B = 1 + x + x/r, 1 - x - x/r` and `b = 1 - y/r <= x^2 / (2 y^2)` the gradients are (A, -b) and (-B, -b), in
    conflict where b^2 < A B. A step takes `8 t (x + x/r) b^2 / (|g_1|^2 |g_2|^2)` off x, and adds to y at least
    `2 t b` and at most `4 t b / (A B)`. So y grows without end, and x loses at most `2 m x^2 / (1 - m^2)^2` times the
    sum of `(change of y) / y^2`, with `m = x + x/y` at the start; that sum is at most `(1 + growth) / y`.
    Zero where this says nothing.
    """
    if not (x > 0 and y >= 1):
        return 0 * x
    m = x + x / y
    if not (m < 1 and x**4 < 4 * y**4 * (1 - m**2)):
        return 0 * x
    growth = x**2 / (2 * y**3 * (1 - m**2))  # of y in a step, relative to y, at most
    return max(0 * x, x - 2 * m * x**2 * (1 + growth) / ((1 - m**2) ** 2 * y))


def left_in_channel(x: float, y: float, t: float) -> float:
    """What L keeps above its optimum for ever, and no more than it is there after some steps; 0 if that is unknown."""
    kept = never_below(x, y)
    if not (0 < t <= 1 / 4 and kept > 0):
        return NAN
    theta = np.array([x, y])
    for _ in range(STEPS):
        theta = theta - t * projected(*slopes_of_channel(theta))
    return float(min(kept**2, theta[0] ** 2 + 2 * (np.linalg.norm(theta) - theta[1])))


state(Statement(
    "pcgrad-theorem-1", DOCUMENT, "theorem 1", LESSON,
    ("two tasks, losses convex and differentiable", "$\\nabla L$ is Lipschitz continuous with constant $L > 0$",
     "step size $t \\le 1/L$"),
    "PCGrad converges to a place where $\\cos(g_1, g_2) = -1$, or to the optimal value.", "missing assumption",
    "A step in conflict lowers L by at least $\\frac t2 (1 - \\cos^2\\psi) |g|^2$, which is what the instances of the "
    "repair are checked against. These falls have a finite sum, so at every limit point of the steps one factor is "
    "zero; but there need be none. In a channel along $x = 0$ that widens with y, the tasks pulling to $x = -1$ and "
    "$x = 1$, PCGrad's steps run off: y grows for ever, x stays above 0.28, L above its optimum, and the cosine is "
    "nowhere $-1$, though it tends to it. (With bounded steps the first way out is real: there PCGrad stops before the "
    "optimum.)",
    CounterExample({"x": Fraction(1, 2), "y": 4}, lambda x, y: never_below(x, y) ** 2),
    "Assume that the steps stay bounded: then L reaches its optimum, or $\\cos(g_1, g_2) = -1$ at every limit point.",
    ("losses of networks are not convex",
     "mini-batches, and Adam's steps: other gradients and steps than those of the theorem"),
    {"printed": Form(lambda random: {"x": random.uniform(0.2, 0.6), "y": random.uniform(4, 10),
                                     "t": random.uniform(0.05, 0.25)}, left_in_channel),
     "repaired": Form(stepped, beyond_fall)}))


def kink(random: Generator) -> dict[str, Any]:
    """Nearly opposite gradients, curvatures of L along g before and after the middle of the plain step, and how many
    times the step is as long as condition (c) asks."""
    size, bend = random.uniform(1.5, 5), random.uniform(-0.2, 0.2)
    return {"g_1": np.array([size, 0.0]), "g_2": np.array([-np.cos(bend), np.sin(bend)]),
            "early": random.uniform(0, 1), "late": random.uniform(0, 1), "times": random.uniform(1, 1.5)}


def along(x: Any, half: Any, slope: Any, early: Any, late: Any) -> Any:
    """The change of L at distance x along -g, of curvature `early` up to `half` and of curvature `late` from there."""
    return -slope * x + early * x**2 / 2 + (late - early) * max(x - half, 0) ** 2 / 2


def behind_plain(g_1: np.ndarray, g_2: np.ndarray, early: float, late: float, times: float,
                 weights: tuple[float, float]) -> float:
    """L after PCGrad's step minus L after the plain one, of a loss with that curve along g and curvature 1 across."""
    g, P, c = g_1 + g_2, g_1 - g_2, cosine(g_1, g_2)
    squares = float(g_1 @ g_1), float(g_2 @ g_2)
    slope = float(np.linalg.norm(g))
    if not (c <= -2 * (squares[0] * squares[1]) ** 0.5 / sum(squares) and slope > 0  # condition (a)
            and 0 <= early <= 1 and 0 <= late <= 1 and times >= 1):
        return NAN
    ell, xi = weights[0] * early + weights[1] * late, (1 - c**2) * float(P @ P) / slope**2
    if ell <= xi + 1e-6:  # condition (b)
        return NAN
    t = 2 * times / (ell - xi)  # condition (c)
    d = projected(g_1, g_2)
    x = t * float(g @ d) / slope
    across = (t**2 * float(d @ d) - x**2) / 2
    half = t * slope / 2
    return (along(x, half, slope, early, late) + across - along(2 * half, half, slope, early, late)) / (t * slope**2)


def behind_plain_exactly(g_1: int, g_2: int, early: int, late: int) -> Fraction:
    """The same on a line, where PCGrad takes away all of two opposite gradients and stays."""
    slope, t = g_1 + g_2, 2 / Fraction(early + late, 2)
    return 0 - along(t * slope, t * slope / 2, slope, early, late)


state(Statement(
    "pcgrad-theorem-2", DOCUMENT, "theorem 2", LESSON,
    ("two tasks, $\\nabla L$ Lipschitz continuous with constant $L > 0$",
     "mean curvature along the plain step $H = \\int_0^1 g^\\top \\nabla^2 L(\\theta - a t g)\\, g\\, da \\ge \\ell "
     "|g|^2$",
     "$\\cos\\psi \\le -2 |g_1| |g_2| / (|g_1|^2 + |g_2|^2)$",
     "$\\ell \\ge \\xi L$ with $\\xi = (1 - \\cos^2\\psi) |g_1 - g_2|^2 / |g|^2$", "$t \\ge 2 / (\\ell - \\xi L)$"),
    "$L(\\theta^{PG}) \\le L(\\theta^{MT})$: a step of PCGrad is no worse than one of the plain "
    "sum.", "missing assumption",
    "In Taylor's formula curvature counts with the weight $2 (1 - a)$, early curvature more than late; the plain mean "
    "in H does not see where it sits. The first half of the plain step may be straight, and then it gains more than "
    "PCGrad. And at such steps, at least $2/\\ell$ long, a plain step of constant curvature does not lower L: that is "
    "what is beaten.",
    CounterExample({"g_1": 2, "g_2": -1, "early": 0, "late": 1}, behind_plain_exactly),
    "Weight the curvature in H with $2 (1 - a)$, or assume that it is constant along the step. (Then the claim follows "
    "from $g \\cdot d \\ge 0$ and $|d|^2 = \\xi |g|^2$ for PCGrad's step d; the angle does not matter.)",
    ("a known Lipschitz constant, and steps beyond 2/L, at which training diverges",),
    {"printed": Form(kink, lambda **instance: behind_plain(**instance, weights=(0.5, 0.5))),
     "repaired": Form(kink, lambda **instance: behind_plain(**instance, weights=(0.75, 0.25)))}))
