"""Which entries of a target carry a label.

Ground floor: imports torch only. Losses, metrics and batches all ask the same two questions, so the
answers live here: is this *element* labelled, and does this *sample* have the task at all?
"""

import torch
from jaxtyping import Bool
from torch import Tensor

VOID = -1  # class targets without label; real targets without value are NaN


def valid_mask(target: Tensor) -> Bool[Tensor, "..."]:
    """True where `target` has a label: not `VOID` for integer targets, not NaN for real ones.

    >>> valid_mask(torch.tensor([3, VOID])).tolist()
    [True, False]
    """
    if target.is_floating_point():
        return ~torch.isnan(target)
    return target != VOID


def has_target(target: Tensor) -> Bool[Tensor, "batch"]:
    """True for each sample with at least one labelled element.

    >>> has_target(torch.tensor([[1.0, float("nan")], [float("nan"), float("nan")]])).tolist()
    [True, False]
    """
    return valid_mask(target).flatten(1).any(1) if target.dim() > 1 else valid_mask(target)
