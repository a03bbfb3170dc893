"""What "Saliency-Regularized Deep Multi-Task Learning" says of expected losses: section 4.1, appendix A.2 and E.

Imports this folder's `bounds` and `statements`. Theorem 2 fails where networks learn by heart. Inputs are drawn from
so many places that no sample shows more than a few, labels are always 1, and the loss is the distance to them. One
network says 7/8 everywhere, and is the best there is: it loses 1/8. The others say 1 on as many places as there are
samples, or fewer, and 0 elsewhere, and one of them loses nothing in training. All tasks have the same head, so that
the regulariser is zero.
"""

from decimal import Decimal
from fractions import Fraction
from functools import partial

import numpy as np

from .bounds import linear_heads_bound, saliency_bound
from .statements import CounterExample, Form, Instance, Statement, state

DOCUMENT = "Saliency-Regularized Deep Multi-Task Learning"
LESSON = "06"
DELTA = 0.05
MODEST = 0.125  # what the network loses that has learned nothing by heart


# --- assumption 1, definitions ----------------------------------------------------------------------------

def _loss(prediction: float, target: float) -> float:
    """In [0, 1], and with Lipschitz constant 1."""
    return min(abs(prediction - target), 1.0)


def _predictions(random: np.random.Generator) -> Instance:
    y, other, target = random.normal(size=3)
    return {"y": float(y), "other": float(other), "target": float(target)}


state(Statement(
    "srdml-assumption-1", DOCUMENT, "assumption 1", LESSON,
    (),
    r"The loss has values in $[0, 1]$, and Lipschitz constant 1 in its first argument, that is, $L(y, y') \le y$ for "
    r"all $y'$",
    "misprint",
    "The words say what is meant. The formula says something else: with values that are not negative it would make "
    "the loss of the prediction 0 zero for every label.",
    CounterExample({"y": 0, "target": 1}, lambda y, target: min(abs(y - target), 1) - y),
    r"$\lvert L(y, y') - L(z, y') \rvert \le \lvert y - z \rvert$ for all $y, z, y'$.",
    ("Cross-entropy and squared errors are not bounded.",),
    {"printed": Form(_predictions, lambda y, other, target: _loss(y, target) - y),
     "repaired": Form(_predictions, lambda y, other, target:
                      abs(_loss(y, target) - _loss(other, target)) - abs(y - other))}))


def _losses(random: np.random.Generator) -> Instance:
    """A table of losses, a row a task and a column a place, and how likely the places are."""
    places = random.dirichlet(np.ones(3), size=random.integers(1, 4))
    return {"losses": random.uniform(size=places.shape), "p": places}


def _mean_of_two(losses: np.ndarray, p: np.ndarray) -> float:
    """The expected empirical risk of two samples a task, summed over all pairs of places, less the expected risk."""
    if (p < 0).any() or not np.allclose(p.sum(1), 1):
        return np.nan
    pairs = sum(p[:, i] * p[:, j] * (losses[:, i] + losses[:, j]) / 2 for i in range(3) for j in range(3))
    return float(abs(pairs.mean() - (p * losses).sum(1).mean()))


state(Statement(
    "srdml-definition-1", DOCUMENT, "definition 1", LESSON,
    ("all tasks have $n$ samples",),
    "Expected and empirical risk: the mean over tasks of the expected loss, and of the mean loss on samples, whose "
    "expectation, for functions that are chosen before, it is",
    "holds",
    "Well-defined and used consistently. Each task counts alike; with unequal numbers of samples the product n T of "
    "theorem 2 is to be read anew.",
    networks=("Tasks have unequal numbers of labels.",),
    forms={"printed": Form(_losses, _mean_of_two)}))


def _ramp(L: float, width: float) -> float:
    """The risk of a ramp with slope L from zero to 1, rounded over `width`, for x uniform in [0, 1] and labels 1."""
    return 1 / (2 * L) + L * width**2 / 24 if L > 0 and 0 < width and 1 / L + width / 2 <= 1 else np.nan


