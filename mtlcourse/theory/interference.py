"""Gradient interference: what the paper on MAMG says, and what became of it.

Imports `pairs`, `statements`. Document: A Model-Agnostic Approach to Mitigate Gradient Interference for Multi-Task
Learning, section III. Its theory is about two tasks and changes one gradient, `g^MG = g_i' + g_j` (lemma 1, equation
12), while its algorithm 1 changes both; "printed" forms do as the theory does, with equation 3's norm of a vector
difference. Losses have Lipschitz constant 1 where a formula has L, so a step size t is s = t L.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from .pairs import (
    NAN,
    STEPS,
    any_pair,
    bowls,
    change,
    clipped,
    clipped_exactly,
    conflict,
    cosine,
    descend,
    dot,
    even_pair,
    lengths,
    longer_first,
    on_pairs,
    pair,
    projected,
    shorter_first,
    slope_of_valleys,
    stepping,
    twice_change_exactly,
    two_valleys,
    with_step,
)
from .statements import CounterExample, Form, Statement, Verdict, state

DOCUMENT = "A Model-Agnostic Approach to Mitigate Gradient Interference for Multi-Task Learning"
LESSON = "04"

CONFLICT = "two tasks in conflict: $g_i \\cdot g_j < 0$"
SMOOTH = "$\\nabla L$ is Lipschitz continuous with constant $L > 0$, $L$ the sum of the losses"
ONE = "$g^{MG} = g_i' + g_j$, one gradient changed, by equations 3 and 4"
ROUGH = "with ReLU gradients jump: no Lipschitz constant holds everywhere"
CURVED = "losses of networks are not convex"
BATCHES = "mini-batches, and Adam's steps: other gradients and steps than those of the theorem"


def mamg(id: str, place: str, assumptions: tuple[str, ...], claim: str, verdict: Verdict, because: str,
         **rest: Any) -> None:
    state(Statement(f"mamg-{id}", DOCUMENT, place, LESSON, assumptions, claim, verdict, because, **rest))


# --- definitions ------------------------------------------------------------------------------------------

def sign_says(g_i: np.ndarray, g_j: np.ndarray, alpha: Callable[[float], float]) -> float:
    """By how far alpha misses -1 for gradients in conflict, 0 for others."""
    return float(abs(alpha(float(g_i @ g_j)) - (-1 if conflict(g_i, g_j) else 0)))


mamg("definition-1", "definition 1, equation 1", ("both losses have a gradient at $\\theta$",),
     "$\\alpha_{i,j} = \\mathrm{sign}(g_i \\cdot g_j)$ is $-1$ where tasks i and j conflict, and 0 otherwise.",
     "misprint", "The sign of a positive product is 1, not 0. Nothing hangs on it: only $-1$ is ever asked for.",
     counter_example=CounterExample({"g_i": [1], "g_j": [1]}, lambda g_i, g_j: (dot(g_i, g_j) > 0) - 0),
     repair="$\\alpha_{i,j} = \\min(0, \\mathrm{sign}(g_i \\cdot g_j))$",
     forms={"printed": Form(any_pair, lambda g_i, g_j: sign_says(g_i, g_j, np.sign)),
            "repaired": Form(any_pair, lambda g_i, g_j: sign_says(g_i, g_j, lambda x: min(0.0, np.sign(x))))})

mamg("definition-1-optimum", "section III-A, after definition 1", (CONFLICT,),
     "Interference leads to a local optimum of low quality.", "cannot be checked",
     "\"Low quality\" is not defined. Where losses are convex, as theorem 1 assumes, plain descent on the sum finds "
     "the optimum through any conflict, and there is no other local one.",
     networks=(CURVED,))


def upright(g_i: np.ndarray, g_j: np.ndarray) -> float:
    """By how much P is nearer to g than to its right angle."""
    return abs(cosine(g_i - g_j, g_i + g_j)) - 0.5**0.5


mamg("definition-2", "definition 2", (CONFLICT,),
     "$P = g_i - g_j$ is close to the direction at a right angle to $g = g_i + g_j$, along which both cancel.",
     "missing assumption",
     "$g \\cdot P = |g_i|^2 - |g_j|^2$: a right angle for equal lengths only, and for opposite gradients P is "
     "parallel to g. Equal lengths are situation (2) of the text before it, but no part of the definition.",
     counter_example=CounterExample(  # g = (2, 0), P = (4, 0), and cos^2 > 1/2: nearer than 45 degrees
         {"g_i": [3, 0], "g_j": [-1, 0]},
         lambda g_i, g_j: Fraction(dot(g_i, g_i) - dot(g_j, g_j), 2 * 4) ** 2 - Fraction(1, 2)),
     repair="Assume $|g_i| = |g_j|$: then the angle is right, and the components along P cancel.",
     forms={"printed": on_pairs(upright),
            "repaired": on_pairs(lambda g_i, g_j: abs(cosine(g_i - g_j, g_i + g_j)) - 1e-9, even_pair)})

mamg("definition-3", "definition 3", ("two tasks",), "$L = L_1 + L_2$ has the gradient $g = g_1 + g_2$.", "holds",
     "Well defined, and used so by the theory. Algorithm 1 returns the mean instead, half as long for two tasks: its "
     "step size is not the t of the theorems.")


# --- the clip ---------------------------------------------------------------------------------------------

def apart(g_i: np.ndarray, g_j: np.ndarray, delta: str) -> float:
    """By how far Delta, as the package cuts it off, misses the difference of the components along P, which is |P|."""
    length = np.linalg.norm(g_i - g_j)
    return float(abs(np.linalg.norm(g_i + g_j - clipped(g_i, g_j, delta=delta)) / length - 1))


mamg("equation-3", "equation 3", (CONFLICT,),
     "$\\Delta = |g_i \\cos\\varphi_i - g_j \\cos\\varphi_j|$ is the difference of the gradients' components along P.",
     "misprint",
     "$g_i \\cos\\varphi_i$ points along $g_i$, not along P. The text calls it the component on P, which is $|g_i| "
     "\\cos\\varphi_i$; equation 6 seems to go on with that. But then $\\Delta = |P|$, and $g_i'$ is $g_j$. The "
     "authors' code has a third reading, \"leftover\": cosines measured so that both are positive.",
     counter_example=CounterExample(
         {"g_i": [4, 3], "g_j": [-4, 3]},
         lambda g_i, g_j: 8 + clipped_exactly(g_i, g_j)[0]),  # |P| - Delta, for g^MG = (-Delta, 6)
     repair="$\\Delta = \\big||g_i|\\cos\\varphi_i - |g_j|\\cos\\varphi_j\\big|$",
     forms={"printed": on_pairs(lambda g_i, g_j: apart(g_i, g_j, "vector")),
            "repaired": on_pairs(lambda g_i, g_j: apart(g_i, g_j, "scalar"))})


def still(delta: str) -> Callable[..., float]:
    """How negative the cosine of the clipped gradient and the other one is."""
    return lambda g_i, g_j: -cosine(clipped(g_i, g_j, delta=delta) - g_j, g_j)


mamg("clip", "section III-B, after equation 3", (CONFLICT,),
     "With $g_i'$ in place of $g_i$ the condition of definition 1 is broken: $g_i' \\cdot g_j \\ge 0$.", "false",
     "Opposite gradients of different lengths stay opposite if the longer is clipped. (\"Scalar\" does break it: then "
     "$g_i'$ is $g_j$.) What is true for each reading of equation 3 is that the angle gets no larger: $g_i'$ lies "
     "between the tips of $g_i$ and $g_j$.",
     counter_example=CounterExample(
         {"g_i": [2], "g_j": [-1]}, lambda g_i, g_j: -dot([clipped_exactly(g_i, g_j)[0] - g_j[0]], g_j)),
     repair="The angle gets no larger. (For the condition, $\\Delta \\ge |P|\\, g_i \\cdot g_j / (P \\cdot g_j)$.)",
     forms={"printed": on_pairs(still("vector")), "leftover": on_pairs(still("leftover")),
            "scalar": on_pairs(still("scalar")),
            "repaired": on_pairs(lambda g_i, g_j: cosine(g_i, g_j) + still("vector")(g_i, g_j))})


def other_than(g_i: np.ndarray, g_j: np.ndarray, wanted: np.ndarray) -> float:
    """How far algorithm 1's direction is from another, relative to the gradients."""
    return float(np.linalg.norm(clipped(g_i, g_j, "running") - wanted)) / lengths(g_i, g_j) ** 0.5


