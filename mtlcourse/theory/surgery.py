"""What PCGrad's paper says of two tasks: the model of MAMG's theorems, and the ground that its theorem 3 stands on.

Imports `pairs`, `statements`. Document: Gradient Surgery for Multi-Task Learning, section 2.4. Losses have Lipschitz
constant 1 where a formula has L.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.random import Generator

from .pairs import NAN, change, conflict, cosine, pair, projected
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


state(Statement(
    "pcgrad-theorem-1", DOCUMENT, "theorem 1", LESSON,
    ("two tasks, losses convex and differentiable", "$\\nabla L$ is Lipschitz continuous with constant $L > 0$",
     "step size $t \\le 1/L$"),
    "PCGrad converges to a place where $\\cos(g_1, g_2) = -1$, or to the optimal value.", "holds",
    "A step in conflict lowers L by at least $\\frac t2 (1 - \\cos^2\\psi) |g|^2$, which is what the instances are "
    "checked against. These falls have a finite sum, so at every limit point of the steps one factor is zero. The "
    "first way out is real: there PCGrad stops before the optimum.",
    networks=("losses of networks are not convex",
              "mini-batches, and Adam's steps: other gradients and steps than those of the theorem"),
    forms={"printed": Form(stepped, beyond_fall)}))


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
    "Weight the curvature in H with $2 (1 - a)$, or assume that it is constant along the step.",
    ("a known Lipschitz constant, and steps beyond 2/L, at which training diverges",),
    {"printed": Form(kink, lambda **instance: behind_plain(**instance, weights=(0.5, 0.5))),
     "repaired": Form(kink, lambda **instance: behind_plain(**instance, weights=(0.75, 0.25)))}))
