"""What "Saliency-Regularized Deep Multi-Task Learning" says of functions and their gradients: sections 3 and 4.2.

Imports `data`, `models`, `tasks`, and this folder's `statements`. What the paper says of its bound is in
`saliency_risk`.
"""

from functools import lru_cache

import numpy as np
import torch

from ..data import regression
from ..models import HPS, SRDML
from ..models.shallow import as_pairs
from ..models.shallow.penalties import Trace
from ..tasks import Batch, Problem, TensorSplit
from .statements import CounterExample, Form, Instance, Statement, state

DOCUMENT = "Saliency-Regularized Deep Multi-Task Learning"
LESSON = "06"
FUNCTIONS = ("Heads with ReLU are not continuously differentiable; gradients that agree almost everywhere still "
             "suffice for them, as they are Lipschitz.",
             "Gradients are compared at the features of samples; between them heads may differ by anything.",
             "Heads have biases and are not zero at A = 0. A logit of zero would not be a no either, but undecided.")


# --- theorem 1: f and g are polynomials on islands, (-1, 1) around zero and (2, 3), a row of coefficients each ------

def _islands(random: np.random.Generator) -> Instance:
    """f, and g = f + step: on the same one or two islands, often with a step that is constant."""
    f = random.normal(size=(random.integers(1, 3), 4))
    step = np.zeros_like(f)
    if random.random() < 0.75:
        step[1:, 0] = random.normal(size=len(f) - 1)
    else:
        step[:, 1:] = random.normal(size=(len(f), 3))
    f[0, 0] = 0.0
    return {"f": f, "step": step}


def _same_gradients(f: np.ndarray, step: np.ndarray) -> float:
    """How far f and g are apart although all gradients agree; zero where they differ, as they may."""
    if f[0, 0] or step[0, 0]:
        return np.nan  # not zero at zero
    if step[:, 1:].any():
        return 0.0  # then g - f is not constant on some island: both sides of the claim are false
    return float(np.abs(step[:, 0]).max())


def _same_gradients_connected(f: np.ndarray, step: np.ndarray) -> float:
    return np.nan if len(f) > 1 else _same_gradients(f, step)


state(Statement(
    "srdml-theorem-1", DOCUMENT, "theorem 1", LESSON,
    ("$f_1, f_2$ are $C^1$ on $X$, and zero at zero", "appendix A.1: $X$ is open"),
    r"$f_1 = f_2$ if and only if $\nabla f_1 = \nabla f_2$ on all of $X$",
    "missing assumption",
    "Where X falls into parts, each has a constant of its own, and f(0) = 0 settles only the one around zero. The "
    "proof's step, that f_1 - f_2 does not depend on x_k if its k-th derivative is zero, needs lines along which one "
    "stays in X; with X connected the claim is true all the same, along paths.",
    CounterExample({"f": [[0, 0], [0, 0]], "step": [[0, 0], [1, 0]]},  # constant, slope; g = 1 on the second island
                   lambda f, step: max(abs(constant) for constant, slope in step)
                   if f[0][0] == step[0][0] == 0 and not any(slope for _, slope in step) else 0),
    "X is connected, and contains zero.",
    FUNCTIONS,
    {"printed": Form(_islands, _same_gradients), "repaired": Form(_islands, _same_gradients_connected)}))


# --- key merit 1: the difference of two heads is d(x) = sum_k a_k sin(k x) --------------------------------

_X = np.linspace(0, 2 * np.pi, 1024, endpoint=False)


def _waves(random: np.random.Generator) -> Instance:
    return {"C": float(np.exp(random.uniform(0, 3))), "a": random.normal(size=random.integers(1, 4)),
            "k": random.integers(1, 65, size=3)}


def _sizes(a: np.ndarray, k: np.ndarray) -> tuple[float, float, float]:
    """The largest absolute values of d, of its slope, and of its second derivative."""
    k = k[: len(a)]
    phases = np.outer(k, _X)
    d, slope, curvature = a @ np.sin(phases), (a * k) @ np.cos(phases), (a * k**2) @ np.sin(phases)
    return float(np.abs(d).max()), float(np.abs(slope).max()), float(np.abs(curvature).max())


def _equivalent(C: float, a: np.ndarray, k: np.ndarray) -> float:
    d, slope, _ = _sizes(a, k)
    return np.nan if slope == 0 or C <= 0 else slope / d / C - 1


