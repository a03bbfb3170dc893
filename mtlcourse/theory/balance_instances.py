"""Random instances for the statements on BMTL, and by how much each violates its claim.

Imports `strategies`, `theory.bounds`, `theory.statements`. The functions that draw come before those that judge what
they drew; `balance` says what is claimed.
"""

import itertools
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ..strategies import make
from .bounds import bmtl, bmtl_linear, bmtl_mean
from .statements import Instance

DELTA = 0.05  # of the bounds: so many of the simulated samples may violate them
HALF = 0.5  # rho of the loss (1 - y f) / 2 for labels y and outputs f from [-1, 1], which is used in all of this


def _exp(x: Any) -> Any:
    return x.exp() if isinstance(x, Decimal) else float(np.exp(x))


# --- the transform ----------------------------------------------------------------------------------------

def losses(random: np.random.Generator) -> Instance:
    return {"losses": random.exponential(2.0, size=random.integers(2, 5)), "T": float(random.uniform(0.5, 60))}


def _weights(name: str, losses: np.ndarray, **options: Any) -> np.ndarray:
    """The weights that the package's strategy gives to these losses."""
    strategy = make(name, **options).bind([str(t) for t in range(len(losses))])
    return strategy.weights(torch.as_tensor(losses)).heads.numpy()


def weights_out_of_order(losses: np.ndarray, T: float) -> float:
    """The weights of strategy "bmtl" are h'(L), and increase with the loss."""
    weights = _weights("bmtl", losses, T=T)
    wrong = np.abs(weights * T / np.exp(losses / T) - 1).max()
    return float(max(wrong, -np.diff(weights[np.argsort(losses)]).min()))


def transform(random: np.random.Generator) -> Instance:
    """A mixture that meets BMTL's conditions, of exp(z / T), z^2, z^3 and z + 1 / (1 + z)."""
    parts = random.uniform(0.1, 2, size=4) * (random.random(4) < 0.5)
    parts[random.integers(4)] += 0.1
    a, b = random.uniform(0, 5, size=2)
    return {"parts": parts, "T": float(random.uniform(1, 10)), "a": float(a), "b": float(b)}


def transformed(z: Any, parts: np.ndarray, T: float) -> Any:
    bent = z + 1 / (1 + np.maximum(z, 0))  # below zero, where it is never asked for, there is a pole
    return parts[0] * np.exp(z / T) + parts[1] * z ** 2 + parts[2] * z ** 3 + parts[3] * bent


def too_flat(parts: np.ndarray, T: float, **_: float) -> float:
    """h'' somewhere on [0, 10,000] is less than a millionth of h''(1): no constant of strong convexity."""
    if not T > 0:
        return math.nan
    z = np.concatenate([[1.0, 0.0], np.geomspace(1e-3, 1e4, 50)])
    second = (parts[0] * np.exp(np.minimum(z / T, 700)) / T ** 2 + 2 * parts[1] + 6 * parts[2] * z
              + 2 * parts[3] / (1 + z) ** 3)
    return float(1e-6 - second.min() / second[0]) if second[0] > 0 else math.nan


def above_chord(parts: np.ndarray, T: float, a: float, b: float) -> float:
    """Strict convexity between a and b, by at least 1e-6 of what a parabola has there."""
    if abs(a - b) < 0.01:
        return math.nan
    middle, ends = transformed((a + b) / 2, parts, T), (transformed(a, parts, T) + transformed(b, parts, T)) / 2
    return float((middle - ends) / (a - b) ** 2 + 1e-6)


def curvature_missing(mu: Fraction) -> Fraction:
    """h = z^3 has less than `mu` of curvature between 0 and mu / 6: mean - value in the middle < mu z^2 / 8."""
    z = mu / 6
    return mu * z ** 2 / 8 - (z ** 3 / 2 - (z / 2) ** 3)


def exponential(random: np.random.Generator) -> Instance:
    a, gap = random.uniform(0, 5), random.uniform(0.1, 5)
    return {"T": float(10 ** random.uniform(-1, 2)), "a": float(a), "b": float(a + gap)}


def exponential_too_flat(T: float, a: float, b: float) -> float:
    return 1 - (math.exp(b / T) - math.exp(a / T)) * T / (b - a)


def polynomial(random: np.random.Generator) -> Instance:
    a = random.uniform(0, 3)
    return {"coefficients": random.uniform(0.1, 2, size=4) * (random.random(4) < 0.4),
            "a": float(a), "b": float(a + random.uniform(0.1, 3))}