mamg("algorithm-1", "algorithm 1", (CONFLICT,),
     "Algorithm 1 returns the $g^{MG}$ of lemma 1 and the theorems (or half of it, a mean).", "false",
     "It clips both gradients. $\\Delta$ is the same for both and P turns around, so that what one loses the other "
     "gains: for two tasks it is equal weighting, whatever $\\Delta$. The theory clips one.",
     counter_example=CounterExample(  # the sum of the gradients against g_i' + g_j
         {"g_i": [2], "g_j": [-1]}, lambda g_i, g_j: abs(g_i[0] + g_j[0] - clipped_exactly(g_i, g_j)[0])),
     repair="For two tasks it returns the mean of the gradients; to mitigate anything, clip one, as the theory does.",
     forms={"printed": on_pairs(lambda g_i, g_j: other_than(g_i, g_j, clipped(g_i, g_j))),
            "repaired": on_pairs(lambda g_i, g_j: other_than(g_i, g_j, g_i + g_j))})


def longer_than_plain(reading: str, delta: str) -> Callable[..., float]:
    """By how much g^MG is longer than g, relative to the gradients."""
    def excess(g_i: np.ndarray, g_j: np.ndarray) -> float:
        lengthened = np.linalg.norm(clipped(g_i, g_j, reading, delta)) - np.linalg.norm(g_i + g_j)
        return float(lengthened) / lengths(g_i, g_j) ** 0.5
    return excess


