"""Worlds in which nothing has to be estimated: all networks of a small gated class, and all tables of predictions.

Imports nothing of the house. `gated_losses` and `optima` try every network of a class with gates, one after another.
`Tables` are the opposite: a class so rich that it remembers, whose expected losses, optima and Gaussian average are
known in closed form all the same. On these two, bounds and claims about optima are compared with the truth.
"""

import math
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import ArrayLike


def gated_losses(encoders: ArrayLike, decoders: ArrayLike, labels: ArrayLike, gates: ArrayLike) -> np.ndarray:
    """The sample loss of each task under every public encoder, private encoder, decoder and gate of a finite class.

    `mean_i min(1, |y_i - h (a f_S(x_i) + (1 - a) f(x_i))|)`, which lies in [0, 1] and is 1-Lipschitz in the
    prediction; a decoder is multiplication with h.

    encoders: (k, m, n), the outputs of k encoders on the n samples of m tasks.  decoders: (d,).  labels: (m, n).
    gates: (a,), values in [0, 1].
    Returns (m, k, k, d, a): task, public encoder, private encoder, decoder, gate.

    >>> gated_losses([[[0.0]], [[1.0]]], [1.0], [[0.5]], [0.0, 0.5])[0, 1, 0, 0]  # closed; half open, f_S = 1, f = 0
    array([0.5, 0. ])
    """
    outputs, h, a = (np.asarray(values, dtype=float) for values in (encoders, decoders, gates))
    public = np.moveaxis(outputs, 1, 0)[:, :, None, None, None]  # task, f_S, f, h, gate, sample
    private = np.moveaxis(outputs, 1, 0)[:, None, :, None, None]
    mixed = a[:, None] * public + (1 - a[:, None]) * private
    errors = np.abs(np.asarray(labels, dtype=float)[:, None, None, None, None] - h[:, None, None] * mixed)
    return np.minimum(errors, 1.0).mean(axis=-1)


def optima(losses: ArrayLike, tolerance: float = 1e-12) -> np.ndarray:
    """The tasks' losses at every choice whose sum over tasks is least; all combinations are tried.

    losses: (m, s, p): task, the choice that all tasks share, a task's own choice.
    Returns (number of optima, m); equal rows stand once.

    >>> optima([[[3.0, 1.0], [0.0, 2.0]], [[0.0, 5.0], [1.0, 4.0]]])  # two shared choices, both with the sum 1
    array([[0., 1.],
           [1., 0.]])
    """
    L = np.asarray(losses, dtype=float)
    m, _, p = L.shape
    total = reduce(lambda done, task: done[..., None] + task.reshape(len(task), *[1] * (done.ndim - 1), p), L[1:], L[0])
    shared, *own = np.nonzero(total <= total.min() + tolerance)
    return np.unique(np.stack([L[t, shared, own[t]] for t in range(m)], axis=1), axis=0)