def _ramps(random: np.random.Generator) -> Instance:
    return {"L": float(random.uniform(1.5, 3)), "width": float(random.uniform(0.1, 0.6))}


state(Statement(
    "srdml-definition-2", DOCUMENT, "definition 2", LESSON,
    ("the heads are $C^1$, zero at zero, and have Lipschitz constant $L$",),
    r"There are functions that minimise the expected risk over $\mathcal H$ and $\mathcal F_\epsilon(\alpha)$",
    "missing assumption",
    "Limits of C^1 functions have corners. If all labels are 1, and inputs uniform in [0, 1], the best function "
    "rises with slope L to 1 and stays there; rounding the corner less is always better.",
    CounterExample({"L": 2, "width": Fraction(1, 2)}, lambda L, width: L * (width**2 - (width / 2) ** 2) / 24),
    "Let the two minima be infima, and the two solutions come as close to them as one likes.",
    ("Training does not reach minimisers, of the empirical risk either.",),
    {"printed": Form(_ramps, lambda L, width: _ramp(L, width) - _ramp(L, width / 2)),
     "repaired": Form(lambda random: {**_ramps(random), "epsilon": float(random.uniform(0.001, 0.01))},
                      lambda L, width, epsilon: _ramp(L, (24 * epsilon / L) ** 0.5) - 1 / (2 * L) - epsilon)}))

_ANGLES = np.linspace(0, 2 * np.pi, 256, endpoint=False)
_CIRCLE = np.array([np.cos(_ANGLES), np.sin(_ANGLES)])


def _planar_average(V: np.ndarray) -> float:
    """The Gaussian average of points in the plane: the mean length of gamma, times the mean height over directions."""
    return float(np.sqrt(np.pi / 2) * (V @ _CIRCLE).max(0).mean())


def _unmoved(V: np.ndarray, shift: np.ndarray, mix: np.ndarray) -> float:
    """Below zero, or changed by moving all points, or by adding a mixture of them."""
    G, mixture = _planar_average(V), mix[: len(V)] / mix[: len(V)].sum() @ V
    return max(-G, abs(_planar_average(V + shift) - G), abs(_planar_average(np.vstack([V, mixture])) - G))


state(Statement(
    "srdml-definition-3", DOCUMENT, "definition 3", LESSON,
    ("$V$ is bounded",),
    r"The Gaussian average $G(V) = \mathbb E \sup_{v \in V} \langle \gamma, v \rangle$: not negative, zero for one "
    r"point, and "
    "the same for $V$ moved, and for its convex hull",
    "holds",
    "Well-defined, without absolute values and not divided by the number of samples, which theorem 2 does. In the "
    "plane it is the perimeter of the hull times a constant.",
    forms={"printed": Form(lambda random: {"V": random.normal(size=(random.integers(1, 6), 2)),
                                           "shift": random.normal(size=2), "mix": random.uniform(0.1, 1, size=5)},
                           _unmoved)}))

state(Statement(
    "srdml-definition-4", DOCUMENT, "definition 4", LESSON,
    (),
    r"$\mathcal H(X) = \{ (h_k(x_{ti})) : h \in \mathcal H \}$ and its Gaussian average, given the inputs",
    "holds",
    "Well-defined: a set of vectors with a number for each feature, task and sample. Theorem 2 repeats it without "
    "the k of h_k. It is the average of the feature maps alone: what heads can do on top of them is nowhere in it."))


# --- theorem 2 --------------------------------------------------------------------------------------------

def _by_heart(random: np.random.Generator) -> Instance:
    tasks, n = random.integers(2, 6), random.integers(60, 200)
    places = 100 * n * tasks
    return {"x": random.integers(places, size=(tasks, n)), "places": int(places), "delta": DELTA}


