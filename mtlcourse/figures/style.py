"""What every figure has in common: the style, a grid of panels, the colours of depth.

Imports `files`; matplotlib and seaborn where they are used.
"""

import os
from typing import Any

import torch

from ..files import seed_everything

COLUMN = 3.2  # inches: width of one panel


def setup(seed: int = 0) -> None:
    """Begin a notebook: seed all chance, one thread whatever the machine has, the course's figure style."""
    import seaborn
    from threadpoolctl import threadpool_limits

    seed_everything(seed)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    threadpool_limits(1)  # for libraries that are loaded; those that are yet to come read the variables
    torch.set_num_threads(1)
    seaborn.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.8, rc={
        "figure.dpi": 100, "savefig.dpi": 100, "axes.spines.top": False, "axes.spines.right": False,
        "figure.constrained_layout.use": True, "image.cmap": "viridis", "legend.frameon": False})


def panels(rows: int, columns: int, width: float = COLUMN, height: float = COLUMN * 0.8) -> tuple[Any, Any]:
    """A figure with rows x columns axes (always a 2-d array); not shown twice by a notebook."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    plt.close(figure)
    return figure, axes


def show(figure: Any, alt: str) -> None:
    """Show `figure` in a notebook with `alt`, the words that stand in for it where it cannot be seen.

    Raises ValueError for an empty `alt`.
    """
    from IPython.display import display

    if not alt.strip():
        raise ValueError("A figure needs words for those who cannot see it: figures.show(figure, \"what it shows\").")
    display(figure, metadata={"image/png": {"alt": alt}})


def shade(depth: float) -> Any:
    """Light at the input side (0), dark at the heads (1)."""
    import matplotlib.pyplot as plt

    return plt.get_cmap("viridis")(1.0 - 0.85 * depth)