mamg("lemma-1", "lemma 1", (CONFLICT, ONE), "$|g| \\ge |g^{MG}|$", "missing assumption",
     "No proof is printed. With $p_i, p_j$ the lengths along P it holds exactly if $\\Delta \\le 2 (p_i - p_j)$: "
     "the longer gradient must be clipped, and not by too much. The reading \"leftover\" cuts half of that.",
     counter_example=CounterExample(
         {"g_i": [4, 3], "g_j": [-4, 3]},
         lambda g_i, g_j: dot(clipped_exactly(g_i, g_j), clipped_exactly(g_i, g_j)) - 36),
     repair="Clip the longer gradient, by its leftover $\\Delta = \\big||g_i|^2 - |g_j|^2\\big| / |P|$.",
     forms={"printed": on_pairs(longer_than_plain("one", "vector")),
            "scalar": on_pairs(longer_than_plain("one", "scalar")),
            "leftover": on_pairs(longer_than_plain("one", "leftover")),
            "longer": on_pairs(longer_than_plain("longer", "vector")),
            "algorithm 1": on_pairs(longer_than_plain("running", "vector")),
            "repaired": on_pairs(longer_than_plain("longer", "leftover"))})


# --- convergence ------------------------------------------------------------------------------------------

def short_of_optimum(reading: str, delta: str, s: float = 0.9, steps: int = STEPS) -> Form:
    """What is left, after steps of `s / L`, of the excess of L over its optimum."""
    def excess(theta: np.ndarray, c_1: np.ndarray, c_2: np.ndarray, a_1: float, a_2: float) -> float:
        if min(a_1, a_2) <= 0:
            return NAN
        best = (a_1 * c_1 + a_2 * c_2) / (a_1 + a_2)
        end, _ = descend(theta, c_1, c_2, a_1, a_2, reading, delta, s, steps)
        before = float(((theta - best) ** 2).sum())
        return float(((end - best) ** 2).sum()) / before if before > 0 else NAN
    return Form(bowls, excess)


def short_of_pareto(theta: np.ndarray, c_1: np.ndarray, c_2: np.ndarray, a_1: float, a_2: float) -> float:
    """|h|^2 at the end, relative to the gradients at the start: zero where no direction serves both tasks."""
    _, h = descend(theta, c_1, c_2, a_1, a_2, "longer", "leftover")
    return float(h @ h) / lengths(theta - c_1, theta - c_2)


