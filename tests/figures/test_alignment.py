"""What the figures of an alignment search show is what was chosen and measured."""

import functools
import math

import pandas as pd
import pytest

from mtlcourse import methods
from mtlcourse.figures import alignment
from mtlcourse.search.alignment import AlignmentSpace
from tests.domains import problem

SPACE = AlignmentSpace()
PRINTED = {"size_0": "same", "skip_0": "norm", "input_1": "cell_0", "size_1": "same", "skip_1": "input",
           "input_2": "cell_1", "size_2": "half", "skip_2": "input", "align": "cell_0", "classify": "cell_1"}


@functools.cache
def searched(name: str = "aaspc"):
    return methods.run(name, problem(), progress=False)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def skips(figure) -> list[float]:
    """The heights at which the skip connections start, cell by cell."""
    return [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_color() == "C3"]


def test_the_printed_architecture_is_drawn():
    figure = alignment.architecture(PRINTED)
    assert texts(figure).count("linear (same)") == 2 and texts(figure).count("linear (half)") == 1
    assert skips(figure) == [alignment.STARTS[skip] for skip in ("norm", "input", "input")]
    where = {text.get_text(): text.get_position()[0] for text in figure.axes[0].texts}
    assert round(where["distance"]) == 1 and round(where["classifier"]) == 2  # above cells 0 and 1
    grey = [box for box in figure.axes[0].patches if box.get_facecolor()[:3] == (0.85,) * 3]
    assert len(grey) == len(alignment.LAYERS) and all(2.5 < box.get_x() + box.get_width() / 2 < 3.5 for box in grey)


@pytest.mark.parametrize("configuration", [
    SPACE[0], SPACE[7775], AlignmentSpace(1)[5], AlignmentSpace(2, tied=True)[7]])
def test_every_space_is_drawn(configuration):
    figure = alignment.architecture(configuration)
    cells = sum(choice.startswith("size") for choice in configuration)
    assert len(skips(figure)) == cells and {"distance", "classifier", "backbone"} < set(texts(figure))


def test_a_run_is_drawn_as_what_it_found():
    run = searched()
    assert texts(alignment.architecture(run)) == texts(alignment.architecture(run.learned["configuration"]))


def test_runs_without_a_search_are_refused():
    plain = searched("source-only")
    with pytest.raises(ValueError, match="aaspc"):
        alignment.architecture(plain)
    with pytest.raises(ValueError, match="aaspc"):
        alignment.search_history(plain)


def test_the_history_is_rewards_and_entropy():
    runs = {name: searched(name) for name in ("aaspc", "aaspc(controller=random)")}
    figure = alignment.search_history(runs)
    for (_, run), line in zip(runs.items(), [line for line in figure.axes[0].lines if line.get_linestyle() == "-"],
                              strict=True):
        assert list(line.get_ydata()) == run.learned["rewards"]
    drawn = [list(line.get_ydata()) for line in figure.axes[1].lines]
    assert drawn == [run.learned["entropy"] for run in runs.values()]
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in hollow) == sum(
        SPACE.beside(SPACE[number]) for run in runs.values() for number in run.learned["picked"])


def test_features_of_both_domains_are_drawn_for_each_model():
    models = {"before": searched("source-only").model, "after": searched().model}
    figure = alignment.embedding(models, problem(), samples=20)
    assert [axis.get_title() for axis in figure.axes] == ["before", "after"]
    for axis in figure.axes:
        assert [len(points.get_offsets()) for points in axis.collections] == [20, 20]
        assert {text.get_text() for text in figure.axes[-1].get_legend().get_texts()} == {"here", "there"}


def test_configurations_are_drawn_with_its_correlation():
    table = pd.DataFrame({"reward": [1.0, 2, 3, 4, 5, -math.inf], "accuracy": [0.5, 0.4, 0.3, 0.2, 0.1, math.nan],
                          "beside": [True, False, False, True, False, True]})
    figure = alignment.configurations(table)
    assert "-1.00" in figure.axes[0].get_title() and len(figure.axes[0].collections[0].get_offsets()) == 5


def test_sensitivity_has_a_line_a_weight():
    table = pd.DataFrame([{"batch_size": size, "weight": weight, "accuracy": weight + size / 100 + seed / 10}
                          for size in (32, 64, 128) for weight in (0.1, 1.0) for seed in (0, 1)])
    figure = alignment.sensitivity(table)
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [
        pytest.approx([weight + size / 100 + 0.05 for size in (32, 64, 128)]) for weight in (0.1, 1.0)]
