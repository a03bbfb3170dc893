"""Deep Safe Multi-Task Learning: what it says of expected losses, and what its bounds are made of.

Imports `bounds`, `gaussian`, `statements`, `worlds`. The forms try the bounds on `Tables`, where the only decoder is
the identity: there Q = 0, and the constant C1, which the paper leaves open, is sqrt(2 pi), or twice that for the
difference of two networks. A bound that is loose is never violated, so each has two forms beside it, each without
one of its terms: that these fail says the terms are needed; that the whole does not says little about its constants.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial

import numpy as np

from .bounds import Bound, excess_risk, rho, uniform_deviation, uniform_gaussian
from .deep_safe import DOCUMENT, OPTIMA
from .gaussian import gaussian_average_linear, linear_q
from .statements import CounterExample, Form, Instance, Statement, state
from .worlds import Tables, drawn_tables

DELTA = 0.05
ROOT = math.sqrt(2 * math.pi)
SAMPLES, POINTS = 400, 1200
ASSUMED = ("Assumption 1.", "Independent samples, n in each task.", "Decoders with one output, as they are printed.")
BROKEN = ("losses lie in [0, 1]: cross-entropy and L1 losses do not", "features are bounded for all parameters at once",
          "h(0) = 0: decoders have biases", "independent samples: pixels, or canvases made of the same digits")
VECTORS = (
    "For decoders with several outputs nothing changes: the comparison of Gaussian processes needs no factor there, "
    "unlike that of Rademacher averages."
)


def _tables(tasks: int) -> Callable[[np.random.Generator], Instance]:
    """Tables for 1 to `tasks` tasks, from one free point to all of them, and a sample."""
    def draw(random: np.random.Generator) -> Instance:
        free = POINTS if random.random() < 0.25 else int(POINTS ** random.random())
        return {**vars(drawn_tables(random, int(random.integers(1, tasks + 1)), SAMPLES, POINTS, free))}
    return draw


def _forms(truth: Callable[[Tables], float], bound: Callable[[Tables], Bound], tasks: int = 2) -> dict[str, Form]:
    """The bound as it is printed, and without each of its two terms."""
    def form(*dropped: str) -> Form:
        def excess(**instance) -> float:
            tables = Tables(**instance)
            terms = bound(tables).terms
            return truth(tables) - sum(value for name, value in terms.items() if name not in dropped)
        return Form(_tables(tasks), excess, allowed=DELTA)

    return {"printed": form(), "without the Gaussian term": form("gaussian"),
            "without the confidence term": form("confidence")}


def harm(tables: Tables) -> float:
    """`E + epsilon - E^STL`, the largest for any two networks that are optimal on the sample; means over tasks."""
    (sample, expected), (sample_stl, expected_stl) = tables.dsmtl, tables.stl
    return expected + (sample_stl - sample) - expected_stl


def _rho(tables: Tables) -> Bound:
    return rho(tables.n, DELTA, tables.gaussian, 0.0, 2 * ROOT, 0.0, m=tables.m)


# --- assumption 1, theorems 6 and 7, remark 8 ---------------------------------------------------------------

def _constants(random: np.random.Generator) -> Instance:
    """A loss that takes any values at the predictions 0, 1, ..., K, at each of 50 labels, and a sample of labels."""
    psi = random.integers(0, 2, size=(random.integers(2, 21), 50)).astype(float)
    return {"psi": psi, "counts": random.multinomial(SAMPLES, np.full(50, 1 / 50))}


def _with_constants(psi: np.ndarray, counts: np.ndarray) -> float:
    """Theorem 7 for constant decoders h = 0, ..., K with the term G(H(0)) that (iv) saves, here K sqrt(n / 2 pi)."""
    n, K = counts.sum(), len(psi) - 1
    return float((psi @ (1 / 50 - counts / n)).max()) - uniform_gaussian(int(n), DELTA, K * math.sqrt(n) / ROOT)


def _all_subsets(counts: np.ndarray) -> float:
    """The same for a constant decoder for each subset of the labels, whose loss is 1 there, without the term."""
    n = int(counts.sum())
    return float(np.maximum(1 / len(counts) - counts / n, 0.0).sum()) - uniform_gaussian(n, DELTA, 0.0)


state(Statement(
    "dsmtl-assumption-1", DOCUMENT, "assumption 1", "03", (),
    "Losses in [0, 1], 1-Lipschitz in the prediction; encoders uniformly bounded; decoders Lipschitz; and (iv) $0\\in"
    "\\mathcal{F}$, $h(0)=0$, which is said to be not essential.",
    "holds",
    r"Without (iv) the bounds have one more term, $\sqrt{2\pi}\,\min_zG(\mathcal{H}(z))/(mn)$; leaving (iv) out and "
    "the term too makes theorem 7 false (form *without (iv)*: constant decoders have Q = 0 and can fit anything). "
    "That the decoders need one Lipschitz constant in common is not said and does no harm: where Q is finite they "
    r"have one, at most that of a single decoder plus $\sqrt{2\pi}\,Q$.",
    networks=BROKEN,
    forms={"printed": Form(_constants, _with_constants, allowed=DELTA),
           "without (iv)": Form(lambda random: {"counts": random.multinomial(SAMPLES, np.full(POINTS, 1 / POINTS))},
                                _all_subsets, allowed=DELTA)}))

state(Statement(
    "dsmtl-theorem-6", DOCUMENT, "theorem 6", "03",
    (r"Functions $\vartheta=(\vartheta_1,\dots,\vartheta_m)$ with values in $[0,1]^m$ (printed: $[0,1]^\top$).",
     "Independent samples, n in each task."),
    r"With probability $1-\delta$, for all members of the class at once, "
    r"$\frac1m\sum_t(\mathbb{E}\vartheta_t-\frac1n\sum_i\vartheta_t(x_t^i))\le\frac{\sqrt{2\pi}\,G(Z)}{mn}+"
    r"\sqrt{\frac{9\ln(2/\delta)}{2mn}}$.",
    "holds",
    "The paper gives no proof; the standard one has these constants. McDiarmid for the supremum, which one sample "
    r"changes by 1/(mn), and for twice the Rademacher average, by 2/(mn), at $\delta/2$ each: "
    r"$(1+2)\sqrt{\ln(2/\delta)/(2mn)}$. Symmetry costs the factor 2, and Rademacher is at most $\sqrt{\pi/2}$ times "
    "Gaussian. More is true: the supremum minus twice the Rademacher average has no positive mean, and one sample "
    r"changes it by 3/(mn), so McDiarmid once gives $\ln(1/\delta)$ for $\ln(2/\delta)$. *For all* belongs inside the "
    "probability, else theorem 7 could not put in networks that depend on the sample.",
    networks=(BROKEN[0], BROKEN[3]),
    forms=_forms(lambda tables: tables.deviation(gated=False),
                 lambda tables: uniform_gaussian(tables.n, DELTA, tables.gaussian_of_losses, m=tables.m))))


def _gates(random: np.random.Generator) -> Instance:
    """Outputs of 3 encoders with 2 features on 2 samples of 2 or 3 tasks, and a draw of gamma."""
    shape = (int(random.integers(2, 4)), 2, 2)
    return {"encoders": random.normal(size=(3, *shape)), "gamma": random.normal(size=shape)}


def _gates_add_nothing(encoders: np.ndarray, gamma: np.ndarray) -> float:
    """The distance of sup <gamma, s> over all public encoders, private encoders and gates from that without gates."""
    products = np.einsum("ktiq,tiq->tk", encoders, gamma)  # task, encoder
    gated = max(sum(max(a * task[shared] + (1 - a) * own for own in task for a in (0.0, 0.25, 0.5, 1.0))
                    for task in products) for shared in range(len(encoders)))
    return abs(gated - products.max(axis=1).sum())


state(Statement(
    "dsmtl-theorem-7", DOCUMENT, "theorem 7, equation 11", "03", ASSUMED,
    r"With probability $1-\delta$, for all networks of the class, $\mathcal{E}-L\le\frac{C_1G(\mathcal{F}(\bar "
    r"X))}{mn}+\frac{C_2Q}{\sqrt n}+\sqrt{\frac{9\ln(2/\delta)}{2mn}}$, $L$ the loss on the sample.",
    "holds",
    r"Line by line, with $C_1=c_1M\sqrt{2\pi}$ and $C_2=2c_2R\sqrt{2\pi}$: constants in n, m and delta, not in the "
    r"class. The step that looks doubtful, $G(\mathcal{K})=G(\mathcal{F}(\bar X))$ for gated encoders, is right for "
    r"any class: for a given $\gamma$ a mixture is at most the better of its parts, and for each task its own encoder "
    "is as good as the public one. "
    + VECTORS,
    networks=BROKEN,
    forms={**_forms(lambda tables: tables.deviation(),
                    lambda tables: uniform_deviation(tables.n, DELTA, tables.gaussian, 0.0, ROOT, 0.0, m=tables.m)),
           "gates add nothing": Form(_gates, _gates_add_nothing)}))

state(Statement(
    "dsmtl-remark-8", DOCUMENT, "remark 8, equation 13", "03", ASSUMED,
    r"The bound of theorem 7 holds for $L-\mathcal{E}$ as well.",
    "holds",
    r"Theorem 6 for $1-\vartheta$: its set is that of $\vartheta$, turned round and moved, which has the same "
    "Gaussian average. For both directions at once the probabilities of failure add up. (What is needed is "
    "assumption 1, as for theorem 7; printed: the assumption of theorem 6, which has none.)",
    networks=BROKEN,
    forms=_forms(lambda tables: tables.deviation(opposite=True),
                 lambda tables: uniform_deviation(tables.n, DELTA, tables.gaussian, 0.0, ROOT, 0.0, m=tables.m))))


# --- theorems 2, 4 and 5 -----------------------------------------------------------------------------------

PAIR = (
    r"The printed proof adds two inequalities that hold with probability $1-\delta$ each; from that alone the sum has "
    r"$1-2\delta$, or, with half of $\delta$ for each, $\ln(4/\delta)$. The claim is true as printed. One sample "
    "changes the sum of both suprema by $2/(mn)$, and twice the sum of their Rademacher averages by $4/(mn)$; "
    r"McDiarmid for each, at $\delta/2$, gives $(2+4)\sqrt{\ln(2/\delta)/(2mn)}$, the printed term. For the one minus "
    r"the other, which has no positive mean, once is enough: even $\ln(1/\delta)$ will do. No step uses that a network "
    r"is optimal: only $\epsilon\ge0$ does."
)

state(Statement(
    "dsmtl-theorem-2", DOCUMENT, "theorem 2", "03", (*ASSUMED, "The optimum of problem (3) is attained."),
    r"With probability $1-\delta$, $\hat{\mathcal{E}}_t+\epsilon_t\le\mathcal{E}_t^{\mathrm{STL}}+\rho_{n,t}$, "
    r"$\epsilon_t=L_t^{\mathrm{STL}}-L_t^*$, $\rho_{n,t}=\frac{C_1G(\mathcal{F}'(X_t))}{n}+\frac{C_2Q}{\sqrt n}+"
    r"\sqrt{\frac{18\ln(2/\delta)}{n}}$.",
    "holds",
    PAIR + " It is about one task; for all m at once take delta/m. (The printed Q lacks the sum over samples, which "
    "theorem 7 has.)",
    networks=(*BROKEN, OPTIMA),
    forms=_forms(harm, _rho, tasks=1)))

state(Statement(
    "dsmtl-theorem-4", DOCUMENT, "theorem 4", "03", (*ASSUMED, "The optimum of problem (4) is attained."),
    r"With probability $1-\delta$, $\hat{\mathcal{E}}+\epsilon\le\mathcal{E}^{\mathrm{STL}}+\rho_n$, means over tasks, "
    r"$\epsilon=L^{\mathrm{STL}}-L^*$, $\rho_n=\frac{C_1G(\mathcal{F}(\bar X))}{mn}+\frac{C_2Q}{\sqrt n}+"
    r"\sqrt{\frac{18\ln(2/\delta)}{mn}}$.",
    "holds",
    PAIR +
    r" The set $\mathcal{F}(\bar X)$ is meant as in the appendix, each encoder on its own task's sample. More is true: "
    "JL's optimum is no worse than STL on *each* task's sample (theorem 1), so theorem 2 holds for JL, task by task.",
    networks=(*BROKEN, OPTIMA, "all tasks have as many samples"),
    forms=_forms(harm, _rho)))

state(Statement(
    "dsmtl-theorem-5", DOCUMENT, "theorem 5, equation 6", "03", (*ASSUMED, "Both optima are attained."),
    r"With probability $1-\delta$, $\hat{\mathcal{E}}-\mathcal{E}^*\le\frac{C_1G(\mathcal{F}(\bar "
    r"X))}{mn}+\frac{C_2Q}{\sqrt n}+\sqrt{\frac{8\ln(4/\delta)}{mn}}$, $\mathcal{E}^*$ the least expected loss of the "
    "class.",
    "holds",
    "Theorem 7 for the network found and Hoeffding for the best one, which does not depend on the sample, at "
    r"$\delta/2$ each: $3\sqrt{\ln(4/\delta)/(2mn)}+\sqrt{\ln(2/\delta)/(2mn)}$ is at most the printed term. (The "
    r"proof's text says $1-\delta$ for each; here, unlike in theorems 2 and 4, the constant has the sum right.)",
    networks=(*BROKEN, OPTIMA),
    forms=_forms(lambda tables: tables.dsmtl[1] - tables.best,
                 lambda tables: excess_risk(tables.n, DELTA, tables.gaussian, 0.0, ROOT, 0.0, m=tables.m))))


# --- orders: remarks 5 and 7, and what follows theorem 5 ------------------------------------------------------

def _linear(random: np.random.Generator, most: int = 4) -> Instance:
    """Inputs of length 1, 1 to 8 with 1 to 3 entries for each of 2 to `most` tasks."""
    tasks = random.integers(2, most + 1) if most > 1 else 1
    X = random.normal(size=(tasks, random.integers(1, 9), random.integers(1, 4)))
    return {"inputs": X / np.linalg.norm(X, axis=-1, keepdims=True), "features": int(random.integers(1, 4))}


def _fewer_inputs(instance: Instance) -> Iterator[Instance]:
    """The instance with one task, or one sample, or one entry of the inputs less."""
    m, n, d = instance["inputs"].shape
    for tasks, samples, entries in ((m - 1, n, d), (m, n - 1, d), (m, n, d - 1)):
        if tasks > 1 and samples and entries:
            yield {**instance, "inputs": instance["inputs"][:tasks, :samples, :entries]}


def _averages(inputs: np.ndarray, features: int) -> np.ndarray:
    """`G(F'(X_t))` of each task, for linear encoders W with |W| <= 1."""
    return np.array([gaussian_average_linear(X, 1.0, features) for X in inputs])


def _order(inputs: np.ndarray, features: int, tasks_power: float) -> float:
    """G(F(X)) against K m^power sqrt(n), with K = sqrt(features), which is enough for one task; relative."""
    m, n, _ = inputs.shape
    if not (np.linalg.norm(inputs, axis=-1) <= 1 + 1e-12).all():  # longer than the K above is for
        return np.nan
    return float(_averages(inputs, features).sum() / (math.sqrt(features * n) * m**tasks_power)) - 1


def _with_decoders(inputs: np.ndarray, features: int) -> float:
    """The order of one task's G, and that of Q: for linear decoders w with |w| <= 1 at most 1, whatever n."""
    return max(_order(inputs, features, 0.5), linear_q(1.0, features, 1, inputs.shape[1]) - 1)


