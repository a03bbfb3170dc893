"""Checks of notebook 00, start here. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import exercise, expect


@exercise("00.1",
          "Look at each task by itself: is its score with the shared network below its score with STL?",
          "Comparing two tensors with < gives one truth value for each task. How many are true?")
def tasks_that_suffer(answer: Callable) -> None:
    """Counts the tasks on which the first scores are below the second; equality is no harm."""
    cases = [([0.94, 0.84], [0.90, 0.86], 1), ([0.1, 0.2, 0.3], [0.2, 0.3, 0.3], 2), ([0.5], [0.5], 0)]
    for mtl, stl, expected in cases:
        expect(expected, answer(torch.tensor(mtl), torch.tensor(stl)), f"for mtl={mtl} and stl={stl}")