def _excess_by_heart(x: np.ndarray, places: int, delta: float) -> float:
    """What the network that was trained loses in expectation more than the best, less the bound.

    One feature map, so that the Gaussian average is zero, and equal heads, so that B is as small as one likes. No
    universal constant matters, then.
    """
    tasks, n = x.shape
    known = len(np.unique(x))
    trained = 1 - known / places  # its training loss is 0, and that of the modest network 1/8
    best = min(MODEST, 1 - n * tasks / places)
    graph = np.ones((tasks, tasks))
    return trained - best - saliency_bound(n, delta, 0.0, 1.0, graph, B=0.0, L=1.5, c1=1.0, c2=1.0)


def _linear(random: np.random.Generator) -> Instance:
    """A few linear heads on places with random features and labels, or networks that learn by heart, as linear ones."""
    tasks, n = random.integers(2, 4), random.integers(5, 300)
    if random.random() < 0.5:
        places = 20
        n, x = 5, random.integers(places, size=(tasks, 5))
        features = np.hstack([np.ones((places, 1)), np.eye(places)])
        modest, heart = np.zeros((2, places + 1))
        modest[0], heart[1 + x] = 1 - MODEST, 1
        heads = np.repeat(np.array([modest, heart])[:, :, None], tasks, axis=2)
        labels = np.ones((tasks, places))
    else:
        features = random.normal(size=(30, 2))
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1)
        heads = random.normal(size=(20, 2, 1)) + random.exponential() * random.normal(size=(20, 2, tasks))
        x, labels = random.integers(30, size=(tasks, n)), random.integers(2, size=(tasks, 30)).astype(float)
    return {"features": features, "labels": labels, "heads": heads, "x": x, "delta": DELTA}


def _excess_linear(features: np.ndarray, labels: np.ndarray, heads: np.ndarray, x: np.ndarray, delta: float) -> float:
    tasks, n = x.shape
    losses = np.minimum(np.abs(np.einsum("pk,hkt->htp", features, heads) - labels), 1)
    risks = losses.mean((1, 2))
    seen = np.mean([losses[:, t, x[t]].mean(1) for t in range(tasks)], axis=0)
    apart = ((heads[:, :, :, None] - heads[:, :, None, :]) ** 2).sum((1, 2, 3))  # omega is 1 for each pair
    bound = linear_heads_bound(n, delta, float(np.linalg.norm(features[x])), np.ones((tasks, tasks)),
                               B=float(np.sqrt(apart.max())), L=float(np.linalg.norm(heads, axis=1).max()))
    return float(risks[seen.argmin()] - risks.min() - bound)


def _opposed(random: np.random.Generator) -> Instance:
    c2 = float(random.uniform(1, 10))
    return {"c2": c2, "n": int(400 * c2**2 * random.uniform(1, 2)), "delta": DELTA}


def _excess_opposed(c2: float, n: int, delta: float) -> float:
    """Two tasks with opposed linear heads and labels, so that nothing is common: the printed order of the middle term.

    Features are (1, 1 at the place). The head that knows a sample has length sqrt(2 n), and the other task's is
    its negative. B^2 is twice the square of their distance, and all features together are sqrt(4 n) long.
    """
    excess = 1 - 2 * n / (200 * n) - MODEST
    length = (2 * n) ** 0.5
    return excess - saliency_bound(n, delta, 0.0, (4 * n) ** 0.5, [[0, 1], [1, 0]], B=2 * 2**0.5 * length, L=length,
                                   c1=1.0, c2=c2)


def _excess_with_zero(c1: int, samples: int, places: int, delta: Fraction) -> Decimal:
    """The same with the zero map in H, as the bound's sources assume, and heads of Lipschitz constant 3.

    Features are one unit vector a place, heads are bumps of width 0.7 around those they know, and are zero at zero.
    Then G is `sqrt(samples / (2 pi))`, and pi > 3.
    """
    excess = Decimal(7) / 8 - Decimal(samples) / places
    representation = 3 * c1 / (6 * Decimal(samples)).sqrt()
    confidence = (8 * (4 / Decimal(delta.numerator) * delta.denominator).ln() / samples).sqrt()
    return excess - representation - confidence


