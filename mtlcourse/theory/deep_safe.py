"""Deep Safe Multi-Task Learning: its definitions, and what it says of losses on the sample.

Imports `statements`, `worlds`. What it says of expected losses stands in `deep_safe_bounds`.
"""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import numpy as np

from .statements import CounterExample, Form, Instance, Statement, state
from .worlds import gated_losses, optima

DOCUMENT = "Deep Safe Multi-Task Learning"
GATES = [0.0, 0.5, 1.0]
OPTIMA = "the networks are global optima of their problems: training finds none"
SAME_CLASS = ("The private encoders and decoders come from the class of the STL networks.",
              "Each task has its own gate, and a gate can be exactly 0.")


# --- definitions 1 to 4, remarks 3 and 4 ------------------------------------------------------------------

state(Statement(
    "dsmtl-definition-1", DOCUMENT, "definition 1", "02", (),
    r"*Negative sharing*: $\mathcal{E}_t>\mathcal{E}_t^{\mathrm{STL}}$ for some task $t$.",
    "holds",
    "Well defined for a pair of trained networks, and used as such. It says nothing of a method, whose networks differ "
    "between seeds and training sets, and leaves open what happens to a task with several measures. Equality is no "
    "harm. No expected loss is known outside worlds of our own making, so there is nothing to compute here."))

state(Statement(
    "dsmtl-definition-2", DOCUMENT, "definition 2", "02", (),
    r"*Safe*: no negative sharing, $\mathcal{E}_t\le\mathcal{E}_t^{\mathrm{STL}}$ for every task $t$.",
    "holds",
    'The complement of definition 1, so again of two trained networks. "On a data set" can only mean: trained on it, '
    "for an expected loss does not depend on a test set. An average over tasks decides nothing."))

state(Statement(
    "dsmtl-definition-3", DOCUMENT, "definition 3", "02", (),
    r"*Empirically safe*, individually: $L_t\le L_t^{\mathrm{STL}}$ for every $t$; on average: "
    r"$\frac1m\sum_tL_t\le\frac1m\sum_tL_t^{\mathrm{STL}}$.",
    "holds",
    "Well defined and computable. It neither follows from safety on new data nor implies it: the least training loss "
    "belongs to the network that remembers the sample."))


def _at_once(harm: np.ndarray, bad: int, share: bool) -> float:
    """The share of outcomes in which some task's harm exceeds its quantile, less the share that may."""
    return float((harm > _quantiles(harm, bad, share)).any(axis=1).mean()) - bad / len(harm)


def _on_average(harm: np.ndarray, bad: int, share: bool) -> float:
    """The share of outcomes in which the mean harm exceeds the mean of the quantiles, less the share that may."""
    return float((harm.mean(axis=1) > _quantiles(harm, bad, share).mean()).mean()) - bad / len(harm)