def _similar(C: float, a: np.ndarray, k: np.ndarray) -> float:
    """Close slopes give close values on all x within 1; and the way back, at the price of a second derivative.

    That way is the inequality of Landau and Hadamard, for functions on the whole line, as these are: d = x on an
    interval has a slope and no second derivative.
    """
    d, slope, curvature = _sizes(a, k)
    if slope == 0:
        return np.nan
    near = np.abs(a @ np.sin(np.outer(k[: len(a)], np.linspace(-1, 1, 101)))).max()
    return max(near / slope - 1, slope**2 / (2 * d * curvature) - 1)


state(Statement(
    "srdml-key-merit-1", DOCUMENT, "section 3.2, key merit 1", LESSON,
    ("$f_1, f_2$ are $C^1$ and zero at zero",),
    "To make input gradients similar is equivalent to making the functions similar: for some constant $C$, neither "
    "of "
    r"$\sup \lVert \nabla f_1 - \nabla f_2 \rVert$ and $\sup \lvert f_1 - f_2 \rvert$ is more than $C$ times the other",
    "false",
    "Theorem 1 speaks of equal gradients. Similar ones do give similar functions, where no walk from zero to a point "
    "of X need be long. But similar functions may have any gradients: a small, fast ripple changes values little and "
    "slopes much.",
    CounterExample({"C": 100, "k": 101}, lambda C, k: k - C),  # sin(k x): at most 1, and its slope at most k
    r"$\lvert f_1 - f_2 \rvert \le r \sup \lVert \nabla f_1 - \nabla f_2 \rVert$ at the end of a walk of length $r$ "
    "from zero, in X. The way back needs a bound on second derivatives: on the whole line (not on an interval: "
    "$d = x$) "
    r"$\sup d'^2 \le 2 \sup \lvert d \rvert \sup \lvert d'' \rvert$. So values $\epsilon$ allow slopes of order "
    r"$\sqrt\epsilon$, and there is no $C$ even so: $d = \sin(kx) / k^2$.",
    FUNCTIONS[1:],
    {"printed": Form(_waves, _equivalent), "repaired": Form(_waves, _similar)}))


# --- equations 2 to 4: omega, for networks that stand still, whose pairs of tasks are at distances d ------

def _pairs(random: np.random.Generator) -> Instance:
    tasks = random.integers(3, 6)
    size = tasks * (tasks - 1) // 2
    return {"d": random.uniform(0.1, 2, size), "omega": random.uniform(0.1, 2, size)}


def _multipliers(d: np.ndarray, omega: np.ndarray) -> float:
    """How much cheaper equation 3's best omega is than the multipliers of equation 2, which are all alike."""
    if (d <= 0).any() or (omega <= 0).any():
        return np.nan
    return float(omega.sum() * (d.mean() - d.min()))


def _improves(d: np.ndarray, omega: np.ndarray) -> float:
    """What twice as much weight on the closest pair gains."""
    if (d <= 0).any() or (omega <= 0).any():
        return np.nan
    more = omega * np.where(d == d.min(), 2, 1)
    return float(omega @ d / omega.sum() - more @ d / more.sum())


def _floor_improves(d: np.ndarray, omega: np.ndarray) -> float:
    """How much better omega is than what is best if each pair keeps half of an equal share."""
    floor = 0.5 / len(d)
    shares = floor + 0.5 * omega / omega.sum()
    return float(floor * d.sum() + 0.5 * d.min() - shares @ d)


state(Statement(
    "srdml-equation-3", DOCUMENT, "equations 2 and 3", LESSON,
    (r"$\omega_{ij} \ge 0$, $\sum_{i<j} \omega_{ij} \ge \beta$",),
    r"Equation 3 is equation 2 with Lagrange multipliers $\omega_{ij}$, and so learns a graph of how tasks are "
    r"related",
    "false",
    "The slack variables come down to one bound on the sum of all distances, whose multiplier is the same for each "
    "pair. Equation 3 is linear in omega, and gives all of beta to the closest pair.",
    CounterExample({"d": [1, 2, 3], "omega": [1, 1, 1]},
                   lambda d, omega: sum(w * x for w, x in zip(omega, d, strict=True)) - sum(omega) * min(d)),
    "Equal omega for all pairs; or relations with a floor or an entropy term, as lesson 16 has them.",
    ("No omega of a training run is a minimiser: it depends on its learning rate and on the number of steps.",),
    {"printed": Form(_pairs, _multipliers)}))