state(Statement(
    "srdml-theorem-2", DOCUMENT, "theorem 2", LESSON,
    ("losses in $[0, 1]$ with Lipschitz constant 1",
     r"heads in $\mathcal F_\epsilon(\alpha)$ with Lipschitz constant $L$",
     r"$\sum_{ij} \omega_{ij}\, \mathrm{dist}^2(\nabla f_i, \nabla f_j) \le B^2$", "$n$ independent samples a task"),
    r"With probability $1 - \delta$, the trained network's expected risk is above the best of its class by at most "
    r"$c_1 L\, G(\mathcal H(X)) / (nT) + c_2 B \lambda_{\min}^{-1/2} \sup_h \lVert h(X) \rVert / (n \sqrt{nT}) + "
    r"\sqrt{8 \ln(4 / \delta) / (nT)}$",
    "false",
    "The regulariser sees how heads differ; what all have in common costs nothing in the bound, and can learn by "
    "heart. With equal heads B is zero, with one feature map so is G, and the rest falls with n T for any class of "
    "heads. Nor does lambda_min, the smallest eigenvalue that is not zero, see that a graph falls apart; and with "
    "opposed heads, which have nothing in common, n sqrt(n T) is too large (form `opposed`). L is the Lipschitz "
    "constant in the first term, and the Laplacian in the text below. The proof is not in the paper but behind a "
    "link.",
    CounterExample({"c1": 100, "samples": 10**6, "places": 10**8, "delta": Fraction(1, 20)}, _excess_with_zero),
    "Linear heads, and what they have in common paid for: the middle term "
    r"$c_2 \min(L \sqrt T, L + B / \sqrt{2 \lambda_2}) \sup_h \lVert h(X) \rVert / (nT)$ with the second smallest "
    r"eigenvalue $\lambda_2$ (where it is 0, the quotient is infinite). The regulariser then makes the term up to "
    r"$\sqrt T$ times smaller, and never smaller than for one task that has all samples.",
    ("Losses are not bounded, and training does not reach minimisers.",
     "Heads with hidden layers of any width have no such bound in L and B alone: they can learn by heart.",
     "omega is learned from the same data, and heads are compared on samples only."),
    {"printed": Form(_by_heart, _excess_by_heart, DELTA), "repaired": Form(_linear, _excess_linear, DELTA),
     "opposed": Form(_opposed, _excess_opposed, DELTA)}))


# --- remarks to theorem 2, and appendix E -----------------------------------------------------------------

def _two_maps(random: np.random.Generator) -> Instance:
    n = random.integers(1, 20)
    return {"h": random.normal(size=(n, 2)), "other": random.normal(size=(n, 2))}


def _average(apart: np.ndarray) -> float:
    """`G / n` of two feature maps that are so far apart on n samples."""
    return float(np.linalg.norm(apart) / np.sqrt(2 * np.pi) / len(apart))


def _four_times(order: float, h: np.ndarray, other: np.ndarray) -> float:
    """By how much that is above `4 ** -order` of itself with every sample four times."""
    return _average(np.tile(h - other, (4, 1))) - _average(h - other) / 4**order


state(Statement(
    "srdml-remark-first-term", DOCUMENT, "remark 1) on theorem 2", LESSON,
    (),
    "The first term is typically of order $1 / n$",
    "false",
    "G of two maps is their distance on the samples, divided by sqrt(2 pi), and that grows like sqrt(n) if they "
    "differ on a fixed share of the inputs. With any class that has two such maps the term falls no faster than 1 / "
    "sqrt(n).",
    CounterExample({"n": 1, "times": 4},  # maps 0 and 1: 2 pi (G / n)^2 = 1 / n, and a quarter of the term is asked for
                   lambda n, times: Fraction(1, times * n) - Fraction(1, n) / times**2),
    r"Of order $1 / \sqrt{n}$ at best (in tasks and samples, $1 / \sqrt{nT}$).",
    (),
    {"printed": Form(_two_maps, partial(_four_times, 1.0)), "repaired": Form(_two_maps, partial(_four_times, 0.5))}))