def bent_polynomial(random: np.random.Generator) -> Instance:
    instance = polynomial(random)
    instance["coefficients"][random.integers(2, 4)] += 0.1
    return instance


def polynomial_slope_stays(coefficients: Any, a: Any, b: Any) -> Any:
    """h' does not increase from a to b > a, or by less than a millionth of the way."""
    powers = list(enumerate(np.asarray(coefficients).tolist()))[1:]
    slopes = [sum(k * c * z ** (k - 1) for k, c in powers) for z in (a, b)]
    return Fraction(1, 10 ** 6) * (b - a) - (slopes[1] - slopes[0])


def convex_losses(random: np.random.Generator) -> Instance:
    """Squared errors of linear functions of two parameters, and two places with a share between them."""
    m, mixture = int(random.integers(1, 4)), transform(random)
    return {"slopes": random.normal(size=(m, 2)), "targets": random.normal(size=m), "lowered": 0.0,
            "one": random.normal(size=2), "two": random.normal(size=2), "share": float(random.uniform(0.1, 0.9)),
            "parts": mixture["parts"], "T": mixture["T"]}


def lowered_losses(random: np.random.Generator) -> Instance:
    """The same less a constant, which takes some below zero, and h(z) = z^2."""
    return convex_losses(random) | {"lowered": float(random.uniform(0.5, 2)), "parts": np.array([0.0, 1.0, 0.0, 0.0])}


def not_convex(slopes: np.ndarray, targets: np.ndarray, lowered: float, one: np.ndarray, two: np.ndarray, share: float,
               parts: np.ndarray, T: float) -> float:
    if not T > 0:
        return math.nan
    places = np.stack([one, two, share * one + (1 - share) * two])
    values = transformed((places @ slopes.T - targets) ** 2 - lowered, parts, T).sum(1)
    chord = share * values[0] + (1 - share) * values[1]
    return float((values[2] - chord) / (1 + abs(chord)))


def two_layers(random: np.random.Generator) -> Instance:
    """A network of two linear layers with one weight each, x -> u v x, and one sample with x = 1."""
    return {"one": random.normal(size=2), "two": random.normal(size=2), "y": 1.0, "T": float(random.uniform(1, 10))}


def two_layers_not_convex(one: np.ndarray, two: np.ndarray, y: float, T: float) -> float:
    if not T > 0:
        return math.nan
    values = [math.exp((uv.prod() - y) ** 2 / T) for uv in (one, two, (one + two) / 2)]
    return values[2] - (values[0] + values[1]) / 2


# --- other approaches -------------------------------------------------------------------------------------

def below_direct_sum(losses: np.ndarray, T: float) -> float:
    value = np.exp(losses / T).sum()
    return float((len(losses) + losses.sum() / T - value) / value)


def outside_soft_maximum(losses: np.ndarray, T: float) -> float:
    soft = np.logaddexp.reduce(losses / T)
    return float(max(soft - math.log(len(losses)) - (losses / T).max(), (losses / T).max() - soft))


def two_losses(random: np.random.Generator) -> Instance:
    return {"losses": random.uniform(0, 3, size=2), "steps": random.uniform(0.5, 2, size=2)}


def separable(losses: np.ndarray, steps: np.ndarray) -> float:
    """The mixed difference of the soft maximum, which is zero for sums over tasks, is above -0.001."""
    (a, b), (s, t) = losses, steps
    return float(np.logaddexp(a + s, b + t) - np.logaddexp(a + s, b) - np.logaddexp(a, b + t) + np.logaddexp(a, b)
                 + 1e-3)


def other_direction(losses: np.ndarray, T: float) -> float:
    """The package's soft maximum of L / T and its BMTL at temperature T weigh tasks in different proportions."""
    soft, exponential = _weights("smax", losses / T), _weights("bmtl", losses, T=T)
    return float(np.abs(soft / soft.sum() - exponential / exponential.sum()).max())


def path(random: np.random.Generator) -> Instance:
    """sum_t h(L_t) at the places 0, 1, ..., 6 of one parameter theta, with r = theta."""
    return {"values": random.uniform(1, 10, size=7), "beta": int(random.integers(1, 6))}


def convex_path(random: np.random.Generator) -> Instance:
    slopes = np.sort(random.normal(size=6))
    return {"values": 20 + np.concatenate([[0.0], slopes.cumsum()]), "beta": int(random.integers(1, 6))}