def gap_where_it_stops(theta: int, c_1: int, c_2: int) -> Any:
    """L minus its optimum at a point where g^MG is zero, of `L_t = (theta - c_t)^2`; 0 where it is not zero."""
    d = clipped_exactly([2 * (theta - c_1)], [2 * (theta - c_2)])
    best = Fraction(c_1 + c_2, 2)
    return 0 if any(d) else sum((theta - c) ** 2 - (best - c) ** 2 for c in (c_1, c_2))


mamg("theorem-1", "theorem 1", ("$L_1$, $L_2$ are differentiable and convex", SMOOTH, "step size $t < 1/L$", ONE),
     "MAMG converges to the optimal value $L(\\theta^*)$.", "false",
     "Where the gradients are opposite and the longer is clipped, $g^{MG} = 0$ before the optimum of the sum is "
     "reached; PCGrad's theorem 1, the model of this one, allows for such points. The proof treats $g^{MG}$ as $2g$ "
     "(equation 8), and a falling value need not fall to the optimum; its first lines have $\\cos\\psi \\ge 0$ for a "
     "conflict, a misprint. (Algorithm 1 is plain descent: for it the claim holds. So it does, for bounded steps, if "
     "the *shorter* gradient is clipped by its leftover, for a step then lowers L by at least $t (1 - L t) |g|^2$; but "
     "that is another rule, and lemma 1 fails for it.)",
     counter_example=CounterExample({"theta": 1, "c_1": -2, "c_2": 2}, gap_where_it_stops),
     repair="Clip the longer gradient by its leftover: L falls, and every limit point of the steps (if any) is "
     "Pareto stationary.",
     networks=(CURVED, ROUGH, BATCHES),
     forms={"printed": short_of_optimum("one", "vector"), "scalar": short_of_optimum("one", "scalar"),
            "longer, leftover": short_of_optimum("longer", "leftover"),
            "shorter, leftover": short_of_optimum("shorter", "leftover", 0.7, 12),
            "algorithm 1": short_of_optimum("running", "vector"), "repaired": Form(bowls, short_of_pareto)})


def beyond_equation_8(g_i: np.ndarray, g_j: np.ndarray, s: float, curvature: np.ndarray) -> float:
    g = g_i + g_j
    return change(g, clipped(g_i, g_j), s, curvature) - 2 * (s**2 - s) * float(g @ g)


def beyond_own_fall(g_i: np.ndarray, g_j: np.ndarray, s: float, curvature: np.ndarray) -> float:
    d = clipped(g_i, g_j, "longer", "leftover")
    return change(g_i + g_j, d, s, curvature) + (s - s**2 / 2) * float(d @ d)


mamg("equation-8", "equation 8", (CONFLICT, SMOOTH, "step size $t \\le 1/L$", ONE),
     "$L(\\theta^+) \\le L(\\theta) + 2 (L t^2 - t) |g|^2$", "false",
     "This is the descent lemma for a step of $2g$: equation 6 puts $(g_2 - g_1) \\cdot (g_2 - g_1) / |P|^2 = 1$ for "
     "the clip, a number added to a vector, and equation 8 counts it as another g. Even plain descent does not keep "
     "it for $t < 2/(3L)$.",
     counter_example=CounterExample(  # g^MG = 0: nothing falls
         {"g_i": [2], "g_j": [-1], "s": Fraction(1, 2)},
         lambda g_i, g_j, s: twice_change_exactly([1], list(map(int, clipped_exactly(g_i, g_j))), s) - 4 * (s**2 - s)),
     repair="$L(\\theta^+) \\le L(\\theta) - (t - L t^2/2) |g^{MG}|^2$, the longer gradient clipped by its leftover",
     networks=(ROUGH, BATCHES),
     forms={"printed": stepping(beyond_equation_8), "repaired": stepping(beyond_own_fall)})


def rises(delta: str) -> Callable[..., float]:
    return lambda g_i, g_j, s, curvature: change(g_i + g_j, clipped(g_i, g_j, delta=delta), s, curvature)


def rises_though_short(g_i: np.ndarray, g_j: np.ndarray, s: float, curvature: np.ndarray) -> float:
    d = clipped(g_i, g_j)
    short = np.linalg.norm(g_i + g_j - d) <= np.linalg.norm(g_i + g_j)
    return change(g_i + g_j, d, s, curvature) if short else NAN


