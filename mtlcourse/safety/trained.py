"""How long a run trained, and whether it had learned what there was to learn. Imports `training`.

`report` reads these facts off runs, and `runs.table` keeps them for stored ones.
"""

import math

import numpy as np

from ..training import Run


def trained(run: Run) -> dict[str, int | float]:
    """`steps`: updates of all stages; `samples` that they saw; `epochs` of all stages. NaN where it is not known.

    >>> import pandas as pd
    >>> history = pd.DataFrame([("train", e, "train", "a", "loss", 1.0) for e in (1, 2, 3)],
    ...                        columns=["stage", "epoch", "split", "task", "name", "value"])
    >>> trained(Run(history, {}, None, {}, cost={"steps": 12}))
    {'steps': 12, 'samples': nan, 'epochs': 3}
    """
    rows = run.history
    rows = rows[(rows["split"] == "train") & (rows["name"] == "loss")] if len(rows) else rows
    epochs = len(rows[["stage", "epoch"]].drop_duplicates()) if len(rows) else math.nan
    return {"steps": run.cost.get("steps", math.nan), "samples": run.cost.get("samples", math.nan), "epochs": epochs}


def falling(run: Run) -> dict[str, float]:
    """`{task: which part of its validation loss's fall came in the last quarter of the epochs}`.

    `(L_{E-q} - L_E) / (max_e L_e - min_e L_e)` with L_e the loss on the validation split after epoch e of the last
    stage that has two, E epochs in all, and q = E / 4 rounded down, at least 1. A straight line gives about a
    quarter, a curve that has become flat about 0, and one that rises again a negative number. How far the loss
    still falls relative to its *level* would not tell: a net that hardly began to learn falls as slowly as one
    that is done. A task with fewer than two epochs is not in the result. For a target domain, of which training sees no
    label, it is that of the source.

    >>> import pandas as pd
    >>> losses = enumerate([1.0, 0.5, 0.4, 0.375, 0.375])
    >>> history = pd.DataFrame([("train", e, "val", "a", "loss", loss) for e, loss in losses],
    ...                        columns=["stage", "epoch", "split", "task", "name", "value"])
    >>> falling(Run(history, {}, None, {}))
    {'a': 0.0}
    """
    rows = run.history
    if not len(rows):
        return {}
    rows = rows[(rows["split"] == "val") & (rows["name"] == "loss")]
    found = {}
    for (_, task), own in rows.groupby(["stage", "task"], sort=False):
        curve = own.sort_values("epoch")["value"].to_numpy(np.float64)
        if len(curve) > 1:  # a later stage takes the place of an earlier one
            whole, last = np.ptp(curve), curve[-1 - max(1, len(curve) // 4)] - curve[-1]
            found[str(task)] = float(last / whole) if whole else 0.0
    source = run.config.get("source")
    return found | dict.fromkeys(run.metrics, found[source]) if source in found else found