def no_multiplier(values: Any, beta: int) -> float:
    """The place that is best among r <= beta is best with no weight of r at all.

    A weight w makes it so if w >= (value there - value) / (r - r there) at all places further out, and <= further in.
    """
    best = min(range(beta + 1), key=lambda place: values[place])
    least = max((values[best] - values[place]) / (place - best) for place in range(best + 1, len(values)))
    most = min(((values[place] - values[best]) / (best - place) for place in range(best)), default=math.inf)
    return float(max(least, 0) - most)


# --- what the bounds are made of --------------------------------------------------------------------------

def below_half_exponential(x: float) -> float:
    return 1 - math.expm1(x) / x * math.exp(-x / 2)


def one_sample(random: np.random.Generator) -> Instance:
    n = int(random.integers(1, 20))
    return {"of_task": random.beta(2, 0.5, size=n), "new": float(random.random()), "m": int(random.integers(1, 5)),
            "T": float(10 ** random.uniform(-0.5, 2))}


def change_too_large(of_task: np.ndarray, new: float, m: int, T: float, factor: float = 2.0) -> float:
    n = len(of_task)
    before, after = of_task.mean(), of_task.mean() + (new - of_task[0]) / n
    change = abs(math.exp(after / T) - math.exp(before / T)) / m
    allowed = factor / m * math.exp(1 / T) * math.expm1(1 / (n * T))
    return (change - allowed) / allowed


def change_over_half(of_task: np.ndarray, new: float, m: int, T: float) -> float:
    return change_too_large(of_task, new, m, T, factor=math.exp(-1 / (len(of_task) * T)))


def finite_class(random: np.random.Generator) -> Instance:
    """Outputs of two to four functions for one or two tasks at two equally likely points, labelled 1 and -1.

    In half of all cases a function's outputs at the two points nearly cancel.
    """
    shape = (int(random.integers(2, 5)), int(random.integers(1, 3)))
    first = random.uniform(-1, 1, size=shape)
    second = -0.9 * first if random.random() < 0.5 else random.uniform(-1, 1, size=shape)
    return {"outputs": np.stack([first, second], axis=-1), "n": int(random.integers(2, 7))}


def expected_supremum(values: np.ndarray, n: int) -> float:
    """`E sup sum_t sigma_t mean_j v_t(x_tj) / m` of values (functions, m, 2 points), n samples a task, exactly."""
    m = values.shape[1]
    counts = np.array(list(itertools.product(range(n + 1), repeat=m)))  # how often the first point is drawn
    chance = np.prod(np.array([math.comb(n, k) for k in range(n + 1)])[counts], axis=1) / 2 ** (n * m)
    signs = np.array(list(itertools.product((-1, 1), repeat=m)))
    means = (values[:, None, :, 0] * counts + values[:, None, :, 1] * (n - counts)) / n
    return float((means @ signs.T / m).max(0).mean(1) @ chance)


def contraction_excess(outputs: np.ndarray, n: int) -> float:
    of_losses = expected_supremum((1 - outputs * [1, -1]) / 2, n)
    return of_losses - 2 * HALF * expected_supremum(outputs, n)


def single_sample_excess(outputs: np.ndarray, n: int) -> float:
    of_losses = expected_supremum((1 - outputs * [1, -1]) / 2, n)
    return of_losses - HALF * expected_supremum(outputs, 1)


def contraction_fails(n: int) -> Fraction:
    """The functions theta x with theta = 1 or -1, x = 1 or -1 equally likely, y = x: losses 0 or 1, whatever x is."""
    of_outputs = sum(Fraction(math.comb(n, k) * abs(2 * k - n), n * 2 ** n) for k in range(n + 1))
    return Fraction(1, 2) - 2 * Fraction(1, 2) * of_outputs


def small_class(random: np.random.Generator) -> Instance:
    shape = (int(random.integers(2, 4)), int(random.integers(1, 3)), 2)
    return {"outputs": random.normal(size=shape) + random.normal(size=shape[:2])[..., None],
            "n": int(random.integers(1, 4))}