mamg("equation-9", "equation 9", (CONFLICT, SMOOTH, "step size $t \\le 1/L$", ONE), "$L(\\theta^+) \\le L(\\theta)$",
     "missing assumption",
     "At $t = 1/L$ the largest change is $(\\Delta^2 - |g|^2) / (2L)$, and the largest change is convex in t and zero "
     "at $t = 0$. So it holds for all such losses and steps exactly if $\\Delta \\le |g|$: always for \"leftover\", "
     "never for \"scalar\", and for the printed norm as it comes. (Theorem 1 has $t < 1/L$; both will do.)",
     counter_example=CounterExample(
         {"g_i": [1, 0], "g_j": [-3, -4], "s": 1},
         lambda g_i, g_j, s: twice_change_exactly([-2, -4], clipped_exactly(g_i, g_j), s)),
     repair="Assume $\\Delta \\le |g_i + g_j|$.", networks=(ROUGH, BATCHES),
     forms={"printed": stepping(rises("vector"), 0.5), "scalar": stepping(rises("scalar"), 0.5),
            "leftover": stepping(rises("leftover")), "repaired": stepping(rises_though_short)})


def aligned(d: np.ndarray, g: np.ndarray) -> bool:
    """The assumption of theorem 2: an angle of at most 60 degrees."""
    return cosine(d, g) >= 0.5


def no_step_falls(g_i: np.ndarray, g_j: np.ndarray, s: float, curvature: np.ndarray) -> float:
    """The step that is best in the worst case, at most 1 / L, against `R = s g . d / 2`."""
    g, d = g_i + g_j, clipped(g_i, g_j)
    if not aligned(d, g):
        return NAN
    s = min(1.0, float(g @ d) / float(d @ d))
    return change(g, d, s, curvature) + s * float(g @ d) / 2


mamg("theorem-2", "theorem 2", (SMOOTH, "$\\cos(g, g^{MG}) \\ge 1/2$"),
     "There is a step size $t \\le 1/L$ with $L(\\theta^+) \\le L(\\theta) - R$, $R \\ge 0$.", "holds",
     "True of any direction with a positive product with g, so it says nothing of MAMG: $t = \\min(1/L, g \\cdot "
     "g^{MG} / (L |g^{MG}|^2))$ gives $R = t\\, g \\cdot g^{MG} / 2 > 0$. (If each loss has the constant L, t is "
     "shorter still.) The printed proof rests on lemma 1, which fails.",
     networks=(ROUGH, BATCHES), forms={"printed": stepping(no_step_falls)})


def beyond_equation_14(lemma: bool) -> Callable[..., float]:
    def excess(g_i: np.ndarray, g_j: np.ndarray, s: float, curvature: np.ndarray) -> float:
        g, d = g_i + g_j, clipped(g_i, g_j)
        sizes = float(np.linalg.norm(g)), float(np.linalg.norm(d))
        if not aligned(d, g) or (lemma and sizes[0] < sizes[1]):
            return NAN
        return change(g, d, s, curvature) + (s - s**2) / 2 * sizes[0] * sizes[1]
    return excess


mamg("equation-14", "equation 14, proof of theorem 2",
     (CONFLICT, SMOOTH, "$\\cos(g, g^{MG}) \\ge 1/2$", "step size $t \\le 1/L$", ONE),
     "$L(\\theta^+) \\le L(\\theta) - \\frac12 (t - L t^2)\\, |g|\\, |g^{MG}|$", "missing assumption",
     "The last step of equation 13 is lemma 1. Without it a long $g^{MG}$ overshoots, even at an angle of almost zero. "
     "(The sentence after it has a plus for a minus, and the fall is zero at $t = 1/L$ as well.)",
     counter_example=CounterExample(
         {"g_i": [1, 0], "g_j": [-3, -4], "s": 1},  # R = 0 at t = 1/L; the cosine is above 0.98
         lambda g_i, g_j, s: twice_change_exactly([-2, -4], clipped_exactly(g_i, g_j), s)),
     repair="Assume $|g^{MG}| \\le |g|$.", networks=(ROUGH, BATCHES),
     forms={"printed": stepping(beyond_equation_14(False), 0.9, shorter_first),
            "repaired": stepping(beyond_equation_14(True), 0.0, longer_first)})