@dataclass(frozen=True)
class Tables:
    """The class of all tables, a sample from a known distribution, and what the optima on this sample are worth.

    Task t has N points of its own; a sample is one of them and a label. An encoder maps the first `free` points of
    each task to 0 or 1 as it likes and the others to 0; the only decoder is the identity; the loss is |y - v| for the
    prediction v. So assumption 1 of Deep Safe Multi-Task Learning holds: losses in [0, 1], 1-Lipschitz; encoders
    bounded by 1, the one that is 0 everywhere among them; h(0) = 0. A gate of 1/2 makes 0, 1/2 and 1 of two tables,
    at each point as wanted, and no other gate is better on any sample; that is why a label of 1/2 is a gain of
    sharing.

    n: samples in each task.  free: points with a choice.
    chance: (m, N), the probability of each point, rows sum to 1.
    ones: (m, N), the probability of the label 1 at a point, the other label being 0; NaN: the label is always 1/2.
    counts, hits: (m, N), how often a point is in the sample, and how often with label 1.
    """

    n: int
    free: int
    chance: np.ndarray
    ones: np.ndarray
    counts: np.ndarray
    hits: np.ndarray

    @property
    def m(self) -> int:
        return len(self.chance)

    @cached_property
    def expected(self) -> np.ndarray:
        """(3, m, N): what a point contributes to the expected loss, by the prediction 0, 1/2 or 1."""
        return np.stack([self.chance * np.where(np.isnan(self.ones), abs(0.5 - v), self.ones * (1 - v)
                                                + (1 - self.ones) * v) for v in (0.0, 0.5, 1.0)])

    @cached_property
    def sampled(self) -> np.ndarray:
        """(3, m, N): the same for the loss on the sample."""
        return np.stack([np.where(np.isnan(self.ones), abs(0.5 - v) * self.counts, self.hits * (1 - v)
                                  + (self.counts - self.hits) * v) for v in (0.0, 0.5, 1.0)]) / self.n

    @property
    def gaussian(self) -> float:
        """`G(F(X))`, exact: m independent tables, so the sum of `sqrt(count) / sqrt(2 pi)` over all free points."""
        return float(np.sqrt(self.counts[:, :self.free]).sum() / math.sqrt(2 * math.pi))

    @property
    def gaussian_of_losses(self) -> float:
        """The same for the losses of ungated tables: a label of 1/2 costs 1/2 either way."""
        counts = np.where(np.isnan(self.ones), 0, self.counts)
        return float(np.sqrt(counts[:, :self.free]).sum() / math.sqrt(2 * math.pi))

    def deviation(self, gated: bool = True, opposite: bool = False) -> float:
        """The largest expected minus sample loss, means over tasks, over the class with or without gates.

        opposite: the largest sample minus expected loss instead.
        """
        gap = self.sampled - self.expected if opposite else self.expected - self.sampled
        return self._mean((gap if gated else gap[::2]).max(axis=0), gap[0])

    @property
    def stl(self) -> tuple[float, float]:
        """The least sample loss of ungated tables, and the smallest expected loss of those that have it."""
        return self._optimum(slice(None, None, 2), worst=False)

    @property
    def dsmtl(self) -> tuple[float, float]:
        """The least sample loss with gates, and the *largest* expected loss of the networks that have it."""
        return self._optimum(slice(None), worst=True)

    @property
    def best(self) -> float:
        """The least expected loss with gates."""
        return self._mean(self.expected.min(axis=0), self.expected[0])

    def _optimum(self, choices: slice, worst: bool) -> tuple[float, float]:
        sampled, expected = self.sampled[choices], self.expected[choices]
        optimal = sampled <= sampled.min(axis=0) + 1e-12
        reached = np.where(optimal, expected, -np.inf if worst else np.inf)
        return (self._mean(sampled.min(axis=0), sampled[0]),
                self._mean(reached.max(axis=0) if worst else reached.min(axis=0), expected[0]))

    def _mean(self, free: np.ndarray, fixed: np.ndarray) -> float:
        """The mean over tasks of the sum over points, of `free` where there is a choice and of `fixed` elsewhere."""
        return float(free[:, :self.free].sum() + fixed[:, self.free:].sum()) / self.m


def drawn_tables(random: np.random.Generator, m: int, n: int, points: int, free: int) -> Tables:
    """A sample from `points` equally likely points a task, a fifth of which have the label 1/2.

    free: as for `Tables`; the other points, which no network tells apart, are one point here.
    """
    chance = np.full((m, free + 1), 1 / points)
    chance[:, -1] = 1 - free / points
    ones = random.choice([0.0, 0.1, 0.9, 1.0, np.nan], size=(m, free + 1))
    counts = random.multinomial(n, chance)
    hits = np.where(np.isnan(ones), 0, counts)
    noisy = (ones > 0) & (ones < 1)
    hits[noisy] = random.binomial(counts[noisy], ones[noisy])
    return Tables(n, free, chance, ones, counts, np.where(ones == 0, 0, hits))