def sample_supremum(outputs: np.ndarray, n: int) -> float:
    """`E sup sum_tj sigma_tj f_t(x_tj) / (m n)` with a sign a sample, exactly."""
    functions, m, _ = outputs.shape
    signed = np.concatenate([outputs, -outputs], axis=-1)  # one sample: two points, two signs
    total = np.zeros((functions, 1))
    for t in range(m):
        for _ in range(n):
            total = (total[:, :, None] + signed[:, t, None, :]).reshape(functions, -1)
    return float(total.max(0).mean() / (m * n))


def sign_excess(outputs: np.ndarray, n: int) -> float:
    """A sign for each sample gives at most three times what one for each task gives."""
    return sample_supremum(outputs, n) - 3 * expected_supremum(outputs, n)


def sizes(random: np.random.Generator) -> Instance:
    n = int(random.integers(1, 100))
    return {"n": n, "more": n * 10 ** int(random.integers(3, 7)), "T": float(10 ** random.uniform(-0.5, 2))}


def order_missed(n: int, more: int, T: Any) -> Any:
    """Over what remark 1 says it is of the order of, the confidence term falls more than tenfold from n to more.

    An exact order leaves some constant factor; this one knows no bounds as `more` grows.
    """
    if not T > 0:
        return math.nan
    one, two = ((_exp(1 / (k * T)) - 1) ** 2 * k / _exp(1 / (2 * k * T)) for k in (n, more))
    return one / two - 100  # squares, without the root


def outside_order(n: int, more: int, T: float) -> float:
    worst = -math.inf
    for k in (n, more):
        x = 1 / (k * T)
        c = math.exp(1 / T) / T * math.sqrt(2 * math.log(1 / DELTA) / k)
        term = bmtl(1.0, 0.0, rho=HALF, T=T, m=1, n=k, delta=DELTA).terms["confidence"]
        worst = max(worst, c * math.exp(x / 2) / term - 1, term / (c * math.exp(x)) - 1)
    return worst


# --- the bounds -------------------------------------------------------------------------------------------
# Task t: x = 1 or -1 equally likely, label y = x with a probability of its own, whatever x is; output theta_t x.
# With e = E[x y] and its mean over the sample, `seen`, the losses (1 - theta_t e_t) / 2 are known exactly.

def _seen(random: np.random.Generator, expected: np.ndarray, n: int) -> np.ndarray:
    return 2 * random.binomial(n, (1 + expected) / 2) / n - 1


def worst_gap(expected: np.ndarray, seen: np.ndarray, T: float, radius: float = 1.0) -> tuple[float, np.ndarray]:
    """The largest R_h - Rhat_h that ascent finds among |theta| <= radius, and the outputs, clipped to [-1, 1].

    Clipped outputs are losses that are cut off at 0 and 1, as the bounds assume; rho is 1/2 still.
    """
    found, direction = (-math.inf, seen), seen - expected
    for _ in range(5):
        theta = np.clip(radius * direction / max(np.linalg.norm(direction), 1e-12), -1, 1)
        true, empirical = np.exp((1 - theta * expected) / (2 * T)), np.exp((1 - theta * seen) / (2 * T))
        found = max(found, (float((true - empirical).mean()), theta), key=lambda one: one[0])
        direction = seen * empirical - expected * true
    return found


def tasks_of_signs(random: np.random.Generator) -> Instance:
    m, n = int(random.integers(1, 7)), int(random.integers(1, 31))
    expected = random.uniform(-1, 1, size=m)
    means = _seen(random, np.zeros((200, m)), n)  # of x, over 200 other samples
    return {"expected": expected, "seen": _seen(random, expected, n), "n": n, "T": float(10 ** random.uniform(-0.5, 2)),
            "complexity": float(np.linalg.norm(means, axis=1).mean() / m)}


def theorem_3_excess(expected: np.ndarray, seen: np.ndarray, n: int, T: float, complexity: float,
                     form: str = "printed") -> float:
    bound = bmtl(1.0, complexity, rho=HALF, T=T, m=len(seen), n=n, delta=DELTA, form=form)
    return worst_gap(expected, seen, T)[0] - (bound - 1)


def theorem_3_repaired_excess(expected: np.ndarray, seen: np.ndarray, n: int, T: float, complexity: float) -> float:
    return theorem_3_excess(expected, seen, n, T, complexity, "repaired")


def copies(random: np.random.Generator) -> Instance:
    """2,000 tasks that are one and the same, samples too; the class has one theta for all of them."""
    m, n, expected = 2000, int(random.integers(5, 31)), random.uniform(-1, 1, size=1)
    mean = float(np.abs(_seen(random, np.zeros(1000), n)).mean())
    return {"expected": expected, "seen": _seen(random, expected, n), "m": m, "n": n, "T": 50.0,
            "complexity": mean * math.sqrt(2 / (math.pi * m))}