def _quantiles(harm: np.ndarray, bad: int, share: bool) -> np.ndarray:
    """For each task the harm that `bad` outcomes exceed, or an m-th of them: the least rho of definition 4."""
    kept = len(harm) - 1 - (bad // harm.shape[1] if share else bad)
    return np.sort(harm, axis=0)[kept]


def _outcomes(random: np.random.Generator) -> Instance:
    """40 equally likely training sets: the harm of 2 to 4 tasks in each, with rare large ones; `bad` = 40 delta."""
    harm = np.exp(random.normal(0.0, 3.0, size=(40, random.integers(2, 5))))
    return {"harm": harm, "bad": int(random.integers(4, 9))}


state(Statement(
    "dsmtl-definition-4", DOCUMENT, "definition 4", "02",
    (r"Our reading: for *every* $\delta\in(0,1)$, on which $\rho$ may depend; probability is over training sets.",),
    r"*Probably safe*, individually: with some constants $\epsilon_t\ge0$ and some $\rho_n^t\to0$, "
    r"$\mathcal{E}_t+\epsilon_t\le\mathcal{E}_t^{\mathrm{STL}}+\rho_n^t$ with probability at least $1-\delta$ for any "
    r"$t$; on average: the same of the means over tasks. Whether *for any t* stands inside or outside the probability "
    "makes no difference.",
    "holds",
    "If each task has its bound at every delta, take delta/m for each: all hold at once with probability 1 - delta. "
    "At one and the same delta they do not (form *same delta*). The epsilons are idle: what holds with them holds "
    "with 0. The definition is about a method as n grows: a single network at its n meets it always, with rho the "
    "largest loss up to this n and 0 beyond, so no test set can confirm or refute it, only bound a harm. And n is the "
    "*average* number of samples, while the bounds of theorems 2 and 4 vanish only if every task's number grows.",
    networks=("all tasks have as many samples",),
    forms={"printed": Form(_outcomes, partial(_at_once, share=True)),
           "same delta": Form(_outcomes, partial(_at_once, share=False))}))


def _two_losses(random: np.random.Generator) -> Instance:
    """Losses of 2 to 5 tasks and of STL; in every second instance the first are nowhere larger."""
    losses = random.random(int(random.integers(2, 6)))
    others = random.random(len(losses))
    return {"losses": losses, "stl": np.maximum(losses, others) if random.random() < 0.5 else others}


def _task_less(instance: Instance) -> Iterator[Instance]:
    """The instance without one of its tasks."""
    for task in range(len(instance["losses"]) if len(instance["losses"]) > 2 else 0):
        yield {name: np.delete(values, task) for name, values in instance.items()}


def _implies(losses: np.ndarray, stl: np.ndarray) -> float:
    """Individually safe implies safe on average."""
    return float(losses.mean() - stl.mean()) if (losses <= stl).all() else np.nan


def _implied(losses: np.ndarray, stl: np.ndarray) -> float:
    """Safe on average implies individually safe."""
    return float((losses - stl).max()) if losses.mean() <= stl.mean() else np.nan


state(Statement(
    "dsmtl-remark-3", DOCUMENT, "remark 3", "03", (),
    "Individually empirically safe implies safe on average, and not the other way round: so *individual* is said to be "
    "weaker than *individual*. Neither guarantees safety on new data.",
    "misprint",
    "The implication holds, a mean of numbers that are nowhere positive is not positive; and it is strict for two or "
    "more tasks. So *average* is the weaker one, as remark 4 says of its own two versions. (Also: calling definition "
    "3 a *loose version* of safety must not be read as implied by safety. It is not.)",
    CounterExample({"losses": [0, 2], "stl": [2, 1]},
                   lambda losses, stl: losses[1] - stl[1] if sum(losses) <= sum(stl) else -1),
    "*average* is weaker than *individual*",
    forms={"repaired": Form(_two_losses, _implies, smaller=_task_less),
           "converse": Form(_two_losses, _implied, smaller=_task_less)}))


def _late(random: np.random.Generator) -> Instance:
    """One task with the allowance rho = c / n^rate, used up in every training set; n so large that rho < gain."""
    rate, c, gain = random.uniform(0.3, 1.0), random.uniform(0.1, 2.0), random.uniform(0.1, 1.0)
    return {"c": c, "rate": rate, "gain": gain, "n": int(np.ceil((c / gain) ** (1 / rate))) + 1}


def _late_harm(c: float, rate: float, gain: float, n: int, epsilon: bool) -> float:
    """The harm `rho - epsilon` with epsilon = 0 or = gain; NaN where rho does not vanish or n is not large."""
    return c / n**rate - gain * epsilon if rate > 0 and c / n**rate <= gain else np.nan


state(Statement(
    "dsmtl-remark-4", DOCUMENT, "remark 4, on large n", "03",
    ("Definition 4 for every delta.",),
    "For n large enough, probably individually safe becomes safe with a large probability.",
    "missing assumption",
    "The epsilons may be 0. Then the harm may vanish from above and be there at every n: the harm 1/n, or a harm that "
    "is normal with mean 0 and variance 1/n, which is probably safe and yet positive in every second training set. "
    "(That definition 4 is nearer to safety than definition 3 is right: safety implies it, and does not imply 3.)",
    CounterExample({"n": 10**6}, lambda n: Fraction(1, n)),
    "with epsilons above 0 that do not depend on n: as soon as rho is at most epsilon, the harm is at most 0",
    forms={"printed": Form(_late, partial(_late_harm, epsilon=False)),
           "repaired": Form(_late, partial(_late_harm, epsilon=True))}))

state(Statement(
    "dsmtl-remark-4-average", DOCUMENT, "remark 4, on the two versions", "03",
    ("Definition 4 for every delta.",),
    "Probably *average* safe is weaker than probably *individually* safe.",
    "holds",
    "Give each task delta/m: with probability 1 - delta all bounds hold, so their mean does, with the mean of the rho. "
    "At one and the same delta the implication fails (form *same delta*): m tasks may each fail in other "
    "training sets. It is strict: harms of 1 and -1 are safe on average.",
    forms={"printed": Form(_outcomes, partial(_on_average, share=True)),
           "same delta": Form(_outcomes, partial(_on_average, share=False))}))


# --- problems (3) and (4), theorems 1 and 3, remark 6 ------------------------------------------------------

def _network(random: np.random.Generator) -> Instance:
    """Outputs of 3 encoders on 2 or 3 samples of 2 or 3 tasks, 2 decoders, labels: few values, so that optima tie."""
    m, n = random.integers(2, 4, size=2)
    return {"encoders": random.integers(-2, 3, size=(3, m, n)) / 2, "decoders": random.choice([-1.0, 0.5, 1.0, 2.0], 2),
            "labels": random.integers(0, 5, size=(m, n)) / 4}


def _smaller_network(instance: Instance) -> Iterator[Instance]:
    """The network without its last task, or without its last sample."""
    _, m, n = instance["encoders"].shape
    for tasks, samples in ((m - 1, n), (m, n - 1)):
        if tasks > 1 and samples:
            yield {**instance, "encoders": instance["encoders"][:, :tasks, :samples],
                   "labels": instance["labels"][:tasks, :samples]}


def alone(L: np.ndarray) -> np.ndarray:
    """The least STL loss of each task, (m,), from L as `gated_losses` gives it, with the gate 0 first."""
    return L[:, 0, :, :, 0].min(axis=(1, 2))


def joint(L: np.ndarray) -> np.ndarray:
    """The tasks' losses at the optima of problem (4), JL, which is also (3) as printed."""
    return optima(L.reshape(*L.shape[:2], -1))


def staged(L: np.ndarray) -> np.ndarray:
    """The same of IL's two stages: encoders and decoders that are best alone, then the public encoder and the gates."""
    m, shared, *_, gates = L.shape
    best = [np.flatnonzero(row <= row.min() + 1e-12) for row in L[:, 0, :, :, 0].reshape(m, -1)]
    frozen = L.reshape(m, shared, -1, gates)
    return np.concatenate([optima(frozen[np.arange(m), :, list(own)]) for own in itertools.product(*best)])


def hard(L: np.ndarray) -> np.ndarray:
    """The same of hard parameter sharing: the gate 1, which stands last, and any private encoder."""
    return optima(L[:, :, 0, :, -1])


def one_gate(L: np.ndarray) -> np.ndarray:
    """The same of a network in which all tasks have the same gate."""
    m, shared, *_, gates = L.shape
    return optima(np.moveaxis(L, -1, 2).reshape(m, shared * gates, -1))


def half_open(L: np.ndarray) -> np.ndarray:
    """The same with all gates held at 1/2."""
    return joint(L[..., 1:2])


def _form(excess) -> Form:
    """A form about the losses of all networks of a small gated class."""
    return Form(_network, lambda **instance: float(excess(gated_losses(**instance, gates=GATES))),
                smaller=_smaller_network)


def _least(found: np.ndarray) -> float:
    return float(found.mean(axis=1).max())  # all optima of one problem have the same mean


def _stages_and_joint(labels: list, encoders: list) -> Fraction:
    """The least mean error |y - v| after two stages less that of (3) as printed; one task, one decoder, exact."""
    def least(private: list, public: list) -> int | Fraction:  # piecewise linear in the gate: the least is at a bend
        bends = [Fraction(y - f, s - f) for y, f, s in zip(labels, private, public, strict=True) if s != f]
        return min(sum(abs(y - a * s - (1 - a) * f) for y, f, s in zip(labels, private, public, strict=True))
                   for a in (0, 1, *(bend for bend in bends if 0 <= bend <= 1)))

    first = min(encoders, key=lambda f: least(f, f))
    two = min(least(first, public) for public in encoders)
    return Fraction(two - min(least(f, public) for f in encoders for public in encoders)) / len(labels)


state(Statement(
    "dsmtl-equation-3", DOCUMENT, "equation 3", "13", SAME_CLASS[1:],
    "The objective of the two stages of DSMTL-IL is a minimum over public encoder and gates of the minimum over "
    "private encoders and decoders.",
    "misprint",
    "A minimum of minima of one objective is the joint problem (4), which is never above what the two stages reach, "
    "and often below: private parts that are best alone need not be best behind a gate. The text around it, equation "
    "5 and the proof of theorem 1 describe two stages, the first with all gates at 0. (The sentence before it also "
    "swaps the names of the two groups of parameters.)",
    CounterExample({"labels": [1, 1], "encoders": [[0, 0], [2, 0], [0, 2], [Fraction(1, 2), Fraction(1, 2)]]},
                   _stages_and_joint),
    "stage 1: the STL problem; stage 2: the minimum over public encoder and gates with stage 1's solution held fixed. "
    "Its value lies between that of (4) and that of STL",
    forms={"printed": _form(lambda L: _least(staged(L)) - _least(joint(L))),
           "repaired": _form(lambda L: max(_least(joint(L)) - _least(two := staged(L)),
                                           _least(two) - alone(L).mean()))}))

state(Statement(
    "dsmtl-theorem-1", DOCUMENT, "theorem 1", "03", (*SAME_CLASS, "The optimum is attained."),
    r"At an optimum of problem (3), $L_t^*\le L_t^{\mathrm{STL}}$ for every task $t$.",
    "holds",
    "Of the two stages and of (3) as printed alike, at every optimum if there are several. Given the public encoder, "
    "the sum over tasks falls into parts that share nothing; where a task is worse than alone, its STL parts and a "
    "gate of 0 lower the sum and touch no other task. The printed proof does this for the gates of stage 2. With one "
    "gate for all tasks, or gates that cannot close, it fails.",
    networks=(OPTIMA, "a sigmoid gate is never exactly 0; projected ones are"),
    forms={"printed": _form(lambda L: (joint(L) - alone(L)).max()),
           "two stages": _form(lambda L: (staged(L) - alone(L)).max()),
           "one gate for all tasks": _form(lambda L: (one_gate(L) - alone(L)).max()),
           "gates held at one half": _form(lambda L: (half_open(L) - alone(L)).max())}))

state(Statement(
    "dsmtl-theorem-3", DOCUMENT, "theorem 3", "03",
    ("Private encoders and decoders come from the class of the STL networks, the public encoder from that of HPS.",
     "Gates can be exactly 0 and exactly 1; one for all tasks would do.", "The optimum is attained."),
    r"At an optimum of problem (4), $L^*\le\min\{L^{\mathrm{STL}},L^{\mathrm{HPS}}\}$, means over tasks.",
    "holds",
    "All gates at 0 make STL, all at 1 HPS; both are feasible. With a gate for each task no *task* is worse than "
    "under STL either, by the argument of theorem 1. Of the two, STL's minimum is never the larger where all encoders "
    "are of one class: an HPS network is then an STL network whose tasks happen to share an encoder, so on the sample "
    "no task of it can beat the best STL. HPS can only be better on new data.",
    networks=(OPTIMA,),
    forms={"printed": _form(lambda L: _least(joint(L)) - min(alone(L).mean(), _least(hard(L)))),
           "each task": _form(lambda L: (joint(L) - alone(L)).max()),
           "HPS never below STL": _form(lambda L: (alone(L) - hard(L)).max()),
           "gates held at one half": _form(lambda L: _least(half_open(L)) - min(alone(L).mean(), _least(hard(L))))}))

state(Statement(
    "dsmtl-remark-6", DOCUMENT, "remark 6", "03", ("Those of theorem 3.",),
    "After sufficient training the empirical loss of JL is lower than that of HPS.",
    "misprint",
    'Theorem 3, on which it comments, says "no higher", and no more is true: where HPS has no loss, nothing is lower.',
    CounterExample({"label": 1, "output": 1}, lambda label, output: 1 - abs(label - output)),  # 1: nothing is lower
    '"no higher" for "lower"',
    networks=(OPTIMA,),
    forms={"printed": _form(lambda L: 1.0 if _least(joint(L)) >= _least(hard(L)) - 1e-12 else -1.0),
           "repaired": _form(lambda L: _least(joint(L)) - _least(hard(L)))}))
