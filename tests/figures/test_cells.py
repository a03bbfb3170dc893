"""The figures of cells show what was found, expected and traded."""

import pandas as pd
import pytest
import torch

from mtlcourse.figures import cells
from mtlcourse.search.cells import DARTS_V2, PUBLISHED, CellSpace, Genotype
from mtlcourse.search.cells.genotype import KINDS
from mtlcourse.training import Run

NAMES = ("validation", "ood", "adversarial", "parameters", "flops")


def row(task: str, name: str, epoch: int, value: float, stage: str = "search") -> dict:
    return {"stage": stage, "epoch": epoch, "split": "train", "task": task, "name": name, "value": value}


def searched(genotype: Genotype = DARTS_V2, stages=("search",)) -> Run:
    rows = [row(task, name, epoch, 0.1 * (number + 1) * (epoch + 1), stage) for stage in stages
            for epoch in (1, 2, 3) for task in ("upper_loss", "upper_weight") for number, name in enumerate(NAMES)]
    rows += [row("expected", name, epoch, 100.0 * epoch, stage) for stage in stages for epoch in (1, 2, 3)
             for name in ("parameters", "multiply_adds")]
    rows.append(row("digit", "loss", 1, 9.0))
    learned = {"genotype": genotype.to_dict(), "derived": {"parameters": 120, "multiply_adds": 500},
               "wanted": {"parameters": 150.0, "multiply_adds": 400.0},
               "reachable": {"parameters": [50, 450], "multiply_adds": [90, 700]}}
    return Run(pd.DataFrame(rows), {}, None, {}, learned)


@pytest.mark.parametrize("genotype", PUBLISHED.values(), ids=PUBLISHED)
def test_every_operation_of_both_cells_is_named_where_it_goes(genotype):
    figure = cells.genotype(genotype)
    assert [axis.get_title() for axis in figure.axes] == ["normal cell", "reduction cell"]
    for axis, kind in zip(figure.axes, KINDS, strict=True):
        found = sorted(text.get_text() for text in axis.texts)
        expected = [cells.NAMES[operation] for node in getattr(genotype, kind) for operation, _ in node]
        assert found == sorted([*expected, *cells.INPUTS, "0", "1", "2", "3", "$c_k$"])
        places = [text.get_position() for text in axis.texts]
        assert len({(round(x, 2), round(y, 2)) for x, y in places}) == len(places), "no text hides another"


def test_a_run_and_plain_data_show_the_same_cells():
    texts = [[text.get_text() for axis in cells.genotype(found).axes for text in axis.texts]
             for found in (DARTS_V2, DARTS_V2.to_dict(), searched())]
    assert texts[0] == texts[1] == texts[2]
    small = cells.genotype(CellSpace(1).draw(torch.Generator().manual_seed(0)))
    assert len(small.axes[0].texts) == 2 + 2 + 1 + 1
    with pytest.raises(ValueError, match="genotype as plain data"):
        cells.genotype(Run(pd.DataFrame(), {}, None, {}))


@pytest.mark.parametrize("stages", [("search",), ("search_1", "search_2", "search_3")])
def test_objectives_start_at_one_and_weights_stand_beside(stages):
    figure = cells.objectives(searched(stages=stages))
    losses, weights = ({line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}
                       for axis in figure.axes)
    assert set(losses) == set(weights) == set(NAMES)
    for number, name in enumerate(NAMES):
        assert list(losses[name].get_ydata()) == pytest.approx([1, 1.5, 2] * len(stages))
        assert list(losses[name].get_xdata()) == list(range(1, 3 * len(stages) + 1))
        assert list(weights[name].get_ydata())[:3] == pytest.approx([0.1 * (number + 1) * n for n in (2, 3, 4)])


def test_sizes_show_expected_derived_wanted_and_reachable():
    figure = cells.sizes({"one": searched(), "two": searched()})
    for axis, (size, letter) in zip(figure.axes, cells.SIZES.items(), strict=True):
        lines = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
        derived = searched().learned["derived"][size]
        wanted = searched().learned["wanted"][size]
        for title in ("one", "two"):
            assert lines[f"{title} expected"] == [100, 200, 300]
            assert lines[f"{title} derived"] == [derived]
            assert lines[f"{title} {letter}"] == [wanted, wanted]


@pytest.mark.parametrize("draw", [cells.objectives, cells.sizes])
def test_a_run_that_did_not_search_is_refused(draw):
    run = searched()
    run.history = run.history[run.history["task"] == "digit"]
    with pytest.raises(ValueError, match="e2rnas"):
        draw(run)


def test_a_front_has_those_that_none_beats():
    points = pd.DataFrame({"size": [1, 2, 2, 3, 1], "good": [0.5, 0.7, 0.6, 0.7, 0.5]})
    assert cells.front(points, {"size": False, "good": True}) == [True, True, False, False, True]


def test_a_pareto_figure_joins_the_best_means():
    table = pd.DataFrame({"method": ["a", "a", "b", "c"], "parameters": [100, 120, 200, 300],
                          "accuracy": [0.6, 0.8, 0.9, 0.8], "loss": [0.5, 0.5, 0.4, 0.1]})
    figure = cells.pareto(table, {"accuracy": True, "loss": False})
    joined = [axis.lines[-1].get_xydata().round(6).tolist() for axis in figure.axes]
    assert joined == [[[110, 0.7], [200, 0.9]], [[110, 0.5], [200, 0.4], [300, 0.1]]]
    assert [axis.get_ylabel() for axis in figure.axes] == ["accuracy (more is better)", "loss (less is better)"]
    with pytest.raises(ValueError, match="aupr"):
        cells.pareto(table, {"aupr": True})
    with pytest.raises(ValueError, match="rows"):
        cells.pareto(table[:0], {"loss": False})