def left_in_valley(theta: np.ndarray, tilt: float) -> float:
    """L at the end minus its optimum, where both tasks have half of the two valleys and MAMG has nothing to clip."""
    if not (0 < tilt < 1 and theta[0] > 1):
        return NAN
    for _ in range(STEPS):
        half = np.array([slope_of_valleys(theta[0], tilt) / 2])
        theta = theta - 0.9 * clipped(half, half)
    return float(two_valleys(theta[0], tilt) - two_valleys(-2 - tilt, tilt))


def left_exactly(theta: Fraction, tilt: Fraction) -> Fraction:
    """The same after two steps of 1 / L, which is 1; g^MG is g, at an angle of zero."""
    for _ in range(2):
        theta = theta - slope_of_valleys(theta, tilt)
    return two_valleys(theta, tilt) - two_valleys(-2 - tilt, tilt)


def beyond_rate(g_i: np.ndarray, g_j: np.ndarray, s: float, curvature: np.ndarray) -> float:
    g, d = g_i + g_j, clipped(g_i, g_j, "longer", "leftover")
    return change(g, d, s, curvature) + s / 8 * float(g @ g) if aligned(d, g) else NAN


mamg("theorem-2-optimum", "theorem 2, last sentence", (SMOOTH, "$\\cos(g, g^{MG}) \\ge 1/2$"),
     "Applying MAMG can reach the optimal value $L(\\theta^*)$.", "missing assumption",
     "Theorem 2 does not assume convexity, and descent stays in the valley in which it starts. With convex losses it "
     "also takes lemma 1 and the angle at every step: $g^{MG}$ may vanish where g does not, as in theorem 1.",
     counter_example=CounterExample({"theta": Fraction(2), "tilt": Fraction(1, 2)}, left_exactly),  # ends at 3/2
     repair="Assume convex losses, bounded steps and the angle at each of them, and clip the longer gradient by its "
     "leftover: then L falls by $t |g|^2 / 8$ at least.",
     networks=(CURVED, ROUGH, BATCHES),
     forms={"printed": Form(lambda random: {"theta": random.uniform(1.1, 3, size=1), "tilt": random.uniform(0.05, 0.9)},
                            left_in_valley),
            "repaired": stepping(beyond_rate)})


# --- superiority ------------------------------------------------------------------------------------------

def falls(g_i: np.ndarray, g_j: np.ndarray, s: float, reading: str = "one", delta: str = "vector") -> tuple[float, ...]:
    """The changes of L, of curvature L everywhere, by steps of MAMG, PCGrad and the plain sum."""
    g = g_i + g_j
    directions = clipped(g_i, g_j, reading, delta), projected(g_i, g_j), g
    return tuple(change(g, d, s) / lengths(g_i, g_j) for d in directions)


def behind_pcgrad(reading: str, delta: str) -> Callable[..., float]:
    def excess(g_i: np.ndarray, g_j: np.ndarray, s: float) -> float:
        mamgs, pcgrads, _ = falls(g_i, g_j, s, reading, delta)
        return mamgs - pcgrads
    return excess


def behind_pcgrad_if_even(g_i: np.ndarray, g_j: np.ndarray, s: float) -> float:
    even = abs(g_i @ g_i - g_j @ g_j) <= 1e-9 * lengths(g_i, g_j)
    return behind_pcgrad("one", "leftover")(g_i, g_j, s) if even and s >= 2 / (2 - cosine(g_i, g_j)) else NAN


EVEN = {"g_i": [4, 3], "g_j": [-4, 3]}  # equal lengths: leftover zero, and PCGrad goes (1 - cos) g


def plain_change(s: Any, g_i: list[int], g_j: list[int]) -> Any:
    """Twice the change of L by a step of the plain sum."""
    g = [x + y for x, y in zip(g_i, g_j, strict=True)]
    return twice_change_exactly(g, g, s)


def projected_change(s: Any, g_i: list[int], g_j: list[int]) -> Any:
    """Twice the change of L by a step of PCGrad, for two gradients of one length."""
    g = [x + y for x, y in zip(g_i, g_j, strict=True)]
    return twice_change_exactly(g, [(1 - Fraction(dot(g_i, g_j), dot(g_i, g_i))) * x for x in g], s)


