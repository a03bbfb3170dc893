"""Samples made by hand, as if networks had been measured: for tests of certificates."""

import numpy as np

from mtlcourse import data, metrics
from mtlcourse.tasks import Problem, Task
from mtlcourse.training.samples import Samples

NAN = float("nan")


def problem(*tasks: Task) -> Problem:
    return Problem("stored", tasks or (data.classification("left", 10), data.classification("right", 10)), None, None,
                   None, (4,), {"name": "mlp", "widths": [4]})


def mean(values) -> np.ndarray:
    """Rows (sum, count) of one element a sample."""
    values = np.asarray(values, dtype=np.float64)
    return np.stack([values, np.ones(len(values))], 1)


def samples(rows, labelled=None, groups=None, split="test", content="0123456789") -> Samples:
    """rows: `{task: {measure: values or rows}}`."""
    rows = {task: {name: mean(own) if np.ndim(own) == 1 and name != "loss" else np.reshape(own, (len(own), -1)) * 1.0
                   for name, own in measures.items()} for task, measures in rows.items()}
    sizes = {task: len(next(iter(own.values()))) for task, own in rows.items()}
    labelled = labelled or {task: np.ones(size, bool) for task, size in sizes.items()}
    return Samples(split, content, rows, labelled, groups)


def pair(gained: int, lost: int, n: int, tasks=("left", "right")) -> tuple[Samples, Samples]:
    """Accuracies of two networks that are alike but for these samples."""
    own, other = np.ones(n), np.ones(n)
    other[:gained], own[gained:gained + lost] = 0, 0
    return tuple(samples({task: {"accuracy": values} for task in tasks}) for values in (own, other))


class Ratio(metrics.MSE):
    """A measure that claims to be a mean, and is not."""

    def value(self, total):
        return super().value(total) ** 2
