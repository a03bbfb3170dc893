"""The bounds of the papers: each a number, and the terms that it is the sum of. Imports `files`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from ..files import unknown

FORMS = ("printed", "repaired")
Relation = Any  # omega, (tasks, tasks): an array, or lists
Number = float | int


class Bound(float):
    """A bound as a number that knows its terms.

    terms: `{name: value}` in the order of the formula; the number is their sum.

    >>> bound = Bound({"gaussian": 0.25, "confidence": 0.5})
    >>> bound < 1, bound + 0, bound.terms["confidence"]
    (True, 0.75, 0.5)
    """

    terms: dict[str, float]

    def __new__(cls, terms: Mapping[str, float]) -> "Bound":
        bound = super().__new__(cls, sum(terms.values()))
        bound.terms = dict(terms)
        return bound

    def __repr__(self) -> str:
        return f"{float(self):.4g} ({', '.join(f'{name} {value:.4g}' for name, value in self.terms.items())})"

    def __reduce__(self) -> tuple:
        return Bound, (self.terms,)


# --- Deep Safe Multi-Task Learning -----------------------------------------------------------------------
# n samples in each of m tasks; G: the Gaussian average of the encoders on all of them, not divided by n; Q: of the
# decoders (`gaussian.linear_q`); C1, C2: the paper's constants, of which it says only that they are constants.

CONFIDENCE = {"printed": 2.0, "repaired": 4.0}  # of rho: the number over delta in the logarithm


def rho(n: int, delta: float, G: float, Q: float, C1: float, C2: float, m: int = 1, form: str = "printed") -> Bound:
    """The slack of probable safety: with probability 1 - delta, E + epsilon <= E^STL + rho.

    `rho = C1 G / (m n) + C2 Q / sqrt(n) + sqrt(18 ln(2 / delta) / (m n))`, E the expected loss of the DSMTL network
    that is best on the sample, epsilon >= 0 by how much it is better there than single-task learning.
    Theorem 2, one task of DSMTL-IL: m = 1 and G of the encoders on this task's sample. Theorem 4, the mean over tasks
    of DSMTL-JL: G of m encoders, one a task and each free, which is the sum of the tasks' own Gaussian averages.

    form: "printed", or "repaired", which has ln(4 / delta).
        The printed proof adds two inequalities that hold with probability 1 - delta each, which alone gives 1 - 2
        delta; shares of delta / 2, the plain repair, make it "repaired". The claim as printed holds nonetheless:
        McDiarmid's inequality for the sum of both suprema, which one sample changes by 2 / (m n), and for twice the
        sum of their Rademacher averages, by 4 / (m n), gives (2 + 4) sqrt(ln(2 / delta) / (2 m n)) =
        sqrt(18 ln(2 / delta) / (m n)), in two events. Even ln(1 / delta) suffices: McDiarmid once, for the one minus
        the other, which has no positive mean and which one sample changes by 6 / (m n).
        Where single-task learning is the best on its sample, `excess_risk` is another choice, below both forms.
    C1, C2: twice those of `uniform_deviation`. For a class whose losses themselves are enumerated, theorem 6 twice
        gives C1 = 2 sqrt(2 pi), with G of the losses, and Q = 0.
    Terms: gaussian, decoder, confidence.
    Raises ValueError for n or m below 1, delta outside (0, 1), negative or NaN amounts, and an unknown form.
    Source: Deep Safe Multi-Task Learning, theorems 2 and 4.

    >>> rho(6000, 0.05, G=0.0, Q=0.0, C1=1.0, C2=1.0)
    0.1052 (gaussian 0, decoder 0, confidence 0.1052)
    """
    if form not in CONFIDENCE:
        raise ValueError(unknown("form", form, CONFIDENCE))
    return _deep_safe(n, delta, G, Q, C1, C2, m, 18.0, CONFIDENCE[form])


def samples_needed(width: float, delta: float, m: int = 1, form: str = "printed") -> int:
    """The smallest n for which the confidence term of `rho` alone is at most `width`: `18 ln(2 / delta) / (m width^2)`.

    Raises ValueError for a width that is not positive, m below 1, delta outside (0, 1), and an unknown form.

    >>> samples_needed(0.01, delta=0.05)
    663999
    """
    if not 0 < width < math.inf:
        raise ValueError(f"width is {width}; it must be a number above 0.")
    return max(1, math.ceil((rho(1, delta, 0.0, 0.0, 0.0, 0.0, m, form) / width) ** 2))


def excess_risk(n: int, delta: float, G: float, Q: float, C1: float, C2: float, m: int = 1) -> Bound:
    """How much worse than the best of the class the network can be that is best on the sample, in expected loss.

    `C1 G / (m n) + C2 Q / sqrt(n) + sqrt(8 ln(4 / delta) / (m n))`, with probability 1 - delta: `uniform_deviation`
    for the one network and Hoeffding's inequality for the other, which is fixed, at delta / 2 each. The same sum
    bounds E + epsilon - E^STL for an STL network that is best on its sample, for then L^STL is at most the sample
    loss of the best STL network, which is fixed, and E^STL at least its expected loss.

    C1, C2: those of `uniform_deviation`.
    Terms: gaussian, decoder, confidence. Raises ValueError as `rho`.
    Source: Deep Safe Multi-Task Learning, theorem 5.
    """
    return _deep_safe(n, delta, G, Q, C1, C2, m, 8.0, 4.0)


def uniform_gaussian(n: int, delta: float, G: float, m: int = 1) -> Bound:
    """By how much the expected loss of any member of a class may exceed its loss on the sample: all constants known.

    `sqrt(2 pi) G / (m n) + sqrt(9 ln(2 / delta) / (2 m n))`, with probability 1 - delta for all members at once, for
    losses in [0, 1] and means over m tasks with n independent samples each. It holds for the opposite difference
    as well, by the same proof; for both at once the shares of delta add up. (With ln(1 / delta) it holds, too:
    McDiarmid's inequality once, for the supremum minus twice the Rademacher average, which one sample changes by
    3 / (m n).)

    G: the Gaussian average of the losses, {(loss of sample i of task t)} in R^(m n) over the class, on this sample.
    Terms: gaussian, confidence. Raises ValueError as `rho`.
    Source: Deep Safe Multi-Task Learning, theorem 6 and remark 8; the functions map to [0, 1]^m, one value a task.

    >>> uniform_gaussian(6000, 0.05, G=20.0)
    0.06095 (gaussian 0.008355, confidence 0.0526)
    """
    terms = _deep_safe(n, delta, G, 0.0, math.sqrt(2 * math.pi), 0.0, m, 4.5, 2.0).terms
    return Bound({name: terms[name] for name in ("gaussian", "confidence")})


def uniform_deviation(n: int, delta: float, G: float, Q: float, C1: float, C2: float, m: int = 1) -> Bound:
    """By how much the expected loss of any DSMTL network may exceed its loss on the sample.

    `C1 G / (m n) + C2 Q / sqrt(n) + sqrt(9 ln(2 / delta) / (2 m n))`, with probability 1 - delta for all at once.

    C1 = c1 M sqrt(2 pi) and C2 = 2 c2 R sqrt(2 pi), with the Lipschitz constant M of the decoders, the largest length
        R of the encoders' outputs, and c1, c2 of Maurer's chain rule for Gaussian averages, which are not known.
    Terms: gaussian, decoder, confidence. Raises ValueError as `rho`.
    Source: Deep Safe Multi-Task Learning, theorem 7, equation 11, and remark 8 for the opposite difference.
    """
    return _deep_safe(n, delta, G, Q, C1, C2, m, 4.5, 2.0)


def _deep_safe(n: int, delta: float, G: float, Q: float, C1: float, C2: float, m: int, factor: float,
               over: float) -> Bound:
    """`C1 G / (m n) + C2 Q / sqrt(n) + sqrt(factor ln(over / delta) / (m n))`."""
    for name, count in {"n": n, "m": m}.items():
        if not count >= 1:
            raise ValueError(f"{name} is {count}; it must be at least 1.")
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}; the probability of an error lies between 0 and 1.")
    for name, amount in {"G": G, "Q": Q, "C1": C1, "C2": C2}.items():
        if not amount >= 0:
            raise ValueError(f"{name} is {amount}; it must be a number of at least 0.")
    return Bound({"gaussian": C1 * G / (m * n), "decoder": C2 * Q / math.sqrt(n),
                  "confidence": math.sqrt(factor * math.log(over / delta) / (m * n))})


# --- balanced multi-task learning: h(z) = exp(z / T), losses in [0, 1] ------------------------------------

BMTL_FORMS = ("printed", "repaired", "sharp")


def bmtl(empirical: float, complexity: float, *, rho: float, T: float, m: int, n: int, delta: float,
         form: str = "printed") -> Bound:
    """BMTL's bound of `R_h = mean_t h(R_t)`, R_t a task's expected loss, for all parameters of a class at once.

    `R_h <= Rhat_h + 8 rho nu A + eta sqrt(m n ln(1 / delta) / 2)` with probability at least 1 - delta, where
    `nu = exp(1 / T) / T` and `eta = (2 / m) exp(1 / T) (exp(1 / (n T)) - 1)`.

    empirical: Rhat_h, the mean over tasks of `exp(training loss / T)`, so at least 1.
    complexity: A, the expected supremum of `sum_t sigma_t mean_j f_t(x_tj) / m` with one random sign a *task*; for
        "sharp" R, with one a *sample*: `sum_tj sigma_tj f_t(x_tj) / (m n)`. See `ball_complexity`.
    rho: Lipschitz constant of the loss in the output.  m: tasks.  n: samples of each.
    form: "printed". "repaired" has `6 (1 + 1 / (2 T))` in place of 8, which we can prove; it is at most 8 from
        T = 1.5 on. "sharp" is `2 (1 + 1 / (2 T)) rho nu R` and half of eta times exp(-1 / (n T)), proved as well.
    Terms: empirical, complexity, confidence.
    Raises ValueError for numbers outside their range and unknown forms, OverflowError for T below 1 / 700.
    Source: A Simple General Approach to Balance Task Difficulty in Multi-Task Learning, theorem 3; the two others
    are ours.

    >>> bmtl(1.01, 0.1, rho=1.0, T=50.0, m=4, n=100, delta=0.05)
    1.029 (empirical 1.01, complexity 0.01632, confidence 0.002497)
    """
    if form not in BMTL_FORMS:
        raise ValueError(unknown("form", form, BMTL_FORMS))
    _check_bmtl(rho=rho, T=T, m=m, n=n, delta=delta)
    if not empirical >= 1:
        raise ValueError(f"empirical is {empirical}; it is a mean of exp(loss / T), which is 1 or more. Was the mean "
                         "loss given?")
    if not complexity >= 0:
        raise ValueError(f"complexity is {complexity}; it must not be negative.")
    factor = {"printed": 8.0, "repaired": 6 + 3 / T, "sharp": 2 + 1 / T}[form]
    return Bound({"empirical": empirical, "complexity": factor * rho * _slope(T) * complexity,
                  "confidence": _bmtl_change(T, m, n, form) * math.sqrt(m * n * math.log(1 / delta) / 2)})


def bmtl_mean(empirical: float, complexity: float, *, rho: float, T: float, m: int, n: int, delta: float,
              form: str = "printed") -> Bound:
    """BMTL's bound of the mean expected loss `R_I = mean_t R_t`: `R_I <= T ln(bound of R_h)`, see `bmtl`.

    Arguments, forms and errors as in `bmtl`; "printed" is as the statement has it, with the logarithm around the
    complexity term only: `T ln(8 rho nu A) + Rhat_h + confidence`, which is no bound. "repaired" has all three terms
    in the logarithm, with `6 (1 + 1 / (2 T))` in place of 8.
    Terms: empirical, complexity, confidence; in the other forms what each adds to the logarithm, in this order.
    Source: A Simple General Approach to Balance Task Difficulty in Multi-Task Learning, theorem 4 and its proof.

    >>> bmtl_mean(1.01, 0.1, rho=1.0, T=50.0, m=4, n=100, delta=0.05, form="repaired")
    1.228 (empirical 0.4975, complexity 0.6084, confidence 0.122)
    """
    inner = bmtl(empirical, complexity, rho=rho, T=T, m=m, n=n, delta=delta, form=form)
    if form == "printed":
        within = inner.terms["complexity"]
        return Bound({**inner.terms, "complexity": T * math.log(within) if within > 0 else -math.inf})
    sums = np.cumsum(list(inner.terms.values()))
    return Bound(dict(zip(inner.terms, (T * np.diff(np.log(sums), prepend=0.0)).tolist(), strict=True)))


def bmtl_linear(empirical: float, *, beta: float, rho: float, T: float, m: int, n: int, delta: float,
                radius: float = 1.0, form: str = "printed") -> Bound:
    """BMTL's bound of R_h, see `bmtl`, for outputs `<theta_t, x>` with `sum_t |theta_t|^2 <= beta^2`.

    `R_h <= Rhat_h + 8 rho nu beta / sqrt(m) + confidence` with probability at least 1 - delta.

    radius: the largest length of an input. "printed" does not ask for it, and is true for lengths up to 1.
    form: "repaired" multiplies the middle term by radius, and holds for every T. "sharp" has
        `2 min(1, (1 + 1 / (2 T)) / sqrt(n))` in place of 8 besides, and the smaller confidence term.
    Terms as in `bmtl`. Raises ValueError for a radius or beta that is not above zero, and as `bmtl` does.
    Source: A Simple General Approach to Balance Task Difficulty in Multi-Task Learning, theorem 5; "sharp" is ours.

    >>> bmtl_linear(1.01, beta=1.0, rho=1.0, T=50.0, m=4, n=100, delta=0.05).terms["complexity"].__round__(4)
    0.0816
    """
    for name, value in (("beta", beta), ("radius", radius)):
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be larger than zero.")
    inner = bmtl(empirical, 0.0, rho=rho, T=T, m=m, n=n, delta=delta, form=form)
    factor = {"printed": 8.0, "repaired": 8 * radius,
              "sharp": 2 * radius * min(1.0, (1 + 0.5 / T) / math.sqrt(n))}[form]
    return Bound({**inner.terms, "complexity": factor * rho * _slope(T) * beta / math.sqrt(m)})


def ball_complexity(X: Float[np.ndarray, "m n d"], beta: float, signs: str = "task") -> float:
    """How far linear functions of a Frobenius ball, `sum_t |theta_t|^2 <= beta^2`, follow random signs on `X`.

    signs: "task" for `E sup sum_t sigma_t <theta_t, mean_j x_tj> / m`, which is `(beta / m) sqrt(sum_t |mean_j
        x_tj|^2)` exactly; "sample" for `E sup sum_tj sigma_tj <theta_t, x_tj> / (m n)`, which is at most `(beta /
        (m n)) sqrt(sum_tj |x_tj|^2)`. The expectation is over the signs alone.
    Raises ValueError for other signs.
    Source: A Simple General Approach to Balance Task Difficulty in Multi-Task Learning, proof of theorem 5.

    >>> X = np.array([[[1.0], [-1.0]], [[1.0], [1.0]]])
    >>> ball_complexity(X, 1.0), round(ball_complexity(X, 1.0, "sample"), 3)
    (0.5, 0.5)
    """
    m, n, _ = X.shape
    if signs == "task":
        return float(beta / m * np.linalg.norm(X.mean(1)))
    if signs == "sample":
        return float(beta / (m * n) * np.linalg.norm(X))
    raise ValueError(unknown("kind of signs", signs, ("task", "sample")))


def _slope(T: float) -> float:
    """nu: the largest slope of exp(z / T) on [0, 1]."""
    return math.exp(1 / T) / T


def _bmtl_change(T: float, m: int, n: int, form: str) -> float:
    """eta: by how much one sample can move the mean of the transformed losses."""
    change = math.expm1(1 / (n * T)) / m
    return change * math.exp((1 - 1 / n) / T) if form == "sharp" else 2 * change * math.exp(1 / T)


def _check_bmtl(*, rho: float, T: float, m: int, n: int, delta: float) -> None:
    for name, value in (("rho", rho), ("T", T)):
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be larger than zero.")
    if T < 1 / 700:
        raise OverflowError(f"exp(1 / T) overflows for T = {T}; T must be at least 1 / 700.")
    for name, count in (("m", m), ("n", n)):
        if count < 1:
            raise ValueError(f"{name} is {count}; it must be at least 1.")
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}; it is a probability between 0 and 1.")


# --- Saliency-Regularized Deep Multi-Task Learning -------------------------------------------------------

def connectivity(omega: Relation, form: str = "printed") -> float:
    """An eigenvalue of the graph's Laplacian `diag(sum_j omega_ij) - omega`, which says how well tasks hang together.

    omega: (tasks, tasks), symmetric, not negative; its diagonal does not count.
    form: "printed", the smallest eigenvalue that is not zero; "repaired", the second smallest, which is zero if the
        graph falls apart, for then no weight keeps its parts together. They agree if it does not.
    Raises ValueError for what is no such matrix, for fewer than two tasks, and, printed, for a graph without edges.
    Source: Saliency-Regularized Deep Multi-Task Learning, theorem 2.

    >>> connectivity([[0, 1], [1, 0]])
    2.0
    """
    if form not in FORMS:
        raise ValueError(unknown("form", form, FORMS))
    graph = np.asarray(omega, np.float64)
    if graph.ndim != 2 or graph.shape[0] != graph.shape[1] or len(graph) < 2:
        raise ValueError(f"omega has shape {graph.shape}; it must be (tasks, tasks) for at least two tasks.")
    if not np.isfinite(graph).all() or (graph < 0).any() or not np.allclose(graph, graph.T):
        raise ValueError("omega must be symmetric, finite and not negative: a weight for each pair of tasks.")
    graph = graph - np.diag(np.diag(graph))
    values = np.linalg.eigvalsh(np.diag(graph.sum(1)) - graph)
    values[values < 1e-12 * max(values[-1], 1e-300)] = 0.0
    if form == "repaired":
        return float(values[1])
    if not values[-1] > 0:
        raise ValueError("omega is zero for all pairs: a graph without edges has no eigenvalue that is not zero.")
    return float(values[values > 0][0])


def heads_cost(omega: Relation, B: Number, L: Number) -> float:
    """How fast linear heads fit noise together: `min(L sqrt(m), L + B / sqrt(2 connectivity))`.

    It bounds `E sup_W sum_ti gamma_ti w_t . (y_ti - y'_ti) / |y - y'|` over heads w_t with `|w_t| <= L` and
    `sum_ij omega_ij |w_i - w_j|^2 <= B^2`, the sum over ordered pairs, for features y and y' of all tasks' samples.
    Split `w_t` into the mean w and a rest r_t, and let `v_t = sum_i gamma_ti (y_ti - y'_ti)`. The mean gives
    `L |sum_t v_t|`. The rests have `sum_t |r_t|^2 <= B^2 / (2 connectivity)`, because the rests are orthogonal to
    what all tasks have in common, and give that root times `(sum_t |v_t|^2)^(1/2)`. Both lengths have `|y - y'|^2` as
    their expected square. The other term of the minimum is what heads without any relation cost.

    L: of the heads; Lipschitz constant and length are one for them.  B: not negative.
    Source: ours; see `saliency_bound`.

    >>> heads_cost([[0, 1], [1, 0]], B=0.0, L=3.0)
    3.0
    """
    _not_negative(B=B, L=L)
    gap = connectivity(omega, "repaired")
    apart = L * math.sqrt(len(omega))
    return min(apart, L + B / math.sqrt(2 * gap)) if gap > 0 else apart


def saliency_bound(n: int, delta: Number, G: Number, size: Number, omega: Relation, B: Number, L: Number, c1: Number,
                   c2: Number, form: str = "printed") -> Bound:
    """How much more the trained network is expected to lose than the best of its class, with probability 1 - delta.

    "printed": `c1 L G / (n m) + c2 B connectivity^(-1/2) size / (n sqrt(n m)) + sqrt(8 ln(4 / delta) / (n m))`.
    "repaired": for linear heads, with `c2 heads_cost(omega, B, L) size / (n m)` in the middle. It is the chain rule for
        Gaussian averages, applied to the heads of all tasks at once; heads are zero at zero, so that the remaining
        term of the rule, the heads' average at one point, is a middle term too, and c2 takes it up.

    n: samples a task, drawn independently for each of the m tasks.  delta: in (0, 1).
    G: the Gaussian average of the class of feature maps on the samples, not divided.
    size: the largest length of all `n m` feature vectors together, `sup_h |h(X)|`.
    omega, B: `sum_ij omega_ij |grad f_i - grad f_j|^2 <= B^2` over ordered pairs, everywhere, for all heads of the
        class, whatever the data.  L: the heads' Lipschitz constant.
    c1, c2: universal constants that the paper gives nowhere.
    Terms: representation, heads, confidence. Raises ValueError for numbers that are out of range.
    Source: Saliency-Regularized Deep Multi-Task Learning, theorem 2; the chain rule: Maurer, A Chain Rule for the
    Expected Suprema of Gaussian Processes, 2014. As printed it is false, see `STATEMENTS["srdml-theorem-2"]`.
    """
    _not_negative(G=G, size=size, B=B, L=L, c1=c1, c2=c2)
    m, confidence = len(omega), _excess_confidence(n * len(omega), delta)
    if form == "printed":
        heads = B / math.sqrt(connectivity(omega)) / math.sqrt(n * m) / n
    else:
        connectivity(omega, form)  # refuses what is no form
        heads = heads_cost(omega, B, L) / (n * m)
    return Bound({"representation": c1 * L * G / (n * m), "heads": c2 * heads * size, "confidence": confidence})


def linear_heads_bound(n: int, delta: Number, size: Number, omega: Relation, B: Number, L: Number) -> Bound:
    """`saliency_bound` for one fixed feature map, "repaired"; there all constants are known.

    `sqrt(2 pi) heads_cost(omega, B, L) size / (n m) + sqrt(8 ln(4 / delta) / (n m))`: symmetrisation, and Slepian's
    lemma for the losses. Terms: heads, confidence. Arguments as there.
    Source: ours, from the uniform bound of Maurer, Pontil and Romera-Paredes, The Benefit of Multitask Representation
    Learning, 2016, and from Hoeffding's inequality for the best of the class.

    >>> linear_heads_bound(500, 0.05, size=30.0, omega=[[0, 1], [1, 0]], B=0.0, L=1.0)
    0.2624 (heads 0.0752, confidence 0.1872)
    """
    _not_negative(size=size)
    m, confidence = len(omega), _excess_confidence(n * len(omega), delta)
    return Bound({"heads": math.sqrt(2 * math.pi) * heads_cost(omega, B, L) * size / (n * m),
                  "confidence": confidence})


def _excess_confidence(samples: int, delta: Number) -> float:
    """`sqrt(8 ln(4 / delta) / samples)`: a uniform bound at delta / 2, and Hoeffding's for the best, at delta / 2."""
    if samples < 1 or not 0 < delta < 1:
        raise ValueError(f"There are {samples} samples of all tasks and delta is {delta}; there must be at least one, "
                         "and delta must lie between 0 and 1.")
    return math.sqrt(8 * math.log(4 / delta) / samples)


def _not_negative(**values: Number) -> None:
    wrong = {name: value for name, value in values.items() if not 0 <= value < math.inf}
    if wrong:
        raise ValueError(f"These must be finite and not negative: {wrong}.")