state(Statement(
    "srdml-equation-4", DOCUMENT, "equation 4", LESSON,
    (r"$\omega_{ij} > 0$",),
    r"There is an $\omega$ that minimises $\sum_{i<j} (\omega_{ij} / W)\, d_{ij}$ for networks that stand still",
    "missing assumption",
    "Unless all distances are equal, more weight on the closest pair is always better: the cost falls towards the "
    "least distance and never gets there.",
    CounterExample({"d": [1, 2], "omega": [1, 1]},  # 3/2; with (2, 1) it is 4/3, compared without division
                   lambda d, omega: (omega[0] * d[0] + omega[1] * d[1]) * (2 * omega[0] + omega[1])
                   - (2 * omega[0] * d[0] + omega[1] * d[1]) * (omega[0] + omega[1])),
    r"Each share $\omega_{ij} / W$ keeps at least some positive floor.",
    (),
    {"printed": Form(_pairs, _improves), "repaired": Form(_pairs, _floor_improves)}))


# --- lemma 1, and shallow methods -------------------------------------------------------------------------

def _matrices(random: np.random.Generator) -> Instance:
    m, n = random.integers(1, 6, size=2)
    return {"A": random.normal(size=(m, n)), "B": random.normal(size=(m, m)), "C": random.normal(size=(m, n))}


def _traces(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> float:
    pairs = sum(B[i, j] * (A[i] @ C[j]) for i in range(len(A)) for j in range(len(A)))
    return float(abs(np.trace(A.T @ B @ C) - pairs))


state(Statement(
    "srdml-lemma-1", DOCUMENT, "appendix A.2, lemma 1", LESSON,
    (r"$A, C \in \mathbb R^{m \times n}$, $B \in \mathbb R^{m \times m}$",),
    r"$\operatorname{tr}(A^\top B C) = \sum_{ij} B_{ij} \sum_k A_{ik} C_{jk}$",
    "holds",
    "The trace, written out; it is printed without a proof, and needs none. B need be neither symmetric nor "
    "positive. Rows of A and C are tasks: section 4.2, which has tasks as columns, cannot use it as it stands.",
    forms={"printed": Form(_matrices, _traces)}))


def _covariance(random: np.random.Generator) -> Instance:
    tasks = int(random.integers(2, 5))
    root = random.normal(size=(tasks, tasks))
    return {"sigma": root @ root.T + 0.1 * np.eye(tasks), "W": random.normal(size=(3, tasks))}


def _positive(sigma: np.ndarray) -> bool:
    return bool(np.allclose(sigma, sigma.T) and np.linalg.eigvalsh(sigma)[0] > 1e-9)


def _no_pairs(sigma: np.ndarray, W: np.ndarray) -> float:
    """What the first task's weights cost while the others have none; a sum over pairs of tasks says zero."""
    if not _positive(sigma):
        return np.nan
    alone = np.zeros_like(W)
    alone[0, 0] = 1.0
    pairs = as_pairs(np.linalg.inv(sigma))
    return 0.0 if pairs else Trace(sigma, "tasks").value(alone[None])


def _all_pairs(sigma: np.ndarray, W: np.ndarray) -> float:
    if not _positive(sigma):
        return np.nan
    pairs = (np.linalg.inv(sigma) / 2 * (W.T @ W)).sum()
    return float(abs(Trace(sigma, "tasks").value(W[None]) / pairs - 1))


def _graph(sigma: np.ndarray, W: np.ndarray) -> float:
    """Laplacians, which are no inverse covariances, against squared distances: |sigma| off its diagonal as omega."""
    omega = np.abs(sigma - np.diag(np.diag(sigma)))
    P = 2 * (np.diag(omega.sum(1)) - omega)
    found = as_pairs(P, "squared l2").omega
    apart = ((W[:, :, None] - W[:, None, :]) ** 2).sum(0)
    return float(abs((found * apart).sum() / 2 - np.trace(W @ P @ W.T) / 2)) if found is not None else np.inf


state(Statement(
    "srdml-shallow-tasks", DOCUMENT, "section 4.2 and appendix A.3, covariance of tasks", LESSON,
    ("The features are the inputs, and tasks are linear: saliencies are their weights $w_t$",
     "dist is the inner product",
     r"$\omega_{ij} \ge 0$, pairs $i < j$ (equations 3 and 4)"),
    r"For every covariance $\Sigma$ of tasks, $\tfrac12 \operatorname{tr}(W \Sigma^{-1} W^\top)$ is a regulariser "
    r"$\sum_{i<j} \omega_{ij} \langle w_i, w_j \rangle$",
    "false",
    "No pair i < j has what one task's weights cost alone, and each inverse covariance asks for that. With pairs i = "
    "i, which appendix A.3 counts, all entries of the inverse must still not be negative, which they are for tasks "
    "that are alike. Inner products are no distance, and have no least sum. (The section's trace has tasks as "
    "columns, where its order of factors fits only tasks as rows.)",
    CounterExample({"P": [[2, -1], [-1, 2]], "w": [1, 0]},  # one feature, tr(W P W^T); no omega enters
                   lambda P, w: sum(P[i][j] * w[i] * w[j] for i in (0, 1) for j in (0, 1)) if w[0] * w[1] == 0 else 0),
    r"With pairs $i = i$ and weights of any sign it is lemma 1. With squared distances and $\omega \ge 0$ the "
    "regularisers are those of graphs: their Laplacian is singular, and no inverse of a covariance.",
    ("Heads with a hidden layer have no weight vector.",),
    {"printed": Form(_covariance, _no_pairs), "repaired": Form(_covariance, _all_pairs),
     "graph": Form(_covariance, _graph)}))


def _one_task(theta: np.ndarray) -> float:
    """By how much two directions of one task's weights, equally long, differ in cost; a multiple of |w|^2 does not."""
    if not _positive(theta):
        return np.nan
    penalty = Trace(theta, "features")
    costs = [penalty.value(one[None, :, None]) for one in np.eye(len(theta))]
    return max(costs) - min(costs)


state(Statement(
    "srdml-shallow-features", DOCUMENT, "section 4.2 and appendix A.3, covariance of features", LESSON,
    ("The features are the inputs, and tasks are linear: saliencies are their weights $w_t$",
     "dist is the inner product",
     "pairs $i = i$ are counted too (appendix A.3)"),
    r"For every covariance $\Theta$ of features, $\tfrac12 \operatorname{tr}(W^\top \Theta^{-1} W)$ is a regulariser "
    r"$\sum_{ij} \omega_{ij} \langle w_i, w_j \rangle$",
    "false",
    "Of one task's weights alone the sum sees the length only, and the trace also the direction. Nor has the inverse "
    "of Theta, features by features, the shape of omega, tasks by tasks.",
    CounterExample({"P": [[1, 0], [0, 2]], "w": [1, 0], "v": [0, 1]},  # equally long, and of unequal cost
                   lambda P, w, v: abs(P[0][0] * w[0] ** 2 + P[1][1] * w[1] ** 2 - P[0][0] * v[0] ** 2
                                       - P[1][1] * v[1] ** 2) if w[0]**2 + w[1]**2 == v[0]**2 + v[1]**2 else 0),
    r"Only for $\Theta = c I$, which is ridge regression, and with pairs $i = i$.",
    ("Heads with a hidden layer have no weight vector.",),
    {"printed": Form(lambda random: {"theta": _covariance(random)["sigma"]}, _one_task),
     "repaired": Form(lambda random: {"theta": random.uniform(0.1, 2) * np.eye(int(random.integers(2, 5)))},
                      _one_task)}))


# --- hard and soft sharing --------------------------------------------------------------------------------

@lru_cache(maxsize=1)
def _two_networks() -> tuple[SRDML, HPS, Batch]:
    x = torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3)
    splits = {name: TensorSplit(x, {task: x[:, :1] for task in "ab"}) for name in ("train", "val", "test")}
    problem = Problem("two", [regression(task) for task in "ab"], **splits, input_shape=(3,),
                      encoder={"name": "mlp", "widths": [4], "head": [3], "activation": "softplus"})
    return SRDML(problem, strength=0).double(), HPS(problem).double(), next(problem.train.batches(5))


