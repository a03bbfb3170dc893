"""How fast shallow methods are solved, as ratios to a general convex solver.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/shallow.py [squared logistic path]`. Both get the same arrays,
and both times include all that is prepared from them. cvxpy's solver is Clarabel, whose precision is 1e-8, as ours is;
those that cvxpy picks itself, OSQP and SCS, stop earlier. What is compared runs in turns, and medians are printed.
"""

from collections.abc import Callable

import cvxpy
import numpy as np
from core import interleaved, measure, verdict

from mtlcourse.models.shallow import Losses, grid, path, solve
from mtlcourse.models.shallow.penalties import Entries, LearnedTrace, LowRankAndOutliers, Penalty, Rows, Trace

M, SAMPLES, FEATURES = 12, 100, 20
BALANCE = M**-0.25
Terms = Callable[[cvxpy.Variable, cvxpy.Variable], cvxpy.Expression]
METHODS: dict[str, tuple[Penalty, Terms]] = {
    "lasso": (Entries(), lambda W, S: cvxpy.sum(cvxpy.abs(W))),
    "l21": (Rows(), lambda W, S: cvxpy.sum(cvxpy.norm(W, axis=1))),
    "rmtl": (LowRankAndOutliers(BALANCE),
             lambda W, S: cvxpy.normNuc(W) + BALANCE * cvxpy.sum(cvxpy.norm(S, axis=0))),
    "mtrl": (LearnedTrace(), lambda W, S: cvxpy.square(cvxpy.normNuc(W)) / 2),
    "mtrl, given": (Trace(np.eye(M), "tasks"), lambda W, S: cvxpy.sum_squares(W) / 2),
}


def drawn(binary: bool) -> Losses:
    """Six pairs of tasks; weights and noise as large as each other, own inputs about a mean of each task's own."""
    random = np.random.default_rng(0)
    x = random.normal(size=(M, SAMPLES, FEATURES)) + random.normal(size=(M, 1, FEATURES))
    W = np.repeat(random.normal(size=(FEATURES, M // 2)) * (random.random((FEATURES, 1)) < 0.5), 2, axis=1)
    y = np.stack([x[t] @ W[:, t] for t in range(M)], 1) + random.normal(size=(SAMPLES, M))
    y = (y > np.median(y, 0)).astype(float) if binary else y
    return Losses(x, y, np.full((SAMPLES, M), 1 / SAMPLES), np.full(M, binary))


def fresh(losses: Losses) -> Losses:
    """The same without anything that was computed from it before."""
    return Losses(losses.inputs, losses.targets, losses.share, losses.binary)


def generally(losses: Losses, terms: Terms, strength: float) -> float:
    W, S, b = cvxpy.Variable((FEATURES, M)), cvxpy.Variable((FEATURES, M)), cvxpy.Variable(M)
    total = strength * terms(W, S)
    whole = W + S if any(S is variable for variable in total.variables()) else W
    for t in range(M):
        p, y = losses.inputs[t] @ whole[:, t] + b[t], losses.targets[:, t]
        loss = cvxpy.sum(cvxpy.logistic(p) - cvxpy.multiply(y, p)) if losses.binary[t] else cvxpy.sum_squares(p - y)
        total += loss / SAMPLES
    return cvxpy.Problem(cvxpy.Minimize(total)).solve(solver="CLARABEL")


def compared(binary: bool) -> None:
    losses = drawn(binary)
    for name, (penalty, terms) in METHODS.items():
        strength = grid(losses, penalty)[6]
        found, _ = solve(losses, penalty, strength)
        least = generally(losses, terms, strength)
        print(f"{name}: {found.iterations} iterations, residual {found.residual:.0e}, objective {found.objective:.8f}, "
              f"cvxpy's {least:.8f}")
        taken = interleaved(3, ours=lambda p=penalty, s=strength: solve(fresh(losses), p, s) and None,
                            cvxpy=lambda t=terms, s=strength: generally(losses, t, s) and None)
        verdict(f"{name} over cvxpy", taken["ours"] / taken["cvxpy"], 0.2)


def squared() -> None:
    """12 regression tasks of 100 samples and 20 features."""
    compared(binary=False)


def logistic() -> None:
    """The same with logits."""
    compared(binary=True)


def whole_path() -> None:
    """All 17 strengths of a grid, each from the last one's solution, against each from zero."""
    losses = drawn(binary=False)
    for name, (penalty, _) in METHODS.items():
        strengths = grid(losses, penalty)
        print(name)
        interleaved(3, warm=lambda p=penalty, s=strengths: list(path(losses, p, s)) and None,
                    cold=lambda p=penalty, s=strengths: [solve(losses, p, one) for one in s] and None)


if __name__ == "__main__":
    measure({"squared": squared, "logistic": logistic, "path": whole_path})
