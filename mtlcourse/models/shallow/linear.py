"""Linear models whose tasks have only a penalty in common: Lasso, L21, robust MTL, and covariances of W.

Imports `encoders`, `tasks`, `models.base`, and this folder's `losses`, `penalties`, `solver`. They are solved
(`training.shallow`), not trained: a model here is where a solution goes, and what the penalty is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ...encoders import StagedEncoder, as_stages, decoder
from ...files import is_number, part
from ...tasks import Problem
from ..base import Encoder, MTLModel
from . import penalties
from .losses import check_tasks
from .penalties import LearnedTrace, Penalty, Trace, learned_covariance
from .solver import Solution


class Shallow(MTLModel):
    """Linear tasks on given features: prediction of task t `w_t . x + b_t`, and W = (w_1, ..., w_m) under a penalty.

    The objective is `sum_t L_t(w_t, b_t) + strength * penalty(W)`, L_t the mean loss of task t, and biases are free.
    A subclass says which penalty.

    encoder: what the features are. None (default): the inputs, flattened. Otherwise a trained `StagedEncoder`, or a
        list of modules, whose output is flattened; it is copied, frozen, and stays in evaluation mode, so that the
        features are the same for every method that looks at them.
    Features are taken as they are, as the formulas print them. A penalty sees their units, though: if these differ,
    bring the features to one scale before.
    Raises ValueError for dense tasks, tasks of several outputs, losses other than mean squared error and binary
    cross-entropy, and for a spec as the encoder: what it describes is untrained.
    """

    penalty: Penalty

    def __init__(self, problem: Problem, encoder: Encoder = None):
        check_tasks(problem)
        if isinstance(encoder, Mapping | str):
            raise ValueError(f"The encoder {encoder!r} is a description, and would give random features. Hand in a "
                             "trained encoder, such as `run.model.shared` of hard sharing, or None for the inputs.")
        given = [] if encoder is None else as_stages(encoder)
        super().__init__(problem, StagedEncoder([*given, nn.Flatten()], problem.input_shape,
                                                dtype=problem.input_dtype))
        self.features = self.new_encoder("features").requires_grad_(False).eval()
        if not self.features.dtypes[-1].is_floating_point:
            raise ValueError(f"The features are {self.features.dtypes[-1]}, and a shallow method weighs real numbers: "
                             "give inputs with .float(), or an encoder that looks them up.")
        self.heads = nn.ModuleDict()
        for task in self.tasks:
            with part(f"head.{task.name}"):
                self.heads[task.name] = decoder(task, self.features.out_shape, self.input_shape)

    def train(self, mode: bool = True) -> "Shallow":
        """As every module's, but that the features stay in evaluation mode."""
        super().train(mode)
        self.features.eval()
        return self

    def route(self, task: str) -> list[nn.Module]:
        return [*self.features.stages, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.features(x)
        return {name: self.leave(name, z) for name in tasks}

    def weights(self) -> Float64[np.ndarray, "features tasks"]:
        """W, one column a task."""
        return torch.cat([head.weight for head in self.heads.values()]).T.double().numpy(force=True)

    def load(self, solution: Solution) -> None:
        """Take over what was solved."""
        with torch.no_grad():
            for head, w, b in zip(self.heads.values(), solution.weights.T, solution.bias, strict=True):
                head.weight.copy_(torch.from_numpy(w)[None])
                head.bias.fill_(b)

    def learned(self) -> dict[str, Any]:
        """What the weights say, as plain data, for `Run.learned`."""
        return {}


class Lasso(Shallow):
    """Sparse linear tasks: `penalty = |W|_1`, each weight for itself; tasks share the strength and nothing else.

    With equal strengths that is one Lasso a task.
    Source: Saliency-Regularized Deep Multi-Task Learning, section 5.1; R. Tibshirani, Regression Shrinkage and
    Selection via the Lasso, 1996.
    """

    penalty = penalties.Entries()

    def learned(self) -> dict[str, Any]:
        return {"weights": _counts(self.task_names, self.weights())}


class L21(Shallow):
    """Joint feature learning: `penalty = sum_j |row j of W|_2`, so that tasks have the same few features.

    Source: Saliency-Regularized Deep Multi-Task Learning, section 5.1; A. Argyriou, T. Evgeniou, M. Pontil, Multi-Task
    Feature Learning, 2006.
    """

    penalty = penalties.Rows()

    def learned(self) -> dict[str, Any]:
        return {"features": int(self.weights().any(1).sum())}


class RMTL(Shallow):
    """Robust multi-task learning: `W = L + S`, `penalty = |L|_* + balance sum_t |column t of S|_2`.

    L, of low rank, is what tasks have in common; a task whose column of S is not zero is an outlier.

    balance: between `1 / sqrt(m)`, below which L is zero, and 1, above which S is, for m tasks; by default their
        geometric mean. The source has two strengths, whose quotient this is.
    outliers: S, a buffer, (features, tasks).
    Raises ValueError for a balance that is not positive.
    Source: J. Chen, J. Zhou, J. Ye, Integrating Low-Rank and Group-Sparse Structures for Robust Multi-Task Learning,
    2011, whose objective is taken from the authors' package MALSAR: there, too, groups are columns, one a task.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, balance: Any = None):
        if balance is not None and (not is_number(balance)
                                    or not 0 < balance < math.inf):
            m = len(problem.tasks)
            raise ValueError(f"balance={balance!r} is no positive number; for {m} tasks, those between "
                             f"{1 / math.sqrt(m):.2g} and 1 give both parts of W something to do.")
        super().__init__(problem, encoder)
        self.penalty = penalties.LowRankAndOutliers(len(self.tasks) ** -0.25 if balance is None else float(balance))
        self.register_buffer("outliers", torch.zeros(self.features.out_shape[0], len(self.tasks)))

    def load(self, solution: Solution) -> None:
        super().load(solution)
        self.outliers.copy_(torch.from_numpy(solution.parts[1]))

    def learned(self) -> dict[str, Any]:
        S = self.outliers.double().numpy(force=True)
        values = np.linalg.svd(self.weights() - S, compute_uv=False)
        # Weights are kept in single precision, in which a singular value of zero becomes a small one.
        rank = int((values > 1e-5 * np.linalg.norm(self.weights())).sum())
        return {"rank": rank, "outliers": dict(zip(self.task_names, np.linalg.norm(S, axis=0).tolist(), strict=True))}


class Related(Shallow):
    """Base of the two whose penalty is a trace with a covariance, which is given or learned.

    covariance: symmetric, positive definite; None learns the one of trace 1 that makes the penalty least.
    Raises ValueError for a covariance that is none, or of another size.
    """

    of: str

    def __init__(self, problem: Problem, encoder: Encoder = None, covariance: Any = None):
        super().__init__(problem, encoder)
        size = len(self.tasks) if self.of == "tasks" else self.features.out_shape[0]
        self.given = None if covariance is None else checked(covariance, size, self.of)
        self.penalty = LearnedTrace() if self.given is None else Trace(self.given, self.of)

    def covariance(self) -> Float64[np.ndarray, "size size"]:
        """The given covariance, or what the weights say it is, of trace 1."""
        return learned_covariance(self.weights(), self.of) if self.given is None else self.given


class MTRL(Related):
    """Multi-task relationship learning: `penalty = tr(W Sigma^-1 W^T) / 2`, Sigma the covariance of the tasks.

    W is (features, tasks); SRDML's paper prints `tr(W^T Sigma^-1 W)`, for a W whose rows are tasks.
    covariance: Sigma, (tasks, tasks), positive definite; None (default) learns it: see `LearnedTrace`.
    Source: Y. Zhang, D.-Y. Yeung, A Convex Formulation for Learning Task Relationships in Multi-Task Learning, 2010,
    in the form of Saliency-Regularized Deep Multi-Task Learning, section 4.2, which has no further term in `tr(W W^T)`.
    """

    of = "tasks"

    def learned(self) -> dict[str, Any]:
        return {"covariance": self.covariance().tolist()} if self.given is None else {}


class FeatureCovariance(Related):
    """Multi-task feature learning: `penalty = tr(W^T Theta^-1 W) / 2`, Theta the covariance of the features.

    W is (features, tasks). Learned, Theta is of another size than `MTRL`'s Sigma, and the weights are the same:
    see `LearnedTrace`.
    covariance: Theta, (features, features), positive definite; None (default) learns it. `Run.learned` has the
        variances along its axes, largest first, not more than there are tasks; `covariance()` gives it whole.
    Source: Saliency-Regularized Deep Multi-Task Learning, section 4.2; A. Argyriou, T. Evgeniou, M. Pontil, Convex
    Multi-Task Feature Learning, 2008.
    """

    of = "features"

    def learned(self) -> dict[str, Any]:
        if self.given is not None:
            return {}
        values = np.linalg.svd(self.weights(), compute_uv=False)
        return {"variances": (values / values.sum()).tolist() if values.any() else []}


def checked(covariance: Any, size: int, of: str) -> Float64[np.ndarray, "size size"]:
    """The covariance as an array. Raises ValueError, saying what it lacks."""
    try:
        C = np.asarray(covariance, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The covariance of the {of} is no matrix of numbers: {error}.") from error
    if C.shape != (size, size):
        raise ValueError(f"The covariance of the {of} has shape {C.shape}; it must be ({size}, {size}).")
    if not np.isfinite(C).all() or not np.allclose(C, C.T, rtol=1e-10, atol=0):
        raise ValueError(f"The covariance of the {of} must be finite and symmetric.")
    values = np.linalg.eigvalsh(C)
    if not values[0] > 1e-12 * values[-1]:
        raise ValueError(f"The covariance of the {of} must be positive definite; its least eigenvalue is {values[0]:g} "
                         f"and its largest {values[-1]:g}. Add a small multiple of the identity.")
    return C


def _counts(names: Sequence[str], W: Float64[np.ndarray, "features tasks"]) -> dict[str, int]:
    """How many weights of each task are not zero."""
    return dict(zip(names, (W != 0).sum(0).tolist(), strict=True))