def _hard_sharing(seed: int) -> float:
    """How far predictions are apart for the same weights; infinite if there is a price besides."""
    srdml, hps, batch = _two_networks()
    random = torch.Generator().manual_seed(int(seed))
    theirs = [p for part in (srdml.shared, srdml.heads) for p in part.parameters()]
    with torch.no_grad():
        for one, other in zip(theirs, hps.parameters(), strict=True):
            one.normal_(generator=random)
            other.copy_(one)
    found, wanted = srdml(batch.inputs), hps(batch.inputs)
    if srdml.auxiliary_loss(batch, found) is not None:
        return np.inf
    return max((found[name] - wanted[name]).abs().max().item() for name in wanted)


state(Statement(
    "srdml-hard-sharing", DOCUMENT, "section 4.2 and appendix A.3, case 1", LESSON,
    (r"$\lambda = 0$", "the layers before $\\ell$ are shared, $1 < \\ell < L$"),
    "The method is hard parameter sharing",
    "holds",
    "It is what is left of the objective without the regulariser. The check compares this package's two classes.",
    forms={"printed": Form(lambda random: {"seed": int(random.integers(2**31))}, _hard_sharing)}))


def _hidden(random: np.random.Generator) -> Instance:
    units = random.integers(2, 5)
    return {"w": random.normal(size=(units, 2)), "a": random.normal(size=units), "x": random.normal(size=(4, 2))}


