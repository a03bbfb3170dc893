"""What linear tasks lose on their labelled samples, with its gradient, in float64.

Imports `losses`, `tasks`, `void`. The letters of this folder: W of shape (features, tasks), one column a task; b of
shape (tasks,), the tasks' biases, which no penalty touches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ...losses import binary_cross_entropy, mse
from ...tasks import Problem, Task
from ...void import has_target

Weights = Float64[np.ndarray, "features tasks"]
PerTask = Float64[np.ndarray, "tasks"]
Slope = Callable[[Weights, PerTask], tuple[Weights, PerTask]]


@dataclass(frozen=True)
class Losses:
    """The loss of m linear tasks, `sum_t mean_i loss_t(x_i . w_t + b_t, y_ti)`, over each task's labelled samples i.

    loss_t is the squared error `(p - y)^2`, or for a binary task the logistic loss `log(1 + exp(p)) - y p`.
    Scale: the mean over a task's samples, then the sum over tasks, so that each term is the loss that `evaluate` gives
    for the task, and equal weighting's sum is the whole.

    inputs: (samples, features) where tasks share them, or (tasks, samples, features), filled up with zeros.
    targets: (samples, tasks), 0 where there is no label.  binary: which tasks have a logit, and 0 and 1 for targets.
    share: what a sample counts, `1 / labelled samples of the task`, 0 where there is no label.
    """

    inputs: Float64[np.ndarray, "*own samples features"]
    targets: Float64[np.ndarray, "samples tasks"]
    share: Float64[np.ndarray, "samples tasks"]
    binary: Bool[np.ndarray, "tasks"]

    @property
    def shape(self) -> tuple[int, int]:
        """Features and tasks."""
        return self.inputs.shape[-1], len(self.binary)

    def each(self, W: Weights, b: PerTask) -> PerTask:
        """Each task's mean loss."""
        p = self._predict(W) + b
        losses = np.where(self.binary, np.logaddexp(0, p) - self.targets * p, (p - self.targets) ** 2)
        return (self.share * losses).sum(0)

    def value(self, W: Weights, b: PerTask) -> float:
        """The sum over tasks."""
        return float(self.each(W, b).sum())

    def gradient(self, W: Weights, b: PerTask) -> tuple[Weights, PerTask]:
        """The gradient of `value` by W and by b."""
        p = self._predict(W) + b
        slopes = self.share * np.where(self.binary, (1 + np.tanh(p / 2)) / 2 - self.targets, 2 * (p - self.targets))
        return self._gather(slopes), slopes.sum(0)

    def _predict(self, W: Weights) -> Float64[np.ndarray, "samples tasks"]:
        return self.inputs @ W if self.inputs.ndim == 2 else (self.inputs @ W.T[:, :, None])[:, :, 0].T

    def _gather(self, slopes: Float64[np.ndarray, "samples tasks"]) -> Weights:
        """`X_t^T slopes_t` for each task t."""
        if self.inputs.ndim == 2:
            return self.inputs.T @ slopes
        return (slopes.T[:, None, :] @ self.inputs)[:, 0, :].T

    # --- what a solver needs to know -------------------------------------------------------------------------------

    @cached_property
    def level(self) -> PerTask:
        """The bias of the best constant prediction: the mean target, or its logit where the task is binary."""
        mean = (self.share * self.targets).sum(0)
        return np.where(self.binary, np.log(np.where(self.binary, mean, 1) / np.where(self.binary, 1 - mean, 1)), mean)

    @cached_property
    def centre(self) -> Weights:
        """Each task's mean input."""
        return self._gather(self.share)

    @cached_property
    def curvature(self) -> PerTask:
        """The most that a loss curves in its prediction: 2, or 1/4 where the task is binary."""
        return np.where(self.binary, 0.25, 2.0)

    @cached_property
    def spread(self) -> Float64[np.ndarray, "own features features"]:
        """Each task's covariance of the inputs; one for all, where all tasks see the same samples."""
        if self.inputs.ndim == 2 and not np.ptp(self.share, axis=1).any():
            centred = self.inputs - self.centre[:, 0]
            return (centred.T @ (self.share[:, :1] * centred))[None]
        found = []
        for t, (share, centre) in enumerate(zip(self.share.T, self.centre.T, strict=True)):
            here = share > 0
            centred = (self.inputs if self.inputs.ndim == 2 else self.inputs[t])[here] - centre
            found.append(centred.T @ (share[here, None] * centred))
        return np.stack(found)

    @cached_property
    def lipschitz(self) -> float:
        """The Lipschitz constant of the gradient by W, biases moving along: the largest eigenvalue of a Hessian.

        `max_t curvature_t * largest eigenvalue of spread_t`; for the logistic loss that of a bound on it.
        """
        return float((self.curvature * np.linalg.eigvalsh(self.spread)[:, -1]).max())

    @cached_property
    def slope(self) -> Slope:
        """`slope(W, v)`: the gradient where each task's inputs are centred, so that `b = v - centre_t . w_t`.

        Centring changes no weight and no prediction, for biases are free; it parts v from W in the squared loss. There,
        with more samples than features, the covariances are all that is needed of the data.
        """
        if not self.binary.any() and len(self.targets) > self.shape[0]:
            H, level = 2 * self.spread, self.level
            c = self.gradient(np.zeros(self.shape), level)[0]  # level makes the errors' mean zero, so centring is moot
            if len(H) == 1:
                return lambda W, v: (H[0] @ W + c, 2 * (v - level))
            return lambda W, v: ((H @ W.T[:, :, None])[:, :, 0].T + c, 2 * (v - level))

        def centred(W: Weights, v: PerTask) -> tuple[Weights, PerTask]:
            by_W, by_v = self.gradient(W, v - (self.centre * W).sum(0))
            return by_W - self.centre * by_v, by_v

        return centred