def copies_excess(expected: np.ndarray, seen: np.ndarray, m: int, n: int, T: float, complexity: float) -> float:
    bound = bmtl(1.0, complexity, rho=HALF, T=T, m=m, n=n, delta=DELTA)
    return worst_gap(expected, seen, T)[0] - (bound - 1)


def theorem_4_excess(expected: np.ndarray, seen: np.ndarray, n: int, T: float, complexity: float,
                     form: str = "printed") -> float:
    _, theta = worst_gap(expected, seen, T)
    empirical = float(np.exp((1 - theta * seen) / (2 * T)).mean())
    bound = bmtl_mean(empirical, complexity, rho=HALF, T=T, m=len(seen), n=n, delta=DELTA, form=form)
    return float((1 - theta * expected).mean() / 2 - bound)


def theorem_4_repaired_excess(expected: np.ndarray, seen: np.ndarray, n: int, T: float, complexity: float) -> float:
    return theorem_4_excess(expected, seen, n, T, complexity, "repaired")


def early_bracket(R: Decimal, T: Decimal, A: Decimal, n: int, delta: Decimal) -> Decimal:
    """One task, rho = 1, every loss R whatever the output is, so that R_I = R: what theorem 4 as printed misses."""
    nu = (1 / T).exp() / T
    eta = 2 * (1 / T).exp() * ((1 / (n * T)).exp() - 1)
    return R - (T * (8 * nu * A).ln() + (R / T).exp() + eta * (n * -delta.ln() / 2).sqrt())


def memorised(random: np.random.Generator) -> Instance:
    """Labels by chance, and inputs so long that a small theta fits each of them, with losses cut off at 0 and 1."""
    m, n, radius = int(random.integers(30, 60)), int(random.integers(1, 3)), float(10 ** random.uniform(1, 3))
    return {"expected": np.zeros(m), "seen": _seen(random, np.zeros(m), n), "n": n,
            "T": float(random.uniform(10, 100)), "beta": math.sqrt(m) / radius, "radius": radius}


def ball_of_tasks(random: np.random.Generator) -> Instance:
    m, n, radius = int(random.integers(1, 11)), int(random.integers(1, 31)), float(10 ** random.uniform(-1, 2))
    expected = random.uniform(-1, 1, size=m)
    return {"expected": expected, "seen": _seen(random, expected, n), "n": n, "T": float(10 ** random.uniform(-0.5, 2)),
            "beta": float(random.uniform(0.05, 1.5) * math.sqrt(m) / radius), "radius": radius}


def theorem_5_excess(expected: np.ndarray, seen: np.ndarray, n: int, T: float, beta: float, radius: float,
                     form: str = "printed") -> float:
    bound = bmtl_linear(1.0, beta=beta, radius=radius, rho=HALF, T=T, m=len(seen), n=n, delta=DELTA, form=form)
    return worst_gap(expected, seen, T, beta * radius)[0] - (bound - 1)


def theorem_5_repaired_excess(expected: np.ndarray, seen: np.ndarray, n: int, T: float, beta: float,
                              radius: float) -> float:
    return theorem_5_excess(expected, seen, n, T, beta, radius, "repaired")


def theorem_5_sharp_excess(expected: np.ndarray, seen: np.ndarray, n: int, T: float, beta: float,
                           radius: float) -> float:
    return theorem_5_excess(expected, seen, n, T, beta, radius, "sharp")


def long_inputs(m: int, T: Decimal, delta: Decimal, beta: Decimal) -> Decimal:
    """One input a task, of length sqrt(m) / beta, its label by chance: what theorem 5 as printed misses, rho = 1/2.

    The loss (1 - y f) / 2 is cut off at 0 and 1, for other parameters give outputs beyond 1. Those that fit every label
    have length beta; then Rhat_h = 1, and every R_t = 1/2, whatever the labels are.
    """
    nu = (1 / T).exp() / T
    eta = 2 * (1 / T).exp() * ((1 / T).exp() - 1) / m
    bound = 1 + 4 * nu * beta / Decimal(m).sqrt() + eta * (m * -delta.ln() / 2).sqrt()
    return (1 / (2 * T)).exp() - bound