def _gradients(w: np.ndarray, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of `sum_k a_k tanh(w_k . x)` at each x."""
    return (a * (1 - np.tanh(x @ w.T) ** 2)) @ w


def _swapped(w: np.ndarray, a: np.ndarray, x: np.ndarray) -> float:
    """What a price on parameters is for such a network and its units in reverse; NaN if the functions differ."""
    apart = np.abs(_gradients(w, a, x) - _gradients(w[::-1], a[::-1], x)).max()
    return float(((w - w[::-1]) ** 2).sum() + ((a - a[::-1]) ** 2).sum()) if apart < 1e-12 else np.nan


def _linear_swapped(w: np.ndarray, a: np.ndarray, x: np.ndarray) -> float:
    """For linear models, whose gradients are their weights, both prices are one: the first two units as models.

    Gradients are taken as differences, which for linear functions is exact up to rounding.
    """
    slopes = np.array([(x + step) @ (w[0] - w[1]) - x @ (w[0] - w[1]) for step in np.eye(2)])
    return float(abs(np.linalg.norm(slopes, axis=0).mean() - np.linalg.norm(w[0] - w[1])))


state(Statement(
    "srdml-soft-sharing", DOCUMENT, "section 4.2 and appendix A.3, case 2", LESSON,
    (r"$\lambda > 0$", r"$\ell = 1$: no layer is shared",
     "soft sharing, as section 2 describes it: own networks, and a penalty that aligns their parameters"),
    "The method is equivalent to soft parameter sharing",
    "false",
    "False where soft sharing means a price on distances of parameters: two networks with the same hidden units in "
    "another order cost nothing here, and are far apart there. Section 3.2 argues just so for its method. In section "
    "1's wide sense of soft sharing, own networks that some penalty relates, the claim is true by definition.",
    CounterExample({"one": [1, 2], "other": [2, 1]},  # the weights of two ReLU units, which are added
                   lambda one, other: sum((v - w) ** 2 for v, w in zip(one, other, strict=True))
                   if sorted(one) == sorted(other) else 0),
    "Soft sharing in the wide sense; or linear models without hidden layers or biases, whose gradients are their "
    "parameters.",
    (),
    {"printed": Form(_hidden, _swapped), "repaired": Form(_hidden, _linear_swapped)}))


# --- lemma 2: d = f_1 - f_2 has the gradient u at x, and values u . v along a unit vector v -------------------

def _slopes(random: np.random.Generator) -> Instance:
    u, v, w = random.normal(size=(3, random.integers(1, 4)))
    return {"u": u, "v": v, "w": w, "B": float(np.linalg.norm(u) * (1 + random.exponential()))}


def _one_limit(u: np.ndarray, v: np.ndarray, w: np.ndarray, B: float) -> float:
    """How far the quotients along v and along w are apart, or, where they agree, above B."""
    if not (v.any() and w.any() and np.linalg.norm(u) < B):
        return np.nan
    along = [abs(u @ one) / np.linalg.norm(one) for one in (v, w)]
    return float(max(abs(along[0] - along[1]), along[0] - B))


def _largest_limit(u: np.ndarray, v: np.ndarray, w: np.ndarray, B: float) -> float:
    along = [abs(u @ one) / np.linalg.norm(one) for one in (v, w, u) if one.any()]
    return float(max(along)) - B if np.linalg.norm(u) < B else np.nan


state(Statement(
    "srdml-lemma-2", DOCUMENT, "appendix A.2, lemma 2", LESSON,
    ("$f_1, f_2$ are differentiable at $x$", r"$\lVert \nabla f_1(x) - \nabla f_2(x) \rVert < B$"),
    r"$\lim_{\Delta x \to 0} \bigl\lvert (f_1(x + \Delta x) - f_1(x)) / \lVert \Delta x \rVert - (f_2(x + \Delta x) - "
    r"f_2(x)) / \lVert \Delta x \rVert \bigr\rvert < B$",
    "misprint",
    "From two or more dimensions on the quotient depends on the direction in which the step shrinks, and has no "
    "limit unless the gradients agree. Its largest limit is the length of their difference, and that is below B. It "
    "is a statement about one point: to compare values far apart, one needs a path between them.",
    CounterExample({"u": [1, 0], "v": [1, 0], "w": [0, 1]},  # unit steps
                   lambda u, v, w: abs(abs(u[0] * v[0] + u[1] * v[1]) - abs(u[0] * w[0] + u[1] * w[1]))),
    r"$\limsup$ for $\lim$.",
    FUNCTIONS[:2],
    {"printed": Form(_slopes, _one_limit), "repaired": Form(_slopes, _largest_limit)}))
