"""What one trained model did on every sample of a split: enough to certify every measure without model or data."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Samples:
    """What one trained model did on every sample of a split: enough to compute, resample and certify every measure.

    split: "train", "val" or "test".
    data: hash of the content and order of the split; None where it does not lie in memory.
    rows: `{task: {measure: (n, k) float64}}`: `Metric.statistics` of each sample; "loss": (n, 1).
    labelled: `{task: (n,) bool}`: samples that have the task; the rows of others are zero.
    groups: `{task or "*": (n, g) int64}`: ids of what was sampled before the sample was made, g = 1 or 2; None where
        samples are independent.
    """

    split: str
    data: str | None
    rows: dict[str, dict[str, np.ndarray]]
    labelled: dict[str, np.ndarray]
    groups: dict[str, np.ndarray] | None = None
