"""What a model has learned about its tasks: who is related to whom, and what each of them looks at.

Imports `models`, `figures.style`; scipy where tasks are put in order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from ..models.srdml import NOTED
from .style import panels


def over_epochs(history: pd.DataFrame, tasks: Sequence[str]) -> dict[int, pd.DataFrame]:
    """`{epoch: square table of shares}` from the history of a run, symmetric, zero on the diagonal.

    tasks: all of them, in the order of rows and columns.
    Raises ValueError for a history in which no relation is noted.
    """
    rows = history[history["name"].str.startswith(NOTED)]
    if rows.empty:
        raise ValueError("This history tells of no relations between tasks; those of the method 'srdml' do.")
    tables = {}
    for epoch, of_epoch in rows.groupby("epoch"):
        table = pd.DataFrame(0.0, index=list(tasks), columns=list(tasks))
        for one, name, value in of_epoch[["task", "name", "value"]].itertuples(index=False):
            other = name.removeprefix(NOTED)
            table.loc[one, other] = table.loc[other, one] = value
        tables[epoch] = table
    return tables


def clustered(table: pd.DataFrame) -> list[str]:
    """The tasks in an order in which related ones stand together: leaves of average linkage on what they lack to be
    as close as the closest pair."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    apart = table.to_numpy().max() - table.to_numpy()
    np.fill_diagonal(apart, 0.0)
    return [table.index[i] for i in leaves_list(linkage(squareform(apart, checks=False), "average"))]


def heat_maps(tables: Mapping[Any, pd.DataFrame], order: Sequence[str] | None = None, columns: int = 3) -> Any:
    """One panel a table of shares, all on one scale and in one order: that of the last one's clusters by default.

    tables: `{title: square table}`, such as `over_epochs` gives, of tasks or of distances.
    A share is drawn as a multiple of what each pair would have if all had the same.
    """
    import seaborn

    order = list(order) if order is not None else clustered(list(tables.values())[-1])
    pairs = len(order) * (len(order) - 1) / 2
    rows = -(-len(tables) // columns)
    figure, axes = panels(rows, min(columns, len(tables)), height=2.9)
    most = max(table.to_numpy().max() for table in tables.values()) * pairs
    for axis, (title, table) in zip(axes.flat, tables.items(), strict=False):
        shares = table.loc[order, order] * pairs
        seaborn.heatmap(shares.mask(np.eye(len(order), dtype=bool)), vmin=0.0, vmax=most, cmap="viridis", square=True,
                        ax=axis, cbar=axis is axes.flat[len(tables) - 1], xticklabels=True, yticklabels=True,
                        cbar_kws={"label": "share / equal share"})
        axis.set_title(title if isinstance(title, str) else f"after epoch {title}")
        axis.tick_params(labelsize=8)
    for axis in axes.flat[len(tables):]:
        axis.set_axis_off()
    return figure


def saliency_maps(image: Float[torch.Tensor, "channels height width"],
                  saliency: Mapping[str, Float[torch.Tensor, "..."]], shape: Sequence[int]) -> Any:
    """An image, and beside it what each task looks at: the size of its saliency at each place, summed over channels.

    saliency: `{task: (features,)}` on this image, flattened as `SRDML.saliency` gives it.
    shape: of the feature map, (channels, rows, columns); it is spread over the image. Each task has a scale of its own.
    """
    figure, axes = panels(1, 1 + len(saliency), width=1.7, height=1.9)
    height, width = image.shape[-2:]
    shown = (image.mean(0) if image.shape[0] != 3 else image.movedim(0, -1)).cpu()
    for axis in axes.flat:
        axis.imshow(shown.numpy(), cmap="gray_r" if image.shape[0] != 3 else None, extent=(0, width, height, 0))
        axis.set_axis_off()
    axes.flat[0].set_title("image", fontsize=8)
    for axis, (task, values) in zip(list(axes.flat)[1:], saliency.items(), strict=True):
        size = values.detach().cpu().abs().view(*shape).sum(0)
        axis.imshow(size.numpy(), cmap="viridis", alpha=0.75, extent=(0, width, height, 0), interpolation="bilinear")
        axis.set_title(task, fontsize=8)
    return figure