def _remembering(n: int) -> float:
    """G of all tables on n different points against sqrt(n) times that on one; relative."""
    one, many = (Tables(k, k, *np.ones((4, 1, k))).gaussian for k in (1, n))
    return many / (one * math.sqrt(n)) - 1


state(Statement(
    "dsmtl-remark-5", DOCUMENT, "remark 5", "03",
    (r"Classes with $G(\mathcal{F}'(X_t))=O(\sqrt n)$ and $Q=O(1)$, the paper's *many* and *reasonable classes*.",),
    r"$\rho_{n,t}=O(1/\sqrt n)\to0$; with $\epsilon_t\ge0$ theorem 2 proves DSMTL-IL probably individually safe.",
    "holds",
    "For linear encoders on bounded inputs and linear decoders both orders are exact; G depends on the sample, so "
    r"its order must hold for all samples. $\epsilon_t$ is no constant, as definition 4 wants, but at least 0, and 0 "
    r"is one. Assumption 1 alone is not enough: all tables are bounded, $G=n/\sqrt{2\pi}$ on n different points, and "
    "where no point is ever seen twice an optimum can be right on the sample and wrong everywhere else: harm 1 at "
    "every n.",
    networks=("$G=O(\\sqrt n)$ with a constant that matters: networks that fit random labels have $G$ near $n$",),
    forms={"printed": Form(partial(_linear, most=1), _with_decoders),
           "assumption 1 alone": Form(lambda random: {"n": int(random.integers(2, 200))}, _remembering,
                                      smaller=lambda instance: iter([{"n": instance["n"] // 2}]))}))

SUM = (
    r"Every task has an encoder of its own, so the supremum falls apart and $G(\mathcal{F}(\bar "
    r"X))=\sum_tG(\mathcal{F}'(X_t))$: of order at least $m\sqrt n$ for any class with two encoders that differ on a "
    r"share of each task's samples, and exactly that where each task's own G is of order $\sqrt n$. The order "
    r"$\sqrt{mn}$ is that of *one* encoder shared by all tasks, the case of the cited theory. (In n alone, with m "
    r"fixed, both are $\sqrt n$.)"
)

state(Statement(
    "dsmtl-remark-7", DOCUMENT, "remark 7", "03",
    ("Those of remark 5, for each task.",),
    r"$G(\mathcal{F}(\bar X))=O(\sqrt{mn})$ for many classes; so $\rho_n=O(1/\sqrt n)\to0$, and DSMTL-JL is probably "
    "safe on average.",
    "false",
    SUM + r" The conclusion stands where each task's G is $O(\sqrt n)$: $C_1G/(mn)$ is $O(1/\sqrt n)$, and so is "
    r"$\rho_n$.",
    # F = {0, 1}: 2 pi G^2 = (m sqrt n)^2. It is larger than `constant` m n as soon as m is larger than the constant.
    CounterExample({"m": 11, "n": 1, "constant": 10}, lambda m, n, constant: m**2 * n - constant * m * n),
    r"$G(\mathcal{F}(\bar X))=O(m\sqrt n)$ where each task's own G is $O(\sqrt n)$",
    forms={"printed": Form(_linear, partial(_order, tasks_power=0.5), smaller=_fewer_inputs),
           "repaired": Form(_linear, partial(_order, tasks_power=1.0))}))


def _first_term(inputs: np.ndarray, features: int, root: bool) -> float:
    """The Gaussian term of theorem 5 against the mean of the tasks' own, over sqrt(m) or as it is; relative."""
    (m, n, _), G = inputs.shape, _averages(inputs, features)
    if not (np.linalg.norm(inputs, axis=-1) > 0).all():
        return np.nan
    own = np.mean([excess_risk(n, DELTA, g, 0.0, 1.0, 0.0).terms["gaussian"] for g in G])
    term = excess_risk(n, DELTA, G.sum(), 0.0, 1.0, 0.0, m=m).terms["gaussian"]
    return float(term / own) - (1 / math.sqrt(m) if root else 1)


state(Statement(
    "dsmtl-theorem-5-orders", DOCUMENT, "section 5.3, after theorem 5", "03",
    ("Those of theorem 5 and remark 7.",),
    r"The first term of theorem 5 decreases with the number of tasks and is $O(1/\sqrt{mn})$; the rate is that of the "
    "usual bounds for multi-task learning.",
    "false",
    SUM + " The first term is the mean of what each task pays alone. Nor can a better proof help: with one fixed "
    "decoder, Q = 0, all would then fall with m; but where the tasks have nothing to do with each other, private "
    "encoders are learned from n samples each, however many tasks there are.",
    # F = {0, 1}: the squared term, over its value for m = n = 1, is m^2 n / (m n)^2 = 1 / n.
    CounterExample({"m": 11, "n": 1, "constant": 10}, lambda m, n, constant: 1 - Fraction(constant * n, m * n)),
    r"where each task's own G is $O(\sqrt n)$ the first term is $O(1/\sqrt n)$, whatever m; only the third one "
    "decreases with m",
    forms={"printed": Form(_linear, partial(_first_term, root=True), smaller=_fewer_inputs),
           "repaired": Form(_linear, partial(_first_term, root=False))}))