# --- from a problem ------------------------------------------------------------------------------------------------

KNOWN = {"regression": mse, "classification": binary_cross_entropy}  # the loss that is solved here, by kind of task


def check_tasks(problem: Problem) -> None:
    """Raise ValueError, with the reason, for a task that is no linear one: see `Losses`."""
    for task in problem.tasks:
        if task.dense:
            raise ValueError(f"Task {task.name!r} predicts every pixel; a shallow method gives one number a sample.")
        if task.out_channels > 1:
            what, remedy = (("classes", "Make it one binary task a class") if task.kind == "classification"
                            else ("numbers a sample", "Make it one task a number"))
            raise ValueError(f"Task {task.name!r} has {task.out_channels} {what}, and a shallow method one column of "
                             f"weights a task. {remedy}, with data.{'binary' if what == 'classes' else 'regression'}.")
        if task.loss is not KNOWN[task.kind]:
            raise ValueError(f"Task {task.name!r}, {task.kind}, is trained with {_called(task.loss)}; a shallow method "
                             "minimises losses.mse in regression and losses.binary_cross_entropy in classification.")


def _called(loss: Any) -> str:
    return getattr(loss, "__name__", type(loss).__name__)


def collect(split: Any, tasks: Sequence[Task], features: Callable[[Tensor], Tensor], where: str = "split") -> Losses:
    """The losses of `tasks` on a whole split.

    features: from inputs (batch, ...) to what the tasks are linear in, (batch, features).  where: how errors call it.
    Raises ValueError, naming the task, for features or targets that are not finite.
    """
    named: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[np.ndarray]] = {task.name: [] for task in tasks}
    binary = np.array([task.kind == "classification" for task in tasks])
    own = False
    with torch.no_grad():
        for batch in split.batches(512):
            own = not isinstance(batch.inputs, Tensor)
            for name, x in (batch.inputs.items() if own else [("", batch.inputs)]):
                named.setdefault(name, []).append(features(x).double().cpu().numpy())
            for task in tasks:
                if task.name in batch.targets:
                    labels[task.name].append(_targets(batch.targets[task.name]))
                elif not own:  # nobody has a label in this batch
                    labels[task.name].append(np.full(len(batch.inputs), np.nan))
    targets = {name: np.concatenate(parts) for name, parts in labels.items()}
    inputs = {name: np.concatenate(parts) for name, parts in named.items()}
    for name, y in targets.items():
        x = inputs[name if own else ""][~np.isnan(y)]
        for what, values in (("features", x), ("targets", y[~np.isnan(y)])):
            if not np.isfinite(values).all():
                raise ValueError(f"The {what} of task {name!r} in the {where} are not all finite; a shallow method "
                                 "cannot leave single ones out. Mark samples without label as such, and fill the gaps "
                                 "of inputs.")
    samples = max(map(len, targets.values()))
    filled = np.stack([np.pad(y, (0, samples - len(y)), constant_values=np.nan) for y in targets.values()], 1)
    labelled = ~np.isnan(filled)
    if own:
        x = np.stack([np.pad(inputs[name], ((0, samples - len(inputs[name])), (0, 0))) for name in targets])
        x = np.where(labelled.T[:, :, None], x, 0)
    else:
        x = np.where(labelled.any(1)[:, None], inputs[""], 0)  # what nobody has a label for counts nowhere
    return Losses(x, np.where(labelled, filled, 0), labelled / labelled.sum(0), binary)


def _targets(target: Tensor) -> Float64[np.ndarray, "samples"]:
    """One number a sample, NaN where there is no label."""
    return torch.where(has_target(target), target.double().flatten(), torch.nan).cpu().numpy()


def check_varies(losses: Losses, names: Sequence[str]) -> None:
    """Raise ValueError for a task whose targets are all equal, and for features that never change."""
    for t, name in enumerate(names):
        values = losses.targets[losses.share[:, t] > 0, t]
        if not np.ptp(values):
            raise ValueError(f"All {len(values)} training targets of task {name!r} are {values[0]:g}: there is nothing "
                             "to learn. Leave the task out, or give it more samples.")
    if not losses.lipschitz > 0:
        raise ValueError("The features are the same for all training samples, so that no weights can be learned.")
