"""What the papers prove: bounds as numbers, Gaussian averages, and every statement with a verdict that can be checked.

    theory.check("mamg-lemma-1")                # 1,000 random instances: how many violate it, and the worst, readable
    theory.STATEMENTS["mamg-lemma-1"].verdict   # ours, with a counter-example where there is one

Each file named after its subject states what one paper says, so all of them are imported here.
"""

from . import balance, deep_safe, deep_safe_bounds, interference, saliency, saliency_risk, surgery  # noqa: F401
from .bounds import (
    Bound,
    ball_complexity,
    bmtl,
    bmtl_linear,
    bmtl_mean,
    connectivity,
    excess_risk,
    heads_cost,
    linear_heads_bound,
    rho,
    saliency_bound,
    samples_needed,
    uniform_deviation,
    uniform_gaussian,
)
from .gaussian import GaussianAverage, gaussian_average, gaussian_average_linear, linear_q
from .statements import STATEMENTS, VERDICTS, Checked, CounterExample, Form, Statement, check, table

__all__ = [
    "Bound", "Checked", "CounterExample", "Form", "GaussianAverage", "STATEMENTS", "Statement", "VERDICTS",
    "ball_complexity", "bmtl", "bmtl_linear", "bmtl_mean", "check", "connectivity", "excess_risk",
    "gaussian_average", "gaussian_average_linear", "heads_cost", "linear_heads_bound", "linear_q", "rho",
    "saliency_bound", "samples_needed", "table", "uniform_deviation", "uniform_gaussian",
]