def _middle(order: float, n: int, tasks: int, B: float) -> float:
    """How far the middle term with four times as many samples is from half of it, for features of length 1."""
    term, more = (B * (samples * tasks) ** 0.5 / samples**order / tasks**0.5 for samples in (n, 4 * n))
    return abs(more / term - 0.5) if B > 0 else np.nan


def _samples(random: np.random.Generator) -> Instance:
    return {"n": int(random.integers(1, 100)), "tasks": int(random.integers(2, 6)), "B": float(random.uniform(0.1, 2))}


state(Statement(
    "srdml-remark-middle-term", DOCUMENT, "remark 2) on theorem 2, its order", LESSON,
    (),
    r"The middle term, with $n \sqrt{nT}$ below it, is typically of order $1 / \sqrt n$",
    "misprint",
    "The features of all samples together are sqrt(n T) long if each is 1 long, so that the printed term is of order "
    "1 / n. The order of the remark goes with n sqrt(T), as in the bound for unrelated tasks that the theorem "
    "follows, and it is right: the printed order is refuted (theorem 2, form `opposed`).",
    CounterExample({"n": 1, "times": 4}, lambda n, times: abs(Fraction(n, times * n) - Fraction(1, 2))),
    r"$n \sqrt T$ for $n \sqrt{nT}$.",
    (),
    {"printed": Form(_samples, partial(_middle, 1.5)), "repaired": Form(_samples, partial(_middle, 1.0))}))


def _two_sizes(random: np.random.Generator) -> Instance:
    tasks = random.integers(2, 6)
    omega = np.triu(random.uniform(size=(tasks, tasks)), 1)
    return {"omega": omega + omega.T, "B": np.sort(random.exponential(size=2)), "n": int(random.integers(1, 1000))}


def _rises(omega: np.ndarray, B: np.ndarray, n: int) -> float:
    """By how much the bound with the smaller B is above the other, printed or repaired."""
    small, large = ([saliency_bound(n, DELTA, 1.0, 1.0, omega, b, 1.0, 1.0, 1.0, form) for b in B]
                    for form in ("printed", "repaired"))
    return max(small[0] - small[1], large[0] - large[1]) if omega.any() and 0 <= B[0] <= B[1] else np.nan


state(Statement(
    "srdml-remark-regulariser", DOCUMENT, "remark 2) on theorem 2, in bold", LESSON,
    ("B and $\\omega$ belong to the class, and are chosen before the data are seen",),
    "The smaller the regulariser, the smaller B may be, and the smaller is the second term",
    "holds",
    "So it is in the formula, and in the repaired one, where what is left at B = 0 is what one task with all samples "
    "costs. "
    "It says nothing about the regulariser of the network that came out: its B is not the class's.",
    networks=("The regulariser is a penalty, and no bound on it was fixed before training.",),
    forms={"printed": Form(_two_sizes, _rises)}))

state(Statement(
    "srdml-remark-constants", DOCUMENT, "remark 1) on theorem 2, the last term", LESSON,
    (),
    "$c_1$ and $c_2$ are rather large, so that the last term counts for little",
    "cannot be checked",
    "No values of c_1 and c_2 are given, here or in the source that is named. (With one feature map and equal heads "
    "the last term is all that is left.)"))


def _two_tasks(random: np.random.Generator) -> Instance:
    return {"slopes": random.uniform(-0.5, 0.5, size=2), "alpha": np.sort(random.uniform(0, 1, size=2))}


def _tied(slopes: np.ndarray, alpha: np.ndarray) -> float:
    """How much more two linear tasks `y = slope x`, x = 1 or -1, lose if heads may differ less, trained and tested."""
    if not 0 <= alpha[0] <= alpha[1]:
        return np.nan
    tight, loose = (max(abs(slopes[0] - slopes[1]) - a, 0) / 2 for a in alpha)
    return float(tight - loose)


