"""The stored counts, counted again."""

import pandas as pd
import pytest

from mtlcourse import counts
from mtlcourse.published import counted


@pytest.mark.parametrize("problem", counted.TABLES)
def test_the_stored_counts_are_those_of_the_architectures(problem: str):
    """If not: `mtlcourse params --problem A,B,... --csv mtlcourse/published/counts.csv`, with all that are stored."""
    stored = counted.stored()
    again = counts.count(problem)
    pd.testing.assert_frame_equal(again, stored[stored["problem"] == problem].reset_index(drop=True))


def test_what_is_printed_for_single_task_learning_is_torchvisions_net():
    stored = counted.parameters("cityscapes", "module"), counted.parameters("cityscapes", "head")
    assert sum(stored[0].values()) + stored[1]["segmentation"] == 39_635_271