def least_behind_pcgrad(s: Any, g_i: list[int], g_j: list[int]) -> Any:
    """Twice the change by MAMG's step minus that by PCGrad's, in the reading for which it is least."""
    g = [x + y for x, y in zip(g_i, g_j, strict=True)]
    steps = [g, *(list(map(Fraction, clipped_exactly(g_i, g_j, delta))) for delta in ("vector", "scalar", "leftover"))]
    return min(twice_change_exactly(g, d, s) for d in steps) - projected_change(s, g_i, g_j)


HARDEST = "multi-task curvature $H(L; \\theta, \\theta') \\ge L |g|^2$"

mamg("theorem-3", "theorem 3", (CONFLICT, SMOOTH, HARDEST, "step size $t \\le 1/L$", ONE),
     "$L(\\theta^{MG}) \\le L(\\theta^{PG})$, PG a step of PCGrad", "false",
     "The proof compares a step of $2g$ with itself: equation 18 is equation 8, equation 17 puts $2g$ for PCGrad's "
     "step too, and what makes the difference is a 1/2 that Taylor's formula has and equation 16 lacks (19 loses an L "
     "besides). The counter-example, equal lengths at half the largest step, refutes all readings, algorithm 1's too. "
     "And L is the largest curvature there is: the assumption holds only where L is a parabola along that step.",
     counter_example=CounterExample({"s": Fraction(1, 2), **EVEN}, least_behind_pcgrad),
     repair="For equally long gradients, the leftover and $t \\ge 2 / (L (2 + |\\cos\\psi|))$, where both step along g",
     networks=("curvature as large as L all along the step", ROUGH, BATCHES),
     forms={"printed": with_step(behind_pcgrad("one", "vector")), "scalar": with_step(behind_pcgrad("one", "scalar")),
            "longer, leftover": with_step(behind_pcgrad("longer", "leftover")),
            "algorithm 1": with_step(behind_pcgrad("running", "vector")),
            "repaired": with_step(behind_pcgrad_if_even, even_pair)})


def out_of_order(g_i: np.ndarray, g_j: np.ndarray, s: float) -> float:
    mamgs, pcgrads, plain = falls(g_i, g_j, s)
    return max(mamgs - pcgrads, pcgrads - plain)


def large_step(random: np.random.Generator) -> dict[str, Any]:
    """A pair, and how many times a step is as long as PCGrad's theorem 2 asks for at least."""
    return {**pair(random), "times": random.uniform(1, 2)}


def behind_plain(g_i: np.ndarray, g_j: np.ndarray, times: float) -> float:
    """PCGrad against the plain sum at `s = 2 times / (1 - xi)`; xi is what PCGrad's theorem 2 bounds curvature by."""
    c, g, P = cosine(g_i, g_j), g_i + g_j, g_i - g_j
    room = float(g @ g) - (1 - c**2) * float(P @ P)
    if not (conflict(g_i, g_j) and times >= 1 and room > 0):
        return NAN
    _, pcgrads, plain = falls(g_i, g_j, 2 * times * float(g @ g) / room)
    return pcgrads - plain


mamg("theorem-3-standard", "theorem 3, last sentence", (CONFLICT, SMOOTH, HARDEST, "step size $t \\le 1/L$", ONE),
     "$L(\\theta^{MG}) \\le L(\\theta^{PG}) \\le L(\\theta^{MT})$, MT a step of the plain sum", "false",
     "The second half is taken from PCGrad's theorem 2, which asks for $t \\ge 2 / (\\ell - \\xi L) \\ge 2/L$: no "
     "step meets both theorems. With curvature L everywhere the plain step of $1/L$ ends in the minimum, and nothing "
     "beats it.",
     counter_example=CounterExample({"s": 1, **EVEN}, lambda s, g_i, g_j: projected_change(s, g_i, g_j)
                                    - plain_change(s, g_i, g_j)),
     repair="Only $L(\\theta^{PG}) \\le L(\\theta^{MT})$, for $t \\ge 2 / (L (1 - \\xi))$ and $\\xi < 1$, where the "
     "plain step does not lower L at all",
     networks=("curvature as large as L all along the step", ROUGH, BATCHES),
     forms={"printed": with_step(out_of_order), "repaired": Form(large_step, behind_plain)})