def _tied_enough(slopes: np.ndarray, alpha: np.ndarray) -> float:
    return _tied(slopes, alpha) if alpha[0] >= abs(slopes[0] - slopes[1]) else np.nan


state(Statement(
    "srdml-remark-guarantee", DOCUMENT, "section 4.1, remark 2) on theorem 2, and remark 1 of appendix E", LESSON,
    (),
    "The regulariser can help to reduce the generalisation error, and theorem 2 guarantees the performance on the "
    r"test set. Read as error on new data: it is no larger for a smaller $\alpha$ or $B$",
    "false",
    "Read as the distance to the best of the class, which the remarks name first, the bound does fall with B. "
    "Error on new data is something else, for a smaller class has a best that may be worse: with two opposed tasks, "
    "y = x/2 and y = -x/2 for x = 1 or -1, no noise and all the data one likes, equal heads answer 0 and lose 1/2, "
    "and free ones lose nothing.",
    CounterExample({"slopes": [Fraction(1, 2), Fraction(-1, 2)], "alpha": [0, 1]},
                   lambda slopes, alpha: max(slopes[0] - slopes[1] - alpha[0], 0)
                   - max(slopes[0] - slopes[1] - alpha[1], 0)),
    r"As long as $\alpha$ leaves room for the tasks' own best heads.",
    ("How far tasks are apart is not known before.",),
    {"printed": Form(_two_tasks, _tied), "repaired": Form(_two_tasks, _tied_enough)}))


def _shared_inputs(random: np.random.Generator) -> Instance:
    """One draw of inputs for all tasks, where the right one of two functions is right with probability 3/5."""
    n = int(random.choice([1, 3, 5]))
    return {"misled": random.random(n) < 0.4, "tasks": int(random.integers(1000, 5000)), "delta": DELTA}


def _misled(misled: np.ndarray, tasks: int, delta: float) -> float:
    """What the choice loses more than the right one, less the bound: two functions, the same for all tasks."""
    excess = 0.2 if misled.mean() > 0.5 else 0.0
    return excess - float(np.sqrt(8 * np.log(4 / delta) / (len(misled) * tasks)))


def _misled_once(misled: np.ndarray, tasks: int, delta: float) -> float:
    return _misled(misled, 1, delta)


def _refuted_once(wrong: Fraction, excess: Fraction, samples: int, delta: Fraction) -> Decimal:
    """How much likelier than delta the wrong choice is, or by how much it is above the bound: the less of the two."""
    confidence = (8 * (Decimal(4 * delta.denominator) / delta.numerator).ln() / samples).sqrt()
    decimal = [Decimal(f.numerator) / f.denominator for f in (wrong - delta, excess)]
    return min(decimal[0], decimal[1] - confidence)


state(Statement(
    "srdml-remark-shared-inputs", DOCUMENT, "remark 2 of appendix E", LESSON,
    ("all tasks have the same inputs",),
    "Theorem 2 covers tasks that share one set of inputs, as a case in which all measures are equal",
    "false",
    "Equal measures are a special case; one draw for all tasks is not. The theorem's samples are independent, and "
    "tasks that see the same n inputs have no more evidence for more tasks: its last term falls with n T, and the "
    "error only with n.",
    CounterExample({"wrong": Fraction(2, 5), "excess": Fraction(1, 5), "samples": 1000, "delta": Fraction(1, 20)},
                   _refuted_once),  # one input, a thousand tasks: wrong with probability 2/5
    r"$n$ for $nT$ in the last term, and $\sqrt T$ times the two others, which is what averages over tasks that "
    r"share "
    "their noise can come to.",
    ("Problems here whose tasks share their inputs are such.",),
    {"printed": Form(_shared_inputs, _misled, DELTA), "repaired": Form(_shared_inputs, _misled_once, DELTA)}))
